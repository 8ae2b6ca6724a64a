//! Several processes of one actor that know nothing of each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ats_p2p::ats::{Status, Task};
use ats_p2p::error::Code;
use ats_p2p::wire::{FrameType, Piece};
use protocol::identity::IdentityKey;
use protocol::statement::Role;
use secret_stream::KeyPair;
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::lab::Lab;
use crate::peer::{Peer, Recipient, Sender, dial, dialled, offered, p2p, say, signed, try_dial};

/// The `p2p` object of the first process, and of another one.
fn first(lab: &Lab, task: &Task, key_pair: &KeyPair) -> Value {
    signed(lab, p2p(key_pair, 1), Role::Receiver, task, &IdentityKey::from_seed(&[1; 32]))
}

fn second(lab: &Lab, task: &Task, key_pair: &KeyPair) -> Value {
    let mut second = p2p(key_pair, 2);
    second["instance"] = json!(hex::encode([8; 16]));
    signed(lab, second, Role::Receiver, task, &IdentityKey::from_seed(&[1; 32]))
}

/// Takes the file slowly, until told to be quick.
async fn take_slowly(mut peer: Peer, quick: Arc<AtomicBool>) -> usize {
    let mut len = 0;
    loop {
        match peer.piece().await.expect("the sender goes on") {
            Piece::Data(bytes) => len += bytes.len(),
            Piece::Frame(FrameType::Done, _) => break,
            Piece::Frame(..) => {}
        }
        if !quick.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    peer.say(FrameType::Ack, b"").await;
    peer.end().await;
    len
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_comes_later_is_turned_away_where_bytes_flow() {
    const SIZE: usize = 60_000_000;
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", SIZE), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, first(&lab, &task, &b.keys)).await;
    let quick = Arc::new(AtomicBool::new(false));
    let slow = tokio::spawn(take_slowly(dial(&b.dht, &task, &b.keys).await, quick.clone()));
    let late = KeyPair::generate();
    say(&b.client, &task, second(&lab, &task, &late)).await;
    let mut peer = loop {
        if let Some(peer) = try_dial(&b.dht, &task, &late).await {
            break peer;
        }
    };
    let (file, reason) = peer.take_until(FrameType::Error).await;
    assert!(file.is_empty() && reason.starts_with(b"SUPERSEDED"));
    assert!(!slow.is_finished());
    quick.store(true, Ordering::Relaxed);
    assert_eq!(slow.await.unwrap(), SIZE);
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_comes_later_takes_over_where_nothing_flows() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 60_000_000), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, first(&lab, &task, &b.keys)).await;
    let mut hanging = dial(&b.dht, &task, &b.keys).await;
    hanging.take_until(FrameType::Meta).await;
    let late = KeyPair::generate();
    say(&b.client, &task, second(&lab, &task, &late)).await;
    let mut peer = loop {
        if let Some(peer) = try_dial(&b.dht, &task, &late).await {
            break peer;
        }
    };
    peer.take_until(FrameType::Done).await;
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_turned_away_leaves_the_task_alone() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let task = a.offer(b"content", p2p(&a.keys, 1)).await;
    let mut peer = dialled(&mut a.server).await;
    peer.say(FrameType::Error, b"SUPERSEDED: another process of this actor has the transfer").await;
    assert_eq!(b.failure().await, Code::AlreadyClaimed);
    b.node.destroy().await;
    assert_eq!(a.client.get(&task.id).await.unwrap().status, Status::InProgress);
    assert!(lab.listing("in").is_empty());
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_another_one_spoke_later_than_learns_it_soon_and_frees_its_place() {
    let lab = Lab::new().await;
    let gate = Gate::start(lab.address()).await;
    assert_learnt(lab, gate, "/claim").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_plain_service_a_process_that_another_one_spoke_later_than_learns_it_soon_too() {
    let lab = Lab::new().await;
    let gate = Gate::start_plain(lab.address()).await;
    assert_learnt(lab, gate, "/messages").await;
}

/// Whether a process learns that another one of its actor has the transfer, whose word came behind its own,
/// which it says by a request of this kind.
async fn assert_learnt(lab: Lab, gate: Gate, speaks: &'static str) {
    let b = lab.agent("b", |options| {
        options.ats.url = Some(gate.url());
        options.bootstrap = Some(lab.bootstrap());
        options.max_concurrent = 1;
    });
    b.watch(Some(lab.path("in")));
    b.event_named("connected").await;
    let (a, other) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    gate.close_after(speaks);
    let sending = a.sending(lab.file("f", 10), "b");
    let task = offered(&a, &other.client).await;
    while other.client.get(&task.id).await.unwrap().messages.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Both have found the offer free, and the other one's word is the later.
    let key = b.node.trust().identity().unwrap().unwrap();
    let mut later = p2p(&other.keys, u64::MAX);
    later["instance"] = json!(hex::encode([8; 16]));
    other.take(&task, signed(&lab, later, Role::Receiver, &task, &key)).await;
    gate.open();
    assert_eq!(b.failure().await, Code::AlreadyClaimed);
    assert!(other.client.get(&task.id).await.unwrap().is_held_by("b"), "it is the other one's to end");
    a.send(&lab.file("g", 10), "b").await.unwrap();
    assert_eq!(lab.listing("in"), ["g"]);
    let mut peer = dial(&other.dht, &task, &other.keys).await;
    peer.take_until(FrameType::Done).await;
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a, b]).await;
}
