//! A copy of a hub's database, made while the hub runs or not.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::error::Error;
use crate::store::DATABASE;

/// Copies the SQLite database in a hub's data folder to a file, as it is at one moment: a database of the
/// same kind, readable by its owner alone, which takes the place of `hub.sqlite` in a data folder as it is.
/// The file is there whole or not at all.
///
/// # Errors
/// [`Error`] says what could not be read or written, or that there is such a file already, which is replaced
/// only if `replace` says so.
pub async fn backup(data: &Path, file: &Path, replace: bool) -> Result<(), Error> {
    let failed = |source| Error::Backup { file: file.to_owned(), source };
    if !replace && file.symlink_metadata().is_ok() {
        return Err(Error::BackupExists { file: file.to_owned() });
    }
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    // Its owner's alone from the beginning, and in the same folder, so that it can be renamed.
    let part = tempfile::Builder::new().prefix(".backup-").tempfile_in(&folder).map_err(failed)?;
    copy(&data.join(DATABASE), part.path()).await?;
    let persist = move || {
        part.as_file().sync_all()?;
        match replace {
            true => part.persist(file).map_err(io::Error::from)?,
            false => part.persist_noclobber(file).map_err(io::Error::from)?,
        };
        sync_folder(&folder)
    };
    match persist() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::BackupExists { file: file.to_owned() })
        }
        result => result.map_err(failed),
    }
}

/// Has SQLite write what the database holds into an empty file. Readers and the writer go on meanwhile.
async fn copy(database: &Path, to: &Path) -> Result<(), Error> {
    let failed = |error: sqlx::Error| Error::Database {
        database: database.display().to_string(),
        reason: error.to_string(),
    };
    let options = SqliteConnectOptions::new().filename(database).create_if_missing(false);
    let mut connection = options.connect().await.map_err(failed)?;
    let to = to.to_str().ok_or_else(|| Error::Database {
        database: database.display().to_string(),
        reason: "the backup's folder has a name that is no UTF-8".into(),
    })?;
    let copied = sqlx::query("VACUUM INTO $1").bind(to).execute(&mut connection).await;
    copied.map_err(failed)?;
    connection.close().await.map_err(failed)
}

/// Has the file's name kept, where the system can say so of a folder.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}
