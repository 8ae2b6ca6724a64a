//! The values of PEER_HANDSHAKE and PEER_HOLEPUNCH requests and replies (spec/connect.md §4, §8).

use std::net::SocketAddrV4;

use crate::encoding::{Malformed, Reader, Writer};

/// The step of a message on its way between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// From the client, to a node or to the server itself.
    FromClient,
    /// From the server, to the node the client asked.
    FromServer,
    /// From the node the client asked, to the server or to a node nearer to it.
    FromRelay,
    /// From that nearer node, to the server.
    FromSecondRelay,
    /// The answer to the client.
    Reply,
}

impl Mode {
    fn from_uint(value: u64) -> Result<Self, Malformed> {
        match value {
            0 => Ok(Self::FromClient),
            1 => Ok(Self::FromServer),
            2 => Ok(Self::FromRelay),
            3 => Ok(Self::FromSecondRelay),
            4 => Ok(Self::Reply),
            _ => Err(Malformed),
        }
    }

    fn to_uint(self) -> u64 {
        match self {
            Self::FromClient => 0,
            Self::FromServer => 1,
            Self::FromRelay => 2,
            Self::FromSecondRelay => 3,
            Self::Reply => 4,
        }
    }
}

const PEER_ADDRESS: u64 = 1;
const RELAY_ADDRESS: u64 = 2;

/// The value of a PEER_HANDSHAKE request or reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub mode: Mode,
    /// A Noise message.
    pub noise: Vec<u8>,
    /// The other end as the last node saw it, unproven: the client on the way to the server, the server on
    /// the way back.
    pub peer_address: Option<SocketAddrV4>,
    /// The node that the client asked, if the server gets the message from another one.
    pub relay_address: Option<SocketAddrV4>,
}

impl Handshake {
    /// A message without addresses.
    pub(crate) fn new(mode: Mode, noise: Vec<u8>) -> Self {
        Self { mode, noise, peer_address: None, relay_address: None }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let peer = self.peer_address.map_or(0, |_| PEER_ADDRESS);
        let relay = self.relay_address.map_or(0, |_| RELAY_ADDRESS);
        let mut w = Writer::new();
        w.uint(peer | relay).uint(self.mode.to_uint()).buffer(&self.noise);
        for address in [self.peer_address, self.relay_address].into_iter().flatten() {
            w.addr4(address);
        }
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let flags = r.uint()?;
        Ok(Self {
            mode: Mode::from_uint(r.uint()?)?,
            noise: r.buffer()?.to_vec(),
            peer_address: (flags & PEER_ADDRESS != 0).then(|| r.addr4()).transpose()?,
            relay_address: (flags & RELAY_ADDRESS != 0).then(|| r.addr4()).transpose()?,
        })
    }
}

/// The value of a PEER_HOLEPUNCH request or reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holepunch {
    pub mode: Mode,
    /// The number the server gave the handshake; 0 in what it sends.
    pub id: u64,
    /// A [`HolepunchPayload`](super::punch::HolepunchPayload), encrypted.
    pub payload: Vec<u8>,
    /// From the client: where the node is to send it. Else the other end as the node saw it.
    pub peer_address: Option<SocketAddrV4>,
}

impl Holepunch {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.uint(self.peer_address.map_or(0, |_| PEER_ADDRESS)).uint(self.mode.to_uint());
        w.uint(self.id).buffer(&self.payload);
        if let Some(address) = self.peer_address {
            w.addr4(address);
        }
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let flags = r.uint()?;
        Ok(Self {
            mode: Mode::from_uint(r.uint()?)?,
            id: r.uint()?,
            payload: r.buffer()?.to_vec(),
            peer_address: (flags & PEER_ADDRESS != 0).then(|| r.addr4()).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::command;
    use crate::rpc::message::{Message, RequestMessage, ResponseMessage};
    use crate::testing::vectors::connect::{addr, array, bytes, case, unhex};

    fn mode(v: &Value) -> Mode {
        Mode::from_uint(v["mode"].as_u64().unwrap()).unwrap()
    }

    fn optional(v: &Value) -> Option<SocketAddrV4> {
        (!v.is_null()).then(|| addr(v))
    }

    #[test]
    fn handshake_vectors_decode_and_encode_byte_for_byte() {
        for id in [
            "handshake-from-client",
            "handshake-from-server",
            "handshake-from-relay",
            "handshake-from-second-relay",
            "handshake-reply-direct",
            "handshake-reply-relayed",
            "handshake-from-client-real",
        ] {
            let inputs = &case(id)["inputs"];
            let message = Handshake {
                mode: mode(inputs),
                noise: unhex(&inputs["noise"]),
                peer_address: optional(&inputs["peerAddress"]),
                relay_address: optional(&inputs["relayAddress"]),
            };
            assert_eq!(message.encode(), bytes(id), "{id}");
            assert_eq!(Handshake::decode(&bytes(id)), Ok(message), "{id}");
        }
    }

    #[test]
    fn holepunch_vectors_decode_and_encode_byte_for_byte() {
        for id in [
            "holepunch-from-client",
            "holepunch-from-relay",
            "holepunch-from-server",
            "holepunch-reply",
            "holepunch-big-id",
        ] {
            let inputs = &case(id)["inputs"];
            let message = Holepunch {
                mode: mode(inputs),
                id: inputs["id"].as_u64().unwrap(),
                payload: unhex(&inputs["payload"]),
                peer_address: optional(&inputs["peerAddress"]),
            };
            assert_eq!(message.encode(), bytes(id), "{id}");
            assert_eq!(Holepunch::decode(&bytes(id)), Ok(message), "{id}");
        }
    }

    #[test]
    fn whole_datagrams_are_those_of_the_vectors() {
        let target: [u8; 32] = array(&case("dht-request-handshake")["inputs"]["target"]);
        let client = "5.6.7.8:40000".parse().unwrap();
        let (node, server) = ("1.2.3.4:49737".parse().unwrap(), "6.6.6.6:50000".parse().unwrap());
        let request = |to, tid, command, value: Vec<u8>| {
            let (target, value) = (Some(target), Some(value.into()));
            let (id, token, internal) = (None, None, false);
            Message::Request(RequestMessage { tid, to, id, token, internal, command, target, value })
        };
        let handshake = |mode, peer_address| {
            Handshake { peer_address, ..Handshake::new(mode, b"noise".to_vec()) }.encode()
        };
        let (id, payload) = (3, b"payload".to_vec());
        let punch = Holepunch { mode: Mode::FromClient, id, payload, peer_address: Some(server) };
        let reply = Message::Response(ResponseMessage {
            tid: 0x1234,
            to: client,
            id: None,
            token: None,
            closer: Vec::new(),
            error: 0,
            value: Some(handshake(Mode::Reply, Some(server)).into()),
        });
        for (id, message) in [
            (
                "dht-request-handshake",
                request(node, 0x1234, command::PEER_HANDSHAKE, handshake(Mode::FromClient, None)),
            ),
            (
                "dht-request-relayed",
                request(server, 0x1234, command::PEER_HANDSHAKE, handshake(Mode::FromRelay, Some(client))),
            ),
            ("dht-reply-handshake", reply),
            ("dht-request-holepunch", request(node, 0x1235, command::PEER_HOLEPUNCH, punch.encode())),
        ] {
            let encoded = match &message {
                Message::Request(message) => message.encode(),
                Message::Response(message) => message.encode(),
            };
            assert_eq!(encoded, bytes(id), "{id}");
            assert_eq!(Message::decode(&bytes(id)), Ok(message), "{id}");
        }
    }

    #[test]
    fn an_unknown_mode_is_malformed() {
        assert_eq!(Handshake::decode(&[0, 5, 0]), Err(Malformed));
        assert_eq!(Holepunch::decode(&[0, 5, 0, 0]), Err(Malformed));
    }

    #[test]
    fn trailing_bytes_are_ignored() {
        let message = Handshake::decode(&[0, 0, 1, 9, 7, 7]).unwrap();
        assert_eq!(message, Handshake::new(Mode::FromClient, vec![9]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(message) = Handshake::decode(&input) {
                prop_assert_eq!(Handshake::decode(&message.encode()), Ok(message));
            }
            if let Ok(message) = Holepunch::decode(&input) {
                prop_assert_eq!(Holepunch::decode(&message.encode()), Ok(message));
            }
        }
    }
}
