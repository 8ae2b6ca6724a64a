//! What tasks add up to. It is kept with each change, in tables of few rows, so that nobody has to count
//! them.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::sql::{Connection, Parameter, Query, Row, insert_rows, query};
use crate::task::{Status, Task, View};
use crate::time::Millis;

/// How many channels the statistics name, the fullest first.
const MAX_CHANNELS: i64 = 50;
const MINUTE: i64 = 60 * 1000;
const DAY: i64 = 24 * 60 * MINUTE;
/// How long it is known how many tasks were made and completed in a minute: longer than anybody asks for.
const KEEP_MINUTES: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// What adds to a number of a row that is there.
macro_rules! sum {
    ($table:literal, $number:literal) => {
        concat!($number, " = ", $table, ".", $number, " + excluded.", $number)
    };
}

/// The beginning and the end of the statement that adds to the two numbers of rows with these keys, and makes
/// those that are not there.
macro_rules! adds_to {
    ($table:literal, $keys:literal, $one:literal, $other:literal) => {{
        let text = concat!("INSERT INTO ", $table, " (", $keys, ", ", $one, ", ", $other, ") VALUES ");
        let rest = concat!(
            " ON CONFLICT (",
            $keys,
            ") DO UPDATE SET ",
            sum!($table, $one),
            ", ",
            sum!($table, $other)
        );
        (text, rest)
    }};
}

/// A task as far as it counts.
#[derive(Debug)]
struct Counted {
    project: i64,
    channel: String,
    status: Status,
    /// Whether it is meant for one actor: others with a key do not see it.
    is_directed: bool,
    is_offer: bool,
    created_at: i64,
    completed_at: Option<i64>,
    file_size: i64,
}

/// What changes of tasks add to the totals, and take from them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By project, channel, state and whether they are directed: how many, and how long those that are
    /// completed took, milliseconds.
    tasks: HashMap<(i64, String, Status, bool), [i64; 2]>,
    /// By minute, project and whether they are directed: how many were made and completed.
    minutes: HashMap<(i64, i64, bool), [i64; 2]>,
    /// Of offers, by the day when they were made, state and whether they are directed: how many, and the
    /// bytes of their files.
    offers: HashMap<(i64, Status, bool), [i64; 2]>,
}

impl Counted {
    fn of(task: &Task) -> Self {
        Self {
            project: task.project_id,
            channel: task.channel.clone(),
            status: task.status,
            is_directed: task.recipient().is_some(),
            is_offer: task.kind == protocol::offer::TASK_TYPE,
            created_at: task.created_at.0,
            completed_at: task.completed_at.map(|at| at.0),
            file_size: task.file_size().unwrap_or_default(),
        }
    }

    /// Reads a row of [`rows_of`]; nothing of one whose state is unknown, which counts nowhere.
    fn read(row: &Row) -> sqlx::Result<Option<Self>> {
        let Some(status) = Status::from_name(row.try_get(2)?) else { return Ok(None) };
        Ok(Some(Self {
            project: row.try_get(0)?,
            channel: row.try_get(1)?,
            status,
            is_directed: row.try_get::<Option<&str>>(3)?.is_some(),
            is_offer: row.try_get::<&str>(4)? == protocol::offer::TASK_TYPE,
            created_at: row.try_get(5)?,
            completed_at: row.try_get(6)?,
            file_size: row.try_get::<Option<i64>>(7)?.unwrap_or_default(),
        }))
    }
}

impl Tally {
    /// A task is there that was not, or is as it was not.
    pub(crate) fn add(&mut self, task: &Task) {
        self.count(Counted::of(task), 1);
    }

    /// A task is gone, or is no more as it was.
    pub(crate) fn remove(&mut self, task: &Task) {
        self.count(Counted::of(task), -1);
    }

    /// [`Tally::remove`] of tasks in the database, by their numbers.
    pub(crate) async fn remove_all(&mut self, connection: &mut Connection, ids: &[i64]) -> sqlx::Result<()> {
        let mut sql = query(
            "SELECT project_id, channel, status, recipient_id, type, created_at, completed_at, file_size \
             FROM tasks WHERE id IN ",
        );
        sql.push_list(ids.iter().map(|id| Parameter::from(*id)));
        for row in sql.fetch_all(connection).await? {
            if let Some(counted) = Counted::read(&row)? {
                self.count(counted, -1);
            }
        }
        Ok(())
    }

    fn count(&mut self, counted: Counted, by: i64) {
        let Counted { project, channel, status, is_directed, is_offer, created_at, completed_at, file_size } =
            counted;
        let add = |to: &mut [i64; 2], what: [i64; 2]| {
            for (to, what) in to.iter_mut().zip(what) {
                *to = to.saturating_add(what.saturating_mul(by));
            }
        };
        let took = completed_at.map_or(0, |completed_at| completed_at.saturating_sub(created_at));
        add(self.tasks.entry((project, channel, status, is_directed)).or_default(), [1, took]);
        let mut minute = |at: i64, what| {
            add(self.minutes.entry((at.div_euclid(MINUTE), project, is_directed)).or_default(), what);
        };
        minute(created_at, [1, 0]);
        if let Some(completed_at) = completed_at {
            minute(completed_at, [0, 1]);
        }
        if is_offer {
            let day = created_at.div_euclid(DAY);
            add(self.offers.entry((day, status, is_directed)).or_default(), [1, file_size]);
        }
    }

    /// The statements that change the totals by this.
    pub(crate) fn keep(self, connection: &Connection) -> Vec<Query> {
        let statement =
            adds_to!("task_counts", "project_id, channel, status, is_directed", "count", "completed_ms");
        let tasks = add(connection, statement, self.tasks, |(project, channel, status, directed)| {
            [(*project).into(), channel.into(), status.name().into(), flag(*directed)]
        });
        let statement = adds_to!("task_minutes", "minute, project_id, is_directed", "created", "completed");
        let minutes = add(connection, statement, self.minutes, |(minute, project, directed)| {
            [(*minute).into(), (*project).into(), flag(*directed)]
        });
        let statement = adds_to!("offer_days", "day, status, is_directed", "count", "bytes");
        let offers = add(connection, statement, self.offers, |(day, status, directed)| {
            [(*day).into(), status.name().into(), flag(*directed)]
        });
        [tasks, minutes, offers].into_iter().flatten().collect()
    }
}

/// What adds what is not nothing to the rows of these keys, by a statement of [`adds_to`].
fn add<K, const N: usize>(
    connection: &Connection,
    (text, rest): (&'static str, &'static str),
    by: HashMap<K, [i64; 2]>,
    key: impl Fn(&K) -> [Parameter; N],
) -> Vec<Query> {
    let changed: Vec<(K, [i64; 2])> = by.into_iter().filter(|(_, by)| *by != [0, 0]).collect();
    insert_rows(connection, text, rest, &changed, |(of, by)| {
        key(of).into_iter().chain(by.map(Parameter::from))
    })
}

fn flag(is: bool) -> Parameter {
    i64::from(is).into()
}

/// Forgets what was made and completed in minutes that nobody asks for any more.
pub(crate) async fn forget_minutes(connection: &mut Connection, now: Millis) -> sqlx::Result<()> {
    let before = now.minus(KEEP_MINUTES).0.div_euclid(MINUTE);
    query("DELETE FROM task_minutes WHERE minute < $1").bind(before).execute(connection).await?;
    Ok(())
}

/// How many tasks a project has.
pub(crate) async fn count(connection: &mut Connection, project: i64) -> sqlx::Result<i64> {
    query("SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM task_counts WHERE project_id = $1")
        .bind(project)
        .fetch_value(connection)
        .await
}

/// How many tasks of the whole hub there are of each status.
pub(crate) async fn count_by_status(connection: &mut Connection) -> sqlx::Result<Vec<(String, i64)>> {
    by_status(connection, None, &View::All).await
}

/// How many tasks of a project, or of the whole hub, there are of each status; those that the view shows.
pub(crate) async fn by_status(
    connection: &mut Connection,
    project: Option<i64>,
    view: &View,
) -> sqlx::Result<Vec<(String, i64)>> {
    let mut sql = query("SELECT status, CAST(SUM(count) AS BIGINT) FROM ");
    push_counts(&mut sql, project, view);
    sql.push(" GROUP BY status");
    let rows = sql.fetch_all(connection).await?;
    let counts: Vec<(String, i64)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<sqlx::Result<_>>()?;
    let count = |name: &str| counts.iter().find(|(status, _)| status == name).map_or(0, |(_, count)| *count);
    Ok(Status::ALL.iter().map(|status| (status.name().to_owned(), count(status.name()))).collect())
}

/// What the tasks of a project, or of the whole hub, add up to; those that the view shows. Of the last days
/// it is told to the minute.
pub(crate) async fn stats(
    connection: &mut Connection,
    project: Option<i64>,
    view: &View,
    now: Millis,
) -> sqlx::Result<Value> {
    let counts = by_status(connection, project, view).await?;
    let total: i64 = counts.iter().map(|(_, count)| count).sum();
    let by_status: Map<String, Value> =
        counts.into_iter().map(|(status, count)| (status, json!(count))).collect();
    let completed = by_status[Status::Completed.name()].as_i64().unwrap_or_default();

    let mut sql = query("SELECT CAST(COALESCE(SUM(completed_ms), 0) AS DOUBLE PRECISION) FROM ");
    push_counts(&mut sql, project, view);
    let took: f64 = sql.fetch_value(connection).await?;

    let mut sql = query("SELECT channel, CAST(SUM(count) AS BIGINT) AS total FROM ");
    push_counts(&mut sql, project, view);
    sql.push(" GROUP BY channel HAVING SUM(count) > 0 ORDER BY total DESC, channel LIMIT ");
    sql.push_bind(MAX_CHANNELS);
    let mut by_channel = Map::new();
    for row in sql.fetch_all(connection).await? {
        by_channel.insert(row.try_get(0)?, json!(row.try_get::<i64>(1)?));
    }

    let [created_24h, completed_24h] = lately(connection, project, view, now.0 - DAY).await?;
    let [created_7d, completed_7d] = lately(connection, project, view, now.0 - 7 * DAY).await?;
    let average = (completed > 0).then(|| took / completed as f64 / 1000.0);
    Ok(json!({
        "total": total,
        "by_status": by_status,
        "by_channel": by_channel,
        "avg_completion_seconds": average,
        "completed_count": completed,
        "recent": {
            "created_24h": created_24h,
            "completed_24h": completed_24h,
            "created_7d": created_7d,
            "completed_7d": completed_7d,
        },
    }))
}

/// How many tasks were made and completed since a time, which is taken for the beginning of its minute.
async fn lately(
    connection: &mut Connection,
    project: Option<i64>,
    view: &View,
    since: i64,
) -> sqlx::Result<[i64; 2]> {
    let since = since.div_euclid(MINUTE);
    let mut sql = query(
        "SELECT CAST(COALESCE(SUM(created), 0) AS BIGINT), CAST(COALESCE(SUM(completed), 0) AS BIGINT) FROM \
         (SELECT project_id, minute, created, completed FROM task_minutes WHERE 1 = 1",
    );
    push_undirected(&mut sql, view);
    if let View::Of(id) = view {
        sql.push(" UNION ALL SELECT project_id, created_at / 60000, 1, 0 FROM tasks WHERE id IN ");
        push_own(&mut sql, id);
        sql.push(" UNION ALL SELECT project_id, completed_at / 60000, 0, 1 FROM tasks WHERE id IN ");
        push_own(&mut sql, id);
    }
    sql.push(") AS minutes WHERE minute >= ").push_bind(since);
    push_project(&mut sql, project);
    let row = sql.fetch_one(connection).await?;
    Ok([row.try_get(0)?, row.try_get(1)?])
}

/// How many transfers there are of each day since one and each state, with the bytes of their files; those
/// that the view shows.
pub(crate) async fn offer_days(
    connection: &mut Connection,
    view: &View,
    first: i64,
) -> sqlx::Result<Vec<(i64, String, i64, f64)>> {
    let mut sql = query(
        "SELECT day, status, CAST(SUM(count) AS BIGINT), CAST(SUM(bytes) AS DOUBLE PRECISION) FROM \
         (SELECT day, status, count, bytes FROM offer_days WHERE 1 = 1",
    );
    push_undirected(&mut sql, view);
    if let View::Of(id) = view {
        sql.push(
            " UNION ALL SELECT created_at / 86400000, status, 1, COALESCE(file_size, 0) \
             FROM tasks WHERE id IN ",
        );
        push_own(&mut sql, id);
    }
    sql.push(") AS days WHERE day >= ").push_bind(first).push(" GROUP BY day, status");
    let rows = sql.fetch_all(connection).await?;
    let day = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    rows.iter().map(day).collect()
}

/// Adds what is counted: `(…) AS counted`, with the columns of `task_counts`, and conditions on them.
fn push_counts(sql: &mut Query, project: Option<i64>, view: &View) {
    sql.push("(SELECT project_id, channel, status, count, completed_ms FROM task_counts WHERE 1 = 1");
    push_undirected(sql, view);
    if let View::Of(id) = view {
        sql.push(
            " UNION ALL SELECT project_id, channel, status, 1, COALESCE(completed_at - created_at, 0) \
             FROM tasks WHERE id IN ",
        );
        push_own(sql, id);
    }
    sql.push(") AS counted WHERE 1 = 1");
    push_project(sql, project);
}

fn push_project(sql: &mut Query, project: Option<i64>) {
    if let Some(project) = project {
        sql.push(" AND project_id = ").push_bind(project);
    }
}

/// Leaves out what is meant for one actor, where not all is shown; what is theirs is counted by itself.
fn push_undirected(sql: &mut Query, view: &View) {
    if *view != View::All {
        sql.push(" AND is_directed = 0");
    }
}

/// Adds the numbers of the tasks that are meant for one actor and that this one sees, in parentheses.
fn push_own(sql: &mut Query, id: &str) {
    for (at, column) in ["recipient_id", "source_id", "assignee_id"].into_iter().enumerate() {
        sql.push(if at == 0 { "(" } else { " UNION " });
        sql.push("SELECT id FROM tasks WHERE type = 'file_offer' AND recipient_id IS NOT NULL AND ");
        sql.push(column).push(" = ").push_bind(id);
    }
    sql.push(")");
}
