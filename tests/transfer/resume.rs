//! Transfers that go on where they were, after a connection was lost.

use std::path::PathBuf;

use ats_p2p::ats::{Status, Task};
use ats_p2p::error::Code;
use ats_p2p::event::{Event, Phase};
use ats_p2p::node::Options;
use ats_p2p::wire::FrameType;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::lab::{Agent, Lab, PATIENCE, content, sha256};
use crate::peer::{Peer, Recipient, Sender, dial, dialled, offered, p2p, said, say, until};

pub(crate) const LEN: usize = 300_000;

/// The bytes that have come when a recipient dies.
pub(crate) const SOME: usize = 200_000;

/// The `p2p` object of a peer that can resume.
pub(crate) fn resuming(key_pair: &KeyPair, seq: u64) -> Value {
    let mut value = p2p(key_pair, seq);
    value["features"] = json!(["resume"]);
    value
}

/// Takes this many bytes of the file at least.
async fn take(peer: &mut Peer, len: usize) -> Vec<u8> {
    let mut file = Vec::new();
    while file.len() < len {
        if let ats_p2p::wire::Piece::Data(bytes) = peer.piece().await.expect("more bytes") {
            file.extend_from_slice(&bytes);
        }
    }
    file
}

/// Sends these bytes behind what the recipient has, and loses the connection then.
async fn lose_after(a: &mut Sender, task: &Task, bytes: &[u8]) -> usize {
    let mut peer = dialled(&mut a.server).await;
    let offset = peer.ask(&task.payload).await;
    peer.hand_over(bytes).await;
    peer.flush().await;
    offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_wants_what_is_missing_only() {
    let lab = Lab::new().await;
    let (mut a, b) = (Sender::new(&lab).await, lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let file = content(LEN);
    let task = a.offer(&file, resuming(&a.keys, 1)).await;
    assert_eq!(lose_after(&mut a, &task, &file[..100_000]).await, 0);
    assert_eq!(lose_after(&mut a, &task, &[]).await, 100_000);
    assert_eq!(lose_after(&mut a, &task, &file[100_000..LEN]).await, 100_000);
    let mut peer = dialled(&mut a.server).await;
    assert_eq!(peer.ask(&task.payload).await, LEN);
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    use Phase::{Connecting, Transferring, Verifying, Waiting};
    let tries = [Connecting, Transferring].repeat(4);
    assert_eq!(b.phases(), [&[Waiting][..], &tries, &[Verifying]].concat());
    let progress = b.progress();
    assert!(progress.is_sorted() && progress.last() == Some(&(LEN as u64)), "{progress:?}");
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_sends_what_is_missing_only() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", LEN), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, resuming(&b.keys, 1)).await;
    let mut file = Vec::new();
    for part in [100_000, 100_000] {
        let mut peer = dial(&b.dht, &task, &b.keys).await;
        let meta: Value = serde_json::from_slice(&peer.take_until(FrameType::Meta).await.1).unwrap();
        assert_eq!(meta["resume"], true);
        peer.say(FrameType::Resume, json!({ "offset": file.len() }).to_string().as_bytes()).await;
        file.extend(take(&mut peer, part).await);
    }
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.say(FrameType::Resume, json!({ "offset": file.len() }).to_string().as_bytes()).await;
    file.extend(peer.take_until(FrameType::Done).await.0);
    assert_eq!(file, content(LEN));
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_more_than_there_is_gets_nothing() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", LEN), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, resuming(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.say(FrameType::Resume, json!({ "offset": LEN + 1 }).to_string().as_bytes()).await;
    peer.take_until(FrameType::Error).await;
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Protocol);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_spoilt_on_the_way_comes_once_more_and_not_for_ever() {
    let lab = Lab::new().await;
    let (mut a, b) = (Sender::new(&lab).await, lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let (file, wrong) = (content(LEN), vec![0; 100_000]);
    for is_mended in [true, false] {
        let task = a.offer(&file, resuming(&a.keys, 1)).await;
        assert_eq!(lose_after(&mut a, &task, &wrong).await, 0);
        let mut peer = dialled(&mut a.server).await;
        assert_eq!(peer.ask(&task.payload).await, wrong.len());
        peer.hand_over(&file[wrong.len()..]).await;
        peer.finish().await;
        assert!(peer.piece().await.is_none(), "not told, since it can still be mended");
        if is_mended {
            let mut peer = dialled(&mut a.server).await;
            assert_eq!(peer.ask(&task.payload).await, 0);
            peer.hand_over(&file).await;
            peer.finish().await;
            peer.take_until(FrameType::Ack).await;
            until(&a.client, &task.id, Status::Completed).await;
            assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
        } else {
            assert_eq!(lose_after(&mut a, &task, &wrong).await, 0);
            let mut peer = dialled(&mut a.server).await;
            assert_eq!(peer.ask(&task.payload).await, wrong.len());
            peer.hand_over(&file[wrong.len()..]).await;
            peer.finish().await;
            peer.take_until(FrameType::Nack).await;
            until(&a.client, &task.id, Status::Failed).await;
            assert_eq!(b.failure().await, Code::Integrity);
        }
    }
    assert_eq!(lab.listing("in"), ["f"]);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_speaks_anew_is_dialled_at_once_whatever_becomes_of_the_connection_before() {
    let lab = Lab::new().await;
    let (mut a, b) = (Sender::new(&lab).await, lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let file = content(LEN);
    let task = a.offer(&file, resuming(&a.keys, 1)).await;
    // Nothing tells that nobody is at its other end any more.
    let mut hanging = dialled(&mut a.server).await;
    hanging.ask(&task.payload).await;
    hanging.hand_over(&file[..SOME]).await;
    hanging.flush().await;
    say(&a.client, &task, resuming(&a.keys, 2)).await;
    let mut peer = timeout(PATIENCE / 10, dialled(&mut a.server)).await.expect("at once");
    assert_eq!(peer.ask(&task.payload).await, SOME);
    peer.hand_over(&file[SOME..]).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    lab.close([b]).await;
}

/// An agent `b` that can die: what it does ends in the middle, and nobody is told.
pub(crate) struct Mortal {
    agent: Agent,
    runtime: Runtime,
}

impl Mortal {
    pub(crate) fn new(lab: &Lab, save_dir: Option<PathBuf>) -> Self {
        Self::with(lab, |_| {}, save_dir)
    }

    pub(crate) fn with(lab: &Lab, change: impl FnOnce(&mut Options), save_dir: Option<PathBuf>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (agent, runtime) = (lab.agent("b", change), runtime.unwrap());
        {
            let _inside = runtime.enter();
            agent.watch(save_dir);
        }
        Self { agent, runtime }
    }

    /// Receives a file, to this path if it was told to ask, and dies when some of it has come. Comes back
    /// when nothing of it is left.
    pub(crate) async fn dies_receiving(self, a: &mut Sender, file: &[u8], path: Option<PathBuf>) -> Task {
        let task = a.offer(file, resuming(&a.keys, 1)).await;
        if let Some(path) = path {
            let (b, offer) = (self.agent.clone(), self.agent.offer().await.0);
            self.runtime.spawn(async move { b.accept(offer, path).await });
        }
        self.dies_at(a, &task, &file[..SOME]).await;
        task
    }

    /// Dies when it has these first bytes.
    pub(crate) async fn dies_at(self, a: &mut Sender, task: &Task, bytes: &[u8]) {
        let Self { agent, runtime } = self;
        let mut peer = dialled(&mut a.server).await;
        peer.ask(&task.payload).await;
        peer.hand_over(bytes).await;
        agent
            .event(|event| match event {
                Event::TransferProgress { progress, .. } if progress.moved >= bytes.len() as u64 => Some(()),
                _ => None,
            })
            .await;
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }
}

/// The transfer goes on with a recipient that came back, from where it was.
pub(crate) async fn finish(a: &mut Sender, task: &Task, file: &[u8], from: usize) {
    let said = said(&finish_with_anyone(a, task, file, from).await, "b");
    assert_eq!((&said[0]["key"], &said[0]["instance"]), (&said[1]["key"], &said[1]["instance"]));
    assert!(said[0]["seq"].as_u64() < said[1]["seq"].as_u64());
}

/// The same, whatever the recipient says of itself by now.
pub(crate) async fn finish_with_anyone(a: &mut Sender, task: &Task, file: &[u8], from: usize) -> Task {
    let mut peer = dialled(&mut a.server).await;
    assert_eq!(peer.ask(&task.payload).await, from);
    peer.hand_over(&file[from..]).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_died_goes_on_with_its_own_claim_at_once() {
    let lab = Lab::new().await;
    let mut a = Sender::new(&lab).await;
    let b = Mortal::new(&lab, Some(lab.path("in")));
    let file = content(LEN);
    let task = b.dies_receiving(&mut a, &file, None).await;
    assert_eq!(a.client.get(&task.id).await.unwrap().status, Status::InProgress);

    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    finish(&mut a, &task, &file, SOME).await;
    let start = b.event_named("transfer_start").await;
    assert!(matches!(start, Event::TransferStart { resumed_from: 200_000, .. }), "{start:?}");
    b.event_named("transfer_complete").await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    assert_eq!(lab.listing("in"), ["f"]);
    b.node.destroy().await;
    let kept = lab.listing("home-b/transfers");
    assert!(kept.len() == 1 && kept[0].ends_with(".done"), "{kept:?}");
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_to_where_it_was_accepted_before_its_recipient_died() {
    let lab = Lab::new().await;
    let mut a = Sender::new(&lab).await;
    let b = Mortal::new(&lab, None);
    let file = content(LEN);
    let task = b.dies_receiving(&mut a, &file, Some(lab.path("taken"))).await;

    let b = lab.agent("b", |_| {});
    b.watch(None);
    finish(&mut a, &task, &file, SOME).await;
    b.event_named("transfer_complete").await;
    assert_eq!(sha256(&lab.path("taken")), task.payload["hash"]);
    assert_eq!(b.seen(), ["transfer_start", "transfer_complete"]);
    use Phase::{Connecting, Hashing, Transferring, Verifying, Waiting};
    assert_eq!(b.phases(), [Hashing, Waiting, Connecting, Transferring, Verifying]);
    lab.close([b]).await;
}

/// The task fails of which the recipient has left something; when it comes back, that is removed.
pub(crate) async fn what_is_left_goes_once_its_task_is_over(lab: Lab, a: &Sender, task: &Task) {
    assert_eq!(lab.listing("in").len(), 1);
    a.client.fail(&task.id, "no more").await.unwrap();

    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    lab.until_empty("in").await;
    lab.until_empty("home-b/transfers").await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_recipient_left_of_a_task_that_is_over_is_removed() {
    let lab = Lab::new().await;
    let mut a = Sender::new(&lab).await;
    let b = Mortal::new(&lab, Some(lab.path("in")));
    let file = content(LEN);
    let task = b.dies_receiving(&mut a, &file, None).await;
    what_is_left_goes_once_its_task_is_over(lab, &a, &task).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_for_longer_than_the_owner_wants_goes() {
    let lab = Lab::new().await;
    let mut a = Sender::new(&lab).await;
    let b = Mortal::new(&lab, None);
    std::fs::create_dir(lab.path("there")).unwrap();
    b.dies_receiving(&mut a, &content(LEN), Some(lab.path("there/taken"))).await;

    // Another actor of the same user, which has nothing to do with it.
    let c = lab.agent("c", |options| {
        options.home = lab.path("home-b");
        options.max_partial_age = std::time::Duration::from_millis(1);
    });
    c.watch(None);
    lab.until_empty("there").await;
    lab.until_empty("home-b/transfers").await;
    lab.close([c]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_a_sender_that_vanished_is_kept_and_its_task_left_to_lapse() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |options| options.timeout = std::time::Duration::from_secs(1));
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let file = content(LEN);
    let task = a.offer(&file, resuming(&a.keys, 1)).await;
    lose_after(&mut a, &task, &file[..SOME]).await;
    a.server.close().await;
    assert_eq!(b.failure().await, Code::PeerUnreachable);
    b.node.destroy().await;
    assert_eq!(a.client.get(&task.id).await.unwrap().status, Status::InProgress);
    assert_eq!(lab.listing("in").len(), 1);
    lab.close([]).await;
}
