//! Where a file is to go, and what stops it.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{SafeName, dir::Dir, display_path};
use crate::error::{Code, Error};

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
    /// This folder, which is made if it is missing.
    InFolder {
        /// Chosen by the user, not by a peer.
        dir: PathBuf,
        /// The name to be written under.
        name: SafeName,
        /// What becomes of it where that is taken.
        existing: Existing,
    },
}

/// What becomes of a file whose name is taken in its folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// It gets a numbered name, and nothing is replaced.
    #[default]
    Rename,
    /// It takes the place of the file or the link there, in one step.
    Overwrite,
    /// What is there stays: if it is the same file, that counts as received, and otherwise it is not taken.
    Skip,
}

impl Target {
    /// The folder that the file is to stand in.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Exact { path, .. } => match path.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            },
            Self::InFolder { dir, .. } => dir,
        }
    }

    /// The path at which a file that is the same counts as received; `None` where another one is to come all
    /// the same.
    pub(crate) fn kept(&self) -> Option<PathBuf> {
        match self {
            Self::InFolder { dir, name, existing: Existing::Skip } => Some(dir.join(name.as_str())),
            Self::InFolder { .. } | Self::Exact { .. } => None,
        }
    }

    /// Whether what stands at the name may keep a file from being received: then no time helps.
    pub(crate) fn insists_on_name(&self) -> bool {
        !matches!(self, Self::InFolder { existing: Existing::Rename, .. })
    }

    /// The name that the file is to have there, as text; a folder may have to number it.
    pub fn file_name(&self) -> String {
        match self {
            Self::Exact { path, .. } => {
                path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
            }
            Self::InFolder { name, .. } => name.as_str().to_owned(),
        }
    }
}

/// Why a file can't be written where it is to go.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The path names no file: it is empty, or ends in a separator or `..`.
    #[error("{} names no file", display_path(path))]
    NoName {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder does not exist.
    #[error("there is no folder {}", display_path(path))]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Something other than a file stands at the path; it is not replaced.
    #[error("{} is {what}, not a file", display_path(path))]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What it is: `a folder`, `a device`, …
        what: &'static str,
    },
    /// A file stands at the path, and replacing it was refused; or no numbered name is free.
    #[error("{} exists already", display_path(path))]
    AlreadyExists {
        /// The path, or the folder and name.
        path: PathBuf,
    },
    /// There is no room on the disk.
    #[error("there is no room for {needed} bytes in {}", display_path(path))]
    DiskFull {
        /// The folder.
        path: PathBuf,
        /// Bytes of the file.
        needed: u64,
    },
    /// The disk takes no more files, whatever room there is for bytes.
    #[error("there is no room for {needed} files and folders in {}", display_path(path))]
    NoMoreFiles {
        /// The folder.
        path: PathBuf,
        /// Files and folders that are to be made.
        needed: u64,
    },
    /// Another process is receiving the same file into the same folder.
    #[error("{} is being written by another process", display_path(path))]
    Busy {
        /// The temporary file.
        path: PathBuf,
    },
    /// The folder, or the temporary file in it, is no longer where it was.
    #[error("{} was moved or replaced meanwhile", display_path(path))]
    Moved {
        /// What was moved.
        path: PathBuf,
    },
    /// Somebody else has written to the temporary file.
    #[error("{} was written to by somebody else meanwhile", display_path(path))]
    Changed {
        /// The temporary file.
        path: PathBuf,
    },
    /// What came is no archive of a folder as it was offered, or of one that can't be made here.
    #[error("the folder that came can't be unpacked: {why}")]
    Archive {
        /// What is wrong with it.
        why: String,
    },
    /// The system refused: permissions, a read-only disk, a folder that is a file.
    #[error("{} can't be written: {source}", display_path(path))]
    NotWritable {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Bytes that may still be written below `path`, which need not be there yet; `None` where the system
/// doesn't say. Blocks.
pub fn free_space(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|folder| Dir::open(folder).ok())?.free()
}

/// Makes a folder, and those on the way to it, unless it is there, and looks whether files may be made in
/// it. Blocks. Returns its path in full, which stands whatever the working directory becomes.
///
/// # Errors
/// `NotWritable`, `DiskFull`.
pub fn prepare_folder(dir: &Path) -> Result<PathBuf, TargetError> {
    let prepare = || {
        std::fs::create_dir_all(dir)?;
        Dir::open(dir)?.check_writable()?;
        std::path::absolute(dir)
    };
    prepare().map_err(|source| TargetError::from_io(dir, 0, source))
}

impl TargetError {
    /// The code by which callers know it.
    pub fn code(&self) -> Code {
        match self {
            Self::NoName { .. } => Code::InvalidArgument,
            Self::NotAFile { .. } => Code::NotAFile,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::DiskFull { .. } | Self::NoMoreFiles { .. } => Code::DiskFull,
            Self::Archive { .. } => Code::Integrity,
            Self::NoFolder { .. }
            | Self::Busy { .. }
            | Self::Moved { .. }
            | Self::Changed { .. }
            | Self::NotWritable { .. } => Code::NotWritable,
        }
    }

    /// The error for what the system said while a file of `needed` bytes was being written at `path`.
    pub(super) fn from_io(path: &Path, needed: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            // A file too large for this file system has no room on it either.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path, needed }
            }
            _ => Self::NotWritable { path, source },
        }
    }
}

impl From<TargetError> for Error {
    fn from(error: TargetError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
