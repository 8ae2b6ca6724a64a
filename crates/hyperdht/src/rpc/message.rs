//! Requests and responses as they are on the wire (spec/dht.md §3).

use std::net::SocketAddrV4;

use bytes::Bytes;

use crate::encoding::{Malformed, Reader, Writer};
use crate::id::Id;
use crate::rpc::Token;

/// Low nibble: version 3 of the protocol; high nibble: request or response.
const REQUEST: u8 = 0x03;
const RESPONSE: u8 = 0x13;

const HAS_ID: u64 = 1;
const HAS_TOKEN: u64 = 2;
const IS_INTERNAL: u64 = 4;
const HAS_CLOSER: u64 = 4;
const HAS_TARGET: u64 = 8;
const HAS_ERROR: u64 = 8;
const HAS_VALUE: u64 = 16;

/// The most closer nodes that are taken from one response: the size of a bucket, which no node exceeds.
pub(crate) const MAX_CLOSER_NODES: usize = 20;

/// A datagram of the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request(RequestMessage),
    Response(ResponseMessage),
}

/// What is asked of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestMessage {
    pub tid: u16,
    /// The receiver's address as the sender sees it.
    pub to: SocketAddrV4,
    /// The sender's id, while it is persistent.
    pub id: Option<Id>,
    pub token: Option<Token>,
    pub internal: bool,
    pub command: u64,
    pub target: Option<Id>,
    pub value: Option<Bytes>,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseMessage {
    pub tid: u16,
    pub to: SocketAddrV4,
    pub id: Option<Id>,
    pub token: Option<Token>,
    pub closer: Vec<SocketAddrV4>,
    /// 0 when all went well.
    pub error: u64,
    pub value: Option<Bytes>,
}

impl Message {
    /// Unknown flags and bytes after the last field are ignored, as other nodes do.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            REQUEST => RequestMessage::decode(&mut r).map(Self::Request),
            RESPONSE => ResponseMessage::decode(&mut r).map(Self::Response),
            _ => Err(Malformed),
        }
    }
}

impl RequestMessage {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = r.uint()?;
        Ok(Self {
            tid: r.u16()?,
            to: r.addr4()?,
            id: field(flags, HAS_ID, || r.fixed())?,
            token: field(flags, HAS_TOKEN, || r.fixed())?,
            internal: flags & IS_INTERNAL != 0,
            command: r.uint()?,
            target: field(flags, HAS_TARGET, || r.fixed())?,
            value: field(flags, HAS_VALUE, || r.buffer().map(Bytes::copy_from_slice))?,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = flag(self.id.is_some(), HAS_ID)
            | flag(self.token.is_some(), HAS_TOKEN)
            | flag(self.internal, IS_INTERNAL)
            | flag(self.target.is_some(), HAS_TARGET)
            | flag(self.value.is_some(), HAS_VALUE);
        let mut w = Writer::new();
        w.u8(REQUEST).uint(flags).u16(self.tid).addr4(self.to);
        w.bytes(optional(&self.id)).bytes(optional(&self.token)).uint(self.command);
        w.bytes(optional(&self.target));
        if let Some(value) = &self.value {
            w.buffer(value);
        }
        w.finish()
    }
}

impl ResponseMessage {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = r.uint()?;
        let message = Self {
            tid: r.u16()?,
            to: r.addr4()?,
            id: field(flags, HAS_ID, || r.fixed())?,
            token: field(flags, HAS_TOKEN, || r.fixed())?,
            closer: field(flags, HAS_CLOSER, || r.addr4_array())?.unwrap_or_default(),
            error: field(flags, HAS_ERROR, || r.uint())?.unwrap_or(0),
            value: field(flags, HAS_VALUE, || r.buffer().map(Bytes::copy_from_slice))?,
        };
        if message.closer.len() > MAX_CLOSER_NODES { Err(Malformed) } else { Ok(message) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = flag(self.id.is_some(), HAS_ID)
            | flag(self.token.is_some(), HAS_TOKEN)
            | flag(!self.closer.is_empty(), HAS_CLOSER)
            | flag(self.error != 0, HAS_ERROR)
            | flag(self.value.is_some(), HAS_VALUE);
        let mut w = Writer::new();
        w.u8(RESPONSE).uint(flags).u16(self.tid).addr4(self.to);
        w.bytes(optional(&self.id)).bytes(optional(&self.token));
        if !self.closer.is_empty() {
            w.addr4_array(&self.closer);
        }
        if self.error != 0 {
            w.uint(self.error);
        }
        if let Some(value) = &self.value {
            w.buffer(value);
        }
        w.finish()
    }
}

fn field<T>(
    flags: u64,
    bit: u64,
    read: impl FnOnce() -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if flags & bit == 0 { Ok(None) } else { read().map(Some) }
}

fn flag(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

fn optional(field: &Option<[u8; 32]>) -> &[u8] {
    field.as_ref().map_or(&[], |bytes| bytes.as_slice())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::testing::vectors::connect::{addr, unhex};
    use crate::testing::vectors::{addrs, cases, datagrams, optional_array, optional_bytes};

    fn tid(value: &Value) -> u16 {
        u16::try_from(value["tid"].as_u64().unwrap()).unwrap()
    }

    fn request(input: &Value) -> RequestMessage {
        RequestMessage {
            tid: tid(input),
            to: addr(&input["to"]),
            id: optional_array(&input["id"]),
            token: optional_array(&input["token"]),
            internal: input["internal"].as_bool().unwrap_or(false),
            command: input["command"].as_u64().unwrap(),
            target: optional_array(&input["target"]),
            value: optional_bytes(&input["value"]),
        }
    }

    fn response(input: &Value) -> ResponseMessage {
        ResponseMessage {
            tid: tid(input),
            to: addr(&input["to"]),
            id: optional_array(&input["id"]),
            token: optional_array(&input["token"]),
            closer: addrs(&input["closerNodes"]),
            error: input["error"].as_u64().unwrap_or(0),
            value: optional_bytes(&input["value"]),
        }
    }

    #[test]
    fn requests_are_those_of_the_vectors() {
        for case in cases("request") {
            let (message, bytes) = (request(&case["input"]), unhex(&case["hex"]));
            assert_eq!(message.encode(), bytes, "{}", case["id"]);
            assert_eq!(Message::decode(&bytes), Ok(Message::Request(message)), "{}", case["id"]);
        }
    }

    #[test]
    fn responses_are_those_of_the_vectors() {
        for case in cases("response") {
            let (message, bytes) = (response(&case["input"]), unhex(&case["hex"]));
            assert_eq!(message.encode(), bytes, "{}", case["id"]);
            assert_eq!(Message::decode(&bytes), Ok(Message::Response(message)), "{}", case["id"]);
        }
    }

    #[test]
    fn datagrams_off_the_wire_are_read_and_written_alike() {
        let mut read = 0;
        for datagram in datagrams() {
            let (bytes, decoded) = (unhex(&datagram["hex"]), &datagram["decoded"]);
            match decoded["kind"].as_str().unwrap() {
                "request" => {
                    let message = request(decoded);
                    assert_eq!(message.encode(), bytes, "{}", datagram["n"]);
                    assert_eq!(Message::decode(&bytes), Ok(Message::Request(message)));
                }
                "response" => {
                    let message = response(decoded);
                    assert_eq!(message.encode(), bytes, "{}", datagram["n"]);
                    assert_eq!(Message::decode(&bytes), Ok(Message::Response(message)));
                }
                // A stream's packet, or a probe.
                _ => assert_eq!(Message::decode(&bytes), Err(Malformed)),
            }
            read += 1;
        }
        assert_eq!(read, 60);
    }

    #[test]
    fn other_versions_and_too_many_closer_nodes_are_refused() {
        let mut bytes = unhex(&cases("response").next().unwrap()["hex"]);
        bytes[0] = 0x12;
        assert_eq!(Message::decode(&bytes), Err(Malformed));

        let to = SocketAddrV4::new([127, 0, 0, 1].into(), 1);
        let (id, token, value) = (None, None, None);
        let closer = vec![to; MAX_CLOSER_NODES + 1];
        let response = ResponseMessage { tid: 1, to, id, token, closer, error: 0, value };
        assert_eq!(Message::decode(&response.encode()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            first in prop_oneof![Just(REQUEST), Just(RESPONSE), any::<u8>()],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [vec![first], rest].concat();
            if let Ok(Message::Request(message)) = Message::decode(&bytes) {
                let again = Message::decode(&message.encode());
                prop_assert_eq!(again, Ok(Message::Request(message)));
            } else if let Ok(Message::Response(message)) = Message::decode(&bytes) {
                let again = Message::decode(&message.encode());
                prop_assert_eq!(again, Ok(Message::Response(message)));
            }
        }
    }
}
