//! Small files of this user alone, each of which is whole or not there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::private::private_file;

/// Who may do what with a file, in the bits of its mode: others than its owner may read or write it.
pub(super) const OTHERS: u32 = 0o077;
/// Others than its owner may write it.
pub(super) const OTHERS_WRITE: u32 = 0o022;

/// What a file holds; wiped from memory when it is dropped.
pub(super) type Wiped = Zeroizing<Vec<u8>>;

/// Tells the states of a file apart: every way of writing here makes another file. Who may use it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileState {
    modified: Option<SystemTime>,
    len: u64,
    file: u64,
    mode: u32,
}

/// Waits until no other process changes anything beside this file, and keeps others from it until the lock
/// is dropped. The lock file stays: removing it could leave two processes holding one lock, on two files of
/// the same name.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = private_file().create(true).truncate(false).open(path)?;
    file.lock()?;
    Ok(file)
}

/// The state of a file; `None` where there is none.
pub(super) fn state(path: &Path) -> io::Result<Option<FileState>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(FileState {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            #[cfg(unix)]
            file: std::os::unix::fs::MetadataExt::ino(&metadata),
            #[cfg(not(unix))]
            file: 0,
            #[cfg(unix)]
            mode: std::os::unix::fs::MetadataExt::mode(&metadata),
            #[cfg(not(unix))]
            mode: 0,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file of at most `limit` bytes; `None` where there is none.
///
/// # Errors
/// `PermissionDenied` where the mode has bits of `refused`, `FileTooLarge`, and those of the system.
pub(super) fn read(path: &Path, limit: u64, refused: u32) -> io::Result<Option<Wiped>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Some(mode) = mode(&file)?.filter(|mode| mode & refused != 0) {
        let what = if mode & refused & 0o044 != 0 { "read" } else { "write" };
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("other users can {what} it (mode {mode:04o})"),
        ));
    }
    let mut content = Wiped::new(Vec::with_capacity(1024));
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(Some(content))
}

/// Gives a file this content, for this user alone: whatever happens, it has the old content or the new one.
/// Call it under the [`lock`] only.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = private_file().create_new(true).open(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(path)
}

/// The path with this behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(unix)]
fn mode(file: &File) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(Some(file.metadata()?.permissions().mode() & 0o7777))
}

#[cfg(not(unix))]
fn mode(_file: &File) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_old_content_or_its_new_one_and_is_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("f");
        assert!(read(&path, 9, OTHERS).unwrap().is_none() && state(&path).unwrap().is_none());
        replace(&path, b"one").unwrap();
        let before = state(&path).unwrap();
        fs::write(beside(&path, ".tmp"), "left by a process that died").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path, 3, OTHERS).unwrap().unwrap().as_slice(), b"two");
        assert_ne!(state(&path).unwrap(), before);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        assert_eq!(read(&path, 2, OTHERS).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_use_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("f");
        for (mode, refused, says) in [
            (0o640, OTHERS, "read"),
            (0o604, OTHERS, "read"),
            (0o620, OTHERS, "write"),
            (0o602, OTHERS_WRITE, "write"),
        ] {
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path, 9, refused).unwrap_err();
            assert!(error.to_string().contains(says), "{mode:o}: {error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path, 9, OTHERS_WRITE).unwrap().is_some());
    }

    #[test]
    fn a_lock_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let held = lock(&path).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || lock(&path).map(drop)
        });
        assert!(File::open(&path).unwrap().try_lock().is_err());
        drop(held);
        waiting.join().unwrap().unwrap();
    }
}
