//! Lists of tasks. Whatever is asked for, a page reads a bounded number of rows, which an index gives in
//! order.
//!
//! - `walk`: the numbers of the tasks of a page.

mod walk;

use std::collections::HashMap;

use serde::Serialize;

use crate::error::{Failure, Refusal};
use crate::input::status;
use crate::rows::{self, Scope, long_bytes};
use crate::sql::{Connection, Query};
use crate::task::{Status, Task, View};
use crate::time::Millis;
use crate::totals;

use walk::{Bounds, Walked};

/// How many tasks a page holds by default, and at most.
const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 500;
/// The most bytes of descriptions, payloads and outputs in one page; it ends early at that, but holds at
/// least one task if there is one.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How far a page may be from the beginning by its offset: a cursor leads to any place.
const MAX_OFFSET: i64 = 20_000;
/// How many tasks are read at once.
const READ_AT_ONCE: usize = 50;

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
    /// The list goes on behind this.
    cursor: Option<Position>,
    bounds: Bounds,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    CreatedAt,
    UpdatedAt,
    Priority,
    Title,
}

/// A place in a list: what it is sorted by there, and the number of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Nothing where that is a text.
    pub(crate) key: i64,
    pub(crate) id: i64,
}

impl Position {
    /// Where all numbers are before.
    pub(crate) const END: Self = Self { key: i64::MAX, id: i64::MAX };

    /// Reads what [`Position::to_text`] gave.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (key, id) = text.split_once('.')?;
        Some(Self { key: key.parse().ok()?, id: id.parse().ok()? })
    }

    /// The place as a cursor.
    pub(crate) fn to_text(self) -> String {
        format!("{}.{}", self.key, self.id)
    }
}

/// Part of a list.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Page {
    count: usize,
    has_more: bool,
    /// The tasks, without their messages.
    tasks: Vec<Task>,
    /// The offset at which the list goes on, where it does and an offset can say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
    /// The place behind which it goes on, where it does: the page is full, has as many bytes as one may have,
    /// or as many tasks were looked at for it as may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
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
            bounds: Bounds::of(sort),
            cursor: match text("cursor") {
                None => None,
                Some(value) => Some(Position::parse(value).ok_or_else(|| {
                    Refusal::bad_request("cursor must be one of an answer to the same query")
                })?),
            },
        })
    }

    /// The page that was asked for.
    ///
    /// # Errors
    /// The database failed, or a refusal of a page that is too far from the beginning.
    pub(crate) async fn run(
        &self,
        connection: &mut Connection,
        scope: &Scope,
        view: &View,
    ) -> Result<Page, Failure> {
        let project = match self.project_id {
            // No two projects of a hub have the same number: the path does not matter then.
            Some(id) => Some(id),
            None => rows::project_of(connection, scope).await?,
        };
        let Some(project) = project else { return Ok(Page::default()) };
        if self.offset > MAX_OFFSET {
            let count = totals::count(connection, project).await?;
            return match count > self.offset {
                true => Err(too_far().into()),
                false => Ok(Page::default()),
            };
        }
        let found = self.walk(connection, project, view).await?;
        self.read(connection, found).await
    }

    /// Reads the tasks of a page, up to as many bytes as one may have.
    async fn read(&self, connection: &mut Connection, found: Walked) -> Result<Page, Failure> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut page = Page::default();
        let wanted = &found.positions[..found.positions.len().min(limit)];
        // Behind which the list goes on, and how many tasks of it stand before that.
        let (mut last, mut passed, mut bytes) = (None, 0, 0);
        'page: for some in wanted.chunks(READ_AT_ONCE) {
            let ids: Vec<i64> = some.iter().map(|position| position.id).collect();
            let mut read = rows::rows_of(connection, &ids).await?;
            for position in some {
                // One that is gone meanwhile is none any more.
                let row = read.remove(&position.id);
                bytes += row.as_ref().map_or(0, long_bytes);
                if bytes > MAX_BYTES && !page.tasks.is_empty() {
                    break 'page;
                }
                (last, passed) = (Some(*position), passed + 1);
                match row.as_ref().map(rows::task).transpose() {
                    Ok(task) => page.tasks.extend(task),
                    // One row that can't be read costs itself alone.
                    Err(error) => tracing::error!("a task in the hub's database cannot be read: {error}"),
                }
            }
        }
        page.count = page.tasks.len();
        let next = self.offset + i64::try_from(passed).unwrap_or(i64::MAX);
        if passed < found.positions.len() {
            page.has_more = true;
            page.next = Some(next).filter(|next| *next <= MAX_OFFSET);
            page.cursor = last.or(self.cursor).map(Position::to_text);
        } else if let Some(reached) = found.reached {
            page.has_more = true;
            page.cursor = Some(reached.to_text());
        }
        Ok(page)
    }
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

/// A pattern that finds `text` anywhere, its own wildcards taken literally.
pub(crate) fn like_pattern(text: &str) -> String {
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

fn too_far() -> Refusal {
    Refusal::bad_request(format!(
        "offset is above {MAX_OFFSET}: go on with the cursor that each page names, as ?cursor=…"
    ))
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
        let bounds = Bounds::of(Sort::CreatedAt);
        assert_eq!(query, TaskQuery { limit: DEFAULT_LIMIT, bounds, ..TaskQuery::default() });
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
    fn a_place_in_the_list_is_read_back_and_nonsense_is_none() {
        let place = Position { key: 1_700_000_000_123, id: 42 };
        assert_eq!(Position::parse(&place.to_text()), Some(place));
        for text in ["", ".", "1", "1.", ".1", "a.b", "1.2.3", "99999999999999999999.1"] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }

    #[test]
    fn wildcards_in_a_search_are_literal() {
        assert_eq!(like_pattern(r"50%_\"), r"%50\%\_\\%");
    }
}
