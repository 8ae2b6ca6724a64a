//! The `p2p` object: how a peer of this package is reached for one transfer, by a key and without a topic. It
//! stands in the offer, in the message by which a receiver answers, and in the outputs of a completed task.

use std::net::SocketAddrV4;

use serde_json::{Value, json};

/// The version of the object that this package writes and reads.
const VERSION: u64 = 2;

/// Nodes named in the object: as many as a server announces itself on.
const MAX_NODES: usize = 3;

/// The name of [`Features::reuse`].
const REUSE: &str = "reuse";

/// The name of [`Features::resume`].
const RESUME: &str = "resume";

/// How a peer of ours is reached for one transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct P2p {
    /// The connection's public key, made for this transfer.
    pub key: [u8; 32],
    /// DHT nodes that relay a handshake to it.
    pub nodes: Vec<SocketAddrV4>,
    /// Names this process's part in this transfer.
    pub instance: [u8; 16],
    /// Unix milliseconds; of several messages the highest counts.
    pub seq: u64,
    /// What it can do beyond what every peer can.
    pub features: Features,
}

/// What two peers use if both name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The connection stays up for a while after its file, and may carry the next one.
    pub reuse: bool,
    /// After a lost connection the file goes on where it was.
    pub resume: bool,
}

/// What an actor's messages on a task say of how its peer is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Nothing: the actor's peer is one of the original's kind.
    Nothing,
    /// Something that can't be read, or is about another transfer.
    Malformed,
    /// This; of several messages the one with the highest `seq`.
    Valid(P2p),
}

impl P2p {
    /// Reads a `p2p` object; `None` for another version or anything malformed.
    pub fn from_value(value: &Value) -> Option<Self> {
        if value.get("version")?.as_u64()? != VERSION {
            return None;
        }
        let nodes = match value.get("nodes") {
            None => Vec::new(),
            Some(nodes) => nodes
                .as_array()?
                .iter()
                .take(MAX_NODES)
                .filter_map(|node| node.as_str()?.parse::<SocketAddrV4>().ok())
                .filter(|node| is_host(*node))
                .collect(),
        };
        Some(Self {
            key: hex_field(value, "key")?,
            nodes,
            instance: hex_field(value, "instance")?,
            seq: value.get("seq")?.as_u64()?,
            features: Features::from_value(value.get("features")),
        })
    }

    /// The object as it stands in an offer, a message or the outputs of a completed task.
    pub fn to_value(&self) -> Value {
        json!({
            "version": VERSION,
            "key": hex::encode(self.key),
            "nodes": self.nodes.iter().take(MAX_NODES).map(ToString::to_string).collect::<Vec<_>>(),
            "instance": hex::encode(self.instance),
            "seq": self.seq,
            "features": self.features.names(),
        })
    }

    /// The content of the message by which a receiver says how it will dial, before it claims.
    pub fn to_message(&self, transfer_id: &str) -> Value {
        json!({ "transfer_id": transfer_id, "p2p": self.to_value() })
    }
}

impl Features {
    /// All that peers of this version can do.
    pub const OURS: Self = Self { reuse: true, resume: true };

    /// Reads a list of names, of which those that are not known mean nothing.
    fn from_value(names: Option<&Value>) -> Self {
        let names = names.and_then(Value::as_array);
        let has = |feature: &str| names.is_some_and(|names| names.iter().any(|name| name == feature));
        Self { reuse: has(REUSE), resume: has(RESUME) }
    }

    fn names(self) -> Vec<&'static str> {
        let all = [(REUSE, self.reuse), (RESUME, self.resume)];
        all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
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

    /// What both messages say together, this one and one that was posted after it.
    #[must_use]
    pub fn and_then(self, later: Self) -> Self {
        match (self, later) {
            (before, Self::Nothing) => before,
            (Self::Valid(before), Self::Valid(later)) if before.seq > later.seq => Self::Valid(before),
            (before @ Self::Valid(_), Self::Malformed) => before,
            (_, later) => later,
        }
    }
}

/// Whether an address can be a host's: not of the ranges that name none, or many.
fn is_host(address: SocketAddrV4) -> bool {
    let [first, ..] = address.ip().octets();
    address.port() != 0 && first != 0 && first < 224
}

fn hex_field<const N: usize>(value: &Value, name: &str) -> Option<[u8; N]> {
    let text = value.get(name)?.as_str()?;
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
            nodes: vec!["127.0.0.1:49737".parse().unwrap()],
            instance: [1; 16],
            seq: 1_700_000_000_000,
            features: Features::OURS,
        }
    }

    #[test]
    fn only_addresses_of_hosts_are_dialled() {
        let mut value = p2p().to_value();
        for node in ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "1.2.3.4:0", "[::1]:1", "host:1"] {
            value["nodes"] = json!([node]);
            assert_eq!(P2p::from_value(&value).unwrap().nodes, [], "{node}");
        }
        value["nodes"] = json!(vec!["1.2.3.4:5"; 100]);
        assert_eq!(P2p::from_value(&value).unwrap().nodes.len(), MAX_NODES);
    }

    #[test]
    fn features_that_are_not_known_mean_nothing() {
        let mut value = p2p().to_value();
        assert_eq!(value["features"], json!(["reuse", "resume"]));
        for (features, reuse, resume) in [
            (json!(["tree", "reuse", 7]), true, false),
            (json!(["resume", "Reuse", "re"]), false, true),
            (json!("reuse"), false, false),
            (Value::Null, false, false),
        ] {
            value["features"] = features;
            assert_eq!(P2p::from_value(&value).unwrap().features, Features { reuse, resume });
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

    #[test]
    fn of_several_messages_the_highest_seq_counts_and_a_malformed_one_takes_nothing_back() {
        let (old, new) = (Said::Valid(P2p { seq: 1, ..p2p() }), Said::Valid(P2p { seq: 2, ..p2p() }));
        let both = |first: &Said, second: &Said| first.clone().and_then(second.clone());
        assert_eq!((both(&old, &new), both(&new, &old)), (new.clone(), new.clone()));
        for other in [Said::Nothing, Said::Malformed] {
            assert_eq!((both(&other, &new), both(&new, &other)), (new.clone(), new.clone()));
        }
        assert_eq!(both(&Said::Malformed, &Said::Nothing), Said::Malformed);
        assert_eq!(both(&Said::Nothing, &Said::Malformed), Said::Malformed);
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
