//! What a receiver completes the task with: that it has the file, and by whose word.

use serde_json::{Value, json};

use crate::identity::IdentityKey;
use crate::offer::Offer;
use crate::p2p::P2p;
use crate::scope::Scope;
use crate::statement::{Role, Statement};

/// That a file has arrived, whole and verified, at a peer of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// How long the transfer took, milliseconds.
    pub duration_ms: u64,
    /// When it ended, Unix milliseconds.
    pub completed_at: u64,
    /// The connection that it came by.
    pub p2p: P2p,
}

impl Completion {
    /// Reads what an output of a completed task says of the file of this offer; `None` if that is not that
    /// it arrived, or nothing that a peer of ours would say.
    pub fn from_output(output: &Value, offer: &Offer) -> Option<Self> {
        let says = |name: &str, value: Value| output.get(name) == Some(&value);
        let is_about_it = says("transfer_id", json!(offer.transfer_id))
            && says("verified", json!(true))
            && says("hash", json!(offer.hash))
            && says("size", json!(offer.size));
        if !is_about_it {
            return None;
        }
        let number = |name: &str| output.get(name).and_then(Value::as_u64);
        Some(Self {
            duration_ms: number("duration_ms")?,
            completed_at: number("completed_at").unwrap_or_default(),
            p2p: P2p::from_value(output.get("p2p")?)?,
        })
    }

    /// The output as it stands in the task.
    pub fn to_output(&self, offer: &Offer, receiver_id: &str) -> Value {
        json!({
            "transfer_id": offer.transfer_id,
            "verified": true,
            "hash": offer.hash,
            "size": offer.size,
            "receiver_id": receiver_id,
            "duration_ms": self.duration_ms,
            "completed_at": self.completed_at,
            "p2p": self.p2p.to_value(),
        })
    }

    /// The same, signed by the receiver.
    pub fn sign(self, scope: &Scope, task_id: &str, offer: &Offer, key: &IdentityKey) -> Self {
        let p2p = self.statement(scope, task_id, offer).sign(self.p2p.clone(), key);
        Self { p2p, ..self }
    }

    /// Whether it is signed, and the signature is right for this offer in this task.
    pub fn is_signed(&self, scope: &Scope, task_id: &str, offer: &Offer) -> bool {
        self.statement(scope, task_id, offer).is_signed(&self.p2p)
    }

    fn statement<'a>(&self, scope: &'a Scope, task_id: &'a str, offer: &'a Offer) -> Statement<'a> {
        let role = Role::Done { duration_ms: self.duration_ms, completed_at: self.completed_at };
        Statement { scope, role, task_id, offer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        let payload = json!({
            "transfer_id": "t", "filename": "f", "size": 42, "hash": "ab".repeat(32), "sender_id": "a",
        });
        Offer::from_payload(&payload).unwrap()
    }

    fn completion() -> Completion {
        let p2p = json!({
            "version": 2, "key": "07".repeat(32), "instance": "01".repeat(16), "seq": 5,
        });
        Completion { duration_ms: 7, completed_at: 9, p2p: P2p::from_value(&p2p).unwrap() }
    }

    #[test]
    fn an_output_reads_back_as_what_wrote_it() {
        let output = completion().to_output(&offer(), "b");
        assert_eq!(Completion::from_output(&output, &offer()), Some(completion()));
        assert_eq!(output["receiver_id"], "b");
    }

    #[test]
    fn an_output_about_another_file_says_nothing() {
        for (name, other) in [
            ("transfer_id", json!("u")),
            ("verified", json!(false)),
            ("hash", json!("ac".repeat(32))),
            ("size", json!(41)),
            ("duration_ms", json!("7")),
            ("p2p", json!({})),
            ("p2p", json!(null)),
        ] {
            let mut output = completion().to_output(&offer(), "b");
            output[name] = other.clone();
            assert_eq!(Completion::from_output(&output, &offer()), None, "{name}: {other}");
        }
        for output in [json!(null), json!("done"), json!([])] {
            assert_eq!(Completion::from_output(&output, &offer()), None);
        }
    }

    #[test]
    fn a_signed_completion_holds_for_its_own_task_and_times() {
        let scope = Scope::new("http://localhost:8787", "o", "p");
        let key = IdentityKey::from_seed(&[9; 32]);
        let signed = completion().sign(&scope, "17", &offer(), &key);
        assert!(signed.is_signed(&scope, "17", &offer()));
        assert!(!signed.is_signed(&scope, "18", &offer()));
        assert!(!signed.is_signed(&scope, "17", &Offer { size: 43, ..offer() }));
        assert!(!Completion { duration_ms: 8, ..signed.clone() }.is_signed(&scope, "17", &offer()));
        assert!(!Completion { completed_at: 8, ..signed.clone() }.is_signed(&scope, "17", &offer()));
        assert!(!completion().is_signed(&scope, "17", &offer()));
        let output = signed.to_output(&offer(), "b");
        assert_eq!(Completion::from_output(&output, &offer()), Some(signed));
    }
}
