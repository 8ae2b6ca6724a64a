//! Any text as the JSON of an offer and of a message about one: panics where something is wrong. Fuzzing
//! runs it.

use protocol::completion::Completion;
use protocol::identity::IdentityKey;
use protocol::offer::{Offer, expires_at};
use protocol::p2p::{P2p, Said};
use protocol::scope::Scope;
use protocol::statement::{Role, Statement};
use protocol::text::{characters, display, one_line};
use serde_json::Value;

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for shown in [display(&text), one_line(&text, 100)] {
        assert!(characters(&shown).all(|(_, is_hidden)| !is_hidden), "{shown:?}");
    }
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok(offer) = Offer::from_payload(&value) {
        // What is wrong with an offer is never written.
        let offer = Offer { flaw: None, ..offer };
        let again = Offer::from_payload(&offer.to_payload());
        assert_eq!(again.as_ref(), Ok(&offer), "what was written is read");
        check_statements(&offer);
        let _ = Completion::from_output(&value, &offer);
    }
    if let Some(p2p) = P2p::from_value(&value) {
        assert_eq!(P2p::from_value(&p2p.to_value()), Some(p2p), "what was written is read");
    }
    let _ = Said::from_message(&value, "t");
    let _ = expires_at(&value);
}

/// What a sender says of itself is what it signs.
fn check_statements(offer: &Offer) {
    let Some(p2p) = &offer.p2p else { return };
    let scope = Scope::new("http://localhost", "o", "p");
    let statement = Statement { scope: &scope, role: Role::Sender, task_id: "", offer };
    let signed = statement.sign(p2p.clone(), &IdentityKey::from_seed(&[1; 32]));
    assert!(statement.is_signed(&signed), "what was signed holds");
    let later = P2p { seq: signed.seq ^ 1, ..signed };
    assert!(!statement.is_signed(&later), "what was changed does not");
}
