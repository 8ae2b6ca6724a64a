//! The database as the rest of the hub sees it: connections, statements and rows. Every statement is written
//! once, with numbered parameters (`$1`).
//!
//! - `query`: statements with their values.

mod query;

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgDatabaseError;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Row as _, Sqlite, SqliteConnection, SqlitePool};
use tokio::time::timeout;

pub(crate) use query::{Parameter, Query, Row, insert_numbered_rows, insert_rows, query, run_all};

use crate::time::{Clock, Millis};

/// PostgreSQL's time in milliseconds, which all hubs on one database go by.
macro_rules! postgres_now {
    () => {
        "CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)"
    };
}
pub(crate) use postgres_now;

/// How PostgreSQL begins a transaction that writes. Of all hubs on one database one holds the lock, so that
/// the numbers of what it adds are in the order of the commits. Each statement behind it has to see what was
/// committed before, whatever the database is set to. The last row is the time, read with the lock held.
macro_rules! begin_postgres {
    ($rest:literal) => {
        concat!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
             SELECT pg_advisory_xact_lock(7023469801356177410)",
            $rest,
            "; SELECT ",
            postgres_now!()
        )
    };
}
/// How PostgreSQL commits what other hubs are to be told of; [`EVENTS`] is the name.
const COMMIT_AND_NOTIFY: &str = "SELECT pg_notify('ats_p2p_events', ''); COMMIT";
/// How long a database on another machine may take for a statement that reads.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to show that a connection may be used again.
const RETURN_TIMEOUT: Duration = Duration::from_secs(2);
/// The channel of PostgreSQL on which hubs wake each other.
pub(crate) const EVENTS: &str = "ats_p2p_events";

/// A connection to the database.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    /// Goes back to its pool when it is dropped.
    PooledSqlite(PoolConnection<Sqlite>),
    Postgres(PgConnection),
    /// Goes back to its pool when it is dropped.
    PooledPostgres(Pooled),
}

/// A connection of a pool, which goes back there when this is dropped if the server answers soon. Where the
/// network is gone without a word it would be missing there for as long as the system waits for an answer.
#[derive(Debug)]
pub(crate) struct Pooled(PoolConnection<Postgres>);

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(RETURN_TIMEOUT, self.0.return_to_pool()));
        }
    }
}

/// What statements run on.
enum Handle<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Connection {
    fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(connection) => Handle::Sqlite(connection),
            Self::PooledSqlite(connection) => Handle::Sqlite(connection),
            Self::Postgres(connection) => Handle::Postgres(connection),
            Self::PooledPostgres(Pooled(connection)) => Handle::Postgres(connection),
        }
    }

    /// Whether other hubs may write the same database.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::PooledPostgres(_))
    }

    /// Runs statements without values, in one go.
    pub(crate) async fn run(&mut self, statements: &'static str) -> sqlx::Result<()> {
        match self.handle() {
            Handle::Sqlite(connection) => sqlx::raw_sql(statements).execute(connection).await.map(|_| ()),
            Handle::Postgres(connection) => sqlx::raw_sql(statements).execute(connection).await.map(|_| ()),
        }
    }

    /// Begins a transaction that will write: of all that there are at once, one goes on. Gives the time of
    /// the database. Where an error or a caller that goes away ends it without [`Connection::commit`], the
    /// connection must not be used again.
    pub(crate) async fn begin(&mut self) -> sqlx::Result<Millis> {
        self.begin_by("BEGIN IMMEDIATE", begin_postgres!("")).await
    }

    /// [`Connection::begin`] with the savepoint `change` at its beginning, in one go.
    pub(crate) async fn begin_with_savepoint(&mut self) -> sqlx::Result<Millis> {
        let (sqlite, postgres) = ("BEGIN IMMEDIATE; SAVEPOINT change", begin_postgres!("; SAVEPOINT change"));
        self.begin_by(sqlite, postgres).await
    }

    async fn begin_by(&mut self, sqlite: &'static str, postgres: &'static str) -> sqlx::Result<Millis> {
        match self.handle() {
            Handle::Sqlite(connection) => {
                sqlx::raw_sql(sqlite).execute(connection).await?;
                Ok(Millis::now())
            }
            Handle::Postgres(connection) => {
                let rows = sqlx::raw_sql(postgres).fetch_all(connection).await?;
                rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0).map(Millis)
            }
        }
    }

    /// The time of the database.
    pub(crate) async fn time(&mut self) -> sqlx::Result<Millis> {
        match self.is_shared() {
            true => query(concat!("SELECT ", postgres_now!())).fetch_value(self).await.map(Millis),
            false => Ok(Millis::now()),
        }
    }

    /// Has the transaction kept: it is on the disk once this returns.
    pub(crate) async fn commit(&mut self) -> sqlx::Result<()> {
        self.run("COMMIT").await
    }

    /// [`Connection::commit`] behind some last statements; wakes the hubs that share the database.
    pub(crate) async fn commit_with(&mut self, mut statements: Vec<Query>) -> sqlx::Result<()> {
        let is_shared = self.is_shared();
        if !is_shared {
            statements.push(query("COMMIT"));
        }
        run_all(self, statements).await?;
        if is_shared { self.run(COMMIT_AND_NOTIFY).await } else { Ok(()) }
    }

    /// Ends the transaction, as if it had never begun.
    pub(crate) async fn roll_back(&mut self) -> sqlx::Result<()> {
        self.run("ROLLBACK").await
    }

    /// The operator that compares a text with a pattern without regard to the case of ASCII letters.
    pub(crate) fn like(&self) -> &'static str {
        if self.is_shared() { " ILIKE " } else { " LIKE " }
    }

    /// How long a statement may take: that of a reader alone is bounded by itself.
    fn patience(&self) -> Option<Duration> {
        matches!(self, Self::PooledPostgres(_)).then_some(READ_TIMEOUT)
    }

    /// Closes it, but for one of a pool, which goes back there.
    pub(crate) async fn close(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::PooledSqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
            Self::PooledPostgres(_) => Ok(()),
        }
    }

    /// [`Connection::close`] without a word to the database, in whatever state it is.
    pub(crate) async fn close_hard(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close_hard().await,
            Self::PooledSqlite(connection) => connection.detach().close_hard().await,
            Self::Postgres(connection) => connection.close_hard().await,
            Self::PooledPostgres(_) => Ok(()),
        }
    }
}

/// Connections that read.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    /// With the clock of its server.
    Postgres(PgPool, Clock),
}

impl Pool {
    /// Whether other hubs may write the same database.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(..))
    }

    /// The time of the database, as far as it is known.
    pub(crate) fn now(&self) -> Millis {
        match self {
            Self::Sqlite(_) => Millis::now(),
            Self::Postgres(_, clock) => clock.now(),
        }
    }

    /// One of them, once one is free.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Connection> {
        match self {
            Self::Sqlite(pool) => pool.acquire().await.map(Connection::PooledSqlite),
            Self::Postgres(pool, _) => pool.acquire().await.map(Pooled).map(Connection::PooledPostgres),
        }
    }

    /// Closes all of them.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool, _) => pool.close().await,
        }
    }
}

/// The end of what is asked of a database on another machine, or the error that it takes longer than this.
pub(crate) async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let too_slow = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    timeout(limit, asked).await.map_err(|_| too_slow())?
}

/// [`within`], where there is a limit.
async fn in_patience<T>(
    limit: Option<Duration>,
    asked: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    match limit {
        Some(limit) => within(limit, asked).await,
        None => asked.await,
    }
}

/// Whether the database could not be reached, or was lost: there is nothing wrong with what was asked of it.
pub(crate) fn is_unreachable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            true
        }
        // Connections that broke, a server with too much to do, and one that stops or starts.
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| ["08", "53", "57"].iter().any(|class| error.code().starts_with(class))),
        _ => false,
    }
}

/// Whether the database has lost the whole transaction with an error, or may have; others concern the one
/// statement that met them.
pub(crate) fn ends_transaction(error: &sqlx::Error) -> bool {
    // SQLite's result codes: ERROR, TOOBIG, CONSTRAINT, MISMATCH and RANGE.
    const OF_THE_STATEMENT: [i32; 5] = [1, 18, 19, 20, 25];
    // PostgreSQL's classes: values, constraints, names and syntax, limits of one statement.
    const CLASSES_OF_THE_STATEMENT: [&str; 4] = ["22", "23", "42", "54"];
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => !CLASSES_OF_THE_STATEMENT.iter().any(|class| error.code().starts_with(class)),
            None => {
                let code = error.code().and_then(|code| code.parse::<i32>().ok());
                // The lowest byte is the kind; what is above it tells more of the cause.
                !code.is_some_and(|code| OF_THE_STATEMENT.contains(&(code & 0xff)))
            }
        },
        sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound => false,
        _ => true,
    }
}
