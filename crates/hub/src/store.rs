//! The hub's database: SQLite with a write-ahead log, so that a process killed at any moment loses nothing
//! that it has acknowledged.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use crate::error::Error;

/// The version of the schema below, kept in the database.
const VERSION: i64 = 2;
/// How many reads are served at once; each holds a connection with a thread of its own.
const READERS: u32 = 4;
/// How long SQLite waits for its own locks: only a checkpoint ever holds one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE organizations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    organization_id INTEGER NOT NULL REFERENCES organizations(id),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (organization_id, slug)
) STRICT;
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects(id),
    title TEXT NOT NULL,
    description TEXT,
    type TEXT NOT NULL,
    channel TEXT NOT NULL,
    priority INTEGER NOT NULL,
    status TEXT NOT NULL,
    payload TEXT NOT NULL,
    outputs TEXT NOT NULL,
    reason TEXT,
    source_type TEXT NOT NULL,
    source_id TEXT NOT NULL,
    source_name TEXT NOT NULL,
    assignee_type TEXT,
    assignee_id TEXT,
    assignee_name TEXT,
    lease_expires INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    completed_at INTEGER,
    due INTEGER
) STRICT;
CREATE INDEX tasks_by_status ON tasks (project_id, status, channel, created_at);
CREATE INDEX tasks_by_age ON tasks (project_id, created_at);
CREATE INDEX tasks_by_due ON tasks (due) WHERE due IS NOT NULL;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL REFERENCES tasks(id),
    actor_type TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    parts TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_task ON messages (task_id);
";

/// Brings the tables of version 1 to version 2. Open tasks are due at once: the writer then works out when
/// time really changes each.
const FROM_VERSION_1: &str = "
ALTER TABLE tasks ADD COLUMN due INTEGER;
UPDATE tasks SET due = 0 WHERE status IN ('pending', 'in_progress');
DROP INDEX tasks_by_lease;
CREATE INDEX tasks_by_due ON tasks (due) WHERE due IS NOT NULL;
";

/// A folder that this hub alone uses, for as long as this is alive.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder, readable by its owner alone, and takes it.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Folder { path: path.to_owned(), source };
        if !path.is_dir() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(path).map_err(failed)?;
        }
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

/// The two ways into the database: one connection that writes, several that read.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) writer: SqliteConnection,
    pub(crate) readers: SqlitePool,
}

impl Store {
    /// Opens the database, making it if there is none.
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let failed = |reason: String| Error::Database { path: path.to_owned(), reason };
        // SQLite gives the files beside it the same permissions.
        private_file(path).map_err(|error| failed(error.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode a power cut may lose the last commits but damages nothing; a killed process
            // loses none.
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let mut writer = options.connect().await.map_err(|error| failed(error.to_string()))?;
        let found = prepare(&mut writer).await.map_err(|error| failed(error.to_string()))?;
        if found > VERSION {
            return Err(Error::NewerDatabase { path: path.to_owned(), found, known: VERSION });
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { writer, readers })
    }
}

/// Makes the tables in an empty database, and brings those of older versions up to date; gives the version
/// that the database then has, which is above ours where a newer hub wrote it.
async fn prepare(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found = sqlx::query("PRAGMA user_version").fetch_one(&mut *transaction).await?.try_get(0)?;
    let statements = match found {
        0 => SCHEMA,
        1 => FROM_VERSION_1,
        _ => return Ok(found),
    };
    sqlx::raw_sql(statements).execute(&mut *transaction).await?;
    sqlx::raw_sql("PRAGMA user_version = 2").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(VERSION)
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
        let path = dir.path().join("hub.sqlite");
        let mut store = Store::open(&path).await.expect("opened");
        sqlx::raw_sql("PRAGMA user_version = 3").execute(&mut store.writer).await.expect("set");
        drop(store);
        let error = Store::open(&path).await.expect_err("newer");
        assert!(matches!(error, Error::NewerDatabase { found: 3, known: 2, .. }), "{error}");
    }

    /// The tables of version 1, as far as its tasks are concerned.
    const VERSION_1: &str = "
        CREATE TABLE tasks (id INTEGER PRIMARY KEY, status TEXT NOT NULL, lease_expires INTEGER) STRICT;
        CREATE INDEX tasks_by_lease ON tasks (lease_expires) WHERE lease_expires IS NOT NULL;
        INSERT INTO tasks VALUES (1, 'pending', NULL), (2, 'in_progress', 7), (3, 'completed', NULL);
        PRAGMA user_version = 1;
    ";

    #[tokio::test]
    async fn an_older_database_is_brought_up_to_date_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("hub.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut old = options.connect().await.expect("made");
        sqlx::raw_sql(VERSION_1).execute(&mut old).await.expect("filled");
        old.close().await.expect("closed");
        for _ in 0..2 {
            let mut store = Store::open(&path).await.expect("opened");
            let due: Vec<Option<i64>> = sqlx::query_scalar("SELECT due FROM tasks ORDER BY id")
                .fetch_all(&mut store.writer)
                .await
                .expect("read");
            assert_eq!(due, [Some(0), Some(0), None]);
        }
    }

    #[tokio::test]
    async fn what_is_no_database_is_said_so() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("hub.sqlite");
        std::fs::write(&path, "not a database, but long enough to be looked at".repeat(10)).expect("written");
        let error = Store::open(&path).await.expect_err("no database");
        assert!(matches!(error, Error::Database { .. }), "{error}");
    }
}
