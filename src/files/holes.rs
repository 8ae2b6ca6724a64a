//! Zeros that take no place on a disk: a stretch that is passed over reads as zeros later.

use std::io::{self, IoSlice, Seek, SeekFrom, Write};

/// Where a stretch may begin and end, bytes: at the blocks of most file systems. Their starts tell at once
/// that an ordinary file has none.
const BLOCK_LEN: usize = 4096;

/// A block of zeros.
static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// The bytes at the front of a block that are looked at first.
const FRONT_LEN: usize = 16;

/// The zeros at a file's end that were not written, and that more may follow.
#[derive(Debug, Default)]
pub(super) struct Hole(u64);

impl Hole {
    /// Writes the bytes of all `pieces`, of which nothing is left, behind the `offset` bytes that there
    /// are; those at the end may be left out until [`Self::end`].
    pub(super) fn write<F: Seek + Write>(
        &mut self,
        file: &mut F,
        pieces: &mut [IoSlice<'_>],
        offset: u64,
    ) -> io::Result<()> {
        let mut at = offset;
        let is_plain = self.0 == 0
            && pieces.iter().all(|piece| {
                let begin = at;
                at += len_of(piece);
                blocks(piece, begin).all(|block| !is_zero(block))
            });
        if is_plain {
            return write_all(file, pieces);
        }
        let (mut at, mut data) = (offset, Vec::new());
        for piece in pieces.iter() {
            for block in blocks(piece, at) {
                if is_zero(block) {
                    write_all(file, &mut data)?;
                    data.clear();
                    self.0 += len_of(block);
                } else {
                    self.pass(file, at)?;
                    data.push(IoSlice::new(block));
                }
                at += len_of(block);
            }
        }
        write_all(file, &mut data)
    }

    /// Whether there are zeros that the file does not hold yet.
    pub(super) fn is_open(&self) -> bool {
        self.0 > 0
    }

    /// Goes on behind the zeros, at the byte `at` of the file.
    fn pass<F: Seek + Write>(&mut self, file: &mut F, at: u64) -> io::Result<()> {
        let len = std::mem::take(&mut self.0);
        let block_len = BLOCK_LEN as u64;
        let has_block = (at - len).next_multiple_of(block_len) + block_len <= at;
        match i64::try_from(len) {
            Ok(distance) if has_block => file.seek(SeekFrom::Current(distance)).map(drop),
            // Less than two blocks.
            _ => {
                let zeros =
                    |len: u64| ZEROS.get(..usize::try_from(len).unwrap_or(BLOCK_LEN)).unwrap_or(&ZEROS);
                file.write_all(zeros(len.min(block_len)))?;
                file.write_all(zeros(len.saturating_sub(block_len)))
            }
        }
    }
}

/// A piece that begins at the byte `offset` of the file, cut where blocks of the file begin.
fn blocks(piece: &[u8], offset: u64) -> impl Iterator<Item = &[u8]> {
    let into = usize::try_from(offset % BLOCK_LEN as u64).unwrap_or(0);
    let first = match into {
        0 => 0,
        into => piece.len().min(BLOCK_LEN - into),
    };
    let (first, rest) = piece.split_at(first);
    std::iter::once(first).filter(|first| !first.is_empty()).chain(rest.chunks(BLOCK_LEN))
}

fn is_zero(block: &[u8]) -> bool {
    let (front, _) = block.split_at(block.len().min(FRONT_LEN));
    ZEROS.starts_with(front) && ZEROS.starts_with(block)
}

fn write_all<F: Write>(file: &mut F, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    while pieces.iter().any(|piece| !piece.is_empty()) {
        match file.write_vectored(pieces) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut pieces, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// What bytes in these pieces become, and how many of them were written.
    fn written(pieces: &[Vec<u8>]) -> (Vec<u8>, usize) {
        struct Counted(Cursor<Vec<u8>>, usize);
        impl Seek for Counted {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        impl Write for Counted {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = self.0.write(bytes)?;
                self.1 += count;
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut file, mut hole, mut offset) = (Counted(Cursor::new(Vec::new()), 0), Hole::default(), 0);
        for pair in pieces.chunks(2) {
            let mut slices = pair.iter().map(|piece| IoSlice::new(piece)).collect::<Vec<_>>();
            hole.write(&mut file, &mut slices, offset).expect("written");
            offset += pair.iter().map(|piece| len_of(piece)).sum::<u64>();
        }
        let Counted(cursor, count) = file;
        let mut content = cursor.into_inner();
        content.resize(usize::try_from(offset).expect("small"), 0);
        (content, count)
    }

    #[test]
    fn of_zeros_nothing_is_written_however_they_are_cut() {
        for cut in [4096, 65_536, 65_531, 5_000] {
            let zeros = vec![vec![0; cut]; 40];
            assert_eq!(written(&zeros), (vec![0; cut * 40], 0), "{cut}");
            let island = [&zeros[..], &[vec![7; 100]], &zeros[..]].concat();
            let (content, count) = written(&island);
            assert_eq!(content, island.concat());
            assert!(count <= 2 * BLOCK_LEN, "{cut}: {count}");
        }
    }

    #[test]
    fn what_is_no_block_of_zeros_is_written_in_one_piece() {
        let mut text = vec![b'x'; 100_000];
        text[4096..4096 + 4095].fill(0);
        text[50_000..50_010].fill(0);
        assert_eq!(written(&[text.clone()]), (text, 100_000));
        // Zeros before and behind the edge of a piece, and no block among them.
        let (before, behind) =
            ([vec![1; 5000], vec![0; 1000]].concat(), [vec![0; 1000], vec![1; 1000]].concat());
        assert_eq!(written(&[before.clone(), behind.clone()]), ([before, behind].concat(), 8000));
    }

    proptest! {
        #[test]
        fn whatever_is_zero_the_file_is_what_came(
            runs in prop::collection::vec((prop_oneof![Just(0), any::<u8>()], 1_usize..20_000), 1..12),
            cuts in prop::collection::vec(1_usize..70_000, 1..12),
        ) {
            let whole = runs.iter().flat_map(|(byte, len)| vec![*byte; *len]).collect::<Vec<_>>();
            let (mut rest, mut pieces) = (&whole[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                pieces.push(piece.to_vec());
                rest = after;
            }
            prop_assert_eq!(written(&pieces).0, whole);
        }
    }
}
