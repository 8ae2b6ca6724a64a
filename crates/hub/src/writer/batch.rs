//! Changes of several callers in one transaction, so that one sync of the disk serves them all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Change, Changed, PendingEvent, apply, audit, event_log, make_tasks, retention, write_back};
use crate::error::{Failure, Refusal};
use crate::rows;
use crate::sql::{Connection, ends_transaction, run_all};
use crate::task::{By, Task};
use crate::time::{Clock, Millis};
use crate::totals::{self, Tally};

/// A transaction that is open on the writer's connection. Where a call fails or this is dropped before its
/// [`Batch::commit`], the transaction is in no known state, and the connection must not be used again.
#[derive(Debug)]
pub(super) struct Batch<'c> {
    connection: &'c mut Connection,
    now: Millis,
    /// What the changes so far did, in order.
    events: Vec<PendingEvent>,
    /// What they do not say of the totals: the tasks that go.
    tally: Tally,
    /// Whether anything was written since the savepoint.
    savepoint: Savepoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Savepoint {
    Fresh,
    Behind,
}

/// What came of one of the changes.
#[derive(Debug)]
pub(super) struct Made {
    /// What its caller is answered once the batch is committed.
    pub(super) answer: Result<Changed, Refusal>,
    /// How many events there are with those of this one.
    pub(super) events: usize,
}

impl<'c> Batch<'c> {
    /// One at the time of the database, which the clock hears.
    pub(super) async fn begin(connection: &'c mut Connection, clock: &Clock) -> sqlx::Result<Self> {
        let now = connection.begin_with_savepoint().await?;
        if connection.is_shared() {
            clock.hear(now);
        }
        let (events, tally) = (Vec::new(), Tally::default());
        Ok(Self { connection, now, events, tally, savepoint: Savepoint::Fresh })
    }

    /// Makes changes in order, each whole or not at all.
    ///
    /// # Errors
    /// The database failed so that the whole batch is lost.
    pub(super) async fn make_all(
        &mut self,
        changes: impl IntoIterator<Item = (Change, By)>,
    ) -> sqlx::Result<Vec<Made>> {
        let (mut made, mut tasks) = (Vec::new(), Vec::new());
        for (change, by) in changes {
            match change {
                Change::MakeTask { scope, new } => {
                    tasks.push(rows::task_to_make(scope, new, by.actor, self.now));
                }
                change => {
                    self.make_tasks(&mut tasks, &mut made).await?;
                    let answer = self.make(change, &by).await?;
                    made.push(Made { answer, events: self.events.len() });
                }
            }
        }
        self.make_tasks(&mut tasks, &mut made).await?;
        Ok(made)
    }

    /// Makes the tasks that wait, by a few statements for all of them: each statement is a turn with the
    /// thread of the database.
    async fn make_tasks(&mut self, tasks: &mut Vec<Task>, made: &mut Vec<Made>) -> sqlx::Result<()> {
        let (mut all, mut refusals) = (std::mem::take(tasks), HashMap::new());
        if all.is_empty() {
            return Ok(());
        }
        if self.try_making(&mut all).await?.is_err() {
            // What one of them has met must not be the others' loss.
            for (at, task) in all.iter_mut().enumerate() {
                if let Err(refusal) = self.try_making(std::slice::from_mut(task)).await? {
                    refusals.insert(at, refusal);
                }
            }
        }
        for (at, task) in all.into_iter().enumerate() {
            let answer = match refusals.remove(&at) {
                Some(refusal) => Err(refusal),
                None => {
                    let task = Arc::new(task);
                    self.events.push(PendingEvent::of_new(task.clone()));
                    Ok(Changed::task(task))
                }
            };
            made.push(Made { answer, events: self.events.len() });
        }
        Ok(())
    }

    async fn try_making(&mut self, tasks: &mut [Task]) -> sqlx::Result<Result<(), Refusal>> {
        self.set_savepoint().await?;
        let made = make_tasks(self.connection, tasks, self.now).await;
        self.or_undo(made).await
    }

    /// Makes a change, whole or not at all; gives what its caller is answered once the batch is committed.
    async fn make(&mut self, change: Change, by: &By) -> sqlx::Result<Result<Changed, Refusal>> {
        let before = self.events.len();
        self.set_savepoint().await?;
        let made = apply(self.connection, change, by, self.now, &mut self.events).await;
        let answer = self.or_undo(made).await?;
        if answer.is_err() {
            self.events.truncate(before);
        }
        Ok(answer)
    }

    /// Has what comes next undone alone where it fails.
    async fn set_savepoint(&mut self) -> sqlx::Result<()> {
        if std::mem::replace(&mut self.savepoint, Savepoint::Behind) == Savepoint::Behind {
            // In one go: each statement is a turn with the thread of the database.
            self.connection.run("RELEASE SAVEPOINT change; SAVEPOINT change").await?;
        }
        Ok(())
    }

    /// Undoes what failed since the savepoint, and gives the refusal.
    async fn or_undo<T>(&mut self, made: Result<T, Failure>) -> sqlx::Result<Result<T, Refusal>> {
        let refusal = match made {
            Ok(made) => return Ok(Ok(made)),
            Err(Failure::Database(error)) if ends_transaction(&error) => return Err(error),
            Err(failure) => failure.into(),
        };
        self.connection.run("ROLLBACK TO SAVEPOINT change").await?;
        self.savepoint = Savepoint::Fresh;
        Ok(Err(refusal))
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
            let before = task.clone();
            let event = task.elapse(self.now);
            // Written back even if nothing changed: the row may have named a wrong time.
            write_back(self.connection, &task, true).await?;
            self.events.extend(event.map(|event| PendingEvent::of_time(event, before.into(), task.into())));
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
            let before = task.clone();
            let event = task.abandon(self.now);
            write_back(self.connection, &task, true).await?;
            self.events.push(PendingEvent::of_time(event, before.into(), task.into()));
        }
        found |= retention::delete_ended(self.connection, before, &mut self.tally).await? > 0;
        Ok(found)
    }

    /// Forgets what was counted for the last days alone.
    pub(super) async fn forget(&mut self) -> sqlx::Result<()> {
        self.savepoint = Savepoint::Behind;
        totals::forget_minutes(self.connection, self.now).await
    }

    /// Has all of it kept; gives what happened, to be told now that it is on the disk.
    pub(super) async fn commit(mut self) -> sqlx::Result<Vec<PendingEvent>> {
        for PendingEvent { before, task, .. } in self.events.iter().filter(|event| event.message.is_none()) {
            if let Some(before) = before {
                self.tally.remove(before);
            }
            self.tally.add(task);
        }
        let mut last = std::mem::take(&mut self.tally).keep(self.connection);
        if self.events.is_empty() {
            run_all(self.connection, last).await?;
            self.connection.commit().await?;
        } else {
            last.extend(audit::insert(self.connection, &self.events, self.now));
            last.extend(event_log::insert(self.connection, &self.events, self.now));
            self.connection.commit_with(last).await?;
        }
        Ok(self.events)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::input::NewTask;
    use crate::rows::Scope;
    use crate::store::Database;
    use crate::task::{Actor, Rights};

    fn making(project: &str, title: &str) -> (Change, By) {
        let scope = Scope { project: project.into(), ..Scope::default_one() };
        let new = NewTask {
            title: title.into(),
            description: None,
            kind: "task".into(),
            channel: "c".into(),
            priority: 5,
            payload: json!({ "p2p": { "key": "ab".repeat(32) } }),
        };
        let actor = Actor { kind: "agent".into(), id: "a".into(), name: "A".into() };
        (Change::MakeTask { scope, new }, By { actor, rights: Rights::Unproven })
    }

    #[tokio::test]
    async fn statements_of_which_one_fails_leave_nothing_of_their_change_behind() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (_, mut connection) = Database::open(dir.path(), None).await.expect("opened");
        let make = |id: i64| {
            crate::sql::query(
                "INSERT INTO organizations (id, slug, name, created_at) VALUES ($1, $2, 'n', 0)",
            )
            .bind(id)
            .bind(id.to_string())
        };
        let mut batch = Batch::begin(&mut connection, &Clock::default()).await.expect("begun");
        for (ids, is_made) in [([11, 12], true), ([13, 11], false), ([14, 15], true)] {
            batch.set_savepoint().await.expect("set");
            let run = run_all(batch.connection, ids.map(make).into()).await.map_err(Failure::from);
            assert_eq!(batch.or_undo(run).await.expect("undone").is_ok(), is_made);
        }
        batch.commit().await.expect("kept");
        let kept = crate::sql::query("SELECT id FROM organizations WHERE id > 10 ORDER BY id");
        let kept = kept.fetch_values::<i64>(&mut connection).await.expect("read");
        assert_eq!(kept, [11, 12, 14, 15]);
    }

    #[tokio::test]
    async fn of_tasks_that_are_made_together_one_that_is_refused_takes_none_with_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (_, mut connection) = Database::open(dir.path(), None).await.expect("opened");
        rows::make_default_project(&mut connection).await.map_err(sqlx::Error::from).expect("made");
        // As many projects as there may be.
        connection
            .run(
                "WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < 10000)
                 INSERT INTO projects (organization_id, slug, name, created_at) SELECT 1, n, n, 0 FROM n",
            )
            .await
            .expect("filled");
        let mut batch = Batch::begin(&mut connection, &Clock::default()).await.expect("begun");
        let changes = [making("main", "one"), making("another", "two"), making("2", "three")];
        let made = batch.make_all(changes).await.expect("made");
        let answers: Vec<Option<i64>> = made
            .iter()
            .map(|made| match &made.answer {
                Ok(Changed::Task { task, .. }) => Some(task.id),
                _ => None,
            })
            .collect();
        assert_eq!(answers, [Some(1), None, Some(2)]);
        assert_eq!(made.iter().map(|made| made.events).collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!(batch.commit().await.expect("kept").len(), 2);
        let kept =
            crate::sql::query("SELECT title FROM tasks JOIN announced_keys ON task_id = id ORDER BY id");
        assert_eq!(kept.fetch_values::<String>(&mut connection).await.expect("read"), ["one", "three"]);
    }
}
