//! A folder by its path, for systems without handles to folders.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    super::{preserved::ALLOWED, source::what_is},
    DirEntry,
};

/// A folder by its path.
#[derive(Debug)]
pub(crate) struct Dir(PathBuf);

impl Dir {
    /// Nothing here brings a whole disk up to date: each file is brought there by itself.
    pub(crate) const SYNCS_DISK: bool = false;

    /// The folder that `path` leads to now.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        let path = path.canonicalize()?;
        if path.is_dir() { Ok(Dir(path)) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// Whether `path` still leads to this folder.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        path.canonicalize().is_ok_and(|path| path == self.0)
    }

    /// Whether files may be made in it.
    pub(crate) fn check_writable(&self) -> io::Result<()> {
        match fs::metadata(&self.0)?.permissions().readonly() {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        }
    }

    /// Bytes that may still be written to its disk: unknown here.
    pub(crate) fn free(&self) -> Option<u64> {
        None
    }

    /// Files that may still be made on its disk: unknown here.
    pub(crate) fn free_files(&self) -> Option<u64> {
        None
    }

    /// What stands at `name`.
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Option<DirEntry>> {
        match fs::symlink_metadata(self.0.join(name)) {
            Ok(metadata) if metadata.is_symlink() => Ok(Some(DirEntry::Link)),
            Ok(metadata) => Ok(Some(what_is(metadata.file_type()).map_or(DirEntry::File, DirEntry::Other))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether `name` is that very file: a file that is open for writing keeps its name here.
    pub(crate) fn holds(&self, name: &OsStr, _file: &File) -> bool {
        matches!(self.entry(name), Ok(Some(DirEntry::File)))
    }

    /// Makes a new file; fails with `AlreadyExists` where anything has the name.
    pub(crate) fn create_private(&self, name: &OsStr) -> io::Result<(File, u32)> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.0.join(name))?;
        Ok((file, ALLOWED))
    }

    /// Whether it is a file: rights are the folder's matter here.
    pub(crate) fn is_private(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    /// What tells a file from all others: nothing here.
    pub(crate) fn number(&self, _file: &File) -> u64 {
        0
    }

    /// Rights are the folder's matter here.
    pub(crate) fn set_rights(&self, _file: &File, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    /// Has nobody write to a file by accident that nobody may write to where it comes from. A file that is so
    /// protected keeps its name, so this comes last.
    pub(crate) fn protect(&self, file: &File, mode: u32) {
        if mode & 0o222 == 0
            && let Ok(metadata) = file.metadata()
        {
            let mut permissions = metadata.permissions();
            permissions.set_readonly(true);
            if let Err(error) = file.set_permissions(permissions) {
                tracing::debug!(%error, "a received file could not be made read-only");
            }
        }
    }

    /// Rights are the folder's matter here.
    pub(crate) fn rights(&self, _name: &OsStr) -> Option<u32> {
        None
    }

    /// Opens the file at `name` for writing; fails on a link.
    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        match self.entry(name)? {
            Some(DirEntry::File) => OpenOptions::new().read(true).write(true).open(self.0.join(name)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Removes the file or the link at `name`.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// Renames a file in one step, in place of whatever file or link has the new name.
    pub(crate) fn replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    /// Renames a file; fails with `AlreadyExists` where anything has the new name.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::hard_link(self.0.join(from), self.0.join(to))?;
        // The file stands under its new name, and saying that it does not would be wrong. An old name that
        // stays is swept away as one left behind.
        if let Err(error) = self.remove(from) {
            tracing::debug!(%error, "the temporary name of a received file could not be removed");
        }
        Ok(())
    }

    /// Opens the folder at `name`; fails on a link.
    pub(crate) fn open_folder(&self, name: &OsStr) -> io::Result<Self> {
        match fs::symlink_metadata(self.0.join(name))?.is_dir() {
            true => Ok(Self(self.0.join(name))),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Makes a new folder; fails with `AlreadyExists` where anything has the name.
    pub(crate) fn create_folder(&self, name: &OsStr) -> io::Result<Self> {
        fs::create_dir(self.0.join(name))?;
        Ok(Self(self.0.join(name)))
    }

    /// Rights are the folder's matter here.
    pub(crate) fn usual_rights(&self, _name: &OsStr) -> io::Result<u32> {
        Ok(ALLOWED)
    }

    /// Makes a new file; fails with `AlreadyExists` where anything has the name.
    pub(crate) fn create_file(&self, name: &OsStr, _mode: u32) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(self.0.join(name))
    }

    /// Links need rights here that few users have.
    pub(crate) fn create_link(
        &self,
        _name: &OsStr,
        _target: &str,
        _modified: Option<SystemTime>,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A folder has neither rights nor a time of its own here.
    pub(crate) fn finish(&self, _mode: u32, _modified: Option<SystemTime>) -> io::Result<()> {
        Ok(())
    }

    /// Whether `name` is that very folder.
    pub(crate) fn holds_folder(&self, name: &OsStr, folder: &Self) -> bool {
        self.0.join(name) == folder.0 && folder.0.is_dir()
    }

    /// Whether `name` is a folder with nothing in it.
    pub(crate) fn holds_empty_folder(&self, name: &OsStr) -> bool {
        let folder = self.open_folder(name).and_then(|folder| fs::read_dir(folder.0));
        folder.is_ok_and(|mut entries| entries.next().is_none())
    }

    /// What tells a folder from all others: nothing here.
    pub(crate) fn own_number(&self) -> u64 {
        0
    }

    /// Rights are the folder's matter here.
    pub(crate) fn is_own_and_private(&self) -> bool {
        true
    }

    /// Rights are the folder's matter here.
    pub(crate) fn make_private(&self) -> io::Result<()> {
        Ok(())
    }

    /// Opens the file at `name` for reading, and says how long it is; fails on a link.
    pub(crate) fn open_own_file(&self, name: &OsStr) -> io::Result<(File, u64)> {
        match self.entry(name)? {
            Some(DirEntry::File) => {
                let file = File::open(self.0.join(name))?;
                let len = file.metadata()?.len();
                Ok((file, len))
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Opens it for writing.
    pub(crate) fn open_own_file_again(&self, name: &OsStr, _mode: u32) -> io::Result<File> {
        self.open_file(name)
    }

    /// Where the link at `name` leads.
    pub(crate) fn link_target(&self, name: &OsStr) -> io::Result<OsString> {
        fs::read_link(self.0.join(name)).map(PathBuf::into_os_string)
    }

    /// The names of all that is in the folder.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// Nothing shows here that a process fills the folder; the last to come has it.
    pub(crate) fn lock(&self) -> bool {
        true
    }

    /// A folder's time follows its names here.
    pub(crate) fn touch(&self) -> io::Result<()> {
        Ok(())
    }

    /// When a name in the folder was changed last.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        fs::metadata(&self.0).ok()?.modified().ok()
    }

    /// Moves a folder here from another one; fails with `AlreadyExists` where anything has the new name.
    pub(crate) fn take_new(&self, from: &Self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        // A rename replaces no folder here, and this one makes sure that it replaces no file.
        match self.entry(new)? {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => fs::rename(from.0.join(old), self.0.join(new)),
        }
    }

    /// The same, also in place of an empty folder.
    pub(crate) fn take_over_empty(&self, from: &Self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        if self.open_folder(new).is_ok() {
            fs::remove_dir(self.0.join(new)).map_err(|_| io::Error::from(io::ErrorKind::AlreadyExists))?;
        }
        self.take_new(from, old, new)
    }

    /// Removes what stands at `name`, with all that is in it if it is a folder.
    pub(crate) fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        match self.entry(name)? {
            Some(DirEntry::Other("a folder")) => fs::remove_dir_all(self.0.join(name)),
            _ => self.remove(name),
        }
    }

    /// Nothing here brings a whole disk up to date.
    pub(crate) fn sync_disk(&self) -> io::Result<()> {
        Ok(())
    }

    /// The system keeps names by itself here.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
