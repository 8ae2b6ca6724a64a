//! A folder by its path, for systems without handles to folders.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::{
    super::{preserved::ALLOWED, source::what_is},
    DirEntry,
};

/// A folder by its path.
#[derive(Debug)]
pub(crate) struct Dir(PathBuf);

impl Dir {
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

    /// The system keeps names by itself here.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
