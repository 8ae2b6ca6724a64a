//! The temporary folder beside the target, which is unpacked as its archive comes, and its way to the final
//! name.
//!
//! # Layout
//! - `standing`: how much of one stands that a process which died has left, and the way back to there

mod standing;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use self::standing::{LeftTree, Restored, StandingTree, restore};
use super::{
    Preserved, Rights, SafeName, Target, TargetError,
    archive::{
        TreeSize,
        decoder::{ArchiveDecoder, ArchiveFlaw, ArchivePart},
        entry::{ArchiveEntry, EntryKind},
        path::stays_inside,
    },
    dir::Dir,
    holes::Hole,
    journal::{Journal, TreeIdentity},
    place::Place,
    temporary::temporary_name,
    text::display,
};

/// The name by which it is found out what rights a new file has; nothing of an archive stands beside it.
const PROBE: &str = "rights";

/// The name of the topmost folder, as long as it is in the temporary one.
const ROOT: &str = "tree";

/// The rights that an owner always has in a folder: what its own node can't look through is not found again.
const OWN_TO_LOOK: u32 = 0o500;

/// The right without which a folder can't be moved.
const OWN_TO_WRITE: u32 = 0o200;

/// What a folder was offered as, and what is kept of it.
#[derive(Clone, Copy, Debug)]
pub struct OfferedTree {
    /// Bytes of its archive.
    pub size: u64,
    /// What it holds.
    pub holds: TreeSize,
    /// What it is to have of its source.
    pub preserved: Preserved,
}

/// A folder that is being received: in `.`, the transfer's id and `.part` in the target's folder, until
/// [`commit`](Self::commit) gives it its name. Dropped before, it is removed, unless it was made to be found
/// again by [`resume`](Self::resume).
///
/// Each folder is opened once, and what it is to hold is made in that very folder, where nothing has the name
/// yet. So no link, of the archive or of another process, leads anything elsewhere.
#[derive(Debug)]
pub struct PartialTree {
    place: Place,
    temporary: OsString,
    /// The temporary folder, locked.
    dir: Dir,
    size: u64,
    offered: TreeSize,
    /// The rights that a new file has here.
    usual: u32,
    preserved: Preserved,
    /// Bytes of the archive that came, and what hashes them.
    written: u64,
    hasher: Sha256,
    decoder: ArchiveDecoder,
    /// The folders from the topmost one to that in which the next entry may stand.
    open: Vec<OpenFolder>,
    file: Option<OpenFile>,
    /// The topmost folder, once all that is in it is there.
    root: Option<OpenFolder>,
    /// By what it is found again.
    memory: Option<TreeMemory>,
    committed: bool,
}

/// What is remembered of a folder, and where.
#[derive(Debug)]
struct TreeMemory {
    journal: Journal,
    path: PathBuf,
}

#[derive(Debug)]
struct OpenFolder {
    /// As the archive names it.
    path: String,
    dir: Dir,
    mode: u32,
    modified: Option<SystemTime>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    written: u64,
    /// Zeros at its end that the disk does not hold yet.
    hole: Hole,
    modified: Option<SystemTime>,
}

impl PartialTree {
    /// Makes the temporary folder of the transfer `id`, 16 hex digits. What a process that died has left of
    /// it is removed. Blocks.
    ///
    /// It checks everything that could stop the folder later: call it before claiming an offer.
    ///
    /// # Errors
    /// Every [`TargetError`] but `Moved`, `Changed` and `Archive`.
    pub fn create(target: &Target, id: &str, offered: OfferedTree) -> Result<Self, TargetError> {
        Self::create_in(Place::open_for_folder(target, offered.size)?, temporary_name(id), offered)
    }

    /// As [`create`](Self::create), but where a process that died left the same folder, what stands of it is
    /// gone on with: as much as `memory`, a file that this writes, says of it, and as the disk still holds,
    /// which is read for that; `read` is told the bytes read and how many there are to read. All else that
    /// is in it is removed. Once `cancel` says so, no more is read. Dropped, the folder stays, to be found
    /// again.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn resume(
        target: &Target,
        id: &str,
        offered: OfferedTree,
        memory: &Path,
        read: impl FnMut(u64, u64),
        cancel: &CancellationToken,
    ) -> Result<Self, TargetError> {
        let (place, temporary) = (Place::open_for_folder(target, offered.size)?, temporary_name(id));
        let left = LeftTree::find(&place, &temporary, memory, offered.preserved.rights)?;
        let found = left.and_then(|left| {
            let standing = left.standing(memory, offered.holds, read, cancel)?;
            Some((left, standing))
        });
        let Some((LeftTree { dir, usual }, standing)) = found else {
            let mut tree = Self::create_in(place, temporary, offered)?;
            tree.remember_at(memory);
            return Ok(tree);
        };
        place.check_tree_room(offered.holds, offered.size.saturating_sub(standing.written))?;
        let mut tree = Self::new(place, temporary, dir, usual, offered);
        if tree.go_on(memory, standing).is_none() {
            tracing::debug!("what a process has left of a folder can't be gone on with");
            tree.clear()?;
            tree.remember_at(memory);
        }
        Ok(tree)
    }

    fn create_in(place: Place, temporary: OsString, offered: OfferedTree) -> Result<Self, TargetError> {
        let size = offered.size;
        let has_room = || place.check_tree_room(offered.holds, size);
        if has_room().is_err() {
            // What an earlier process has left, and is not gone on with, may be what takes it.
            remove_left_behind(&place.dir, &temporary, |_| false);
        }
        has_room()?;
        let dir = place.create_temporary_folder(&temporary, size)?;
        match dir.usual_rights(PROBE.as_ref()) {
            Ok(usual) => Ok(Self::new(place, temporary, dir, usual, offered)),
            Err(source) => {
                let _ = place.remove_tree(&temporary, size);
                Err(place.failed(&temporary, size, source))
            }
        }
    }

    fn new(place: Place, temporary: OsString, dir: Dir, usual: u32, offered: OfferedTree) -> Self {
        let OfferedTree { size, holds, preserved } = offered;
        Self {
            place,
            temporary,
            dir,
            size,
            offered: holds,
            usual,
            preserved,
            written: 0,
            hasher: Sha256::new(),
            decoder: ArchiveDecoder::new(holds),
            open: Vec::new(),
            file: None,
            root: None,
            memory: None,
            committed: false,
        }
    }

    /// Takes up what stands of it; `None` where that can't be done after all.
    fn go_on(&mut self, memory: &Path, standing: StandingTree) -> Option<()> {
        let Restored { open, file, journal } = restore(self, memory, &standing)?;
        let StandingTree { written, hasher, decoder, .. } = standing;
        (self.written, self.hasher, self.decoder) = (written, hasher, decoder);
        (self.open, self.file) = (open, file);
        self.memory = Some(TreeMemory { journal, path: memory.to_owned() });
        Some(())
    }

    /// Remembers from now on what is unpacked. Where that is not possible, the folder is not found again.
    fn remember_at(&mut self, path: &Path) {
        let identity = TreeIdentity::new(self.dir.own_number(), self.usual, self.preserved.rights);
        match Journal::create(path, identity, self.size) {
            Ok(journal) => self.memory = Some(TreeMemory { journal, path: path.to_owned() }),
            Err(error) => tracing::debug!(%error, "what is received can't be remembered"),
        }
    }

    /// Bytes of the archive that it was made of so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// SHA-256 of those, lower-case hex.
    pub fn hash(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }

    /// Gives up all that it holds. Blocks.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn clear(&mut self) -> Result<(), TargetError> {
        (self.file, self.root) = (None, None);
        self.open.clear();
        match self.dir.remove_tree(ROOT.as_ref()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(ROOT, error)),
            _ => {}
        }
        if let Some(memory) = &mut self.memory {
            memory.journal.clear().map_err(|error| self.failed(ROOT, error))?;
        }
        (self.written, self.hasher, self.decoder) = (0, Sha256::new(), ArchiveDecoder::new(self.offered));
        Ok(())
    }

    /// Takes the next bytes of the archive, those of all `pieces` in turn. Blocks.
    ///
    /// # Errors
    /// `Archive`, `DiskFull`, `NotWritable`. It is of no more use then.
    pub fn write_all_vectored(&mut self, pieces: &[IoSlice<'_>]) -> Result<(), TargetError> {
        let mut content = Vec::with_capacity(pieces.len());
        for piece in pieces {
            self.hasher.update(&**piece);
            self.written += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let mut rest = &**piece;
            while let Some(part) = self.decoder.next(&mut rest).map_err(|flaw| archive(&flaw))? {
                match part {
                    ArchivePart::Bytes(bytes) => content.push(IoSlice::new(bytes)),
                    ArchivePart::EntryEnd => {
                        self.write_content(&mut content)?;
                        self.end_entry()?;
                    }
                    ArchivePart::Entry(entry) => {
                        self.begin(&entry)?;
                        self.note(&entry);
                    }
                }
            }
        }
        self.write_content(&mut content)
    }

    fn note(&mut self, entry: &ArchiveEntry) {
        if let Some(memory) = &mut self.memory
            && let Err(error) = memory.journal.add_entry(entry)
        {
            tracing::debug!(%error, "what is received can't be remembered");
        }
    }

    /// Remembers what was unpacked, if enough was since this was last done. Blocks.
    pub fn remember(&mut self) {
        if self.memory.as_ref().is_some_and(|memory| memory.journal.is_due(self.written)) {
            self.settle();
        }
    }

    /// Remembers what was unpacked. Blocks.
    pub fn settle(&mut self) {
        let Some(memory) = &mut self.memory else { return };
        let settled = (|| {
            if let Some(OpenFile { file, written, hole, .. }) = &self.file
                && hole.is_open()
                && file.metadata()?.len() < *written
            {
                file.set_len(*written)?;
            }
            memory.journal.add_checkpoint(self.written, &self.hasher, &self.decoder.unread())?;
            // By its age it is removed one day.
            self.dir.touch()
        })();
        if let Err(error) = settled {
            tracing::debug!(%error, "what is received can't be remembered");
        }
    }

    /// Makes what an entry says.
    fn begin(&mut self, entry: &ArchiveEntry) -> Result<(), TargetError> {
        while let Some(folder) = self.open.pop_if(|folder| !entry.path.starts_with(&folder.path)) {
            self.leave(folder)?;
        }
        let above = self.open.last().map_or("", |folder| folder.path.as_str());
        let Some(name) = name_below(above, &entry.path) else {
            return Err(refused(format!("{} comes before its folder", display(&entry.path))));
        };
        let Some(parent) = self.open.last() else { return self.begin_root(entry) };
        let modified = self.modified(entry.mtime);
        let made = match &entry.kind {
            EntryKind::Folder => parent.dir.create_folder(name.as_str().as_ref()).map(|dir| {
                let mode = self.folder_mode(entry.mode);
                self.open.push(OpenFolder { path: entry.path.clone(), dir, mode, modified });
            }),
            EntryKind::File(_) => {
                // The umask, which `usual` has been through, takes its part once more.
                let mode = self.file_mode(entry.mode);
                parent.dir.create_file(name.as_str().as_ref(), mode).map(|file| {
                    self.file = Some(OpenFile { file, written: 0, hole: Hole::default(), modified });
                })
            }
            EntryKind::Link(target) => {
                if !stays_inside(self.open.len() - 1, target) {
                    let (link, target) = (display(&entry.path), display(target));
                    return Err(refused(format!(
                        "{link} is a link that leads outside the folder, to {target}"
                    )));
                }
                parent.dir.create_link(name.as_str().as_ref(), &safe_target(target), modified)
            }
        };
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                refused(format!("{} has the name of another file or folder here", display(&entry.path)))
            }
            _ => self.failed(&entry.path, error),
        })
    }

    fn begin_root(&mut self, entry: &ArchiveEntry) -> Result<(), TargetError> {
        let is_first = self.root.is_none() && self.open.is_empty();
        if entry.kind != EntryKind::Folder || !is_first {
            return Err(refused(format!("{} is outside the one folder in it", display(&entry.path))));
        }
        let dir = self.dir.create_folder(ROOT.as_ref()).map_err(|error| self.failed(ROOT, error))?;
        let (mode, modified) = (self.folder_mode(entry.mode), self.modified(entry.mtime));
        self.open.push(OpenFolder { path: entry.path.clone(), dir, mode, modified });
        Ok(())
    }

    fn write_content(&mut self, content: &mut Vec<IoSlice<'_>>) -> Result<(), TargetError> {
        let len = content.iter().map(|bytes| bytes.len()).sum::<usize>();
        if let Some(OpenFile { file, written, hole, .. }) = self.file.as_mut().filter(|_| len > 0) {
            let result = hole.write(file, content, *written);
            *written += u64::try_from(len).unwrap_or(u64::MAX);
            result.map_err(|error| self.failed(ROOT, error))?;
        }
        content.clear();
        Ok(())
    }

    /// Ends the file that was begun last, if it was one.
    fn end_entry(&mut self) -> Result<(), TargetError> {
        let Some(OpenFile { file, written, hole, modified }) = self.file.take() else { return Ok(()) };
        let ended = (|| {
            if hole.is_open() {
                file.set_len(written)?;
            }
            if let Some(modified) = modified {
                file.set_modified(modified)?;
            }
            if !Dir::SYNCS_DISK {
                file.sync_all()?;
            }
            Ok(())
        })();
        ended.map_err(|error| self.failed(ROOT, error))
    }

    /// Ends a folder, which nothing more comes into.
    fn leave(&mut self, folder: OpenFolder) -> Result<(), TargetError> {
        if self.open.is_empty() {
            self.root = Some(folder);
            return Ok(());
        }
        let OpenFolder { dir, mode, modified, .. } = folder;
        let left = dir.finish(mode, modified).and_then(|()| sync_alone(&dir));
        left.map_err(|error| self.failed(ROOT, error))
    }

    /// Brings the folder to the disk, gives it its final name in one step, and brings that to the disk.
    /// Blocks. Returns the path, whose name is a numbered one where the wanted one was taken in a folder.
    ///
    /// # Errors
    /// Any [`TargetError`]; the temporary folder is removed then, and nothing stands at the final path that
    /// did not stand there before.
    pub fn commit(mut self) -> Result<PathBuf, TargetError> {
        let committed = self.put_in_place();
        // Whatever came of it, there is nothing left to go on with.
        if let Some(memory) = self.memory.take() {
            let _ = std::fs::remove_file(memory.path);
        }
        committed
    }

    fn put_in_place(&mut self) -> Result<PathBuf, TargetError> {
        self.decoder.end().map_err(|flaw| archive(&flaw))?;
        while let Some(folder) = self.open.pop() {
            self.leave(folder)?;
        }
        let root = self.root.take().ok_or_else(|| archive(&ArchiveFlaw::TooLittle))?;
        let finish = || root.dir.finish(root.mode, root.modified);
        // A folder that its owner may not write to can't be moved.
        let is_movable = root.mode & OWN_TO_WRITE != 0;
        if is_movable {
            finish().map_err(|error| self.failed(ROOT, error))?;
        }
        let synced = self.dir.sync_disk().and_then(|()| sync_alone(&root.dir));
        synced.map_err(|error| self.failed(ROOT, error))?;
        if !self.place.is_in_its_place() {
            return Err(TargetError::Moved { path: self.place.folder.clone() });
        }
        // A rename goes by the names: make sure that they still stand for what was made.
        if !self.place.dir.holds_folder(&self.temporary, &self.dir)
            || !self.dir.holds_folder(ROOT.as_ref(), &root.dir)
        {
            return Err(TargetError::Moved { path: self.place.folder.join(&self.temporary) });
        }
        let name = self.place.move_here(&self.dir, ROOT.as_ref(), self.size)?;
        self.committed = true;
        // It is in its place, and there is nothing left to undo.
        if !is_movable && let Err(error) = finish() {
            tracing::debug!(%error, "a received folder could not be given its rights");
        }
        let ended = self.place.dir.remove_tree(&self.temporary).and_then(|()| self.place.dir.sync());
        if let Err(error) = ended {
            tracing::debug!(%error, "the folder around a received one could not be brought up to date");
        }
        Ok(self.place.folder.join(name))
    }

    /// The rights of a file that has this mode in the archive.
    fn file_mode(&self, mode: u16) -> u32 {
        let rights = match self.preserved.rights {
            Rights::New => Rights::New,
            Rights::AsSent(_) => Rights::AsSent(mode.into()),
            Rights::WithinSent(_) => Rights::WithinSent(mode.into()),
        };
        rights.mode(self.usual, None)
    }

    fn folder_mode(&self, mode: u16) -> u32 {
        match self.preserved.rights {
            Rights::New => self.usual,
            Rights::AsSent(_) => u32::from(mode) & self.usual | OWN_TO_LOOK,
            Rights::WithinSent(_) => self.usual & (u32::from(mode) | OWN_TO_LOOK | OWN_TO_WRITE),
        }
    }

    /// When something was changed that the archive gives this time, Unix seconds; 0 stands for nothing said.
    fn modified(&self, mtime: u64) -> Option<SystemTime> {
        let is_kept = matches!(self.preserved.rights, Rights::AsSent(_));
        let at = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(mtime))
            .filter(|_| is_kept && mtime > 0)?;
        // As of a single file: none that is to come.
        Some(at.min(SystemTime::now()))
    }

    /// The error for what the system said about something in the folder.
    fn failed(&self, path: &str, source: io::Error) -> TargetError {
        match self.place.failed(&self.temporary, self.size, source) {
            TargetError::NotWritable { path: temporary, source } => {
                TargetError::NotWritable { path: temporary.join(path), source }
            }
            error => error,
        }
    }
}

impl Drop for PartialTree {
    fn drop(&mut self) {
        if !self.committed && self.memory.is_none() && self.place.dir.holds_folder(&self.temporary, &self.dir)
        {
            // One that can't be removed now is replaced by the next attempt.
            let _ = self.place.dir.remove_tree(&self.temporary);
        }
    }
}

/// Removes the temporary folder `name`, unless a living process fills it, or it `is_wanted` by when it was
/// made.
pub(super) fn remove_left_behind(
    place: &Dir,
    name: &OsStr,
    is_wanted: impl FnOnce(Option<SystemTime>) -> bool,
) -> bool {
    let Ok(dir) = place.open_folder(name) else { return false };
    !is_wanted(dir.modified())
        && dir.lock()
        && place.holds_folder(name, &dir)
        && place.remove_tree(name).is_ok()
}

/// Brings the names in a folder to the disk, unless all of the disk is.
fn sync_alone(dir: &Dir) -> io::Result<()> {
    if Dir::SYNCS_DISK { Ok(()) } else { dir.sync() }
}

/// The name that the entry at `path` gets in the folder at `above`; `None` where it stands deeper.
fn name_below(above: &str, path: &str) -> Option<SafeName> {
    let part = path.strip_prefix(above)?;
    let part = part.strip_suffix('/').unwrap_or(part);
    (!part.contains('/')).then(|| SafeName::of_part(part))
}

/// Where a link leads whose way has the names that files get here.
fn safe_target(target: &str) -> String {
    let parts = target.split('/').map(|part| match part {
        "" | "." | ".." => part.to_owned(),
        part => SafeName::of_part(part).to_string(),
    });
    parts.collect::<Vec<_>>().join("/")
}

fn archive(flaw: &ArchiveFlaw) -> TargetError {
    refused(display(&flaw.to_string()))
}

fn refused(why: String) -> TargetError {
    TargetError::Archive { why }
}
