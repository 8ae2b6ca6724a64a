//! A folder by its handle: every name is looked up in that very folder, and no link is followed.

use std::{ffi::OsStr, fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{
        Access, AtFlags, CWD, FileType, Mode, OFlags, Stat, accessat, fchmod, fstat, fstatvfs, fsync, linkat,
        openat, renameat, statat, unlinkat,
    },
    io::Errno,
};

use super::Entry;

/// The rights a new file is made with, of which the process's umask then takes away: never those to run
/// it, to run it as another user, or for everybody to write to it.
const NEW_FILE: Mode = Mode::from_bits_retain(0o664);

/// An opened folder.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Opens the folder that `path` leads to now.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Whether `path` still leads to this folder.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        match (fstat(&self.0), statat(CWD, path, AtFlags::empty())) {
            (Ok(ours), Ok(there)) => identity(&ours) == identity(&there),
            _ => false,
        }
    }

    /// Whether files may be made in it.
    pub(crate) fn check_writable(&self) -> io::Result<()> {
        Ok(accessat(&self.0, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
    }

    /// Bytes that may still be written to its disk; `None` where the system doesn't say.
    pub(crate) fn free(&self) -> Option<u64> {
        let stat = fstatvfs(&self.0).ok()?;
        // Some file systems of the network and of user space say nothing by zeros.
        (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// What stands at `name`.
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        let stat = match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Entry::File,
            FileType::Symlink => Entry::Link,
            FileType::Directory => Entry::Other("a folder"),
            FileType::Fifo => Entry::Other("a pipe"),
            FileType::Socket => Entry::Other("a socket"),
            _ => Entry::Other("a device"),
        }))
    }

    /// Whether `name` is that very file.
    pub(crate) fn holds(&self, name: &OsStr, file: &File) -> bool {
        match (fstat(file), statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Ok(ours), Ok(there)) => identity(&ours) == identity(&there),
            _ => false,
        }
    }

    /// Makes a new file; fails with `AlreadyExists` where anything, a link included, has the name.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, NEW_FILE)?))
    }

    /// Opens the file at `name` for writing; fails on a link, and never waits.
    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Removes the file or the link at `name`.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Renames a file in one step, in place of whatever file or link has the new name.
    pub(crate) fn replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Renames a file in one step; fails with `AlreadyExists` where anything has the new name.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match self.rename_exclusive(from, to) {
            // This file system can't; a second link can't take a name either, and is nearly as common.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                linkat(&self.0, from, &self.0, to, AtFlags::empty())?;
                self.remove(from)
            }
            result => Ok(result?),
        }
    }

    /// Gives `file` the rights of the file at `name`, without those no received file gets.
    pub(crate) fn inherit_rights(&self, name: &OsStr, file: &File) -> io::Result<()> {
        let stat = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(fchmod(file, Mode::from_raw_mode(stat.st_mode) & NEW_FILE)?)
    }

    /// Makes names given so far survive a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn rename_exclusive(&self, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        use rustix::fs::{RenameFlags, renameat_with};
        renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn rename_exclusive(&self, _from: &OsStr, _to: &OsStr) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}

/// What tells one file from every other; the fields' types differ between systems.
fn identity(stat: &Stat) -> (i128, i128) {
    (i128::from(stat.st_dev), i128::from(stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_without_the_system_call_replaces_nothing_either() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("from"), "new").expect("written");
        std::fs::write(folder.path().join("taken"), "old").expect("written");
        let dir = Dir::open(folder.path()).expect("opened");
        let link = |to: &str| linkat(&dir.0, "from", &dir.0, to, AtFlags::empty());
        assert_eq!(link("taken"), Err(Errno::EXIST));
        assert_eq!(link("free"), Ok(()));
        assert_eq!(std::fs::read(folder.path().join("taken")).expect("read"), b"old");
    }
}
