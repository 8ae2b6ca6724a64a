//! The temporary file beside the target, and its way to the final name.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, TryLockError},
    io::{self, IoSlice, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::{
    SafeName, Target, TargetError,
    dir::{Dir, DirEntry},
};

/// Numbered names tried before a folder counts as full of them.
const MAX_NUMBER: u32 = 9_999;

/// Times a temporary file that another process removes at the same moment is made anew.
const MAX_ATTEMPTS: u32 = 4;

/// What a temporary file's name has around the transfer's id.
const PREFIX: &str = ".";
const SUFFIX: &str = ".part";

/// Hex digits of a transfer's id in a temporary file's name.
const ID_LEN: usize = 16;

/// A file that is being received: `.` and the transfer's id and `.part` in the target's folder, until
/// [`commit`](Partial::commit) gives it its name. Dropped before, it is removed.
///
/// The folder is opened once, and everything happens in that very folder. While it is written the file
/// is locked, so that one left behind by a process that died is told from one that lives.
#[derive(Debug)]
pub struct Partial {
    file: File,
    temporary: OsString,
    place: Place,
    size: u64,
    /// Bytes written, and what hashes them.
    written: u64,
    hasher: Sha256,
    committed: bool,
}

/// An opened folder and the name that a file is to get in it.
#[derive(Debug)]
struct Place {
    dir: Dir,
    /// The folder's path as given, to which names are joined for people.
    folder: PathBuf,
    /// The same, whatever the working directory becomes.
    absolute: PathBuf,
    name: Name,
}

#[derive(Debug)]
enum Name {
    Exact { name: OsString, overwrite: bool },
    Free(SafeName),
}

impl Partial {
    /// Makes the temporary file of the transfer `id`, 16 hex digits, for a file of `size` bytes. Blocks.
    ///
    /// It checks everything that could stop the file later: call it before claiming an offer.
    ///
    /// # Errors
    /// Every [`TargetError`] but `Moved`.
    pub fn create(target: &Target, id: &str, size: u64) -> Result<Self, TargetError> {
        let place = Place::open(target, size)?;
        if place.dir.free().is_some_and(|free| free < size) {
            return Err(TargetError::DiskFull { path: place.folder, needed: size });
        }
        let temporary = OsString::from(format!("{PREFIX}{id}{SUFFIX}"));
        let file = place.create_temporary(&temporary, size)?;
        Ok(Self { file, temporary, place, size, written: 0, hasher: Sha256::new(), committed: false })
    }

    /// Bytes that it holds.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// SHA-256 of the bytes that it holds, lower-case hex.
    pub fn hash(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }

    /// Gives up all bytes that it holds. Blocks.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn clear(&mut self) -> Result<(), TargetError> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.rewind());
        cleared.map_err(|source| self.place.failed(&self.temporary, self.size, source))?;
        (self.written, self.hasher) = (0, Sha256::new());
        Ok(())
    }

    /// Appends bytes. Blocks.
    ///
    /// # Errors
    /// `DiskFull`, `NotWritable`.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), TargetError> {
        self.write_all_vectored(&mut [IoSlice::new(bytes)])
    }

    /// Appends the bytes of all `pieces`, of which nothing is left. Blocks.
    ///
    /// # Errors
    /// As [`Self::write_all`]. What it holds afterwards is not known, and it is of no more use.
    pub fn write_all_vectored(&mut self, mut pieces: &mut [IoSlice<'_>]) -> Result<(), TargetError> {
        let mut len = 0;
        for piece in pieces.iter() {
            self.hasher.update(&**piece);
            len += piece.len();
        }
        while pieces.iter().any(|piece| !piece.is_empty()) {
            match self.file.write_vectored(pieces) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Err(self.place.failed(&self.temporary, self.size, error));
                }
                Ok(count) => IoSlice::advance_slices(&mut pieces, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.place.failed(&self.temporary, self.size, error)),
            }
        }
        self.written += u64::try_from(len).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Brings the file to the disk, gives it its final name in one step, and brings that to the disk.
    /// Blocks. Returns the path, whose name is a numbered one where the wanted one was taken in a folder.
    ///
    /// # Errors
    /// Any [`TargetError`]; the temporary file is removed then, and nothing stands at the final path that
    /// did not stand there before.
    pub fn commit(mut self) -> Result<PathBuf, TargetError> {
        self.file.sync_all().map_err(|source| self.place.failed(&self.temporary, self.size, source))?;
        if !self.place.dir.is_at(&self.place.absolute) {
            return Err(TargetError::Moved { path: self.place.folder.clone() });
        }
        // A rename goes by the name: make sure that the name still stands for the file that was verified.
        if !self.place.dir.holds(&self.temporary, &self.file) {
            return Err(TargetError::Moved { path: self.place.folder.join(&self.temporary) });
        }
        let name = self.place.rename(&self.temporary, &self.file, self.size)?;
        self.committed = true;
        // The file is in its place. Not every file system can bring a folder to the disk, and there is
        // nothing left to undo.
        if let Err(error) = self.place.dir.sync() {
            tracing::debug!(%error, "the folder of a received file could not be synced");
        }
        Ok(self.place.folder.join(name))
    }
}

/// Removes the temporary files that died with their processes and were not written to for `age`. Blocks;
/// returns how many. Files that another process is writing stay, whatever their age.
///
/// # Errors
/// Where the folder can't be read. A file that can't be removed is left.
pub fn sweep(dir: &Path, age: Duration) -> io::Result<usize> {
    let opened = Dir::open(dir)?;
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !is_temporary(&name) {
            continue;
        }
        let Ok(file) = opened.open_file(&name) else { continue };
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age));
        if is_old && !is_locked(&file) && opened.holds(&name, &file) && opened.remove(&name).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.committed && self.place.dir.holds(&self.temporary, &self.file) {
            // One that can't be removed now is replaced by the next attempt.
            let _ = self.place.dir.remove(&self.temporary);
        }
    }
}

impl Place {
    fn open(target: &Target, size: u64) -> Result<Self, TargetError> {
        let (folder, name) = match target {
            Target::Exact { path, overwrite } => {
                let no_name = || TargetError::NoName { path: path.clone() };
                if ends_as_folder(path) {
                    return Err(no_name());
                }
                let name = path.file_name().ok_or_else(no_name)?.to_owned();
                let folder = match path.parent() {
                    Some(parent) if parent != Path::new("") => parent.to_owned(),
                    _ => PathBuf::from("."),
                };
                (folder, Name::Exact { name, overwrite: *overwrite })
            }
            Target::InFolder { dir, name } => {
                std::fs::create_dir_all(dir).map_err(|error| TargetError::from_io(dir, size, error))?;
                (dir.clone(), Name::Free(name.clone()))
            }
        };
        let dir = Dir::open(&folder).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TargetError::NoFolder { path: folder.clone() },
            _ => TargetError::from_io(&folder, size, source),
        })?;
        let absolute =
            std::path::absolute(&folder).map_err(|source| TargetError::from_io(&folder, size, source))?;
        let place = Self { dir, folder, absolute, name };
        if let Name::Exact { name, overwrite } = &place.name {
            place.check_exact(name, *overwrite, size)?;
        }
        Ok(place)
    }

    /// Whether the file may take a name that the caller chose.
    fn check_exact(&self, name: &OsStr, overwrite: bool, size: u64) -> Result<(), TargetError> {
        let path = || self.folder.join(name);
        match self.dir.entry(name).map_err(|source| self.failed(name, size, source))? {
            Some(DirEntry::Other(what)) => Err(TargetError::NotAFile { path: path(), what }),
            Some(DirEntry::File | DirEntry::Link) if !overwrite => {
                Err(TargetError::AlreadyExists { path: path() })
            }
            Some(DirEntry::File | DirEntry::Link) | None => Ok(()),
        }
    }

    fn create_temporary(&self, name: &OsStr, size: u64) -> Result<File, TargetError> {
        let busy = || TargetError::Busy { path: self.folder.join(name) };
        for _ in 0..MAX_ATTEMPTS {
            match self.dir.create(name) {
                // Another process may have taken the file, empty as it is, for one left behind.
                Ok(file) if is_locked(&file) || !self.dir.holds(name, &file) => {}
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.remove_stale(name, size)?;
                }
                Err(error) => return Err(self.failed(name, size, error)),
            }
        }
        Err(busy())
    }

    /// Removes the file at the temporary name, unless a living process is writing it.
    fn remove_stale(&self, name: &OsStr, size: u64) -> Result<(), TargetError> {
        // A process of ours writes plain files only; a link or a pipe can't be opened here.
        let left_behind = self.dir.open_file(name).ok();
        if let Some(file) = &left_behind {
            if is_locked(file) {
                return Err(TargetError::Busy { path: self.folder.join(name) });
            }
            if !self.dir.holds(name, file) {
                return Ok(());
            }
        }
        match self.dir.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(name, size, error)),
            _ => Ok(()),
        }
    }

    /// Gives the temporary file its final name, and returns that.
    fn rename(&self, temporary: &OsStr, file: &File, size: u64) -> Result<OsString, TargetError> {
        match &self.name {
            Name::Exact { name, overwrite } => {
                self.check_exact(name, *overwrite, size)?;
                let renamed = if *overwrite {
                    if self.dir.entry(name).is_ok_and(|entry| entry == Some(DirEntry::File)) {
                        self.dir
                            .inherit_rights(name, file)
                            .map_err(|source| self.failed(name, size, source))?;
                    }
                    self.dir.replace(temporary, name)
                } else {
                    self.dir.rename_new(temporary, name)
                };
                renamed.map_err(|source| self.failed(name, size, source))?;
                Ok(name.clone())
            }
            Name::Free(wanted) => {
                let numbered = (1..=MAX_NUMBER).map(|number| wanted.numbered(number));
                for name in std::iter::once(wanted.clone()).chain(numbered) {
                    let name = OsString::from(name.as_str());
                    match self.dir.rename_new(temporary, &name) {
                        Ok(()) => return Ok(name),
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(self.failed(&name, size, error)),
                    }
                }
                Err(TargetError::AlreadyExists { path: self.folder.join(wanted.as_str()) })
            }
        }
    }

    fn failed(&self, name: &OsStr, size: u64, source: io::Error) -> TargetError {
        let path = self.folder.join(name);
        match TargetError::from_io(&path, size, source) {
            TargetError::DiskFull { needed, .. } => {
                TargetError::DiskFull { path: self.folder.clone(), needed }
            }
            TargetError::NotWritable { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                TargetError::AlreadyExists { path }
            }
            error => error,
        }
    }
}

/// Whether a path is written as a folder's: with a separator or a `.` at its end.
fn ends_as_folder(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    match bytes {
        [.., separator, b'.'] => is_separator(separator),
        [.., last] => is_separator(last),
        [] => false,
    }
}

/// Whether a name is one that [`Partial::create`] gives.
fn is_temporary(name: &OsStr) -> bool {
    let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    id.is_some_and(|id| id.len() == ID_LEN && id.bytes().all(is_hex))
}

/// Takes the lock by which a process shows that it is writing the file; true where another holds it.
fn is_locked(file: &File) -> bool {
    // A file system without locks can't tell; the last to come then has the file.
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_up_meanwhile_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = Target::InFolder { dir: dir.path().to_owned(), name: SafeName::from_offered("a") };
        let mut partial = Partial::create(&target, "0123456789abcdef", 3).expect("created");
        partial.file = File::options().write(true).open("/dev/full").expect("opened");
        let full = partial.write_all(b"abc");
        assert!(matches!(full, Err(TargetError::DiskFull { needed: 3, .. })), "{full:?}");
    }
}
