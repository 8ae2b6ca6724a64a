//! How much of a partial file was written, and what it was, remembered in a file of its own, so that a later
//! process can find out how much of it still stands.
//!
//! The file is a header and then one entry for each step: how many bytes there were, and their SHA-256.
//! Nothing in it is believed; an entry says only what is worth comparing with the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// What a file of checkpoints begins with.
const MAGIC: [u8; 8] = *b"atsp2p-1";

/// Magic, number and rights of the partial file.
const HEADER_LEN: usize = 8 + 8 + 4;

/// Bytes so far, and their SHA-256.
const ENTRY_LEN: usize = 8 + 32;

/// Checkpoints that a file of any size has at most, apart from those where it was interrupted.
const STEPS: u64 = 4096;

/// The fewest bytes between two checkpoints: what is lost with a process that dies, and what a slow transfer
/// brings in little time.
const LEAST_STEP: u64 = 64 * 1024;

/// Entries written and read of one file at most.
pub(super) const MAX_CHECKPOINTS: usize = 8192;

/// Bytes read at a time.
const CHUNK_LEN: usize = 1024 * 1024;

/// What tells one partial file from all others of its folder, and from one put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartIdentity {
    /// The number of the file on its disk; 0 where the system has none.
    pub(super) number: u64,
    /// The rights that a new file had where it was made.
    pub(super) mode: u32,
}

/// The checkpoints of one partial file, open for the next one.
#[derive(Debug)]
pub(super) struct Checkpoints {
    file: File,
    step: u64,
    last: u64,
    entries: usize,
}

/// How much of a partial file stands, and the state of its hash there.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    pub(super) len: u64,
    pub(super) hasher: Sha256,
}

impl Checkpoints {
    /// Begins to remember a partial file, which is empty, for a file of `size` bytes; what was remembered at
    /// `path` before is given up.
    pub(super) fn create(path: &Path, identity: PartIdentity, size: u64) -> io::Result<Self> {
        let mut file = open(path, true)?;
        file.set_len(0)?;
        file.write_all(&header(identity))?;
        Ok(Self::new(file, size, 0, 0))
    }

    /// Reads what is remembered at `path`: of which partial file, and how much of `part` still stands. `None`
    /// where nothing is, or nothing of use. Reads that much of `part`, and tells `read` the bytes so far and
    /// how many there are; once `cancel` says so, no more of it.
    pub(super) fn open(
        path: &Path,
        part: &mut File,
        size: u64,
        is_it: impl FnOnce(PartIdentity) -> bool,
        read: impl FnMut(u64, u64),
        cancel: &CancellationToken,
    ) -> Option<(Self, PartIdentity, Prefix)> {
        let mut file = open(path, false).ok()?;
        let mut bytes = Vec::new();
        let limit = u64::try_from(HEADER_LEN + MAX_CHECKPOINTS * ENTRY_LEN).unwrap_or(u64::MAX);
        (&file).take(limit).read_to_end(&mut bytes).ok()?;
        let (head, entries) = bytes.split_at_checked(HEADER_LEN)?;
        let identity = read_header(head).filter(|identity| is_it(*identity))?;
        let entries: Vec<(u64, &[u8])> = entries.chunks_exact(ENTRY_LEN).filter_map(read_entry).collect();
        let (standing, count) = compare(part, &entries, size, read, cancel);
        // What is remembered of bytes that do not stand is not true any more.
        let kept = u64::try_from(HEADER_LEN + count * ENTRY_LEN).unwrap_or(u64::MAX);
        file.set_len(kept).and_then(|()| file.seek(io::SeekFrom::Start(kept))).ok()?;
        Some((Self::new(file, size, standing.len, count), identity, standing))
    }

    fn new(file: File, size: u64, last: u64, entries: usize) -> Self {
        Self { file, step: step_of(size), last, entries }
    }

    /// Whether enough was written since the last checkpoint for the next one.
    pub(super) fn is_due(&self, len: u64) -> bool {
        len.saturating_sub(self.last) >= self.step
    }

    /// Remembers that the first `len` bytes have this hash.
    pub(super) fn add(&mut self, len: u64, hasher: &Sha256) -> io::Result<()> {
        self.add_by(|mut file, entry| file.write_all(entry), len, hasher)
    }

    /// As [`Self::add`], on a disk that takes an entry by `write`.
    fn add_by(
        &mut self,
        write: impl FnOnce(&File, &[u8]) -> io::Result<()>,
        len: u64,
        hasher: &Sha256,
    ) -> io::Result<()> {
        if len <= self.last || self.entries >= MAX_CHECKPOINTS {
            return Ok(());
        }
        let mut entry = [0; ENTRY_LEN];
        entry[..8].copy_from_slice(&len.to_be_bytes());
        entry[8..].copy_from_slice(&hasher.clone().finalize());
        let written = write(&self.file, &entry);
        match written {
            Ok(()) => (self.last, self.entries) = (len, self.entries + 1),
            // Behind a part of an entry none is one.
            Err(_) if self.cut(self.entries).is_err() => self.entries = MAX_CHECKPOINTS,
            Err(_) => {}
        }
        written
    }

    /// Forgets all checkpoints.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.cut(0)?;
        (self.last, self.entries) = (0, 0);
        Ok(())
    }

    /// Leaves so many entries, and goes on behind them.
    fn cut(&mut self, entries: usize) -> io::Result<()> {
        let end = u64::try_from(HEADER_LEN + entries * ENTRY_LEN).unwrap_or(u64::MAX);
        self.file.set_len(end)?;
        self.file.seek(io::SeekFrom::Start(end)).map(drop)
    }
}

/// The bytes between two checkpoints of what has `size` bytes.
pub(super) fn step_of(size: u64) -> u64 {
    (size / STEPS).max(LEAST_STEP)
}

/// Opens the file of checkpoints, for this user alone.
pub(super) fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn header(identity: PartIdentity) -> Vec<u8> {
    [&MAGIC[..], &identity.number.to_be_bytes(), &identity.mode.to_be_bytes()].concat()
}

fn read_header(head: &[u8]) -> Option<PartIdentity> {
    let (magic, rest) = head.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (mode, _) = rest.split_first_chunk()?;
    (*magic == MAGIC)
        .then(|| PartIdentity { number: u64::from_be_bytes(*number), mode: u32::from_be_bytes(*mode) })
}

fn read_entry(entry: &[u8]) -> Option<(u64, &[u8])> {
    let (len, hash) = entry.split_first_chunk()?;
    Some((u64::from_be_bytes(*len), hash))
}

/// Reads `part` as far as its bytes are those that the entries speak of; also returns how many entries those
/// are.
fn compare(
    part: &mut File,
    entries: &[(u64, &[u8])],
    size: u64,
    mut read: impl FnMut(u64, u64),
    cancel: &CancellationToken,
) -> (Prefix, usize) {
    let goal = entries.last().map_or(0, |(len, _)| *len);
    let (mut standing, mut count) = (Prefix::default(), 0);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_LEN];
    if part.rewind().is_err() {
        return (standing, 0);
    }
    for (len, hash) in entries {
        if *len <= standing.len || *len > size {
            break;
        }
        let mut left = len - standing.len;
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            if cancel.is_cancelled() || part.read_exact(chunk).is_err() {
                return (standing, count);
            }
            hasher.update(&*chunk);
            left -= u64::try_from(wanted).unwrap_or(left);
            read(len - left, goal);
        }
        if hasher.clone().finalize()[..] != **hash {
            break;
        }
        standing = Prefix { len: *len, hasher: hasher.clone() };
        count += 1;
    }
    (standing, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: PartIdentity = PartIdentity { number: 7, mode: 0o644 };

    struct Lab {
        dir: tempfile::TempDir,
        content: Vec<u8>,
    }

    impl Lab {
        /// A partial file of three steps, with a checkpoint after each.
        fn new() -> Self {
            let lab = Self { dir: tempfile::tempdir().expect("a folder"), content: (0..=255).collect() };
            let mut checkpoints = Checkpoints::create(&lab.log(), IDENTITY, 256).expect("made");
            for len in [100, 200, 256] {
                let hasher = Sha256::new_with_prefix(&lab.content[..len]);
                checkpoints.add(len as u64, &hasher).expect("remembered");
            }
            lab
        }

        fn log(&self) -> std::path::PathBuf {
            self.dir.path().join("log")
        }

        /// How much of this content stands.
        fn standing(&self, content: &[u8]) -> Option<u64> {
            let path = self.dir.path().join("part");
            std::fs::write(&path, content).expect("written");
            let mut part = File::open(&path).expect("opened");
            let is_it = |identity| identity == IDENTITY;
            let (_, _, standing) =
                Checkpoints::open(&self.log(), &mut part, 256, is_it, |_, _| {}, &CancellationToken::new())?;
            let len = usize::try_from(standing.len).expect("small");
            assert_eq!(standing.hasher.finalize(), Sha256::digest(&content[..len]));
            Some(standing.len)
        }
    }

    #[test]
    fn the_file_is_a_header_and_entries() {
        let lab = Lab::new();
        let log = std::fs::read(lab.log()).expect("read");
        assert_eq!(log[..HEADER_LEN], *b"atsp2p-1\0\0\0\0\0\0\0\x07\0\0\x01\xa4");
        assert_eq!(log.len(), HEADER_LEN + 3 * ENTRY_LEN);
        assert_eq!(log[HEADER_LEN..HEADER_LEN + 8], 100_u64.to_be_bytes());
        assert_eq!(log[HEADER_LEN + 8..HEADER_LEN + ENTRY_LEN], *Sha256::digest(&lab.content[..100]));
    }

    #[test]
    fn what_stands_is_what_the_disk_holds_of_it() {
        let lab = Lab::new();
        assert_eq!(lab.standing(&lab.content), Some(256));
        let grown = [&lab.content[..], b"more"].concat();
        assert_eq!(Lab::new().standing(&grown), Some(256));
        for (len, stands) in [(255, 200), (200, 200), (199, 100), (99, 0), (0, 0)] {
            assert_eq!(Lab::new().standing(&lab.content[..len]), Some(stands), "{len} bytes");
        }
        for (byte, stands) in [(0, 0), (99, 0), (100, 100), (199, 100), (200, 200), (255, 200)] {
            let mut other = lab.content.clone();
            other[byte] ^= 1;
            assert_eq!(Lab::new().standing(&other), Some(stands), "byte {byte}");
        }
        // What did not stand once is not believed later.
        assert_eq!(lab.standing(&lab.content[..150]), Some(100));
        assert_eq!(lab.standing(&lab.content), Some(100));
    }

    #[test]
    fn an_entry_that_was_written_in_part_spoils_none_after_it() {
        let lab = Lab::new();
        let mut checkpoints = Checkpoints::create(&lab.log(), IDENTITY, 256).expect("made");
        let hasher = |len: usize| Sha256::new_with_prefix(&lab.content[..len]);
        checkpoints.add(100, &hasher(100)).expect("remembered");
        for len in [0, 1, ENTRY_LEN - 1] {
            let full = |mut file: &File, entry: &[u8]| {
                file.write_all(&entry[..len])?;
                Err(io::ErrorKind::StorageFull.into())
            };
            let added = checkpoints.add_by(full, 150, &hasher(150));
            assert_eq!(added.map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        }
        checkpoints.add(200, &hasher(200)).expect("remembered");
        assert_eq!(lab.standing(&lab.content), Some(200));
    }

    #[test]
    fn what_is_no_file_of_checkpoints_says_nothing() {
        let lab = Lab::new();
        let whole = std::fs::read(lab.log()).expect("read");
        let mut other = whole.clone();
        other[12] ^= 1;
        let mut not_ours = whole.clone();
        not_ours[0] ^= 1;
        for bytes in [&b""[..], &whole[..HEADER_LEN - 1], &other, &not_ours] {
            std::fs::write(lab.log(), bytes).expect("written");
            assert_eq!(lab.standing(&lab.content), None);
        }
        // An entry that was not written whole, and ones that make no sense.
        std::fs::write(lab.log(), &whole[..whole.len() - 1]).expect("written");
        assert_eq!(lab.standing(&lab.content), Some(200));
        let backwards =
            [&whole[..HEADER_LEN + ENTRY_LEN], &whole[HEADER_LEN..HEADER_LEN + ENTRY_LEN]].concat();
        std::fs::write(lab.log(), backwards).expect("written");
        assert_eq!(lab.standing(&lab.content), Some(100));
        let beyond = [&whole[..HEADER_LEN], &u64::MAX.to_be_bytes(), &[0; 32]].concat();
        std::fs::write(lab.log(), beyond).expect("written");
        assert_eq!(lab.standing(&lab.content), Some(0));
    }

    #[test]
    fn the_steps_follow_the_size_and_their_number_is_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        let create = |size| Checkpoints::create(&dir.path().join("log"), IDENTITY, size).expect("made");
        assert!(!create(1).is_due(LEAST_STEP - 1) && create(1).is_due(LEAST_STEP));
        assert!(!create(1 << 40).is_due((1 << 28) - 1) && create(1 << 40).is_due(1 << 28));
        let mut checkpoints = create(1 << 20);
        for len in 1..20_000 {
            checkpoints.add(len, &Sha256::new()).expect("remembered");
        }
        let log = std::fs::metadata(dir.path().join("log")).expect("there").len();
        assert_eq!(log, (HEADER_LEN + MAX_CHECKPOINTS * ENTRY_LEN) as u64);
    }
}
