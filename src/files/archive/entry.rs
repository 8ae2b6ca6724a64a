//! One entry of an archive: its header, encoded and decoded.
//!
//! A header is a block of 512 bytes. Where a path or a target is longer than 100 bytes or not ASCII, or a
//! size does not fit its field, a block of the type `x` and its records come before it. Nothing else is ever
//! written, and nothing else is read: a header that is not what encoding what it says gives is refused.

/// Bytes of a block, of which headers and files take whole ones.
pub(in crate::files) const BLOCK_LEN: usize = 512;

/// Bytes of the two empty blocks at an archive's end.
pub(in crate::files) const END_LEN: usize = 2 * BLOCK_LEN;

/// The most bytes of the records before a header: those of two paths of 4096 bytes, and a size.
const MAX_RECORDS_LEN: u64 = 8 * 1024 + 512;

/// The longest name in a header's own field, bytes.
const MAX_NAME_LEN: usize = 100;

/// The largest number in a field of eleven octal digits.
pub(in crate::files) const MAX_FIELD: u64 = 0o777_7777_7777;

/// The permission bits that an entry has.
const PERMISSIONS: u16 = 0o777;

/// The name of the block that says of the next one what does not fit there.
const EXTENDED_NAME: &[u8] = b"PaxHeader";

/// Where the fields of a header are.
const NAME: usize = 0;
const MODE: usize = 100;
const UID: usize = 108;
const GID: usize = 116;
const SIZE: usize = 124;
const MTIME: usize = 136;
const CHECKSUM: usize = 148;
const KIND: usize = 156;
const LINK: usize = 157;
const MAGIC: usize = 257;
const DEVICE: usize = 329;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::files) struct ArchiveEntry {
    /// From the archive's top, with `/` between its parts and behind a folder's.
    pub(in crate::files) path: String,
    pub(in crate::files) kind: EntryKind,
    /// Permission bits.
    pub(in crate::files) mode: u16,
    /// When it was changed last, Unix seconds, at most [`MAX_FIELD`].
    pub(in crate::files) mtime: u64,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::files) enum EntryKind {
    /// A file of so many bytes, which follow.
    File(u64),
    Folder,
    /// A symbolic link that leads there.
    Link(String),
}

/// A header is none of these archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) struct Malformed;

impl ArchiveEntry {
    /// The header, whole blocks.
    pub(in crate::files) fn encode(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let (kind, size, target) = match &self.kind {
            EntryKind::File(size) => (b'0', *size, ""),
            EntryKind::Folder => (b'5', 0, ""),
            EntryKind::Link(target) => (b'2', 0, target.as_str()),
        };
        let name = field_or_record(&self.path, "path", &mut records);
        let target = field_or_record(target, "linkpath", &mut records);
        let fits = size <= MAX_FIELD;
        if !fits {
            add_record(&mut records, "size", &size.to_string());
        }
        let mut bytes = Vec::with_capacity(BLOCK_LEN);
        if !records.is_empty() {
            let len = u64::try_from(records.len()).unwrap_or(u64::MAX);
            bytes.extend(block(EXTENDED_NAME, 0o644, len, 0, b'x', b""));
            bytes.extend(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
        }
        bytes.extend(block(
            &name,
            self.mode & PERMISSIONS,
            if fits { size } else { 0 },
            self.mtime,
            kind,
            &target,
        ));
        bytes
    }

    /// Bytes that the header of the block that it begins with has in all.
    pub(in crate::files) fn header_len(first: &[u8]) -> Result<usize, Malformed> {
        if first.get(KIND) != Some(&b'x') {
            return Ok(BLOCK_LEN);
        }
        let len = number(first, SIZE, 11)?;
        if len > MAX_RECORDS_LEN {
            return Err(Malformed);
        }
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        Ok(2 * BLOCK_LEN + len.next_multiple_of(BLOCK_LEN))
    }

    /// Reads a header of [`Self::header_len`] bytes.
    pub(in crate::files) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (before, block) =
            bytes.split_at_checked(bytes.len().saturating_sub(BLOCK_LEN)).ok_or(Malformed)?;
        let records = match before {
            [] => &[][..],
            _ => {
                let len = usize::try_from(number(before, SIZE, 11)?).map_err(|_| Malformed)?;
                before.get(BLOCK_LEN..).and_then(|records| records.get(..len)).ok_or(Malformed)?
            }
        };
        let (mut path, mut target, mut size) =
            (text(block, NAME)?, text(block, LINK)?, number(block, SIZE, 11)?);
        let mut rest = records;
        while !rest.is_empty() {
            let (key, value, after) = split_record(rest).ok_or(Malformed)?;
            match key {
                "path" => path = value,
                "linkpath" => target = value,
                "size" => size = value.parse().map_err(|_| Malformed)?,
                _ => return Err(Malformed),
            }
            rest = after;
        }
        let kind = match block.get(KIND) {
            Some(b'0') => EntryKind::File(size),
            Some(b'5') => EntryKind::Folder,
            Some(b'2') => EntryKind::Link(target.to_owned()),
            _ => return Err(Malformed),
        };
        let mode = u16::try_from(number(block, MODE, 7)?).map_err(|_| Malformed)?;
        let entry = Self { path: path.to_owned(), kind, mode, mtime: number(block, MTIME, 11)? };
        let is_folder = entry.kind == EntryKind::Folder;
        // Whatever was passed over above shows here.
        match entry.path.ends_with('/') == is_folder && entry.encode() == bytes {
            true => Ok(entry),
            false => Err(Malformed),
        }
    }

    /// Bytes of the file that follow the header, without those that fill its last block.
    pub(in crate::files) fn content_len(&self) -> u64 {
        match self.kind {
            EntryKind::File(size) => size,
            EntryKind::Folder | EntryKind::Link(_) => 0,
        }
    }
}

/// Bytes that fill the last block of a file of this size.
pub(in crate::files) fn padding(size: u64) -> u64 {
    let len = BLOCK_LEN as u64;
    (len - size % len) % len
}

/// The text as it stands in a field of the header; where it does not fit, a record says it, and the field
/// holds what old programs may show of it.
fn field_or_record(text: &str, key: &str, records: &mut Vec<u8>) -> Vec<u8> {
    if text.len() <= MAX_NAME_LEN && text.is_ascii() {
        return text.as_bytes().to_vec();
    }
    add_record(records, key, text);
    text.bytes().take(MAX_NAME_LEN).map(|byte| if byte.is_ascii() { byte } else { b'_' }).collect()
}

/// Adds `LEN KEY=VALUE` and a line's end, whose length counts itself too.
fn add_record(records: &mut Vec<u8>, key: &str, value: &str) {
    let around = key.len() + value.len() + " =\n".len();
    let mut len = around;
    while len != around + len.to_string().len() {
        len = around + len.to_string().len();
    }
    records.extend(format!("{len} {key}={value}\n").as_bytes());
}

/// Key and value of the first record, and what comes after it.
fn split_record(records: &[u8]) -> Option<(&str, &str, &[u8])> {
    let digits = records.iter().take(5).position(|byte| *byte == b' ')?;
    let len = str::from_utf8(records.get(..digits)?).ok()?.parse::<usize>().ok()?;
    let (record, rest) = records.split_at_checked(len)?;
    let record = str::from_utf8(record.get(digits + 1..)?).ok()?.strip_suffix('\n')?;
    let (key, value) = record.split_once('=')?;
    Some((key, value, rest))
}

fn block(name: &[u8], mode: u16, size: u64, mtime: u64, kind: u8, target: &[u8]) -> [u8; BLOCK_LEN] {
    let mut block = [0; BLOCK_LEN];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = block.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(NAME, name);
    put(MODE, format!("{mode:07o}").as_bytes());
    put(UID, b"0000000");
    put(GID, b"0000000");
    put(SIZE, format!("{size:011o}").as_bytes());
    put(MTIME, format!("{:011o}", mtime.min(MAX_FIELD)).as_bytes());
    put(CHECKSUM, b"        ");
    put(KIND, &[kind]);
    put(LINK, target);
    put(MAGIC, b"ustar\x0000");
    put(DEVICE, b"0000000\x000000000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(field) = block.get_mut(CHECKSUM..CHECKSUM + 8) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    block
}

/// The octal number in the `digits` bytes of a field.
fn number(block: &[u8], at: usize, digits: usize) -> Result<u64, Malformed> {
    let field = block.get(at..at + digits).ok_or(Malformed)?;
    field.iter().try_fold(0_u64, |number, byte| match byte {
        b'0'..=b'7' => Ok(number << 3 | u64::from(byte - b'0')),
        _ => Err(Malformed),
    })
}

/// The text in a field of a hundred bytes, up to its first zero.
fn text(block: &[u8], at: usize) -> Result<&str, Malformed> {
    let field = block.get(at..at + MAX_NAME_LEN).ok_or(Malformed)?;
    let len = field.iter().position(|byte| *byte == 0).unwrap_or(MAX_NAME_LEN);
    field.get(..len).and_then(|text| str::from_utf8(text).ok()).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, size: u64) -> ArchiveEntry {
        ArchiveEntry { path: path.into(), kind: EntryKind::File(size), mode: 0o640, mtime: 1_600_000_000 }
    }

    #[test]
    fn a_header_is_one_block_of_ustar() {
        let bytes = file("dist/a.txt", 42).encode();
        let mut expected = [0; BLOCK_LEN];
        for (at, text) in [
            (0, &b"dist/a.txt"[..]),
            (100, b"0000640\x000000000\x000000000\x0000000000052\x0013727410000\x00"),
            (148, b"012220\x00 0"),
            (257, b"ustar\x0000"),
            (329, b"0000000\x000000000"),
        ] {
            expected[at..at + text.len()].copy_from_slice(text);
        }
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        let digits: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
        let checksum = format!("{:06o}\0 ", sum - digits + 8 * u32::from(b' '));
        expected[148..156].copy_from_slice(checksum.as_bytes());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_does_not_fit_stands_in_records_before() {
        let long = format!("dist/{}", "x".repeat(100));
        let bytes = file(&long, 1).encode();
        assert_eq!(bytes.len(), 3 * BLOCK_LEN);
        assert_eq!((bytes[156], bytes[2 * BLOCK_LEN + 156]), (b'x', b'0'));
        let record = format!("115 path={long}\n");
        assert_eq!(&bytes[BLOCK_LEN..BLOCK_LEN + record.len()], record.as_bytes());
        let huge = file("a", MAX_FIELD + 1).encode();
        assert_eq!(&huge[BLOCK_LEN..BLOCK_LEN + 19], b"19 size=8589934592\n");
        let link = ArchiveEntry { kind: EntryKind::Link("ä".into()), ..file("b", 0) }.encode();
        assert_eq!(&link[BLOCK_LEN..BLOCK_LEN + 15], "15 linkpath=ä\n".as_bytes());
    }

    #[test]
    fn a_header_that_says_the_same_otherwise_is_refused() {
        let bytes = file("a", 1).encode();
        for (at, with) in [
            (100, b"0000641".as_slice()),
            (108, b"0000001"),
            (116, b"0001750"),
            (135, b" "),
            (148, b"      \0 "),
            (156, b"\0"),
            (156, b"1"),
            (156, b"6"),
            (156, b"g"),
            (157, b"x"),
            (257, b"ustar  \0"),
            (265, b"root"),
            (345, b"dir"),
            (511, b"x"),
        ] {
            let mut other = bytes.clone();
            other[at..at + with.len()].copy_from_slice(with);
            assert_eq!(ArchiveEntry::decode(&other), Err(Malformed), "{at}");
            // The same with a checksum that is right.
            other[148..156].fill(b' ');
            let sum: u32 = other.iter().map(|byte| u32::from(*byte)).sum();
            other[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let is_mode = at == 100;
            assert_eq!(ArchiveEntry::decode(&other).is_ok(), is_mode || at == 148, "{at}");
        }
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_what_was_written(
            path in "[a-zä/.🦀]{1,200}",
            target in prop::option::of("[a-zü/.]{0,150}"),
            size in prop_oneof![0..5000_u64, any::<u64>()],
            mode in 0..=0o777_u16,
            mtime in 0..=MAX_FIELD,
        ) {
            let kind = match (target, path.ends_with('/')) {
                (_, true) => EntryKind::Folder,
                (Some(target), false) => EntryKind::Link(target),
                (None, false) => EntryKind::File(size),
            };
            let entry = ArchiveEntry { path, kind, mode, mtime };
            let bytes = entry.encode();
            prop_assert_eq!(ArchiveEntry::header_len(&bytes), Ok(bytes.len()));
            prop_assert_eq!(ArchiveEntry::decode(&bytes), Ok(entry));
        }

        #[test]
        fn what_is_read_is_what_its_reading_writes(
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
            path in "[a-zä/]{1,120}",
        ) {
            let mut bytes = file(path.trim_end_matches('/'), 7).encode();
            let at = at.index(bytes.len());
            bytes[at] = with;
            if let Ok(entry) = ArchiveEntry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }
}
