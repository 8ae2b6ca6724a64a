//! Sending to receivers that lie, vanish or come from elsewhere.

use std::time::Duration;

use ats_p2p::ats::{Status, Task};
use ats_p2p::error::Code;
use ats_p2p::event::Phase;
use ats_p2p::wire::FrameType;
use protocol::identity::IdentityKey;
use protocol::statement::Role;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::identity::rewrite;
use crate::lab::{Lab, PATIENCE, content};
use crate::peer::{LEASE, Peer, Recipient, dial, look_for, met, offered, p2p, say, signed, try_dial, until};

const SECOND: Duration = Duration::from_secs(1);

async fn dial_until_admitted(b: &Recipient, task: &Task) -> Peer {
    let dial = async {
        loop {
            if let Some(peer) = try_dial(&b.dht, task, &b.keys).await {
                return peer;
            }
        }
    };
    timeout(PATIENCE, dial).await.expect("the key is admitted")
}

async fn complete(b: &Recipient, task: &Task, hash: &Value, keys: &KeyPair) {
    let output = json!({ "verified": true, "hash": hash, "p2p": p2p(keys, 1) });
    b.client.complete(&task.id, vec![output]).await.unwrap();
}

/// Has the service let everybody claim an offer, as one does that is laxer than a hub.
async fn open_to_all(lab: &Lab, task: &Task) {
    let mut payload = task.payload.clone();
    payload.as_object_mut().unwrap().remove("recipient_id");
    rewrite(lab, task, &payload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_by_another_ends_the_offer() {
    let lab = Lab::new().await;
    let (a, c) = (lab.agent("a", |_| {}), lab.client("c"));
    let sending = a.sending(lab.file("f", 10), "b");
    let task = offered(&a, &c).await;
    open_to_all(&lab, &task).await;
    c.claim(&task.id, LEASE).await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::WrongClaimant);
    assert_eq!(c.get(&task.id).await.unwrap().status, Status::Failed);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_by_another_than_the_recipient_is_no_success() {
    let lab = Lab::new().await;
    let (a, b, c) = (lab.agent("a", |_| {}), lab.client("b"), lab.client("c"));
    let sending = a.sending(lab.file("f", 10), "b");
    let task = offered(&a, &b).await;
    b.claim(&task.id, Duration::from_millis(200)).await.unwrap();
    until(&b, &task.id, Status::Pending).await;
    open_to_all(&lab, &task).await;
    c.claim(&task.id, LEASE).await.unwrap();
    let _ = c.complete(&task.id, vec![json!({ "hash": task.payload["hash"] })]).await;
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::WrongClaimant);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_dials_again_is_served_anew() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 100_000), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    // The first connection hangs and is never closed.
    let mut hanging = dial(&b.dht, &task, &b.keys).await;
    hanging.take_until(FrameType::Meta).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    let (file, _) = peer.take_until(FrameType::Done).await;
    assert_eq!(file, content(100_000));
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    assert_eq!(a.seen(), ["transfer_start", "transfer_complete"]);
    use Phase::{Connecting, Hashing, Transferring, Verifying, Waiting};
    let phases = a.phases();
    assert!(phases.starts_with(&[Hashing, Waiting, Connecting, Transferring]), "{phases:?}");
    // All may have been sent before, and nobody said that it had arrived.
    assert!(phases[4..].ends_with(&[Connecting, Transferring, Verifying]), "{phases:?}");
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_was_killed_and_started_again_is_served_by_its_new_key() {
    let lab = Lab::new().await;
    let (a, mut b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 50_000_000), "b");
    let task = offered(&a, &b.client).await;
    let identity = IdentityKey::from_seed(&[1; 32]);
    let said = |keys: &KeyPair, seq| signed(&lab, p2p(keys, seq), Role::Receiver, &task, &identity);
    b.take(&task, said(&b.keys, 1)).await;
    // Nothing tells the sender that nobody is there any more.
    let mut hanging = dial(&b.dht, &task, &b.keys).await;
    hanging.take_until(FrameType::Meta).await;
    b.keys = KeyPair::generate();
    say(&b.client, &task, said(&b.keys, 2)).await;
    let mut peer = dial_until_admitted(&b, &task).await;
    assert_eq!(peer.take_until(FrameType::Done).await.0.len(), 50_000_000);
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_ack_is_made_up_for_by_the_completed_task() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    for is_connected in [false, true] {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &b.client).await;
        b.take(&task, p2p(&b.keys, 1)).await;
        let mut peer = dial(&b.dht, &task, &b.keys).await;
        peer.take_until(FrameType::Done).await;
        let kept = is_connected.then_some(peer);
        complete(&b, &task, &task.payload["hash"], &b.keys).await;
        sending.await.unwrap().unwrap();
        drop(kept);
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_with_another_key_or_hash_is_no_success() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let other = KeyPair::generate();
    for (keys, hash, code) in
        [(&other, None, Code::Identity), (&b.keys, Some(json!("0".repeat(64))), Code::Integrity)]
    {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &b.client).await;
        b.take(&task, p2p(&b.keys, 1)).await;
        complete(&b, &task, hash.as_ref().unwrap_or(&task.payload["hash"]), keys).await;
        assert_eq!(sending.await.unwrap().unwrap_err().code, code);
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_that_does_not_name_the_hash_is_no_success() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    for is_ours in [true, false] {
        for outputs in [vec![], vec![json!({ "verified": true, "p2p": p2p(&b.keys, 1) })]] {
            let sending = a.sending(lab.file("f", 10), "b");
            let task = offered(&a, &b.client).await;
            if is_ours {
                say(&b.client, &task, p2p(&b.keys, 1)).await;
            }
            b.client.claim(&task.id, LEASE).await.unwrap();
            b.client.complete(&task.id, outputs.clone()).await.unwrap();
            let error = sending.await.unwrap().unwrap_err();
            let expected = if is_ours && outputs.is_empty() { Code::Identity } else { Code::Integrity };
            assert_eq!(error.code, expected, "{error}");
        }
    }
    assert!(!a.seen().contains(&"transfer_complete"));
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_ack_is_a_broken_protocol() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 50_000_000), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.take_until(FrameType::Meta).await;
    peer.say(FrameType::Ack, b"").await;
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Protocol);
    assert_eq!(b.client.get(&task.id).await.unwrap().status, Status::Failed);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stops_reading_stalls_the_transfer() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = SECOND), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 50_000_000), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.take_until(FrameType::Meta).await;
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Stalled);
    assert_eq!(b.client.get(&task.id).await.unwrap().status, Status::Failed);
    assert_eq!(a.seen(), ["transfer_start", "transfer_failed"]);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claimant_that_never_comes_is_unreachable() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = SECOND), Recipient::new(&lab).await);
    for is_original in [false, true] {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &b.client).await;
        if is_original {
            b.client.claim(&task.id, LEASE).await.unwrap();
        } else {
            b.take(&task, p2p(&b.keys, 1)).await;
        }
        assert_eq!(sending.await.unwrap().unwrap_err().code, Code::PeerUnreachable);
        assert_eq!(b.client.get(&task.id).await.unwrap().status, Status::Failed);
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_says_why_on_the_task_is_understood() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    for code in [Code::PeerUnreachable, Code::Stalled, Code::Integrity, Code::DiskFull] {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &b.client).await;
        b.take(&task, p2p(&b.keys, 1)).await;
        b.client.fail(&task.id, code.public_reason()).await.unwrap();
        let expected = if code == Code::DiskFull { Code::RemoteError } else { code };
        assert_eq!(sending.await.unwrap().unwrap_err().code, expected);
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_key_gets_nothing_and_hinders_nobody() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let stranger = lab.dht().await;
    let sending = a.sending(lab.file("f", 1000), "b");
    let task = offered(&a, &b.client).await;
    let keys = KeyPair::generate();
    let knocking = {
        let task = task.clone();
        tokio::spawn(async move { dial(&stranger, &task, &keys).await })
    };
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    assert_eq!(peer.take_until(FrameType::Done).await.0.len(), 1000);
    assert!(!knocking.is_finished(), "a stranger was let in");
    knocking.abort();
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_may_overtake_the_claim() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 1000), "b");
    let task = offered(&a, &b.client).await;
    let dialling = {
        let (dht, task, keys) = (b.dht.clone(), task.clone(), b.keys.clone());
        tokio::spawn(async move { dial(&dht, &task, &keys).await })
    };
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dialling.await.unwrap();
    peer.take_until(FrameType::Done).await;
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_anothers_name_says_nothing_of_the_recipient() {
    let lab = Lab::new().await;
    let (a, b, c) = (lab.agent("a", |_| {}), Recipient::new(&lab).await, lab.client("c"));
    let sending = a.sending(lab.file("f", 1000), "b");
    let task = offered(&a, &b.client).await;
    say(&c, &task, p2p(&KeyPair::generate(), u64::MAX)).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.take_until(FrameType::Done).await;
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_word_of_the_recipient_ends_the_transfer() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.client("b"));
    let sending = a.sending(lab.file("f", 10), "b");
    let task = offered(&a, &b).await;
    say(&b, &task, json!({ "version": 2, "key": "no key" })).await;
    b.claim(&task.id, LEASE).await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Identity);
    assert_eq!(b.get(&task.id).await.unwrap().status, Status::Failed);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_party_that_cancels_the_task_is_the_cause() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 50_000_000), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.take_until(FrameType::Meta).await;
    lab.client("a").cancel(&task.id).await.unwrap();
    // The peer's own leaving comes first, and is not the cause.
    peer.say(FrameType::Error, b"ABORTED: the transfer was cancelled").await;
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Cancelled);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_aborts_leaves_no_task_open_and_tells_the_peer() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    for is_claimed in [false, true] {
        let cancel = CancellationToken::new();
        let sending = {
            let (a, file, cancel) = (a.clone(), lab.file("f", 50_000_000), cancel.clone());
            tokio::spawn(async move { a.send_until(&file, "b", cancel).await })
        };
        let task = offered(&a, &b.client).await;
        if is_claimed {
            b.take(&task, p2p(&b.keys, 1)).await;
            let mut peer = dial(&b.dht, &task, &b.keys).await;
            peer.take_until(FrameType::Meta).await;
            cancel.cancel();
            assert!(peer.take_until(FrameType::Error).await.1.starts_with(b"ABORTED"));
        } else {
            cancel.cancel();
        }
        assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Aborted);
        let expected = if is_claimed { Status::Failed } else { Status::Cancelled };
        assert_eq!(b.client.get(&task.id).await.unwrap().status, expected);
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn third_parties_on_the_topic_end_nothing_but_themselves() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.client("b"));
    let dht = lab.dht().await;
    let sending = a.sending(lab.file("f", 100_000), "b");
    let task = offered(&a, &b).await;
    b.claim(&task.id, LEASE).await.unwrap();
    let silent = look_for(&dht, &task);
    let _silent = met(&silent).await;
    let mut others = Vec::new();
    for word in [FrameType::Ack, FrameType::Nack, FrameType::Error] {
        let swarm = look_for(&dht, &task);
        let mut peer = met(&swarm).await;
        peer.take_until(FrameType::Done).await;
        peer.say(word, b"hash mismatch").await;
        peer.end().await;
        others.push(swarm);
    }
    let babbling = look_for(&dht, &task);
    met(&babbling).await.babble(&[0xff; 100]).await;
    assert!(!sending.is_finished());

    let original = look_for(&dht, &task);
    let mut peer = met(&original).await;
    let (file, _) = peer.take_until(FrameType::Done).await;
    assert_eq!(file, content(100_000));
    peer.say(FrameType::Ack, b"").await;
    b.complete(&task.id, vec![json!({ "hash": task.payload["hash"] })]).await.unwrap();
    sending.await.unwrap().unwrap();
    assert_eq!(a.seen(), ["transfer_start", "transfer_complete"]);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_that_fails_the_task_is_heard_out() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.client("b"));
    let dht = lab.dht().await;
    let sending = a.sending(lab.file("f", 1000), "b");
    let task = offered(&a, &b).await;
    b.claim(&task.id, LEASE).await.unwrap();
    let swarm = look_for(&dht, &task);
    let mut peer = met(&swarm).await;
    peer.take_until(FrameType::Done).await;
    b.fail(&task.id, "no").await.unwrap();
    peer.say(FrameType::Nack, b"Hash mismatch").await;
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Integrity);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_ones_turn_with_an_original_ends_with_the_task() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.client("b"));
    let first = a.sending(lab.file("f", 10), "b");
    let first_task = offered(&a, &b).await;
    b.claim(&first_task.id, LEASE).await.unwrap();
    let second = a.sending(lab.file("g", 10), "b");
    let second_task = offered(&a, &b).await;
    b.claim(&second_task.id, LEASE).await.unwrap();
    for id in [&second_task.id, &first_task.id] {
        b.fail(id, "no").await.unwrap();
    }
    for sending in [first, second] {
        let error = timeout(PATIENCE, sending).await.expect("it ends").unwrap().unwrap_err();
        assert_eq!(error.code, Code::RemoteError);
    }
    lab.close([a]).await;
}
