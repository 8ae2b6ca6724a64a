//! What is stored, asked for and signed (spec/dht.md §10).

use std::net::SocketAddrV4;

use bytes::Bytes;
use secret_stream::{KeyPair, PublicKey, SIGNATURE_LEN};

use crate::command;
use crate::crypto::{hash, namespace};
use crate::encoding::{Malformed, Reader, Writer};
use crate::id::Id;
use crate::rpc::Token;

/// An Ed25519 signature.
pub type Signature = [u8; SIGNATURE_LEN];

/// Relay addresses kept of one peer.
pub const MAX_RELAYS: usize = 3;
/// Bytes of the smallest peer record: a key and no relay address.
const MIN_PEER_SIZE: usize = 33;

const HAS_PEER: u64 = 1;
const HAS_REFRESH: u64 = 2;
const HAS_SIGNATURE: u64 = 4;
const HAS_BUMP: u64 = 8;

/// Somebody who can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub public_key: PublicKey,
    /// Nodes that pass handshakes on to it.
    pub relay_addresses: Vec<SocketAddrV4>,
}

impl Peer {
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(bytes))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { public_key: r.fixed()?, relay_addresses: r.addr4_array()? })
    }

    fn write(&self, w: &mut Writer) {
        w.bytes(&self.public_key).addr4_array(&self.relay_addresses);
    }
}

/// The value of ANNOUNCE and UNANNOUNCE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    pub peer: Option<Peer>,
    /// The head of a hash chain, or the next preimage of it.
    pub refresh: Option<[u8; 32]>,
    pub signature: Option<Signature>,
    /// When the topic last had news, milliseconds since 1970; 0 if it is not used.
    pub bump: u64,
}

impl Announce {
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let flags = r.uint()?;
        let has = |bit| flags & bit != 0;
        Ok(Self {
            peer: has(HAS_PEER).then(|| Peer::read(&mut r)).transpose()?,
            refresh: has(HAS_REFRESH).then(|| r.fixed()).transpose()?,
            signature: has(HAS_SIGNATURE).then(|| r.fixed()).transpose()?,
            bump: has(HAS_BUMP).then(|| r.uint()).transpose()?.unwrap_or(0),
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let mut w = Writer::new();
        w.uint(
            flag(self.peer.is_some(), HAS_PEER)
                | flag(self.refresh.is_some(), HAS_REFRESH)
                | flag(self.signature.is_some(), HAS_SIGNATURE)
                | flag(self.bump != 0, HAS_BUMP),
        );
        if let Some(peer) = &self.peer {
            peer.write(&mut w);
        }
        if let Some(refresh) = &self.refresh {
            w.bytes(refresh);
        }
        if let Some(signature) = &self.signature {
            w.bytes(signature);
        }
        if self.bump != 0 {
            w.uint(self.bump);
        }
        w.finish()
    }
}

/// Whether a peer comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnounceKind {
    Announce,
    Unannounce,
}

impl AnnounceKind {
    /// The number of the command, which also binds the signature.
    pub fn command(self) -> u64 {
        match self {
            Self::Announce => command::ANNOUNCE,
            Self::Unannounce => command::UNANNOUNCE,
        }
    }

    fn namespace(self) -> [u8; 32] {
        match self {
            Self::Announce => namespace(4),
            Self::Unannounce => namespace(5),
        }
    }
}

/// The value with which `key_pair` comes to `target`, or goes, at the node with the id `node`
/// that gave `token`.
pub fn sign_announce(
    kind: AnnounceKind,
    target: &Id,
    token: &Token,
    node: &Id,
    key_pair: &KeyPair,
    relay_addresses: &[SocketAddrV4],
    bump: u64,
) -> Vec<u8> {
    let peer = Peer { public_key: key_pair.public_key(), relay_addresses: relay_addresses.to_vec() };
    let signable = announce_signable(kind, target, token, node, &peer, None);
    let signature = Some(key_pair.sign(&signable));
    Announce { peer: Some(peer), refresh: None, signature, bump }.encode()
}

/// The bytes an announce is signed over. Flags and bump are not among them.
pub fn announce_signable(
    kind: AnnounceKind,
    target: &Id,
    token: &Token,
    node: &Id,
    peer: &Peer,
    refresh: Option<&[u8; 32]>,
) -> [u8; 64] {
    let refresh = refresh.map_or(&[][..], |refresh| refresh.as_slice());
    join(kind.namespace(), hash(&[target, node, token, &peer.encode(), refresh]))
}

/// The value of a LOOKUP reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupReply {
    pub peers: Vec<Peer>,
    /// See [`Announce::bump`]; nodes of older versions leave it out.
    pub bump: u64,
}

impl LookupReply {
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let peers = r.array(MIN_PEER_SIZE, Peer::read)?;
        let bump = if r.is_empty() { 0 } else { r.uint()? };
        Ok(Self { peers, bump })
    }

    pub fn encode(&self) -> Vec<u8> {
        let records: Vec<_> = self.peers.iter().map(Peer::encode).collect();
        Self::encode_records(&records, self.bump)
    }

    /// From peer records that are encoded already.
    pub fn encode_records(records: &[impl AsRef<[u8]>], bump: u64) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(records, |w, record| {
            w.bytes(record.as_ref());
        });
        w.uint(bump);
        w.finish()
    }
}

/// A value that its owner may replace by one with a higher number: what MUTABLE_GET answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableRecord {
    pub seq: u64,
    pub value: Bytes,
    pub signature: Signature,
}

impl MutableRecord {
    pub fn sign(seq: u64, value: Bytes, key_pair: &KeyPair) -> Self {
        let signature = key_pair.sign(&mutable_signable(seq, &value));
        Self { seq, value, signature }
    }

    /// Whether the owner of `public_key` signed it.
    pub fn verify(&self, public_key: &PublicKey) -> bool {
        secret_stream::verify(public_key, &mutable_signable(self.seq, &self.value), &self.signature)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(bytes))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    /// The value of MUTABLE_PUT.
    pub fn encode_put(&self, public_key: &PublicKey) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(public_key);
        self.write(&mut w);
        w.finish()
    }

    /// The value of MUTABLE_PUT: whose record it is, and the record.
    pub fn decode_put(bytes: &[u8]) -> Result<(PublicKey, Self), Malformed> {
        let mut r = Reader::new(bytes);
        Ok((r.fixed()?, Self::read(&mut r)?))
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (seq, value) = (r.uint()?, Bytes::copy_from_slice(r.buffer()?));
        Ok(Self { seq, value, signature: r.fixed()? })
    }

    fn write(&self, w: &mut Writer) {
        w.uint(self.seq).buffer(&self.value).bytes(&self.signature);
    }
}

/// The bytes a mutable value is signed over.
pub fn mutable_signable(seq: u64, value: &[u8]) -> [u8; 64] {
    let mut w = Writer::new();
    w.uint(seq).buffer(value);
    join(namespace(6), hash(&[&w.finish()]))
}

fn join(namespace: [u8; 32], hash: [u8; 32]) -> [u8; 64] {
    let mut joined = [0; 64];
    joined[..32].copy_from_slice(&namespace);
    joined[32..].copy_from_slice(&hash);
    joined
}
