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

/// Bytes that a file, a folder or a link takes on a disk beside its content, at most: a block of most file
/// systems, which is its own, or is not filled.
const ENTRY_ROOM: u64 = 4096;

/// Bytes of an archive that an entry has at least.
const LEAST_ENTRY: u64 = entry::BLOCK_LEN as u64;

/// How much a tree holds. Its archive's size is another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSize {
    /// Files, folders and links, the topmost folder included.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl TreeSize {
    /// Bytes that it may take on a disk, as far as the last `rest` bytes of its archive bring it.
    pub fn room(&self, rest: u64) -> u64 {
        rest.saturating_add(self.entries_in(rest).saturating_mul(ENTRY_ROOM))
    }

    /// Files, folders and links that the last `rest` bytes of its archive may bring.
    pub fn entries_in(&self, rest: u64) -> u64 {
        self.entries.min(rest / LEAST_ENTRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_takes_a_block_beside_its_bytes() {
        let tree = TreeSize { entries: 10, bytes: 1000 };
        assert_eq!(tree.room(10_000), 10_000 + 10 * 4096);
        // What has come already is there.
        assert_eq!(tree.room(1500), 1500 + 2 * 4096);
        assert_eq!((tree.room(0), tree.room(u64::MAX)), (0, u64::MAX));
    }
}
