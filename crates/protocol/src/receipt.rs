//! The receipt of a transfer: the offer as its sender signed it, and the completion as its receiver did.
//! Whoever has it can show what was given to whom, and when, also where the task service has forgotten.

use serde_json::{Value, json};

use crate::completion::Completion;
use crate::offer::Offer;
use crate::scope::Scope;
use crate::statement::{Role, Statement};

/// The form of a receipt that is written here, and the only one that is read.
const VERSION: u64 = 1;

/// What both ends said of a transfer, unchecked.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// Where its task was.
    pub scope: Scope,
    /// The task's id as the service gave it: text or a number.
    pub task_id: Value,
    /// The task's payload.
    pub payload: Value,
    /// The task's outputs, or the one of them that says that the file arrived.
    pub outputs: Vec<Value>,
}

/// What both ends said, each with its signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    /// What was offered.
    pub offer: Offer,
    /// That it arrived.
    pub completion: Completion,
    /// Who signed the offer.
    pub sender: [u8; 32],
    /// Who signed the completion.
    pub receiver: [u8; 32],
    /// By whose name the receiver goes.
    pub receiver_id: String,
}

/// Why something is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flawed {
    /// One of the two is missing, or can't be read.
    #[error("{0} can't be read")]
    Unreadable(&'static str),
    /// One of the two bears no signature.
    #[error("{0} is not signed")]
    Unsigned(&'static str),
    /// One of the two is not what was signed.
    #[error("{0} is not what was signed")]
    Forged(&'static str),
}

const OFFER: &str = "the offer";
const COMPLETION: &str = "the completion";

impl Receipt {
    /// Reads a receipt as it stands in a file.
    ///
    /// # Errors
    /// [`Flawed::Unreadable`].
    pub fn from_value(value: &Value) -> Result<Self, Flawed> {
        let unreadable = Flawed::Unreadable("this");
        let text = |name: &str| value.get(name).and_then(Value::as_str).ok_or(unreadable);
        if value.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(unreadable);
        }
        Ok(Self {
            scope: Scope::new(text("url")?, text("organization")?, text("project")?),
            task_id: value.get("taskId").ok_or(unreadable)?.clone(),
            payload: value.get("offer").ok_or(unreadable)?.clone(),
            outputs: vec![value.get("completion").ok_or(unreadable)?.clone()],
        })
    }

    /// The receipt as it stands in a file, of a transfer whose offer is known to be what its sender signed:
    /// with the output that the receiver signed, whatever else stands there. `None` where one of the two is
    /// not signed.
    pub fn to_value(&self) -> Option<Value> {
        let offer = Offer::from_payload(&self.payload).ok()?;
        offer.p2p.as_ref()?.identity()?;
        let (output, _) = self.completion(&offer).ok()?;
        Some(json!({
            "version": VERSION,
            "url": self.scope.url(),
            "organization": self.scope.organization(),
            "project": self.scope.project(),
            "taskId": self.task_id,
            "offer": self.payload,
            "completion": output,
        }))
    }

    /// Checks both signatures. Whose they are is another question.
    ///
    /// # Errors
    /// What is wrong with it, the offer first.
    pub fn check(&self) -> Result<Signed, Flawed> {
        let offer = Offer::from_payload(&self.payload).map_err(|_| Flawed::Unreadable(OFFER))?;
        if offer.flaw.is_some() {
            return Err(Flawed::Unreadable(OFFER));
        }
        let p2p = offer.p2p.as_ref().ok_or(Flawed::Unsigned(OFFER))?;
        let sender = p2p.identity().ok_or(Flawed::Unsigned(OFFER))?;
        let statement = Statement { scope: &self.scope, role: Role::Sender, task_id: "", offer: &offer };
        if !statement.is_signed(p2p) {
            return Err(Flawed::Forged(OFFER));
        }
        let (output, completion) = self.completion(&offer)?;
        let receiver = completion.p2p.identity().ok_or(Flawed::Unsigned(COMPLETION))?;
        // An offer for whoever claims it names nobody; then the receiver's identity alone says who it is.
        let named = || output.get("receiver_id").and_then(Value::as_str).map(str::to_owned);
        let receiver_id = offer.recipient_id.clone().or_else(named).unwrap_or_default();
        Ok(Signed { sender, receiver, receiver_id, completion, offer })
    }

    /// The output that says that the file of this offer arrived, and what it says: of several the one that is
    /// signed.
    fn completion(&self, offer: &Offer) -> Result<(&Value, Completion), Flawed> {
        let mut flaw = Flawed::Unreadable(COMPLETION);
        for output in &self.outputs {
            let Some(completion) = Completion::from_output(output, offer) else { continue };
            if completion.is_signed(&self.scope, &self.task_id_text(), offer) {
                return Ok((output, completion));
            }
            flaw = match completion.p2p.identity() {
                Some(_) => Flawed::Forged(COMPLETION),
                None => Flawed::Unsigned(COMPLETION),
            };
        }
        Err(flaw)
    }

    fn task_id_text(&self) -> String {
        self.task_id.as_str().map_or_else(|| self.task_id.to_string(), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKey;
    use crate::p2p::P2p;

    fn p2p(key: u8) -> P2p {
        let value = json!({
            "version": 2, "key": hex::encode([key; 32]), "instance": hex::encode([key; 16]), "seq": key,
        });
        P2p::from_value(&value).unwrap()
    }

    fn keys() -> [IdentityKey; 2] {
        [1, 2].map(|seed| IdentityKey::from_seed(&[seed; 32]))
    }

    fn receipt() -> Receipt {
        let [sender, receiver] = keys();
        let scope = Scope::new("http://localhost:8787", "o", "p");
        let payload = json!({
            "transfer_id": "t", "filename": "f", "size": 42, "hash": "ab".repeat(32), "sender_id": "a",
            "recipient_id": "b", "p2p": p2p(3).to_value(),
        });
        let offer = Offer::from_payload(&payload).unwrap();
        let statement = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &offer };
        let offer = Offer { p2p: Some(statement.sign(p2p(3), &sender)), ..offer.clone() };
        let completion = Completion { duration_ms: 7, completed_at: 9, p2p: p2p(4) };
        let output = completion.sign(&scope, "17", &offer, &receiver).to_output(&offer, "b");
        let outputs = vec![json!("done"), output];
        Receipt { scope, task_id: json!(17), payload: offer.to_payload(), outputs }
    }

    #[test]
    fn a_receipt_names_both_ends_in_the_task_and_in_a_file() {
        let signed = receipt().check().unwrap();
        assert_eq!([signed.sender, signed.receiver], keys().map(|key| key.public_key()));
        assert_eq!((signed.receiver_id.as_str(), signed.completion.completed_at), ("b", 9));
        let kept = Receipt::from_value(&receipt().to_value().unwrap()).unwrap();
        assert_eq!(kept.check().unwrap(), signed);
        // Somebody else may have said something of the same file.
        let mut others = receipt();
        let mut unsigned = others.outputs[1].clone();
        unsigned["p2p"] = p2p(5).to_value();
        others.outputs.insert(0, unsigned);
        assert_eq!(Receipt::from_value(&others.to_value().unwrap()).unwrap().check().unwrap(), signed);
    }

    #[test]
    fn a_word_that_was_changed_is_noticed_whoever_changed_it() {
        for (at, other) in [
            ("/offer/filename", json!("g")),
            ("/offer/sender_id", json!("c")),
            ("/offer/recipient_id", json!("c")),
            ("/offer/p2p/seq", json!(4)),
            ("/completion/duration_ms", json!(8)),
            ("/completion/completed_at", json!(8)),
            ("/completion/p2p/key", json!("05".repeat(32))),
            ("/completion/p2p/identity", json!(hex::encode(keys()[0].public_key()))),
            ("/taskId", json!(18)),
            ("/taskId", json!("170")),
            ("/project", json!("q")),
        ] {
            let mut value = receipt().to_value().unwrap();
            *value.pointer_mut(at).unwrap() = other;
            let flawed = Receipt::from_value(&value).unwrap().check().unwrap_err();
            assert!(matches!(flawed, Flawed::Forged(_)), "{at}: {flawed:?}");
        }
    }

    #[test]
    fn what_nobody_signed_is_no_receipt() {
        let unsigned = |at: &str| {
            let mut value = receipt().to_value().unwrap();
            let p2p = value.pointer_mut(at).and_then(Value::as_object_mut).unwrap();
            p2p.retain(|name, _| name != "identity" && name != "signature");
            Receipt::from_value(&value).unwrap().check().unwrap_err()
        };
        assert_eq!(unsigned("/completion/p2p"), Flawed::Unsigned(COMPLETION));
        assert_eq!(unsigned("/offer/p2p"), Flawed::Unsigned(OFFER));
        let pending = Receipt { outputs: Vec::new(), ..receipt() };
        assert_eq!(pending.check(), Err(Flawed::Unreadable(COMPLETION)));
        assert_eq!(pending.to_value(), None);
        for value in [json!(null), json!({}), json!({ "version": 2 }), json!({ "version": 1, "url": 7 })] {
            assert_eq!(Receipt::from_value(&value), Err(Flawed::Unreadable("this")));
        }
    }
}
