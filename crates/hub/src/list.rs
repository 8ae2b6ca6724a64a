//! Lists of tasks, and what they add up to.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde_json::{Map, Value, json};

use crate::error::Refusal;
use crate::input::status;
use crate::rows::{Scope, long_bytes, select_tasks, task};
use crate::sql::{Connection, Parameter, Query, query};
use crate::task::{Status, View};
use crate::time::Millis;

/// How many tasks a page holds by default, and at most.
const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 500;
/// The most bytes of descriptions, payloads and outputs in one page; it ends early at that, but holds at
/// least one task if there is one.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Within which time a hub changes few of its tasks.
const LATELY: Duration = Duration::from_secs(60 * 60);
/// How many channels the statistics name, the fullest first.
const MAX_CHANNELS: i64 = 50;

/// Which tasks are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TaskQuery {
    statuses: Vec<Status>,
    kind: Option<String>,
    channel: Option<String>,
    assignee_id: Option<String>,
    search: Option<String>,
    project_id: Option<i64>,
    created_after: Option<Millis>,
    updated_after: Option<Millis>,
    priority: Option<i64>,
    min_priority: Option<i64>,
    max_priority: Option<i64>,
    sort: Sort,
    is_ascending: bool,
    limit: i64,
    offset: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    CreatedAt,
    UpdatedAt,
    Priority,
    Title,
}

/// Part of a list.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Page {
    /// The tasks, without their messages.
    pub(crate) tasks: Vec<Value>,
    /// The offset at which the list goes on behind them, where it does: the page is full, or has as many
    /// bytes as one may have.
    pub(crate) next: Option<i64>,
}

impl TaskQuery {
    /// Reads the query of a URL; unknown names are ignored.
    pub(crate) fn parse(pairs: &HashMap<String, String>) -> Result<Self, Refusal> {
        let text = |name: &str| pairs.get(name).filter(|value| !value.is_empty());
        let number = |name: &str| match text(name) {
            None => Ok(None),
            Some(value) => value
                .parse::<i64>()
                .map(Some)
                .map_err(|_| Refusal::bad_request(format!("{name} must be a whole number"))),
        };
        let time = |name: &str| match text(name) {
            None => Ok(None),
            Some(value) => Millis::from_text(value).map(Some).ok_or_else(|| {
                Refusal::bad_request(format!("{name} must be a time, as in 2026-01-31T12:00:00Z"))
            }),
        };
        let sort = match text("sort_by").map(String::as_str) {
            None | Some("created_at") => Sort::CreatedAt,
            Some("updated_at") => Sort::UpdatedAt,
            Some("priority") => Sort::Priority,
            Some("title") => Sort::Title,
            Some(_) => {
                return Err(Refusal::bad_request(
                    "sort_by must be created_at, updated_at, priority or title",
                ));
            }
        };
        let is_ascending = match text("sort_dir").map(|dir| dir.to_ascii_lowercase()).as_deref() {
            None => sort == Sort::Title,
            Some("asc") => true,
            Some("desc") => false,
            Some(_) => return Err(Refusal::bad_request("sort_dir must be asc or desc")),
        };
        let statuses = text("status").map(String::as_str).unwrap_or_default();
        let statuses = statuses.split(',').filter(|name| !name.is_empty());
        Ok(Self {
            statuses: statuses.map(|name| status(name.trim())).collect::<Result<_, _>>()?,
            kind: text("type").cloned(),
            channel: text("channel").cloned(),
            assignee_id: text("assignee_id").cloned(),
            search: text("search").cloned(),
            project_id: number("project_id")?,
            created_after: time("created_after")?,
            updated_after: time("updated_after")?,
            priority: number("priority")?,
            min_priority: number("min_priority")?,
            max_priority: number("max_priority")?,
            sort,
            is_ascending,
            limit: number("limit")?.unwrap_or(DEFAULT_LIMIT).clamp(0, MAX_LIMIT),
            offset: number("offset")?.unwrap_or(0).max(0),
        })
    }

    /// The page that was asked for.
    pub(crate) async fn run(
        &self,
        connection: &mut Connection,
        scope: &Scope,
        view: &View,
    ) -> sqlx::Result<Page> {
        let mut rows = self.statement(scope, view, connection.like()).fetch(connection);
        let mut page = Page::default();
        let (mut bytes, mut count) = (0, 0);
        while let Some(row) = rows.try_next().await? {
            bytes += long_bytes(&row);
            if count == self.limit || bytes > MAX_BYTES && !page.tasks.is_empty() {
                page.next = Some(self.offset.saturating_add(count));
                break;
            }
            count += 1;
            match task(&row) {
                Ok(task) => page.tasks.push(task.to_value()),
                // One row that can't be read costs itself alone.
                Err(error) => tracing::error!("a task in the hub's database cannot be read: {error}"),
            }
        }
        Ok(page)
    }

    fn statement(&self, scope: &Scope, view: &View, like: &'static str) -> Query {
        let mut sql = query(select_tasks!("WHERE "));
        match self.project_id {
            // No two projects of a hub have the same number: the path does not matter then.
            Some(id) => sql.push("tasks.project_id = ").push_bind(id),
            None => {
                sql.push("organizations.slug = ").push_bind(scope.organization.clone());
                sql.push(" AND projects.slug = ").push_bind(scope.project.clone())
            }
        };
        narrow(&mut sql, view);
        if !self.statuses.is_empty() {
            let names = self.statuses.iter().map(|status| Parameter::from(status.name()));
            sql.push(" AND status IN ").push_list(names);
        }
        for (column, value) in [
            (" AND type = ", &self.kind),
            (" AND channel = ", &self.channel),
            (" AND assignee_id = ", &self.assignee_id),
        ] {
            if let Some(value) = value {
                sql.push(column).push_bind(value.clone());
            }
        }
        for (condition, value) in [
            (" AND tasks.created_at > ", self.created_after.map(|time| time.0)),
            (" AND tasks.updated_at > ", self.updated_after.map(|time| time.0)),
            (" AND priority = ", self.priority),
            (" AND priority >= ", self.min_priority),
            (" AND priority <= ", self.max_priority),
        ] {
            if let Some(value) = value {
                sql.push(condition).push_bind(value);
            }
        }
        if let Some(search) = &self.search {
            let pattern = like_pattern(search);
            sql.push(" AND (tasks.title").push(like).push_bind(&pattern).push(" ESCAPE '\\'");
            sql.push(" OR tasks.description").push(like).push_bind(pattern).push(" ESCAPE '\\')");
        }
        let direction = if self.is_ascending { " ASC" } else { " DESC" };
        sql.push(match self.sort {
            // With a plus, SQLite finds the tasks and sorts them, instead of looking through all in order.
            Sort::CreatedAt if self.finds_few() => " ORDER BY +tasks.created_at",
            Sort::CreatedAt => " ORDER BY tasks.created_at",
            Sort::UpdatedAt => " ORDER BY tasks.updated_at",
            Sort::Priority => " ORDER BY priority",
            Sort::Title => " ORDER BY lower(tasks.title)",
        });
        // The id makes the order total, so that pages neither overlap nor leave gaps.
        sql.push(direction).push(", tasks.id").push(direction);
        // One more than the page holds shows whether there is a next one.
        sql.push(" LIMIT ").push_bind(self.limit + 1).push(" OFFSET ").push_bind(self.offset);
        sql
    }

    /// Whether an index finds few tasks among many: those that were changed lately, or all that are open.
    fn finds_few(&self) -> bool {
        let lately = Millis::now().minus(LATELY);
        let is_of_open = !self.statuses.is_empty() && self.statuses.iter().all(|status| status.is_open());
        self.updated_after.is_some_and(|after| after > lately) || is_of_open && self.statuses.len() > 1
    }
}

/// How many tasks of the whole hub there are of each status.
pub(crate) async fn count_by_status(connection: &mut Connection) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = query("SELECT status, COUNT(*) FROM tasks GROUP BY status").fetch_all(connection).await?;
    let counts: Vec<(String, i64)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<sqlx::Result<_>>()?;
    let count = |name: &str| counts.iter().find(|(status, _)| status == name).map_or(0, |(_, count)| *count);
    Ok(Status::ALL.iter().map(|status| (status.name().to_owned(), count(status.name()))).collect())
}

/// Leaves out what a view does not show, after a condition.
pub(crate) fn narrow(sql: &mut Query, view: &View) {
    if let View::Of(id) = view {
        sql.push(" AND (tasks.recipient_id IS NULL");
        for column in ["recipient_id", "source_id", "assignee_id"] {
            sql.push(" OR tasks.").push(column).push(" = ").push_bind(id.clone());
        }
        sql.push(")");
    }
}

/// What the tasks of a scope, or of the whole hub, add up to; those that the view shows.
pub(crate) async fn stats(
    connection: &mut Connection,
    scope: Option<&Scope>,
    view: &View,
    now: Millis,
) -> sqlx::Result<Value> {
    let day = Duration::from_secs(24 * 60 * 60);
    let mut sql = tally(
        "status, COUNT(*), CAST(AVG(completed_at - tasks.created_at) AS DOUBLE PRECISION)",
        scope,
        view,
        |sql| {
            for (column, days) in
                [("tasks.created_at", 1), ("completed_at", 1), ("tasks.created_at", 7), ("completed_at", 7)]
            {
                let since = now.minus(day * days).0;
                sql.push(", COUNT(CASE WHEN ").push(column).push(" > ").push_bind(since).push(" THEN 1 END)");
            }
        },
    );
    sql.push(" GROUP BY status");
    let rows = sql.fetch_all(connection).await?;
    let mut by_status: Map<String, Value> =
        Status::ALL.iter().map(|status| (status.name().to_owned(), json!(0))).collect();
    let (mut total, mut completed, mut average) = (0, 0, None::<f64>);
    let mut recent = [0_i64; 4];
    for row in &rows {
        let (status, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        total += count;
        if status == Status::Completed.name() {
            completed = count;
            average = row.try_get(2)?;
        }
        by_status.insert(status, json!(count));
        for (at, sum) in recent.iter_mut().enumerate() {
            *sum += row.try_get::<i64>(3 + at)?;
        }
    }
    let mut sql = tally("channel, COUNT(*)", scope, view, |_| {});
    sql.push(" GROUP BY channel ORDER BY COUNT(*) DESC, channel LIMIT ").push_bind(MAX_CHANNELS);
    let mut by_channel = Map::new();
    for row in sql.fetch_all(connection).await? {
        by_channel.insert(row.try_get(0)?, json!(row.try_get::<i64>(1)?));
    }
    let [created_24h, completed_24h, created_7d, completed_7d] = recent;
    Ok(json!({
        "total": total,
        "by_status": by_status,
        "by_channel": by_channel,
        "avg_completion_seconds": average.map(|millis| millis / 1000.0),
        "completed_count": completed,
        "recent": {
            "created_24h": created_24h,
            "completed_24h": completed_24h,
            "created_7d": created_7d,
            "completed_7d": completed_7d,
        },
    }))
}

/// `SELECT {columns}{more} FROM tasks …` within a scope.
fn tally(columns: &'static str, scope: Option<&Scope>, view: &View, more: impl FnOnce(&mut Query)) -> Query {
    let mut sql = query("SELECT ");
    sql.push(columns);
    more(&mut sql);
    sql.push(" FROM tasks");
    if scope.is_some() {
        sql.push(
            " JOIN projects ON projects.id = tasks.project_id \
             JOIN organizations ON organizations.id = projects.organization_id",
        );
    }
    sql.push(" WHERE 1 = 1");
    if let Some(scope) = scope {
        sql.push(" AND organizations.slug = ").push_bind(scope.organization.clone());
        sql.push(" AND projects.slug = ").push_bind(scope.project.clone());
    }
    narrow(&mut sql, view);
    sql
}

/// A pattern that finds `text` anywhere, its own wildcards taken literally.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<TaskQuery, Refusal> {
        TaskQuery::parse(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn an_empty_query_asks_for_the_newest() {
        let query = parse(&[("status", ""), ("unknown", "x")]).expect("a query");
        assert_eq!(query, TaskQuery { limit: DEFAULT_LIMIT, ..TaskQuery::default() });
        assert!(parse(&[("sort_by", "title")]).expect("a query").is_ascending);
    }

    #[test]
    fn numbers_are_bounded_and_nonsense_is_named() {
        let query = parse(&[("limit", "100000"), ("offset", "-5")]).expect("a query");
        assert_eq!((query.limit, query.offset), (MAX_LIMIT, 0));
        for (name, value) in [
            ("limit", "x"),
            ("priority", "1.5"),
            ("created_after", "soon"),
            ("sort_by", "id; DROP TABLE tasks"),
            ("sort_dir", "up"),
            ("status", "pending,done"),
            ("project_id", "one"),
        ] {
            let message = parse(&[(name, value)]).expect_err(name).message;
            assert!(message.starts_with(name), "{message}");
        }
    }

    #[test]
    fn wildcards_in_a_search_are_literal() {
        assert_eq!(like_pattern(r"50%_\"), r"%50\%\_\\%");
    }
}
