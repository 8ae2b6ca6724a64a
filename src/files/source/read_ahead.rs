//! Reads all of a content for one that hashes it: on threads of their own, so that what comes next is there
//! when the hash of what was before is.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
};

use tokio_util::sync::CancellationToken;

use super::{
    Source, SourceError,
    proof::{BLOCK_LEN, BlockHasher},
};

/// Bytes handed over at a time: some of them fit a processor's caches on the way, and enough that a hand-over
/// costs nothing beside its bytes.
const PIECE_LEN: usize = 128 * 1024;

/// Pieces that one thread has read before they are wanted, where no other one reads.
const QUEUE: usize = 2;

/// The same where others read the blocks before and behind its own: all of a block.
const BLOCK_QUEUE: usize = BLOCK_LEN as usize / PIECE_LEN;

/// Content that is shorter is read sooner than a thread is there.
const LEAST_SIZE: u64 = 2 * 1024 * 1024;

/// Bytes of the files of a folder on average, below which to open them takes longer than to read them, so
/// that several threads do it.
const SMALL_FILE: u64 = 256 * 1024;

/// Threads that read one folder, at most.
const MAX_READERS: usize = 4;

/// Contents that are hashed now.
static HASHED: AtomicUsize = AtomicUsize::new(0);

/// Processors.
static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Bytes in their order, and with the last ones of a block its checksum.
struct ReadPiece {
    bytes: Vec<u8>,
    checksum: Option<u128>,
}

/// What a thread reads, and whence its buffers come back.
struct Lane {
    pieces: Receiver<Result<ReadPiece, SourceError>>,
    buffers: Sender<Vec<u8>>,
}

/// Counts a content that is hashed, as long as it lives.
struct Hashed(());

impl Hashed {
    fn begin() -> Self {
        HASHED.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether processors are left for those that read.
    fn has_room(&self) -> bool {
        HASHED.load(Ordering::Relaxed) * 2 <= *CORES
    }
}

impl Drop for Hashed {
    fn drop(&mut self) {
        HASHED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads all of `source`, gives it to `take` piece by piece, and returns the checksums of its blocks. Blocks.
///
/// # Errors
/// As [`Source::read_exact_at`], and `Cancelled`.
pub(super) fn read_all(
    source: &Source,
    cancel: &CancellationToken,
    mut take: impl FnMut(&[u8]),
) -> Result<Vec<u128>, SourceError> {
    let hashed = Hashed::begin();
    let mut blocks = Vec::new();
    let mut taken = |piece: &ReadPiece| {
        take(&piece.bytes);
        blocks.extend(piece.checksum);
        match cancel.is_cancelled() {
            true => Err(cancelled(source)),
            false => Ok(()),
        }
    };
    match source.size() >= LEAST_SIZE && hashed.has_room() {
        true => read_ahead(source, readers(source), &mut taken)?,
        false => read_alone(source, &mut taken)?,
    }
    Ok(blocks)
}

/// How many threads are to read.
fn readers(source: &Source) -> usize {
    match source.tree() {
        Some(tree) if tree.bytes / SMALL_FILE < tree.entries => MAX_READERS.min(*CORES),
        Some(_) | None => 1,
    }
}

/// Reads with no thread but this one.
fn read_alone(
    source: &Source,
    taken: &mut impl FnMut(&ReadPiece) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    read_blocks(source, 0, 1, |piece| taken(&piece).map(|()| piece.bytes))
}

/// Has `readers` threads read, each of so many blocks one.
fn read_ahead(
    source: &Source,
    readers: usize,
    taken: &mut impl FnMut(&ReadPiece) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    thread::scope(|scope| {
        let mut lanes = Vec::with_capacity(readers);
        for first in 0..readers {
            let (sender, pieces) = mpsc::sync_channel(if readers > 1 { BLOCK_QUEUE } else { QUEUE });
            let (buffers, emptied) = mpsc::channel();
            let read = move || read_for(source, first, readers, &sender, &emptied);
            if thread::Builder::new().spawn_scoped(scope, read).is_err() {
                // There can be no more; those that there are end without their lanes.
                lanes.clear();
                return read_alone(source, taken);
            }
            lanes.push(Lane { pieces, buffers });
        }
        let mut left = source.size();
        for lane in lanes.iter().cycle() {
            if left == 0 {
                break;
            }
            let mut block = left.min(BLOCK_LEN);
            left -= block;
            while block > 0 {
                // Only one that has panicked says nothing, and then so does the scope.
                let piece = lane.pieces.recv().map_err(|_| cancelled(source))??;
                taken(&piece)?;
                block = block.saturating_sub(u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX));
                let _ = lane.buffers.send(piece.bytes);
            }
        }
        Ok(())
    })
}

/// Reads for a lane, until all is read or nobody takes it any more.
fn read_for(
    source: &Source,
    first: usize,
    readers: usize,
    pieces: &SyncSender<Result<ReadPiece, SourceError>>,
    emptied: &Receiver<Vec<u8>>,
) {
    let read = read_blocks(source, first, readers, |piece| match pieces.send(Ok(piece)) {
        Ok(()) => Ok(emptied.try_recv().unwrap_or_default()),
        Err(_) => Err(cancelled(source)),
    });
    if let Err(error) = read {
        let _ = pieces.send(Err(error));
    }
}

/// Reads the block with the number `first`, and from there on of `of` blocks one. Each piece goes to `give`,
/// which has a buffer for the next.
fn read_blocks(
    source: &Source,
    first: usize,
    of: usize,
    mut give: impl FnMut(ReadPiece) -> Result<Vec<u8>, SourceError>,
) -> Result<(), SourceError> {
    let (size, mut bytes) = (source.size(), Vec::new());
    let begins = (first..).step_by(of).map_while(|block| u64::try_from(block).ok()?.checked_mul(BLOCK_LEN));
    for begin in begins.take_while(|begin| *begin < size) {
        let (mut at, end) = (begin, size.min(begin.saturating_add(BLOCK_LEN)));
        let mut hasher = BlockHasher::default();
        while at < end {
            bytes.resize(usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_LEN), 0);
            source.read_exact_at(&mut bytes, at)?;
            at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let mut checksum = None;
            hasher.update(&bytes, |whole| checksum = Some(whole));
            if at == end {
                // The last block may be shorter.
                checksum = checksum.or(std::mem::take(&mut hasher).finish());
            }
            bytes = give(ReadPiece { bytes, checksum })?;
        }
    }
    Ok(())
}

fn cancelled(source: &Source) -> SourceError {
    SourceError::Cancelled { path: source.shown() }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::files::TreeOptions;

    fn bytes(len: u64) -> Vec<u8> {
        // No block is like another one.
        let mut bytes = (0..251).collect::<Vec<u8>>().repeat(usize::try_from(len / 251 + 1).unwrap());
        bytes.truncate(usize::try_from(len).unwrap());
        bytes
    }

    /// What comes of a content however it is read: its bytes, and the checksums of its blocks.
    fn read(source: &Source, readers: usize) -> (Vec<u8>, Vec<u128>) {
        let (mut all, mut blocks) = (Vec::new(), Vec::new());
        let mut taken = |piece: &ReadPiece| {
            all.extend_from_slice(&piece.bytes);
            blocks.extend(piece.checksum);
            Ok(())
        };
        match readers {
            0 => read_alone(source, &mut taken).unwrap(),
            readers => read_ahead(source, readers, &mut taken).unwrap(),
        }
        (all, blocks)
    }

    fn checksums(bytes: &[u8]) -> Vec<u128> {
        let (mut hasher, mut blocks) = (BlockHasher::default(), Vec::new());
        hasher.update(bytes, |checksum| blocks.push(checksum));
        blocks.extend(hasher.finish());
        blocks
    }

    fn tree(path: &Path) -> Source {
        let never = CancellationToken::new();
        Source::open_folder(path, "tree".to_owned(), &TreeOptions::default(), &never).unwrap()
    }

    #[test]
    fn all_bytes_come_in_their_order_whoever_reads_them() {
        for size in [0, 1, BLOCK_LEN, 2 * BLOCK_LEN + 1] {
            let content = bytes(size);
            let whole = (content.clone(), checksums(&content));
            let source = Source::of_bytes("x".to_owned(), content.into());
            for readers in 0..=3 {
                assert!(read(&source, readers) == whole, "{size}, {readers}");
            }
        }
    }

    #[test]
    fn a_folder_of_small_files_is_read_by_several_and_comes_out_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let content = bytes(9_000);
        for file in 0..1_000 {
            fs::write(dir.path().join(file.to_string()), &content[..9_000 - file]).unwrap();
        }
        let source = tree(dir.path());
        assert!(source.size() > 2 * BLOCK_LEN && readers(&source) == MAX_READERS.min(*CORES));
        let alone = read(&source, 0);
        assert_eq!(alone.0.len() as u64, source.size());
        for readers in 1..=MAX_READERS {
            assert!(read(&source, readers) == alone, "{readers}");
        }
        let large = tempfile::tempdir().unwrap();
        fs::write(large.path().join("0"), bytes(SMALL_FILE * 3)).unwrap();
        assert_eq!(readers(&tree(large.path())), 1);
    }

    #[test]
    fn a_file_that_changes_or_is_not_wanted_any_more_ends_those_who_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes(3 * BLOCK_LEN)).unwrap();
        let source = Source::open(&path).unwrap();
        let cancel = CancellationToken::new();
        let ended = read_all(&source, &cancel, |_| cancel.cancel());
        assert!(matches!(ended, Err(SourceError::Cancelled { .. })), "{ended:?}");
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(2 * BLOCK_LEN + 7).unwrap();
        for readers in 1..=2 {
            let mut read = 0;
            let taken = read_ahead(&source, readers, &mut |piece| {
                read += piece.bytes.len() as u64;
                Ok(())
            });
            assert!(matches!(taken, Err(SourceError::Changed { .. })), "{taken:?}");
            assert_eq!(read, 2 * BLOCK_LEN);
        }
    }
}
