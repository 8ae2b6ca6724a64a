//! What an end sends, taken out of its WebSocket frames in the buffer where it was read: a piece at a time,
//! unmasked in place, whether or not its message has ended. So a message takes no more memory than this
//! buffer, however long it is, and what is passed on is never copied.

use std::io::Cursor;
use std::ops::Range;

use protocol::tunnel::MAX_MESSAGE;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// How many bytes are free before whatever is read: there a frame's header is put before a piece that is
/// passed on.
const HEADROOM: usize = 16;
/// How much is read ahead of an end that waits: its proof, and control frames. One of these fits in whole.
const SMALL: usize = 1024;
/// How much is read at once from an end that was joined: what a call of the system moves cheaply.
pub(super) const LARGE: usize = 128 * 1024;
/// What is passed on together where frames are shorter than this, up to so many bytes: an end that sends
/// them costs no more than one that doesn't.
const SHORT: usize = 4 * 1024;
const MAX_GATHERED: usize = 60 * 1024;
/// The most bytes of a control frame, as RFC 6455 has it.
pub(super) const MAX_CONTROL: usize = 125;

/// The other side speaks no WebSocket, or sends what has no place here: text, or too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What stands next in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// Bytes of a binary message, the last ones of it if it `ends` with them.
    Data {
        at: Range<usize>,
        ends: bool,
    },
    /// To be answered with the same bytes.
    Ping(Range<usize>),
    Pong,
    Close,
}

/// What was read from an end.
#[derive(Debug)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    /// What was read and not taken yet.
    unread: Range<usize>,
    /// The frame of data whose end has not come yet.
    frame: Option<Frame>,
    /// The bytes that have come of a message which goes on in another frame.
    message: Option<usize>,
}

#[derive(Debug)]
struct Frame {
    left: usize,
    /// For the next byte first.
    mask: [u8; 4],
    is_final: bool,
}

/// The head of a frame that stands in the buffer.
struct Head {
    length: usize,
    /// Of the header itself.
    size: usize,
    mask: [u8; 4],
    is_final: bool,
    opcode: OpCode,
}

impl Inbound {
    /// A small buffer that begins with what was read already.
    pub(super) fn new(read: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(read);
        let unread = HEADROOM..buffer.len();
        buffer.resize(buffer.len().max(HEADROOM + SMALL), 0);
        Self { buffer, unread, frame: None, message: None }
    }

    /// Reads much at a time from now on.
    pub(super) fn widen(&mut self) {
        self.buffer.resize(self.buffer.len().max(LARGE), 0);
    }

    /// Where to read to. To be called when [`Self::next`] has no more: what was given out before is gone.
    pub(super) fn space(&mut self) -> &mut [u8] {
        // No more than the head of a frame, or a part of a control frame.
        let kept = self.unread.len();
        self.buffer.copy_within(self.unread.clone(), HEADROOM);
        self.unread = HEADROOM..HEADROOM + kept;
        self.buffer.get_mut(self.unread.end..).unwrap_or_default()
    }

    /// Says how much was read there.
    pub(super) fn filled(&mut self, count: usize) {
        self.unread.end = (self.unread.end + count).min(self.buffer.len());
    }

    /// Bytes in the buffer.
    pub(super) fn bytes(&self, at: Range<usize>) -> &[u8] {
        self.buffer.get(at).unwrap_or_default()
    }

    /// What comes next; `None` until more was read.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Malformed> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.left.min(self.unread.len());
                if count == 0 && frame.left > 0 {
                    return Ok(None);
                }
                let at = self.unread.start..self.unread.start + count;
                frame.mask = unmask(self.buffer.get_mut(at.clone()).unwrap_or_default(), frame.mask);
                self.unread.start = at.end;
                frame.left -= count;
                let ends = frame.left == 0 && frame.is_final;
                if frame.left == 0 {
                    self.frame = None;
                }
                if count > 0 || ends {
                    return Ok(Some(Item::Data { at, ends }));
                }
                continue;
            }
            let Some(head) = self.head()? else { return Ok(None) };
            if let OpCode::Control(kind) = head.opcode {
                return self.control(&head, kind);
            }
            self.begin(&head)?;
        }
    }

    /// [`Self::next`], with what stands in several short frames put together.
    pub(super) fn next_gathered(&mut self) -> Result<Option<Item>, Malformed> {
        let first = self.next()?;
        let Some(Item::Data { at: mut gathered, mut ends }) = first else { return Ok(first) };
        while gathered.len() < MAX_GATHERED && self.frame.is_none() && self.short_is_next() {
            let Some(Item::Data { at, ends: ends_too }) = self.next()? else { break };
            let end = gathered.end + at.len();
            self.buffer.copy_within(at, gathered.end);
            gathered.end = end;
            ends = ends_too;
        }
        Ok(Some(Item::Data { at: gathered, ends }))
    }

    /// Puts the head of a frame before bytes that [`Self::next`] gave: a whole message of their own.
    pub(super) fn framed(&mut self, at: Range<usize>) -> Range<usize> {
        let (head, size) = head_of(OpCode::Data(Data::Binary), at.len());
        // What stands before a piece is its own frame's head, or the headroom.
        let start = at.start.saturating_sub(size);
        if let (Some(place), Some(head)) = (self.buffer.get_mut(start..at.start), head.get(..size)) {
            place.copy_from_slice(head);
        }
        start..at.end
    }

    /// Whether a whole short frame of data, with bytes in it, stands next.
    fn short_is_next(&self) -> bool {
        self.head().is_ok_and(|head| {
            head.is_some_and(|head| {
                let is_data = matches!(head.opcode, OpCode::Data(_));
                // Short before all: a length that is claimed may be any number.
                let is_short = (1..SHORT).contains(&head.length);
                is_data && is_short && self.unread.len() >= head.size + head.length && self.fits(&head)
            })
        })
    }

    fn head(&self) -> Result<Option<Head>, Malformed> {
        let mut cursor = Cursor::new(self.bytes(self.unread.clone()));
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| Malformed)? else {
            return Ok(None);
        };
        let is_plain = !(header.rsv1 || header.rsv2 || header.rsv3);
        // A client masks what it sends.
        let mask = header.mask.filter(|_| is_plain).ok_or(Malformed)?;
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let size = usize::try_from(cursor.position()).map_err(|_| Malformed)?;
        Ok(Some(Head { length, size, mask, is_final: header.is_final, opcode: header.opcode }))
    }

    /// Whether a frame of data may stand here.
    fn fits(&self, head: &Head) -> bool {
        let is_in_turn = match head.opcode {
            OpCode::Data(Data::Binary) => self.message.is_none(),
            OpCode::Data(Data::Continue) => self.message.is_some(),
            _ => false,
        };
        is_in_turn && head.length <= MAX_MESSAGE - self.message.unwrap_or(0).min(MAX_MESSAGE)
    }

    fn begin(&mut self, head: &Head) -> Result<(), Malformed> {
        if !self.fits(head) {
            return Err(Malformed);
        }
        let so_far = self.message.unwrap_or(0) + head.length;
        self.message = (!head.is_final).then_some(so_far);
        self.unread.start += head.size;
        self.frame = Some(Frame { left: head.length, mask: head.mask, is_final: head.is_final });
        Ok(())
    }

    fn control(&mut self, head: &Head, kind: Control) -> Result<Option<Item>, Malformed> {
        if head.length > MAX_CONTROL || !head.is_final {
            return Err(Malformed);
        }
        if self.unread.len() < head.size + head.length {
            return Ok(None);
        }
        let start = self.unread.start + head.size;
        let at = start..start + head.length;
        self.unread.start = at.end;
        unmask(self.buffer.get_mut(at.clone()).unwrap_or_default(), head.mask);
        match kind {
            Control::Ping => Ok(Some(Item::Ping(at))),
            Control::Pong => Ok(Some(Item::Pong)),
            Control::Close => Ok(Some(Item::Close)),
            Control::Reserved(_) => Err(Malformed),
        }
    }
}

/// A frame that the hub sends, whole.
pub(super) fn frame(opcode: OpCode, content: &[u8]) -> Vec<u8> {
    let (head, size) = head_of(opcode, content.len());
    let mut bytes = Vec::with_capacity(size + content.len());
    bytes.extend(head.iter().take(size));
    bytes.extend_from_slice(content);
    bytes
}

/// The head of a frame that the hub sends, and its length.
fn head_of(opcode: OpCode, length: usize) -> ([u8; HEADROOM], usize) {
    let mut head = [0; HEADROOM];
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    // The longest one is of ten bytes.
    let _ = header.format(length, &mut head.as_mut_slice());
    (head, header.len(length))
}

/// Unmasks the bytes; gives the mask as the next byte needs it.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut next = mask;
    next.rotate_left(bytes.len() % mask.len());
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as a client sends it.
    fn masked(first: u8, mask: [u8; 4], content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match content.len() {
            length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).expect("short")),
            length @ 126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(length).expect("short").to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend(u64::try_from(length).expect("short").to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Reads some of the bytes, no more than there is room for; gives the rest.
    fn read<'a>(inbound: &mut Inbound, bytes: &'a [u8], most: usize) -> &'a [u8] {
        let space = inbound.space();
        let count = space.len().min(bytes.len()).min(most);
        space[..count].copy_from_slice(&bytes[..count]);
        inbound.filled(count);
        &bytes[count..]
    }

    #[test]
    fn the_frames_of_rfc_6455_are_read() {
        let masked_hello = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let masked_ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let mut inbound = Inbound::new(&[masked_hello, masked_ping].concat());
        let Ok(Some(Item::Data { at, ends: true })) = inbound.next() else { panic!("no data") };
        assert_eq!(inbound.bytes(at), b"Hello");
        let Ok(Some(Item::Ping(at))) = inbound.next() else { panic!("no ping") };
        assert_eq!(inbound.bytes(at), b"Hello");
        assert_eq!(inbound.next(), Ok(None));
    }

    #[test]
    fn a_piece_becomes_a_message_of_its_own_where_it_stands() {
        for (length, head) in [
            (5, vec![0x82, 5]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xff, 0xff]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let content = vec![0x55; length];
            let mut inbound = Inbound::new(&masked(0x82, [1, 2, 3, 4], &content));
            let Ok(Some(Item::Data { at, .. })) = inbound.next() else { panic!("no data") };
            let framed = inbound.framed(at);
            assert_eq!(inbound.bytes(framed), [head, content].concat());
        }
        assert_eq!(frame(OpCode::Data(Data::Text), b"joined"), b"\x81\x06joined");
    }

    #[test]
    fn what_has_no_place_here_is_refused() {
        let plain = [0x82, 0x00];
        for (what, bytes) in [
            ("not masked", plain.to_vec()),
            ("text", masked(0x81, [0; 4], b"x")),
            ("a reserved bit", masked(0xc2, [0; 4], b"x")),
            ("a reserved kind", masked(0x83, [0; 4], b"x")),
            ("a continuation of nothing", masked(0x80, [0; 4], b"x")),
            ("a message in a message", [masked(0x02, [0; 4], b""), masked(0x82, [0; 4], b"")].concat()),
            ("a ping in pieces", masked(0x09, [0; 4], b"x")),
            ("a long ping", masked(0x89, [0; 4], &[0; 126])),
            ("a long message", vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0]),
            (
                "an endless message",
                vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            ),
        ] {
            let mut inbound = Inbound::new(&bytes);
            let found = std::iter::repeat_with(|| inbound.next()).take(3).find(Result::is_err);
            assert_eq!(found, Some(Err(Malformed)), "{what}");
        }
    }

    #[test]
    fn a_message_in_many_frames_is_bounded_as_one() {
        let mut inbound = Inbound::new(&[]);
        inbound.widen();
        let (part, mut taken) = (vec![0; 64 * 1024], 0);
        for at in 0.. {
            let bytes = masked(u8::from(at == 0) * 2, [9; 4], &part);
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                rest = read(&mut inbound, rest, usize::MAX);
                loop {
                    match inbound.next() {
                        Ok(Some(Item::Data { at, .. })) => taken += at.len(),
                        Ok(None) => break,
                        Ok(other) => panic!("{other:?}"),
                        Err(Malformed) => {
                            assert_eq!(taken, MAX_MESSAGE);
                            return;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn short_frames_are_put_together_and_long_ones_stay_where_they_are() {
        let mut sent: Vec<u8> = (0..100_u8).flat_map(|n| masked(0x82, [n; 4], &[n; 3])).collect();
        sent.extend(masked(0x89, [7; 4], b"ping"));
        sent.extend(masked(0x82, [7; 4], &[200; 5000]));
        let mut inbound = Inbound::new(&sent);
        let Ok(Some(Item::Data { at, .. })) = inbound.next_gathered() else { panic!("no data") };
        let expected: Vec<u8> = (0..100_u8).flat_map(|n| [n; 3]).collect();
        assert_eq!(inbound.bytes(at), expected);
        assert!(matches!(inbound.next_gathered(), Ok(Some(Item::Ping(_)))));
        let Ok(Some(Item::Data { at, .. })) = inbound.next_gathered() else { panic!("no data") };
        assert_eq!(inbound.bytes(at), [200; 5000]);
    }

    proptest! {
        #[test]
        fn whatever_the_frames_and_the_reads_the_bytes_are_those_that_were_sent(
            frames in prop::collection::vec((0_usize..9000, any::<[u8; 4]>(), any::<bool>(), 0_u8..4), 1..12),
            reads in prop::collection::vec(1_usize..5000, 1..20),
            is_wide in any::<bool>(),
        ) {
            let (mut sent, mut content, mut is_first) = (Vec::new(), Vec::new(), true);
            for (at, (length, mask, is_final, controls)) in frames.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..length).map(|n| (n * 31 + at) as u8).collect();
                let first = (u8::from(is_first) * 2) | (u8::from(is_final) * 0x80);
                sent.extend(masked(first, mask, &bytes));
                is_first = is_final;
                content.extend(bytes);
                for _ in 0..controls {
                    sent.extend(masked(0x8a, mask, &[1; 125]));
                }
            }
            let mut inbound = Inbound::new(&[]);
            if is_wide {
                inbound.widen();
            }
            let (mut rest, mut received, mut reads) = (sent.as_slice(), Vec::new(), reads.iter().cycle());
            loop {
                match inbound.next_gathered() {
                    Ok(Some(Item::Data { at, .. })) => {
                        let framed = inbound.framed(at.clone());
                        prop_assert!(framed.start < at.start && framed.end == at.end);
                        received.extend_from_slice(inbound.bytes(at));
                    }
                    Ok(Some(Item::Pong)) => {}
                    Ok(None) if rest.is_empty() => break,
                    Ok(None) => rest = read(&mut inbound, rest, *reads.next().expect("a length")),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(received, content);
        }

        #[test]
        fn no_bytes_make_reading_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
            most in 1_usize..3000,
        ) {
            let mut inbound = Inbound::new(&[]);
            let mut rest = bytes.as_slice();
            loop {
                match inbound.next_gathered() {
                    Ok(Some(Item::Data { at, .. })) => {
                        let framed = inbound.framed(at);
                        prop_assert!(!inbound.bytes(framed).is_empty());
                    }
                    Ok(Some(_)) => {}
                    Ok(None) if rest.is_empty() => break,
                    Ok(None) => rest = read(&mut inbound, rest, most),
                    Err(Malformed) => break,
                }
            }
        }
    }
}
