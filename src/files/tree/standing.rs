//! How much of an unpacked folder stands that a process which died has left, and the way back to there.
//!
//! First everything is read and hashed as its journal says, and nothing is changed. Then the folder is
//! brought back to the last checkpoint whose hash is right, and what is in it besides is removed.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        Rights, TargetError,
        archive::{
            TreeSize,
            decoder::ArchiveDecoder,
            entry::{ArchiveEntry, BLOCK_LEN, EntryKind, padding},
        },
        dir::Dir,
        holes::Hole,
        journal::{Journal, JournalEnd, JournalReader, JournalRecord, TreeCheckpoint, TreeIdentity},
        place::Place,
    },
    OpenFile, OpenFolder, PartialTree, ROOT, name_below, safe_target,
};

/// Bytes read at a time.
const CHUNK_LEN: usize = 1024 * 1024;

/// The temporary folder that a process which died has left, locked.
pub(super) struct LeftTree {
    pub(super) dir: Dir,
    /// The rights that a new file had there.
    pub(super) usual: u32,
}

/// How much of it stands, and the state there of what it is made by.
pub(super) struct StandingTree {
    /// Bytes of the archive, and what hashes them.
    pub(super) written: u64,
    pub(super) hasher: Sha256,
    pub(super) decoder: ArchiveDecoder,
    /// Where the journal says so.
    end: JournalEnd,
    /// The bytes of the file that came last, if more of it comes.
    file: Option<u64>,
}

/// A folder that was brought back to what stands of it.
pub(super) struct Restored {
    pub(super) open: Vec<OpenFolder>,
    pub(super) file: Option<OpenFile>,
    pub(super) journal: Journal,
}

impl LeftTree {
    /// The folder, if `memory` speaks of this very one, with these rights of what is in it.
    ///
    /// # Errors
    /// `Busy` where another process fills it.
    pub(super) fn find(
        place: &Place,
        temporary: &OsStr,
        memory: &Path,
        rights: Rights,
    ) -> Result<Option<Self>, TargetError> {
        let Ok(dir) = place.dir.open_folder(temporary) else { return Ok(None) };
        if !dir.lock() {
            return Err(TargetError::Busy { path: place.folder.join(temporary) });
        }
        let identity = JournalReader::open(memory).map(|(_, identity)| identity);
        let identity = identity.filter(|identity| {
            *identity == TreeIdentity::new(dir.own_number(), identity.mode, rights)
                && dir.is_own_and_private()
                && place.dir.holds_folder(temporary, &dir)
        });
        Ok(identity.map(|identity| Self { dir, usual: identity.mode }))
    }

    /// Reads what is in the folder, as far as it is what `memory` says of it. `None` where nothing is.
    pub(super) fn standing(
        &self,
        memory: &Path,
        offered: TreeSize,
        mut read: impl FnMut(u64, u64),
        cancel: &CancellationToken,
    ) -> Option<StandingTree> {
        let (reader, _) = JournalReader::open(memory)?;
        let goal = reader.fold(0, |last, record| match record {
            JournalRecord::Checkpoint(checkpoint) => checkpoint.len,
            JournalRecord::Entry(_) => last,
        });
        let (mut reader, _) = JournalReader::open(memory)?;
        let mut reading = TreeReading {
            dir: &self.dir,
            open: Vec::new(),
            at: 0,
            hasher: Sha256::new(),
            decoder: ArchiveDecoder::new(offered),
            content: None,
            padding: 0,
            buffer: vec![0; CHUNK_LEN],
            read: |bytes| read(bytes, goal),
            cancel,
        };
        let (mut standing, mut checkpoints) = (None, 0);
        while let Some(record) = reader.next() {
            match record {
                JournalRecord::Entry(entry) => {
                    if reading.end_entry().and_then(|()| reading.begin(&entry)).is_none() {
                        break;
                    }
                }
                JournalRecord::Checkpoint(checkpoint) => {
                    checkpoints += 1;
                    let end = JournalEnd { at: reader.at(), last: checkpoint.len, checkpoints };
                    match reading.compare(&checkpoint, end) {
                        Some(more) => standing = Some(more),
                        None => break,
                    }
                }
            }
        }
        standing
    }
}

/// Gives the bytes of an archive again, of what was unpacked.
struct TreeReading<'a, R> {
    dir: &'a Dir,
    /// The folders on the way to the last entry, and their paths in the archive.
    open: Vec<(String, Dir)>,
    /// Bytes of the archive, and what hashes and checks them.
    at: u64,
    hasher: Sha256,
    decoder: ArchiveDecoder,
    /// The file that is being read.
    content: Option<OpenContent>,
    /// Zeros that come behind it.
    padding: u64,
    buffer: Vec<u8>,
    read: R,
    cancel: &'a CancellationToken,
}

struct OpenContent {
    file: File,
    /// Bytes that it has on the disk, and those that it is to have.
    len: u64,
    size: u64,
    /// Bytes of it that were not read yet.
    left: u64,
}

impl<R: FnMut(u64)> TreeReading<'_, R> {
    /// Goes on with the next entry; `None` where that is not what stands there.
    fn begin(&mut self, entry: &ArchiveEntry) -> Option<()> {
        if self.cancel.is_cancelled() {
            return None;
        }
        while self.open.pop_if(|(path, _)| !entry.path.starts_with(&*path)).is_some() {}
        let above = self.open.last().map_or("", |(path, _)| path.as_str());
        let name = name_below(above, &entry.path)?;
        let (parent, name) = match self.open.last() {
            Some((_, parent)) => (parent, OsStr::new(name.as_str())),
            None => (self.dir, OsStr::new(ROOT)),
        };
        match &entry.kind {
            EntryKind::Folder => {
                let folder = parent.open_folder(name).ok()?;
                self.open.push((entry.path.clone(), folder));
            }
            EntryKind::File(size) => {
                let (file, len) = parent.open_own_file(name).ok()?;
                self.content = Some(OpenContent { file, len, size: *size, left: *size });
                self.padding = padding(*size);
            }
            EntryKind::Link(target) => {
                let there = parent.link_target(name).ok()?;
                if there != OsStr::new(&safe_target(target)) {
                    return None;
                }
            }
        }
        self.add(&entry.encode())?;
        self.end_content()
    }

    /// Takes these bytes of the archive.
    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        self.hasher.update(bytes);
        self.at += u64::try_from(bytes.len()).ok()?;
        pass(&mut self.decoder, bytes)
    }

    /// Reads so many bytes of the file, or all that are left of it.
    fn read_content(&mut self, most: u64) -> Option<()> {
        let Some(OpenContent { left, .. }) = &self.content else { return Some(()) };
        let mut due = most.min(*left);
        let mut buffer = std::mem::take(&mut self.buffer);
        while due > 0 {
            let OpenContent { file, left, .. } = self.content.as_mut()?;
            let wanted = buffer.len().min(usize::try_from(due).unwrap_or(usize::MAX));
            let chunk = buffer.get_mut(..wanted)?;
            if self.cancel.is_cancelled() || file.read_exact(chunk).is_err() {
                return None;
            }
            let len = u64::try_from(wanted).ok()?;
            (due, *left) = (due - len, *left - len);
            self.add(chunk)?;
            (self.read)(self.at);
        }
        self.buffer = buffer;
        self.end_content()
    }

    /// Lets go of a file that was read to its end, which has to be one.
    fn end_content(&mut self) -> Option<()> {
        let ended = self.content.take_if(|content| content.left == 0);
        ended.is_none_or(|OpenContent { len, size, .. }| len == size).then_some(())
    }

    fn add_padding(&mut self, most: u64) -> Option<()> {
        let len = self.padding.min(most);
        self.padding -= len;
        self.add([0; BLOCK_LEN].get(..usize::try_from(len).ok()?)?)
    }

    fn end_entry(&mut self) -> Option<()> {
        self.read_content(u64::MAX)?;
        self.add_padding(u64::MAX)
    }

    /// What stands at a checkpoint, if all up to it does.
    fn compare(&mut self, checkpoint: &TreeCheckpoint, end: JournalEnd) -> Option<StandingTree> {
        let unread = u64::try_from(checkpoint.unread.len()).ok()?;
        let due = checkpoint.len.checked_sub(self.at)?.checked_sub(unread)?;
        let left = self.content.as_ref().map_or(0, |content| content.left);
        self.read_content(due)?;
        self.add_padding(due.saturating_sub(left))?;
        let mut hasher = self.hasher.clone();
        hasher.update(&checkpoint.unread);
        let is_right = self.at + unread == checkpoint.len && hasher.clone().finalize()[..] == checkpoint.hash;
        let mut decoder = self.decoder.clone();
        pass(&mut decoder, &checkpoint.unread).filter(|()| is_right)?;
        let file = self.content.as_ref().map(|content| content.size - content.left);
        Some(StandingTree { written: checkpoint.len, hasher, decoder, end, file })
    }
}

/// Has a decoder take bytes that are there already.
fn pass(decoder: &mut ArchiveDecoder, mut bytes: &[u8]) -> Option<()> {
    while decoder.next(&mut bytes).ok()?.is_some() {}
    Some(())
}

/// Brings the folder of `tree` back to what stands; `None` where that can't be done.
pub(super) fn restore(tree: &PartialTree, memory: &Path, standing: &StandingTree) -> Option<Restored> {
    let (mut reader, _) = JournalReader::open(memory)?;
    // What is in the temporary folder, and in each open one.
    let mut top = HashSet::new();
    let mut open: Vec<(OpenFolder, HashSet<OsString>)> = Vec::new();
    let mut last = None;
    while reader.at() < standing.end.at {
        let JournalRecord::Entry(entry) = reader.next()? else { continue };
        while let Some((folder, names)) = open.pop_if(|(folder, _)| !entry.path.starts_with(&*folder.path)) {
            clear_out(&folder.dir, &names)?;
            folder.dir.finish(folder.mode, folder.modified).ok()?;
        }
        let above = open.last().map_or("", |(folder, _)| folder.path.as_str());
        let name = name_below(above, &entry.path)?;
        let (parent, names, name) = match open.last_mut() {
            Some((folder, names)) => (&folder.dir, names, name.as_str()),
            None => (&tree.dir, &mut top, ROOT),
        };
        let name = OsString::from(name);
        // Two of one name never came.
        names.insert(name.clone()).then_some(())?;
        if entry.kind == EntryKind::Folder {
            let (mode, modified) = (tree.folder_mode(entry.mode), tree.modified(entry.mtime));
            let dir = parent.open_folder(&name).ok()?;
            open.push((OpenFolder { path: entry.path.clone(), dir, mode, modified }, HashSet::new()));
        }
        last = Some((name, entry));
    }
    clear_out(&tree.dir, &top)?;
    for (folder, names) in &open {
        clear_out(&folder.dir, names)?;
        folder.dir.make_private().ok()?;
    }
    let open: Vec<OpenFolder> = open.into_iter().map(|(folder, _)| folder).collect();
    let file = match (standing.file, last) {
        (Some(written), Some((name, entry))) => {
            let mode = tree.file_mode(entry.mode);
            let mut file = open.last()?.dir.open_own_file_again(&name, mode).ok()?;
            file.set_len(written).and_then(|()| file.seek(SeekFrom::Start(written))).ok()?;
            Some(OpenFile { file, written, hole: Hole::default(), modified: tree.modified(entry.mtime) })
        }
        _ => None,
    };
    let journal = Journal::go_on(memory, tree.size, &standing.end, reader.into_path()).ok()?;
    Some(Restored { open, file, journal })
}

/// Removes what is in a folder besides `names`; `None` where it is not certain what that is.
fn clear_out(dir: &Dir, names: &HashSet<OsString>) -> Option<()> {
    let there = dir.names().ok()?;
    let others: Vec<_> = there.iter().filter(|name| !names.contains(*name)).collect();
    // Some file systems give back another form of a name.
    if there.len() - others.len() != names.len() {
        return None;
    }
    if others.is_empty() {
        return Some(());
    }
    let removed =
        dir.make_private().and_then(|()| others.into_iter().try_for_each(|name| dir.remove_tree(name)));
    removed.inspect_err(|error: &io::Error| tracing::debug!(%error, "what is left can't be removed")).ok()
}
