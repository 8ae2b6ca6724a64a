//! The temporary file beside the target, and its way to the final name.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IoSlice, Read as _, Seek as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    Preserved, Source, Target, TargetError,
    checkpoints::{Checkpoints, PartIdentity, Prefix},
    dir::Dir,
    holes::Hole,
    place::{Place, is_locked},
    temporary::{is_temporary, temporary_name},
    tree,
};

/// Bytes copied at a time.
const COPY_LEN: usize = 1024 * 1024;

/// A file that is being received: `.` and the transfer's id and `.part` in the target's folder, until
/// [`commit`](Partial::commit) gives it its name. Dropped before, it is removed, unless it was made to be
/// found again by [`resume`](Partial::resume).
///
/// The folder is opened once, and everything happens in that very folder. While it is written the file
/// is locked, so that one left behind by a process that died is told from one that lives; and until it is
/// whole nobody but this user can open it.
#[derive(Debug)]
pub struct Partial {
    file: File,
    temporary: OsString,
    place: Place,
    size: u64,
    /// The rights that a new file has here.
    usual: u32,
    /// What it is to have of its source in the end.
    preserved: Preserved,
    /// Bytes written, and what hashes them.
    written: u64,
    hasher: Sha256,
    /// Zeros at their end that the disk does not hold yet.
    hole: Hole,
    /// By what it is found again.
    memory: Option<Memory>,
    /// What the last write left.
    settled: Option<PartStamp>,
    committed: bool,
}

/// What a process that died has left.
struct Found {
    file: File,
    checkpoints: Checkpoints,
    usual: u32,
    standing: Prefix,
}

/// What is remembered of a partial file, and where.
#[derive(Debug)]
struct Memory {
    checkpoints: Checkpoints,
    path: PathBuf,
}

/// What changes when somebody writes to a file.
#[derive(Debug, PartialEq, Eq)]
struct PartStamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl Partial {
    /// Makes the temporary file of the transfer `id`, 16 hex digits, for a file of `size` bytes. Blocks.
    ///
    /// It checks everything that could stop the file later: call it before claiming an offer.
    ///
    /// # Errors
    /// Every [`TargetError`] but `Moved` and `Changed`.
    pub fn create(target: &Target, id: &str, size: u64) -> Result<Self, TargetError> {
        Self::create_in(Place::open(target, size)?, temporary_name(id), size)
    }

    /// As [`create`](Self::create), but where a process that died left the same file, what stands of it is
    /// gone on with: as much as `memory`, a file that this writes, says of it, and as the disk still holds,
    /// which is read for that; `read` is told the bytes read and how many there are to read. Once `cancel`
    /// says so, no more is read. Dropped, the file stays, to be found again.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn resume(
        target: &Target,
        id: &str,
        size: u64,
        memory: &Path,
        read: impl FnMut(u64, u64),
        cancel: &CancellationToken,
    ) -> Result<Self, TargetError> {
        let (place, temporary) = (Place::open(target, size)?, temporary_name(id));
        let found = Self::find(&place, &temporary, size, memory, read, cancel)?;
        let Some(Found { file, checkpoints, usual, standing: Prefix { len: written, hasher } }) = found
        else {
            let mut partial = Self::create_in(place, temporary, size)?;
            partial.remember_at(memory);
            return Ok(partial);
        };
        place.check_room(size - written, size)?;
        let memory = Some(Memory { checkpoints, path: memory.to_owned() });
        let mut partial = Self::new(file, temporary, place, size, usual);
        (partial.written, partial.hasher, partial.memory) = (written, hasher, memory);
        Ok(partial)
    }

    /// Removes what is left of the transfer `id` beside `target`, and `memory`, unless a living process is
    /// writing it. Blocks.
    pub fn discard(target: &Target, id: &str, memory: &Path) {
        let temporary = temporary_name(id);
        if let Ok(dir) = Dir::open(target.folder()) {
            match dir.open_file(&temporary) {
                Ok(file) if !is_locked(&file) && dir.holds(&temporary, &file) => {
                    let _ = dir.remove(&temporary);
                }
                Ok(_) => {}
                Err(_) => drop(tree::remove_left_behind(&dir, &temporary, |_| false)),
            }
        }
        let _ = std::fs::remove_file(memory);
    }

    fn create_in(place: Place, temporary: OsString, size: u64) -> Result<Self, TargetError> {
        place.check_room(size, size)?;
        let (file, usual) = place.create_temporary(&temporary, size)?;
        Ok(Self::new(file, temporary, place, size, usual))
    }

    fn new(file: File, temporary: OsString, place: Place, size: u64, usual: u32) -> Self {
        Self {
            file,
            temporary,
            place,
            size,
            usual,
            preserved: Preserved::default(),
            written: 0,
            hasher: Sha256::new(),
            hole: Hole::default(),
            memory: None,
            settled: None,
            committed: false,
        }
    }

    /// The file that a process which died has left, as far as it stands.
    fn find(
        place: &Place,
        temporary: &OsStr,
        size: u64,
        memory: &Path,
        read: impl FnMut(u64, u64),
        cancel: &CancellationToken,
    ) -> Result<Option<Found>, TargetError> {
        let Ok(mut file) = place.dir.open_file(temporary) else { return Ok(None) };
        if is_locked(&file) {
            return Err(TargetError::Busy { path: place.folder.join(temporary) });
        }
        if !place.dir.holds(temporary, &file) || !place.dir.is_private(&file) {
            return Ok(None);
        }
        let number = place.dir.number(&file);
        let is_it = |identity: PartIdentity| identity.number == number;
        let Some((checkpoints, identity, standing)) =
            Checkpoints::open(memory, &mut file, size, is_it, read, cancel)
        else {
            return Ok(None);
        };
        let cut = file.set_len(standing.len).and_then(|()| file.seek(io::SeekFrom::Start(standing.len)));
        Ok(cut.is_ok().then_some(Found { file, checkpoints, usual: identity.mode, standing }))
    }

    /// Remembers from now on what is written. Where that is not possible, the file is not found again.
    fn remember_at(&mut self, path: &Path) {
        let identity = PartIdentity { number: self.place.dir.number(&self.file), mode: self.usual };
        match Checkpoints::create(path, identity, self.size) {
            Ok(checkpoints) => self.memory = Some(Memory { checkpoints, path: path.to_owned() }),
            Err(error) => tracing::debug!(%error, "what is received can't be remembered"),
        }
    }

    /// Fills it, which is empty, with the bytes of a file that is here, and says whether they are those of
    /// `hash`, SHA-256 in lower-case hex; if not, or once `cancel` says so, it is empty again. Where the file
    /// system can, the two share their place on the disk until one of them is written to. Blocks; tells
    /// `read` the bytes so far, all of which are read.
    ///
    /// # Errors
    /// As [`Self::write_all`].
    pub(crate) fn adopt(
        &mut self,
        source: &Source,
        hash: &str,
        mut read: impl FnMut(u64),
        cancel: &CancellationToken,
    ) -> Result<bool, TargetError> {
        if self.written > 0 || source.size() != self.size {
            return Ok(false);
        }
        // What is compared is the copy, which nobody else can change.
        let is_shared = source.handle().is_some_and(|from| share(from, &self.file))
            && self.file.metadata().is_ok_and(|metadata| metadata.len() == self.size);
        let mut buffer = vec![0; COPY_LEN];
        while self.written < self.size && !cancel.is_cancelled() {
            let left = usize::try_from(self.size - self.written).unwrap_or(usize::MAX);
            let chunk = buffer.get_mut(..left.min(COPY_LEN)).unwrap_or_default();
            let is_read = match is_shared {
                true => self.file.read_exact(chunk).is_ok(),
                false => source.read_exact_at(chunk, self.written).is_ok(),
            };
            if !is_read {
                break;
            }
            if is_shared {
                self.hasher.update(&*chunk);
                self.written += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            } else {
                self.write_all(chunk)?;
            }
            read(self.written);
        }
        if self.written == self.size && self.hash() == hash {
            return Ok(true);
        }
        self.clear()?;
        Ok(false)
    }

    /// Says what the file is to have of its source in the end.
    pub fn preserve(&mut self, preserved: Preserved) {
        self.preserved = preserved;
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
        cleared.map_err(|source| self.failed(source))?;
        if let Some(memory) = &mut self.memory {
            memory.checkpoints.clear().map_err(|source| self.failed(source))?;
        }
        (self.written, self.hasher, self.hole, self.settled) = (0, Sha256::new(), Hole::default(), None);
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
    pub fn write_all_vectored(&mut self, pieces: &mut [IoSlice<'_>]) -> Result<(), TargetError> {
        let mut len = 0;
        for piece in pieces.iter() {
            self.hasher.update(&**piece);
            len += piece.len();
        }
        let written = self.hole.write(&mut self.file, pieces, self.written);
        written.map_err(|source| self.failed(source))?;
        self.written += u64::try_from(len).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Remembers what was written, if enough was since this was last done. Blocks.
    pub fn remember(&mut self) {
        if self.memory.as_ref().is_some_and(|memory| memory.checkpoints.is_due(self.written)) {
            self.add_checkpoint();
        }
    }

    /// Says that nothing is written for now: what somebody else writes from then on is noticed in the end.
    /// Remembers what was written. Blocks.
    pub fn settle(&mut self) {
        self.add_checkpoint();
        // A file that can't be made as long as it is does not become whole either.
        self.settled = self.extend().and_then(|()| self.stamp()).ok();
    }

    /// Makes the file as long as what was written, also where that ends in zeros. One that is so long is let
    /// alone: to give it the same length would be a change like any other.
    fn extend(&self) -> io::Result<()> {
        match self.hole.is_open() && self.file.metadata()?.len() < self.written {
            true => self.file.set_len(self.written),
            false => Ok(()),
        }
    }

    fn add_checkpoint(&mut self) {
        if let Err(error) = self.extend() {
            tracing::debug!(%error, "what is received can't be remembered");
            return;
        }
        if let Some(memory) = &mut self.memory
            && let Err(error) = memory.checkpoints.add(self.written, &self.hasher)
        {
            tracing::debug!(%error, "what is received can't be remembered");
        }
    }

    /// Brings the file to the disk, gives it its final name in one step, and brings that to the disk.
    /// Blocks. Returns the path, whose name is a numbered one where the wanted one was taken in a folder.
    ///
    /// # Errors
    /// Any [`TargetError`]; the temporary file is removed then, and nothing stands at the final path that
    /// did not stand there before.
    pub fn commit(mut self) -> Result<PathBuf, TargetError> {
        let committed = self.put_in_place();
        // Whatever came of it, there is nothing left to go on with.
        self.forget();
        committed
    }

    fn put_in_place(&mut self) -> Result<PathBuf, TargetError> {
        self.extend().and_then(|()| self.file.sync_all()).map_err(|source| self.failed(source))?;
        if !self.place.is_in_its_place() {
            return Err(TargetError::Moved { path: self.place.folder.clone() });
        }
        // A rename goes by the name: make sure that the name still stands for the file that was verified.
        if !self.place.dir.holds(&self.temporary, &self.file) {
            return Err(TargetError::Moved { path: self.place.folder.join(&self.temporary) });
        }
        let stamp = self.stamp().map_err(|source| self.failed(source))?;
        if stamp.len != self.written || self.settled.as_ref().is_some_and(|settled| *settled != stamp) {
            return Err(TargetError::Changed { path: self.place.folder.join(&self.temporary) });
        }
        if let Some(modified) = self.preserved.modified(SystemTime::now())
            && let Err(error) = self.file.set_modified(modified)
        {
            tracing::debug!(%error, "a received file could not be given its time");
        }
        let Self { temporary, file, usual, size, preserved: Preserved { rights, .. }, .. } = self;
        let name = self.place.rename(temporary, file, *rights, *usual, *size)?;
        self.committed = true;
        // The file is in its place. Not every file system can bring a folder to the disk, and there is
        // nothing left to undo.
        if let Err(error) = self.place.dir.sync() {
            tracing::debug!(%error, "the folder of a received file could not be synced");
        }
        Ok(self.place.folder.join(name))
    }

    /// Removes the file, and what is remembered of it. Blocks.
    pub fn remove(mut self) {
        self.forget();
    }

    fn forget(&mut self) {
        if let Some(memory) = self.memory.take() {
            // One that stays speaks of a file that is not there any more.
            let _ = std::fs::remove_file(memory.path);
        }
    }

    fn stamp(&self) -> io::Result<PartStamp> {
        let metadata = self.file.metadata()?;
        Ok(PartStamp { len: metadata.len(), modified: metadata.modified().ok() })
    }

    fn failed(&self, source: io::Error) -> TargetError {
        self.place.failed(&self.temporary, self.size, source)
    }
}

/// Removes the temporary files and folders that died with their processes and were not written to for `age`,
/// or at all. Blocks; returns how many. Those that another process is writing stay, whatever their age.
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
        let is_old = |at: SystemTime| at.elapsed().is_ok_and(|elapsed| elapsed >= age);
        let Ok(file) = opened.open_file(&name) else {
            let is_wanted = |modified: Option<SystemTime>| !modified.is_some_and(is_old);
            removed += usize::from(tree::remove_left_behind(&opened, &name, is_wanted));
            continue;
        };
        let Ok(metadata) = file.metadata() else { continue };
        let is_useless = metadata.modified().is_ok_and(is_old) || metadata.len() == 0;
        if is_useless && !is_locked(&file) && opened.holds(&name, &file) && opened.remove(&name).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.committed && self.memory.is_none() && self.place.dir.holds(&self.temporary, &self.file) {
            // One that can't be removed now is replaced by the next attempt.
            let _ = self.place.dir.remove(&self.temporary);
        }
    }
}

/// Has an empty file share the place of another one on the disk, and be a copy of it by that; false where the
/// file system can't.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn share(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn share(_from: &File, _to: &File) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{
        super::{Existing, SafeName},
        *,
    };

    #[test]
    fn a_file_that_is_here_is_copied_if_it_is_the_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let (held, path) = (dir.path().join("held"), dir.path().join("in"));
        let content: Vec<u8> = (0..3 * COPY_LEN + 5).map(|at| (at / 251).to_le_bytes()[0]).collect();
        std::fs::write(&held, &content).expect("written");
        let source = Source::open(&held).expect("opened");
        let hash = hex::encode(Sha256::digest(&content));
        let target = Target::Exact { path, overwrite: true };
        let size = content.len() as u64;
        let create = |size| Partial::create(&target, "0123456789abcdef", size).expect("created");
        let never = CancellationToken::new();
        let (mut partial, mut told) = (create(size), Vec::new());
        assert!(partial.adopt(&source, &hash, |bytes| told.push(bytes), &never).expect("read"));
        assert_eq!((partial.written(), told.len(), told.last()), (size, 4, Some(&size)));
        let copy = partial.commit().expect("committed");
        assert!(std::fs::read(&copy).expect("read") == content);
        std::fs::write(&copy, "other").expect("written");
        assert!(std::fs::read(&held).expect("read") == content, "it is no link");
        // Another file, and one that is given up, leave nothing in the way of what comes then.
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        for (hash, cancel) in [(&"0".repeat(64), &never), (&hash, &cancelled)] {
            let mut partial = create(size);
            assert!(!partial.adopt(&source, hash, |_| {}, cancel).expect("read"));
            assert_eq!(partial.written(), 0);
            partial.write_all(&content).expect("written");
            assert!(std::fs::read(partial.commit().expect("committed")).expect("read") == content);
        }
        let mut shorter = create(size - 1);
        assert!(!shorter.adopt(&source, &hash, |_| {}, &never).expect("read"));
    }

    #[test]
    fn a_disk_that_fills_up_meanwhile_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = Target::InFolder {
            dir: dir.path().to_owned(),
            name: SafeName::from_offered("a"),
            existing: Existing::default(),
        };
        let mut partial = Partial::create(&target, "0123456789abcdef", 3).expect("created");
        partial.file = File::options().write(true).open("/dev/full").expect("opened");
        let full = partial.write_all(b"abc");
        assert!(matches!(full, Err(TargetError::DiskFull { needed: 3, .. })), "{full:?}");
    }
}
