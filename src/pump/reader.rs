//! The thread that reads the file that is sent.

use std::{collections::VecDeque, io::IoSliceMut, ops::Range};

use bytes::BytesMut;
use secret_stream::{HEADROOM, TAILROOM};
use tokio::sync::mpsc;

use super::budget::{Share, portion};
use crate::{
    files::{Proof, Source, SourceError},
    sync::spawn_blocking,
    wire::{FrameType, HEADER_LEN, MAX_DATA, header},
};

/// Bytes of the file in a DATA frame. With its header the frame is a message of a length that is quickly
/// encrypted.
pub(super) const DATA_LEN: usize = MAX_DATA - HEADER_LEN;

/// The same where few bytes a second may move, at least: what a peer takes for a file that moves (`pace`).
pub(super) const LEAST_DATA_LEN: usize = 4 * 1024;

/// DATA frames in one chunk at most, each a message of its own: enough that a read costs nothing beside its
/// bytes.
pub(super) const FRAMES: usize = 16;

/// DATA frames in one chunk at least, however many transfers run.
const FEWEST_FRAMES: usize = 2;

/// Bytes of a message around the file's own.
const AROUND: usize = HEADROOM + HEADER_LEN + TAILROOM;

/// Chunks that wait for the stream: one while the next is being read.
const QUEUE: usize = 2;

/// Buffers kept for reuse. The stream holds those that have left the queue until the peer has acknowledged
/// them. Where that takes longer, new memory is taken, as much as the stream accepts.
const BUFFERS: usize = 8;

/// Messages that stand ready to be encrypted in place: `[HEADROOM][frame header][bytes][TAILROOM]` each,
/// one behind the other.
#[derive(Debug)]
pub(super) struct Chunk {
    buffer: BytesMut,
    /// Bytes of the file in each message.
    messages: VecDeque<usize>,
}

/// Some messages of a chunk.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) buffer: BytesMut,
    /// Where each message's content stands.
    pub(super) places: Vec<Range<usize>>,
    /// Bytes of the file in all of them.
    pub(super) bytes: u64,
}

impl Chunk {
    /// The next messages, at most `count`; `None` when all are taken.
    pub(super) fn take(&mut self, count: usize) -> Option<Messages> {
        let mut places = Vec::with_capacity(count.min(self.messages.len()));
        let (mut end, mut bytes) = (0, 0);
        for len in self.messages.drain(..count.min(self.messages.len())) {
            let start = end + HEADROOM;
            places.push(start..start + HEADER_LEN + len);
            end += AROUND + len;
            bytes += u64::try_from(len).unwrap_or(u64::MAX);
        }
        (end > 0).then(|| Messages { buffer: self.buffer.split_to(end), places, bytes })
    }
}

/// Reads the file on a thread of its own, from the byte at `offset` on, `data_len` bytes a frame. The chunks
/// are all the rest of it, or end in an error.
///
/// The last chunk is held back until all bytes that were read have the hash `hash`. So nobody gets another
/// file as a whole one.
pub(super) fn start(
    source: Source,
    hash: String,
    offset: u64,
    data_len: usize,
) -> mpsc::Receiver<Result<Chunk, SourceError>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    // Nobody joins the thread: the channel's end shows that it has ended.
    spawn_blocking(move || {
        if let Err(error) = read(&source, &hash, offset, data_len, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn read(
    source: &Source,
    hash: &str,
    mut offset: u64,
    data_len: usize,
    chunks: &mpsc::Sender<Result<Chunk, SourceError>>,
) -> Result<(), SourceError> {
    let _share = Share::take();
    source.check()?;
    let mut proof = source.proof(hash, offset, || !chunks.is_closed())?;
    let mut buffers = VecDeque::with_capacity(BUFFERS);
    while offset < source.size() {
        let left = usize::try_from(source.size() - offset).unwrap_or(usize::MAX);
        let len = left.min(portion(FRAMES, FEWEST_FRAMES) * data_len);
        let frames = (0..len).step_by(data_len).map(|start| (len - start).min(data_len)).collect();
        let chunk = read_chunk(source, offset, frames, &mut proof, &mut buffers)?;
        if proof.differs() {
            break;
        }
        offset += u64::try_from(len).unwrap_or(u64::MAX);
        if offset == source.size() {
            prove(source, proof)?;
            let _ = chunks.blocking_send(Ok(chunk));
            return Ok(());
        }
        if chunks.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
    prove(source, proof)
}

/// Whether what was read is what was hashed before the offer was made.
fn prove(source: &Source, proof: Proof) -> Result<(), SourceError> {
    if proof.holds() { source.check() } else { Err(source.changed()) }
}

fn read_chunk(
    source: &Source,
    offset: u64,
    messages: VecDeque<usize>,
    proof: &mut Proof,
    buffers: &mut VecDeque<BytesMut>,
) -> Result<Chunk, SourceError> {
    let mut buffer = take_buffer(buffers, messages.iter().map(|len| AROUND + len).sum());
    let mut rest = &mut buffer[..];
    let mut places = Vec::with_capacity(messages.len());
    for len in messages.iter().copied() {
        let (message, behind) = rest.split_at_mut(AROUND + len);
        let (head, bytes) = message.split_at_mut(HEADROOM + HEADER_LEN);
        head[HEADROOM..].copy_from_slice(&header(FrameType::Data, len));
        places.push(IoSliceMut::new(&mut bytes[..len]));
        rest = behind;
    }
    source.read_exact_vectored_at(&mut places, offset)?;
    let mut start = HEADROOM + HEADER_LEN;
    for len in messages.iter().copied() {
        proof.update(&buffer[start..start + len]);
        start += AROUND + len;
    }
    Ok(Chunk { buffer, messages })
}

/// A buffer of `len` bytes: one used before, if the stream is done with it.
///
/// An empty handle to the same memory stays in `buffers`: it gets the memory back once all other handles are
/// gone.
fn take_buffer(buffers: &mut VecDeque<BytesMut>, len: usize) -> BytesMut {
    let mut kept = match buffers.pop_front() {
        Some(mut oldest) => {
            if oldest.try_reclaim(len) || buffers.len() + 1 == BUFFERS {
                oldest
            } else {
                buffers.push_front(oldest);
                BytesMut::new()
            }
        }
        None => BytesMut::new(),
    };
    debug_assert!(kept.is_empty());
    kept.resize(len, 0);
    let buffer = kept.split_to(len);
    buffers.push_back(kept);
    buffer
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use tokio_util::sync::CancellationToken;

    use super::*;

    const SIZE: usize = FRAMES * DATA_LEN + DATA_LEN + 3;

    fn source() -> (tempfile::TempDir, Source, String) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..SIZE).map(|at| at.to_le_bytes()[0]).collect();
        fs::write(&path, content).expect("written");
        let source = Source::open(&path).expect("opened");
        let hash = source.hash(|_| {}, &CancellationToken::new()).expect("hashed");
        (dir, source, hash)
    }

    #[tokio::test]
    async fn messages_stand_ready_one_behind_the_other() {
        let (_dir, source, hash) = source();
        for (count, data_len) in [(1, DATA_LEN), (3, DATA_LEN), (FRAMES, DATA_LEN), (2, LEAST_DATA_LEN)] {
            let mut chunks = start(source.clone(), hash.clone(), 0, data_len);
            let mut content = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                let mut chunk = chunk.expect("read");
                while let Some(taken) = chunk.take(count) {
                    let mut end = 0;
                    let before = content.len();
                    for message in &taken.places {
                        assert_eq!(message.start, end + HEADROOM);
                        let (head, bytes) = taken.buffer[message.clone()].split_at(HEADER_LEN);
                        assert_eq!(head, header(FrameType::Data, bytes.len()));
                        assert!(bytes.len() <= data_len);
                        content.extend_from_slice(bytes);
                        end = message.end + TAILROOM;
                    }
                    assert_eq!(end, taken.buffer.len());
                    assert_eq!(taken.bytes, (content.len() - before) as u64);
                    assert!(taken.places.len() <= count);
                }
            }
            assert!(content == fs::read(source.path().expect("a path")).expect("read"));
        }
    }

    #[tokio::test]
    async fn a_file_is_read_from_any_byte_on_and_proven_from_there() {
        const LONG: usize = 9 << 20;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let mut content: Vec<u8> = (0..LONG).map(|at| (at / 251).to_le_bytes()[0]).collect();
        fs::write(&path, &content).expect("written");
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
        let hashed = Source::open(&path).expect("opened");
        let hash = hashed.hash(|_| {}, &CancellationToken::new()).expect("hashed");
        let not_hashed = Source::open(&path).expect("opened");
        let read = async |source: &Source, offset: usize| {
            let mut chunks = start(source.clone(), hash.clone(), offset as u64, DATA_LEN);
            let mut read = 0;
            while let Some(chunk) = chunks.recv().await {
                let mut chunk = chunk?;
                while let Some(taken) = chunk.take(FRAMES) {
                    read += taken.bytes;
                }
            }
            Ok::<_, SourceError>(read)
        };
        for offset in [0, 1, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (8 << 20) + 7, LONG - 1, LONG] {
            for source in [&hashed, &not_hashed] {
                assert_eq!(read(source, offset).await.expect("read"), (LONG - offset) as u64, "{offset}");
            }
        }
        // Another byte in the second block: who goes on behind that block has nothing to do with it.
        content[5 << 20] ^= 1;
        fs::write(&path, &content).expect("written");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
        file.set_modified(modified).expect("set");
        for (offset, is_read) in [(0, false), (4 << 20, false), ((5 << 20) + 1, false), (8 << 20, true)] {
            assert_eq!(read(&hashed, offset).await.is_ok(), is_read, "{offset}");
            assert!(read(&not_hashed, offset).await.is_err(), "{offset}");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_file_that_is_not_the_one_hashed_is_held_back() {
        let (_dir, hashed, hash) = source();
        let not_hashed = Source::open(hashed.path().expect("a path")).expect("opened");
        // Another byte, at the same size and with the same time of modification.
        let file = fs::OpenOptions::new().write(true).open(hashed.path().expect("a path")).expect("opened");
        let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        (&file).write_all(&[77]).expect("written");
        file.set_modified(modified).expect("set");
        for (source, hash) in [(&hashed, &hash), (&hashed, &"0".repeat(64)), (&not_hashed, &hash)] {
            let mut chunks = start(source.clone(), hash.clone(), 0, DATA_LEN);
            let mut passed = 0;
            let error = loop {
                match chunks.recv().await.expect("an error before the end") {
                    Ok(mut chunk) => passed += chunk.take(FRAMES).map_or(0, |taken| taken.bytes),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, SourceError::Changed { .. }));
            assert!((1..SIZE as u64).contains(&passed));
            assert!(chunks.recv().await.is_none());
        }
    }

    #[test]
    fn buffers_are_used_again_when_the_stream_is_done_with_them() {
        let mut buffers = VecDeque::new();
        let first = take_buffer(&mut buffers, 1000);
        let address = first.as_ptr();
        let held = first.freeze();
        let second = take_buffer(&mut buffers, 1000);
        assert_ne!(second.as_ptr(), address);
        drop(held);
        let again = take_buffer(&mut buffers, 900);
        assert_eq!((again.as_ptr(), again.len()), (address, 900));
        let held: Vec<BytesMut> = (0..100).map(|_| take_buffer(&mut buffers, 1000)).collect();
        assert_eq!(buffers.len(), BUFFERS);
        drop(held);
    }
}
