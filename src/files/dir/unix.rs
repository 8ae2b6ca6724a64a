//! A folder by its handle: every name is looked up in that very folder, and no link is followed.

use std::{ffi::OsStr, fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{
        Access, AtFlags, CWD, FileType, Mode, OFlags, Stat, accessat, fchmod, fstat, fstatvfs, fsync, linkat,
        openat, renameat, statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

use super::{super::preserved::ALLOWED, DirEntry};

/// The rights a new file is made with, of which the process's umask then takes away.
const NEW_FILE: Mode = Mode::from_bits_retain(ALLOWED);

/// The rights of a file that is not whole yet: nobody but this user can open it.
const PRIVATE_FILE: Mode = Mode::from_bits_retain(0o600);

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
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Option<DirEntry>> {
        let stat = match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => DirEntry::File,
            FileType::Symlink => DirEntry::Link,
            FileType::Directory => DirEntry::Other("a folder"),
            FileType::Fifo => DirEntry::Other("a pipe"),
            FileType::Socket => DirEntry::Other("a socket"),
            _ => DirEntry::Other("a device"),
        }))
    }

    /// Whether `name` is that very file.
    pub(crate) fn holds(&self, name: &OsStr, file: &File) -> bool {
        match (fstat(file), statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Ok(ours), Ok(there)) => identity(&ours) == identity(&there),
            _ => false,
        }
    }

    fn create(&self, name: &OsStr, mode: Mode) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, mode)?))
    }

    /// Makes a new file that nobody but this user can open; also returns the rights that a new file has here.
    /// Fails with `AlreadyExists` where anything, a link included, has the name.
    pub(crate) fn create_private(&self, name: &OsStr) -> io::Result<(File, u32)> {
        // The umask is known only by what it does, and whoever opened a file keeps it open: so it is another
        // file that shows it.
        let usual = self.create(name, NEW_FILE)?;
        let mode = Mode::from_raw_mode(fstat(&usual)?.st_mode).bits();
        self.remove(name)?;
        Ok((self.create(name, PRIVATE_FILE)?, mode))
    }

    /// Whether a file belongs to this user, has one name, and nobody else can open it.
    pub(crate) fn is_private(&self, file: &File) -> bool {
        fstat(file).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_uid == geteuid().as_raw()
                && stat.st_nlink == 1
                && Mode::from_raw_mode(stat.st_mode).difference(PRIVATE_FILE).is_empty()
        })
    }

    /// What tells a file from all others on its disk.
    pub(crate) fn number(&self, file: &File) -> u64 {
        fstat(file).map_or(0, |stat| stat.st_ino)
    }

    /// Gives `file` these rights, as far as a received file gets them.
    pub(crate) fn set_rights(&self, file: &File, mode: u32) -> io::Result<()> {
        Ok(fchmod(file, Mode::from_bits_truncate(mode) & NEW_FILE)?)
    }

    /// Once a file has its name there is nothing more to do.
    pub(crate) fn protect(&self, _file: &File, _mode: u32) {}

    /// The rights of the file at `name`; `None` where there is no file.
    pub(crate) fn rights(&self, name: &OsStr) -> Option<u32> {
        let stat = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then(|| Mode::from_raw_mode(stat.st_mode).bits())
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
        self.rename_new_by(Self::rename_exclusive, from, to)
    }

    /// As [`Self::rename_new`], on a file system that does with `exclusive` what it can.
    fn rename_new_by(
        &self,
        exclusive: impl Fn(&Self, &OsStr, &OsStr) -> Result<(), Errno>,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<()> {
        match exclusive(self, from, to) {
            // This file system can't; a second link can't take a name either, and is nearly as common.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.rename_by_link(from, to),
            result => Ok(result?),
        }
    }

    /// Gives the file its new name and takes the old one away. In between it has both.
    fn rename_by_link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        linkat(&self.0, from, &self.0, to, AtFlags::empty())?;
        // The file stands under its new name, and saying that it does not would be wrong. An old name that
        // stays is swept away as one left behind.
        if let Err(error) = self.remove(from) {
            tracing::debug!(%error, "the temporary name of a received file could not be removed");
        }
        Ok(())
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
    use std::{fs, path::PathBuf, sync::Barrier, thread};

    use super::*;

    /// What a file system without exclusive renames answers.
    const REFUSALS: [Errno; 3] = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP];

    type Rename = fn(&Dir, &OsStr, &OsStr) -> io::Result<()>;

    struct Folder {
        temporary: tempfile::TempDir,
        dir: Dir,
    }

    impl Folder {
        fn new() -> Self {
            let temporary = tempfile::tempdir().expect("a folder");
            let dir = Dir::open(temporary.path()).expect("opened");
            Self { temporary, dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.temporary.path().join(name)
        }

        fn write(&self, name: &str, content: &str) {
            fs::write(self.path(name), content).expect("written");
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).expect("read")
        }

        /// Renames on a file system that answers an exclusive rename with `refusal`.
        fn rename(&self, refusal: Errno, from: &str, to: &str) -> Result<(), io::ErrorKind> {
            let renamed = self.dir.rename_new_by(|_, _, _| Err(refusal), from.as_ref(), to.as_ref());
            renamed.map_err(|error| error.kind())
        }
    }

    #[test]
    fn without_exclusive_renames_a_free_name_is_taken() {
        for refusal in REFUSALS {
            let folder = Folder::new();
            folder.write("from", "new");
            assert_eq!(folder.rename(refusal, "from", "to"), Ok(()));
            assert_eq!(folder.read("to"), "new");
            assert!(!folder.path("from").exists());
        }
    }

    #[test]
    fn without_exclusive_renames_nothing_is_replaced() {
        for refusal in REFUSALS {
            let folder = Folder::new();
            folder.write("from", "new");
            folder.write("file", "old");
            fs::create_dir(folder.path("folder")).expect("made");
            std::os::unix::fs::symlink("nowhere", folder.path("link")).expect("made");
            for taken in ["file", "folder", "link"] {
                assert_eq!(
                    folder.rename(refusal, "from", taken),
                    Err(io::ErrorKind::AlreadyExists),
                    "{taken}"
                );
            }
            assert_eq!((folder.read("from").as_str(), folder.read("file").as_str()), ("new", "old"));
            assert_eq!(fs::read_link(folder.path("link")).expect("a link"), PathBuf::from("nowhere"));
        }
    }

    #[test]
    fn another_error_of_an_exclusive_rename_is_told_and_nothing_else_is_tried() {
        let folder = Folder::new();
        folder.write("from", "new");
        assert_eq!(folder.rename(Errno::ACCESS, "from", "to"), Err(io::ErrorKind::PermissionDenied));
        assert!(folder.path("from").exists() && !folder.path("to").exists());
    }

    #[test]
    fn of_many_that_want_one_name_at_once_one_has_it_whatever_the_way() {
        const RIVALS: usize = 8;
        let ways: [Rename; 2] = [Dir::rename_new, Dir::rename_by_link];
        for round in 0..50 {
            let folder = Folder::new();
            let names: Vec<String> = (0..RIVALS).map(|rival| format!("from{rival}")).collect();
            names.iter().for_each(|name| folder.write(name, name));
            let start = Barrier::new(RIVALS);
            let results: Vec<io::Result<()>> = thread::scope(|scope| {
                let rivals = names.iter().enumerate().map(|(rival, name)| {
                    // Both ways must also hold against each other.
                    let (rename, dir, start) = (ways[(round + rival) % 2], &folder.dir, &start);
                    scope.spawn(move || {
                        start.wait();
                        rename(dir, name.as_ref(), "to".as_ref())
                    })
                });
                let rivals: Vec<_> = rivals.collect();
                rivals.into_iter().map(|rival| rival.join().expect("no panic")).collect()
            });
            let winners: Vec<&String> = names
                .iter()
                .zip(&results)
                .filter(|(_, result)| result.is_ok())
                .map(|(name, _)| name)
                .collect();
            assert_eq!(winners.len(), 1, "{results:?}");
            assert_eq!(&folder.read("to"), winners[0]);
            for (name, result) in names.iter().zip(&results) {
                match result {
                    Ok(()) => assert!(!folder.path(name).exists()),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                        assert_eq!(&folder.read(name), name);
                    }
                }
            }
        }
    }
}
