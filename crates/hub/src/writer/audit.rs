//! The audit trail: what happened to each task, written with the change itself and never changed again.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::PendingEvent;
use crate::task::Status;
use crate::time::Millis;

/// How many rows one statement adds: SQLite takes 32,766 values in one.
const ROWS: usize = 100;

/// Adds what happened, in order.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    events: &[PendingEvent],
    now: Millis,
) -> sqlx::Result<()> {
    for events in events.chunks(ROWS) {
        let mut sql = QueryBuilder::<Sqlite>::new(
            "INSERT INTO audit \
             (task_id, event, from_status, to_status, actor_type, actor_id, message_id, at) ",
        );
        sql.push_values(events, |mut row, PendingEvent { event, from, task, by, message }| {
            row.push_bind(task.id)
                .push_bind(event.name())
                .push_bind(from.map(Status::name))
                .push_bind(task.status.name())
                .push_bind(by.as_ref().map(|actor| actor.kind.clone()))
                .push_bind(by.as_ref().map(|actor| actor.id.clone()))
                .push_bind(message.as_ref().and_then(|message| message["id"].as_i64()))
                .push_bind(now.0);
        });
        sql.build().execute(&mut *connection).await?;
    }
    Ok(())
}
