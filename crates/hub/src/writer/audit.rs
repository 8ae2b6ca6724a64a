//! The audit trail: what happened to each task, written with the change itself and never changed again.

use super::PendingEvent;
use crate::sql::{Connection, query};
use crate::task::Status;
use crate::time::Millis;

/// How many rows one statement adds: SQLite takes 32,766 values in one.
const ROWS: usize = 100;

/// Adds what happened, in order.
pub(super) async fn insert(
    connection: &mut Connection,
    events: &[PendingEvent],
    now: Millis,
) -> sqlx::Result<()> {
    for events in events.chunks(ROWS) {
        let mut sql = query(
            "INSERT INTO audit \
             (task_id, event, from_status, to_status, actor_type, actor_id, message_id, at) VALUES ",
        );
        sql.push_rows(events.iter().map(|PendingEvent { event, from, task, by, message }| {
            [
                task.id.into(),
                event.name().into(),
                from.map(Status::name).into(),
                task.status.name().into(),
                by.as_ref().map(|actor| &actor.kind).into(),
                by.as_ref().map(|actor| &actor.id).into(),
                message.as_ref().and_then(|message| message["id"].as_i64()).into(),
                now.0.into(),
            ]
        }));
        sql.execute(connection).await?;
    }
    Ok(())
}
