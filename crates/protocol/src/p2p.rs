//! The `p2p` object: how a peer of this package is reached for one transfer, by a key and without a topic,
//! and who says so. It stands in the offer, in the message by which a receiver answers, and in the outputs of
//! a completed task.

use std::net::SocketAddrV4;

use serde_json::{Value, json};

use crate::handover::Handover;
use crate::identity::Proof;
use crate::list;

/// The version of the object that this package writes and reads.
const VERSION: u64 = 2;

/// Nodes that are asked, of those in the object: as many as a server announces itself on.
const MAX_NODES: usize = 3;

/// The longest address of a task service or a tunnel, in bytes.
const MAX_URL_LEN: usize = 512;

/// The name of [`Features::reuse`].
const REUSE: &str = "reuse";

/// The name of [`Features::resume`].
const RESUME: &str = "resume";

/// The name of [`Features::tree`].
const TREE: &str = "tree";

/// The name of [`Features::tunnel`].
const TUNNEL: &str = "tunnel";

/// How a peer of ours is reached for one transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct P2p {
    /// The connection's public key, made for this transfer.
    pub key: [u8; 32],
    /// DHT nodes that relay a handshake to it.
    pub nodes: Nodes,
    /// Names this process's part in this transfer.
    pub instance: [u8; 16],
    /// Unix milliseconds; of several messages the highest counts.
    pub seq: u64,
    /// What it can do beyond what every peer can.
    pub features: Features,
    /// The canonical address of the task service as the peer that signed this knows it: two peers may know
    /// one service by different names. `None` stands for the reader's own.
    pub service: Option<String>,
    /// The address of the tunnel where it can be met as well. `None` stands for the task service's own, if
    /// the features have one.
    pub tunnel: Option<String>,
    /// Who says all this; see [`statement`](crate::statement). `None` from a peer without an identity.
    pub proof: Option<Box<Proof>>,
    /// What the identities before say for the one that signed; of no account without it.
    pub handover: Vec<Handover>,
}

/// DHT nodes as a `p2p` object names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes(Vec<String>);

/// What two peers use if both name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The connection stays up for a while after its file, and may carry the next one.
    pub reuse: bool,
    /// After a lost connection the file goes on where it was.
    pub resume: bool,
    /// A folder that comes as an archive is unpacked.
    pub tree: bool,
    /// It can be met at a tunnel as well; see [`tunnel`](crate::tunnel).
    pub tunnel: bool,
    /// All names as they stand, those that are not known included.
    names: Vec<String>,
}

/// What a message on a task says of how its author is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Nothing, as all messages of a peer of the original's kind.
    Nothing,
    /// Something that can't be read, or is about another transfer.
    Malformed,
    /// This, if the message is by whom it says.
    Valid(P2p),
}

impl P2p {
    /// Reads a `p2p` object; `None` for another version or anything malformed.
    pub fn from_value(value: &Value) -> Option<Self> {
        if value.get("version")?.as_u64()? != VERSION {
            return None;
        }
        Some(Self {
            key: hex_field(value.get("key")?)?,
            nodes: Nodes(list::read(value.get("nodes"))?),
            instance: hex_field(value.get("instance")?)?,
            seq: value.get("seq")?.as_u64()?,
            features: Features::of(list::read(value.get("features"))?),
            service: url(value.get("service"))?,
            tunnel: url(value.get("tunnel"))?,
            proof: proof(value)?,
            handover: Handover::read(value.get("handover")),
        })
    }

    /// The object as it stands in an offer, a message or the outputs of a completed task.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "version": VERSION,
            "key": hex::encode(self.key),
            "nodes": self.nodes.as_texts(),
            "instance": hex::encode(self.instance),
            "seq": self.seq,
            "features": self.features.names(),
        });
        if let Some(service) = &self.service {
            value["service"] = json!(service);
        }
        if let Some(tunnel) = &self.tunnel {
            value["tunnel"] = json!(tunnel);
        }
        if !self.handover.is_empty() {
            value["handover"] = self.handover.iter().map(|handover| handover.to_value()).collect();
        }
        if let Some(Proof { identity, signature }) = self.proof.as_deref() {
            value["identity"] = json!(hex::encode(identity));
            value["signature"] = json!(hex::encode(signature));
        }
        value
    }

    /// The content of the message by which a receiver says how it will dial, before it claims.
    pub fn to_message(&self, transfer_id: &str) -> Value {
        json!({ "transfer_id": transfer_id, "p2p": self.to_value() })
    }

    /// By whose word it stands, if it is signed. Whether the signature is right is another question.
    pub fn identity(&self) -> Option<[u8; 32]> {
        self.proof.as_ref().map(|proof| proof.identity)
    }
}

impl Nodes {
    /// As they stand, those that are no addresses included.
    pub fn as_texts(&self) -> &[String] {
        &self.0
    }

    /// Those that may be asked: the first of them that can be hosts.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddrV4> {
        let nodes = self.0.iter().take(MAX_NODES).filter_map(|node| node.parse::<SocketAddrV4>().ok());
        nodes.filter(|node| is_host(*node))
    }
}

impl FromIterator<SocketAddrV4> for Nodes {
    fn from_iter<I: IntoIterator<Item = SocketAddrV4>>(nodes: I) -> Self {
        Self(nodes.into_iter().take(MAX_NODES).map(|node| node.to_string()).collect())
    }
}

impl Features {
    /// All that peers of this version can do; to meet at a tunnel is left to where they are.
    pub fn ours(tunnel: bool) -> Self {
        let names = [REUSE, RESUME, TREE].into_iter().chain(tunnel.then_some(TUNNEL));
        Self::of(names.map(str::to_owned).collect())
    }

    /// All names as they stand.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Of a list of names those that are not known mean nothing.
    fn of(names: Vec<String>) -> Self {
        let has = |feature: &str| names.iter().any(|name| name == feature);
        let (reuse, resume) = (has(REUSE), has(RESUME));
        Self { reuse, resume, tree: has(TREE), tunnel: has(TUNNEL), names }
    }
}

impl Said {
    /// Reads the content of one message; one without a `p2p` object says nothing.
    pub fn from_message(content: &Value, transfer_id: &str) -> Self {
        let Some(p2p) = content.get("p2p") else { return Self::Nothing };
        let is_about_it = content.get("transfer_id").and_then(Value::as_str) == Some(transfer_id);
        match P2p::from_value(p2p) {
            Some(p2p) if is_about_it => Self::Valid(p2p),
            _ => Self::Malformed,
        }
    }
}

/// Whether an address can be a host's: not of the ranges that name none, or many.
fn is_host(address: SocketAddrV4) -> bool {
    let [first, ..] = address.ip().octets();
    address.port() != 0 && first != 0 && first < 224
}

fn url(value: Option<&Value>) -> Option<Option<String>> {
    let Some(url) = value.filter(|value| !value.is_null()) else { return Some(None) };
    let text = url.as_str().filter(|text| text.len() <= MAX_URL_LEN)?;
    Some(Some(text.to_owned()))
}

/// Identity and signature, both or neither.
fn proof(value: &Value) -> Option<Option<Box<Proof>>> {
    let field = |name: &str| value.get(name).filter(|value| !value.is_null());
    match (field("identity"), field("signature")) {
        (None, None) => Some(None),
        (Some(identity), Some(signature)) => {
            let (identity, signature) = (hex_field(identity)?, hex_field(signature)?);
            Some(Some(Box::new(Proof { identity, signature })))
        }
        _ => None,
    }
}

fn hex_field<const N: usize>(value: &Value) -> Option<[u8; N]> {
    let text = value.as_str()?;
    let mut bytes = [0; N];
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn p2p() -> P2p {
        P2p {
            key: [7; 32],
            nodes: Nodes(vec!["127.0.0.1:49737".into()]),
            instance: [1; 16],
            seq: 1_700_000_000_000,
            features: Features::ours(true),
            service: None,
            tunnel: None,
            proof: None,
            handover: Vec::new(),
        }
    }

    fn signed() -> P2p {
        let proof = Proof { identity: [2; 32], signature: [3; 64] };
        let (service, tunnel) = (Some("http://localhost:8787".into()), Some("wss://hub.example".into()));
        P2p { service, tunnel, proof: Some(Box::new(proof)), ..p2p() }
    }

    #[test]
    fn the_object_reads_back_as_what_wrote_it() {
        for p2p in [p2p(), signed()] {
            assert_eq!(P2p::from_value(&p2p.to_value()), Some(p2p));
        }
        assert_eq!(p2p().to_value().get("identity"), None);
        assert_eq!(signed().to_value()["identity"], "02".repeat(32));
        assert_eq!(signed().identity(), Some([2; 32]));
    }

    #[test]
    fn lists_are_kept_as_they_stand() {
        let mut value = p2p().to_value();
        value["nodes"] = json!(["host:1", "10.0.0.1:5"]);
        value["features"] = json!(["later", "reuse", "RESUME"]);
        let read = P2p::from_value(&value).unwrap();
        assert_eq!(read.to_value(), value);
        assert!(read.features.reuse);
        assert_eq!(read.nodes.addresses().collect::<Vec<_>>(), ["10.0.0.1:5".parse().unwrap()]);
    }

    #[test]
    fn what_is_malformed_can_not_be_read() {
        for (field, wrong) in [
            ("version", json!(1)),
            ("version", json!(3)),
            ("version", json!("2")),
            ("key", json!("07".repeat(31))),
            ("key", json!("0A".repeat(32))),
            ("instance", json!(7)),
            ("seq", json!(-1)),
            ("seq", json!(1.5)),
            ("nodes", json!("10.0.0.1:5")),
            ("features", json!("reuse")),
            ("features", json!(["reuse", 7])),
            ("features", json!(["reuse,tree"])),
            ("service", json!(7)),
            ("service", json!("x".repeat(MAX_URL_LEN + 1))),
            ("tunnel", json!(["wss://hub"])),
            ("tunnel", json!("x".repeat(MAX_URL_LEN + 1))),
            ("identity", json!(null)),
            ("signature", json!(null)),
            ("signature", json!("03".repeat(63))),
            ("signature", json!([3])),
        ] {
            let mut value = signed().to_value();
            value[field] = wrong.clone();
            assert_eq!(P2p::from_value(&value), None, "{field}: {wrong}");
        }
        for field in ["version", "key", "instance", "seq", "identity", "signature"] {
            let mut value = signed().to_value();
            value.as_object_mut().unwrap().remove(field);
            assert_eq!(P2p::from_value(&value), None, "{field}");
        }
    }

    #[test]
    fn only_addresses_of_hosts_are_dialled() {
        let mut value = p2p().to_value();
        for node in ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "1.2.3.4:0", "[::1]:1", "host:1"] {
            value["nodes"] = json!([node]);
            assert_eq!(P2p::from_value(&value).unwrap().nodes.addresses().count(), 0, "{node}");
        }
        value["nodes"] = json!(vec!["1.2.3.4:5"; 10]);
        assert_eq!(P2p::from_value(&value).unwrap().nodes.addresses().count(), MAX_NODES);
    }

    #[test]
    fn features_that_are_not_known_mean_nothing() {
        let mut value = p2p().to_value();
        assert_eq!(value["features"], json!(["reuse", "resume", "tree", "tunnel"]));
        assert!(!Features::ours(false).tunnel);
        for (features, reuse, resume, tree) in [
            (json!(["later", "reuse"]), true, false, false),
            (json!(["resume", "Reuse", "re", "tree"]), false, true, true),
            (json!([]), false, false, false),
            (Value::Null, false, false, false),
        ] {
            value["features"] = features;
            let read = P2p::from_value(&value).unwrap().features;
            assert_eq!((read.reuse, read.resume, read.tree), (reuse, resume, tree));
        }
    }

    #[test]
    fn a_message_says_how_to_reach_its_author_for_one_transfer() {
        let message = p2p().to_message("t");
        assert_eq!(Said::from_message(&message, "t"), Said::Valid(p2p()));
        assert_eq!(Said::from_message(&message, "another"), Said::Malformed);
        assert_eq!(Said::from_message(&json!({ "transfer_id": "t", "p2p": {} }), "t"), Said::Malformed);
        assert_eq!(Said::from_message(&json!({ "transfer_id": "t" }), "t"), Said::Nothing);
        assert_eq!(Said::from_message(&json!("hello"), "t"), Said::Nothing);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = P2p::from_value(&value);
                let _ = Said::from_message(&value, "t");
            }
        }
    }
}
