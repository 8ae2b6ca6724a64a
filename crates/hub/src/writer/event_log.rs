//! The log of events in a database that several hubs share: whoever makes a change adds what subscribers are
//! to be told, with the change itself, and each hub tells its own subscribers what it finds there, in order.
//! A notification only says that there is something new: a hub that missed one finds the event all the same.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::PendingEvent;
use crate::bus::{Bus, Subject, event_text};
use crate::sql::{Connection, EVENTS, Pool, Query, Row, insert_rows, postgres_now, query, within};
use crate::store::Database;
use crate::task::Parties;
use crate::time::{Clock, Millis};

/// How long an event is kept for a hub that is cut from the database; one that comes back later has its
/// subscribers list the tasks.
const KEEP: Duration = Duration::from_secs(60);
/// How often the log is read without a notification, what is old goes from it, and all hubs are woken.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After how long without being woken a connection counts as lost: each hub wakes itself, too.
const DEAF_AFTER: Duration = Duration::from_secs(16);
/// How long a connection that is notified may take to be made.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How many connections it has: see [`Follower`].
const CONNECTIONS: u32 = 2;
/// How many events go at once.
const FORGET: i64 = 20_000;
/// How long it waits before it tries again to reach the database.
const RETRY: Duration = Duration::from_millis(250);
/// How long the end of its connections may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The statements that add events, where other hubs may want to know of them.
pub(super) fn insert(connection: &Connection, events: &[PendingEvent], now: Millis) -> Vec<Query> {
    if !connection.is_shared() {
        return Vec::new();
    }
    let text = "INSERT INTO event_log \
                (at, event, channel, type, source_id, assignee_id, recipient_id, text) VALUES ";
    insert_rows(connection, text, "", events, |PendingEvent { event, task, by, message, .. }| {
        let name = by.as_ref().map(|actor| actor.name.as_str());
        let Subject { event: event_name, channel, task_type, parties } = Subject::new(*event, task);
        [
            now.0.into(),
            event_name.into(),
            channel.into(),
            task_type.into(),
            parties.source.into(),
            parties.assignee.into(),
            parties.recipient.as_deref().into(),
            event_text(*event, task, name, message.as_ref()).into(),
        ]
    })
}

/// Tells the subscribers of one hub what the log says.
pub(crate) struct Follower {
    database: Database,
    /// One connection that is notified, and one that reads.
    pool: PgPool,
    bus: Bus,
    /// The last event that was told.
    last: i64,
}

impl Follower {
    /// One that tells what happens from now on; `None` for a database that no other hub writes.
    pub(crate) async fn start(database: &Database, bus: Bus) -> sqlx::Result<Option<Self>> {
        let Some(pool) = database.shared(CONNECTIONS) else { return Ok(None) };
        let mut connection = reader(&pool).await?;
        let last =
            query("SELECT GREATEST((SELECT MAX(id) FROM event_log), (SELECT gone FROM event_log_end))")
                .fetch_value(&mut connection)
                .await?;
        Ok(Some(Self { database: database.clone(), pool, bus, last }))
    }

    /// Follows the log until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut is_well = true;
        loop {
            let pause = async {
                if let Err(error) = self.follow(&mut is_well).await
                    && std::mem::take(&mut is_well)
                {
                    tracing::warn!(
                        "the hub cannot read the log of events: {error}; it tries again until it can"
                    );
                }
                // Connections that the network has lost without a word may keep their places for long.
                self.pool = self.database.shared(CONNECTIONS).unwrap_or_else(|| self.pool.clone());
                sleep(RETRY).await;
            };
            tokio::select! {
                () = pause => {}
                () = stop.cancelled() => break,
            }
        }
        // Whoever is still at it is cut by the end of the process.
        let _ = timeout(CLOSE_TIMEOUT, self.pool.close()).await;
    }

    /// Follows it until the connection breaks.
    async fn follow(&mut self, is_well: &mut bool) -> sqlx::Result<()> {
        let mut listener = within(LISTEN_TIMEOUT, PgListener::connect_with(&self.pool)).await?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        within(LISTEN_TIMEOUT, listener.listen(EVENTS)).await?;
        let mut reader = reader(&self.pool).await?;
        let mut heard = Instant::now();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let notified = listener.try_recv();
            tokio::pin!(notified);
            // Read before it waits: what was committed before this connection listened has told nobody.
            loop {
                self.catch_up(&mut reader).await?;
                if !std::mem::replace(is_well, true) {
                    tracing::info!("the hub can read the log of events again");
                }
                tokio::select! {
                    notification = &mut notified => match notification? {
                        Some(_) => {
                            heard = Instant::now();
                            break;
                        }
                        None => return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into())),
                    },
                    _ = look.tick() => {
                        if heard.elapsed() >= DEAF_AFTER {
                            return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
                        }
                        forget(&mut reader).await?;
                        query("SELECT pg_notify($1, '')").bind(EVENTS).execute(&mut reader).await?;
                    }
                }
            }
        }
    }

    /// Tells what is new.
    async fn catch_up(&mut self, reader: &mut Connection) -> sqlx::Result<()> {
        let before = self.last;
        let rows = query(
            "SELECT id, event, channel, type, source_id, assignee_id, recipient_id, text FROM event_log \
             WHERE id > $1 ORDER BY id",
        )
        .bind(before);
        let mut rows = rows.fetch(reader);
        while let Some(row) = rows.try_next().await? {
            let text: &str = row.try_get("text")?;
            self.bus.send(&subject(&row)?, || text.to_owned());
            self.last = row.try_get("id")?;
        }
        drop(rows);
        // Looked at after the events were read, so that none goes in between.
        let gone: i64 = query("SELECT gone FROM event_log_end").fetch_value(reader).await?;
        if gone > before {
            tracing::warn!("events of other hubs were lost: subscribers start anew");
            self.last = self.last.max(gone);
            self.bus.end_all();
        }
        Ok(())
    }
}

fn subject(row: &Row) -> sqlx::Result<Subject<'_>> {
    Ok(Subject {
        event: row.try_get("event")?,
        channel: row.try_get("channel")?,
        task_type: row.try_get("type")?,
        parties: Parties {
            source: row.try_get("source_id")?,
            assignee: row.try_get("assignee_id")?,
            recipient: row.try_get::<Option<&str>>("recipient_id")?.map(Cow::Borrowed),
        },
    })
}

/// Deletes the oldest events, by the clock of the database. One hub does so at a time; no writer waits for
/// it.
async fn forget(connection: &mut Connection) -> sqlx::Result<()> {
    query(concat!(
        "WITH free AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(7023469801356177411) AS is_free), \
         old AS (SELECT id FROM event_log, free WHERE is_free AND at < ",
        postgres_now!(),
        " - $1 ORDER BY id LIMIT $2), \
         gone AS (DELETE FROM event_log WHERE id <= (SELECT MAX(id) FROM old) RETURNING id) \
         UPDATE event_log_end SET gone = (SELECT MAX(id) FROM gone) WHERE EXISTS (SELECT 1 FROM gone)",
    ))
    .bind(i64::try_from(KEEP.as_millis()).unwrap_or(i64::MAX))
    .bind(FORGET)
    .execute(connection)
    .await?;
    Ok(())
}

/// A connection that reads.
async fn reader(pool: &PgPool) -> sqlx::Result<Connection> {
    // Its clock is of no use here.
    Pool::Postgres(pool.clone(), Clock::default()).acquire().await
}
