//! The file that is sent.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, IoSliceMut},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3Default;

use super::{display_path, preserved::unix_millis};
use crate::error::{Code, Error};

/// Bytes read at a time: enough that a read costs nothing beside its bytes.
const CHUNK_LEN: usize = 1024 * 1024;

/// Bytes of a file that have a checksum of their own: few enough to be read once more where a transfer goes
/// on in the middle of them.
const BLOCK_LEN: u64 = 4 * 1024 * 1024;

/// A file to be sent, open from the moment it was named until its last byte is sent.
///
/// Clones share the one handle; reads name their place, so several transfers may read at once.
#[derive(Clone, Debug)]
pub struct Source(Arc<SourceInner>);

#[derive(Debug)]
struct SourceInner {
    file: File,
    path: PathBuf,
    name: String,
    stamp: Stamp,
    mode: Option<u16>,
    /// It has holes, which need not be read.
    is_sparse: bool,
    /// What the content was when it was first hashed.
    content: OnceLock<Content>,
}

/// Two names of the same bytes.
#[derive(Debug)]
struct Content {
    /// SHA-256, in lower-case hex.
    hash: String,
    /// XXH3 of each block, which is computed ten times as fast.
    blocks: Vec<u128>,
}

/// Tells whether bytes that are read again are those that a hash names. It needs to withstand accidents only:
/// whoever gets the bytes compares their SHA-256 with the one that was promised.
pub struct Proof {
    hash: String,
    kind: ProofKind,
}

enum ProofKind {
    Blocks(Box<Blocks>),
    /// Nothing else is known of the bytes.
    Hash(Sha256),
}

/// Blocks that are compared one by one.
struct Blocks {
    source: Source,
    hasher: BlockHasher,
    /// The block that comes next.
    next: usize,
    differs: bool,
}

/// Cuts bytes into blocks, and gives the checksum of each.
#[derive(Default)]
struct BlockHasher {
    hasher: Xxh3Default,
    /// Bytes of the block so far.
    filled: u64,
}

/// What changes when somebody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

/// Why a file can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is at the path.
    #[error("there is no file {}", display_path(path))]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The path leads to something that has no fixed content.
    #[error("{} is {what}, not a file", display_path(path))]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What it is: `a folder`, `a pipe`, …
        what: &'static str,
    },
    /// The file can't be opened or read.
    #[error("{} can't be read: {source}", display_path(path))]
    NotReadable {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it was when it was first looked at.
    #[error("{} changed while it was being sent", display_path(path))]
    Changed {
        /// The path as given.
        path: PathBuf,
    },
    /// The caller asked to stop.
    #[error("reading {} was cancelled", display_path(path))]
    Cancelled {
        /// The path as given.
        path: PathBuf,
    },
}

impl Source {
    /// Opens a regular file, or what a link to one leads to. Blocks, but never on a pipe.
    ///
    /// # Errors
    /// `NotFound`, `NotAFile` or `NotReadable`.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                SourceError::NotFound { path: path.to_owned() }
            }
            _ => SourceError::NotReadable { path: path.to_owned(), source },
        };
        let only_files = |metadata: &Metadata| match what_is(metadata.file_type()) {
            None => Ok(()),
            Some(what) => Err(SourceError::NotAFile { path: path.to_owned(), what }),
        };
        // Before it is opened, because opening a device can do something to it; and after, because the
        // path may lead elsewhere by then.
        only_files(&std::fs::metadata(path).map_err(failed)?)?;
        let file = open_without_waiting(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        only_files(&metadata)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stamp = Stamp::of(&metadata);
        let (mode, is_sparse, content) = (mode_of(&metadata), is_sparse(&metadata), OnceLock::new());
        let path = path.to_owned();
        Ok(Self(Arc::new(SourceInner { file, path, name, stamp, mode, is_sparse, content })))
    }

    /// The last part of the path it was opened by; bytes that are not UTF-8 come as U+FFFD.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes, when it was opened.
    pub fn size(&self) -> u64 {
        self.0.stamp.size
    }

    /// Its permission bits, when it was opened; `None` where the system has others.
    pub fn mode(&self) -> Option<u16> {
        self.0.mode
    }

    /// When it was changed last, Unix milliseconds rounded down; `None` where the system doesn't say.
    pub fn mtime(&self) -> Option<i64> {
        self.0.stamp.modified.and_then(unix_millis)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// SHA-256 of the content in lower-case hex. Blocks; tells `progress` the bytes read so far, at most
    /// once a chunk.
    ///
    /// # Errors
    /// `Changed` where the file is not of the size it had, or was written to meanwhile; `NotReadable`;
    /// `Cancelled` soon after `cancel` says so.
    pub fn hash(
        &self,
        mut progress: impl FnMut(u64),
        cancel: &CancellationToken,
    ) -> Result<String, SourceError> {
        let mut hasher = Sha256::new();
        let mut blocks = Vec::new();
        let mut block = BlockHasher::default();
        let whole = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let mut buffer = vec![0; whole.min(CHUNK_LEN)];
        let mut offset = 0;
        while offset < self.size() {
            if cancel.is_cancelled() {
                return Err(SourceError::Cancelled { path: self.0.path.clone() });
            }
            let left = usize::try_from(self.size() - offset).unwrap_or(usize::MAX);
            let chunk = buffer.get_mut(..left.min(CHUNK_LEN)).unwrap_or_default();
            self.read_exact_at(chunk, offset)?;
            hasher.update(&*chunk);
            block.update(chunk, |checksum| blocks.push(checksum));
            offset += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            progress(offset);
        }
        // Some files say that they are empty and are not (those of /proc).
        if self.read_at(&mut [0], offset)? != 0 {
            return Err(self.changed());
        }
        self.check()?;
        let hash = hex::encode(hasher.finalize());
        // Fails only if the file was hashed before, and that stands.
        blocks.extend(block.finish());
        let _ = self.0.content.set(Content { hash: hash.clone(), blocks });
        Ok(hash)
    }

    /// What tells whether bytes read again from `offset` on are those of `hash`; cheap if [`Self::hash`] has
    /// given that hash. Blocks: it reads some of the bytes before `offset`, or without that hash all of them.
    ///
    /// # Errors
    /// As [`Self::read_exact_at`].
    pub fn proof(&self, hash: &str, offset: u64) -> Result<Proof, SourceError> {
        let (kind, mut at) = match self.0.content.get() {
            Some(content) if content.hash == hash => {
                let next = offset / BLOCK_LEN;
                let blocks = Blocks {
                    source: self.clone(),
                    hasher: BlockHasher::default(),
                    next: usize::try_from(next).unwrap_or(usize::MAX),
                    differs: false,
                };
                (ProofKind::Blocks(Box::new(blocks)), next * BLOCK_LEN)
            }
            _ => (ProofKind::Hash(Sha256::new()), 0),
        };
        let mut proof = Proof { hash: hash.to_owned(), kind };
        let mut buffer = Vec::new();
        while at < offset {
            let left = usize::try_from(offset - at).unwrap_or(usize::MAX);
            buffer.resize(left.min(CHUNK_LEN), 0);
            self.read_exact_at(&mut buffer, at)?;
            proof.update(&buffer);
            at += u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        }
        Ok(proof)
    }

    /// Fills `buffer` from the byte at `offset` on. Blocks.
    ///
    /// # Errors
    /// `Changed` where the file ends before, `NotReadable`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        if self.is_hole(offset, buffer.len()) {
            buffer.fill(0);
            return Ok(());
        }
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let count = self.read_at(rest, offset)?;
            if count == 0 {
                return Err(self.changed());
            }
            offset += u64::try_from(count).unwrap_or(u64::MAX);
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Fills all of `buffers` in turn from the byte at `offset` on. Blocks.
    ///
    /// # Errors
    /// As [`Self::read_exact_at`].
    pub fn read_exact_vectored_at(
        &self,
        mut buffers: &mut [IoSliceMut<'_>],
        mut offset: u64,
    ) -> Result<(), SourceError> {
        if self.is_hole(offset, buffers.iter().map(|buffer| buffer.len()).sum()) {
            buffers.iter_mut().for_each(|buffer| buffer.fill(0));
            return Ok(());
        }
        while buffers.iter().any(|buffer| !buffer.is_empty()) {
            let read = || read_vectored_at(&self.0.file, buffers, offset);
            let count = uninterrupted(read).map_err(|source| self.not_readable(source))?;
            if count == 0 {
                return Err(self.changed());
            }
            offset += u64::try_from(count).unwrap_or(u64::MAX);
            IoSliceMut::advance_slices(&mut buffers, count);
        }
        Ok(())
    }

    /// Whether the system says that these bytes are zeros which take no place; to read them would fill
    /// memory.
    fn is_hole(&self, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        self.0.is_sparse
            && match data_from(&self.0.file, offset) {
                Some(data) => data >= end,
                // None, or no file any more where it would be.
                None => self.0.file.metadata().is_ok_and(|metadata| metadata.len() >= end),
            }
    }

    /// Whether nobody has written to the file since it was opened, as far as its size and time of
    /// modification say. Blocks.
    ///
    /// # Errors
    /// `Changed`, `NotReadable`.
    pub fn check(&self) -> Result<(), SourceError> {
        let metadata = self.0.file.metadata().map_err(|source| self.not_readable(source))?;
        if Stamp::of(&metadata) == self.0.stamp { Ok(()) } else { Err(self.changed()) }
    }

    /// The error of a file that is not what it was.
    pub fn changed(&self) -> SourceError {
        SourceError::Changed { path: self.0.path.clone() }
    }

    fn not_readable(&self, source: io::Error) -> SourceError {
        SourceError::NotReadable { path: self.0.path.clone(), source }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, SourceError> {
        uninterrupted(|| read_at(&self.0.file, buffer, offset)).map_err(|source| self.not_readable(source))
    }
}

impl Proof {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.kind {
            ProofKind::Blocks(blocks) => blocks.update(bytes),
            ProofKind::Hash(hasher) => hasher.update(bytes),
        }
    }

    /// Whether all bytes taken are what the hash names, up to the file's end.
    pub fn holds(self) -> bool {
        match self.kind {
            ProofKind::Blocks(blocks) => blocks.hold(),
            ProofKind::Hash(hasher) => hex::encode(hasher.finalize()) == self.hash,
        }
    }
}

impl Blocks {
    fn update(&mut self, bytes: &[u8]) {
        let expected = self.source.0.content.get().map_or(&[][..], |content| &content.blocks);
        let (next, differs) = (&mut self.next, &mut self.differs);
        self.hasher.update(bytes, |checksum| {
            *differs |= expected.get(*next) != Some(&checksum);
            *next += 1;
        });
    }

    fn hold(self) -> bool {
        let expected = self.source.0.content.get().map_or(&[][..], |content| &content.blocks);
        let rest = expected.get(self.next..).unwrap_or_default();
        !self.differs && rest.iter().copied().eq(self.hasher.finish())
    }
}

impl BlockHasher {
    /// Takes the next bytes, and tells `whole` the checksum of each block that they complete.
    fn update(&mut self, mut bytes: &[u8], mut whole: impl FnMut(u128)) {
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK_LEN - self.filled).unwrap_or(usize::MAX);
            let (taken, rest) = bytes.split_at(bytes.len().min(room));
            self.hasher.update(taken);
            self.filled += u64::try_from(taken.len()).unwrap_or(u64::MAX);
            if self.filled == BLOCK_LEN {
                whole(self.hasher.digest128());
                self.hasher.reset();
                self.filled = 0;
            }
            bytes = rest;
        }
    }

    /// The checksum of the last block, if the file ends within one.
    fn finish(self) -> Option<u128> {
        (self.filled > 0).then(|| self.hasher.digest128())
    }
}

impl SourceError {
    /// The code by which callers know it.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::FileNotFound,
            Self::NotAFile { .. } => Code::NotAFile,
            Self::NotReadable { .. } => Code::NotReadable,
            Self::Changed { .. } => Code::SourceChanged,
            Self::Cancelled { .. } => Code::Aborted,
        }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().ok() }
    }
}

#[cfg(unix)]
fn mode_of(metadata: &Metadata) -> Option<u16> {
    u16::try_from(std::os::unix::fs::MetadataExt::mode(metadata) & 0o777).ok()
}

/// Who may open a file stands in lists here that mean nothing elsewhere; that nobody may write to it can
/// be said.
#[cfg(not(unix))]
fn mode_of(metadata: &Metadata) -> Option<u16> {
    metadata.permissions().readonly().then_some(0o400)
}

/// What stands at a path that is no regular file.
pub(super) fn what_is(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a folder");
    }
    if kind.is_symlink() {
        return Some("a link");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    Some("a device")
}

/// Bytes in a block by which systems count the place of a file.
#[cfg(unix)]
const COUNTED_BLOCK: u64 = 512;

/// Whether a file takes less place than it has bytes.
#[cfg(unix)]
fn is_sparse(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::blocks(metadata).saturating_mul(COUNTED_BLOCK) < metadata.len()
}

#[cfg(not(unix))]
fn is_sparse(_metadata: &Metadata) -> bool {
    false
}

/// Where the next bytes of a file are that take place, from `offset` on; `None` where there are none up to
/// its end. What the system does not tell counts as such bytes.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn data_from(file: &File, offset: u64) -> Option<u64> {
    use rustix::{
        fs::{SeekFrom, seek},
        io::Errno,
    };
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Some(data),
        Err(Errno::NXIO) => None,
        Err(_) => Some(offset),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn data_from(_file: &File, offset: u64) -> Option<u64> {
    Some(offset)
}

#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(unix)]
fn read_vectored_at(file: &File, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::preadv(file, buffers, offset)?)
}

#[cfg(windows)]
fn read_vectored_at(file: &File, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
    match buffers.iter_mut().find(|buffer| !buffer.is_empty()) {
        Some(buffer) => read_at(file, buffer, offset),
        None => Ok(0),
    }
}

fn uninterrupted(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
