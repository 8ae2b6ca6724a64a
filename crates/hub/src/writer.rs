//! The one task that changes anything. It owns the connection that writes, ends claims and offers when their
//! time is over, and tells subscribers in the order in which things happened. A caller that goes away stops
//! nothing half-way.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::error::Refusal;
use crate::input::{NewTask, Profile};
use crate::orgs;
use crate::rows::{self, Scope};
use crate::store::Folder;
use crate::task::{Action, Actor, EventKind, Task};
use crate::time::Millis;

/// How many changes may wait; callers with more wait until there is room.
const WAITING: usize = 64;
/// The longest sleep: the wall clock may jump, and a machine may sleep, without a timer noticing.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// How long to wait after the database failed while due tasks were changed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A change that somebody wants.
#[derive(Debug)]
pub(crate) enum Change {
    MakeTask {
        scope: Scope,
        new: NewTask,
    },
    /// All of the actions, or none of them.
    EditTask {
        scope: Scope,
        id: String,
        actions: Vec<Action>,
    },
    AddMessage {
        scope: Scope,
        id: String,
        parts: Vec<Value>,
    },
    MakeOrganization {
        profile: Profile,
    },
    EditOrganization {
        organization: String,
        profile: Profile,
    },
    MakeProject {
        organization: String,
        profile: Profile,
    },
    EditProject {
        organization: String,
        project: String,
        profile: Profile,
    },
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<ChangeRequest>);

#[derive(Debug)]
struct ChangeRequest {
    change: Change,
    by: Actor,
    reply: oneshot::Sender<Result<Value, Refusal>>,
}

impl Writer {
    /// Makes a change; gives the changed thing as it is sent.
    ///
    /// # Errors
    /// The refusal of a change that the task's state or a limit does not allow, and one where the hub ends.
    pub(crate) async fn change(&self, change: Change, by: Actor) -> Result<Value, Refusal> {
        let ended = || Refusal::unavailable("the hub is shutting down");
        let (reply, answer) = oneshot::channel();
        self.0.send(ChangeRequest { change, by, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// The writer's own side; [`WriterTask::run`] does the work.
#[derive(Debug)]
pub(crate) struct WriterTask {
    connection: SqliteConnection,
    bus: Bus,
    requests: mpsc::Receiver<ChangeRequest>,
    /// No task is due before this.
    next_due: Option<Millis>,
    /// Held until the database is closed, so that no other hub opens it before.
    _folder: Folder,
}

/// A writer on a connection to the database in a folder, telling a bus. Claims and offers whose time ran out
/// while no hub was running are ended at once.
pub(crate) async fn writer(
    mut connection: SqliteConnection,
    folder: Folder,
    bus: Bus,
) -> sqlx::Result<(Writer, WriterTask)> {
    let (sender, requests) = mpsc::channel(WAITING);
    let next_due = rows::next_due(&mut connection).await?;
    let mut task = WriterTask { connection, bus, requests, next_due, _folder: folder };
    task.change_what_is_due().await?;
    Ok((Writer(sender), task))
}

impl WriterTask {
    /// Works until `stop` is cancelled, then closes the database.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = match self.change_what_is_due().await {
                Ok(()) => self.until_next_due(),
                Err(error) => {
                    tracing::error!("hub database: {error}");
                    AFTER_FAILURE
                }
            };
            let request = tokio::select! {
                request = self.requests.recv() => request,
                () = sleep(pause) => continue,
                () = stop.cancelled() => break,
            };
            let Some(ChangeRequest { change, by, reply }) = request else { break };
            // A caller that has gone away misses the answer alone: the change is made.
            let _ = reply.send(self.carry_out(change, &by).await);
        }
        if let Err(error) = self.connection.close().await {
            tracing::error!("hub database: {error}");
        }
    }

    fn until_next_due(&self) -> Duration {
        self.next_due.map_or(LONGEST_SLEEP, |next| next.since(Millis::now()).min(LONGEST_SLEEP))
    }

    /// Ends claims and offers whose time is over.
    async fn change_what_is_due(&mut self) -> sqlx::Result<()> {
        loop {
            let now = Millis::now();
            if self.next_due.is_none_or(|next| next > now) {
                return Ok(());
            }
            let due = rows::due_tasks(&mut self.connection, now).await?;
            if due.is_empty() {
                self.next_due = rows::next_due(&mut self.connection).await?;
                continue;
            }
            let mut events = Vec::new();
            let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
            for mut task in due {
                let event = task.elapse(now);
                // Written back even if nothing changed: the row may have named a wrong time.
                rows::update_task(&mut transaction, &task).await?;
                events.extend(event.map(|event| (event, task)));
            }
            transaction.commit().await?;
            for (event, task) in events {
                self.bus.publish(event, &task, None, None);
            }
        }
    }

    async fn carry_out(&mut self, change: Change, by: &Actor) -> Result<Value, Refusal> {
        let now = Millis::now();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut events = Vec::new();
        let result = apply(&mut transaction, change, by, now, &mut events).await?;
        transaction.commit().await?;
        for PendingEvent { event, task, is_ours, extra } in events {
            self.next_due = [self.next_due, task.due()].into_iter().flatten().min();
            let name = is_ours.then_some(by.name.as_str());
            self.bus.publish(event, &task, name, extra.map(|message| ("message", message)));
        }
        Ok(result)
    }
}

/// An event that is published once the change is in the database.
struct PendingEvent {
    event: EventKind,
    task: Task,
    /// Whether the actor of the request caused it, and not a claim or an offer whose time was over.
    is_ours: bool,
    extra: Option<Value>,
}

async fn apply(
    connection: &mut SqliteConnection,
    change: Change,
    by: &Actor,
    now: Millis,
    events: &mut Vec<PendingEvent>,
) -> Result<Value, Refusal> {
    match change {
        Change::MakeTask { scope, new } => {
            let task = rows::insert_task(connection, &scope, new, by, now).await?;
            let value = task.to_value();
            events.push(PendingEvent { event: EventKind::Created, task, is_ours: true, extra: None });
            Ok(value)
        }
        Change::EditTask { scope, id, actions } => {
            let mut task = rows::find_task(connection, &scope, &id).await?;
            // The timer may be a moment late.
            if let Some(event) = task.elapse(now) {
                events.push(PendingEvent { event, task: task.clone(), is_ours: false, extra: None });
            }
            for action in actions {
                let event = task.apply(action, by, now)?;
                events.push(PendingEvent { event, task: task.clone(), is_ours: true, extra: None });
            }
            rows::update_task(connection, &task).await?;
            Ok(task.to_value())
        }
        Change::AddMessage { scope, id, parts } => {
            let task = rows::find_task(connection, &scope, &id).await?;
            let message = rows::insert_message(connection, task.id, parts, by, now).await?;
            let extra = Some(message.clone());
            events.push(PendingEvent { event: EventKind::Message, task, is_ours: true, extra });
            Ok(message)
        }
        Change::MakeOrganization { profile } => orgs::make_organization(connection, profile, now).await,
        Change::EditOrganization { organization, profile } => {
            orgs::change_organization(connection, &organization, profile).await
        }
        Change::MakeProject { organization, profile } => {
            orgs::make_project(connection, &organization, profile, now).await
        }
        Change::EditProject { organization, project, profile } => {
            orgs::change_project(connection, &organization, &project, profile).await
        }
    }
}
