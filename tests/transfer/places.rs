//! One honest file beside many peers that only hold places.
//!
//! Nothing here asserts how long the honest one waited: what held it up would do so for `timeout`, which is
//! longer than the tests have patience. They print what they measured.

use std::time::{Duration, Instant};

use ats_p2p::ats::{NewTask, Status};
use ats_p2p::event::Event;
use futures_util::StreamExt as _;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::lab::{Agent, Lab, sha256};
use crate::peer::{dialled, listen, offer_payload, p2p, post, until};

/// Bytes of the honest file.
const SIZE: usize = 20_000_000;

/// An offer to `b` by a peer of ours' kind.
fn offer(from: &str, size: usize, keys: &KeyPair) -> Value {
    let mut payload = offer_payload(&uuid::Uuid::new_v4().to_string(), "f", &vec![7; size], from, Some("b"));
    payload["p2p"] = p2p(keys, 1);
    payload["expires_at"] = json!("2999-01-01T00:00:00Z");
    payload
}

/// Posts offers whose keys nobody listens on; `names` says how many actors offer them.
async fn offer_dead_keys(lab: &Lab, count: usize, names: usize) {
    let posts = (0..count).map(|i| async move {
        let name = format!("dead {}", i % names);
        post(&lab.client(&name), offer(&name, 1000, &KeyPair::generate())).await
    });
    futures_util::stream::iter(posts).buffer_unordered(8).collect::<Vec<_>>().await;
}

/// Sends one file from `a` to `b`, and prints how long it waited for its place and how fast it went.
async fn send_honestly(lab: &Lab, a: &Agent, b: &Agent, beside: &str) {
    let file = lab.file(&format!("honest beside {beside}"), SIZE);
    let begun = Instant::now();
    let sending = a.sending(file.clone(), "b");
    let mine = |transfer: &ats_p2p::event::Transfer| transfer.peer_id == "a";
    b.event(|event| match event {
        Event::TransferStart { transfer, .. } if mine(&transfer) => Some(()),
        Event::TransferFailed { transfer, error } if mine(&transfer) => panic!("{error}"),
        _ => None,
    })
    .await;
    let (waited, begun) = (begun.elapsed(), Instant::now());
    let sent = sending.await.unwrap().unwrap();
    let rate = SIZE as f64 / 1e6 / begun.elapsed().as_secs_f64();
    println!("beside {beside}: moved after {waited:?}, then at {rate:.0} MB/s");
    assert_eq!(sent.hash, sha256(&file));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_dead_keys_hold_up_nobody_whoever_offers_them() {
    for names in [1, 40] {
        let lab = Lab::new().await;
        let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
        b.watch(Some(lab.path("in")));
        b.event_named("connected").await;
        send_honestly(&lab, &a, &b, "nobody").await;
        offer_dead_keys(&lab, 40, names).await;
        send_honestly(&lab, &a, &b, &format!("forty dead keys of {names}")).await;
        assert!(!b.seen().contains(&"transfer_failed"), "the dead ones wait on");
        lab.close([a, b]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_that_trickle_hold_up_nobody() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    b.event_named("connected").await;
    send_honestly(&lab, &a, &b, "nobody").await;
    let dht = lab.dht().await;
    let mut trickling = JoinSet::new();
    for i in 0..16 {
        let (name, keys) = (format!("trickler {i}"), KeyPair::generate());
        let mut server = listen(&dht, &keys).await;
        let payload = offer(&name, 100_000, &keys);
        post(&lab.client(&name), payload.clone()).await;
        trickling.spawn(async move {
            let mut peer = dialled(&mut server).await;
            peer.announce(&payload).await;
            loop {
                peer.hand_over(b"x").await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
    }
    for _ in 0..16 {
        b.event_named("transfer_start").await;
    }
    send_honestly(&lab, &a, &b, "sixteen that trickle").await;
    assert!(!b.seen().contains(&"transfer_failed"), "they trickle on");
    trickling.shutdown().await;
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unanswered_offers_in_numbers_hide_no_other() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    b.event_named("connected").await;
    let mallory = lab.client("mallory");
    let posts = (0..1200).map(|_| async {
        post(&mallory, offer("mallory", 1000, &KeyPair::generate())).await;
    });
    futures_util::stream::iter(posts).buffer_unordered(16).collect::<()>().await;
    let sending = a.sending(lab.file("f", 1000), "b");
    let from_a = |event| match event {
        Event::File { offer, transfer, .. } if transfer.peer_id == "a" => Some(offer),
        _ => None,
    };
    let honest = b.event(from_a).await;
    b.accept(honest, lab.path("received")).await.unwrap();
    sending.await.unwrap().unwrap();
    lab.close([a, b]).await;

    // The same where the flood was there before the node.
    let lab = Lab::new().await;
    let honest = post(&lab.client("a"), offer("a", 1000, &KeyPair::generate())).await;
    let mallory = lab.client("mallory");
    let posts = (0..1200).map(|_| async {
        post(&mallory, offer("mallory", 1000, &KeyPair::generate())).await;
    });
    futures_util::stream::iter(posts).buffer_unordered(16).collect::<()>().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let offer = b.event(from_a).await;
    b.node.reject(offer, None).await.unwrap();
    until(&mallory, &honest.id, Status::Rejected).await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_another_kind_in_numbers_hide_no_offer() {
    let lab = Lab::new().await;
    let honest = post(&lab.client("a"), offer("a", 1000, &KeyPair::generate())).await;
    let mallory = lab.client("mallory");
    // More than the hub looks at for one page.
    let posts = (0..5200).map(|i| {
        let task = NewTask {
            title: "t".into(),
            kind: "chore".into(),
            channel: "p2p-transfer".into(),
            ..Default::default()
        };
        let mallory = &mallory;
        async move { mallory.create(&task, &i.to_string()).await.unwrap() }
    });
    futures_util::stream::iter(posts).buffer_unordered(32).collect::<Vec<_>>().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let (offer, _) = b.offer().await;
    b.node.reject(offer, None).await.unwrap();
    until(&mallory, &honest.id, Status::Rejected).await;
    let id = honest.payload["transfer_id"].as_str().unwrap();
    let found = b.node.status(id).await.unwrap();
    assert_eq!(found.task.id, honest.id);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_waits_its_turn_unclaimed_and_then_comes() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |options| options.max_concurrent = 1);
    b.watch(Some(lab.path("in")));
    b.event_named("connected").await;
    let agents = ["1", "2", "3", "4"].map(|name| lab.agent(name, |_| {}));
    let mut sending = JoinSet::new();
    for (i, agent) in agents.iter().enumerate() {
        let file = lab.file(&format!("f{i}"), SIZE);
        sending.spawn(agent.sending(file, "b"));
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap().unwrap().unwrap();
    }
    assert_eq!(lab.listing("in").len(), 4);
    lab.close(agents.into_iter().chain([b])).await;
}
