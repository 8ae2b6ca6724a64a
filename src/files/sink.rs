//! Where the bytes of a transfer go until they are verified.

use std::{io::IoSlice, path::PathBuf};

use super::{Partial, PartialTree, TargetError};

/// A file, or a folder that is unpacked as its archive comes.
#[derive(Debug)]
pub enum Sink {
    /// A file.
    File(Box<Partial>),
    /// A folder.
    Folder(Box<PartialTree>),
}

impl From<Partial> for Sink {
    fn from(partial: Partial) -> Self {
        Self::File(Box::new(partial))
    }
}

impl From<PartialTree> for Sink {
    fn from(tree: PartialTree) -> Self {
        Self::Folder(Box::new(tree))
    }
}

impl Sink {
    /// Bytes that it has taken.
    pub fn written(&self) -> u64 {
        match self {
            Self::File(partial) => partial.written(),
            Self::Folder(tree) => tree.written(),
        }
    }

    /// SHA-256 of those, lower-case hex.
    pub fn hash(&self) -> String {
        match self {
            Self::File(partial) => partial.hash(),
            Self::Folder(tree) => tree.hash(),
        }
    }

    /// Gives up all that it has taken. Blocks.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn clear(&mut self) -> Result<(), TargetError> {
        match self {
            Self::File(partial) => partial.clear(),
            Self::Folder(tree) => tree.clear(),
        }
    }

    /// Takes the bytes of all `pieces`, of which nothing is left. Blocks.
    ///
    /// # Errors
    /// `DiskFull`, `NotWritable`; of a folder also `Archive`. It is of no more use then.
    pub fn write_all_vectored(&mut self, pieces: &mut [IoSlice<'_>]) -> Result<(), TargetError> {
        match self {
            Self::File(partial) => partial.write_all_vectored(pieces),
            Self::Folder(tree) => tree.write_all_vectored(pieces),
        }
    }

    /// Remembers what it has taken, if enough was since this was last done. Blocks.
    pub fn remember(&mut self) {
        match self {
            Self::File(partial) => partial.remember(),
            Self::Folder(tree) => tree.remember(),
        }
    }

    /// Says that nothing comes for now, and remembers what it has taken. Blocks.
    pub fn settle(&mut self) {
        match self {
            Self::File(partial) => partial.settle(),
            Self::Folder(tree) => tree.settle(),
        }
    }

    /// Gives what has come whole its place; see [`Partial::commit`] and [`PartialTree::commit`]. Blocks.
    ///
    /// # Errors
    /// Any [`TargetError`]; nothing is left of it then.
    pub fn commit(self) -> Result<PathBuf, TargetError> {
        match self {
            Self::File(partial) => partial.commit(),
            Self::Folder(tree) => tree.commit(),
        }
    }
}
