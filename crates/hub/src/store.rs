//! The hub's database: SQLite with a write-ahead log, so that a process killed at any moment loses nothing
//! that it has acknowledged.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, SqliteConnection};

use crate::error::Error;
use crate::migrations;

/// How many reads are served at once; each holds a connection with a thread of its own.
const READERS: u32 = 4;
/// How long SQLite waits for its own locks: only a checkpoint ever holds one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

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
        let version = migrations::run(&mut writer).await.map_err(|error| failed(error.to_string()))?;
        if version > migrations::NEWEST {
            let known = migrations::NEWEST;
            return Err(Error::NewerDatabase { path: path.to_owned(), found: version, known });
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { writer, readers })
    }
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
        sqlx::raw_sql("PRAGMA user_version = 1000").execute(&mut store.writer).await.expect("set");
        drop(store);
        let error = Store::open(&path).await.expect_err("newer");
        let known = migrations::NEWEST;
        assert!(matches!(error, Error::NewerDatabase { found: 1000, known: k, .. } if k == known), "{error}");
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
