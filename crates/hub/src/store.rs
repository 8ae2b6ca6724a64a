//! The hub's database: SQLite with a write-ahead log that is synced with each commit, so that neither a
//! process killed at any moment nor a power cut loses what was acknowledged; or PostgreSQL.

mod postgres;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, PgPool, SqliteConnection};

use crate::error::Error;
use crate::migrations;
use crate::sql::{Connection, Pool};
use crate::time::Clock;

pub use postgres::PostgresUrl;

/// The name of the database in its folder.
pub(crate) const DATABASE: &str = "hub.sqlite";
/// How many reads are served at once; each holds a connection with a thread of its own.
const READERS: u32 = 4;
/// How many statements the connection that writes keeps prepared: those that add several rows are one for
/// each number of rows, and those that are given at once one for each way in which they come together.
const STATEMENTS: usize = 512;
/// How many KiB of the database the connection that writes keeps in memory, and each of those that read.
const WRITER_CACHE: u32 = 32 * 1024;
const READER_CACHE: u32 = 8 * 1024;
/// How many pages are written to the write-ahead log before those that are the newest of each go to the
/// database, which is synced then: a page that many changes touch goes there once.
const CHECKPOINT_PAGES: u32 = 4000;
/// How long SQLite waits for its own locks: only a checkpoint ever holds one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many bytes the write-ahead log keeps once its content is in the database.
const JOURNAL_SIZE_LIMIT: &str = "67108864";

/// A folder that this hub alone uses, for as long as this is alive.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder, readable by its owner alone, if there is none.
    pub(crate) fn make(path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.is_dir()).collect();
        let failed = |source| Error::Folder { path: path.to_owned(), source };
        builder.create(path).map_err(failed)?;
        missing.into_iter().filter_map(Path::parent).try_for_each(sync_folder).map_err(failed)
    }

    /// Makes the folder if need be, and takes it.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Folder { path: path.to_owned(), source };
        Self::make(path)?;
        let lock = private_file(&path.join("hub.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::FolderInUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The database of a hub as errors name it: its file, or its URL without user and password.
pub(crate) fn name(data: &Path, url: Option<&PostgresUrl>) -> String {
    url.map_or_else(|| data.join(DATABASE).display().to_string(), ToString::to_string)
}

/// The database of a hub.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite(SqliteConnectOptions),
    /// With the clock of its server, which the writer keeps hearing.
    Postgres(PostgresUrl, Clock),
}

impl Database {
    /// Opens the database, making it or its tables if need be; gives the connection that writes with it.
    pub(crate) async fn open(data: &Path, url: Option<&PostgresUrl>) -> Result<(Self, Connection), Error> {
        match url {
            None => Self::open_file(&data.join(DATABASE)).await,
            Some(url) => {
                let failed = |error: sqlx::Error| Error::Database {
                    database: url.to_string(),
                    reason: error.to_string(),
                };
                let mut writer = url.connect().await.map_err(failed)?;
                url.migrate(&mut writer).await?;
                Ok((Self::Postgres(url.clone(), Clock::default()), Connection::Postgres(writer)))
            }
        }
    }

    async fn open_file(path: &Path) -> Result<(Self, Connection), Error> {
        let failed = |reason: String| Error::Database { database: path.display().to_string(), reason };
        // SQLite gives the files beside it the same permissions.
        private_file(path).map_err(|error| failed(error.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode each commit is synced before it is acknowledged: a power cut loses none.
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
            .pragma("cache_size", kibibytes(READER_CACHE))
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            // What would undo a part of a transaction is in memory: else it is a file.
            .pragma("temp_store", "MEMORY")
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let mut writer = connect(&options).await.map_err(|error| failed(error.to_string()))?;
        let version = migrations::run(&mut writer).await.map_err(|error| failed(error.to_string()))?;
        if version > migrations::NEWEST {
            let (database, known) = (path.display().to_string(), migrations::NEWEST);
            return Err(Error::NewerDatabase { database, found: version, known });
        }
        Ok((Self::Sqlite(options), Connection::Sqlite(writer)))
    }

    /// Another connection that writes.
    pub(crate) async fn writer(&self) -> sqlx::Result<Connection> {
        match self {
            Self::Sqlite(options) => connect(options).await.map(Connection::Sqlite),
            Self::Postgres(url, _) => url.connect().await.map(Connection::Postgres),
        }
    }

    /// Connections that read.
    pub(crate) async fn readers(&self) -> sqlx::Result<Pool> {
        match self {
            Self::Sqlite(options) => {
                let options = options.clone().read_only(true);
                let pool = SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await?;
                Ok(Pool::Sqlite(pool))
            }
            Self::Postgres(url, clock) => Ok(Pool::Postgres(url.readers(), clock.clone())),
        }
    }

    /// So many connections to a database that other hubs may write too; `None` to one that none can.
    pub(crate) fn shared(&self, connections: u32) -> Option<PgPool> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(url, _) => Some(url.pool(connections)),
        }
    }

    /// The time that claims, offers and keys are judged by.
    pub(crate) fn clock(&self) -> Clock {
        match self {
            Self::Sqlite(_) => Clock::default(),
            Self::Postgres(_, clock) => clock.clone(),
        }
    }
}

async fn connect(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    let options = options.clone().pragma("cache_size", kibibytes(WRITER_CACHE));
    options.statement_cache_capacity(STATEMENTS).connect().await
}

/// As SQLite reads it: what is below nothing is no number of pages.
fn kibibytes(count: u32) -> String {
    format!("-{count}")
}

/// Has the names in a folder kept: without that, what is in a new folder is gone with it after a power cut.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    // A relative path of one name is in the folder of the process.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Elsewhere a folder cannot be opened, and names are kept without.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Opens a file, making it readable by its owner alone if there is none.
pub(crate) fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_taken_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a/hub");
        let folder = Folder::take(&path).expect("taken");
        assert!(matches!(Folder::take(&path), Err(Error::FolderInUse { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).expect("a folder").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        drop(folder);
        assert!(Folder::take(&path).is_ok());
    }

    #[tokio::test]
    async fn a_newer_database_is_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (_, mut writer) = Database::open(dir.path(), None).await.expect("opened");
        writer.run("PRAGMA user_version = 1000").await.expect("set");
        drop(writer);
        let error = Database::open(dir.path(), None).await.expect_err("newer");
        let known = migrations::NEWEST;
        assert!(matches!(error, Error::NewerDatabase { found: 1000, known: k, .. } if k == known), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_database_is_said_so() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("hub.sqlite");
        std::fs::write(&path, "not a database, but long enough to be looked at".repeat(10)).expect("written");
        let error = Database::open(dir.path(), None).await.expect_err("no database");
        assert!(matches!(error, Error::Database { .. }), "{error}");
    }
}
