//! The offer of a file: what a `file_offer` task says, read from and written to its payload.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::metadata::Metadata;
use crate::p2p::P2p;

/// The type of a task that offers a file.
pub const TASK_TYPE: &str = "file_offer";

/// The longest transfer id or actor id taken from a task, in bytes: far above any UUID or name, far below
/// what could fill a log or a screen.
const MAX_ID_LEN: usize = 512;

/// The longest file name taken from a task, in bytes: safe names are at most 255; what is longer is not
/// a name.
const MAX_NAME_LEN: usize = 4096;

/// The largest whole number that JSON carries exactly, 2^53 - 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The longest name of an archive's format, bytes.
const MAX_FORMAT_LEN: usize = 32;

/// The bytes of an archive that an entry takes at least.
const MIN_ENTRY_LEN: u64 = 512;

/// The permission bits of a file.
const PERMISSIONS: u64 = 0o777;

/// The names that each field goes by; the first one is ours.
const TRANSFER_ID: &[&str] = &["transfer_id", "transferId"];
const NAME: &[&str] = &["filename", "file_name", "fileName", "name"];
const SIZE: &[&str] = &["size", "file_size", "fileSize"];
const HASH: &[&str] = &["hash", "file_hash", "fileHash", "sha256"];
const SENDER_ID: &[&str] = &["sender_id", "senderId"];
const RECIPIENT_ID: &[&str] = &["recipient_id", "recipientId"];
const EXPIRES_AT: &[&str] = &["expires_at", "expiresAt"];

/// All fields that go by several names.
const NAMES: [&[&str]; 7] = [TRANSFER_ID, NAME, SIZE, HASH, SENDER_ID, RECIPIENT_ID, EXPIRES_AT];

/// What a task offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
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
    pub expires_at: Option<Expiry>,
    /// What else a sender of ours says of the file; empty from an original.
    pub attributes: Attributes,
    /// How to reach a sender of ours; `None` where an original made the offer, and where there is a `flaw`.
    pub p2p: Option<P2p>,
    /// Why this is neither an offer of ours nor one of an original.
    pub flaw: Option<Flaw>,
}

/// A moment, and its text as it stands in the payload, which a signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    text: String,
    at: OffsetDateTime,
}

/// What a sender may say of a file beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its permission bits.
    pub mode: Option<u16>,
    /// When it was changed last, Unix milliseconds.
    pub mtime: Option<i64>,
    /// What else its sender says of it.
    pub metadata: Option<Metadata>,
    /// What the folder holds whose archive the file is; `None` for a file.
    pub tree: Option<Tree>,
}

/// A folder that is sent as an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The archive's format; another one than [`Tree::PAX`] is for other peers.
    pub format: String,
    /// Files, folders and links, the topmost folder included.
    pub entries: u64,
    /// Bytes of all files. The offer's size is that of the archive, which is larger.
    pub bytes: u64,
}

/// What is wrong with an offer that has a `p2p` object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The object is malformed, or of another version.
    #[error("its p2p object can't be read")]
    Unreadable,
    /// A field stands there under another name than ours, so that two readers may read two offers.
    #[error("it names a field {0}, which no offer with a p2p object does")]
    Alias(&'static str),
}

/// Why a payload is no offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOffer {
    /// A field that an offer can't do without.
    #[error("the offer has no {0}")]
    Missing(&'static str),
    /// A field of the wrong type, out of range or malformed.
    #[error("the offer's {0} is not {1}")]
    Malformed(&'static str, &'static str),
}

impl Offer {
    /// Reads an offer from a task's payload, under all names that its fields go by.
    ///
    /// # Errors
    /// [`InvalidOffer`] names the first field that is missing or malformed. A `p2p` that can't be read is
    /// none of them, but a [`Flaw`].
    pub fn from_payload(payload: &Value) -> Result<Self, InvalidOffer> {
        let fields = payload.as_object().ok_or(InvalidOffer::Missing("payload"))?;
        let transfer_id =
            id_field(fields, TRANSFER_ID, "transfer id")?.ok_or(InvalidOffer::Missing("transfer id"))?;
        let name = match find(fields, NAME) {
            None => return Err(InvalidOffer::Missing("file name")),
            Some(Value::String(name)) if name.len() <= MAX_NAME_LEN => name.clone(),
            Some(_) => return Err(InvalidOffer::Malformed("file name", "text of a file name's length")),
        };
        let size = match find(fields, SIZE) {
            None => return Err(InvalidOffer::Missing("size")),
            Some(size) => whole_number(size)
                .ok_or(InvalidOffer::Malformed("size", "a whole number of bytes below 2^53"))?,
        };
        let hash = match find(fields, HASH) {
            None => return Err(InvalidOffer::Missing("hash")),
            Some(Value::String(hash)) if is_sha256_hex(hash) => hash.clone(),
            Some(_) => return Err(InvalidOffer::Malformed("hash", "SHA-256 in lower-case hex")),
        };
        let sender_id =
            id_field(fields, SENDER_ID, "sender id")?.ok_or(InvalidOffer::Missing("sender id"))?;
        let recipient_id = id_field(fields, RECIPIENT_ID, "recipient id")?;
        let expires_at = expiry_field(fields)?;
        let (p2p, flaw) = match find(fields, &["p2p"]) {
            None => (None, None),
            Some(p2p) => match (P2p::from_value(p2p), alias(fields)) {
                (None, _) => (None, Some(Flaw::Unreadable)),
                (_, Some(alias)) => (None, Some(Flaw::Alias(alias))),
                (p2p, None) => (p2p, None),
            },
        };
        // An original may mean something else by these names.
        let attributes =
            p2p.as_ref().map(|_| Attributes::read(fields, size)).transpose()?.unwrap_or_default();
        Ok(Self { transfer_id, name, size, hash, sender_id, recipient_id, expires_at, attributes, p2p, flaw })
    }

    /// The payload of the task that makes this offer.
    pub fn to_payload(&self) -> Value {
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
        if let Some(expires_at) = &self.expires_at {
            payload["expires_at"] = json!(expires_at.text);
        }
        let Attributes { mode, mtime, metadata, tree } = &self.attributes;
        let metadata = metadata.as_ref().map(Metadata::as_str);
        let tree = tree.as_ref().map(Tree::to_value);
        for (name, value) in [
            ("mode", json!(mode)),
            ("mtime", json!(mtime)),
            ("metadata", json!(metadata)),
            ("tree", json!(tree)),
        ] {
            if !value.is_null() {
                payload[name] = value;
            }
        }
        if let Some(p2p) = &self.p2p {
            payload["p2p"] = p2p.to_value();
        }
        payload
    }
}

impl Expiry {
    /// Reads a moment in RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self { text: text.to_owned(), at })
    }

    /// This moment; `None` for a year that RFC 3339 has no text for.
    pub fn new(at: OffsetDateTime) -> Option<Self> {
        Some(Self { text: at.format(&Rfc3339).ok()?, at })
    }

    /// The moment.
    pub fn at(&self) -> OffsetDateTime {
        self.at
    }

    /// Its text as it stands in the payload.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Attributes {
    /// Those of a file with these permission bits and this time, Unix milliseconds, as far as an offer
    /// carries them.
    pub fn new(mode: Option<u16>, mtime: Option<i64>) -> Self {
        let mode = mode.filter(|mode| u64::from(*mode) <= PERMISSIONS);
        let mtime = mtime.filter(|mtime| mtime.unsigned_abs() <= MAX_SAFE_INTEGER);
        Self { mode, mtime, metadata: None, tree: None }
    }

    fn read(fields: &Map<String, Value>, size: u64) -> Result<Self, InvalidOffer> {
        let field = |name: &'static str| find(fields, &[name]);
        let mode = field("mode").map(|mode| {
            let mode = mode.as_u64().filter(|mode| *mode <= PERMISSIONS);
            mode.and_then(|mode| u16::try_from(mode).ok())
                .ok_or(InvalidOffer::Malformed("mode", "a number from 0 to 511"))
        });
        let mtime = field("mtime").map(|mtime| {
            let mtime = mtime.as_i64().filter(|mtime| mtime.unsigned_abs() <= MAX_SAFE_INTEGER);
            mtime.ok_or(InvalidOffer::Malformed("mtime", "a whole number of milliseconds"))
        });
        let metadata = field("metadata").map(|metadata| {
            let said = metadata.as_str().and_then(Metadata::parse);
            said.ok_or(InvalidOffer::Malformed("metadata", "JSON text of at most 4 KiB"))
        });
        let tree = field("tree").map(|tree| {
            Tree::read(tree, size).ok_or(InvalidOffer::Malformed(
                "tree",
                "what an archive of this size holds, of at most a million entries",
            ))
        });
        Ok(Self {
            mode: mode.transpose()?,
            mtime: mtime.transpose()?,
            metadata: metadata.transpose()?,
            tree: tree.transpose()?,
        })
    }
}

impl Tree {
    /// The format that peers of ours unpack: POSIX pax, of which each tree has one archive.
    pub const PAX: &str = "pax-1";

    /// Files, folders and links in one archive at most: each costs its recipient more than its bytes.
    pub const MAX_ENTRIES: u64 = 1_000_000;

    fn read(value: &Value, size: u64) -> Option<Self> {
        let format =
            value.get("format")?.as_str().filter(|format| format.len() <= MAX_FORMAT_LEN)?.to_owned();
        let (entries, bytes) = (whole_number(value.get("entries")?)?, whole_number(value.get("bytes")?)?);
        let least = entries.checked_mul(MIN_ENTRY_LEN)?.checked_add(bytes)?;
        ((1..=Self::MAX_ENTRIES).contains(&entries) && least <= size).then_some(Self {
            format,
            entries,
            bytes,
        })
    }

    fn to_value(&self) -> Value {
        json!({ "format": self.format, "entries": self.entries, "bytes": self.bytes })
    }
}

/// The moment after which an offer is left alone, read from a payload whose other fields may be anything;
/// `None` where it names none, or none that can be read.
pub fn expires_at(payload: &Value) -> Option<OffsetDateTime> {
    expiry_field(payload.as_object()?).ok().flatten().map(|expiry| expiry.at)
}

/// Whom an offer is for, read from a payload whose other fields may be anything; `None` where it is for
/// whoever claims it.
pub fn recipient_id(payload: &Value) -> Option<String> {
    id_field(payload.as_object()?, RECIPIENT_ID, "recipient id").ok().flatten()
}

/// The size of the file, bytes, read from a payload whose other fields may be anything; `None` where it names
/// none.
pub fn size(payload: &Value) -> Option<u64> {
    whole_number(find(payload.as_object()?, SIZE)?)
}

/// The topic that the peers of a transfer meet under where one of them is an original: SHA-256 over the
/// prefix and the transfer's id. The original leaves the derivation unsaid; this is the one place that
/// settles it.
pub fn topic(prefix: &str, transfer_id: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(prefix.as_bytes());
    hasher.update(transfer_id.as_bytes());
    hasher.finalize().into()
}

/// Whether `text` is a SHA-256 in the form that offers carry: 64 lower-case hex digits.
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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

fn expiry_field(fields: &Map<String, Value>) -> Result<Option<Expiry>, InvalidOffer> {
    let read = |value: &Value| value.as_str().and_then(Expiry::parse);
    let malformed = InvalidOffer::Malformed("expiry", "a time in RFC 3339");
    find(fields, EXPIRES_AT).map(|value| read(value).ok_or(malformed)).transpose()
}

/// The first name of a field that is not ours.
fn alias(fields: &Map<String, Value>) -> Option<&'static str> {
    NAMES.iter().flat_map(|names| &names[1..]).copied().find(|alias| fields.contains_key(*alias))
}

fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().filter(|size| *size <= MAX_SAFE_INTEGER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::metadata::MAX_METADATA_LEN;
    use crate::p2p::{Features, Nodes};

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
            expires_at: Expiry::new(OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()),
            attributes: Attributes::default(),
            p2p: Some(P2p {
                key: [7; 32],
                nodes: Nodes::from_iter(["127.0.0.1:49737".parse().unwrap()]),
                instance: [1; 16],
                seq: 1_700_000_000_000,
                features: Features::ours(true),
                service: None,
                tunnel: None,
                proof: None,
                handover: Vec::new(),
            }),
            flaw: None,
        }
    }

    fn attributes() -> Attributes {
        let metadata = Metadata::parse(r#"{"a":1}"#);
        Attributes { mode: Some(0o640), mtime: Some(-1), metadata, tree: None }
    }

    fn of_tree() -> Offer {
        let tree = Tree { format: Tree::PAX.into(), entries: 2, bytes: 76 };
        Offer { size: 1100, attributes: Attributes { tree: Some(tree), ..Attributes::default() }, ..offer() }
    }

    #[test]
    fn a_payload_reads_back_as_the_offer_that_wrote_it() {
        for offer in [
            offer(),
            Offer { attributes: attributes(), ..offer() },
            of_tree(),
            Offer { p2p: None, expires_at: None, recipient_id: None, ..offer() },
        ] {
            assert_eq!(Offer::from_payload(&offer.to_payload()), Ok(offer));
        }
    }

    #[test]
    fn an_offer_of_ours_names_each_field_once() {
        for alias in NAMES.iter().flat_map(|names| &names[1..]) {
            let mut payload = offer().to_payload();
            payload[*alias] = Value::Null;
            let read = Offer::from_payload(&payload).unwrap();
            assert_eq!((read.flaw, read.p2p), (Some(Flaw::Alias(alias)), None), "{alias}");
            payload.as_object_mut().unwrap().remove("p2p");
            assert_eq!(Offer::from_payload(&payload).unwrap().flaw, None, "an original's may");
        }
    }

    #[test]
    fn a_p2p_that_can_not_be_read_makes_no_original() {
        for p2p in [json!({}), json!("p2p"), json!(false), json!({ "version": 1 })] {
            let mut payload = offer().to_payload();
            payload["p2p"] = p2p;
            let read = Offer::from_payload(&payload).unwrap();
            assert_eq!((read.flaw, read.p2p), (Some(Flaw::Unreadable), None));
        }
    }

    #[test]
    fn an_expiry_keeps_the_text_that_it_was_read_from() {
        let text = "2023-11-14T23:13:20.0+01:00";
        let mut payload = offer().to_payload();
        payload["expires_at"] = json!(text);
        let read = Offer::from_payload(&payload).unwrap();
        let expiry = read.expires_at.as_ref().unwrap();
        assert_eq!((expiry.as_str(), expiry.at()), (text, offer().expires_at.unwrap().at()));
        assert_eq!(read.to_payload(), payload);
    }

    #[test]
    fn attributes_that_are_none_are_refused_from_peers_of_ours_alone() {
        for (name, wrong) in [
            ("mode", json!(512)),
            ("mode", json!(-1)),
            ("mode", json!("0640")),
            ("mtime", json!(1.5)),
            ("mtime", json!(1u64 << 53)),
            ("metadata", json!({})),
            ("metadata", json!("no JSON")),
            ("metadata", json!("0".repeat(MAX_METADATA_LEN + 1))),
            ("tree", json!("pax-1")),
            ("tree", json!({ "format": "pax-1", "entries": 0, "bytes": 0 })),
            ("tree", json!({ "format": "pax-1", "entries": 1, "bytes": 0 })),
            ("tree", json!({ "format": "x".repeat(33), "entries": 0, "bytes": 0 })),
        ] {
            let mut payload = offer().to_payload();
            payload[name] = wrong.clone();
            assert!(Offer::from_payload(&payload).is_err(), "{name}: {wrong}");
            payload.as_object_mut().unwrap().remove("p2p");
            let read = Offer::from_payload(&payload).unwrap();
            assert_eq!(read.attributes, Attributes::default(), "{name}: {wrong}");
        }
    }

    #[test]
    fn a_folder_of_more_entries_than_a_sender_of_ours_has_is_refused() {
        for (entries, is_taken) in [(Tree::MAX_ENTRIES, true), (Tree::MAX_ENTRIES + 1, false)] {
            let mut payload = of_tree().to_payload();
            payload["size"] = json!(1_u64 << 40);
            payload["tree"]["entries"] = json!(entries);
            assert_eq!(Offer::from_payload(&payload).is_ok(), is_taken, "{entries}");
        }
    }

    #[test]
    fn the_other_names_of_the_fields_name_the_same_things() {
        for payload in [
            json!({
                "transferId": "t", "fileName": "n", "fileSize": 1, "fileHash": HASH,
                "senderId": "s", "recipientId": "r",
            }),
            json!({
                "transfer_id": "t", "file_name": "n", "file_size": 1, "file_hash": HASH,
                "sender_id": "s", "recipient_id": "r",
            }),
            json!({
                "transfer_id": "t", "name": "n", "size": 1, "sha256": HASH,
                "sender_id": "s", "recipient_id": "r",
            }),
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
    fn an_expiry_is_read_from_whatever_holds_it() {
        let at = offer().expires_at.map(|expiry| expiry.at());
        assert_eq!(expires_at(&offer().to_payload()), at);
        assert_eq!(expires_at(&json!({ "expiresAt": "2023-11-14T22:13:20Z" })), at);
        for payload in [json!({}), json!(null), json!({ "expires_at": "soon" }), json!({ "expires_at": 1 })] {
            assert_eq!(expires_at(&payload), None, "{payload}");
        }
    }

    #[test]
    fn a_size_is_read_from_whatever_holds_it() {
        for payload in
            [offer().to_payload(), json!({ "fileSize": 42 }), json!({ "file_size": 42, "hash": 1 })]
        {
            assert_eq!(size(&payload), Some(42), "{payload}");
        }
        for payload in [json!({}), json!(null), json!({ "size": "42" }), json!({ "size": -1 })] {
            assert_eq!(size(&payload), None, "{payload}");
        }
    }

    #[test]
    fn the_topic_is_the_hash_of_the_id_behind_the_prefix() {
        assert_eq!(
            hex::encode(topic("", "abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(topic("ab", "c"), topic("", "abc"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = Offer::from_payload(&value);
            }
        }
    }
}
