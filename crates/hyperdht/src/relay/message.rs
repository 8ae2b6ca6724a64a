//! What a blind relay and its clients tell each other on their channel (spec/connect.md §9).

use crate::encoding::{Malformed, Reader, Writer};

/// The name of the protocol, for which a channel is opened.
pub(crate) const PROTOCOL: &[u8] = b"blind-relay";

/// A secret of two peers: a relay pairs the two clients that show the same token.
pub(crate) type PairingToken = [u8; 32];

const PAIR: u64 = 0;
const UNPAIR: u64 = 1;

const IS_INITIATOR: u8 = 1;

/// A message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayMessage {
    /// From a client: it wants to be paired. From the relay: it is.
    Pair(Pair),
    /// From a client: it wants no more.
    Unpair(PairingToken),
}

/// One side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Which of the two sides: that of the peer that named the relay.
    pub is_initiator: bool,
    pub token: PairingToken,
    /// The stream of the sender: of the client, or of the relay for that client.
    pub stream: u32,
}

impl RelayMessage {
    /// Reads the body of a message of this kind; nothing if the kind is unknown.
    pub(crate) fn decode(kind: u64, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut r = Reader::new(body);
        Ok(match kind {
            PAIR => {
                let flags = r.u8()?;
                let token = r.fixed()?;
                let stream = u32::try_from(r.uint()?).map_err(|_| Malformed)?;
                let _seq = r.uint()?;
                Some(Self::Pair(Pair { is_initiator: flags & IS_INITIATOR != 0, token, stream }))
            }
            UNPAIR => {
                let _flags = r.u8()?;
                Some(Self::Unpair(r.fixed()?))
            }
            _ => None,
        })
    }

    /// The kind of the message, and its body.
    pub(crate) fn encode(&self) -> (u64, Vec<u8>) {
        let mut w = Writer::new();
        match self {
            Self::Pair(pair) => {
                w.u8(if pair.is_initiator { IS_INITIATOR } else { 0 });
                w.bytes(&pair.token).uint(u64::from(pair.stream)).uint(0);
                (PAIR, w.finish())
            }
            Self::Unpair(token) => {
                w.u8(0).bytes(token);
                (UNPAIR, w.finish())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::Frame;
    use super::*;
    use crate::testing::vectors::connect::{array, bytes, case, unhex};

    /// A message as it stands in a frame on channel 1.
    fn framed(message: RelayMessage) -> Vec<u8> {
        let (kind, body) = message.encode();
        Frame::Message { channel: 1, kind, body: &body }.encode()
    }

    fn unframed(bytes: &[u8]) -> Option<RelayMessage> {
        let Ok(Frame::Message { channel: 1, kind, body }) = Frame::decode(bytes) else { panic!() };
        RelayMessage::decode(kind, body).unwrap()
    }

    #[test]
    fn vectors_decode_and_encode_byte_for_byte() {
        let client = case("blind-relay-client");
        let token = array(&client["inputs"]["token"]);
        let pair = |is_initiator, stream| RelayMessage::Pair(Pair { is_initiator, token, stream });
        let server = &case("blind-relay-server")["hex"];
        for (message, frame) in [
            (pair(true, 0x1122_3344), &client["hex"]["pair"]),
            (RelayMessage::Unpair(token), &client["hex"]["unpair"]),
            (pair(true, 0x0a0b_0c0d), &server["to_initiator"]),
            (pair(false, 0x0a0b_0c0d), &server["to_responder"]),
        ] {
            assert_eq!(framed(message), unhex(frame));
            assert_eq!(unframed(&unhex(frame)), Some(message));
        }
        assert_eq!(pair(false, 5).encode(), (PAIR, bytes("blind-relay-pair-responder")));
    }

    #[test]
    fn the_channel_opens_as_in_the_vector() {
        let client = case("blind-relay-client");
        let id = unhex(&client["inputs"]["client_public_key"]);
        let open = Frame::Open { channel: 1, protocol: PROTOCOL, id: &id, handshake: &[] };
        assert_eq!(open.encode(), unhex(&client["hex"]["open"]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            kind in 0..4u64, body in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            if let Ok(Some(message)) = RelayMessage::decode(kind, &body) {
                let (kind, body) = message.encode();
                prop_assert_eq!(RelayMessage::decode(kind, &body), Ok(Some(message)));
            }
        }
    }
}
