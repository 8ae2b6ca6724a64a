//! The audit trail: what happened to each task, written with the change itself and never changed again.

use super::PendingEvent;
use crate::sql::{Connection, Query, insert_rows};
use crate::time::Millis;

/// The statements that add what happened, in order.
pub(super) fn insert(connection: &Connection, events: &[PendingEvent], now: Millis) -> Vec<Query> {
    let text = "INSERT INTO audit \
                (task_id, event, from_status, to_status, actor_type, actor_id, message_id, at) VALUES ";
    insert_rows(connection, text, "", events, |PendingEvent { event, before, task, by, message }| {
        [
            task.id.into(),
            event.name().into(),
            before.as_ref().map(|before| before.status.name()).into(),
            task.status.name().into(),
            by.as_ref().map(|actor| &actor.kind).into(),
            by.as_ref().map(|actor| &actor.id).into(),
            message.as_ref().and_then(|message| message["id"].as_i64()).into(),
            now.0.into(),
        ]
    })
}
