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

/// The most closer nodes taken from one response: the size of a bucket, which nobody exceeds.
pub const MAX_CLOSER_NODES: usize = 20;

/// A datagram of the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Request(RequestMessage),
    Response(ResponseMessage),
}

/// What is asked of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMessage {
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
pub struct ResponseMessage {
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
    /// Unknown flags and bytes behind the last field are ignored, as others do.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
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

    pub fn encode(&self) -> Vec<u8> {
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

    pub fn encode(&self) -> Vec<u8> {
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
