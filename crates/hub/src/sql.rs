//! The database as the rest of the hub sees it: connections, statements and rows. Every statement is written
//! once, with numbered parameters (`$1`).
//!
//! - `query`: statements with their values.

mod query;

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Sqlite, SqliteConnection, SqlitePool};

pub(crate) use query::{Parameter, Query, Row, query};

/// A connection to the database.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    /// Goes back to its pool when it is dropped.
    PooledSqlite(PoolConnection<Sqlite>),
}

/// What statements run on.
enum Handle<'c> {
    Sqlite(&'c mut SqliteConnection),
}

impl Connection {
    fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(connection) => Handle::Sqlite(connection),
            Self::PooledSqlite(connection) => Handle::Sqlite(connection),
        }
    }

    /// Runs statements without values, in one go.
    pub(crate) async fn run(&mut self, statements: &'static str) -> sqlx::Result<()> {
        match self.handle() {
            Handle::Sqlite(connection) => sqlx::raw_sql(statements).execute(connection).await.map(|_| ()),
        }
    }

    /// Begins a transaction that will write: of all that there are at once, one goes on. Where an error or a
    /// caller that goes away ends it without [`Connection::commit`], the connection must not be used again.
    pub(crate) async fn begin(&mut self) -> sqlx::Result<()> {
        self.run("BEGIN IMMEDIATE").await
    }

    /// [`Connection::begin`] with the savepoint `change` at its beginning, in one go.
    pub(crate) async fn begin_with_savepoint(&mut self) -> sqlx::Result<()> {
        self.run("BEGIN IMMEDIATE; SAVEPOINT change").await
    }

    /// Has the transaction kept: it is on the disk once this returns.
    pub(crate) async fn commit(&mut self) -> sqlx::Result<()> {
        self.run("COMMIT").await
    }

    /// Ends the transaction, as if it had never begun.
    pub(crate) async fn roll_back(&mut self) -> sqlx::Result<()> {
        self.run("ROLLBACK").await
    }

    /// The operator that compares a text with a pattern without regard to the case of ASCII letters.
    pub(crate) fn like(&self) -> &'static str {
        match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => " LIKE ",
        }
    }

    /// Closes it.
    pub(crate) async fn close(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::PooledSqlite(connection) => connection.close().await,
        }
    }

    /// Closes it without a word to the database, in whatever state it is.
    pub(crate) async fn close_hard(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close_hard().await,
            Self::PooledSqlite(connection) => connection.detach().close_hard().await,
        }
    }
}

/// Connections that read.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
}

impl Pool {
    /// One of them, once one is free.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Connection> {
        match self {
            Self::Sqlite(pool) => pool.acquire().await.map(Connection::PooledSqlite),
        }
    }

    /// Closes all of them.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}
