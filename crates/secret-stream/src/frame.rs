//! Frames: a length of three bytes, little endian, then that many bytes.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use bytes::{Buf, BytesMut};

use crate::Error;

/// Bytes of the length in front of each frame.
pub(crate) const LENGTH_LEN: usize = 3;

/// Longest frame that the length can say, in bytes.
pub(crate) const MAX_FRAME: usize = 0xff_ff_ff;

/// Largest step by which memory grows for a frame whose bytes have not arrived yet: a little more than four
/// of the 64 KiB that peers mostly send. A peer that announces a long frame and sends nothing costs this
/// much, not what it announced.
const MAX_GROWTH: usize = 264 * 1024;

/// Frames to hold in one piece of memory before another is taken, so that short ones share one allocation.
const FRAMES_PER_ALLOCATION: usize = 4;

/// The length that goes in front of a frame of `length` bytes, at most [`MAX_FRAME`].
pub(crate) fn encode_length(length: usize) -> [u8; LENGTH_LEN] {
    debug_assert!(length <= MAX_FRAME);
    let [a, b, c, ..] = length.to_le_bytes();
    [a, b, c]
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    accepted: RangeInclusive<usize>,
    /// Bytes left free in front of each frame's length.
    lead: usize,
    /// Room, length and bytes of each frame that is whole.
    whole: VecDeque<BytesMut>,
    /// The same of the frame that has begun; empty if none has.
    begun: BytesMut,
}

impl FrameDecoder {
    /// A decoder that takes frames of `accepted` bytes and fails on the length of any other.
    pub(crate) fn new(accepted: RangeInclusive<usize>) -> Self {
        Self::with_room(0, accepted)
    }

    /// As [`Self::new`], with `lead` bytes of room in front of each frame's length.
    pub(crate) fn with_room(lead: usize, accepted: RangeInclusive<usize>) -> Self {
        Self { accepted, lead, whole: VecDeque::new(), begun: BytesMut::new() }
    }

    /// Changes the accepted lengths, from the next frame on.
    pub(crate) fn accept(&mut self, accepted: RangeInclusive<usize>) {
        self.accepted = accepted;
    }

    /// Takes bytes as they arrive.
    pub(crate) fn push(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let missing = self.missing();
            let (taken, rest) = chunk.split_at(missing.min(chunk.len()));
            self.reserve(taken.len(), missing);
            if self.begun.is_empty() {
                self.begun.resize(self.lead, 0);
            }
            self.begun.extend_from_slice(taken);
            if self.missing() == 0 {
                self.whole.push_back(self.begun.split());
            }
            chunk = rest;
        }
    }

    /// The next whole frame without its length, or `None` until more bytes came.
    pub(crate) fn next_frame(&mut self) -> Result<Option<BytesMut>, Error> {
        let mut frame = self.next_with_room()?;
        if let Some(frame) = &mut frame {
            frame.advance(self.lead + LENGTH_LEN);
        }
        Ok(frame)
    }

    /// As [`Self::next_frame`], with the room and its length in front of it.
    pub(crate) fn next_with_room(&mut self) -> Result<Option<BytesMut>, Error> {
        let Some(length) = self.length(self.whole.front().unwrap_or(&self.begun)) else { return Ok(None) };
        if !self.accepted.contains(&length) {
            return Err(Error::FrameLength {
                length,
                min: *self.accepted.start(),
                max: *self.accepted.end(),
            });
        }
        Ok(self.whole.pop_front())
    }

    /// The bytes after the last frame, for the next reader.
    pub(crate) fn into_rest(self) -> BytesMut {
        let mut rest = BytesMut::new();
        for frame in self.whole.iter().chain([&self.begun]) {
            rest.extend_from_slice(frame.get(self.lead..).unwrap_or_default());
        }
        rest
    }

    /// Whether no part of a frame is held: the only clean place for a stream to end.
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.begun.is_empty()
    }

    /// Bytes held of the frame that is not whole yet.
    pub(crate) fn begun(&self) -> usize {
        self.begun.len().saturating_sub(self.lead)
    }

    fn length(&self, frame: &BytesMut) -> Option<usize> {
        let [a, b, c] = *frame.get(self.lead..)?.first_chunk::<LENGTH_LEN>()?;
        Some(usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16)
    }

    /// Bytes still to come of the frame that has begun, or of its length while that is not known.
    fn missing(&self) -> usize {
        let held = self.begun.len().saturating_sub(self.lead);
        self.length(&self.begun).map_or(LENGTH_LEN, |length| LENGTH_LEN + length) - held
    }

    /// Makes room for `taken` bytes of the frame that has begun, and for more if they will probably come, so
    /// that little of it has to move again.
    fn reserve(&mut self, taken: usize, missing: usize) {
        let frame = self.lead + missing;
        let free = self.begun.capacity() - self.begun.len();
        if free < (self.lead + taken).max(frame.min(MAX_GROWTH)) {
            let ahead = frame.saturating_mul(FRAMES_PER_ALLOCATION).min(MAX_GROWTH.max(self.begun.len()));
            self.begun.reserve(ahead.max(self.lead + taken));
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
            assert!(decoder.begun.capacity() < 1024);
        }
    }

    #[test]
    fn an_announced_length_alone_takes_little_memory() {
        let mut decoder = FrameDecoder::new(0..=MAX_FRAME);
        decoder.push(&[0xff, 0xff, 0xff]);
        decoder.push(&[0; 1400]);
        assert!(decoder.begun.capacity() <= MAX_GROWTH + 2000, "{}", decoder.begun.capacity());
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
        assert!(decoder.begun.capacity() <= 2 * MAX_GROWTH, "{}", decoder.begun.capacity());
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
        fn arbitrary_bytes_do_no_harm(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10),
        ) {
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
