//! Who is at the other end: what peers say of themselves, and what others say in their name.

use ats_p2p::ats::Status;
use ats_p2p::error::Code;
use secret_stream::KeyPair;
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::peer::{offer_payload, p2p, post, until};

/// An offer by `a` to `b`, as a peer of ours without an identity makes it.
fn from_ours() -> Value {
    let mut payload = offer_payload(&uuid::Uuid::new_v4().to_string(), "f", b"content", "a", Some("b"));
    payload["p2p"] = p2p(&KeyPair::generate(), 1);
    payload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_with_keys_that_can_be_read_in_two_ways_or_in_none_is_refused() {
    let lab = Lab::new().await;
    let (a, b) = (lab.client("a"), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    for (name, value) in [
        ("p2p", json!({})),
        ("p2p", json!("none")),
        ("file_name", json!("g")),
        ("fileHash", json!("0".repeat(64))),
        ("senderId", json!("c")),
    ] {
        let mut payload = from_ours();
        payload[name] = value.clone();
        let task = post(&a, payload).await;
        assert_eq!(b.failure().await, Code::Identity, "{name}: {value}");
        until(&a, &task.id, Status::Rejected).await;
    }
    assert!(lab.listing("in").is_empty());
    lab.close([b]).await;
}
