//! Frames of Protomux, each one message of the stream below (spec/connect.md §9).

use crate::encoding::{Malformed, Reader, Writer};

/// The channel for messages about channels.
const CONTROL: u64 = 0;

const BATCH: u64 = 0;
const OPEN: u64 = 1;
const REJECT: u64 = 2;
const CLOSE: u64 = 3;

/// What one frame says. Ids are those of the sender, except in a reject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// The sender takes part in a protocol; `id` tells channels of one protocol apart.
    Open { channel: u64, protocol: &'a [u8], id: &'a [u8], handshake: &'a [u8] },
    /// There is no other end for the receiver's channel.
    Reject { channel: u64 },
    /// The sender's channel is over.
    Close { channel: u64 },
    /// Several frames.
    Batch(Batch<'a>),
    /// For the other end of the sender's channel.
    Message { channel: u64, kind: u64, body: &'a [u8] },
    /// One that this version of the protocol does not know.
    Unknown,
}

/// The frames of a batch, which are read as they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch<'a> {
    channel: u64,
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a message of the stream below.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let channel = r.uint()?;
        Self::decode_for(channel, r)
    }

    fn decode_for(channel: u64, mut r: Reader<'a>) -> Result<Self, Malformed> {
        let kind = r.uint()?;
        if channel != CONTROL {
            return Ok(Self::Message { channel, kind, body: r.rest() });
        }
        Ok(match kind {
            BATCH => Self::Batch(Batch { channel: r.uint()?, rest: r.rest() }),
            OPEN => {
                Self::Open { channel: r.uint()?, protocol: r.buffer()?, id: r.buffer()?, handshake: r.rest() }
            }
            REJECT => Self::Reject { channel: r.uint()? },
            CLOSE => Self::Close { channel: r.uint()? },
            _ => Self::Unknown,
        })
    }

    /// The bytes of the frame. A batch is encoded as what it was read from.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Open { channel, protocol, id, handshake } => {
                w.uint(CONTROL).uint(OPEN).uint(*channel).buffer(protocol).buffer(id).bytes(handshake);
            }
            Self::Reject { channel } => {
                w.uint(CONTROL).uint(REJECT).uint(*channel);
            }
            Self::Close { channel } => {
                w.uint(CONTROL).uint(CLOSE).uint(*channel);
            }
            Self::Batch(batch) => {
                w.uint(CONTROL).uint(BATCH).uint(batch.channel).bytes(batch.rest);
            }
            Self::Message { channel, kind, body } => {
                w.uint(*channel).uint(*kind).bytes(body);
            }
            Self::Unknown => {}
        }
        w.finish()
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut r = Reader::new(self.rest);
        let next = loop {
            if r.is_empty() {
                return None;
            }
            match self.step(&mut r) {
                Ok(None) => {}
                Ok(Some(frame)) => break Ok(frame),
                Err(malformed) => break Err(malformed),
            }
        };
        self.rest = if next.is_ok() { r.rest() } else { &[] };
        Some(next)
    }
}

impl<'a> Batch<'a> {
    /// One frame, or nothing where only the channel changes.
    fn step(&mut self, r: &mut Reader<'a>) -> Result<Option<Frame<'a>>, Malformed> {
        let frame = r.buffer()?;
        if frame.is_empty() {
            self.channel = r.uint()?;
            return Ok(None);
        }
        Frame::decode_for(self.channel, Reader::new(frame)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::vectors::connect::{bytes, case, unhex};

    fn message(channel: u64, kind: u64, body: &'static [u8]) -> Frame<'static> {
        Frame::Message { channel, kind, body }
    }

    #[test]
    fn vectors_decode_and_encode_byte_for_byte() {
        let id = b"abcd";
        let frames = [
            ("open_no_id", Frame::Open { channel: 1, protocol: b"test", id: b"", handshake: b"" }),
            ("message_type0_hi", message(1, 0, b"\x02hi")),
            ("message_type1_300", message(1, 1, &[0xfd, 0x2c, 0x01])),
            (
                "open_with_id_and_handshake",
                Frame::Open { channel: 2, protocol: b"test", id, handshake: b"\x02hs" },
            ),
            ("close_ch1", Frame::Close { channel: 1 }),
        ];
        let hex = &case("protomux-frames")["hex"];
        for (name, frame) in frames {
            assert_eq!(Frame::decode(&unhex(&hex[name])), Ok(frame.clone()), "{name}");
            assert_eq!(frame.encode(), unhex(&hex[name]), "{name}");
        }
        let reject = Frame::Reject { channel: 1 };
        assert_eq!(Frame::decode(&bytes("protomux-reject")), Ok(reject.clone()));
        assert_eq!(reject.encode(), bytes("protomux-reject"));
    }

    #[test]
    fn batches_of_the_vectors_hold_their_frames() {
        let hex = &case("protomux-frames")["hex"];
        for (name, frames) in [
            (
                "batch_ch1_a_ch1_1_ch2_b",
                vec![message(1, 0, b"\x01a"), message(1, 1, &[1]), message(2, 0, b"\x01b")],
            ),
            ("batch_ch2_z_then_close_ch2", vec![message(2, 0, b"\x01z"), Frame::Close { channel: 2 }]),
        ] {
            let input = unhex(&hex[name]);
            let Ok(Frame::Batch(batch)) = Frame::decode(&input) else { panic!("{name}") };
            assert_eq!(batch.clone().collect::<Result<Vec<_>, _>>(), Ok(frames), "{name}");
            assert_eq!(Frame::Batch(batch).encode(), input, "{name}");
        }
    }

    #[test]
    fn a_batch_that_is_cut_short_ends_with_an_error() {
        let Ok(Frame::Batch(batch)) = Frame::decode(&[0, 0, 1, 2, 0, 7, 9, 0]) else { panic!() };
        assert_eq!(batch.collect::<Vec<_>>(), [Ok(message(1, 0, &[7])), Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frame) = Frame::decode(&input) {
                if let Frame::Batch(batch) = &frame {
                    prop_assert!(batch.clone().count() <= input.len());
                }
                if frame != Frame::Unknown {
                    let encoded = frame.encode();
                    prop_assert_eq!(Frame::decode(&encoded), Ok(frame));
                }
            }
        }
    }
}
