//! Changes of several callers in one transaction, so that one sync of the disk serves them all.

use std::time::Duration;

use serde_json::Value;

use super::{Change, PendingEvent, apply, audit, event_log, retention};
use crate::announced;
use crate::error::{Failure, Refusal};
use crate::rows;
use crate::sql::{Connection, ends_transaction};
use crate::task::By;
use crate::time::{Clock, Millis};

/// A transaction that is open on the writer's connection. Where a call fails or this is dropped before its
/// [`Batch::commit`], the transaction is in no known state, and the connection must not be used again.
#[derive(Debug)]
pub(super) struct Batch<'c> {
    connection: &'c mut Connection,
    now: Millis,
    /// What the changes so far did, in order.
    events: Vec<PendingEvent>,
    /// Whether anything was written since the savepoint.
    savepoint: Savepoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Savepoint {
    Fresh,
    Behind,
}

impl<'c> Batch<'c> {
    /// One at the time of the database, which the clock hears.
    pub(super) async fn begin(connection: &'c mut Connection, clock: &Clock) -> sqlx::Result<Self> {
        let now = connection.begin_with_savepoint().await?;
        if connection.is_shared() {
            clock.hear(now);
        }
        Ok(Self { connection, now, events: Vec::new(), savepoint: Savepoint::Fresh })
    }

    /// Makes a change, whole or not at all; gives what its caller is answered once the batch is committed,
    /// and how many events it added.
    ///
    /// # Errors
    /// The database failed so that the whole batch is lost.
    pub(super) async fn make(&mut self, change: Change, by: &By) -> sqlx::Result<Result<Value, Refusal>> {
        let before = self.events.len();
        match self.savepoint {
            Savepoint::Fresh => {}
            // In one go: each statement is a turn with the thread of the database.
            Savepoint::Behind => self.connection.run("RELEASE SAVEPOINT change; SAVEPOINT change").await?,
        }
        self.savepoint = Savepoint::Behind;
        let refusal = match apply(self.connection, change, by, self.now, &mut self.events).await {
            Ok(value) => return Ok(Ok(value)),
            Err(Failure::Database(error)) if ends_transaction(&error) => return Err(error),
            Err(failure) => failure.into(),
        };
        self.events.truncate(before);
        self.connection.run("ROLLBACK TO SAVEPOINT change").await?;
        self.savepoint = Savepoint::Fresh;
        Ok(Err(refusal))
    }

    /// How many events there are so far.
    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    /// Ends claims and offers whose time is over, a hundred at most; says whether there were any.
    pub(super) async fn end_what_is_due(&mut self) -> sqlx::Result<bool> {
        self.savepoint = Savepoint::Behind;
        let due = rows::due_tasks(self.connection, self.now).await?;
        let found = !due.is_empty();
        for (id, task) in due {
            let mut task = match task {
                Ok(task) => task,
                Err(error) => {
                    // One row that can't be read must not hold the others up.
                    tracing::error!("task {id} in the hub's database cannot be read: {error}");
                    rows::forget_due(self.connection, id).await?;
                    continue;
                }
            };
            let from = task.status;
            let event = task.elapse(self.now);
            // Written back even if nothing changed: the row may have named a wrong time.
            rows::update_task(self.connection, &task).await?;
            announced::update(self.connection, &task).await?;
            self.events.extend(event.map(|event| PendingEvent::of_time(event, from, task)));
        }
        Ok(found)
    }

    /// Deletes what has been over for so long, and ends offers that nobody touched since; a few at
    /// once. Says whether there were any.
    pub(super) async fn clean_up(&mut self, keep: Duration) -> sqlx::Result<bool> {
        let before = self.now.minus(keep);
        self.savepoint = Savepoint::Behind;
        let offers = retention::stale_offers(self.connection, before).await?;
        let mut found = !offers.is_empty();
        for mut task in offers {
            let from = task.status;
            let event = task.abandon(self.now);
            rows::update_task(self.connection, &task).await?;
            announced::update(self.connection, &task).await?;
            self.events.push(PendingEvent::of_time(event, from, task));
        }
        found |= retention::delete_ended(self.connection, before).await? > 0;
        Ok(found)
    }

    /// Has all of it kept; gives what happened, to be told now that it is on the disk.
    pub(super) async fn commit(self) -> sqlx::Result<Vec<PendingEvent>> {
        audit::insert(self.connection, &self.events, self.now).await?;
        if self.events.is_empty() {
            self.connection.commit().await?;
        } else {
            event_log::insert(self.connection, &self.events, self.now).await?;
            self.connection.commit_and_notify().await?;
        }
        Ok(self.events)
    }
}
