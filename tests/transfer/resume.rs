//! Transfers that go on where they were, after a connection was lost.

use ats_p2p::ats::{Status, Task};
use ats_p2p::error::Code;
use ats_p2p::wire::FrameType;
use secret_stream::KeyPair;
use serde_json::{Value, json};

use crate::lab::{Lab, content, sha256};
use crate::peer::{Peer, Recipient, Sender, dial, dialled, offered, p2p, until};

const LEN: usize = 300_000;

/// The `p2p` object of a peer that can resume.
fn resuming(key_pair: &KeyPair, seq: u64) -> Value {
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
