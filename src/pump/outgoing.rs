//! The thread that reads the file that is sent.

use std::{collections::VecDeque, ops::Range};

use bytes::BytesMut;
use secret_stream::{HEADROOM, TAILROOM};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::{
    files::{CHUNK_LEN, Source, SourceError},
    wire::{FrameType, HEADER_LEN, MAX_DATA, header},
};

/// DATA frames in one chunk, each a message of its own.
pub(super) const FRAMES: usize = CHUNK_LEN / MAX_DATA;

/// Bytes of a message around the file's own.
const AROUND: usize = HEADROOM + HEADER_LEN + TAILROOM;

/// Chunks that wait for the stream: one while the next is being read.
const QUEUE: usize = 2;

/// Buffers kept for reuse, of which those beyond the queue stand in the stream until acknowledged. When
/// that takes longer, new memory is taken, as much as the stream accepts.
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
pub(super) struct Batch {
    pub(super) buffer: BytesMut,
    /// Where each message's content stands.
    pub(super) messages: Vec<Range<usize>>,
    /// Bytes of the file in all of them.
    pub(super) bytes: u64,
}

impl Chunk {
    /// The next messages, at most `count`; `None` when all are taken.
    pub(super) fn take(&mut self, count: usize) -> Option<Batch> {
        let mut messages = Vec::with_capacity(count.min(self.messages.len()));
        let (mut end, mut bytes) = (0, 0);
        for len in self.messages.drain(..count.min(self.messages.len())) {
            let start = end + HEADROOM;
            messages.push(start..start + HEADER_LEN + len);
            end += AROUND + len;
            bytes += u64::try_from(len).unwrap_or(u64::MAX);
        }
        (end > 0).then(|| Batch { buffer: self.buffer.split_to(end), messages, bytes })
    }
}

/// Reads the file on a thread of its own; what comes out is all of it, or ends in an error.
///
/// The last chunk is held back until the bytes read have proved to be those that were hashed before, so
/// that what comes out whole is what `hash` names.
pub(super) fn start(source: Source, hash: String) -> mpsc::Receiver<Result<Chunk, SourceError>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    // Its end is seen by the channel's, and what it held back is never sent: nobody joins it.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&source, &hash, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn read(
    source: &Source,
    hash: &str,
    chunks: &mpsc::Sender<Result<Chunk, SourceError>>,
) -> Result<(), SourceError> {
    source.check()?;
    let mut hasher = Sha256::new();
    let mut buffers = VecDeque::with_capacity(BUFFERS);
    let mut offset = 0;
    while offset < source.size() {
        let left = usize::try_from(source.size() - offset).unwrap_or(usize::MAX);
        let chunk = read_chunk(source, offset, left.min(CHUNK_LEN), &mut hasher, &mut buffers)?;
        offset += u64::try_from(left.min(CHUNK_LEN)).unwrap_or(u64::MAX);
        if offset == source.size() {
            prove(source, hash, hasher)?;
            let _ = chunks.blocking_send(Ok(chunk));
            return Ok(());
        }
        if chunks.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
    prove(source, hash, hasher)
}

/// Whether what was read is what was hashed before the offer was made.
fn prove(source: &Source, hash: &str, hasher: Sha256) -> Result<(), SourceError> {
    if hex::encode(hasher.finalize()) != hash {
        return Err(source.changed());
    }
    source.check()
}

fn read_chunk(
    source: &Source,
    offset: u64,
    len: usize,
    hasher: &mut Sha256,
    buffers: &mut VecDeque<BytesMut>,
) -> Result<Chunk, SourceError> {
    let messages: VecDeque<usize> =
        (0..len).step_by(MAX_DATA).map(|start| (len - start).min(MAX_DATA)).collect();
    let mut buffer = take_buffer(buffers, len + messages.len() * AROUND);
    let mut rest = &mut buffer[..];
    let mut offset = offset;
    for len in messages.iter().copied() {
        let (message, behind) = rest.split_at_mut(AROUND + len);
        message[HEADROOM..HEADROOM + HEADER_LEN].copy_from_slice(&header(FrameType::Data, len));
        let bytes = &mut message[HEADROOM + HEADER_LEN..][..len];
        source.read_exact_at(bytes, offset)?;
        hasher.update(&*bytes);
        offset += u64::try_from(len).unwrap_or(u64::MAX);
        rest = behind;
    }
    Ok(Chunk { buffer, messages })
}

/// A buffer of `len` bytes: one used before, if the stream is done with it.
///
/// What stays in `buffers` is an empty handle to the same memory, by which it is had again once all
/// other handles are gone.
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
    use std::fs;

    use tokio_util::sync::CancellationToken;

    use super::*;

    const SIZE: usize = CHUNK_LEN + MAX_DATA + 3;

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
        for count in [1, 3, FRAMES] {
            let mut chunks = start(source.clone(), hash.clone());
            let mut content = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                let mut chunk = chunk.expect("read");
                while let Some(batch) = chunk.take(count) {
                    let mut end = 0;
                    let before = content.len();
                    for message in &batch.messages {
                        assert_eq!(message.start, end + HEADROOM);
                        let (head, bytes) = batch.buffer[message.clone()].split_at(HEADER_LEN);
                        assert_eq!(head, header(FrameType::Data, bytes.len()));
                        content.extend_from_slice(bytes);
                        end = message.end + TAILROOM;
                    }
                    assert_eq!(end, batch.buffer.len());
                    assert_eq!(batch.bytes, (content.len() - before) as u64);
                    assert!(batch.messages.len() <= count);
                }
            }
            assert!(content == fs::read(source.path()).expect("read"));
        }
    }

    #[tokio::test]
    async fn the_end_of_a_file_that_is_not_the_one_hashed_is_held_back() {
        let (_dir, source, _) = source();
        let mut chunks = start(source, "0".repeat(64));
        assert!(chunks.recv().await.is_some_and(|chunk| chunk.is_ok()));
        assert!(matches!(chunks.recv().await, Some(Err(SourceError::Changed { .. }))));
        assert!(chunks.recv().await.is_none());
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
