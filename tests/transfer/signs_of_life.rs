//! Peers that say that they are there, though they can't be met yet.

use std::time::Duration;

use ats_p2p::ats::{Client, Status, Task};
use ats_p2p::error::Code;
use ats_p2p::wire::FrameType;
use secret_stream::KeyPair;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::lab::{Lab, content, sha256};
use crate::peer::{Recipient, Sender, dial, dialled, offered, p2p, say, until};
use crate::resume::{LEN, SOME, resuming};

/// How long the agents here wait for others: far longer than anything is held up by others' load.
const BRIEF: Duration = Duration::from_secs(6);

/// Says on a task again and again that a peer is there, for longer than anybody waits who does not hear it.
async fn say_for_long(client: &Client, task: &Task, word: impl Fn(u64) -> Value) {
    let began = Instant::now();
    for seq in 2.. {
        say(client, task, word(seq)).await;
        if began.elapsed() > BRIEF * 2 {
            return;
        }
        sleep(BRIEF / 12).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_says_that_it_is_there_is_waited_for() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = BRIEF), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", LEN), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, resuming(&b.keys, 1)).await;
    let mut lost = dial(&b.dht, &task, &b.keys).await;
    lost.take_until(FrameType::Meta).await;
    drop(lost);
    say_for_long(&b.client, &task, |seq| resuming(&b.keys, seq)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.say(FrameType::Resume, br#"{"offset":0}"#).await;
    assert_eq!(peer.take_until(FrameType::Done).await.0, content(LEN));
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_say_does_not_keep_a_sender_waiting() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = BRIEF), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", LEN), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let (c, other) = (lab.client("c"), KeyPair::generate());
    // In its own name with the recipient's key, and in the recipient's with another key.
    let saying = async {
        for seq in 2.. {
            say(&c, &task, p2p(&b.keys, seq)).await;
            say(&b.client, &task, p2p(&other, seq)).await;
            sleep(BRIEF / 12).await;
        }
    };
    let sent = tokio::select! { sent = sending => sent.unwrap(), () = saying => unreachable!() };
    assert_eq!(sent.unwrap_err().code, Code::PeerUnreachable);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_says_that_it_is_there_is_waited_for() {
    let lab = Lab::new().await;
    let (mut a, b) = (Sender::new(&lab).await, lab.agent("b", |options| options.timeout = BRIEF));
    b.watch(Some(lab.path("in")));
    let file = content(LEN);
    let task = a.offer(&file, resuming(&a.keys, 1)).await;
    let mut lost = dialled(&mut a.server).await;
    lost.ask(&task.payload).await;
    lost.hand_over(&file[..SOME]).await;
    lost.flush().await;
    a.server.close().await;
    drop(lost);
    say_for_long(&a.client, &task, |seq| resuming(&a.keys, seq)).await;
    a.come_back().await;
    let mut peer = dialled(&mut a.server).await;
    assert_eq!(peer.ask(&task.payload).await, SOME);
    peer.hand_over(&file[SOME..]).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    b.event_named("transfer_complete").await;
    assert_eq!(b.seen(), ["transfer_start", "transfer_complete"]);
    lab.close([b]).await;
}
