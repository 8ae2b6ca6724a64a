//! Frames: a length of three bytes, little endian, then that many bytes.

use std::ops::RangeInclusive;

use bytes::{Buf, BytesMut};

use crate::Error;

/// Bytes of the length in front of each frame.
pub const LENGTH_LEN: usize = 3;

/// Longest frame that the length can say, in bytes.
pub const MAX_FRAME: usize = 0xff_ff_ff;

/// Largest step by which memory grows for a frame whose bytes have not arrived yet. A peer that announces a
/// long frame and sends nothing costs this much, not what it announced.
const MAX_GROWTH: usize = 256 * 1024;

/// Frames to hold in one piece of memory before another is taken, so that short ones share one allocation.
const FRAMES_PER_ALLOCATION: usize = 4;

/// The length that goes in front of a frame of `length` bytes, at most [`MAX_FRAME`].
pub fn encode_length(length: usize) -> [u8; LENGTH_LEN] {
    debug_assert!(length <= MAX_FRAME);
    let [a, b, c, ..] = length.to_le_bytes();
    [a, b, c]
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    accepted: RangeInclusive<usize>,
}

impl FrameDecoder {
    /// A decoder that takes frames of `accepted` bytes and fails on the length of any other.
    pub fn new(accepted: RangeInclusive<usize>) -> Self {
        Self { buffer: BytesMut::new(), accepted }
    }

    /// Changes the accepted lengths, from the next frame on.
    pub fn accept(&mut self, accepted: RangeInclusive<usize>) {
        self.accepted = accepted;
    }

    /// Takes bytes as they arrive.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.buffer.capacity() - self.buffer.len() < chunk.len() {
            let ahead = self.missing().saturating_mul(FRAMES_PER_ALLOCATION);
            self.buffer.reserve(chunk.len().max(ahead.min(MAX_GROWTH.max(self.buffer.len()))));
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame without its length, or `None` until more bytes came.
    pub fn next_frame(&mut self) -> Result<Option<BytesMut>, Error> {
        let Some(length) = self.length() else { return Ok(None) };
        if !self.accepted.contains(&length) {
            return Err(Error::FrameLength {
                length,
                min: *self.accepted.start(),
                max: *self.accepted.end(),
            });
        }
        if self.buffer.len() < LENGTH_LEN + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_LEN);
        Ok(Some(self.buffer.split_to(length)))
    }

    /// The bytes after the last frame, for whoever reads on.
    pub fn into_rest(self) -> BytesMut {
        self.buffer
    }

    /// Whether no part of a frame is held: the only clean place for a stream to end.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn length(&self) -> Option<usize> {
        let [a, b, c] = *self.buffer.first_chunk::<LENGTH_LEN>()?;
        Some(usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16)
    }

    /// Bytes still to come of the frame that has begun; 0 if none has, or it is whole, or is refused.
    fn missing(&self) -> usize {
        match self.length() {
            Some(length) if self.accepted.contains(&length) => {
                (LENGTH_LEN + length).saturating_sub(self.buffer.len())
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literal_lengths() {
        assert_eq!(encode_length(0), [0, 0, 0]);
        assert_eq!(encode_length(56), [0x38, 0, 0]);
        assert_eq!(encode_length(0x012345), [0x45, 0x23, 0x01]);
        assert_eq!(encode_length(MAX_FRAME), [0xff, 0xff, 0xff]);
    }

    #[test]
    fn frames_come_out_whole() {
        let mut decoder = FrameDecoder::new(0..=10);
        decoder.push(&[2, 0]);
        assert_eq!(decoder.next_frame().unwrap(), None);
        decoder.push(&[0, b'h']);
        assert_eq!(decoder.next_frame().unwrap(), None);
        decoder.push(&[b'i', 0, 0, 0, 1, 0]);
        assert_eq!(decoder.next_frame().unwrap().unwrap(), &b"hi"[..]);
        assert_eq!(decoder.next_frame().unwrap().unwrap(), &b""[..]);
        assert_eq!(decoder.next_frame().unwrap(), None);
        assert!(!decoder.is_empty());
        decoder.push(b"\0!");
        assert_eq!(decoder.next_frame().unwrap().unwrap(), &b"!"[..]);
        assert!(decoder.is_empty());
    }

    #[test]
    fn a_length_is_judged_before_its_bytes_arrive() {
        for length in [[9, 0, 0], [21, 0, 0], [0xff, 0xff, 0xff]] {
            let mut decoder = FrameDecoder::new(10..=20);
            decoder.push(&length);
            assert!(matches!(decoder.next_frame(), Err(Error::FrameLength { .. })));
            assert!(decoder.buffer.capacity() < 1024);
        }
    }

    #[test]
    fn an_announced_length_alone_takes_little_memory() {
        let mut decoder = FrameDecoder::new(0..=MAX_FRAME);
        decoder.push(&[0xff, 0xff, 0xff]);
        decoder.push(&[0; 1400]);
        assert!(decoder.buffer.capacity() <= MAX_GROWTH + 2000, "{}", decoder.buffer.capacity());
        for _ in 0..12_000 {
            decoder.push(&[0; 1400]);
        }
        assert_eq!(decoder.next_frame().unwrap().unwrap().len(), MAX_FRAME);
    }

    #[test]
    fn memory_is_used_again_once_frames_are_dropped() {
        let mut decoder = FrameDecoder::new(0..=MAX_FRAME);
        let bytes = [&encode_length(60_000)[..], &vec![7; 60_000]].concat();
        for _ in 0..100 {
            for chunk in bytes.chunks(1400) {
                decoder.push(chunk);
            }
            assert_eq!(decoder.next_frame().unwrap().unwrap().len(), 60_000);
        }
        assert!(decoder.buffer.capacity() <= 2 * MAX_GROWTH, "{}", decoder.buffer.capacity());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10),
            step in 1usize..40,
        ) {
            let stream: Vec<u8> = frames
                .iter()
                .flat_map(|frame| [&encode_length(frame.len())[..], frame].concat())
                .collect();
            let mut decoder = FrameDecoder::new(0..=49);
            let mut found = Vec::new();
            for chunk in stream.chunks(step) {
                decoder.push(chunk);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10)) {
            let mut decoder = FrameDecoder::new(17..=1000);
            for chunk in chunks {
                decoder.push(&chunk);
                while let Ok(Some(frame)) = decoder.next_frame() {
                    prop_assert!((17..=1000).contains(&frame.len()));
                }
            }
        }
    }
}
