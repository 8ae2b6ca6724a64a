//! A tree of files as one sequence of bytes: POSIX pax, with everything that the format leaves open settled,
//! so that a tree has one archive and an archive one reading.
//!
//! # Layout
//! - `entry`: one entry's header, encoded and decoded
//! - `path`: which paths and links an archive may hold
//! - `decoder`: reads an archive as it comes

pub(super) mod decoder;
pub(super) mod entry;
pub(super) mod path;

use serde::{Deserialize, Serialize};

/// How much a tree holds. Its archive's size is another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSize {
    /// Files, folders and links, the topmost folder included.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}
