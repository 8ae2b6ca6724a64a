//! What is sent: a file on the disk, a folder, bytes in memory, or a stream that was spooled.
//!
//! # Layout
//! - `file`: a file on the disk
//! - `folder`: a folder, as the archive that is made of it while it is read; `plan`: where in that what is
//! - `several`: files and folders from anywhere, as what one folder holds
//! - `spool`: what is kept of a stream until its end has come
//! - `read_ahead`: reading all of it to be hashed
//! - `proof`: whether bytes that are read again are those that were hashed
//! - `hash_cache`: what files were when they were hashed last

mod file;
mod folder;
mod hash_cache;
mod plan;
mod proof;
mod read_ahead;
mod several;
mod spool;

use std::{
    fs::File,
    io::{self, IoSliceMut, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

pub(super) use self::file::what_is;
use self::{
    file::SourceFile, folder::SourceFolder, hash_cache::FileIdentity, proof::Content, read_ahead::read_all,
    spool::Spooled,
};
pub use self::{
    hash_cache::HashCache,
    plan::TreeOptions,
    proof::Proof,
    spool::{Spool, SpoolError},
};
use super::{archive::TreeSize, display, display_path, preserved::unix_millis};
use crate::error::{Code, Error};

/// What the name of a folder's archive ends in.
pub const ARCHIVE_SUFFIX: &str = ".tar";

/// Bytes read at a time: enough that a read costs nothing beside its bytes.
const CHUNK_LEN: usize = 1024 * 1024;

/// Something to be sent. A file is open from the moment it was named until its last byte is sent.
///
/// Clones share the one handle; reads name their place, so several transfers may read at once.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    inner: Arc<SourceInner>,
}

#[derive(Debug)]
struct SourceInner {
    bytes: SourceBytes,
    /// What the content was when it was first hashed, by this process or an earlier one.
    content: OnceLock<Content>,
    /// Where that is remembered, if it is not this process that has hashed it.
    recalled: OnceLock<Recalled>,
}

/// A content that is remembered.
#[derive(Debug)]
struct Recalled {
    cache: HashCache,
    identity: FileIdentity,
    /// It is not what the file holds.
    is_wrong: AtomicBool,
    /// Blocks from the first one on that were read again and are those that it names.
    proven: AtomicU64,
}

/// Where the bytes are.
#[derive(Debug)]
enum SourceBytes {
    File(SourceFile),
    Folder(SourceFolder),
    /// Nobody can change these.
    Memory(Bytes),
    /// Nor these.
    Spooled(Spooled),
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
        /// The path as given, or the name of what has none.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it was when it was first looked at.
    #[error("{} changed while it was being sent", display_path(path))]
    Changed {
        /// The path as given, or the name of what has none.
        path: PathBuf,
    },
    /// The file is not what is remembered of it, though its size and its times are.
    #[error(
        "{} is not what it was when it was hashed last, whatever its times say: sent again it is hashed anew",
        display_path(path)
    )]
    Misremembered {
        /// The path as given.
        path: PathBuf,
    },
    /// Something in a folder that no archive can hold.
    #[error("{} can't be sent in a folder: {why}; leave it out, by exclude", display_path(path))]
    Unfit {
        /// What.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Two that are sent together have one name.
    #[error(
        "{} and {} would both be called {} at their recipient: rename one of them, or send them one by one",
        display_path(first),
        display_path(second),
        display(name)
    )]
    SameName {
        /// The path of one, as given.
        first: PathBuf,
        /// That of the other.
        second: PathBuf,
        /// The last part of that.
        name: String,
    },
    /// A pattern of what is to be left out makes no sense.
    #[error("\"{pattern}\" is no pattern of files to leave out")]
    Pattern {
        /// The pattern as given.
        pattern: String,
    },
    /// The caller asked to stop.
    #[error("reading {} was cancelled", display_path(path))]
    Cancelled {
        /// The path as given, or the name of what has none.
        path: PathBuf,
    },
}

impl Source {
    /// Opens a regular file, or what a link to one leads to. Blocks, but never on a pipe.
    ///
    /// # Errors
    /// `NotFound`, `NotAFile` or `NotReadable`.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let file = SourceFile::open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self::new(&name, SourceBytes::File(file), OnceLock::new()))
    }

    /// Opens a file as [`Self::open`] does; or looks through a folder, of which an archive is made while it
    /// is sent, `NAME.tar`. Of a link it takes what it leads to; of links in a folder, the links.
    ///
    /// # Errors
    /// As [`Self::open`], and of a folder `Unfit`, `Pattern` or `Cancelled`.
    pub fn open_any(
        path: &Path,
        options: &TreeOptions,
        cancel: &CancellationToken,
    ) -> Result<Self, SourceError> {
        if !std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            return Self::open(path);
        }
        let real = path.canonicalize().map_err(|error| SourceError::of_io(path, error))?;
        Self::open_folder(path, several::name_at(path, &real), options, cancel)
    }

    /// Opens what stands at these paths, each once: one as [`Self::open_any`] does; several in a folder of
    /// their own, which is on no disk, each there by the last part of its path. The folder is called after
    /// one of them, `a.jpg and 2 more`, unless `name` says what to call it, or the one that there is. In
    /// whichever order they are named, they have one archive. Blocks.
    ///
    /// # Errors
    /// As [`Self::open_any`], and `SameName`.
    pub fn open_paths(
        paths: &[PathBuf],
        name: Option<&str>,
        options: &TreeOptions,
        cancel: &CancellationToken,
    ) -> Result<Self, SourceError> {
        let Some(first) = paths.first() else { return Err(SourceError::NotFound { path: PathBuf::new() }) };
        let roots = if paths.len() > 1 { several::roots_of(paths)? } else { Vec::new() };
        if roots.len() > 1 {
            let name = name.map_or_else(|| several::name_of(&roots), str::to_owned);
            let folder = SourceFolder::open_several(paths, roots, &name, options, cancel)?;
            let archive = format!("{name}{ARCHIVE_SUFFIX}");
            return Ok(Self::new(&archive, SourceBytes::Folder(folder), OnceLock::new()));
        }
        match name {
            // In its archive it goes by that name too.
            Some(name) if first.is_dir() => Self::open_folder(first, name.to_owned(), options, cancel),
            Some(name) => Self::open(first).map(|source| source.named(name)),
            None => Self::open_any(first, options, cancel),
        }
    }

    /// Looks through a folder, as [`Self::open_any`] does, which goes by this name.
    ///
    /// # Errors
    /// As [`Self::open_any`].
    pub fn open_folder(
        path: &Path,
        name: String,
        options: &TreeOptions,
        cancel: &CancellationToken,
    ) -> Result<Self, SourceError> {
        let archive = format!("{name}{ARCHIVE_SUFFIX}");
        let folder = SourceFolder::open(path, name, options, cancel)?;
        Ok(Self::new(&archive, SourceBytes::Folder(folder), OnceLock::new()))
    }

    /// Bytes that are sent as a file of this name.
    pub fn of_bytes(name: String, bytes: Bytes) -> Self {
        Self::new(&name, SourceBytes::Memory(bytes), OnceLock::new())
    }

    /// What was hashed already.
    fn hashed(name: String, bytes: SourceBytes, content: Content) -> Self {
        Self::new(&name, bytes, OnceLock::from(content))
    }

    fn new(name: &str, bytes: SourceBytes, content: OnceLock<Content>) -> Self {
        Self { name: name.into(), inner: Arc::new(SourceInner { bytes, content, recalled: OnceLock::new() }) }
    }

    /// The same under another name.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The name it is sent under: the one given, or the last part of the path it was opened by; bytes that
    /// are not UTF-8 come as U+FFFD.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that the file or the folder has here.
    pub fn local_name(&self) -> &str {
        let folder = self.folder().and_then(|_| self.name().strip_suffix(ARCHIVE_SUFFIX));
        folder.unwrap_or(self.name())
    }

    /// Bytes, when it was opened.
    pub fn size(&self) -> u64 {
        match &self.inner.bytes {
            SourceBytes::File(file) => file.size(),
            SourceBytes::Folder(folder) => folder.size(),
            SourceBytes::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            SourceBytes::Spooled(spooled) => spooled.size(),
        }
    }

    /// Its permission bits, when it was opened; `None` where it has none, or the system has others.
    pub fn mode(&self) -> Option<u16> {
        self.file().and_then(SourceFile::mode)
    }

    /// When it was changed last, Unix milliseconds rounded down; `None` where it is no file, or the system
    /// doesn't say.
    pub fn mtime(&self) -> Option<i64> {
        self.file().and_then(SourceFile::modified).and_then(unix_millis)
    }

    /// The path it was opened by; `None` where it is no file that could be opened by one again.
    pub fn path(&self) -> Option<&Path> {
        match (&self.inner.bytes, self.folder().map(SourceFolder::paths)) {
            (SourceBytes::File(file), _) => Some(file.path()),
            (_, Some([path])) => Some(path),
            _ => None,
        }
    }

    /// The paths it was opened by, where that took several.
    pub fn several_paths(&self) -> &[PathBuf] {
        self.folder().map(SourceFolder::paths).filter(|paths| paths.len() > 1).unwrap_or_default()
    }

    /// What it holds, if it is the archive of a folder.
    pub fn tree(&self) -> Option<TreeSize> {
        self.folder().map(SourceFolder::tree)
    }

    /// The file, where it is one at a path.
    pub(super) fn handle(&self) -> Option<&File> {
        self.file().map(SourceFile::handle)
    }

    fn file(&self) -> Option<&SourceFile> {
        match &self.inner.bytes {
            SourceBytes::File(file) => Some(file),
            SourceBytes::Folder(_) | SourceBytes::Memory(_) | SourceBytes::Spooled(_) => None,
        }
    }

    fn folder(&self) -> Option<&SourceFolder> {
        match &self.inner.bytes {
            SourceBytes::Folder(folder) => Some(folder),
            SourceBytes::File(_) | SourceBytes::Memory(_) | SourceBytes::Spooled(_) => None,
        }
    }

    /// How errors call it.
    fn shown(&self) -> PathBuf {
        let folder = self.folder().map(SourceFolder::shown);
        self.path().or(folder).map_or_else(|| PathBuf::from(self.name()), Path::to_owned)
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
        // Only a file can have become another one since.
        if let (None, Some(content)) = (self.file(), self.inner.content.get()) {
            progress(self.size());
            return Ok(content.hash.clone());
        }
        let mut hasher = Sha256::new();
        let (mut read, mut told) = (0, 0);
        let blocks = read_all(self, cancel, |piece| {
            hasher.update(piece);
            read += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            if read - told >= CHUNK_LEN as u64 || read == self.size() {
                progress(read);
                told = read;
            }
        })?;
        // Some files say that they are empty and are not (those of /proc).
        if self.read_at(&mut [0], self.size())? != 0 {
            return Err(self.changed());
        }
        self.check()?;
        let hash = hex::encode(hasher.finalize());
        // Fails only if the file was hashed before, and that stands.
        let _ = self.inner.content.set(Content { hash: hash.clone(), blocks });
        Ok(hash)
    }

    /// The same, but a file that was hashed before is not read once more where nothing of it has changed
    /// since, as far as `cache` can tell. What is read is remembered there.
    ///
    /// What is remembered may not be true: [`Self::proof`] tells, and then [`Self::is_misremembered`].
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub fn hash_once(
        &self,
        cache: &HashCache,
        mut progress: impl FnMut(u64),
        cancel: &CancellationToken,
    ) -> Result<String, SourceError> {
        if self.inner.content.get().is_none()
            && let Some(file) = self.file().map(SourceFile::handle)
            && let Some(identity) = cache.identify(file)
        {
            match cache.find(&identity) {
                Some(content) => {
                    let (cache, is_wrong) = (cache.clone(), AtomicBool::new(false));
                    let recalled = Recalled { cache, identity, is_wrong, proven: AtomicU64::new(0) };
                    let _ = self.inner.recalled.set(recalled);
                    let _ = self.inner.content.set(content);
                }
                None => {
                    let began = SystemTime::now();
                    let hash = self.hash(progress, cancel)?;
                    if cache.identify(file) == Some(identity)
                        && let Some(content) = self.inner.content.get()
                    {
                        cache.keep(&identity, content, began);
                    }
                    return Ok(hash);
                }
            }
        }
        let Some(content) = self.inner.content.get() else { return self.hash(progress, cancel) };
        self.check()?;
        progress(self.size());
        Ok(content.hash.clone())
    }

    /// Whether the hash that [`Self::hash_once`] gave was remembered and has proven wrong since. It is not
    /// remembered any more: opened and hashed again, the file is sent as it is.
    pub fn is_misremembered(&self) -> bool {
        self.inner.recalled.get().is_some_and(|recalled| recalled.is_wrong.load(Ordering::Relaxed))
    }

    /// Forgets the hash that [`Self::hash_once`] gave, if it was remembered: a recipient got another one.
    /// Blocks.
    pub fn forget(&self) {
        if let Some(recalled) = self.inner.recalled.get() {
            recalled.cache.forget(&recalled.identity);
        }
    }

    /// Has `cache` remember the file by this content, of which it was left alone for long.
    #[cfg(all(test, unix))]
    pub(crate) fn remember_as(&self, content: &Self, cache: &HashCache) {
        let identity = self.file().and_then(|file| cache.identify(file.handle())).expect("a large file");
        let content = content.inner.content.get().expect("hashed");
        cache.keep(&identity, content, SystemTime::now() + hash_cache::SETTLED);
    }

    /// What tells whether bytes read again from `offset` on are those of `hash`; cheap if [`Self::hash`] or
    /// [`Self::hash_once`] has given that hash. Blocks: it reads some of the bytes before `offset`, or
    /// without that hash all of them. Where the hash was only remembered and `offset` is the file's end, it
    /// reads all that was not read again yet: its recipient may have the file from elsewhere, and nobody has
    /// looked at this one. Reads no more once it `is_wanted` no longer.
    ///
    /// # Errors
    /// As [`Self::read_exact_at`], and `Cancelled`.
    pub fn proof(&self, hash: &str, offset: u64, is_wanted: impl Fn() -> bool) -> Result<Proof, SourceError> {
        let (mut proof, mut at) = Proof::begin(self, hash, offset);
        let mut buffer = Vec::new();
        while at < offset && !proof.differs() {
            if !is_wanted() {
                return Err(SourceError::Cancelled { path: self.shown() });
            }
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
        if let Some(folder) = self.folder() {
            return folder.read_exact_vectored_at(&mut [IoSliceMut::new(buffer)], offset);
        }
        if self.file().is_some_and(|file| file.is_hole(offset, buffer.len())) {
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
        if let Some(folder) = self.folder() {
            return folder.read_exact_vectored_at(buffers, offset);
        }
        let len = buffers.iter().map(|buffer| buffer.len()).sum();
        if self.file().is_some_and(|file| file.is_hole(offset, len)) {
            buffers.iter_mut().for_each(|buffer| buffer.fill(0));
            return Ok(());
        }
        while buffers.iter().any(|buffer| !buffer.is_empty()) {
            let count = match &self.inner.bytes {
                SourceBytes::File(file) => file.read_vectored_at(buffers, offset),
                // It is read above, and ends where it ends.
                SourceBytes::Folder(_) => Ok(0),
                SourceBytes::Memory(bytes) => rest_from(bytes, offset).read_vectored(buffers),
                SourceBytes::Spooled(spooled) => spooled.read_vectored_at(buffers, offset),
            };
            let count = count.map_err(|source| self.not_readable(source))?;
            if count == 0 {
                return Err(self.changed());
            }
            offset += u64::try_from(count).unwrap_or(u64::MAX);
            IoSliceMut::advance_slices(&mut buffers, count);
        }
        Ok(())
    }

    /// Whether nobody has written to the file since it was opened, as far as its size and time of
    /// modification say. Blocks.
    ///
    /// # Errors
    /// `Changed`, `NotReadable`.
    pub fn check(&self) -> Result<(), SourceError> {
        if let Some(folder) = self.folder() {
            return folder.check();
        }
        let is_unchanged = self.file().map_or(Ok(true), SourceFile::is_unchanged);
        match is_unchanged.map_err(|source| self.not_readable(source))? {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    /// The error of a file that is not what it was.
    pub fn changed(&self) -> SourceError {
        let path = self.shown();
        match self.is_misremembered() {
            true => SourceError::Misremembered { path },
            false => SourceError::Changed { path },
        }
    }

    fn not_readable(&self, source: io::Error) -> SourceError {
        SourceError::NotReadable { path: self.shown(), source }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, SourceError> {
        let read = match &self.inner.bytes {
            SourceBytes::File(file) => file.read_at(buffer, offset),
            SourceBytes::Folder(_) => Ok(0),
            SourceBytes::Memory(bytes) => rest_from(bytes, offset).read(buffer),
            SourceBytes::Spooled(spooled) => spooled.read_at(buffer, offset),
        };
        read.map_err(|source| self.not_readable(source))
    }
}

impl Recalled {
    /// Notes that a block is what was remembered of it.
    fn prove(&self, block: usize) {
        let block = u64::try_from(block).unwrap_or(u64::MAX);
        let next = block.saturating_add(1);
        // One behind a gap says nothing of those in it.
        let _ = self.proven.compare_exchange(block, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl SourceError {
    /// The error for what the system said of a path.
    fn of_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound { path },
            _ => Self::NotReadable { path, source },
        }
    }

    /// The code by which callers know it.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::FileNotFound,
            Self::NotAFile { .. } | Self::Unfit { .. } => Code::NotAFile,
            Self::Pattern { .. } | Self::SameName { .. } => Code::InvalidArgument,
            Self::NotReadable { .. } => Code::NotReadable,
            Self::Changed { .. } | Self::Misremembered { .. } => Code::SourceChanged,
            Self::Cancelled { .. } => Code::Aborted,
        }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// What there is from `offset` on.
fn rest_from(bytes: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default()
}
