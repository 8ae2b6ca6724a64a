//! Where a file is to stand: an opened folder, and the name that it is to get there.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{
    Existing, Rights, SafeName, Target, TargetError, TreeSize,
    dir::{Dir, DirEntry},
};

/// Numbered names tried before a folder counts as full of them.
const MAX_NUMBER: u32 = 9_999;

/// Times a temporary file that another process removes at the same moment is made anew.
const MAX_ATTEMPTS: u32 = 4;

/// An opened folder and the name that a file is to get in it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: Dir,
    /// The folder's path as given, to which names are joined for people.
    pub(super) folder: PathBuf,
    /// The same, whatever the working directory becomes.
    absolute: PathBuf,
    name: Name,
}

#[derive(Debug)]
enum Name {
    Exact { name: OsString, overwrite: bool },
    Free(SafeName),
}

impl Place {
    /// Opens the folder of a file's target, and makes it where that is asked for.
    pub(super) fn open(target: &Target, size: u64) -> Result<Self, TargetError> {
        match target {
            Target::Exact { path, .. } if ends_as_folder(path) => {
                Err(TargetError::NoName { path: path.clone() })
            }
            _ => {
                let place = Self::open_any(target, size)?;
                match &place.name {
                    Name::Exact { name, overwrite } => place.check_exact(name, *overwrite, size)?,
                    Name::Free(_) => {}
                }
                Ok(place)
            }
        }
    }

    /// Opens the folder that a folder is to stand in, and makes it where that is asked for. Nothing but an
    /// empty folder is ever replaced by one.
    pub(super) fn open_for_folder(target: &Target, size: u64) -> Result<Self, TargetError> {
        let place = Self::open_any(target, size)?;
        if let Name::Exact { name, .. } = &place.name {
            let there = place.dir.entry(name).map_err(|source| place.failed(name, size, source))?;
            if there.is_some() && !place.dir.holds_empty_folder(name) {
                return Err(TargetError::AlreadyExists { path: place.folder.join(name) });
            }
        }
        Ok(place)
    }

    fn open_any(target: &Target, size: u64) -> Result<Self, TargetError> {
        let (folder, name) = match target {
            Target::Exact { path, overwrite } => {
                let no_name = || TargetError::NoName { path: path.clone() };
                let name = path.file_name().ok_or_else(no_name)?.to_owned();
                (target.folder().to_owned(), Name::Exact { name, overwrite: *overwrite })
            }
            Target::InFolder { dir, name, existing } => {
                std::fs::create_dir_all(dir).map_err(|error| TargetError::from_io(dir, size, error))?;
                let exact = |overwrite| Name::Exact { name: name.as_str().into(), overwrite };
                let name = match existing {
                    Existing::Rename => Name::Free(name.clone()),
                    Existing::Overwrite => exact(true),
                    Existing::Skip => exact(false),
                };
                (dir.clone(), name)
            }
        };
        let dir = Dir::open(&folder).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TargetError::NoFolder { path: folder.clone() },
            _ => TargetError::from_io(&folder, size, source),
        })?;
        let absolute =
            std::path::absolute(&folder).map_err(|source| TargetError::from_io(&folder, size, source))?;
        Ok(Self { dir, folder, absolute, name })
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

    /// Whether the disk has room for `len` bytes more of what has `size`; some systems don't say.
    pub(super) fn check_room(&self, len: u64, size: u64) -> Result<(), TargetError> {
        match self.dir.free() {
            Some(free) if free < len => {
                Err(TargetError::DiskFull { path: self.folder.clone(), needed: size })
            }
            _ => Ok(()),
        }
    }

    /// Makes the temporary file, locked; also returns the rights that it is to have in the end.
    pub(super) fn create_temporary(&self, name: &OsStr, size: u64) -> Result<(File, u32), TargetError> {
        let busy = || TargetError::Busy { path: self.folder.join(name) };
        for _ in 0..MAX_ATTEMPTS {
            match self.dir.create_private(name) {
                // Another process may have taken the file, empty as it is, for one left behind.
                Ok((file, _)) if is_locked(&file) || !self.dir.holds(name, &file) => {}
                Ok(created) => return Ok(created),
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

    /// Whether the path as it was given still leads to the folder.
    pub(super) fn is_in_its_place(&self) -> bool {
        self.dir.is_at(&self.absolute)
    }

    /// Gives the temporary file its rights, where a new file here has `usual`, and its final name; returns
    /// that.
    pub(super) fn rename(
        &self,
        temporary: &OsStr,
        file: &File,
        rights: Rights,
        usual: u32,
        size: u64,
    ) -> Result<OsString, TargetError> {
        let replaced = match &self.name {
            Name::Exact { name, overwrite: true } => self.dir.rights(name),
            _ => None,
        };
        let mode = rights.mode(usual, replaced);
        self.dir.set_rights(file, mode).map_err(|source| self.failed(temporary, size, source))?;
        let name = self.name_it(temporary, size)?;
        self.dir.protect(file, mode);
        Ok(name)
    }

    fn name_it(&self, temporary: &OsStr, size: u64) -> Result<OsString, TargetError> {
        match &self.name {
            Name::Exact { name, overwrite } => {
                self.check_exact(name, *overwrite, size)?;
                let renamed = if *overwrite {
                    self.dir.replace(temporary, name)
                } else {
                    self.dir.rename_new(temporary, name)
                };
                renamed.map_err(|source| self.failed(name, size, source))?;
                Ok(name.clone())
            }
            Name::Free(wanted) => self.first_free(wanted, size, |name| self.dir.rename_new(temporary, name)),
        }
    }

    /// Has `take` take the wanted name, or the first numbered one that it finds free.
    fn first_free(
        &self,
        wanted: &SafeName,
        size: u64,
        take: impl Fn(&OsStr) -> io::Result<()>,
    ) -> Result<OsString, TargetError> {
        let numbered = (1..=MAX_NUMBER).map(|number| wanted.numbered(number));
        for name in std::iter::once(wanted.clone()).chain(numbered) {
            let name = OsString::from(name.as_str());
            match take(&name) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.failed(&name, size, error)),
            }
        }
        Err(TargetError::AlreadyExists { path: self.folder.join(wanted.as_str()) })
    }

    /// Whether the disk has room for what the last `rest` bytes of a folder's archive bring; some systems
    /// don't say.
    pub(super) fn check_tree_room(&self, holds: TreeSize, rest: u64) -> Result<(), TargetError> {
        self.check_tree_room_in(self.dir.free(), self.dir.free_files(), holds, rest)
    }

    fn check_tree_room_in(
        &self,
        free: Option<u64>,
        free_files: Option<u64>,
        holds: TreeSize,
        rest: u64,
    ) -> Result<(), TargetError> {
        let (room, entries) = (holds.room(rest), holds.entries_in(rest));
        let path = || self.folder.clone();
        if free.is_some_and(|free| free < room) {
            return Err(TargetError::DiskFull { path: path(), needed: room });
        }
        if free_files.is_some_and(|free| free < entries) {
            return Err(TargetError::NoMoreFiles { path: path(), needed: entries });
        }
        Ok(())
    }

    /// Makes the temporary folder, locked.
    pub(super) fn create_temporary_folder(&self, name: &OsStr, size: u64) -> Result<Dir, TargetError> {
        for _ in 0..MAX_ATTEMPTS {
            match self.dir.create_folder(name) {
                // Another process may have taken the folder, empty as it is, for one left behind.
                Ok(dir) if !dir.lock() || !self.dir.holds_folder(name, &dir) => {}
                Ok(dir) => return Ok(dir),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let left_behind = self.dir.open_folder(name).ok();
                    if left_behind.is_some_and(|dir| !dir.lock()) {
                        return Err(TargetError::Busy { path: self.folder.join(name) });
                    }
                    self.remove_tree(name, size)?;
                }
                Err(error) => return Err(self.failed(name, size, error)),
            }
        }
        Err(TargetError::Busy { path: self.folder.join(name) })
    }

    /// Removes the temporary folder, or whatever has its name.
    pub(super) fn remove_tree(&self, name: &OsStr, size: u64) -> Result<(), TargetError> {
        match self.dir.remove_tree(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(name, size, error)),
            _ => Ok(()),
        }
    }

    /// Moves the folder `old` of `from` to its final name, in one step; returns that.
    pub(super) fn move_here(&self, from: &Dir, old: &OsStr, size: u64) -> Result<OsString, TargetError> {
        match &self.name {
            Name::Exact { name, .. } => {
                let moved = self.dir.take_over_empty(from, old, name);
                moved.map(|()| name.clone()).map_err(|source| self.failed(name, size, source))
            }
            Name::Free(wanted) => self.first_free(wanted, size, |name| self.dir.take_new(from, old, name)),
        }
    }

    /// The error for what the system said about a name in the folder.
    pub(super) fn failed(&self, name: &OsStr, size: u64, source: io::Error) -> TargetError {
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

/// Takes the lock by which a process shows that it is writing the file; true where another holds it.
pub(super) fn is_locked(file: &File) -> bool {
    // A file system without locks can't tell; the last to come then has the file.
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_for_a_folder_if_it_has_both_the_bytes_and_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Exact { path: dir.path().join("tree"), overwrite: false };
        let place = Place::open_for_folder(&target, 10_000).unwrap();
        let holds = TreeSize { entries: 10, bytes: 1000 };
        let check = |free, files| place.check_tree_room_in(free, files, holds, 10_000);
        let room = 10_000 + 10 * 4096;
        for (free, files) in [(None, None), (Some(room), Some(10)), (None, Some(10)), (Some(room), None)] {
            check(free, files).unwrap();
        }
        let full = check(Some(room - 1), None);
        assert!(matches!(full, Err(TargetError::DiskFull { needed, .. }) if needed == room));
        let full = check(None, Some(9)).unwrap_err();
        assert!(matches!(full, TargetError::NoMoreFiles { needed: 10, .. }));
        assert_eq!(full.code(), crate::error::Code::DiskFull);
        if let Some(free) = place.dir.free() {
            let many = TreeSize { entries: free, bytes: 0 };
            assert!(place.check_tree_room(many, free / 4).is_err());
            assert!(place.check_tree_room(TreeSize::default(), free / 4).is_ok());
        }
    }
}
