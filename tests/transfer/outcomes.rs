//! How transfers end: what the sender is told, what the recipient is told, and what becomes of the task.
//!
//! Where both ends are agents of ours. What each makes of a peer that lies or vanishes is in `senders` and
//! `receivers`, of one that is interrupted in `resume`.

use std::time::Duration;

use ats_p2p::ats::Status;
use ats_p2p::error::{Code, Error};
use ats_p2p::files::Target;
use ats_p2p::receive::Acceptance;
use ats_p2p::send::Sent;
use ats_p2p::wire::FrameType;
use secret_stream::KeyPair;
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::lab::{Lab, content, sha256};
use crate::peer::{Recipient, Sender, dial, dialled, offered, p2p, until};

const SECOND: Duration = Duration::from_secs(1);

/// Bytes that are some way through a transfer when there are more.
const SOME: usize = 300_000;

fn code(sent: Result<Sent, Error>) -> Code {
    sent.expect_err("it fails").code
}

/// The status of the task that `a` offered last.
async fn status_of(lab: &Lab, task_id: &ats_p2p::ats::TaskId) -> Status {
    lab.client("reader").get(task_id).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_nobody_takes_expires_and_is_withdrawn() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |options| options.timeout = SECOND);
    let sending = a.sending(lab.file("f", 10), "nobody");
    let task = offered(&a, &lab.client("reader")).await;
    let error = sending.await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::OfferExpired);
    assert!(error.retryable());
    assert_eq!(error.task_id, Some(task.id.to_string()));
    until(&lab.client("reader"), &task.id, Status::Cancelled).await;
    assert_eq!(a.seen(), ["transfer_failed"]);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_says_no_is_quoted() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let sending = a.sending(lab.file("f", 10), "b");
    let (offer, transfer) = b.offer().await;
    b.node.reject(offer, Some("too late in the day")).await.unwrap();
    let error = sending.await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::Rejected);
    assert!(error.message.contains("too late in the day"), "{error}");
    assert_eq!(status_of(&lab, &transfer.task_id.unwrap()).await, Status::Rejected);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_whose_key_is_dead_is_unreachable_and_its_task_fails() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |options| options.timeout = SECOND);
    b.watch(None);
    let a = Sender::new(&lab).await;
    let task = a.offer(b"content", p2p(&KeyPair::generate(), 1)).await;
    let (offer, _) = b.offer().await;
    let error = b.accept(offer, lab.path("f")).await.unwrap_err();
    assert_eq!(error.code, Code::PeerUnreachable);
    assert_eq!(status_of(&lab, &task.id).await, Status::Failed);
    assert!(!lab.path("f").exists());
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_trickles_has_stalled_and_its_task_fails() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |options| options.timeout = SECOND);
    b.watch(None);
    let mut a = Sender::new(&lab).await;
    let task = a.offer(&content(SOME), p2p(&a.keys, 1)).await;
    let (offer, _) = b.offer().await;
    let accepting = {
        let (b, path) = (b.clone(), lab.path("f"));
        tokio::spawn(async move { b.accept(offer, path).await })
    };
    let mut peer = dialled(&mut a.server).await;
    peer.announce(&task.payload).await;
    while !accepting.is_finished() {
        peer.say(FrameType::Data, b"x").await;
        tokio::time::sleep(SECOND / 50).await;
    }
    assert_eq!(accepting.await.unwrap().unwrap_err().code, Code::Stalled);
    assert_eq!(status_of(&lab, &task.id).await, Status::Failed);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_takes_all_and_never_acknowledges_has_stalled_and_the_task_fails() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = SECOND), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", SOME), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.take_until(FrameType::Done).await;
    let (_, reason) = peer.take_until(FrameType::Error).await;
    assert!(reason.starts_with(b"STALLED"));
    assert_eq!(code(sending.await.unwrap()), Code::Stalled);
    until(&b.client, &task.id, Status::Failed).await;
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_since_it_was_offered_reaches_nobody() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let file = lab.file("f", SOME);
    let sending = a.sending(file.clone(), "b");
    let (offer, transfer) = b.offer().await;
    std::fs::write(&file, vec![0; SOME]).unwrap();
    let error = b.accept(offer, lab.path("received")).await.unwrap_err();
    assert_eq!(error.code, Code::RemoteError, "{error}");
    assert_eq!(code(sending.await.unwrap()), Code::SourceChanged);
    until(&lab.client("reader"), &transfer.task_id.unwrap(), Status::Failed).await;
    assert!(!lab.path("received").exists());
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_cancels_is_aborted_and_its_sender_hears_of_it() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let mut a = Sender::new(&lab).await;
    let content = content(SOME);
    let task = a.offer(&content, p2p(&a.keys, 1)).await;
    let (offer, _) = b.offer().await;
    let cancel = CancellationToken::new();
    let target = Target::Exact { path: lab.path("f"), overwrite: true };
    let acceptance = Acceptance { destination: target.into(), max_rate: None, cancel: cancel.clone() };
    let accepting = {
        let node = b.node.clone();
        tokio::spawn(async move { node.accept(offer, acceptance).await })
    };
    let mut peer = dialled(&mut a.server).await;
    peer.announce(&task.payload).await;
    peer.hand_over(&content[..SOME / 2]).await;
    b.event_named("transfer_start").await;
    cancel.cancel();
    let (_, reason) = peer.take_until(FrameType::Error).await;
    assert!(reason.starts_with(b"ABORTED"));
    assert_eq!(accepting.await.unwrap().unwrap_err().code, Code::Aborted);
    until(&a.client, &task.id, Status::Failed).await;
    assert!(!lab.path("f").exists());
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_replaced_on_the_way_fails_the_transfer_for_both() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    let dir = lab.path("in");
    b.watch(Some(dir.clone()));
    let mut a = Sender::new(&lab).await;
    let content = content(SOME);
    let task = a.offer(&content, p2p(&a.keys, 1)).await;
    let mut peer = dialled(&mut a.server).await;
    peer.announce(&task.payload).await;
    peer.hand_over(&content[..SOME / 2]).await;
    b.event_named("transfer_start").await;
    std::fs::rename(&dir, lab.path("moved")).unwrap();
    std::fs::create_dir(&dir).unwrap();
    peer.hand_over(&content[SOME / 2..]).await;
    peer.finish().await;
    let (_, reason) = peer.take_until(FrameType::Nack).await;
    assert!(reason.starts_with(b"NOT_WRITABLE"));
    assert_eq!(b.failure().await, Code::NotWritable);
    until(&a.client, &task.id, Status::Failed).await;
    assert!(lab.listing("in").is_empty());
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_arrived_has_arrived_though_its_completion_is_refused_and_that_is_made_up_for() {
    let lab = Lab::new().await;
    let gate = Gate::start(lab.address()).await;
    let new_b = || {
        lab.agent("b", |options| {
            options.ats.url = Some(gate.url());
            options.bootstrap = Some(lab.bootstrap());
        })
    };
    let a = lab.agent("a", |_| {});
    // By the process itself, and by the next one.
    for is_destroyed in [false, true] {
        let mut b = new_b();
        b.watch(None);
        gate.refuse("/complete");
        let sending = a.sending(lab.file("f", SOME), "b");
        let (offer, transfer) = b.offer().await;
        let received = b.accept(offer, lab.path("received")).await.unwrap();
        assert_eq!(sending.await.unwrap().unwrap().hash, sha256(&received.file_path.unwrap()));
        let task_id = transfer.task_id.unwrap();
        assert_eq!(status_of(&lab, &task_id).await, Status::InProgress);
        assert_eq!(b.seen(), ["transfer_start", "transfer_complete"]);
        if is_destroyed {
            b.node.destroy().await;
            b = new_b();
            b.watch(None);
        }
        gate.open();
        until(&lab.client("reader"), &task_id, Status::Completed).await;
        b.node.destroy().await;
    }
    assert_eq!(a.seen(), ["transfer_start", "transfer_complete"].repeat(2));
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_its_sender_can_not_withdraw_is_left_to_its_time() {
    let lab = Lab::new().await;
    let gate = Gate::start(lab.address()).await;
    let a = lab.agent("a", |options| {
        options.ats.url = Some(gate.url());
        options.bootstrap = Some(lab.bootstrap());
        options.timeout = SECOND;
    });
    gate.refuse("/cancel");
    let sending = a.sending(lab.file("f", 10), "nobody");
    let task = offered(&a, &lab.client("reader")).await;
    assert_eq!(code(sending.await.unwrap()), Code::OfferExpired);
    // A hub lets its recipient alone reject it; soon after, its time is over there.
    assert_eq!(status_of(&lab, &task.id).await, Status::Pending);
    until(&lab.client("reader"), &task.id, Status::Cancelled).await;
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_vanishes_on_the_way_is_unreachable_in_the_end_and_the_task_fails() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = SECOND), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", SOME), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.take_until(FrameType::Meta).await;
    drop(peer);
    assert_eq!(code(sending.await.unwrap()), Code::PeerUnreachable);
    assert_eq!(status_of(&lab, &task.id).await, Status::Failed);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_says_why_it_does_not_take_the_file_is_understood() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    for (reason, expected) in [
        (&b"INTEGRITY: the hash is another"[..], Code::Integrity),
        (b"DISK_FULL: there is no room for the file", Code::RemoteError),
        (b"NOT_WRITABLE: the file can't be written", Code::RemoteError),
    ] {
        let sending = a.sending(lab.file("f", SOME), "b");
        let task = offered(&a, &b.client).await;
        b.take(&task, p2p(&b.keys, 1)).await;
        let mut peer = dial(&b.dht, &task, &b.keys).await;
        peer.take_until(FrameType::Done).await;
        peer.say(FrameType::Nack, reason).await;
        assert_eq!(code(sending.await.unwrap()), expected);
        // The recipient is to fail it; where it does not, its sender has.
        assert_eq!(status_of(&lab, &task.id).await, Status::Failed);
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_gone_before_the_ack_has_delivered_all_the_same() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let file = content(SOME);
    let task = a.offer(&file, p2p(&a.keys, 1)).await;
    let mut peer = dialled(&mut a.server).await;
    peer.announce(&task.payload).await;
    peer.hand_over(&file).await;
    peer.finish().await;
    peer.flush().await;
    drop(peer);
    let done = until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(done.outputs[0]["hash"], task.payload["hash"]);
    b.event_named("transfer_complete").await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"].as_str().unwrap());
    lab.close([b]).await;
}
