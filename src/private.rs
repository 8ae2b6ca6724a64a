//! Folders and files that are for this user alone: records, receipts, keys.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Makes a folder that only this user can look into.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Opens a file that only this user can read, for reading and writing.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file that is whole or not there, whatever becomes of this process; `temporary` is its name until
/// then, in the same folder. What a machine that loses power keeps of it is not said.
pub(crate) fn write_private(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    let written = private_file().create(true).truncate(true).open(temporary).and_then(|mut file| {
        file.write_all(content)?;
        fs::rename(temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(temporary);
    }
    written
}

/// The lock of something, held against all others, those of this process too, until it is dropped. It is a
/// file of its own: on some systems what is locked can't even be read.
#[derive(Debug)]
pub(crate) struct LockFile {
    /// Locked while it is open.
    #[cfg_attr(not(unix), expect(dead_code, reason = "it is dropped"))]
    file: File,
    #[cfg_attr(not(unix), expect(dead_code, reason = "the file stays"))]
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock at `path`; `None` while another holds it.
    ///
    /// Who lets go of a lock removes its file first, so a lock counts only on the file that has the name.
    pub(crate) fn try_take(path: PathBuf) -> io::Result<Option<Self>> {
        loop {
            let file = private_file().create(true).truncate(false).open(&path)?;
            match file.try_lock() {
                Ok(()) if has_name(&file, &path) => return Ok(Some(Self { file, path })),
                // Its holder let go of it in between.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Elsewhere nothing would tell a lock on this file from one on a file that takes its name.
        #[cfg(unix)]
        if has_name(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether `path` leads to that very file.
#[cfg(unix)]
fn has_name(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn has_name(_file: &File, _path: &Path) -> bool {
    true
}
