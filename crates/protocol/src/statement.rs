//! What a peer signs of a transfer: who gives which file to whom, in which task of which service, and by
//! which connection. A word of it that somebody else changes makes the signature wrong.

use sha2::{Digest as _, Sha256};

use crate::identity::IdentityKey;
use crate::offer::{Attributes, Expiry, Offer, Tree};
use crate::p2p::P2p;
use crate::scope::Scope;

/// What these statements are, so that no signature over something else is taken for one.
const DOMAIN: &str = "ats-p2p/2";

/// In which part a peer makes a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It offers the file.
    Sender,
    /// It is about to claim the offer.
    Receiver,
    /// It has the file, whole and verified.
    Done {
        /// How long the transfer took, milliseconds.
        duration_ms: u64,
        /// When it ended, Unix milliseconds.
        completed_at: u64,
    },
}

/// What a peer says of a transfer, in one of its parts.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// Where the task is. An object that names its service goes by that name of it.
    pub scope: &'a Scope,
    /// In which part.
    pub role: Role,
    /// The task's id as text; empty in the offer, which has none when it is signed.
    pub task_id: &'a str,
    /// What is offered. Its own `p2p` is the sender's, and no part of what others say.
    pub offer: &'a Offer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
            Self::Done { .. } => "done",
        }
    }
}

impl Statement<'_> {
    /// The bytes that are signed for a peer that is reached by `p2p`: each value behind its length, a
    /// big-endian u32, as UTF-8 and exactly as it stands in the task. Behind those that are always there come
    /// the address of a tunnel and what a tree holds, each where it is named; how many values there are tells
    /// which.
    pub fn to_bytes(&self, p2p: &P2p) -> Vec<u8> {
        let Self { scope, role, task_id, offer } = self;
        let Attributes { mode, mtime, metadata, tree } = &offer.attributes;
        let mut bytes = Vec::with_capacity(1024);
        for value in [
            DOMAIN,
            p2p.service.as_deref().unwrap_or(scope.url()),
            role.name(),
            scope.organization(),
            scope.project(),
            task_id,
            &offer.transfer_id,
            &offer.name,
            &offer.hash,
            &offer.size.to_string(),
            &mode.map(|mode| mode.to_string()).unwrap_or_default(),
            &mtime.map(|mtime| mtime.to_string()).unwrap_or_default(),
            &metadata.as_ref().map(|said| hex::encode(Sha256::digest(said.as_str()))).unwrap_or_default(),
            &offer.sender_id,
            offer.recipient_id.as_deref().unwrap_or_default(),
            offer.expires_at.as_ref().map(Expiry::as_str).unwrap_or_default(),
            &hex::encode(p2p.key),
            &hex::encode(p2p.instance),
            &p2p.seq.to_string(),
            &p2p.nodes.as_texts().join(","),
            &p2p.features.names().join(","),
        ] {
            append(&mut bytes, value.as_bytes());
        }
        if let Some(tunnel) = &p2p.tunnel {
            append(&mut bytes, tunnel.as_bytes());
        }
        if let Some(Tree { format, entries, bytes: content }) = tree {
            for value in [format, &entries.to_string(), &content.to_string()] {
                append(&mut bytes, value.as_bytes());
            }
        }
        if let Role::Done { duration_ms, completed_at } = role {
            append(&mut bytes, duration_ms.to_string().as_bytes());
            append(&mut bytes, completed_at.to_string().as_bytes());
        }
        bytes
    }

    /// The same object, signed.
    pub fn sign(&self, p2p: P2p, key: &IdentityKey) -> P2p {
        let p2p = P2p { service: Some(self.scope.url().to_owned()), ..p2p };
        P2p { proof: Some(Box::new(key.sign(&self.to_bytes(&p2p)))), ..p2p }
    }

    /// Whether an object is signed, and the signature is right.
    pub fn is_signed(&self, p2p: &P2p) -> bool {
        p2p.proof.as_ref().is_some_and(|proof| proof.is_of(&self.to_bytes(p2p)))
    }
}

/// Adds a value behind its length.
pub(crate) fn append(bytes: &mut Vec<u8>, value: &[u8]) {
    // All values are bounded far below 4 GiB where they are read.
    bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const DONE: Role = Role::Done { duration_ms: 1500, completed_at: 1_700_000_001_500 };

    fn scope() -> Scope {
        Scope::new("http://127.0.0.1:8787/", "org", "proj")
    }

    fn payload() -> Value {
        json!({
            "transfer_id": "t", "filename": "ü.csv", "size": 42, "hash": "ab".repeat(32),
            "mode": 420, "mtime": 1_600_000_000_000u64, "metadata": "{}",
            "sender_id": "a", "recipient_id": "b", "expires_at": "2023-11-14T22:13:20Z",
            "p2p": {
                "version": 2, "key": "07".repeat(32), "nodes": ["127.0.0.1:49737", "odd"],
                "instance": "01".repeat(16), "seq": 5, "features": ["reuse", "later"],
            },
        })
    }

    fn offer() -> Offer {
        Offer::from_payload(&payload()).unwrap()
    }

    fn key() -> IdentityKey {
        IdentityKey::from_seed(&[9; 32])
    }

    /// Values as a statement holds them.
    fn literal(values: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend([0, 0, 0, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value.bytes());
        }
        bytes
    }

    #[test]
    fn the_bytes_are_each_value_behind_its_length() {
        let (scope, offer) = (scope(), offer());
        let (hash, key, instance) = ("ab".repeat(32), "07".repeat(32), "01".repeat(16));
        let of_empty_object = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let values = |role, task| {
            [
                "ats-p2p/2",
                "http://localhost:8787",
                role,
                "org",
                "proj",
                task,
                "t",
                "ü.csv",
                &hash,
                "42",
                "420",
                "1600000000000",
                of_empty_object,
                "a",
                "b",
                "2023-11-14T22:13:20Z",
                &key,
                &instance,
                "5",
                "127.0.0.1:49737,odd",
                "reuse,later",
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let p2p = offer.p2p.clone().unwrap();
        let bytes = |role, task_id| Statement { scope: &scope, role, task_id, offer: &offer }.to_bytes(&p2p);
        let expected = |values: Vec<String>| literal(&values.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(bytes(Role::Sender, ""), expected(values("sender", "")));
        assert_eq!(bytes(Role::Receiver, "17"), expected(values("receiver", "17")));
        let tunnelled = P2p { tunnel: Some("wss://hub".into()), ..p2p.clone() };
        let bytes_of = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &offer };
        let mut with_tunnel = values("sender", "");
        with_tunnel.push("wss://hub".to_owned());
        assert_eq!(bytes_of.to_bytes(&tunnelled), expected(with_tunnel));
        let tree = Some(Tree { format: "pax-1".into(), entries: 2, bytes: 7 });
        let of_tree = Offer { attributes: Attributes { tree, ..offer.attributes.clone() }, ..offer.clone() };
        let bytes_of = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &of_tree };
        let mut with_tree = values("sender", "");
        with_tree.push("wss://hub".to_owned());
        with_tree.extend(["pax-1", "2", "7"].map(str::to_owned));
        assert_eq!(bytes_of.to_bytes(&tunnelled), expected(with_tree));
        let mut done = values("done", "17");
        done.extend(["1500", "1700000001500"].map(str::to_owned));
        assert_eq!(bytes(DONE, "17"), expected(done));
    }

    #[test]
    fn what_is_absent_is_empty() {
        let scope = scope();
        let mut payload = payload();
        for name in ["mode", "mtime", "metadata", "recipient_id", "expires_at"] {
            payload.as_object_mut().unwrap().remove(name);
        }
        payload["p2p"]["nodes"] = json!([]);
        payload["p2p"]["features"] = json!([]);
        let offer = Offer::from_payload(&payload).unwrap();
        let statement = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &offer };
        let bytes = statement.to_bytes(offer.p2p.as_ref().unwrap());
        let (hash, key, instance) = ("ab".repeat(32), "07".repeat(32), "01".repeat(16));
        let expected = [
            "ats-p2p/2",
            "http://localhost:8787",
            "sender",
            "org",
            "proj",
            "",
            "t",
            "ü.csv",
            &hash,
            "42",
            "",
            "",
            "",
            "a",
            "",
            "",
            &key,
            &instance,
            "5",
            "",
            "",
        ];
        assert_eq!(bytes, literal(&expected));
    }

    #[test]
    fn a_signature_holds_for_the_payload_that_it_was_made_for_and_no_other() {
        let (scope, offer) = (scope(), offer());
        let statement = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &offer };
        let tunnel = Some("wss://hub.example".to_owned());
        let unsigned = P2p { tunnel, ..offer.p2p.clone().unwrap() };
        assert!(!statement.is_signed(&unsigned));
        let p2p = statement.sign(unsigned, &key());
        assert!(statement.is_signed(&p2p));
        let payload = Offer { p2p: Some(p2p), ..offer.clone() }.to_payload();
        let holds = |payload: &Value| {
            let offer = Offer::from_payload(payload).unwrap();
            let (p2p, elsewhere) = (offer.p2p.clone(), Scope::new("http://hub", "org", "proj"));
            p2p.is_some_and(|p2p| Statement { offer: &offer, scope: &elsewhere, ..statement }.is_signed(&p2p))
        };
        assert!(holds(&payload));
        for (at, other) in [
            ("/transfer_id", json!("u")),
            ("/filename", json!("u\u{308}.csv")),
            ("/size", json!(43)),
            ("/hash", json!("ac".repeat(32))),
            ("/mode", json!(421)),
            ("/mtime", json!(1)),
            ("/metadata", json!("{ }")),
            ("/sender_id", json!("c")),
            ("/recipient_id", json!("c")),
            ("/recipient_id", json!(null)),
            ("/expires_at", json!("2023-11-14T22:13:20+00:00")),
            ("/expires_at", json!(null)),
            ("/p2p/key", json!("08".repeat(32))),
            ("/p2p/instance", json!("02".repeat(16))),
            ("/p2p/seq", json!(6)),
            ("/p2p/nodes", json!(["127.0.0.1:49737"])),
            ("/p2p/nodes/1", json!("other")),
            ("/p2p/features", json!(["later", "reuse"])),
            ("/p2p/features/1", json!("latest")),
            ("/p2p/tunnel", json!("wss://other.example")),
            ("/p2p/tunnel", json!(null)),
            ("/p2p/service", json!("http://localhost")),
            ("/p2p/service", json!(null)),
            ("/p2p/identity", json!("01".repeat(32))),
        ] {
            let mut changed = payload.clone();
            *changed.pointer_mut(at).unwrap() = other.clone();
            assert!(!holds(&changed), "{at}: {other}");
        }
    }

    #[test]
    fn a_signature_covers_what_a_tree_holds() {
        let scope = scope();
        let mut payload = payload();
        (payload["size"], payload["tree"]) =
            (json!(4096), json!({ "format": "pax-1", "entries": 2, "bytes": 7 }));
        let offer = Offer::from_payload(&payload).unwrap();
        let statement = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &offer };
        let p2p = statement.sign(offer.p2p.clone().unwrap(), &key());
        let payload = Offer { p2p: Some(p2p.clone()), ..offer.clone() }.to_payload();
        assert!(statement.is_signed(&p2p));
        for (at, other) in [
            ("/tree/format", json!("pax-2")),
            ("/tree/entries", json!(3)),
            ("/tree/bytes", json!(8)),
            ("/tree", json!(null)),
        ] {
            let mut changed = payload.clone();
            *changed.pointer_mut(at).unwrap() = other.clone();
            let offer = Offer::from_payload(&changed).unwrap();
            assert!(!Statement { offer: &offer, ..statement }.is_signed(&p2p), "{at}: {other}");
        }
    }

    #[test]
    fn a_signature_holds_in_its_place_and_part_alone() {
        let (scope, offer) = (scope(), offer());
        let statement = Statement { scope: &scope, role: DONE, task_id: "17", offer: &offer };
        let p2p = statement.sign(offer.p2p.clone().unwrap(), &key());
        assert!(statement.is_signed(&p2p));
        let renamed = Scope::new("http://hub.example", "org", "proj");
        assert!(Statement { scope: &renamed, ..statement }.is_signed(&p2p), "one service by another name");
        for service in [None, Some("http://hub.example".to_owned())] {
            let p2p = P2p { service, ..p2p.clone() };
            assert!(!Statement { scope: &renamed, ..statement }.is_signed(&p2p));
        }
        for scope in [
            Scope::new("http://localhost:8787", "orgp", "roj"),
            Scope::new("http://localhost:8787", "org", "prod"),
        ] {
            assert!(!Statement { scope: &scope, ..statement }.is_signed(&p2p), "{scope:?}");
        }
        for role in [
            Role::Sender,
            Role::Receiver,
            Role::Done { duration_ms: 1501, completed_at: 1_700_000_001_500 },
            Role::Done { duration_ms: 1500, completed_at: 1_700_000_001_501 },
        ] {
            assert!(!Statement { role, ..statement }.is_signed(&p2p), "{role:?}");
        }
        for task_id in ["", "18", "170"] {
            assert!(!Statement { task_id, ..statement }.is_signed(&p2p), "{task_id}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_anywhere_makes_it_wrong(at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let (scope, offer) = (scope(), offer());
            let statement = Statement { scope: &scope, role: Role::Receiver, task_id: "17", offer: &offer };
            let p2p = statement.sign(offer.p2p.clone().unwrap(), &key());
            let proof = p2p.proof.as_deref().unwrap();
            let mut bytes = statement.to_bytes(&p2p);
            prop_assert!(proof.is_of(&bytes));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(!proof.is_of(&bytes));
        }

        #[test]
        fn a_flipped_bit_of_the_proof_makes_it_wrong(at in 0..96usize, bit in 0..8u8) {
            let (scope, offer) = (scope(), offer());
            let statement = Statement { scope: &scope, role: Role::Receiver, task_id: "17", offer: &offer };
            let mut p2p = statement.sign(offer.p2p.clone().unwrap(), &key());
            let proof = p2p.proof.as_mut().unwrap();
            match at {
                0..32 => proof.identity[at] ^= 1 << bit,
                _ => proof.signature[at - 32] ^= 1 << bit,
            }
            prop_assert!(!statement.is_signed(&p2p));
        }

        #[test]
        fn two_lists_of_values_never_have_the_same_bytes(
            (a, b) in (prop::collection::vec(".{0,3}", 0..4), prop::collection::vec(".{0,3}", 0..4)),
        ) {
            let bytes = |values: &[String]| {
                let mut bytes = Vec::new();
                values.iter().for_each(|value| append(&mut bytes, value.as_bytes()));
                bytes
            };
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
        }
    }
}
