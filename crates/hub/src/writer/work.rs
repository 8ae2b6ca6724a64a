//! The writer's own side: what waits is committed together, what is due is ended in time, and a database that
//! fails is opened anew until it works again.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::{ChangeRequest, PendingEvent, Setup, WriterState, retention};
use crate::error::Refusal;
use crate::rows;
use crate::sql::{Connection, within};
use crate::store::{Database, Folder};
use crate::time::{Clock, Millis};

/// The most changes in one transaction: few enough that the first of them does not wait long for the last.
const MAX_BATCH: usize = 128;
/// The longest sleep: the wall clock may jump, and a machine may sleep, without a timer noticing.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// The same where other hubs write the database too: what they made due, they may not live to end.
const LONGEST_SHARED_SLEEP: Duration = Duration::from_secs(1);
/// How long a database on another machine may take for one batch.
const SHARED_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to say what the time is and what is due next: a network that loses everything without
/// a word shows here first.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a database that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long the end of a connection may take after its database failed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What does the writing; [`WriterTask::run`] is all of it.
#[derive(Debug)]
pub(crate) struct WriterTask {
    database: Database,
    /// What is judged by: see [`Database::clock`].
    clock: Clock,
    /// None while the database fails.
    connection: Option<Connection>,
    state: watch::Sender<WriterState>,
    setup: Setup,
    requests: mpsc::Receiver<ChangeRequest>,
    /// No task is due before this.
    next_due: Option<Millis>,
    next_clean_up: Instant,
    /// Held until the database is closed, so that no other hub opens it before.
    _folder: Folder,
}

impl WriterTask {
    /// A writer on a connection to the database. Claims and offers whose time ran out while no hub was
    /// running are ended at once.
    pub(super) async fn new(
        database: Database,
        mut connection: Connection,
        folder: Folder,
        setup: Setup,
        requests: mpsc::Receiver<ChangeRequest>,
        state: watch::Sender<WriterState>,
    ) -> sqlx::Result<Self> {
        let clock = database.clock();
        let next_due = next_due(&mut connection, &clock).await?;
        let mut task = Self {
            database,
            clock,
            connection: Some(connection),
            state,
            setup,
            requests,
            next_due,
            next_clean_up: Instant::now(),
            _folder: folder,
        };
        task.end_what_is_due().await?;
        Ok(task)
    }

    /// Works until `stop` is cancelled, then closes the database.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while let Some((doing, result)) = self.turn(&stop).await {
            if let Err(error) = result {
                self.fail(doing, &error).await;
            }
        }
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::error!("the hub's database cannot be closed: {error}");
        }
    }

    /// Does what is next, and says what that was; nothing once the hub ends.
    async fn turn(&mut self, stop: &CancellationToken) -> Option<(&'static str, sqlx::Result<()>)> {
        if self.connection.is_none() {
            return self.wait_for_database(stop).await.then_some(("starting to write again", Ok(())));
        }
        let is_shared = self.connection.as_ref().is_some_and(Connection::is_shared);
        if let Err(error) = in_time(is_shared, self.end_what_is_due()).await {
            return Some(("ending what is over", Err(error)));
        }
        if let Err(error) = in_time(is_shared, self.clean_up()).await {
            return Some(("deleting what is old", Err(error)));
        }
        let longest = if is_shared { LONGEST_SHARED_SLEEP } else { LONGEST_SLEEP };
        let until_due = self.next_due.map_or(longest, |next| next.since(self.clock.now()));
        let until_clean_up = self.next_clean_up.saturating_duration_since(Instant::now());
        let pause = until_due.min(until_clean_up).min(longest);
        let first = tokio::select! {
            request = self.requests.recv() => request?,
            () = sleep(pause) => return Some(("waiting", self.look_for_due().await)),
            () = stop.cancelled() => return None,
        };
        let requests = self.gather(first);
        Some(("making changes", self.carry_out(requests).await))
    }

    /// Finds out when the next task is due, where other hubs change that too.
    async fn look_for_due(&mut self) -> sqlx::Result<()> {
        if let Some(connection) = self.connection.as_mut().filter(|connection| connection.is_shared()) {
            self.next_due = within(LOOK_TIMEOUT, next_due(connection, &self.clock)).await?;
        }
        Ok(())
    }

    /// The changes that wait, as many as go into one transaction.
    fn gather(&mut self, first: ChangeRequest) -> Vec<ChangeRequest> {
        let mut requests = vec![first];
        while requests.len() < MAX_BATCH
            && let Ok(request) = self.requests.try_recv()
        {
            requests.push(request);
        }
        requests
    }

    /// Makes changes and answers each, once all of them are on the disk. A caller that has gone away misses
    /// the answer alone.
    async fn carry_out(&mut self, requests: Vec<ChangeRequest>) -> sqlx::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut replies = Vec::with_capacity(requests.len());
        let mut changes = Vec::with_capacity(requests.len());
        for ChangeRequest { change, by, reply } in requests {
            replies.push(reply);
            changes.push((change, by));
        }
        self.setup.batches.observe(changes.len() as f64);
        let is_shared = connection.is_shared();
        // Once it is being committed, a change may have been made even where the database is lost.
        let mut is_uncertain = false;
        let committed = async {
            let mut batch = Batch::begin(connection, &self.clock).await?;
            let made = batch.make_all(changes).await?;
            is_uncertain = is_shared;
            Ok((made, batch.commit().await?))
        };
        match in_time(is_shared, committed).await {
            Ok((made, events)) => {
                let mut events = events.into_iter();
                let mut told = 0;
                for (reply, made) in replies.into_iter().zip(made) {
                    self.tell(events.by_ref().take(made.events - told));
                    told = made.events;
                    let _ = reply.send(made.answer);
                }
                Ok(())
            }
            Err(error) => {
                let refusal = match is_uncertain {
                    true => uncertain(&reason(&error)),
                    false => unwritable(&reason(&error)),
                };
                for reply in replies {
                    let _ = reply.send(Err(refusal.clone()));
                }
                Err(error)
            }
        }
    }

    /// Ends claims and offers whose time is over.
    async fn end_what_is_due(&mut self) -> sqlx::Result<()> {
        loop {
            let Some(connection) = &mut self.connection else { return Ok(()) };
            if self.next_due.is_none_or(|next| next > self.clock.now()) {
                return Ok(());
            }
            let mut batch = Batch::begin(connection, &self.clock).await?;
            let found = batch.end_what_is_due().await?;
            let events = batch.commit().await?;
            if !found {
                self.next_due = next_due(connection, &self.clock).await?;
            }
            self.tell(events);
        }
    }

    /// Deletes a few of the tasks that were kept for long enough, if it is time for that. Whoever waits for a
    /// change comes between any two calls.
    async fn clean_up(&mut self) -> sqlx::Result<()> {
        let Some(connection) = self.connection.as_mut().filter(|_| self.next_clean_up <= Instant::now())
        else {
            return Ok(());
        };
        let mut batch = Batch::begin(connection, &self.clock).await?;
        let found = match self.setup.keep {
            Some(keep) => batch.clean_up(keep).await?,
            None => false,
        };
        if !found {
            batch.forget().await?;
        }
        let events = batch.commit().await?;
        if !found {
            let pause = self
                .setup
                .keep
                .map_or(retention::EVERY, |keep| keep.clamp(retention::OFTEN, retention::EVERY));
            self.next_clean_up = Instant::now() + pause;
        }
        self.tell(events);
        Ok(())
    }

    /// Tells subscribers what is on the disk now.
    fn tell(&mut self, events: impl IntoIterator<Item = PendingEvent>) {
        for PendingEvent { event, task, by, message, .. } in events {
            self.next_due = [self.next_due, task.due()].into_iter().flatten().min();
            if self.connection.as_ref().is_some_and(Connection::is_shared) {
                // The subscribers of all hubs are told from the log.
                continue;
            }
            let name = by.as_ref().map(|actor| actor.name.as_str());
            self.setup.bus.publish(event, &task, name, message.as_ref());
        }
    }

    /// Gives up the connection, which is in no known state: SQLite ends a transaction by itself on some
    /// errors and not on others.
    async fn fail(&mut self, doing: &str, error: &sqlx::Error) {
        let reason = reason(error);
        tracing::error!("the hub cannot write, {doing}: {error}; it tries again until it can");
        self.state.send_replace(WriterState::Failing { reason });
        if let Some(connection) = self.connection.take() {
            // Whether it ends well does not matter any more.
            let _ = timeout(CLOSE_TIMEOUT, connection.close_hard()).await;
        }
    }

    /// Refuses changes until the database can be written again; false if the hub ends before.
    async fn wait_for_database(&mut self, stop: &CancellationToken) -> bool {
        let reason = match &*self.state.borrow() {
            WriterState::Failing { reason } => reason.clone(),
            WriterState::Ready => String::new(),
        };
        let mut next_try = tokio::time::interval(RETRY);
        next_try.reset();
        loop {
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => drop(request.reply.send(Err(unwritable(&reason)))),
                    None => return false,
                },
                _ = next_try.tick() => match self.open_again().await {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        self.state.send_replace(WriterState::Ready);
                        tracing::info!("the hub can write again");
                        return true;
                    }
                    Err(error) => tracing::debug!("the hub still cannot write: {error}"),
                },
                () = stop.cancelled() => return false,
            }
        }
    }

    /// A connection on which something has been written.
    async fn open_again(&mut self) -> sqlx::Result<Connection> {
        let mut connection = self.database.writer().await?;
        let is_shared = connection.is_shared();
        let tried = async {
            let now = connection.begin().await?;
            rows::write_probe(&mut connection, now).await?;
            connection.commit().await?;
            next_due(&mut connection, &self.clock).await
        };
        self.next_due = in_time(is_shared, tried).await?;
        Ok(connection)
    }
}

/// When the next task is due by the database's clock, which is heard for that.
async fn next_due(connection: &mut Connection, clock: &Clock) -> sqlx::Result<Option<Millis>> {
    if connection.is_shared() {
        clock.hear(connection.time().await?);
    }
    rows::next_due(connection).await
}

/// The end of what is asked of the database, or, where that may be on another machine, the error that it
/// takes too long.
async fn in_time<T>(is_shared: bool, asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    if is_shared { within(SHARED_TIMEOUT, asked).await } else { asked.await }
}

/// Why the database cannot be written, for those who ask the hub; its log says more.
fn reason(error: &sqlx::Error) -> String {
    match error {
        // What SQLite itself says names no path and no value.
        sqlx::Error::Database(error) => error.message().to_owned(),
        _ => "the database cannot be reached".to_owned(),
    }
}

fn uncertain(reason: &str) -> Refusal {
    let message =
        format!("the database was lost while it kept this, which may have happened or not: {reason}");
    Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, message }
}

fn unwritable(reason: &str) -> Refusal {
    Refusal::unavailable(format!("the hub cannot write: {reason}; try again later"))
}
