//! Any text as the JSON of an offer and of a message about one: panics where something is wrong. Fuzzing
//! runs it.

use protocol::offer::{Offer, expires_at};
use protocol::p2p::{P2p, Said};
use protocol::text::{display, is_hidden, one_line};
use serde_json::Value;

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(!display(&text).contains(is_hidden) && !one_line(&text, 100).contains(is_hidden));
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok(offer) = Offer::from_payload(&value) {
        let again = Offer::from_payload(&offer.to_payload());
        assert_eq!(again, Ok(offer), "what was written is read");
    }
    if let Some(p2p) = P2p::from_value(&value) {
        assert_eq!(P2p::from_value(&p2p.to_value()), Some(p2p), "what was written is read");
    }
    let said = Said::from_message(&value, "t");
    assert_eq!(said.clone().and_then(said.clone()), said);
    let _ = expires_at(&value);
}
