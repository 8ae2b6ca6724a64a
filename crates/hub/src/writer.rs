//! The one task that changes anything. It owns the connection that writes, ends claims and offers when their
//! time is over, and tells subscribers in the order in which things happened. Changes that wait are committed
//! together; none is answered or told before it is on the disk. A caller that goes away stops nothing
//! half-way.
//!
//! - `batch`: one transaction.
//! - `audit`: the trail of what happened.
//! - `event_log`: what the hubs that share a database tell each other.
//! - `retention`: what is deleted for its age.
//! - `work`: what the task does all day.

mod audit;
mod batch;
mod event_log;
mod retention;
mod work;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::access::keys::{self, Grant};
use crate::access::secret::Secret;
use crate::announced;
use crate::bus::Bus;
use crate::error::{Failure, Refusal};
use crate::input::{NewTask, Profile};
use crate::orgs;
use crate::rows::{self, Scope};
use crate::sql::{Connection, run_all};
use crate::store::{Database, Folder};
use crate::task::{Action, Actor, By, EventKind, Task};
use crate::time::Millis;

pub(crate) use event_log::Follower;
pub(crate) use work::WriterTask;

/// How many changes may wait; callers with more wait until there is room.
const WAITING: usize = 256;

/// A change that somebody wants.
#[derive(Debug)]
pub(crate) enum Change {
    MakeTask {
        scope: Scope,
        new: NewTask,
    },
    /// The message, if any, and all of the actions, or nothing of it.
    EditTask {
        scope: Scope,
        id: String,
        message: Option<Vec<Value>>,
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
    /// Takes an invitation; the key is kept for its actor.
    Redeem {
        invitation: Secret,
        key: Secret,
        /// Of who takes it.
        address: IpAddr,
    },
    /// When keys, by their ids, were last used.
    NoteUses {
        uses: Vec<(i64, Millis)>,
    },
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    requests: mpsc::Sender<ChangeRequest>,
    state: watch::Receiver<WriterState>,
}

/// Whether changes can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriterState {
    Ready,
    /// The database cannot be written, for a reason that callers may read; it is tried again until it can.
    Failing {
        reason: String,
    },
}

#[derive(Debug)]
struct ChangeRequest {
    change: Change,
    by: By,
    reply: oneshot::Sender<Result<Changed, Refusal>>,
}

/// What was changed, as it is now.
#[derive(Debug)]
pub(crate) enum Changed {
    Task {
        task: Arc<Task>,
        /// The one that was posted with the change.
        message: Option<Value>,
    },
    Other(Value),
}

impl Changed {
    fn task(task: Arc<Task>) -> Self {
        Self::Task { task, message: None }
    }
}

impl Serialize for Changed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Task { task, .. } => task.serialize(serializer),
            Self::Other(value) => value.serialize(serializer),
        }
    }
}

impl Writer {
    /// How many changes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Makes a change; gives the changed thing.
    ///
    /// # Errors
    /// The refusal of a change that the task's state or a limit does not allow, and one where the hub ends or
    /// cannot write.
    pub(crate) async fn change(&self, change: Change, by: By) -> Result<Changed, Refusal> {
        let ended = || Refusal::unavailable("the hub is shutting down");
        let (reply, answer) = oneshot::channel();
        self.requests.send(ChangeRequest { change, by, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Whether changes can be made at this moment.
    pub(crate) fn state(&self) -> WriterState {
        self.state.borrow().clone()
    }
}

/// A writer on a connection to the database in a folder. Claims and offers whose time ran out
/// while no hub was running are ended at once; what is over is deleted once it was kept for so long.
pub(crate) async fn writer(
    database: Database,
    connection: Connection,
    folder: Folder,
    setup: Setup,
) -> sqlx::Result<(Writer, WriterTask)> {
    let (sender, requests) = mpsc::channel(WAITING);
    let (state_sender, state) = watch::channel(WriterState::Ready);
    let task = WriterTask::new(database, connection, folder, setup, requests, state_sender).await?;
    Ok((Writer { requests: sender, state }, task))
}

/// What a writer does besides writing.
#[derive(Debug)]
pub(crate) struct Setup {
    /// How long what is over is kept; for ever without.
    pub(crate) keep: Option<Duration>,
    /// Who is told.
    pub(crate) bus: Bus,
    /// Where it is counted how many changes each commit is of.
    pub(crate) batches: Histogram,
}

/// What happened to a task: it is told, and kept in the audit trail, with the change itself.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    pub(crate) event: EventKind,
    /// The task before; none of one that was made.
    pub(crate) before: Option<Arc<Task>>,
    /// The task as it is now.
    pub(crate) task: Arc<Task>,
    /// Who caused it; nobody where a claim's or an offer's time was over.
    pub(crate) by: Option<Actor>,
    /// The message that was posted.
    pub(crate) message: Option<Value>,
}

impl PendingEvent {
    /// What time alone did.
    fn of_time(event: EventKind, before: Arc<Task>, task: Arc<Task>) -> Self {
        Self { event, before: Some(before), task, by: None, message: None }
    }

    /// A task was made.
    fn of_new(task: Arc<Task>) -> Self {
        let by = Some(task.source.clone());
        Self { event: EventKind::Created, before: None, task, by, message: None }
    }
}

/// Makes tasks with what belongs to each. What fails must be rolled back by the caller.
async fn make_tasks(connection: &mut Connection, tasks: &mut [Task], now: Millis) -> Result<(), Failure> {
    rows::insert_tasks(connection, tasks, now).await?;
    Ok(announced::add_of_tasks(connection, tasks).await?)
}

/// Makes a change, adding what happened to `events`. What fails must be rolled back by the caller.
async fn apply(
    connection: &mut Connection,
    change: Change,
    by: &By,
    now: Millis,
    events: &mut Vec<PendingEvent>,
) -> Result<Changed, Failure> {
    let value = match change {
        Change::MakeTask { scope, new } => {
            let mut task = rows::task_to_make(scope, new, by.actor.clone(), now);
            make_tasks(connection, std::slice::from_mut(&mut task), now).await?;
            let task = Arc::new(task);
            events.push(PendingEvent::of_new(task.clone()));
            return Ok(Changed::task(task));
        }
        Change::EditTask { scope, id, message, actions } => {
            return edit(connection, (&scope, &id), message, actions, by, now, events).await;
        }
        Change::AddMessage { scope, id, parts } => {
            let task = rows::find_task(connection, &scope, &id, &by.view()).await?;
            post(connection, &Arc::new(task), parts, by, now, events).await?
        }
        Change::MakeOrganization { profile } => orgs::make_organization(connection, profile, now).await?,
        Change::EditOrganization { organization, profile } => {
            orgs::change_organization(connection, &organization, profile).await?
        }
        Change::MakeProject { organization, profile } => {
            orgs::make_project(connection, &organization, profile, now).await?
        }
        Change::EditProject { organization, project, profile } => {
            orgs::change_project(connection, &organization, &project, profile).await?
        }
        Change::Redeem { invitation, key, address } => {
            let taken = keys::redeem(connection, &invitation, &key, address, now).await?;
            let Grant { actor, is_admin, .. } = taken.ok_or_else(|| {
                Refusal::forbidden(
                    "this invitation is unknown here, was taken or is over: ask for another one",
                )
            })?;
            json!({ "actor": actor, "admin": is_admin })
        }
        Change::NoteUses { uses } => {
            keys::note_uses(connection, &uses).await?;
            Value::Null
        }
    };
    Ok(Changed::Other(value))
}

/// Writes back a task that was changed, and, if `announces_anew`, the keys that it names.
async fn write_back(connection: &mut Connection, task: &Task, announces_anew: bool) -> sqlx::Result<()> {
    let mut statements = vec![rows::update_task(task)];
    if announces_anew {
        statements.push(announced::remove(task));
    }
    run_all(connection, statements).await?;
    if announces_anew { announced::add_again(connection, task).await } else { Ok(()) }
}

/// Posts a message on a task; gives it as it stands there.
async fn post(
    connection: &mut Connection,
    task: &Arc<Task>,
    parts: Vec<Value>,
    by: &By,
    now: Millis,
    events: &mut Vec<PendingEvent>,
) -> Result<Value, Failure> {
    let message = rows::insert_message(connection, task.id, parts, &by.actor, now).await?;
    announced::add_of_message(connection, task, &message["parts"]).await?;
    events.push(PendingEvent {
        event: EventKind::Message,
        before: Some(task.clone()),
        task: task.clone(),
        by: Some(by.actor.clone()),
        message: Some(message.clone()),
    });
    Ok(message)
}

/// Posts a message on a task, if there is one, and does all of the actions to it, or fails.
async fn edit(
    connection: &mut Connection,
    (scope, id): (&Scope, &str),
    message: Option<Vec<Value>>,
    actions: Vec<Action>,
    by: &By,
    now: Millis,
    events: &mut Vec<PendingEvent>,
) -> Result<Changed, Failure> {
    let mut task = rows::find_task(connection, scope, id, &by.view()).await?;
    let was_open = task.status.is_open();
    let edits_payload = |action: &Action| matches!(action, Action::Edit(edit) if edit.payload.is_some());
    let is_edited = actions.iter().any(edits_payload);
    // What it is, whatever was done last.
    let mut latest = Arc::new(task.clone());
    // The timer may be a moment late.
    if let Some(event) = task.elapse(now) {
        let before = std::mem::replace(&mut latest, Arc::new(task.clone()));
        events.push(PendingEvent::of_time(event, before, latest.clone()));
    }
    // Before the actions: whoever hears of them has heard it by then.
    let message = match message {
        Some(parts) => Some(post(connection, &latest, parts, by, now, events).await?),
        None => None,
    };
    for action in actions {
        let event = task.apply(action, by, now)?;
        let (task, by) = (Arc::new(task.clone()), Some(by.actor.clone()));
        let before = Some(std::mem::replace(&mut latest, task.clone()));
        events.push(PendingEvent { event, before, task, by, message: None });
    }
    write_back(connection, &task, is_edited || was_open != task.status.is_open()).await?;
    Ok(Changed::Task { task: latest, message })
}
