//! Reads an archive as it comes.

use super::{
    TreeSize,
    entry::{ArchiveEntry, BLOCK_LEN, END_LEN, EntryKind, padding},
    path::flaw_of_path,
};

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::files) enum ArchiveFlaw {
    #[error("it has a header that can't be read")]
    Header,
    #[error("{0} in it {1}")]
    Path(String, &'static str),
    #[error("{0} in it does not stand in its order")]
    Order(String),
    #[error("it holds more than the {0} that were offered")]
    TooMuch(&'static str),
    #[error("it ends before all that was offered has come")]
    TooLittle,
    #[error("something follows its end, or fills a gap in it")]
    Filling,
}

/// What comes next in an archive.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::files) enum ArchivePart<'a> {
    /// An entry begins.
    Entry(ArchiveEntry),
    /// Bytes of the file that began last.
    Bytes(&'a [u8]),
    /// The entry is over.
    EntryEnd,
}

/// Takes an archive in any pieces, and holds it to what was offered. It keeps one header and one path.
#[derive(Clone, Debug)]
pub(in crate::files) struct ArchiveDecoder {
    state: DecoderState,
    /// The header so far.
    header: Vec<u8>,
    /// The path of the entry before.
    last: String,
    /// What may come yet.
    left: TreeSize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    /// In a header, of which so many bytes are known to come.
    Header(usize),
    /// Bytes of the file that come yet, and those that fill its last block.
    Content(u64, u64),
    /// Bytes that fill the last block of a file.
    Padding(u64),
    /// In the second block of the end.
    End(usize),
    Ended,
}

impl ArchiveDecoder {
    /// For an archive that was offered as holding this.
    pub(in crate::files) fn new(offered: TreeSize) -> Self {
        let state = DecoderState::Header(BLOCK_LEN);
        Self { state, header: Vec::new(), last: String::new(), left: offered }
    }

    /// Takes what comes next off the front of `input`; `None` once nothing is left of that.
    ///
    /// # Errors
    /// What is wrong with the archive. The decoder is of no more use then.
    pub(in crate::files) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<ArchivePart<'a>>, ArchiveFlaw> {
        loop {
            match self.state {
                DecoderState::Content(0, padding) => {
                    self.state = match padding {
                        0 => DecoderState::Header(BLOCK_LEN),
                        padding => DecoderState::Padding(padding),
                    };
                    return Ok(Some(ArchivePart::EntryEnd));
                }
                _ if input.is_empty() => return Ok(None),
                DecoderState::Header(len) => {
                    self.header.extend(take(input, len.saturating_sub(self.header.len())));
                    if self.header.len() == len
                        && let Some(entry) = self.header(len)?
                    {
                        return Ok(Some(ArchivePart::Entry(entry)));
                    }
                }
                DecoderState::Content(left, padding) => {
                    let bytes = take(input, usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    self.state = DecoderState::Content(left, padding);
                    return Ok(Some(ArchivePart::Bytes(bytes)));
                }
                DecoderState::Padding(left) => {
                    let count = zeros(input, usize::try_from(left).unwrap_or(BLOCK_LEN))?;
                    self.state = match left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)) {
                        0 => DecoderState::Header(BLOCK_LEN),
                        left => DecoderState::Padding(left),
                    };
                }
                DecoderState::End(left) => {
                    self.state = match left.saturating_sub(zeros(input, left)?) {
                        0 => DecoderState::Ended,
                        left => DecoderState::End(left),
                    };
                }
                DecoderState::Ended => return Err(ArchiveFlaw::Filling),
            }
        }
    }

    /// The bytes behind the last entry that belong to none yet: of a header that has not come whole, or of
    /// the archive's end.
    pub(in crate::files) fn unread(&self) -> Vec<u8> {
        match self.state {
            DecoderState::Header(_) => self.header.clone(),
            DecoderState::Content(..) | DecoderState::Padding(_) => Vec::new(),
            DecoderState::End(left) => vec![0; END_LEN.saturating_sub(left)],
            DecoderState::Ended => vec![0; END_LEN],
        }
    }

    /// Whether all that was offered has come, and the archive's end.
    ///
    /// # Errors
    /// `TooLittle`.
    pub(in crate::files) fn end(&self) -> Result<(), ArchiveFlaw> {
        match self.state == DecoderState::Ended && self.left == TreeSize::default() {
            true => Ok(()),
            false => Err(ArchiveFlaw::TooLittle),
        }
    }

    /// Reads the `len` bytes of a header that are here: the entry, unless more of the header comes or the
    /// archive ends.
    fn header(&mut self, len: usize) -> Result<Option<ArchiveEntry>, ArchiveFlaw> {
        if len == BLOCK_LEN {
            if self.header.iter().all(|byte| *byte == 0) {
                self.state = DecoderState::End(BLOCK_LEN);
                return Ok(None);
            }
            let whole = ArchiveEntry::header_len(&self.header).map_err(|_| ArchiveFlaw::Header)?;
            if whole > len {
                self.state = DecoderState::Header(whole);
                return Ok(None);
            }
        }
        let entry = ArchiveEntry::decode(&self.header).map_err(|_| ArchiveFlaw::Header)?;
        self.header.clear();
        if let Some(flaw) = flaw_of_path(&entry.path) {
            return Err(ArchiveFlaw::Path(entry.path, flaw));
        }
        if entry.path.as_bytes() <= self.last.as_bytes() {
            return Err(ArchiveFlaw::Order(entry.path));
        }
        self.last.clone_from(&entry.path);
        let size = entry.content_len();
        self.left.entries = self.left.entries.checked_sub(1).ok_or(ArchiveFlaw::TooMuch("entries"))?;
        self.left.bytes = self.left.bytes.checked_sub(size).ok_or(ArchiveFlaw::TooMuch("bytes"))?;
        self.state = match entry.kind {
            EntryKind::File(size) => DecoderState::Content(size, padding(size)),
            EntryKind::Folder | EntryKind::Link(_) => DecoderState::Content(0, 0),
        };
        Ok(Some(entry))
    }
}

/// The first bytes of the input, at most `len`, which are taken off it.
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(input.len().min(len));
    *input = rest;
    taken
}

/// Takes at most `len` bytes that have to be zeros off the input; how many there were.
fn zeros(input: &mut &[u8], len: usize) -> Result<usize, ArchiveFlaw> {
    let taken = take(input, len);
    match taken.iter().all(|byte| *byte == 0) {
        true => Ok(taken.len()),
        false => Err(ArchiveFlaw::Filling),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, kind: EntryKind) -> ArchiveEntry {
        ArchiveEntry { path: path.into(), kind, mode: 0o644, mtime: 5 }
    }

    /// An archive of these, each file of sevens.
    fn archive(entries: &[ArchiveEntry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(entry.encode());
            let size = entry.content_len();
            bytes.resize(bytes.len() + usize::try_from(size).unwrap(), 7);
            bytes.resize(bytes.len() + usize::try_from(padding(size)).unwrap(), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK_LEN, 0);
        bytes
    }

    fn tree() -> Vec<ArchiveEntry> {
        vec![
            entry("d/", EntryKind::Folder),
            entry("d/a", EntryKind::File(600)),
            entry("d/a.txt", EntryKind::File(512)),
            entry("d/b/", EntryKind::Folder),
            entry(&format!("d/b/{}", "ä".repeat(80)), EntryKind::File(0)),
            entry("d/c", EntryKind::Link("a".into())),
        ]
    }

    const OFFERED: TreeSize = TreeSize { entries: 6, bytes: 1112 };

    /// The entries of an archive that comes in pieces of `len` bytes, and how many bytes of files.
    fn read(bytes: &[u8], len: usize, offered: TreeSize) -> Result<(Vec<ArchiveEntry>, usize), ArchiveFlaw> {
        let (mut decoder, mut entries, mut count, mut ends) =
            (ArchiveDecoder::new(offered), Vec::new(), 0, 0);
        for mut piece in bytes.chunks(len) {
            while let Some(part) = decoder.next(&mut piece)? {
                match part {
                    ArchivePart::Entry(entry) => entries.push(entry),
                    ArchivePart::Bytes(bytes) => count += bytes.iter().filter(|byte| **byte == 7).count(),
                    ArchivePart::EntryEnd => ends += 1,
                }
            }
        }
        assert!(ends == entries.len() || decoder.end().is_err());
        decoder.end().map(|()| (entries, count))
    }

    #[test]
    fn an_archive_reads_as_its_entries_in_any_pieces() {
        let bytes = archive(&tree());
        for len in [1, 7, 511, 512, 513, 100_000] {
            assert_eq!(read(&bytes, len, OFFERED), Ok((tree(), 1112)), "{len}");
        }
    }

    #[test]
    fn what_belongs_to_no_entry_yet_is_told() {
        let bytes = archive(&tree());
        let end = bytes.len() - END_LEN;
        // Within the first header, behind it, in the content behind the second and what fills its last block,
        // in a header of several blocks, and in the end.
        let long = 7 * 512;
        for (at, unread) in [
            (0, 0),
            (511, 511),
            (512, 0),
            (1023, 511),
            (1024, 0),
            (1624, 0),
            (1700, 0),
            (long + 700, 700),
            (end, 0),
            (end + 511, 511),
            (end + 512, 512),
            (end + 513, 513),
            (end + 1024, 1024),
        ] {
            let (mut decoder, mut piece) = (ArchiveDecoder::new(OFFERED), &bytes[..at]);
            while decoder.next(&mut piece).unwrap().is_some() {}
            assert_eq!(decoder.unread(), bytes[at - unread..at], "{at}");
        }
    }

    #[test]
    fn an_archive_holds_what_was_offered_and_ends_where_it_should() {
        let bytes = archive(&tree());
        let read = |bytes: &[u8], offered| read(bytes, 512, offered).unwrap_err();
        assert_eq!(read(&bytes, TreeSize { entries: 5, ..OFFERED }), ArchiveFlaw::TooMuch("entries"));
        assert_eq!(read(&bytes, TreeSize { bytes: 1111, ..OFFERED }), ArchiveFlaw::TooMuch("bytes"));
        for offered in [TreeSize { entries: 7, ..OFFERED }, TreeSize { bytes: 1113, ..OFFERED }] {
            assert_eq!(read(&bytes, offered), ArchiveFlaw::TooLittle);
        }
        for len in [0, 512, 1024, bytes.len() - 512, bytes.len() - 1] {
            assert_eq!(read(&bytes[..len], OFFERED), ArchiveFlaw::TooLittle);
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat(), OFFERED), ArchiveFlaw::Filling);
        let mut filled = bytes.clone();
        // Behind the 600 bytes of the second entry.
        filled[2 * 512 + 600] = 1;
        assert_eq!(read(&filled, OFFERED), ArchiveFlaw::Filling);
        let mut filled = bytes;
        *filled.last_mut().unwrap() = 1;
        assert_eq!(read(&filled, OFFERED), ArchiveFlaw::Filling);
    }

    #[test]
    fn entries_that_come_twice_or_out_of_order_are_refused() {
        for (first, second) in [("d/a", "d/a"), ("d/b", "d/a"), ("d/ab", "d/a"), ("d/a/", "d/a")] {
            let kind = |path: &str| match path.ends_with('/') {
                true => EntryKind::Folder,
                false => EntryKind::File(0),
            };
            let bytes = archive(&[entry(first, kind(first)), entry(second, kind(second))]);
            let offered = TreeSize { entries: 2, bytes: 0 };
            assert_eq!(read(&bytes, 512, offered), Err(ArchiveFlaw::Order(second.into())));
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["/etc/passwd", "../a", "a/../../b", "a//b", "."] {
            let bytes = archive(&[entry(path, EntryKind::File(0))]);
            let flaw = read(&bytes, 512, TreeSize { entries: 1, bytes: 0 });
            assert!(matches!(flaw, Err(ArchiveFlaw::Path(..))), "{path}: {flaw:?}");
        }
    }

    #[test]
    fn records_without_end_are_refused_before_they_come() {
        let mut block = entry("a", EntryKind::File(0)).encode();
        block[156] = b'x';
        block[124..135].copy_from_slice(b"77777777777");
        assert_eq!(read(&block, 512, OFFERED), Err(ArchiveFlaw::Header));
    }

    proptest! {
        #[test]
        fn what_is_no_archive_is_refused_in_any_pieces(
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
            len in 1..2000_usize,
        ) {
            let mut bytes = archive(&tree());
            let at = at.index(bytes.len());
            bytes[at] = with;
            let whole = read(&bytes, usize::MAX, OFFERED);
            prop_assert_eq!(read(&bytes, len, OFFERED), whole);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let _ = read(&bytes, 700, OFFERED);
        }
    }
}
