//! Bytes of which nobody knows how many come: they are kept until all have, since an offer says their hash.

use std::{
    fs::File,
    io::{self, IoSliceMut, Write as _},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use super::{
    Source, SourceBytes,
    file::{read_at, read_vectored_at, uninterrupted},
    proof::{BlockHasher, Content},
};
use crate::error::{Code, Error};
use crate::files::display;

/// A file of the system's temporary folder that has no name, so that it is gone with the process however that
/// ends, and that nobody else can open. It is hashed as it is written.
pub struct Spool {
    /// How it will be called.
    name: String,
    /// Made with the first byte.
    file: Option<File>,
    size: u64,
    limit: u64,
    hasher: Sha256,
    block: BlockHasher,
    blocks: Vec<u128>,
}

/// A spool that has all its bytes.
#[derive(Debug)]
pub(super) struct Spooled {
    /// None of no bytes.
    file: Option<File>,
    size: u64,
}

/// Why bytes can't be spooled.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There are more than were allowed.
    #[error(
        "{} has more than the {limit} bytes that are kept of a stream until it is sent: maxBytes allows more",
        display(name)
    )]
    TooLarge {
        /// How they were to be called.
        name: String,
        /// Bytes that were allowed.
        limit: u64,
    },
    /// The temporary file can't be made or written.
    #[error(
        "{} can't be kept in {} until it is sent: {source}; TMPDIR, or TEMP on Windows, names another folder",
        display(name),
        crate::files::display_path(folder)
    )]
    NotWritable {
        /// How they were to be called.
        name: String,
        /// The system's temporary folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Spool {
    /// Keeps at most `limit` bytes that are to be sent as a file of this name.
    pub fn new(name: String, limit: u64) -> Self {
        Self {
            name,
            file: None,
            size: 0,
            limit,
            hasher: Sha256::new(),
            block: BlockHasher::default(),
            blocks: Vec::new(),
        }
    }

    /// Takes the next bytes. Blocks.
    ///
    /// # Errors
    /// Any [`SpoolError`]; the spool is of no more use then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if size > self.limit {
            return Err(SpoolError::TooLarge { name: self.name.clone(), limit: self.limit });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.write_to_file(bytes).map_err(|source| SpoolError::NotWritable {
            name: self.name.clone(),
            folder: std::env::temp_dir(),
            source,
        })?;
        self.size = size;
        self.hasher.update(bytes);
        self.block.update(bytes, |checksum| self.blocks.push(checksum));
        Ok(())
    }

    fn write_to_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => self.file.insert(tempfile::tempfile()?).write_all(bytes),
        }
    }

    /// All bytes have come.
    pub fn finish(mut self) -> Source {
        self.blocks.extend(self.block.finish());
        let content = Content { hash: hex::encode(self.hasher.finalize()), blocks: self.blocks };
        let spooled = Spooled { file: self.file, size: self.size };
        Source::hashed(self.name, SourceBytes::Spooled(spooled), content)
    }
}

impl Spooled {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads what comes at `offset`; nothing at the end.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.file {
            Some(file) => uninterrupted(|| read_at(file, buffer, offset)),
            None => Ok(0),
        }
    }

    /// The same into several buffers in turn.
    pub(super) fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        match &self.file {
            Some(file) => uninterrupted(|| read_vectored_at(file, buffers, offset)),
            None => Ok(0),
        }
    }
}

impl SpoolError {
    /// The code by which callers know it.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::TooLarge,
            Self::NotWritable { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Code::DiskFull
                }
                _ => Code::NotWritable,
            },
        }
    }
}

impl From<SpoolError> for Error {
    fn from(error: SpoolError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
