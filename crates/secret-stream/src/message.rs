//! One end of an encrypted message stream, without I/O: [`Sealer`] makes the bytes that go out, [`Opener`]
//! turns those that come in back into messages.

use bytes::{Buf, BytesMut};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::frame::{FrameDecoder, LENGTH_LEN, MAX_FRAME, encode_length};
use crate::hashing::{keyed_hash, namespace};
use crate::secretstream::{BLOCK, HEADER_LEN, MAC_LEN, OVERHEAD, Pull, Push, TAG_MESSAGE};
use crate::{Error, HandshakeResult};

/// Bytes to leave free in front of a message that is sealed in place: room to work in, then frame length and
/// encrypted tag, which travel.
///
/// Messages whose length is a multiple of 8 are sealed and opened at more than twice the speed of others.
pub const HEADROOM: usize = BLOCK;

/// Bytes that travel in front of a message: frame length and encrypted tag.
const FRAMING: usize = LENGTH_LEN + 1;

/// Bytes in front of a sealed message's [`HEADROOM`] that do not travel.
pub(crate) const LEAD: usize = HEADROOM - FRAMING;

/// Bytes to leave free behind a message that is sealed in place: the MAC.
pub const TAILROOM: usize = MAC_LEN;

/// Longest message, in bytes: what the frame's length can say less the encryption's own bytes.
pub const MAX_MESSAGE: usize = MAX_FRAME - OVERHEAD;

/// Bytes of the first frame each way with its length: stream id, then the secretstream header.
pub(crate) const HEADER_FRAME_LEN: usize = LENGTH_LEN + HEADER_FRAME;

const ID_LEN: usize = 32;
const HEADER_FRAME: usize = ID_LEN + HEADER_LEN;

const NAMESPACE: &str = "hyperswarm/secret-stream";
const NAMESPACE_INITIATOR: u8 = 0;
const NAMESPACE_RESPONDER: u8 = 1;

/// The sending end.
pub(crate) struct Sealer {
    push: Push,
}

impl Sealer {
    /// A sender under the keys of `result`, and the first bytes to put on the wire.
    pub(crate) fn new(result: &HandshakeResult) -> (Self, [u8; HEADER_FRAME_LEN]) {
        let (push, header) = Push::new(result.tx());
        (Self { push }, header_frame(result, &header))
    }

    /// Seals a message in place. `buffer` is [`HEADROOM`] bytes of anything, the message, [`TAILROOM`] bytes
    /// of anything; afterwards all of it but the first [`LEAD`] bytes is what goes on the wire.
    ///
    /// Fails with [`Error::MessageTooLong`] beyond [`MAX_MESSAGE`], changing nothing.
    ///
    /// # Panics
    /// If `buffer` is shorter than [`HEADROOM`] and [`TAILROOM`] together.
    pub(crate) fn seal_in_place(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let length = buffer.len() - HEADROOM - TAILROOM;
        check_length(length)?;
        let (message, tail) = buffer.split_at_mut(HEADROOM + length);
        let (tag, mac) = self.push.push_in_place(TAG_MESSAGE, message);
        message[LEAD..HEADROOM].copy_from_slice(&framing(length, tag));
        tail.copy_from_slice(&mac);
        Ok(())
    }

    /// Appends a copy of `message` to `out`, sealed.
    ///
    /// Fails with [`Error::MessageTooLong`] beyond [`MAX_MESSAGE`], changing nothing.
    pub(crate) fn seal(&mut self, message: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        check_length(message.len())?;
        let start = out.len();
        out.reserve(message.len() + FRAMING + TAILROOM);
        out.extend_from_slice(&[0; FRAMING]);
        out.extend_from_slice(message);
        let (head, copy) = out[start..].split_at_mut(FRAMING);
        let (tag, mac) = self.push.push(TAG_MESSAGE, &[], copy);
        head.copy_from_slice(&framing(message.len(), tag));
        out.extend_from_slice(&mac);
        Ok(())
    }
}

fn check_length(length: usize) -> Result<(), Error> {
    if length > MAX_MESSAGE {
        return Err(Error::MessageTooLong { length, max: MAX_MESSAGE });
    }
    Ok(())
}

/// What travels in front of a message of `length` bytes.
fn framing(length: usize, tag: u8) -> [u8; FRAMING] {
    let [a, b, c] = encode_length(length + OVERHEAD);
    [a, b, c, tag]
}

/// The receiving end: bytes in through [`Opener::push`], messages out through [`Opener::next_message`].
pub(crate) struct Opener {
    decoder: FrameDecoder,
    max_message: usize,
    state: OpenerState,
}

enum OpenerState {
    Header { key: Zeroizing<[u8; 32]>, id: [u8; ID_LEN] },
    Open(Pull),
    Failed,
}

impl Opener {
    /// A receiver of the peer of `result`, accepting messages of up to `max_message` bytes.
    pub(crate) fn new(result: &HandshakeResult, max_message: usize) -> Self {
        let key = Zeroizing::new(*result.rx());
        let id = stream_id(result, !result.is_initiator);
        Self {
            // Anybody who knows the stream's address can send a length: before the peer has proven its key,
            // only 56 is accepted.
            decoder: FrameDecoder::with_room(LEAD, HEADER_FRAME..=HEADER_FRAME),
            max_message: max_message.min(MAX_MESSAGE),
            state: OpenerState::Header { key, id },
        }
    }

    /// Takes bytes as they arrive.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.decoder.push(chunk);
    }

    /// Whether the peer's header is verified: the peer whom the handshake named is there now, and this is no
    /// replay.
    pub(crate) fn is_verified(&self) -> bool {
        matches!(self.state, OpenerState::Open(_))
    }

    /// Whether no part of a frame is held, so that the stream may end here.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.is_verified() && self.decoder.is_empty()
    }

    /// Bytes held of the message that is not whole yet.
    pub(crate) fn begun(&self) -> usize {
        self.decoder.begun()
    }

    /// Changes the longest message that is accepted, from the next on.
    pub(crate) fn set_max_message(&mut self, max_message: usize) {
        self.max_message = max_message.min(MAX_MESSAGE);
        if self.is_verified() {
            self.accept_messages();
        }
    }

    /// Verifies the peer's header once it has come. False while it has not; any error is fatal.
    pub(crate) fn verify_header(&mut self) -> Result<bool, Error> {
        let OpenerState::Header { key, id } = &self.state else {
            return if self.is_verified() { Ok(true) } else { Err(Error::Closed) };
        };
        let verified = match self.decoder.next_frame() {
            Ok(None) => return Ok(false),
            Ok(Some(frame)) => open_header(&frame, id).map(|header| Pull::new(key, &header)),
            Err(_) => None,
        };
        match verified {
            Some(pull) => {
                self.state = OpenerState::Open(pull);
                self.accept_messages();
                Ok(true)
            }
            None => {
                self.state = OpenerState::Failed;
                Err(Error::InvalidHeader)
            }
        }
    }

    /// The next message, decrypted where it was gathered, or `None` until more bytes came. Any error is
    /// fatal.
    pub(crate) fn next_message(&mut self) -> Result<Option<BytesMut>, Error> {
        if !self.verify_header()? {
            return Ok(None);
        }
        let result = self.open_next();
        if result.is_err() {
            self.state = OpenerState::Failed;
        }
        result
    }

    fn open_next(&mut self) -> Result<Option<BytesMut>, Error> {
        let OpenerState::Open(pull) = &mut self.state else { return Err(Error::Closed) };
        let Some(mut frame) = self.decoder.next_with_room()? else { return Ok(None) };
        // The room ends with the encrypted tag, where the block of the message's tag will end.
        let Some(length) = frame.len().checked_sub(HEADROOM + TAILROOM) else {
            return Err(Error::Unauthentic);
        };
        let tag = frame[HEADROOM - 1];
        let (message, mac) = frame.split_at_mut(HEADROOM + length);
        let mac = <&[u8; MAC_LEN]>::try_from(&*mac).map_err(|_| Error::Unauthentic)?;
        pull.pull_in_place(tag, message, mac)?;
        frame.advance(HEADROOM);
        frame.truncate(length);
        Ok(Some(frame))
    }

    fn accept_messages(&mut self) {
        self.decoder.accept(OVERHEAD..=OVERHEAD + self.max_message);
    }
}

fn header_frame(result: &HandshakeResult, header: &[u8; HEADER_LEN]) -> [u8; HEADER_FRAME_LEN] {
    let mut frame = [0; HEADER_FRAME_LEN];
    frame[..LENGTH_LEN].copy_from_slice(&encode_length(HEADER_FRAME));
    frame[LENGTH_LEN..LENGTH_LEN + ID_LEN].copy_from_slice(&stream_id(result, result.is_initiator));
    frame[LENGTH_LEN + ID_LEN..].copy_from_slice(header);
    frame
}

fn open_header(frame: &[u8], expected: &[u8; ID_LEN]) -> Option<[u8; HEADER_LEN]> {
    let (id, header) = frame.split_first_chunk::<ID_LEN>()?;
    let header = <[u8; HEADER_LEN]>::try_from(header).ok()?;
    bool::from(id.ct_eq(expected)).then_some(header)
}

/// What the side of a role calls its stream: proof that it derived the same handshake hash.
fn stream_id(result: &HandshakeResult, of_initiator: bool) -> [u8; ID_LEN] {
    let role = if of_initiator { NAMESPACE_INITIATOR } else { NAMESPACE_RESPONDER };
    keyed_hash(&result.hash, &[&namespace(NAMESPACE, role)])
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::{Case, array, bytes};

    /// The finished handshake of case `noisewrap-ik`, seen from one side.
    pub(crate) fn handshake_result(is_initiator: bool) -> HandshakeResult {
        let case = Case::load("noisewrap-ik");
        let [tx, rx] = ["client_tx", "client_rx"].map(|name| Zeroizing::new(array(&case.value["hex"][name])));
        let (tx, rx) = if is_initiator { (tx, rx) } else { (rx, tx) };
        let hash = array(&case.value["hex"]["handshake_hash"]);
        HandshakeResult { is_initiator, public_key: [1; 32], remote_public_key: [2; 32], hash, tx, rx }
    }

    pub(crate) fn sealer(
        result: &HandshakeResult,
        header: [u8; HEADER_LEN],
    ) -> (Sealer, [u8; HEADER_FRAME_LEN]) {
        (Sealer { push: Push::with_header(result.tx(), &header) }, header_frame(result, &header))
    }

    pub(crate) fn strings(value: &serde_json::Value) -> Vec<Vec<u8>> {
        value.as_array().unwrap().iter().filter(|item| *item != "END").map(bytes).collect()
    }

    fn check_bytes(id: &str, is_initiator: bool) {
        let case = Case::load(id);
        let result = handshake_result(is_initiator);
        assert_eq!(result.tx().as_slice(), case.input("tx"));
        assert_eq!(result.hash.as_slice(), case.input("handshake_hash"));
        let plaintexts = strings(&case.value["inputs"]["plaintexts"]);
        let frames = strings(&case.value["hex"]);

        let (mut sealer, header) = sealer(&result, array(&case.value["inputs"]["secretstream_header"]));
        let mut wire = BytesMut::from(&header[..]);
        for plaintext in &plaintexts {
            sealer.seal(plaintext, &mut wire).unwrap();
        }
        assert_eq!(wire, frames.concat());

        // A byte at a time, so that every state in between is met.
        let mut opener = Opener::new(&handshake_result(!is_initiator), MAX_MESSAGE);
        let mut opened = Vec::new();
        for (index, byte) in wire.iter().enumerate() {
            opener.push(&[*byte]);
            while let Some(message) = opener.next_message().unwrap() {
                opened.push(message.to_vec());
            }
            assert_eq!(opener.is_verified(), index + 1 >= HEADER_FRAME_LEN);
        }
        assert_eq!(opened, plaintexts);
        assert!(opener.is_at_boundary());
    }

    #[test]
    fn bytes_of_the_initiator() {
        check_bytes("secret-stream-client-bytes", true);
    }

    #[test]
    fn bytes_of_the_responder() {
        check_bytes("secret-stream-server-bytes", false);
    }

    #[test]
    fn rejected_frames() {
        let case = Case::load("secret-stream-rejected");
        let result = handshake_result(true);
        assert_eq!(result.rx().as_slice(), case.input("rx"));
        for attempt in case.value["hex"].as_array().unwrap() {
            let frames = strings(&attempt["frames"]);
            let mut opener = Opener::new(&result, MAX_MESSAGE);
            let (last, before) = frames.split_last().unwrap();
            for frame in before {
                opener.push(frame);
                assert_eq!(opener.next_message().unwrap(), None, "{}", attempt["name"]);
                assert!(opener.is_verified());
            }
            opener.push(last);
            let error = opener.next_message().unwrap_err();
            let expected = match attempt["name"].as_str().unwrap() {
                "header of 55 bytes" | "wrong id" => matches!(error, Error::InvalidHeader),
                "bad tag byte or MAC" => matches!(error, Error::Unauthentic),
                _ => matches!(error, Error::FrameLength { .. }),
            };
            assert!(expected, "{}: {error}", attempt["name"]);
            assert!(matches!(opener.next_message(), Err(Error::Closed)));
        }
    }

    #[test]
    fn a_longer_message_than_asked_for_is_refused_by_its_length() {
        let result = handshake_result(true);
        let (mut sealer, header) = Sealer::new(&result);
        let mut wire = BytesMut::from(&header[..]);
        sealer.seal(&[0; 101], &mut wire).unwrap();
        let mut opener = Opener::new(&handshake_result(false), 100);
        opener.push(&wire[..HEADER_FRAME_LEN + LENGTH_LEN]);
        assert!(matches!(opener.next_message(), Err(Error::FrameLength { length: 118, max: 117, .. })));
    }

    #[test]
    fn a_message_that_no_frame_can_hold_is_not_sealed() {
        let (mut sealer, _) = Sealer::new(&handshake_result(true));
        let mut out = BytesMut::new();
        let result = sealer.seal(&vec![0; MAX_MESSAGE + 1], &mut out);
        assert!(matches!(result, Err(Error::MessageTooLong { max: 16_777_198, .. })));
        assert!(out.is_empty());
        sealer.seal(&vec![0; MAX_MESSAGE], &mut out).unwrap();
        assert_eq!(out[..LENGTH_LEN], [0xff, 0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(
            with_header in any::<bool>(),
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10),
        ) {
            let mut opener = Opener::new(&handshake_result(false), 1000);
            if with_header {
                opener.push(&Sealer::new(&handshake_result(true)).1);
            }
            for chunk in chunks {
                opener.push(&chunk);
                prop_assert!(!matches!(opener.next_message(), Ok(Some(_))));
            }
        }
    }
}
