//! What is deleted for its age: tasks that are over, with all that belongs to them.

use std::time::Duration;

use crate::rows::{select_tasks, task};
use crate::sql::{Connection, Parameter, query};
use crate::task::{Status, Task};
use crate::time::Millis;
use crate::totals::Tally;

/// How long it rests once nothing old is left, and where tasks are kept for less than that.
pub(super) const EVERY: Duration = Duration::from_secs(60);
pub(super) const OFTEN: Duration = Duration::from_millis(100);
/// How many tasks go in one transaction, few enough that callers hardly wait for it.
const AT_ONCE: i64 = 50;

/// Deletes tasks that ended and were last changed before a time, with their messages and their trail; gives
/// how many there were, up to a batch.
pub(super) async fn delete_ended(
    connection: &mut Connection,
    before: Millis,
    tally: &mut Tally,
) -> sqlx::Result<usize> {
    let mut ids: Vec<i64> = Vec::new();
    for status in Status::ALL.into_iter().filter(|status| !status.is_open()) {
        let room = AT_ONCE - i64::try_from(ids.len()).unwrap_or(AT_ONCE);
        // The list is what the index is limited to.
        let found: Vec<i64> = query(
            "SELECT id FROM tasks WHERE status IN ('completed', 'cancelled', 'failed', 'rejected') \
             AND status = $1 AND updated_at < $2 LIMIT $3",
        )
        .bind(status.name())
        .bind(before.0)
        .bind(room)
        .fetch_values(connection)
        .await?;
        ids.extend(found);
    }
    if ids.is_empty() {
        return Ok(0);
    }
    tally.remove_all(connection, &ids).await?;
    // The trail goes last: of a task that is there it cannot.
    for (table, column) in
        [("messages", "task_id"), ("announced_keys", "task_id"), ("tasks", "id"), ("audit", "task_id")]
    {
        let mut sql = query("DELETE FROM ");
        sql.push(table).push(" WHERE ").push(column).push(" IN ");
        sql.push_list(ids.iter().map(|id| Parameter::from(*id)));
        sql.execute(connection).await?;
    }
    Ok(ids.len())
}

/// Pending offers that nobody touched since before a time, a batch at most: those of originals name no
/// expiry, and others may name one that never comes.
pub(super) async fn stale_offers(connection: &mut Connection, before: Millis) -> sqlx::Result<Vec<Task>> {
    let rows = query(select_tasks!(
        "WHERE status = 'pending' AND type = 'file_offer' AND tasks.created_at < $1 \
             AND tasks.updated_at < $1 LIMIT $2"
    ))
    .bind(before.0)
    .bind(AT_ONCE)
    .fetch_all(connection)
    .await?;
    rows.iter().map(task).collect()
}
