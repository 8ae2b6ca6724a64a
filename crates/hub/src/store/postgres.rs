//! A PostgreSQL database, which several hubs may share.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

use super::STATEMENTS;
use crate::error::Error;
use crate::sql::within;

/// The tables, as the steps that made them: see [`crate::migrations`].
const STEPS: [&str; 4] = [
    include_str!("../../migrations/postgres/1.sql"),
    include_str!("../../migrations/postgres/2.sql"),
    include_str!("../../migrations/postgres/3.sql"),
    include_str!("../../migrations/postgres/4.sql"),
];
/// The newest version that this hub knows.
const NEWEST: i64 = STEPS.len() as i64;
/// What a hub holds while it makes tables: the first bytes of a hash of what it is for.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7023469801356177409)";
/// How many reads are served at once.
const READERS: u32 = 8;
/// How long a connection may take to be made, and a reader to wait for one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For how long a connection that nobody used is taken for sound, and how long it may take to show that it
/// is.
const TRUSTED: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// What each connection begins with: a hub that the network has lost is soon forgotten, whatever the server
/// is set to.
const KEEPALIVE: &str = "
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 25000;";
/// What one that reads begins with besides: what the hub no longer waits for does not go on for long.
const READER: &str = "SET statement_timeout = '15s';";
/// What one that writes begins with besides. A hub that stops with the lock in its hands is cut from the
/// database, and none waits for it without end; what is acknowledged is on the disk, whatever the database is
/// set to.
const WRITER: &str = "
    SET idle_in_transaction_session_timeout = '10s';
    SET lock_timeout = '15s';
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off'";

/// Where a PostgreSQL database is, and who the hub is there. Neither `Debug` nor `Display` shows the
/// password.
#[derive(Clone)]
pub struct PostgresUrl {
    options: PgConnectOptions,
}

impl PostgresUrl {
    /// Reads a URL as PostgreSQL's own programs do: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with
    /// `?sslmode=verify-full` and others behind it. What is missing is taken from the variables of PostgreSQL
    /// (`PGPASSWORD` and its like), and the password from `~/.pgpass`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url: url::Url = text.trim().parse().map_err(|error| format!("it is no URL: {error}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("it must begin with postgres://".into());
        }
        let is_named = |name: &str| url.query_pairs().any(|(key, _)| key == name);
        if url.path().trim_start_matches('/').is_empty() && !is_named("dbname") {
            return Err("it must name a database: postgres://USER@HOST/DATABASE".into());
        }
        let options: PgConnectOptions = url.as_str().parse().map_err(|error: sqlx::Error| match error {
            sqlx::Error::Configuration(error) => error.to_string(),
            _ => "it cannot be read".into(),
        })?;
        let options = options.application_name("ats-p2p hub").statement_cache_capacity(STATEMENTS);
        Ok(Self { options })
    }

    /// A connection that writes.
    pub(super) async fn connect(&self) -> sqlx::Result<PgConnection> {
        let connected = async {
            let mut connection = self.options.connect().await?;
            sqlx::raw_sql(KEEPALIVE).execute(&mut connection).await?;
            sqlx::raw_sql(WRITER).execute(&mut connection).await?;
            Ok(connection)
        };
        within(CONNECT_TIMEOUT, connected).await
    }

    /// So many connections, made when they are needed. One that was not used for a moment is tried before it
    /// is used: the database may have been restarted.
    pub(super) fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for < TRUSTED {
                        return Ok(true);
                    }
                    // A network that is gone says nothing: the next one may be sound.
                    Ok(within(PING_TIMEOUT, connection.ping()).await.is_ok())
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(KEEPALIVE).execute(&mut *connection).await?;
                    sqlx::raw_sql(READER).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    pub(super) fn readers(&self) -> PgPool {
        self.pool(READERS)
    }

    /// Brings the tables up to date, one hub at a time.
    ///
    /// # Errors
    /// They can't be made, or a newer hub made them.
    pub(super) async fn migrate(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let failed = |error: sqlx::Error| self.unusable(error.to_string());
        let encoding: String =
            sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await.map_err(failed)?;
        if encoding != "UTF8" {
            return Err(self.unusable(format!("its encoding is {encoding}, and must be UTF8")));
        }
        let found = migrate(connection).await.map_err(failed)?;
        if found > NEWEST {
            return Err(Error::NewerDatabase { database: self.to_string(), found, known: NEWEST });
        }
        Ok(())
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Database { database: self.to_string(), reason }
    }
}

/// Makes what tables are missing; gives the version that they then have.
async fn migrate(connection: &mut PgConnection) -> sqlx::Result<i64> {
    loop {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(LOCK).execute(&mut *transaction).await?;
        sqlx::raw_sql(
            "SET LOCAL client_min_messages = warning;
             CREATE TABLE IF NOT EXISTS hub_schema (version BIGINT PRIMARY KEY)",
        )
        .execute(&mut *transaction)
        .await?;
        let version: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM hub_schema")
            .fetch_one(&mut *transaction)
            .await?;
        let step = usize::try_from(version).ok().and_then(|version| STEPS.get(version));
        let Some(step) = step else {
            transaction.commit().await?;
            return Ok(version);
        };
        sqlx::raw_sql(*step).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO hub_schema (version) VALUES ($1)")
            .bind(version + 1)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.options.get_database().unwrap_or_default();
        match self.options.get_socket() {
            Some(socket) => write!(f, "postgres:{}/{database}", socket.display()),
            None => {
                write!(f, "postgres://{}:{}/{database}", self.options.get_host(), self.options.get_port())
            }
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_its_password_never_shown() {
        let url = PostgresUrl::parse("postgres://hub:s3cret@db.example:5433/tasks\n").expect("a URL");
        assert_eq!(url.to_string(), "postgres://db.example:5433/tasks");
        assert!(!format!("{url:?}").contains("s3cret"));
        let url = PostgresUrl::parse("postgresql://hub@db/tasks?password=s3cret").expect("a URL");
        assert_eq!(url.to_string(), "postgres://db:5432/tasks");
        assert!(!format!("{url:?}").contains("s3cret"));
        for wrong in
            ["", "tasks", "mysql://u:s3cret@h/d", "postgres://u:s3cret@h", "postgres://u:s3cret@h:x/d"]
        {
            let error = PostgresUrl::parse(wrong).expect_err(wrong);
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
