//! Byte runs to frames.

use bytes::{Bytes, BytesMut};

use super::{Fault, FrameType, HEADER_LEN, frame::parse_header};

/// Cuts the byte runs of a stream into frames, whatever way the stream cut or joined them.
///
/// The bytes of DATA are passed on as slices of what came in, as soon as they come. Other payloads are
/// collected until they are whole, in a buffer that grows with what has arrived and never with what a
/// header claims.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Bytes,
    position: Position,
}

/// What a decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some bytes of a DATA frame; none only where the frame has none.
    Data(Bytes),
    /// A whole frame of another type.
    Frame(FrameType, Bytes),
}

#[derive(Debug)]
enum Position {
    Header { bytes: [u8; HEADER_LEN], filled: usize },
    Data { left: usize },
    Collect { kind: FrameType, left: usize, payload: BytesMut },
    Failed,
}

impl Default for Position {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER_LEN], filled: 0 }
    }
}

impl Decoder {
    /// Whether it stands between two frames, with nothing left to read.
    pub fn is_clear(&self) -> bool {
        self.input.is_empty() && matches!(self.position, Position::Header { filled: 0, .. })
    }

    /// Takes the next bytes of the stream.
    pub fn handle(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            let mut joined = BytesMut::with_capacity(self.input.len() + bytes.len());
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&bytes);
            self.input = joined.freeze();
        }
    }

    /// The next piece; `None` until more bytes have come.
    ///
    /// # Errors
    /// A header with an unknown type or a length over its type's limit. Nothing can be read after that:
    /// further calls return `None`.
    pub fn poll(&mut self) -> Result<Option<Piece>, Fault> {
        loop {
            match &mut self.position {
                Position::Header { bytes, filled } => {
                    let taken = self.input.split_to(self.input.len().min(HEADER_LEN - *filled));
                    bytes[*filled..*filled + taken.len()].copy_from_slice(&taken);
                    *filled += taken.len();
                    if *filled < HEADER_LEN {
                        return Ok(None);
                    }
                    let parsed = parse_header(*bytes);
                    self.position = match parsed {
                        Ok((FrameType::Data, 0)) => {
                            self.position = Position::default();
                            return Ok(Some(Piece::Data(Bytes::new())));
                        }
                        Ok((FrameType::Data, left)) => Position::Data { left },
                        Ok((kind, left)) => Position::Collect { kind, left, payload: BytesMut::new() },
                        Err(fault) => {
                            self.position = Position::Failed;
                            self.input = Bytes::new();
                            return Err(fault);
                        }
                    };
                }
                Position::Data { left } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let piece = self.input.split_to(self.input.len().min(*left));
                    *left -= piece.len();
                    if *left == 0 {
                        self.position = Position::default();
                    }
                    return Ok(Some(Piece::Data(piece)));
                }
                Position::Collect { kind, left, payload } => {
                    let piece = self.input.split_to(self.input.len().min(*left));
                    *left -= piece.len();
                    if *left > 0 {
                        payload.extend_from_slice(&piece);
                        return Ok(None);
                    }
                    let kind = *kind;
                    let payload = if payload.is_empty() {
                        piece
                    } else {
                        payload.extend_from_slice(&piece);
                        std::mem::take(payload).freeze()
                    };
                    self.position = Position::default();
                    return Ok(Some(Piece::Frame(kind, payload)));
                }
                Position::Failed => {
                    self.input = Bytes::new();
                    return Ok(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{DONE, encode},
        *,
    };

    /// Frames read from `runs`, the bytes of neighbouring DATA joined.
    fn read(runs: &[&[u8]]) -> (Vec<Piece>, Option<Fault>) {
        let mut decoder = Decoder::default();
        let mut pieces = Vec::new();
        for run in runs {
            decoder.handle(Bytes::copy_from_slice(run));
            loop {
                match decoder.poll() {
                    Ok(None) => break,
                    Ok(Some(Piece::Data(bytes))) => match pieces.last_mut() {
                        Some(Piece::Data(before)) => *before = [&before[..], &bytes[..]].concat().into(),
                        _ => pieces.push(Piece::Data(bytes)),
                    },
                    Ok(Some(piece)) => pieces.push(piece),
                    Err(fault) => return (pieces, Some(fault)),
                }
            }
        }
        (pieces, None)
    }

    #[test]
    fn frames_joined_in_one_run_come_apart() {
        let run = b"\x01\0\0\0\x02{}\x02\0\0\0\x03abc\x02\0\0\0\0\x03\0\0\0\0";
        let expected = [
            Piece::Frame(FrameType::Meta, Bytes::from_static(b"{}")),
            Piece::Data(Bytes::from_static(b"abc")),
            Piece::Frame(FrameType::Done, Bytes::new()),
        ];
        assert_eq!(read(&[run]), (expected.to_vec(), None));
        let single: Vec<&[u8]> = run.chunks(1).collect();
        assert_eq!(read(&single), (expected.to_vec(), None));
    }

    #[test]
    fn the_bytes_of_data_are_slices_of_the_input() {
        let mut decoder = Decoder::default();
        let input = Bytes::from(encode(FrameType::Data, &[7; 1000]));
        let address = input.as_ptr() as usize;
        decoder.handle(input);
        let Ok(Some(Piece::Data(bytes))) = decoder.poll() else { panic!("data") };
        assert_eq!(bytes.as_ptr() as usize, address + HEADER_LEN);
    }

    #[test]
    fn a_length_of_four_gigabytes_ends_it_before_anything_is_allocated() {
        let (pieces, fault) = read(&[b"\x01\xff\xff\xff\xff"]);
        assert!(pieces.is_empty());
        assert_eq!(fault, Some(Fault::TooLong { kind: FrameType::Meta, len: u32::MAX }));
    }

    #[test]
    fn nothing_is_read_after_a_fault() {
        let mut decoder = Decoder::default();
        decoder.handle(Bytes::from_static(b"\x09\0\0\0\0\x03\0\0\0\0"));
        assert_eq!(decoder.poll(), Err(Fault::UnknownType(9)));
        decoder.handle(Bytes::from_static(&DONE));
        assert_eq!(decoder.poll(), Ok(None));
    }

    #[test]
    fn runs_that_were_not_polled_in_between_are_joined() {
        let mut decoder = Decoder::default();
        decoder.handle(Bytes::from_static(b"\x05\0\0"));
        decoder.handle(Bytes::from_static(b"\0\x02n"));
        decoder.handle(Bytes::from_static(b"o"));
        assert_eq!(decoder.poll(), Ok(Some(Piece::Frame(FrameType::Nack, Bytes::from_static(b"no")))));
    }

    fn short_frame() -> impl Strategy<Value = Vec<u8>> {
        (1u8..=6, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, payload)| {
            let len = u32::try_from(payload.len()).expect("short");
            [&[kind][..], &len.to_be_bytes(), &payload].concat()
        })
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_cuts_read_alike(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                prop::collection::vec(short_frame(), 0..8).prop_map(|frames| frames.concat()),
            ],
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let runs: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&runs), read(&[&bytes]));
        }
    }
}
