//! A file on the disk that is sent.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, IoSliceMut},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::SourceError;

/// An open file, and what was seen of it then.
#[derive(Debug)]
pub(super) struct SourceFile {
    file: File,
    path: PathBuf,
    stamp: Stamp,
    mode: Option<u16>,
    /// It has holes, which need not be read.
    is_sparse: bool,
}

/// What changes when somebody writes to a file, or puts another one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
    /// What tells it from all others of its disk; 0 where the system doesn't say.
    number: u64,
}

impl SourceFile {
    /// Opens a regular file, or what a link to one leads to. Never waits for a pipe.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let failed = |source: io::Error| SourceError::of_io(path, source);
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
        let (stamp, mode) = (Stamp::of(&metadata), mode_of(&metadata));
        Ok(Self { file, path: path.to_owned(), stamp, mode, is_sparse: is_sparse(&metadata) })
    }

    /// Opens the file of which this was seen at the path before; `None` where it is gone, or another one by
    /// now. Follows no link, and never waits.
    pub(super) fn open_again(path: &Path, stamp: Stamp) -> io::Result<Option<Self>> {
        let file = match open_no_link(path) {
            Err(error) if is_gone(&error) => return Ok(None),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        let is_it = metadata.is_file() && Stamp::of(&metadata) == stamp;
        let (mode, is_sparse) = (mode_of(&metadata), is_sparse(&metadata));
        Ok(is_it.then(|| Self { file, path: path.to_owned(), stamp, mode, is_sparse }))
    }

    pub(super) fn handle(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self) -> u64 {
        self.stamp.size
    }

    pub(super) fn mode(&self) -> Option<u16> {
        self.mode
    }

    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.stamp.modified
    }

    /// Reads what comes at `offset`; nothing at the file's end.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| read_at(&self.file, buffer, offset))
    }

    /// The same into several buffers in turn.
    pub(super) fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        uninterrupted(|| read_vectored_at(&self.file, buffers, offset))
    }

    /// Whether the system says that these bytes are zeros which take no place; to read them would fill
    /// memory.
    pub(super) fn is_hole(&self, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        self.is_sparse
            && match data_from(&self.file, offset) {
                Some(data) => data >= end,
                // None, or no file any more where it would be.
                None => self.file.metadata().is_ok_and(|metadata| metadata.len() >= end),
            }
    }

    /// Whether nobody has written to it since it was opened, as far as its size and time of modification say.
    pub(super) fn is_unchanged(&self) -> io::Result<bool> {
        Ok(Stamp::of(&self.file.metadata()?) == self.stamp)
    }
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().ok(), number: number_of(metadata) }
    }

    /// That of what is on no disk.
    pub(super) fn of_time(modified: Option<SystemTime>) -> Self {
        Self { size: 0, modified, number: 0 }
    }
}

#[cfg(unix)]
fn number_of(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number_of(_metadata: &Metadata) -> u64 {
    0
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
pub(in crate::files) fn what_is(kind: FileType) -> Option<&'static str> {
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
    open_with(path, rustix::fs::OFlags::empty())
}

/// Opens what is at a path for reading, but follows no link, and never waits.
#[cfg(unix)]
pub(super) fn open_no_link(path: &Path) -> io::Result<File> {
    open_with(path, rustix::fs::OFlags::NOFOLLOW)
}

/// Whether no file is at a path any more, or a link.
fn is_gone(error: &io::Error) -> bool {
    #[cfg(unix)]
    if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP) {
        return true;
    }
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(unix)]
fn open_with(path: &Path, flags: rustix::fs::OFlags) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = (flags | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(not(unix))]
pub(super) fn open_no_link(path: &Path) -> io::Result<File> {
    match std::fs::symlink_metadata(path)?.is_symlink() {
        true => Err(io::ErrorKind::NotFound.into()),
        false => open_without_waiting(path),
    }
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(unix)]
pub(super) fn read_vectored_at(
    file: &File,
    buffers: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    Ok(rustix::io::preadv(file, buffers, offset)?)
}

#[cfg(windows)]
pub(super) fn read_vectored_at(
    file: &File,
    buffers: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    match buffers.iter_mut().find(|buffer| !buffer.is_empty()) {
        Some(buffer) => read_at(file, buffer, offset),
        None => Ok(0),
    }
}

pub(super) fn uninterrupted(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
