//! Folders and files that are for this user alone: records, receipts, keys.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What a file ends with that is not whole yet.
const UNFINISHED: &str = "tmp";

/// How long a file that its process did not finish is let alone.
const ABANDONED: Duration = Duration::from_secs(3600);

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

/// Writes a file that is whole or not there, whatever becomes of this process. What a machine that loses
/// power keeps of it is not said.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    // Several nodes of this process may write the same.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}.{number}.{UNFINISHED}", std::process::id()));
    let written = private_file().create(true).truncate(true).open(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Finds out whether files can be written in a folder, by writing and removing one.
pub(crate) fn try_to_write(dir: &Path) -> io::Result<()> {
    // Many may wait for the same disk, and try it at once.
    static TRIED: AtomicU64 = AtomicU64::new(0);
    let number = TRIED.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("try.{}.{number}.{UNFINISHED}", std::process::id()));
    let written = private_file().create(true).truncate(true).open(&path)?.write_all(b"{}");
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// How many files of a folder stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) files: usize,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
}

impl Room {
    /// Room for so many files of any size.
    pub(crate) fn for_files(files: usize) -> Self {
        Self { files, bytes: u64::MAX }
    }
}

/// Has room made in a folder, see [`make_room`], by one call in so many that some eighth more files stay: to
/// look through the folder costs more than a file.
pub(crate) fn make_room_at_times(dir: &Path, extension: &str, room: Room) {
    if rand::random_range(0..(room.files / 8).max(1)) == 0 {
        make_room(dir, extension, room);
    }
}

/// Removes those files with an extension for which there is no room, the ones first that were written longest
/// ago, and what was never finished.
pub(crate) fn make_room(dir: &Path, extension: &str, room: Room) {
    let now = SystemTime::now();
    let is_abandoned = |written| now.duration_since(written).is_ok_and(|age| age >= ABANDONED);
    let found = files_of(dir, &[extension, UNFINISHED]).into_iter();
    let (unfinished, mut files) = found.partition::<Vec<_>, _>(|(.., path)| has_extension(path, UNFINISHED));
    for (_, _, path) in unfinished.into_iter().filter(|(written, ..)| is_abandoned(*written)) {
        let _ = fs::remove_file(path);
    }
    files.sort_unstable_by(|one, other| other.cmp(one));
    let mut bytes = 0_u64;
    for (count, (_, len, path)) in files.into_iter().enumerate() {
        bytes = bytes.saturating_add(len);
        if count >= room.files || bytes > room.bytes {
            let _ = fs::remove_file(path);
        }
    }
}

/// The files of a folder with an extension: when each was written, its length and its path.
pub(crate) fn newest_first(dir: &Path, extension: &str) -> Vec<(SystemTime, u64, PathBuf)> {
    let mut files = files_of(dir, &[extension]);
    files.sort_unstable_by(|one, other| other.cmp(one));
    files
}

/// The same of those with one of several, in no order.
fn files_of(dir: &Path, extensions: &[&str]) -> Vec<(SystemTime, u64, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of_kind = entries.filter(|entry| {
        let path = entry.path();
        extensions.iter().any(|extension| has_extension(&path, extension))
    });
    let seen = of_kind.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len(), entry.path()))
    });
    seen.collect()
}

/// Whether the name of a file ends with this behind its last dot.
pub(crate) fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_files_stay_that_there_is_room_for_and_others_of_the_folder_are_let_alone() {
        let folder = tempfile::tempdir().unwrap();
        let age = |path: &Path, seconds| {
            let file = private_file().open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        for number in 1..=5_u64 {
            let path = folder.path().join(format!("{number}.json"));
            write_private(&path, &[0; 10]).unwrap();
            age(&path, 1000 * number);
        }
        let [other, begun, abandoned] = ["other.txt", "x.1.2.tmp", "x.1.1.tmp"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            age(&path, 10_000);
            path
        });
        age(&begun, 10);
        let there = || {
            let named =
                |(_, _, path): (_, _, PathBuf)| path.file_stem().unwrap().to_str().unwrap().to_owned();
            newest_first(folder.path(), "json").into_iter().map(named).collect::<Vec<_>>().concat()
        };
        assert_eq!(there(), "12345");
        make_room(folder.path(), "json", Room::for_files(4));
        assert_eq!(there(), "1234");
        make_room(folder.path(), "json", Room { files: 4, bytes: 29 });
        assert_eq!((there(), other.exists(), begun.exists()), ("12".into(), true, true));
        assert!(!abandoned.exists());
        make_room_at_times(folder.path(), "json", Room::for_files(1));
        assert_eq!(there(), "1", "with little room it is always made");
        make_room(&folder.path().join("missing"), "json", Room::for_files(1));
    }

    #[test]
    fn a_file_that_many_write_at_once_is_that_of_one_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        std::thread::scope(|scope| {
            for byte in [b'a', b'b', b'c'] {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| write_private(path, &[byte; 100]).unwrap()));
            }
        });
        let content = fs::read(&path).unwrap();
        assert!(content.len() == 100 && content.iter().all(|byte| *byte == content[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
