//! The public keys that open tasks name: those of the peers of a transfer, in the `p2p` object of its offer
//! and in the messages on it. They are kept in a table of their own, so that whether a key is announced is
//! one look-up, however many tasks there are.

use serde_json::Value;

use crate::sql::{Connection, Query, insert_rows, query, run_all};
use crate::task::Task;

/// The digits of a public key in lower-case hex, as offers carry it.
const DIGITS: usize = 64;
/// The most keys that are taken from a task and its messages: far more than a transfer has.
const MAX_KEYS: usize = 64;

/// Adds the keys that new tasks name.
pub(crate) async fn add_of_tasks(connection: &mut Connection, tasks: &[Task]) -> sqlx::Result<()> {
    let p2p = tasks.iter().filter_map(|task| Some((task.id, task.payload.get("p2p")?)));
    let of_task = |(id, p2p): (i64, &Value)| keys_in([p2p]).into_iter().map(move |key| (key, id));
    insert(connection, &p2p.flat_map(of_task).collect::<Vec<_>>()).await
}

/// Adds the keys that a new message on a task names.
pub(crate) async fn add_of_message(
    connection: &mut Connection,
    task: &Task,
    parts: &Value,
) -> sqlx::Result<()> {
    let keys = keys_in([parts]);
    if keys.is_empty() || !task.status.is_open() {
        return Ok(());
    }
    let count: i64 = query("SELECT COUNT(*) FROM announced_keys WHERE task_id = $1")
        .bind(task.id)
        .fetch_value(connection)
        .await?;
    let room = MAX_KEYS.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    add(connection, task.id, keys.into_iter().take(room).collect()).await
}

/// The statement that removes the keys of a task.
pub(crate) fn remove(task: &Task) -> Query {
    query("DELETE FROM announced_keys WHERE task_id = $1").bind(task.id)
}

/// Adds the keys that a task names, which were removed, if it is open.
pub(crate) async fn add_again(connection: &mut Connection, task: &Task) -> sqlx::Result<()> {
    if !task.status.is_open() {
        return Ok(());
    }
    let messages: Vec<String> = query("SELECT parts FROM messages WHERE task_id = $1 ORDER BY id")
        .bind(task.id)
        .fetch_values(connection)
        .await?;
    let mut keys = task.payload.get("p2p").map_or_else(Vec::new, |p2p| keys_in([p2p]));
    for parts in &messages {
        collect(parts, &mut keys);
    }
    add(connection, task.id, keys).await
}

/// Whether an open task, or a message on one, names the key.
pub(crate) async fn is_announced(connection: &mut Connection, key: &[u8; 32]) -> sqlx::Result<bool> {
    let found = query("SELECT task_id FROM announced_keys WHERE key = $1 LIMIT 1")
        .bind(hex::encode(key))
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

/// Whether one open task names both keys, itself or in the messages on it.
pub(crate) async fn are_in_one_task(
    connection: &mut Connection,
    one: &[u8; 32],
    other: &[u8; 32],
) -> sqlx::Result<bool> {
    let both = "SELECT a.task_id FROM announced_keys AS a
        JOIN announced_keys AS b ON b.task_id = a.task_id WHERE a.key = $1 AND b.key = $2 LIMIT 1";
    let found =
        query(both).bind(hex::encode(one)).bind(hex::encode(other)).fetch_optional(connection).await?;
    Ok(found.is_some())
}

async fn add(connection: &mut Connection, task_id: i64, keys: Vec<String>) -> sqlx::Result<()> {
    insert(connection, &keys.into_iter().map(|key| (key, task_id)).collect::<Vec<_>>()).await
}

async fn insert(connection: &mut Connection, keys: &[(String, i64)]) -> sqlx::Result<()> {
    let text = "INSERT INTO announced_keys (key, task_id) VALUES ";
    let row = |(key, task): &(String, i64)| [key.into(), (*task).into()];
    let statements = insert_rows(connection, text, " ON CONFLICT DO NOTHING", keys, row);
    run_all(connection, statements).await
}

fn keys_in<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut keys = Vec::new();
    for value in values {
        collect(&value.to_string(), &mut keys);
    }
    keys
}

/// Collects what looks like a key from JSON text: hex digits in the number of a key's, with others on neither
/// side. The content of a message may be JSON in JSON, so it is not looked for by the names of fields.
fn collect(text: &str, keys: &mut Vec<String>) {
    let runs = text.split(|c: char| !matches!(c, '0'..='9' | 'a'..='f'));
    for run in runs.filter(|run| run.len() == DIGITS) {
        if keys.len() >= MAX_KEYS {
            return;
        }
        if !keys.iter().any(|key| key == run) {
            keys.push(run.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_found_at_any_depth_and_nothing_longer_or_shorter_is_taken_for_one() {
        let (one, two) = ("a1".repeat(32), "0f".repeat(32));
        let inner = json!({ "p2p": { "key": one } }).to_string();
        let value = json!({
            "content": inner, "again": one, "list": [{ "key": two }],
            "signature": "ab".repeat(64), "instance": "ab".repeat(16), "upper": "AB".repeat(32),
        });
        let mut keys = keys_in([&value]);
        keys.sort();
        assert_eq!(keys, [two, one]);
    }

    #[test]
    fn a_task_announces_so_many_keys_and_no_more() {
        let keys: Vec<String> = (0..100).map(|n| format!("{n:064x}")).collect();
        assert_eq!(keys_in([&json!(keys)]).len(), MAX_KEYS);
    }
}
