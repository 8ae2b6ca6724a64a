//! The offer of a file: what a `file_offer` task says, read from and written to its payload.
//!
//! Layouts: the original's payload, read under the several names it goes by, and the `p2p` object by
//! which two peers of this package find each other without a topic.

use std::net::SocketAddrV4;

use secret_stream::PublicKey;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::ats::{Part, Task};

/// The type of a task that offers a file.
pub(crate) const TASK_TYPE: &str = "file_offer";

/// The version of the `p2p` object that this package writes and reads.
const P2P_VERSION: u64 = 2;

/// Nodes named in a `p2p` object: as many as a server announces itself on.
const MAX_NODES: usize = 3;

/// The longest transfer id or actor id taken from a task, in bytes: far above any UUID or name, far below
/// what could fill a log or a screen.
const MAX_ID_LEN: usize = 512;

/// The longest file name taken from a task, in bytes: safe names are at most 255; what is longer is not
/// a name.
const MAX_NAME_LEN: usize = 4096;

/// The largest size that JSON numbers carry exactly, 2^53 - 1 bytes.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The name of [`Features::reuse`].
const REUSE: &str = "reuse";

/// What a task offers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    /// Chosen by the sender; a version 4 UUID from peers of ours, any string from an original.
    pub transfer_id: String,
    /// The name as offered: not a path, not safe to print.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, lower-case hex.
    pub hash: String,
    /// Who the sender says it is.
    pub sender_id: String,
    /// For whom the file is; without, for whoever claims it.
    pub recipient_id: Option<String>,
    /// After this moment of the service's clock the offer is left alone.
    pub expires_at: Option<OffsetDateTime>,
    /// How to reach a sender of ours; `None` where an original made the offer.
    pub p2p: Option<P2p>,
}

/// How a peer of ours is reached for one transfer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct P2p {
    /// The connection's public key, made for this transfer.
    pub key: PublicKey,
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
pub(crate) struct Features {
    /// The connection stays up for a while after its file, and may carry the next one.
    pub reuse: bool,
}

/// What the messages of a task say of how an actor's peer is reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// Nothing: the actor's peer is one of the original's kind.
    Nothing,
    /// Something that can't be read, or is about another transfer.
    Malformed,
    /// This; of several messages the one with the highest `seq`.
    Valid(P2p),
}

/// Why a payload is no offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidOffer {
    /// A field that an offer can't do without.
    #[error("the offer has no {0}")]
    Missing(&'static str),
    /// A field of the wrong type, out of range or malformed.
    #[error("the offer's {0} is not {1}")]
    Malformed(&'static str, &'static str),
}

impl Offer {
    /// Reads an offer from a task's payload, under all names that its fields go by.
    pub(crate) fn from_payload(payload: &Value) -> Result<Self, InvalidOffer> {
        let fields = payload.as_object().ok_or(InvalidOffer::Missing("payload"))?;
        let transfer_id = id_field(fields, &["transfer_id", "transferId"], "transfer id")?
            .ok_or(InvalidOffer::Missing("transfer id"))?;
        let name = match find(fields, &["filename", "file_name", "fileName", "name"]) {
            None => return Err(InvalidOffer::Missing("file name")),
            Some(Value::String(name)) if name.len() <= MAX_NAME_LEN => name.clone(),
            Some(_) => return Err(InvalidOffer::Malformed("file name", "text of a file name's length")),
        };
        let size = match find(fields, &["size", "file_size", "fileSize"]) {
            None => return Err(InvalidOffer::Missing("size")),
            Some(size) => whole_number(size)
                .ok_or(InvalidOffer::Malformed("size", "a whole number of bytes below 2^53"))?,
        };
        let hash = match find(fields, &["hash", "file_hash", "fileHash", "sha256"]) {
            None => return Err(InvalidOffer::Missing("hash")),
            Some(Value::String(hash)) if is_sha256_hex(hash) => hash.clone(),
            Some(_) => return Err(InvalidOffer::Malformed("hash", "SHA-256 in lower-case hex")),
        };
        let sender_id = id_field(fields, &["sender_id", "senderId"], "sender id")?
            .ok_or(InvalidOffer::Missing("sender id"))?;
        let recipient_id = id_field(fields, &["recipient_id", "recipientId"], "recipient id")?;
        let expires_at = match find(fields, &["expires_at", "expiresAt"]) {
            None => None,
            Some(Value::String(text)) => Some(
                OffsetDateTime::parse(text, &Rfc3339)
                    .map_err(|_| InvalidOffer::Malformed("expiry", "a time in RFC 3339"))?,
            ),
            Some(_) => return Err(InvalidOffer::Malformed("expiry", "a time in RFC 3339")),
        };
        let p2p = fields.get("p2p").and_then(P2p::from_value);
        Ok(Self { transfer_id, name, size, hash, sender_id, recipient_id, expires_at, p2p })
    }

    /// The payload of the task that makes this offer.
    pub(crate) fn to_payload(&self) -> Value {
        let mut payload = json!({
            "transfer_id": self.transfer_id,
            "filename": self.name,
            "size": self.size,
            "hash": self.hash,
            "sender_id": self.sender_id,
        });
        if let Some(recipient_id) = &self.recipient_id {
            payload["recipient_id"] = json!(recipient_id);
        }
        if let Some(expires_at) = self.expires_at.and_then(|at| at.format(&Rfc3339).ok()) {
            payload["expires_at"] = json!(expires_at);
        }
        if let Some(p2p) = &self.p2p {
            payload["p2p"] = p2p.to_value();
        }
        payload
    }
}

impl P2p {
    /// Reads a `p2p` object; `None` for another version or anything malformed.
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        if value.get("version")?.as_u64()? != P2P_VERSION {
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
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "version": P2P_VERSION,
            "key": hex::encode(self.key),
            "nodes": self.nodes.iter().take(MAX_NODES).map(ToString::to_string).collect::<Vec<_>>(),
            "instance": hex::encode(self.instance),
            "seq": self.seq,
            "features": self.features.names(),
        })
    }

    /// The content of the message by which a receiver says how it will dial, before it claims.
    pub(crate) fn to_message(&self, transfer_id: &str) -> Value {
        json!({ "transfer_id": transfer_id, "p2p": self.to_value() })
    }

    /// What `actor` said on a task about how its peer is reached. Messages of others say nothing.
    pub(crate) fn said_by(task: &Task, actor: &str, transfer_id: &str) -> Said {
        let mut said = Said::Nothing;
        for word in Self::words_of(task, actor, transfer_id) {
            said = match (word, said) {
                (None, before @ Said::Valid(_)) => before,
                (Some(p2p), Said::Valid(before)) if before.seq > p2p.seq => Said::Valid(before),
                (Some(p2p), _) => Said::Valid(p2p),
                (None, _) => Said::Malformed,
            };
        }
        said
    }

    /// Whether another process than `instance` speaks for `actor` on a task.
    pub(crate) fn is_said_by_another(
        task: &Task,
        actor: &str,
        transfer_id: &str,
        instance: &[u8; 16],
    ) -> bool {
        Self::words_of(task, actor, transfer_id).flatten().any(|p2p| p2p.instance != *instance)
    }

    /// What `actor` said, oldest first; `None` for what can't be read.
    fn words_of(task: &Task, actor: &str, transfer_id: &str) -> impl Iterator<Item = Option<Self>> {
        task.messages
            .iter()
            .filter(move |message| message.actor.as_ref().is_some_and(|author| author.id == actor))
            .flat_map(|message| &message.parts)
            .filter_map(move |part| Self::from_part(part, transfer_id))
    }

    /// Reads a part as such a message for `transfer_id`, whatever way its content is written.
    ///
    /// `None` where the part is something else, `Some(None)` where it is meant as such a message and is
    /// malformed.
    fn from_part(part: &Part, transfer_id: &str) -> Option<Option<Self>> {
        let object = part.json()?;
        let p2p = object.get("p2p")?;
        let same = object.get("transfer_id").and_then(Value::as_str) == Some(transfer_id);
        Some(if same { Self::from_value(p2p) } else { None })
    }
}

impl Features {
    /// All that peers of this version can do.
    pub(crate) const OURS: Self = Self { reuse: true };

    /// Reads a list of names, of which those that are not known mean nothing.
    fn from_value(names: Option<&Value>) -> Self {
        let names = names.and_then(Value::as_array);
        Self { reuse: names.is_some_and(|names| names.iter().any(|name| name == REUSE)) }
    }

    fn names(self) -> Vec<&'static str> {
        Vec::from_iter(self.reuse.then_some(REUSE))
    }
}

/// Whether `text` is a SHA-256 in the form that offers carry: 64 lower-case hex digits.
pub(crate) fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether an address can be a host's: not of the ranges that name none, or many.
fn is_host(address: SocketAddrV4) -> bool {
    let [first, ..] = address.ip().octets();
    address.port() != 0 && first != 0 && first < 224
}

fn find<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| fields.get(*name)).filter(|value| !value.is_null())
}

fn id_field(
    fields: &Map<String, Value>,
    names: &[&str],
    what: &'static str,
) -> Result<Option<String>, InvalidOffer> {
    match find(fields, names) {
        None => Ok(None),
        Some(Value::String(id)) if !id.is_empty() && id.len() <= MAX_ID_LEN => Ok(Some(id.clone())),
        Some(_) => Err(InvalidOffer::Malformed(what, "text of an id's length")),
    }
}

fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().filter(|size| *size <= MAX_SAFE_INTEGER)
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

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn offer() -> Offer {
        Offer {
            transfer_id: "5f3c1d0e-0000-4000-8000-000000000001".into(),
            name: "data.csv".into(),
            size: 42,
            hash: HASH.into(),
            sender_id: "a".into(),
            recipient_id: Some("b".into()),
            expires_at: Some(OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()),
            p2p: Some(P2p {
                key: [7; 32],
                nodes: vec!["127.0.0.1:49737".parse().unwrap()],
                instance: [1; 16],
                seq: 1_700_000_000_000,
                features: Features::OURS,
            }),
        }
    }

    #[test]
    fn a_payload_reads_back_as_the_offer_that_wrote_it() {
        assert_eq!(Offer::from_payload(&offer().to_payload()), Ok(offer()));
    }

    #[test]
    fn the_other_names_of_the_fields_name_the_same_things() {
        for payload in [
            json!({"transferId": "t", "fileName": "n", "fileSize": 1, "fileHash": HASH, "senderId": "s", "recipientId": "r"}),
            json!({"transfer_id": "t", "file_name": "n", "file_size": 1, "file_hash": HASH, "sender_id": "s", "recipient_id": "r"}),
            json!({"transfer_id": "t", "name": "n", "size": 1, "sha256": HASH, "sender_id": "s", "recipient_id": "r"}),
        ] {
            let offer = Offer::from_payload(&payload).unwrap();
            assert_eq!((offer.transfer_id.as_str(), offer.name.as_str(), offer.size), ("t", "n", 1));
            assert_eq!((offer.sender_id.as_str(), offer.recipient_id.as_deref()), ("s", Some("r")));
            assert_eq!((offer.hash.as_str(), offer.p2p), (HASH, None));
        }
    }

    #[test]
    fn sizes_and_hashes_that_are_none_are_refused() {
        for size in [json!(-1), json!(1.5), json!("1"), json!(9_007_199_254_740_992u64), json!(u64::MAX)] {
            let mut payload = offer().to_payload();
            payload["size"] = size.clone();
            assert!(Offer::from_payload(&payload).is_err(), "size {size}");
        }
        for hash in [HASH.to_uppercase(), HASH[1..].to_owned(), format!("g{}", &HASH[1..]), String::new()] {
            let mut payload = offer().to_payload();
            payload["hash"] = json!(hash);
            assert!(Offer::from_payload(&payload).is_err(), "hash {hash}");
        }
    }

    #[test]
    fn only_addresses_of_hosts_are_dialled() {
        let mut value = offer().p2p.unwrap().to_value();
        for node in ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "1.2.3.4:0", "[::1]:1", "host:1"] {
            value["nodes"] = json!([node]);
            assert_eq!(P2p::from_value(&value).unwrap().nodes, [], "{node}");
        }
        value["nodes"] = json!(vec!["1.2.3.4:5"; 100]);
        assert_eq!(P2p::from_value(&value).unwrap().nodes.len(), MAX_NODES);
    }

    #[test]
    fn features_that_are_not_known_mean_nothing() {
        let mut value = offer().p2p.unwrap().to_value();
        assert_eq!(value["features"], json!(["reuse"]));
        for (features, reuse) in [
            (json!(["tree", "reuse", 7]), true),
            (json!(["Reuse", "re"]), false),
            (json!("reuse"), false),
            (Value::Null, false),
        ] {
            value["features"] = features;
            assert_eq!(P2p::from_value(&value).unwrap().features, Features { reuse });
        }
    }

    #[test]
    fn a_message_is_read_as_text_and_as_an_object() {
        let p2p = offer().p2p.unwrap();
        let message = p2p.to_message("t");
        let text = Part::data(&message);
        let object = Part { kind: "data".into(), content: message };
        for part in [text, object] {
            assert_eq!(P2p::from_part(&part, "t"), Some(Some(p2p.clone())));
            assert_eq!(P2p::from_part(&part, "another"), Some(None));
        }
        assert_eq!(P2p::from_part(&Part::text("hello"), "t"), None);
    }

    #[test]
    fn only_the_actor_itself_says_how_it_is_reached_and_its_latest_word_counts() {
        let p2p = |seq| P2p { seq, ..offer().p2p.unwrap() };
        let message = |actor: &str, content: Value| json!({ "actor_id": actor, "parts": [{ "type": "data", "content": content }] });
        let said = |messages: Vec<Value>| {
            let task = Task::from_value(json!({ "id": 1, "messages": messages })).unwrap();
            P2p::said_by(&task, "b", "t")
        };
        assert_eq!(said(vec![message("c", p2p(1).to_message("t"))]), Said::Nothing);
        assert_eq!(said(vec![message("b", json!({ "transfer_id": "t", "p2p": {} }))]), Said::Malformed);
        let (old, new) = (message("b", p2p(1).to_message("t")), message("b", p2p(2).to_message("t")));
        assert_eq!(said(vec![old.clone(), new.clone()]), Said::Valid(p2p(2)));
        assert_eq!(said(vec![new, old]), Said::Valid(p2p(2)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = Offer::from_payload(&value);
                let _ = P2p::from_value(&value);
            }
            let _ = P2p::from_part(&Part { kind: "data".into(), content: Value::String(text) }, "t");
        }
    }
}
