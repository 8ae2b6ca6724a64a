//! What was unpacked of a folder, remembered in a file of its own, so that a later process can find out how
//! much of it still stands.
//!
//! The file is a header and then records: one for each entry of the archive as it came, and now and then a
//! checkpoint: how many bytes of the archive there were, their SHA-256, and those that belong to no entry
//! yet. As a tree has one archive, the entries and the files on the disk give all its bytes again. Nothing in
//! it is believed: it only says what is worth comparing with the disk.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{
    Rights,
    archive::entry::{ArchiveEntry, EntryKind},
    checkpoints::{MAX_CHECKPOINTS, open, step_of},
};

/// What a journal begins with.
const MAGIC: [u8; 8] = *b"atsp2p-t";

/// Magic, number of the folder, the rights that a new file has, and which rights are kept.
const HEADER_LEN: usize = 8 + 8 + 4 + 1;

/// What a record begins with.
const ENTRY: u8 = 1;
const CHECKPOINT: u8 = 2;

/// Of an entry: the bytes that its path shares with the one before, those that follow, its kind, mode and
/// time, and the bytes of the file or of the link's target. The rest of the path follows, and the target.
const ENTRY_LEN: usize = 2 + 2 + 1 + 2 + 8 + 8;

/// Of a checkpoint: bytes of the archive, their SHA-256, and how many of them follow.
const CHECKPOINT_LEN: usize = 8 + 32 + 2;

/// The most bytes of records that wait for a checkpoint in memory.
const MAX_WAITING_LEN: usize = 64 * 1024;

/// The most bytes of a journal, which lies beside the records of this user: a million entries of usual names
/// fit. Beyond, a folder goes on from there at the best.
const MAX_LEN: u64 = 64 * 1024 * 1024;

/// What an entry is.
const FILE: u8 = 0;
const FOLDER: u8 = 1;
const LINK: u8 = 2;

/// What tells the folder that a journal speaks of from all others, and how it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeIdentity {
    /// The number of the temporary folder on its disk; 0 where the system has none.
    pub(super) number: u64,
    /// The rights that a new file had where it was made.
    pub(super) mode: u32,
    /// Which rights are kept.
    kept: u8,
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JournalRecord {
    Entry(ArchiveEntry),
    Checkpoint(TreeCheckpoint),
}

/// How much of an archive there was at one time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TreeCheckpoint {
    /// Bytes of the archive.
    pub(super) len: u64,
    /// Their SHA-256.
    pub(super) hash: [u8; 32],
    /// Those at their end that belong to no entry yet.
    pub(super) unread: Vec<u8>,
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    step: u64,
    /// The last checkpoint, and how many there are.
    last: u64,
    checkpoints: usize,
    /// The path of the last entry.
    path: String,
    /// Records that the file does not hold yet, and bytes that it holds.
    records: Vec<u8>,
    written: u64,
    /// Nothing more is remembered.
    is_closed: bool,
}

/// Where a journal is gone on with.
#[derive(Clone, Debug, Default)]
pub(super) struct JournalEnd {
    /// Bytes of its file.
    pub(super) at: u64,
    /// The last checkpoint up to there, and how many there are.
    pub(super) last: u64,
    pub(super) checkpoints: usize,
}

/// Reads a journal, as far as it makes sense.
#[derive(Debug)]
pub(super) struct JournalReader {
    input: BufReader<File>,
    path: String,
    at: u64,
}

impl TreeIdentity {
    pub(super) fn new(number: u64, mode: u32, rights: Rights) -> Self {
        let kept = match rights {
            Rights::New => 0,
            Rights::AsSent(_) => 1,
            Rights::WithinSent(_) => 2,
        };
        Self { number, mode, kept }
    }

    fn encode(self) -> Vec<u8> {
        [&MAGIC[..], &self.number.to_be_bytes(), &self.mode.to_be_bytes(), &[self.kept]].concat()
    }

    fn decode(header: &[u8]) -> Option<Self> {
        let (magic, rest) = header.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (mode, rest) = rest.split_first_chunk()?;
        let identity = Self {
            number: u64::from_be_bytes(*number),
            mode: u32::from_be_bytes(*mode),
            kept: *rest.first()?,
        };
        (*magic == MAGIC).then_some(identity)
    }
}

impl Journal {
    /// Begins to remember a folder of which nothing has come, whose archive has `size` bytes; what was
    /// remembered at `path` before is given up.
    pub(super) fn create(path: &Path, identity: TreeIdentity, size: u64) -> io::Result<Self> {
        let mut file = open(path, true)?;
        file.set_len(0)?;
        file.write_all(&identity.encode())?;
        Ok(Self::new(file, size, &JournalEnd::default(), String::new()))
    }

    /// Goes on with the one at `path` from `end` on, where the path of the last entry is `last`. What comes
    /// behind that is not true any more.
    pub(super) fn go_on(path: &Path, size: u64, end: &JournalEnd, last: String) -> io::Result<Self> {
        let mut file = open(path, false)?;
        file.set_len(end.at)?;
        file.seek(SeekFrom::Start(end.at))?;
        Ok(Self::new(file, size, end, last))
    }

    fn new(file: File, size: u64, end: &JournalEnd, path: String) -> Self {
        let JournalEnd { at: written, last, checkpoints } = *end;
        let (step, records) = (step_of(size), Vec::new());
        Self { file, step, last, checkpoints, path, records, written, is_closed: false }
    }

    /// Notes an entry that begins, which counts with the next checkpoint.
    pub(super) fn add_entry(&mut self, entry: &ArchiveEntry) -> io::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let (kind, number, target) = match &entry.kind {
            EntryKind::File(size) => (FILE, *size, ""),
            EntryKind::Folder => (FOLDER, 0, ""),
            EntryKind::Link(target) => {
                (LINK, u64::try_from(target.len()).unwrap_or(u64::MAX), target.as_str())
            }
        };
        let both = self.path.bytes().zip(entry.path.bytes());
        let same = both.take_while(|(before, now)| before == now).count();
        // A path is cut between characters.
        let shared = (0..=same).rev().find(|at| entry.path.is_char_boundary(*at)).unwrap_or(0);
        let rest = entry.path.get(shared..).unwrap_or_default();
        let len = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
        self.records.push(ENTRY);
        self.records.extend(len(shared));
        self.records.extend(len(rest.len()));
        self.records.push(kind);
        self.records.extend(entry.mode.to_be_bytes());
        self.records.extend(entry.mtime.to_be_bytes());
        self.records.extend(number.to_be_bytes());
        self.records.extend(rest.as_bytes());
        self.records.extend(target.as_bytes());
        self.path.clone_from(&entry.path);
        if self.records.len() >= MAX_WAITING_LEN { self.flush() } else { Ok(()) }
    }

    /// Whether enough was unpacked since the last checkpoint for the next one.
    pub(super) fn is_due(&self, len: u64) -> bool {
        len.saturating_sub(self.last) >= self.step
    }

    /// Remembers the entries so far, and that the first `len` bytes of the archive have this hash, of which
    /// those of `unread` belong to no entry yet. What can't be written once is not tried again.
    pub(super) fn add_checkpoint(&mut self, len: u64, hasher: &Sha256, unread: &[u8]) -> io::Result<()> {
        if self.is_closed || len <= self.last {
            return Ok(());
        }
        self.records.push(CHECKPOINT);
        self.records.extend(len.to_be_bytes());
        self.records.extend(hasher.clone().finalize());
        self.records.extend(u16::try_from(unread.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.records.extend(unread);
        (self.last, self.checkpoints) = (len, self.checkpoints + 1);
        self.flush()?;
        self.is_closed |= self.checkpoints >= MAX_CHECKPOINTS;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.records);
        self.written = self.written.saturating_add(u64::try_from(self.records.len()).unwrap_or(u64::MAX));
        self.records.clear();
        // Behind half a record nothing is read any more.
        self.is_closed |= written.is_err() || self.written > MAX_LEN;
        written
    }

    /// Forgets all that it says.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let start = u64::try_from(HEADER_LEN).unwrap_or(u64::MAX);
        self.file.set_len(start)?;
        self.file.seek(SeekFrom::Start(start))?;
        (self.last, self.checkpoints, self.written, self.is_closed) = (0, 0, 0, false);
        self.path.clear();
        self.records.clear();
        Ok(())
    }
}

impl JournalReader {
    /// Opens the journal at `path`; also returns of which folder it speaks. `None` where there is none.
    pub(super) fn open(path: &Path) -> Option<(Self, TreeIdentity)> {
        let mut input = BufReader::new(open(path, false).ok()?);
        let mut header = [0; HEADER_LEN];
        input.read_exact(&mut header).ok()?;
        let at = u64::try_from(HEADER_LEN).unwrap_or(u64::MAX);
        Some((Self { input, path: String::new(), at }, TreeIdentity::decode(&header)?))
    }

    /// Bytes of the file up to the end of the last record.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The path of the last entry.
    pub(super) fn into_path(self) -> String {
        self.path
    }

    fn read_array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let mut bytes = [0; LEN];
        self.input.read_exact(&mut bytes).ok()?;
        self.at += u64::try_from(LEN).unwrap_or(u64::MAX);
        Some(bytes)
    }

    fn read_bytes(&mut self, len: u16) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len.into()];
        self.input.read_exact(&mut bytes).ok()?;
        self.at += u64::from(len);
        Some(bytes)
    }

    fn entry(&mut self) -> Option<ArchiveEntry> {
        let record = self.read_array::<ENTRY_LEN>()?;
        let (shared, rest) = record.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let ([kind], rest) = rest.split_first_chunk()?;
        let (mode, rest) = rest.split_first_chunk()?;
        let (mtime, rest) = rest.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        let shared = self.path.get(..u16::from_be_bytes(*shared).into())?.len();
        let rest = String::from_utf8(self.read_bytes(u16::from_be_bytes(*len))?).ok()?;
        self.path.truncate(shared);
        self.path.push_str(&rest);
        let number = u64::from_be_bytes(*number);
        let kind = match *kind {
            FILE => EntryKind::File(number),
            FOLDER => EntryKind::Folder,
            LINK => EntryKind::Link(String::from_utf8(self.read_bytes(u16::try_from(number).ok()?)?).ok()?),
            _ => return None,
        };
        let (mode, mtime) = (u16::from_be_bytes(*mode), u64::from_be_bytes(*mtime));
        Some(ArchiveEntry { path: self.path.clone(), kind, mode, mtime })
    }

    fn checkpoint(&mut self) -> Option<TreeCheckpoint> {
        let record = self.read_array::<CHECKPOINT_LEN>()?;
        let (len, rest) = record.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let (unread, _) = rest.split_first_chunk()?;
        let unread = self.read_bytes(u16::from_be_bytes(*unread))?;
        Some(TreeCheckpoint { len: u64::from_be_bytes(*len), hash: *hash, unread })
    }
}

impl Iterator for JournalReader {
    type Item = JournalRecord;

    fn next(&mut self) -> Option<JournalRecord> {
        match self.read_array()? {
            [ENTRY] => self.entry().map(JournalRecord::Entry),
            [CHECKPOINT] => self.checkpoint().map(JournalRecord::Checkpoint),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> TreeIdentity {
        TreeIdentity::new(7, 0o755, Rights::AsSent(0o600))
    }

    fn entry(path: &str, kind: EntryKind) -> ArchiveEntry {
        ArchiveEntry { path: path.into(), kind, mode: 0o640, mtime: 5 }
    }

    fn entries() -> Vec<ArchiveEntry> {
        vec![
            entry("d/", EntryKind::Folder),
            entry("d/ä", EntryKind::File(600)),
            // Of the two bytes of the last letter the first is the same.
            entry("d/ö/", EntryKind::Folder),
            entry("d/ö/link", EntryKind::Link("../ä".into())),
        ]
    }

    fn written(path: &Path) -> Journal {
        let mut journal = Journal::create(path, identity(), 2000).expect("made");
        let entries = entries();
        entries[..2].iter().for_each(|entry| journal.add_entry(entry).expect("noted"));
        journal.add_checkpoint(1100, &Sha256::new_with_prefix("a"), b"").expect("written");
        entries[2..].iter().for_each(|entry| journal.add_entry(entry).expect("noted"));
        journal.add_checkpoint(1900, &Sha256::new_with_prefix("b"), b"rest").expect("written");
        journal
    }

    fn records() -> Vec<JournalRecord> {
        let checkpoint = |len, hash: &str, unread: &[u8]| {
            let hash = Sha256::digest(hash).into();
            JournalRecord::Checkpoint(TreeCheckpoint { len, hash, unread: unread.into() })
        };
        let mut records: Vec<_> = entries().into_iter().map(JournalRecord::Entry).collect();
        records.insert(2, checkpoint(1100, "a", b""));
        records.push(checkpoint(1900, "b", b"rest"));
        records
    }

    fn read(path: &Path) -> Vec<JournalRecord> {
        let (reader, there) = JournalReader::open(path).expect("opened");
        assert_eq!(there, identity());
        reader.collect()
    }

    #[test]
    fn what_was_noted_is_read_up_to_where_it_was_torn_off() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let mut journal = written(&path);
        // Without a checkpoint behind it an entry says nothing.
        journal.add_entry(&entry("d/x", EntryKind::File(1))).expect("noted");
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(bytes[..HEADER_LEN], *b"atsp2p-t\0\0\0\0\0\0\0\x07\0\0\x01\xed\x01");
        let first = b"\x01\0\0\0\x02\x01\x01\xa0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0d/";
        assert_eq!(bytes[HEADER_LEN..HEADER_LEN + first.len()], *first);
        assert_eq!(read(&path), records());
        let mut most = 0;
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).expect("written");
            if len < HEADER_LEN {
                assert!(JournalReader::open(&path).is_none());
                continue;
            }
            let (read, records) = (read(&path), records());
            assert!(read.len() >= most && read.len() < records.len());
            most = read.len();
            assert_eq!(read, records[..most]);
        }
    }

    #[test]
    fn what_is_gone_on_with_follows_what_stood() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        drop(written(&path));
        let (mut reader, _) = JournalReader::open(&path).expect("opened");
        let read: Vec<_> = reader.by_ref().take(3).collect();
        assert_eq!(read, records()[..3]);
        let end = JournalEnd { at: reader.at(), last: 1100, checkpoints: 1 };
        let mut journal = Journal::go_on(&path, 2000, &end, reader.into_path()).expect("opened");
        entries()[2..].iter().for_each(|entry| journal.add_entry(entry).expect("noted"));
        journal.add_checkpoint(1900, &Sha256::new_with_prefix("b"), b"rest").expect("written");
        assert_eq!(self::read(&path), records());
        journal.clear().expect("cleared");
        assert_eq!(self::read(&path), []);
        journal.add_entry(&entries()[0]).expect("noted");
        journal.add_checkpoint(512, &Sha256::new(), b"").expect("written");
        assert_eq!(self::read(&path).len(), 2);
    }

    #[test]
    fn checkpoints_are_bounded_and_so_are_the_records_that_wait_for_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let mut journal = Journal::create(&path, identity(), 1 << 20).expect("made");
        for len in 1..20_000 {
            journal.add_checkpoint(len, &Sha256::new(), b"").expect("written");
        }
        journal.add_entry(&entry("d/", EntryKind::Folder)).expect("passed over");
        assert!(journal.records.is_empty());
        let len = std::fs::metadata(&path).expect("there").len();
        assert_eq!(len, (HEADER_LEN + MAX_CHECKPOINTS * (1 + CHECKPOINT_LEN)) as u64);
        let mut journal = Journal::create(&path, identity(), 1 << 20).expect("made");
        for number in 0..10_000 {
            journal.add_entry(&entry(&format!("d/{number:05}"), EntryKind::File(1))).expect("noted");
            assert!(journal.records.len() < MAX_WAITING_LEN);
        }
        let mut journal = Journal::create(&path, identity(), 1 << 40).expect("made");
        for number in 0..20_000 {
            let link = EntryKind::Link("x".repeat(4000));
            journal.add_entry(&entry(&format!("d/{number:05}"), link)).expect("noted");
        }
        let len = std::fs::metadata(&path).expect("there").len();
        let limit = MAX_LEN + MAX_WAITING_LEN as u64 + 5000;
        assert!((MAX_LEN..limit).contains(&len), "{len}");
        journal.clear().expect("cleared");
        journal.add_checkpoint(512, &Sha256::new(), b"").expect("written");
        assert_eq!(self::read(&path).len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_passed_over(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("journal");
            std::fs::write(&path, [&identity().encode()[..], &bytes].concat()).expect("written");
            for record in read(&path) {
                prop_assert!(!matches!(record, JournalRecord::Entry(entry) if entry.path.len() > 1 << 17));
            }
            drop(written(&path));
            let mut bytes = std::fs::read(&path).expect("read");
            for (at, with) in changes {
                let at = HEADER_LEN + at.index(bytes.len() - HEADER_LEN);
                bytes[at] = with;
            }
            std::fs::write(&path, &bytes).expect("written");
            read(&path);
        }
    }
}
