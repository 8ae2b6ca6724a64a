//! How an actor takes a new identity: the old one says that the new one stands in its place.

use serde_json::{Value, json};

use crate::identity::{IdentityKey, Proof};

/// What such a statement begins with, so that no signature over something else is taken for one. An identity
/// belongs to one actor in one scope, so the statement need not name them.
const DOMAIN: &[u8] = b"ats-p2p/handover/1:";

/// Handovers in one `p2p` object: those of an actor that took a new identity again and again.
const MAX_HANDOVERS: usize = 4;

/// The word of an old identity for the one that takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover(Proof);

impl Handover {
    /// `from` says that `to` takes its place.
    pub fn sign(from: &IdentityKey, to: &[u8; 32]) -> Self {
        Self(from.sign(&statement(to)))
    }

    /// Whether it is the word of `from` that `to` takes its place.
    pub fn is_of(&self, from: &[u8; 32], to: &[u8; 32]) -> bool {
        self.0.identity == *from && self.0.is_of(&statement(to))
    }

    /// Those of a `p2p` object. What can't be read says nothing.
    pub(crate) fn read(value: Option<&Value>) -> Vec<Self> {
        let bytes = |entry: &Value, name: &str| hex::decode(entry.get(name)?.as_str()?).ok();
        let handover = |entry: &Value| {
            let identity = bytes(entry, "from")?.try_into().ok()?;
            let signature = bytes(entry, "signature")?.try_into().ok()?;
            Some(Self(Proof { identity, signature }))
        };
        let entries = value.and_then(Value::as_array).into_iter().flatten();
        entries.take(MAX_HANDOVERS).filter_map(handover).collect()
    }

    pub(crate) fn to_value(self) -> Value {
        json!({ "from": hex::encode(self.0.identity), "signature": hex::encode(self.0.signature) })
    }
}

fn statement(to: &[u8; 32]) -> Vec<u8> {
    [DOMAIN, to].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_identity_names_the_new_one_and_no_other() {
        let [old, new, other] = [1, 2, 3].map(|seed| IdentityKey::from_seed(&[seed; 32]));
        let handover = Handover::sign(&old, &new.public_key());
        assert!(handover.is_of(&old.public_key(), &new.public_key()));
        assert!(!handover.is_of(&old.public_key(), &other.public_key()));
        assert!(!handover.is_of(&other.public_key(), &new.public_key()));
        assert!(!Handover::sign(&other, &new.public_key()).is_of(&old.public_key(), &new.public_key()));
        let elsewhere = Handover(old.sign(&new.public_key()));
        assert!(!elsewhere.is_of(&old.public_key(), &new.public_key()), "a signature over the key alone");
    }

    #[test]
    fn what_can_not_be_read_says_nothing_and_a_flood_is_cut() {
        let old = IdentityKey::from_seed(&[1; 32]);
        let handover = Handover::sign(&old, &[2; 32]);
        let value = handover.to_value();
        let mut short = value.clone();
        short["signature"] = json!("00");
        let list = json!([null, 7, {}, short, value]);
        assert_eq!(Handover::read(Some(&list)), []);
        assert_eq!(Handover::read(Some(&json!([7, value]))), [handover]);
        assert_eq!(Handover::read(Some(&json!(vec![value; 1000]))).len(), MAX_HANDOVERS);
        assert_eq!(Handover::read(Some(&json!("x"))), []);
        assert_eq!(Handover::read(None), []);
    }
}
