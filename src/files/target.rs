//! Where a file is to go, and what stops it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::SafeName;

/// Where a file is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This very path, whose folder must exist.
    Exact {
        /// Chosen by the user, not by a peer.
        path: PathBuf,
        /// Whether a file that stands there is replaced.
        overwrite: bool,
    },
    /// This folder, which is made if it is missing. Nothing in it is replaced: where the name is taken,
    /// the file gets a numbered one.
    InFolder {
        /// Chosen by the user, not by a peer.
        dir: PathBuf,
        /// The name to be written under.
        name: SafeName,
    },
}

/// Why a file can't be written where it is to go.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The path names no file: it is empty, or ends in a separator or `..`.
    #[error("{} names no file", path.display())]
    NoName {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder does not exist.
    #[error("there is no folder {}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Something other than a file stands at the path; it is not replaced.
    #[error("{} is {what}, not a file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What it is: `a folder`, `a device`, …
        what: &'static str,
    },
    /// A file stands at the path, and replacing it was refused; or no numbered name is free.
    #[error("{} exists already", path.display())]
    AlreadyExists {
        /// The path, or the folder and name.
        path: PathBuf,
    },
    /// There is no room on the disk.
    #[error("there is no room for {needed} bytes in {}", path.display())]
    DiskFull {
        /// The folder.
        path: PathBuf,
        /// Bytes of the file.
        needed: u64,
    },
    /// Another process is receiving the same file into the same folder.
    #[error("{} is being written by another process", path.display())]
    Busy {
        /// The temporary file.
        path: PathBuf,
    },
    /// The folder, or the temporary file in it, is no longer where it was.
    #[error("{} was moved or replaced meanwhile", path.display())]
    Moved {
        /// What was moved.
        path: PathBuf,
    },
    /// The system refused: permissions, a read-only disk, a folder that is a file.
    #[error("{} can't be written: {source}", path.display())]
    NotWritable {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl TargetError {
    /// The error for what the system said while a file of `needed` bytes was being written at `path`.
    pub(super) fn from_io(path: &Path, needed: u64, source: io::Error) -> TargetError {
        let path = path.to_owned();
        match source.kind() {
            // Too large for this file system is too large for what room there is.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                TargetError::DiskFull { path, needed }
            }
            _ => TargetError::NotWritable { path, source },
        }
    }
}
