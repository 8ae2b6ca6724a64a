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
pub(crate) type Signature = [u8; SIGNATURE_LEN];

/// Relay addresses kept of one peer.
pub(crate) const MAX_RELAYS: usize = 3;
/// Bytes of the smallest peer record: a key and no relay address.
const MIN_PEER_SIZE: usize = 33;

const HAS_PEER: u64 = 1;
const HAS_REFRESH: u64 = 2;
const HAS_SIGNATURE: u64 = 4;
const HAS_BUMP: u64 = 8;

/// Somebody who can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub public_key: PublicKey,
    /// Nodes that pass handshakes on to it.
    pub relay_addresses: Vec<SocketAddrV4>,
}

impl Peer {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(bytes))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
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
pub(crate) struct Announce {
    pub peer: Option<Peer>,
    /// The head of a hash chain, or the next preimage of it.
    pub refresh: Option<[u8; 32]>,
    pub signature: Option<Signature>,
    /// When the topic last had news, milliseconds since 1970; 0 if it is not used.
    pub bump: u64,
}

impl Announce {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
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

    pub(crate) fn encode(&self) -> Vec<u8> {
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

/// Whether a peer announces or withdraws itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnnounceKind {
    Announce,
    Unannounce,
}

impl AnnounceKind {
    /// The number of the command, which also binds the signature.
    pub(crate) fn command(self) -> u64 {
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

/// The signed value by which the owner of `key_pair` announces or withdraws itself at `target`, for the node
/// with the id `node` that gave `token`.
pub(crate) fn sign_announce(
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

/// The bytes that an announce's signature covers. Flags and bump are not among them.
pub(crate) fn announce_signable(
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
pub(crate) struct LookupReply {
    pub peers: Vec<Peer>,
    /// See [`Announce::bump`]; nodes of older versions leave it out.
    pub bump: u64,
}

impl LookupReply {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let peers = r.array(MIN_PEER_SIZE, Peer::read)?;
        let bump = if r.is_empty() { 0 } else { r.uint()? };
        Ok(Self { peers, bump })
    }

    #[cfg(test)]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let records: Vec<_> = self.peers.iter().map(Peer::encode).collect();
        Self::encode_records(&records, self.bump)
    }

    /// From peer records that are encoded already.
    pub(crate) fn encode_records(records: &[impl AsRef<[u8]>], bump: u64) -> Vec<u8> {
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
    /// The number of this version.
    pub seq: u64,
    /// At most 1000 bytes.
    pub value: Bytes,
    /// The owner's, of number and value.
    pub signature: Signature,
}

impl MutableRecord {
    pub(crate) fn sign(seq: u64, value: Bytes, key_pair: &KeyPair) -> Self {
        let signature = key_pair.sign(&mutable_signable(seq, &value));
        Self { seq, value, signature }
    }

    /// Whether the owner of `public_key` signed it.
    pub(crate) fn verify(&self, public_key: &PublicKey) -> bool {
        secret_stream::verify(public_key, &mutable_signable(self.seq, &self.value), &self.signature)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(bytes))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    /// The value of MUTABLE_PUT.
    pub(crate) fn encode_put(&self, public_key: &PublicKey) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(public_key);
        self.write(&mut w);
        w.finish()
    }

    /// The value of MUTABLE_PUT: whose record it is, and the record.
    pub(crate) fn decode_put(bytes: &[u8]) -> Result<(PublicKey, Self), Malformed> {
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

/// The value of PLUGIN: a request to an extension that a node may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginRequest {
    pub plugin: String,
    pub version: u64,
    pub command: u64,
    pub value: Option<Bytes>,
}

impl PluginRequest {
    const HAS_VALUE: u64 = 1;

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let plugin = String::from_utf8_lossy(r.buffer()?).into_owned();
        let (version, command, flags) = (r.uint()?, r.uint()?, r.uint()?);
        let has_value = flags & Self::HAS_VALUE != 0;
        let value = has_value.then(|| r.buffer().map(Bytes::copy_from_slice)).transpose()?;
        Ok(Self { plugin, version, command, value })
    }

    #[cfg(test)]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.buffer(self.plugin.as_bytes()).uint(self.version).uint(self.command);
        w.uint(if self.value.is_some() { Self::HAS_VALUE } else { 0 });
        if let Some(value) = &self.value {
            w.buffer(value);
        }
        w.finish()
    }
}

/// The bytes a mutable value is signed over.
pub(crate) fn mutable_signable(seq: u64, value: &[u8]) -> [u8; 64] {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::testing::vectors::connect::{array, unhex};
    use crate::testing::vectors::{
        addrs, cases, datagrams, key_pair, optional_array, optional_bytes, session_id,
    };

    fn peer(value: &Value) -> Peer {
        Peer { public_key: array(&value["publicKey"]), relay_addresses: addrs(&value["relayAddresses"]) }
    }

    fn signature(value: &Value) -> Option<Signature> {
        (!value.is_null()).then(|| array(value))
    }

    fn kind(id: &Value) -> AnnounceKind {
        match id.as_str().unwrap() {
            "unannounce" => AnnounceKind::Unannounce,
            _ => AnnounceKind::Announce,
        }
    }

    #[test]
    fn peers_are_those_of_the_vectors() {
        for case in cases("peer") {
            let (mut peer, bytes) = (peer(&case["input"]), unhex(&case["hex"]));
            assert_eq!(peer.encode(), bytes, "{}", case["id"]);
            assert_eq!(Peer::decode(&bytes), Ok(peer.clone()), "{}", case["id"]);
            if let Some(stored) = optional_bytes(&case["stored"]) {
                peer.relay_addresses.truncate(MAX_RELAYS);
                assert_eq!(peer.encode(), stored, "{}", case["id"]);
            }
        }
    }

    #[test]
    fn announces_are_encoded_and_signed_as_in_the_vectors() {
        for case in cases("announce") {
            let (input, bytes) = (&case["input"], unhex(&case["hex"]));
            let announce = Announce {
                peer: (!input["peer"].is_null()).then(|| peer(&input["peer"])),
                refresh: optional_array(&input["refresh"]),
                signature: signature(&case["signature"]),
                bump: input["bump"].as_u64().unwrap(),
            };
            assert_eq!(announce.encode(), bytes, "{}", case["id"]);
            assert_eq!(Announce::decode(&bytes), Ok(announce.clone()), "{}", case["id"]);
            let Some(peer) = announce.peer else {
                let head = hash(&[&announce.refresh.unwrap()]);
                assert_eq!(head, array(&case["storedKey"]));
                continue;
            };

            let (target, token) = (array(&input["target"]), array(&input["token"]));
            let (node, kind) = (array(&input["storingNodeId"]), kind(&case["id"]));
            let refresh = announce.refresh.as_ref();
            let signable = announce_signable(kind, &target, &token, &node, &peer, refresh);
            assert_eq!(signable.to_vec(), unhex(&case["signable"]), "{}", case["id"]);
            if refresh.is_none() {
                let signer = key_pair(input["signer"].as_str().unwrap());
                let relays = &peer.relay_addresses;
                let signed = sign_announce(kind, &target, &token, &node, &signer, relays, announce.bump);
                assert_eq!(signed, bytes, "{}", case["id"]);
            }
        }
    }

    #[test]
    fn announces_off_the_wire_are_signed_as_ours_would_be() {
        let mut checked = 0;
        for datagram in datagrams() {
            let decoded = &datagram["decoded"];
            if decoded["signedBytes"].is_null() {
                continue;
            }
            let kind = match decoded["commandName"].as_str().unwrap() {
                "ANNOUNCE" => AnnounceKind::Announce,
                _ => AnnounceKind::Unannounce,
            };
            let node = session_id(datagram["to"].as_str().unwrap().split('.').next().unwrap());
            let value = unhex(&decoded["value"]);
            let announce = Announce::decode(&value).unwrap();
            let (target, token) = (array(&decoded["target"]), array(&decoded["token"]));
            let relays = announce.peer.unwrap().relay_addresses;
            let signer = key_pair("A");
            let signed = sign_announce(kind, &target, &token, &node, &signer, &relays, announce.bump);
            assert_eq!(signed, value, "{}", datagram["n"]);
            checked += 1;
        }
        assert_eq!(checked, 5);
    }

    #[test]
    fn lookup_replies_are_those_of_the_vectors() {
        for case in cases("lookup-reply") {
            let (input, bytes) = (&case["input"], unhex(&case["hex"]));
            let peers = input["peers"].as_array().unwrap().iter().map(peer).collect();
            let reply = LookupReply { peers, bump: input["bump"].as_u64().unwrap() };
            assert_eq!(LookupReply::decode(&bytes), Ok(reply.clone()), "{}", case["id"]);
            // Today's nodes always add the bump.
            let written = if case["id"] == "lookup-reply-old" { [&bytes[..], &[0]].concat() } else { bytes };
            assert_eq!(reply.encode(), written, "{}", case["id"]);
        }
    }

    #[test]
    fn mutable_values_are_encoded_and_signed_as_in_the_vectors() {
        for case in cases("mutable") {
            let (input, bytes) = (&case["input"], unhex(&case["hex"]));
            let (seq, value) = (input["seq"].as_u64().unwrap(), unhex(&input["value"]));
            if input["signer"].is_null() {
                let record =
                    MutableRecord { seq, value: value.into(), signature: array(&input["signature"]) };
                assert_eq!(record.encode(), bytes, "{}", case["id"]);
                assert_eq!(MutableRecord::decode(&bytes), Ok(record), "{}", case["id"]);
                continue;
            }
            assert_eq!(mutable_signable(seq, &value).to_vec(), unhex(&case["signable"]));
            let key_pair = key_pair(input["signer"].as_str().unwrap());
            let record = MutableRecord::sign(seq, value.into(), &key_pair);
            let public_key = key_pair.public_key();
            assert_eq!(record.signature.to_vec(), unhex(&case["signature"]), "{}", case["id"]);
            assert!(record.verify(&public_key));
            assert_eq!(record.encode_put(&public_key), bytes, "{}", case["id"]);
            assert_eq!(MutableRecord::decode_put(&bytes), Ok((public_key, record)), "{}", case["id"]);
        }
    }

    #[test]
    fn requests_to_plugins_are_those_of_the_vectors() {
        for case in cases("plugin") {
            let (input, bytes) = (&case["input"], unhex(&case["hex"]));
            let request = PluginRequest {
                plugin: input["plugin"].as_str().unwrap().to_owned(),
                version: input["version"].as_u64().unwrap(),
                command: input["command"].as_u64().unwrap(),
                value: optional_bytes(&input["value"]),
            };
            assert_eq!(request.encode(), bytes, "{}", case["id"]);
            assert_eq!(PluginRequest::decode(&bytes), Ok(request), "{}", case["id"]);
        }
    }

    #[test]
    fn an_immutable_value_is_kept_under_its_hash() {
        for case in cases("immutable") {
            assert_eq!(hash(&[&unhex(&case["input"]["value"])]), array::<32>(&case["hex"]));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Peer::decode(&bytes), Announce::decode(&bytes), LookupReply::decode(&bytes));
            let _ = (MutableRecord::decode(&bytes), MutableRecord::decode_put(&bytes));
            let _ = PluginRequest::decode(&bytes);
        }
    }
}
