//! A folder by its handle: every name is looked up in that very folder, and no link is followed.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
    time::SystemTime,
};

use rustix::{
    fs::{
        Access, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
        accessat, fchmod, flock, fstat, fstatvfs, fsync, futimens, linkat, mkdirat, openat, readlinkat,
        renameat, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
    process::geteuid,
};

use super::{super::preserved::ALLOWED, DirEntry};

/// The rights a new file is made with, of which the process's umask then takes away.
const NEW_FILE: Mode = Mode::from_bits_retain(ALLOWED);

/// The rights of a file that is not whole yet: nobody but this user can open it.
const PRIVATE_FILE: Mode = Mode::from_bits_retain(0o600);

/// The rights of a folder that is not whole yet, and of one that is to be removed.
const PRIVATE_FOLDER: Mode = Mode::from_bits_retain(0o700);

/// The rights of everybody but the owner.
const OF_OTHERS: u32 = 0o077;

/// Folders in each other that are removed: more than are ever made.
const MAX_REMOVED_DEPTH: usize = 128;

/// An opened folder.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Whether [`Self::sync_disk`] brings all that was written before to the disk. Where it does not, each
    /// file and each folder is brought there by itself.
    pub(crate) const SYNCS_DISK: bool = cfg!(any(target_os = "linux", target_os = "android"));

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

    /// Files that may still be made on its disk; `None` where the system doesn't say, or has no such limit.
    pub(crate) fn free_files(&self) -> Option<u64> {
        let stat = fstatvfs(&self.0).ok()?;
        // Of a disk where none is left, the system says so when one is to be made.
        (stat.f_favail > 0).then_some(stat.f_favail)
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

    /// Opens the folder at `name`; fails on a link.
    pub(crate) fn open_folder(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Makes a new folder that nobody but this user can open; fails with `AlreadyExists` where anything has
    /// the name.
    pub(crate) fn create_folder(&self, name: &OsStr) -> io::Result<Self> {
        mkdirat(&self.0, name, PRIVATE_FOLDER)?;
        self.open_folder(name)
    }

    /// The rights of [`ALLOWED`] that a new file has here, which a folder at `name` shows that goes again.
    pub(crate) fn usual_rights(&self, name: &OsStr) -> io::Result<u32> {
        mkdirat(&self.0, name, NEW_FILE)?;
        let stat = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW);
        unlinkat(&self.0, name, AtFlags::REMOVEDIR)?;
        Ok((Mode::from_raw_mode(stat?.st_mode) & NEW_FILE).bits())
    }

    /// Makes a new file with these rights, less those that the umask takes; fails with `AlreadyExists` where
    /// anything, a link included, has the name.
    pub(crate) fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::from_bits_truncate(mode) & NEW_FILE)?))
    }

    /// Makes a link that leads to `target`, changed last at this time.
    pub(crate) fn create_link(
        &self,
        name: &OsStr,
        target: &str,
        modified: Option<SystemTime>,
    ) -> io::Result<()> {
        symlinkat(target, &self.0, name)?;
        match modified.map(timestamps) {
            Some(times) => Ok(utimensat(&self.0, name, &times, AtFlags::SYMLINK_NOFOLLOW)?),
            None => Ok(()),
        }
    }

    /// Gives the folder itself these rights, as far as a received one gets them, and this time.
    pub(crate) fn finish(&self, mode: u32, modified: Option<SystemTime>) -> io::Result<()> {
        if let Some(times) = modified.map(timestamps) {
            futimens(&self.0, &times)?;
        }
        Ok(fchmod(&self.0, Mode::from_bits_truncate(mode) & NEW_FILE)?)
    }

    /// Whether `name` is that very folder.
    pub(crate) fn holds_folder(&self, name: &OsStr, folder: &Self) -> bool {
        match (fstat(&folder.0), statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Ok(ours), Ok(there)) => identity(&ours) == identity(&there),
            _ => false,
        }
    }

    /// Whether `name` is a folder with nothing in it.
    pub(crate) fn holds_empty_folder(&self, name: &OsStr) -> bool {
        let is_name = |entry: &rustix::fs::DirEntry| !matches!(entry.file_name().to_bytes(), b"." | b"..");
        let entries = self.open_folder(name).and_then(|folder| Ok(rustix::fs::Dir::read_from(&folder.0)?));
        entries.is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| !is_name(&entry))))
    }

    /// What tells the folder from all others on its disk.
    pub(crate) fn own_number(&self) -> u64 {
        fstat(&self.0).map_or(0, |stat| stat.st_ino)
    }

    /// Whether the folder belongs to this user, and nobody else can look into it.
    pub(crate) fn is_own_and_private(&self) -> bool {
        fstat(&self.0).is_ok_and(|stat| {
            stat.st_uid == geteuid().as_raw() && Mode::from_raw_mode(stat.st_mode).bits() & OF_OTHERS == 0
        })
    }

    /// Gives the folder the rights of one that is not whole yet.
    pub(crate) fn make_private(&self) -> io::Result<()> {
        Ok(fchmod(&self.0, PRIVATE_FOLDER)?)
    }

    /// Opens the file at `name` for reading, and says how long it is; fails on a link, and on a file of
    /// another user or of several names, and never waits.
    pub(crate) fn open_own_file(&self, name: &OsStr) -> io::Result<(File, u64)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        let stat = fstat(&file)?;
        let is_own = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == geteuid().as_raw()
            && stat.st_nlink == 1;
        let len = u64::try_from(stat.st_size).ok().filter(|_| is_own);
        Ok((file, len.ok_or(io::ErrorKind::InvalidInput)?))
    }

    /// Opens such a file for writing, whatever its rights are, and gives it these.
    pub(crate) fn open_own_file_again(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        fchmod(&self.open_own_file(name)?.0, PRIVATE_FILE)?;
        let file = self.open_file(name)?;
        self.set_rights(&file, mode)?;
        Ok(file)
    }

    /// Where the link at `name` leads.
    pub(crate) fn link_target(&self, name: &OsStr) -> io::Result<OsString> {
        Ok(OsString::from_vec(readlinkat(&self.0, name, Vec::new())?.into_bytes()))
    }

    /// The names of all that is in the folder.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = rustix::fs::Dir::read_from(&self.0)?
            .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()));
        entries.filter(|name| !name.as_ref().is_ok_and(|name| name == "." || name == "..")).collect()
    }

    /// Takes the lock by which a process shows that it fills the folder; false where another holds it.
    pub(crate) fn lock(&self) -> bool {
        // A file system without locks can't tell; the last to come then has the folder.
        flock(&self.0, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
    }

    /// Has the folder count as changed now.
    pub(crate) fn touch(&self) -> io::Result<()> {
        Ok(futimens(&self.0, &timestamps(SystemTime::now()))?)
    }

    /// When a name in the folder was changed last, or when it was touched.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        File::from(self.0.try_clone().ok()?).metadata().ok()?.modified().ok()
    }

    /// Moves a folder here from another one, in one step; fails with `AlreadyExists` where anything has the
    /// new name.
    pub(crate) fn take_new(&self, from: &Self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        match from.move_exclusive(old, self, new) {
            // This file system can't; an empty folder takes the name as well, and gives way to the other.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                mkdirat(&self.0, new, PRIVATE_FOLDER)?;
                self.take_over_empty(from, old, new)
            }
            result => Ok(result?),
        }
    }

    /// Moves a folder here from another one, in one step, also in place of an empty folder; fails with
    /// `AlreadyExists` where anything else has the new name.
    pub(crate) fn take_over_empty(&self, from: &Self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        match renameat(&from.0, old, &self.0, new) {
            Err(Errno::NOTEMPTY | Errno::NOTDIR | Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
            result => Ok(result?),
        }
    }

    /// Removes what stands at `name`, with all that is in it if it is a folder. Follows no link.
    pub(crate) fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        self.remove_below(name, MAX_REMOVED_DEPTH)
    }

    fn remove_below(&self, name: &OsStr, depth: usize) -> io::Result<()> {
        // What `unlink` says of a folder differs between systems.
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => return Err(Errno::NOENT.into()),
            Err(_) if depth == 0 => return Err(Errno::LOOP.into()),
            Err(_) => {}
        }
        let folder = self.open_folder(name)?;
        fchmod(&folder.0, PRIVATE_FOLDER)?;
        for entry in rustix::fs::Dir::read_from(&folder.0)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                folder.remove_below(name, depth - 1)?;
            }
        }
        Ok(unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes all that was written to the folder's disk so far survive a loss of power, where the system can
    /// be asked for that: elsewhere `sync` returns before it is done.
    pub(crate) fn sync_disk(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        rustix::fs::syncfs(&self.0)?;
        Ok(())
    }

    /// Makes names given so far survive a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn move_exclusive(&self, from: &OsStr, into: &Self, to: &OsStr) -> Result<(), Errno> {
        use rustix::fs::{RenameFlags, renameat_with};
        renameat_with(&self.0, from, &into.0, to, RenameFlags::NOREPLACE)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn move_exclusive(&self, _from: &OsStr, _into: &Self, _to: &OsStr) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn rename_exclusive(&self, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        self.move_exclusive(from, self, to)
    }
}

/// The time of modification, that of access being let alone.
fn timestamps(modified: SystemTime) -> Timestamps {
    let (seconds, nanos) = match modified.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        // Whole seconds are all that an archive has.
        Err(before) => (-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX), 0),
    };
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
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
