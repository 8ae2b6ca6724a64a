//! One connection for several files.

use std::collections::HashSet;
use std::time::Duration;

use ats_p2p::ats::{Client, Status, Task};
use ats_p2p::error::Code;
use ats_p2p::wire::FrameType;
use hyperdht::connect::ConnectOptions;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::lab::{Agent, Lab, PATIENCE, content};
use crate::peer::{
    LEASE, Peer, Recipient, Sender, dial, dialled, key_of, key_said, met, offer_payload, offered, p2p, post,
    until, wait_on,
};

/// What is in the files of raw senders.
const CONTENT: &[u8] = b"content";

/// A `p2p` object of a peer that can use a connection again.
fn p2p_reusing(key_pair: &KeyPair) -> Value {
    let mut p2p = p2p(key_pair, 1);
    p2p["features"] = json!(["reuse"]);
    p2p
}

/// Hands over a first file on a connection that stays.
async fn begin(sender: &mut Sender) -> (Task, Peer) {
    let task = reusing(sender).await;
    let mut peer = dialled(&mut sender.server).await;
    deliver(&mut peer, &task).await;
    (task, peer)
}

/// An offer that names the sender's key, of a peer that can use a connection again.
async fn reusing(sender: &Sender) -> Task {
    sender.offer(CONTENT, p2p_reusing(&sender.keys)).await
}

async fn deliver(peer: &mut Peer, task: &Task) {
    peer.announce(&task.payload).await;
    peer.hand_over(CONTENT).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
}

/// Takes a first file on a connection that stays.
async fn begin_at(b: &Recipient, a: &Agent, lab: &Lab) -> (Task, Peer) {
    let sending = a.sending(lab.file("first", CONTENT.len()), "b");
    let task = offered(a, &b.client).await;
    b.take(&task, p2p_reusing(&b.keys)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    receive(&mut peer, &task).await;
    sending.await.unwrap().unwrap();
    (task, peer)
}

async fn receive(peer: &mut Peer, task: &Task) {
    let (_, meta) = peer.take_until(FrameType::Meta).await;
    let meta: Value = serde_json::from_slice(&meta).unwrap();
    assert_eq!(meta["transfer_id"], task.payload["transfer_id"]);
    let (file, _) = peer.take_until(FrameType::Done).await;
    assert_eq!(file, content(CONTENT.len()));
    peer.say(FrameType::Ack, b"").await;
}

/// Takes a file as a peer of the original's kind: on the topic.
async fn take_as_original(b: &Recipient, task: &Task) {
    let swarm = wait_on(&b.dht, task).await;
    b.client.claim(&task.id, LEASE).await.unwrap();
    let mut peer = met(&swarm).await;
    receive(&mut peer, task).await;
    let output = json!({ "verified": true, "hash": task.payload["hash"] });
    b.client.complete(&task.id, vec![output]).await.unwrap();
}

/// The keys that the task of a completed transfer names: the sender's and the recipient's.
async fn keys_of(client: &Client, task: &Value) -> (String, String) {
    let id = ats_p2p::ats::TaskId::from_value(task).unwrap();
    let task = client.get(&id).await.unwrap();
    (task.payload["p2p"]["key"].as_str().unwrap().to_owned(), key_said(&task, "b").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_one_after_another_come_on_one_connection() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let reader = lab.client("reader");
    let mut keys = HashSet::new();
    for len in [0, 1, 70_000, 3_000_000] {
        let sent = a.send(&lab.file(&format!("{len}"), len), "b").await.unwrap();
        assert_eq!(crate::lab::sha256(&lab.path("in").join(len.to_string())), sent.hash);
        keys.insert(keys_of(&reader, &sent.task_id).await);
    }
    assert_eq!(keys.len(), 1, "{keys:?}");
    lab.close([a, b]).await;
}

/// Sends `count` files that are all offered before the first is accepted, and gives the keys of each.
async fn at_once(lab: &Lab, a: &Agent, b: &Agent, count: usize) -> HashSet<(String, String)> {
    let reader = lab.client("reader");
    let file = lab.file("f", 10_000);
    let sending: Vec<_> = (0..count).map(|_| a.sending(file.clone(), "b")).collect();
    let mut offers = Vec::new();
    for _ in 0..count {
        offers.push(b.offer().await.0);
    }
    let accepting = offers.into_iter().map(|offer| {
        let (b, path) = (b.clone(), lab.path(&format!("copy {offer}")));
        tokio::spawn(async move { b.accept(offer, path).await })
    });
    for accepted in Vec::from_iter(accepting) {
        accepted.await.unwrap().unwrap();
    }
    let mut keys = HashSet::new();
    for sent in sending {
        keys.insert(keys_of(&reader, &sent.await.unwrap().unwrap().task_id).await);
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_at_once_form_a_pool() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let first = at_once(&lab, &a, &b, 8).await;
    assert_eq!(first.len(), 8);
    let second = at_once(&lab, &a, &b, 8).await;
    // Each has one of its own; a machine may be so slow that some did not stay up so long.
    assert!(second.len() == 8 && second.intersection(&first).count() > 0);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_holds_the_connection_answers_with_its_old_key() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let (first, mut peer) = begin(&mut a).await;
    let second = reusing(&a).await;
    until(&a.client, &second.id, Status::InProgress).await;
    deliver(&mut peer, &second).await;
    let (first, second) =
        (a.client.get(&first.id).await.unwrap(), until(&a.client, &second.id, Status::Completed).await);
    assert_eq!(key_said(&first, "b"), key_said(&second, "b"));
    assert_eq!(second.outputs[0]["p2p"]["key"], key_said(&second, "b").unwrap());
    assert_eq!(lab.listing("in").len(), 2);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_waits_for_its_answer_keeps_the_connection_for_itself() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let mut a = Sender::new(&lab).await;
    let first = reusing(&a).await;
    let (offer, _) = b.offer().await;
    let accepting = tokio::spawn({
        let (b, path) = (b.clone(), lab.path("1"));
        async move { b.accept(offer, path).await }
    });
    let mut peer = dialled(&mut a.server).await;
    deliver(&mut peer, &first).await;
    accepting.await.unwrap().unwrap();

    let (second, third) = (reusing(&a).await, reusing(&a).await);
    let ((for_second, _), (for_third, _)) = (b.offer().await, b.offer().await);
    // The offer that came later is answered first, and finds the connection taken.
    let accepting = tokio::spawn({
        let (b, path) = (b.clone(), lab.path("3"));
        async move { b.accept(for_third, path).await }
    });
    let mut fresh = dialled(&mut a.server).await;
    deliver(&mut fresh, &third).await;
    accepting.await.unwrap().unwrap();
    let accepting = tokio::spawn({
        let (b, path) = (b.clone(), lab.path("2"));
        async move { b.accept(for_second, path).await }
    });
    until(&a.client, &second.id, Status::InProgress).await;
    deliver(&mut peer, &second).await;
    accepting.await.unwrap().unwrap();
    let mut keys = Vec::new();
    for task in [first, second, third] {
        keys.push(key_said(&a.client.get(&task.id).await.unwrap(), "b").unwrap());
    }
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_whose_connection_has_gone_is_dialled_anew() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    // While it was idle.
    let (first, peer) = begin(&mut a).await;
    drop(peer);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = reusing(&a).await;
    let mut peer = dialled(&mut a.server).await;
    deliver(&mut peer, &second).await;
    // Between the claim and the metadata.
    let third = reusing(&a).await;
    until(&a.client, &third.id, Status::InProgress).await;
    drop(peer);
    let mut peer = dialled(&mut a.server).await;
    deliver(&mut peer, &third).await;
    let mut said = Vec::new();
    for task in [first, second, third] {
        said.push(key_said(&until(&a.client, &task.id, Status::Completed).await, "b").unwrap());
    }
    assert!(said[0] != said[1] && said[1] == said[2], "{said:?}");
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_that_brings_nothing_is_given_up_for_a_dial() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let (_, mut silent) = begin(&mut a).await;
    let second = reusing(&a).await;
    let mut peer = dialled(&mut a.server).await;
    silent.end().await;
    deliver(&mut peer, &second).await;
    until(&a.client, &second.id, Status::Completed).await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_belongs_to_the_actor_it_was_made_with() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let (first, mut peer) = begin(&mut a).await;
    // Mallory read a's key in the first task, and offers a file by it.
    let mut replay = offer_payload(&uuid::Uuid::new_v4().to_string(), "f", CONTENT, "mallory", Some("b"));
    replay["p2p"] = p2p_reusing(&a.keys);
    let replayed = post(&lab.client("mallory"), replay).await;
    let mut fresh = dialled(&mut a.server).await;
    fresh.say(FrameType::Error, b"nothing was offered here").await;
    until(&a.client, &replayed.id, Status::Failed).await;
    // That took nothing from a.
    let second = reusing(&a).await;
    until(&a.client, &second.id, Status::InProgress).await;
    deliver(&mut peer, &second).await;
    let mut said = Vec::new();
    for task in [first, replayed, second] {
        said.push(key_said(&a.client.get(&task.id).await.unwrap(), "b").unwrap());
    }
    assert!(said[0] == said[2] && said[0] != said[1], "{said:?}");
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_out_of_turn_on_an_idle_connection_loses_it() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let (first, mut peer) = begin(&mut a).await;
    peer.announce(&first.payload).await;
    peer.end().await;
    let second = reusing(&a).await;
    let mut peer = dialled(&mut a.server).await;
    deliver(&mut peer, &second).await;
    until(&a.client, &second.id, Status::Completed).await;
    assert_eq!(lab.listing("in").len(), 2);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_fails_ends_its_connection() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let (_, mut peer) = begin(&mut a).await;
    let second = reusing(&a).await;
    until(&a.client, &second.id, Status::InProgress).await;
    peer.announce(&second.payload).await;
    peer.hand_over(b"another").await;
    peer.finish().await;
    peer.take_until(FrameType::Nack).await;
    peer.end().await;
    until(&a.client, &second.id, Status::Failed).await;
    assert_eq!(b.failure().await, Code::Integrity);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_do_not_reuse_are_left_as_ever() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let mut sender = Sender::new(&lab).await;
    let task = sender.offer(CONTENT, p2p(&sender.keys, 1)).await;
    let mut peer = dialled(&mut sender.server).await;
    deliver(&mut peer, &task).await;
    peer.end().await;
    until(&sender.client, &task.id, Status::Completed).await;
    b.node.destroy().await;

    let b = Recipient::new(&lab).await;
    let mut keys = Vec::new();
    for name in ["1", "2"] {
        let sending = a.sending(lab.file(name, CONTENT.len()), "b");
        let task = offered(&a, &b.client).await;
        b.take(&task, p2p(&b.keys, 1)).await;
        let mut peer = dial(&b.dht, &task, &b.keys).await;
        receive(&mut peer, &task).await;
        sending.await.unwrap().unwrap();
        peer.end().await;
        keys.push(key_of(&task));
    }
    assert_ne!(keys[0], keys[1]);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_offers_the_connection_that_is_up_and_sends_on_it() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let (first, mut peer) = begin_at(&b, &a, &lab).await;
    let sending = a.sending(lab.file("second", CONTENT.len()), "b");
    let second = offered(&a, &b.client).await;
    assert_eq!(key_of(&first), key_of(&second));
    b.take(&second, p2p_reusing(&b.keys)).await;
    receive(&mut peer, &second).await;
    sending.await.unwrap().unwrap();
    // To another recipient it offers nothing of that.
    let sending = a.sending(lab.file("third", CONTENT.len()), "c");
    let third = offered(&a, &b.client).await;
    assert_ne!(key_of(&third), key_of(&second));
    lab.client("c").reject(&third.id, "not here").await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Rejected);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_answers_with_another_key_dials() {
    let lab = Lab::new().await;
    let (a, mut b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let (first, mut old) = begin_at(&b, &a, &lab).await;
    b.keys = KeyPair::generate();
    let sending = a.sending(lab.file("second", CONTENT.len()), "b");
    let second = offered(&a, &b.client).await;
    assert_eq!(key_of(&first), key_of(&second));
    b.take(&second, p2p_reusing(&b.keys)).await;
    let mut peer = dial(&b.dht, &second, &b.keys).await;
    receive(&mut peer, &second).await;
    sending.await.unwrap().unwrap();
    old.end().await;
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_lost_the_connection_dials_with_its_old_key() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let (_, peer) = begin_at(&b, &a, &lab).await;
    let sending = a.sending(lab.file("second", CONTENT.len()), "b");
    let second = offered(&a, &b.client).await;
    drop(peer);
    b.take(&second, p2p_reusing(&b.keys)).await;
    let mut peer = dial(&b.dht, &second, &b.keys).await;
    receive(&mut peer, &second).await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_key_takes_nothing_from_who_has_the_connection() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let (_, mut old) = begin_at(&b, &a, &lab).await;
    let sending = a.sending(lab.file("second", CONTENT.len()), "b");
    let second = offered(&a, &b.client).await;
    // Nobody is admitted yet, and who has not the key that the task will name never is.
    let options = ConnectOptions { key_pair: Some(KeyPair::generate()), ..Default::default() };
    let stranger = b.dht.connect(key_of(&second), options);
    let transfer = async {
        b.take(&second, p2p_reusing(&b.keys)).await;
        receive(&mut old, &second).await;
        sending.await.unwrap().unwrap();
    };
    tokio::select! {
        Ok(connection) = stranger => panic!("{connection:?}"),
        () = transfer => {}
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_anybody_may_claim_no_connection_is_offered_again() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.any_claimant = true), Recipient::new(&lab).await);
    let (first, mut peer) = begin_at(&b, &a, &lab).await;
    peer.end().await;
    let sending = a.sending(lab.file("second", CONTENT.len()), "b");
    let second = offered(&a, &b.client).await;
    assert_ne!(key_of(&first), key_of(&second));
    b.client.reject(&second.id, "no more").await.unwrap();
    sending.await.unwrap().unwrap_err();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_rejected_or_withdrawn_ends_its_connection() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let (_, mut peer) = begin_at(&b, &a, &lab).await;
    let sending = a.sending(lab.file("second", CONTENT.len()), "b");
    let second = offered(&a, &b.client).await;
    b.client.reject(&second.id, "no").await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Rejected);
    peer.end().await;
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_that_claims_in_a_former_peers_place_is_met_on_the_topic() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let (_, mut old) = begin_at(&b, &a, &lab).await;
    let sending = a.sending(lab.file("second", CONTENT.len()), "b");
    let second = offered(&a, &b.client).await;
    take_as_original(&b, &second).await;
    sending.await.unwrap().unwrap();
    old.end().await;
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_in_the_place_of_a_peer_that_used_a_key_is_met_on_the_topic() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let first = a.sending(lab.file("first", CONTENT.len()), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    receive(&mut peer, &task).await;
    first.await.unwrap().unwrap();
    let second = a.sending(lab.file("second", CONTENT.len()), "b");
    let task = offered(&a, &b.client).await;
    take_as_original(&b, &task).await;
    second.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_destroyed_ends_its_idle_connections_and_is_heard_before() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let sending = a.sending(lab.file("f", 100_000), "b");
    b.event_named("transfer_complete").await;
    b.node.destroy().await;
    sending.await.unwrap().unwrap();
    // Nobody holds the connection any more; the sender finds that out by itself.
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    timeout(PATIENCE, a.send(&lab.file("g", 100_000), "b")).await.unwrap().unwrap();
    lab.close([a, b]).await;
}
