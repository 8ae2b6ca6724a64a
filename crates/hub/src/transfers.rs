//! The transfers of all projects, as the page shows them: one function a statement, or a few that belong
//! together. Each statement looks at a bounded number of rows, which an index gives in order.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::error::{Failure, Refusal};
use crate::input::status;
use crate::list::{Position, like_pattern};
use crate::rows::{self, select_tasks, task};
use crate::sql::{Connection, Parameter, Query, Row, query};
use crate::task::{Status, Task, View};
use crate::time::Millis;
use crate::totals;
use crate::transfer::{self, is_found_by, message_text, named, signatures};

/// How many transfers a page holds by default, and at most.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
/// How many rows one statement looks at, and how many tasks are read at once of those that may be wanted.
const BATCH: i64 = 500;
const READ_AT_ONCE: usize = 50;
/// How many rows, and how many bytes of them, are looked at for one page. Behind that it ends early, and
/// says how far it looked.
const MAX_ROWS: usize = 2000;
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The most characters of a filter.
const MAX_FILTER: usize = 256;
/// For how many days there are totals.
const DAYS: i64 = 30;
const DAY: i64 = 24 * 60 * 60 * 1000;
/// How many rows of a trail are read, and how many entries are shown of it.
const MAX_TRAIL_ROWS: i64 = 5000;
const MAX_TRAIL: usize = 500;

/// Which transfers are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransferQuery {
    /// All, if there is none.
    states: Vec<Status>,
    /// Who sends, is meant to have, or has claimed it.
    actor: Option<String>,
    channel: Option<String>,
    /// A part of a file's name, or the beginning of a hash or an id.
    search: Option<String>,
    /// Milliseconds of the beginning of a day.
    day: Option<i64>,
    /// Where the page begins: behind this.
    behind: Option<Position>,
    limit: usize,
}

/// Part of the list.
#[derive(Debug, Default)]
struct Found {
    tasks: Vec<Task>,
    /// Where the list goes on, if it does.
    next: Option<Position>,
    /// How far it looked, where that was not far enough for a whole page.
    reached: Option<i64>,
}

impl TransferQuery {
    /// Reads the query of a URL; unknown names are ignored.
    pub(crate) fn parse(pairs: &HashMap<String, String>) -> Result<Self, Refusal> {
        let text = |name: &str| pairs.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let short = |name: &str| match text(name) {
            Some(value) if value.chars().count() > MAX_FILTER => {
                Err(Refusal::bad_request(format!("{name} is longer than {MAX_FILTER} characters")))
            }
            value => Ok(value.map(str::to_owned)),
        };
        let day = |value: &str| {
            let is_date = value.len() == "2026-01-31".len() && value.contains('-');
            let day = Millis::from_text(value).filter(|_| is_date);
            day.ok_or_else(|| Refusal::bad_request("day must be a date, as in 2026-01-31"))
        };
        let limit = |value: &str| {
            value.parse::<usize>().map_err(|_| Refusal::bad_request("limit must be a whole number"))
        };
        let position = |value: &str| {
            Position::parse(value)
                .ok_or_else(|| Refusal::bad_request("cursor must be one of an answer before"))
        };
        Ok(Self {
            states: match text("state") {
                None => Vec::new(),
                Some("open") => vec![Status::Pending, Status::InProgress],
                Some(name) => vec![status(name)?],
            },
            actor: short("actor")?,
            channel: short("channel")?,
            search: short("text")?,
            day: text("day").map(day).transpose()?.map(|day| day.0),
            behind: text("cursor").map(position).transpose()?,
            limit: text("limit").map(limit).transpose()?.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
        })
    }

    /// The page that was asked for, as it is sent.
    pub(crate) async fn run(
        &self,
        connection: &mut Connection,
        view: &View,
        now: Millis,
    ) -> sqlx::Result<Value> {
        let found = self.find(connection, view, now).await?;
        let claims = claims(connection, &found.tasks).await?;
        let shown = found.tasks.iter().map(|task| transfer::to_value(task, claims.get(&task.id).copied()));
        Ok(json!({
            "transfers": shown.collect::<Vec<_>>(),
            "next": found.next.map(Position::to_text),
            "looked_back_to": found.reached,
        }))
    }

    async fn find(&self, connection: &mut Connection, view: &View, now: Millis) -> sqlx::Result<Found> {
        let mut found = Found::default();
        let end = self.day.map(|day| Position { key: day.saturating_add(DAY), id: 0 });
        let mut at = self.behind.into_iter().chain(end).min().unwrap_or(Position::END);
        let (mut looked_at, mut bytes) = (0, 0);
        loop {
            let like = connection.like();
            let rows = self.statement(view, at, now, like).fetch_all(connection).await?;
            let row = |row: &Row| {
                let at = Position { key: row.try_get(0)?, id: row.try_get(1)? };
                Ok((at, row.try_get::<i64>(2)? == 1))
            };
            let looked: Vec<(Position, bool)> = rows.iter().map(row).collect::<sqlx::Result<_>>()?;
            for some in looked.chunks(READ_AT_ONCE) {
                let wanted: Vec<i64> = some.iter().filter(|(_, is)| *is).map(|(at, _)| at.id).collect();
                let mut read = rows::rows_of(connection, &wanted).await?;
                for (place, _) in some {
                    at = *place;
                    let Some(row) = read.remove(&place.id) else { continue };
                    bytes += rows::long_bytes(&row);
                    // One row that can't be read costs itself alone.
                    let Ok(mut task) = task(&row).inspect_err(|error| tracing::error!("a task: {error}"))
                    else {
                        continue;
                    };
                    task.elapse(now);
                    if self.wants(&task) && view.shows(&task) {
                        if found.tasks.len() == self.limit {
                            found.next = found
                                .tasks
                                .last()
                                .map(|task| Position { key: task.created_at.0, id: task.id });
                            return Ok(found);
                        }
                        found.tasks.push(task);
                    }
                }
                if bytes >= MAX_BYTES {
                    break;
                }
            }
            looked_at += looked.len();
            let is_end = looked.last().is_none_or(|(last, _)| *last == at);
            if is_end && looked.len() < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                return Ok(found);
            }
            if looked_at >= MAX_ROWS || bytes >= MAX_BYTES {
                found.next = Some(at);
                found.reached = Some(at.key);
                return Ok(found);
            }
        }
    }

    /// Whether a transfer is one of those. The statement below gives more.
    fn wants(&self, task: &Task) -> bool {
        let is_of = |id: &String| {
            task.source.id == *id
                || task.assignee.as_ref().is_some_and(|assignee| assignee.id == *id)
                || task.recipient().as_ref() == Some(id)
        };
        (self.states.is_empty() || self.states.contains(&task.status))
            && self.actor.as_ref().is_none_or(is_of)
            && self.channel.as_ref().is_none_or(|channel| task.channel == *channel)
            && self.search.as_ref().is_none_or(|search| is_found_by(task, search))
    }

    /// The statement for the next rows behind a place, narrowed by what an index serves in order, so that it
    /// reads few; with whether each may be wanted.
    fn statement(&self, view: &View, behind: Position, now: Millis, like: &'static str) -> Query {
        // Not joined: PostgreSQL would read all tasks where they are some ten thousand.
        let mut sql = query("SELECT found.created_at, found.id, (SELECT CASE WHEN 1 = 1");
        if !self.states.is_empty() {
            sql.push(" AND (status IN ").push_list(self.states.iter().map(|state| state.name().into()));
            // What is over by its time is not what it was.
            sql.push(" OR due <= ").push_bind(now.0).push(")");
        }
        if let Some(channel) = &self.channel {
            sql.push(" AND channel = ").push_bind(channel);
        }
        // Plain text stands in the payload as it is; what may be written otherwise there is looked at task by
        // task.
        let is_plain = |text: &&String| text.chars().all(|c| c.is_ascii_alphanumeric() || " ._-".contains(c));
        if let Some(search) = self.search.as_ref().filter(is_plain) {
            let pattern = like_pattern(search);
            sql.push(" AND (payload").push(like).push_bind(&pattern).push(" ESCAPE '\\'");
            sql.push(" OR title").push(like).push_bind(pattern).push(" ESCAPE '\\'");
            sql.push(" OR CAST(tasks.id AS TEXT) = ").push_bind(search).push(")");
        }
        sql.push(" THEN CAST(1 AS BIGINT) ELSE 0 END FROM tasks WHERE tasks.id = found.id) FROM (");
        for (at, (condition, value)) in self.conditions(view).into_iter().enumerate() {
            sql.push(if at == 0 { "" } else { " UNION " });
            sql.push(
                "SELECT id, created_at FROM (SELECT id, created_at FROM tasks WHERE type = 'file_offer'",
            );
            sql.push(condition);
            if let Some(value) = value {
                sql.push_bind(value);
            }
            if let Some(day) = self.day {
                sql.push(" AND created_at >= ").push_bind(day);
            }
            // The first of the two is what the index is entered by.
            sql.push(" AND created_at <= ").push_bind(behind.key);
            sql.push(" AND (created_at, id) < (").push_bind(behind.key);
            sql.push(", ").push_bind(behind.id);
            sql.push(") ORDER BY created_at DESC, id DESC LIMIT ").push_bind(BATCH);
            sql.push(") AS part");
        }
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(BATCH);
        sql.push(") AS found ORDER BY found.created_at DESC, found.id DESC");
        sql
    }

    /// Conditions of which each is served by an index, and that together let through all that is wanted.
    fn conditions(&self, view: &View) -> Vec<(&'static str, Option<String>)> {
        let of = |id: &String| {
            [" AND source_id = ", " AND recipient_id = ", " AND assignee_id = "]
                .map(|condition| (condition, Some(id.clone())))
        };
        if let Some(actor) = &self.actor {
            return of(actor).into();
        }
        if let View::Of(id) = view {
            return of(id).into_iter().chain([(" AND recipient_id IS NULL", None)]).collect();
        }
        if !self.states.is_empty() {
            let is = |state: &Status| (" AND status = ", Some(state.name().to_owned()));
            return self.states.iter().map(is).collect();
        }
        vec![("", None)]
    }
}

/// One transfer and what happened to it. Of one that the view does not show nothing is told, nor that it
/// exists.
pub(crate) async fn find(
    connection: &mut Connection,
    id: &str,
    view: &View,
    now: Millis,
) -> Result<Value, Failure> {
    let missing = || Refusal::not_found(format!("there is no transfer {id:?}"));
    let number: i64 = id.parse().map_err(|_| missing())?;
    let sql = query(select_tasks!("WHERE tasks.id = $1 AND type = 'file_offer'")).bind(number);
    let mut task = rows::shown_task(connection, sql, view, missing).await?;
    task.elapse(now);
    let claims = claims(connection, std::slice::from_ref(&task)).await?;
    let (trail, is_cut) = trail(connection, task.id).await?;
    Ok(json!({
        "transfer": transfer::to_value(&task, claims.get(&task.id).copied()),
        "signatures": signatures(&task),
        "trail": trail,
        "is_cut": is_cut,
    }))
}

/// What the transfers of the last days add up to, by the day on which they were offered, the oldest day
/// first; those that the view shows.
pub(crate) async fn days(connection: &mut Connection, view: &View, now: Millis) -> sqlx::Result<Value> {
    let today = now.0.div_euclid(DAY);
    let first = today - DAYS + 1;
    let mut by_day: HashMap<i64, [f64; 5]> = HashMap::new();
    for (day, name, count, sum) in totals::offer_days(connection, view, first).await? {
        let [offered, arrived, failed, ended, bytes] = by_day.entry(day).or_default();
        let count = count as f64;
        *offered += count;
        match Status::from_name(&name) {
            Some(Status::Completed) => {
                *arrived += count;
                *bytes += sum;
            }
            Some(Status::Failed) => *failed += count,
            Some(Status::Rejected | Status::Cancelled) => *ended += count,
            Some(Status::Pending | Status::InProgress) | None => {}
        }
    }
    let days = (first..=today).map(|day| {
        let [offered, arrived, failed, ended, bytes] = by_day.get(&day).copied().unwrap_or_default();
        let date: String = Millis(day.saturating_mul(DAY)).to_text().chars().take(10).collect();
        json!({
            "day": date,
            "offered": offered as u64,
            "arrived": arrived as u64,
            "failed": failed as u64,
            "ended": ended as u64,
            "bytes": bytes,
        })
    });
    Ok(json!({ "days": days.collect::<Vec<_>>() }))
}

/// When each of some tasks was claimed last.
async fn claims(connection: &mut Connection, tasks: &[Task]) -> sqlx::Result<HashMap<i64, Millis>> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let mut sql = query("SELECT task_id, MAX(at) FROM audit WHERE event = 'task.claimed' AND task_id IN ");
    sql.push_list(tasks.iter().map(|task| Parameter::from(task.id))).push(" GROUP BY task_id");
    let rows = sql.fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, Millis(row.try_get(1)?)))).collect()
}

/// What happened to a task, in order, and whether more did than that. Of several changes in a row by one
/// actor, as a claim is renewed again and again, the last stands for all.
async fn trail(connection: &mut Connection, id: i64) -> sqlx::Result<(Vec<Value>, bool)> {
    let messages = rows::messages(connection, id).await?;
    let said: HashMap<i64, String> = messages
        .iter()
        .filter_map(|message| Some((message["id"].as_i64()?, message_text(&message["parts"]))))
        .collect();
    let rows = query(
        "SELECT event, to_status, actor_id, message_id, at FROM audit \
         WHERE task_id = $1 ORDER BY id LIMIT $2",
    )
    .bind(id)
    .bind(MAX_TRAIL_ROWS)
    .fetch_all(connection)
    .await?;
    let mut trail: Vec<Value> = Vec::new();
    let mut before: Option<(String, Option<String>)> = None;
    for row in &rows {
        let (event, actor): (String, Option<String>) = (row.try_get(0)?, row.try_get(2)?);
        let message = row.try_get::<Option<i64>>(3)?.and_then(|id| said.get(&id));
        let mut entry = json!({
            "at": row.try_get::<i64>(4)?,
            "event": event,
            "to": row.try_get::<String>(1)?,
            "actor": actor.as_deref().map(named),
            "message": message.filter(|text| !text.is_empty()),
            "repeated": 1,
        });
        let this = Some((event, actor));
        let is_again = this == before && entry["event"] == "task.updated";
        match trail.last_mut().filter(|_| is_again) {
            Some(last) => {
                entry["repeated"] = json!(last["repeated"].as_u64().unwrap_or_default() + 1);
                *last = entry;
            }
            None => trail.push(entry),
        }
        before = this;
    }
    let is_cut = rows.len() as i64 == MAX_TRAIL_ROWS || trail.len() > MAX_TRAIL;
    trail.truncate(MAX_TRAIL);
    Ok((trail, is_cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<TransferQuery, Refusal> {
        TransferQuery::parse(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    /// How SQLite goes about a statement.
    async fn plan(connection: &mut Connection, statement: Query) -> Vec<String> {
        let rows = statement.explained().fetch_all(connection).await.expect("a plan");
        rows.iter().map(|row| row.try_get("detail").expect("a step")).collect()
    }

    #[tokio::test]
    async fn no_list_reads_through_the_tasks() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (_, mut connection) = crate::store::Database::open(dir.path(), None).await.expect("opened");
        let of_b = View::Of("b".into());
        for pairs in [
            &[][..],
            &[("state", "failed")],
            &[("state", "open")],
            &[("actor", "a")],
            &[("actor", "a"), ("state", "failed"), ("day", "2026-01-31")],
            &[("channel", "c"), ("text", "x"), ("day", "2026-01-31")],
        ] {
            for view in [&View::All, &of_b] {
                let asked = parse(pairs).expect("a query");
                let steps =
                    plan(&mut connection, asked.statement(view, Position::END, Millis(0), " LIKE ")).await;
                for step in &steps {
                    let is_bad = step.starts_with("SCAN tasks") || step.contains("tasks_by_");
                    assert!(!is_bad, "{pairs:?} {view:?}: {steps:#?}");
                }
                let searches = steps.iter().filter(|step| step.contains("INDEX offers_by_"));
                assert_eq!(searches.count(), asked.conditions(view).len(), "{steps:#?}");
            }
        }
    }

    #[test]
    fn filters_are_read_and_nonsense_is_named() {
        let all = parse(&[("state", ""), ("unknown", "x"), ("actor", " ")]).expect("a query");
        assert_eq!((all.limit, all.actor, all.states), (DEFAULT_LIMIT, None, vec![]));
        let some = parse(&[("state", "open"), ("day", "2023-11-14"), ("limit", "9999")]).expect("a query");
        assert_eq!((some.day, some.limit), (Some(1_699_920_000_000), MAX_LIMIT));
        assert_eq!(some.states, [Status::Pending, Status::InProgress]);
        let long = "x".repeat(MAX_FILTER + 1);
        for (name, value) in [
            ("state", "done"),
            ("day", "today"),
            ("day", "1700000000"),
            ("cursor", "x"),
            ("limit", "-1"),
            ("actor", long.as_str()),
        ] {
            parse(&[(name, value)]).expect_err(name);
        }
    }
}
