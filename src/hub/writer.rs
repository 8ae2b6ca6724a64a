//! The one task that changes anything. It owns the connection that writes, ends claims when their time is
//! over, and tells subscribers in the order in which things happened. A caller that goes away stops
//! nothing half-way.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::bus::Bus;
use super::error::Refusal;
use super::input::{NewTask, Place};
use super::places;
use super::rows::{self, Scope};
use super::store::Folder;
use super::task::{Action, Actor, Happening, Task};
use super::time::Millis;

/// How many changes wait before their callers do.
const WAITING: usize = 64;
/// The longest sleep: the wall clock may jump, and a machine may sleep, without a timer noticing.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// How long to wait after the database failed while ending claims.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A change that somebody wants.
#[derive(Debug)]
pub(super) enum Change {
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
        place: Place,
    },
    EditOrganization {
        organization: String,
        place: Place,
    },
    MakeProject {
        organization: String,
        place: Place,
    },
    EditProject {
        organization: String,
        project: String,
        place: Place,
    },
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Order>);

#[derive(Debug)]
struct Order {
    change: Change,
    by: Actor,
    reply: oneshot::Sender<Result<Value, Refusal>>,
}

impl Writer {
    /// Has something changed; gives what came of it, as it is sent.
    pub(super) async fn change(&self, change: Change, by: Actor) -> Result<Value, Refusal> {
        let ended = || Refusal::unavailable("the hub is shutting down");
        let (reply, answer) = oneshot::channel();
        self.0.send(Order { change, by, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// The writer's own side; [`Duty::run`] does the work.
#[derive(Debug)]
pub(super) struct Duty {
    connection: SqliteConnection,
    bus: Bus,
    orders: mpsc::Receiver<Order>,
    /// No claim ends before this.
    next_lapse: Option<Millis>,
    /// Another hub must not have it before the database is closed.
    _folder: Folder,
}

/// A writer on a connection to the database in a folder, telling a bus. Claims whose time ran out while
/// nobody watched are ended at once.
pub(super) async fn writer(
    mut connection: SqliteConnection,
    folder: Folder,
    bus: Bus,
) -> sqlx::Result<(Writer, Duty)> {
    let (sender, orders) = mpsc::channel(WAITING);
    let next_lapse = rows::next_lapse(&mut connection).await?;
    let mut duty = Duty { connection, bus, orders, next_lapse, _folder: folder };
    duty.end_lapsed_claims().await?;
    Ok((Writer(sender), duty))
}

impl Duty {
    /// Works until it is told to stop, then closes the database.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = match self.end_lapsed_claims().await {
                Ok(()) => self.until_next_lapse(),
                Err(error) => {
                    tracing::error!("hub database: {error}");
                    AFTER_FAILURE
                }
            };
            let order = tokio::select! {
                order = self.orders.recv() => order,
                () = sleep(pause) => continue,
                () = stop.cancelled() => break,
            };
            let Some(Order { change, by, reply }) = order else { break };
            // A caller that has gone away wanted it done all the same.
            let _ = reply.send(self.carry_out(change, &by).await);
        }
        if let Err(error) = self.connection.close().await {
            tracing::error!("hub database: {error}");
        }
    }

    fn until_next_lapse(&self) -> Duration {
        self.next_lapse.map_or(LONGEST_SLEEP, |next| next.since(Millis::now()).min(LONGEST_SLEEP))
    }

    /// Ends the claims whose time is over.
    async fn end_lapsed_claims(&mut self) -> sqlx::Result<()> {
        loop {
            let now = Millis::now();
            if self.next_lapse.is_none_or(|next| next > now) {
                return Ok(());
            }
            let lapsed = rows::lapsed_tasks(&mut self.connection, now).await?;
            if lapsed.is_empty() {
                self.next_lapse = rows::next_lapse(&mut self.connection).await?;
                continue;
            }
            let mut ended = Vec::new();
            let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
            for mut task in lapsed {
                if let Some(happening) = task.lapse(now) {
                    rows::update_task(&mut transaction, &task).await?;
                    ended.push((happening, task));
                }
            }
            transaction.commit().await?;
            for (happening, task) in ended {
                self.bus.publish(happening, &task, None, None);
            }
        }
    }

    async fn carry_out(&mut self, change: Change, by: &Actor) -> Result<Value, Refusal> {
        let now = Millis::now();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut told = Vec::new();
        let result = apply(&mut transaction, change, by, now, &mut told).await?;
        transaction.commit().await?;
        for Told { happening, task, is_ours, extra } in told {
            self.next_lapse = [self.next_lapse, task.lease_expires].into_iter().flatten().min();
            let name = is_ours.then_some(by.name.as_str());
            self.bus.publish(happening, &task, name, extra.map(|message| ("message", message)));
        }
        Ok(result)
    }
}

/// What is to be told once it is certain.
struct Told {
    happening: Happening,
    task: Task,
    /// Whether the actor did it; else time did.
    is_ours: bool,
    extra: Option<Value>,
}

async fn apply(
    connection: &mut SqliteConnection,
    change: Change,
    by: &Actor,
    now: Millis,
    told: &mut Vec<Told>,
) -> Result<Value, Refusal> {
    match change {
        Change::MakeTask { scope, new } => {
            let task = rows::insert_task(connection, &scope, new, by, now).await?;
            let value = task.to_value();
            told.push(Told { happening: Happening::Created, task, is_ours: true, extra: None });
            Ok(value)
        }
        Change::EditTask { scope, id, actions } => {
            let mut task = rows::find_task(connection, &scope, &id).await?;
            // The timer may be a moment late; time itself is not.
            if let Some(happening) = task.lapse(now) {
                told.push(Told { happening, task: task.clone(), is_ours: false, extra: None });
            }
            for action in actions {
                let happening = task.apply(action, by, now)?;
                told.push(Told { happening, task: task.clone(), is_ours: true, extra: None });
            }
            rows::update_task(connection, &task).await?;
            Ok(task.to_value())
        }
        Change::AddMessage { scope, id, parts } => {
            let task = rows::find_task(connection, &scope, &id).await?;
            let message = rows::insert_message(connection, task.id, parts, by, now).await?;
            let extra = Some(message.clone());
            told.push(Told { happening: Happening::Message, task, is_ours: true, extra });
            Ok(message)
        }
        Change::MakeOrganization { place } => places::make_organization(connection, place, now).await,
        Change::EditOrganization { organization, place } => {
            places::change_organization(connection, &organization, place).await
        }
        Change::MakeProject { organization, place } => {
            places::make_project(connection, &organization, place, now).await
        }
        Change::EditProject { organization, project, place } => {
            places::change_project(connection, &organization, &project, place).await
        }
    }
}
