//! Receiving from senders that lie, vanish or come from elsewhere.

use std::time::Duration;

use ats_p2p::ats::{Client, ListQuery, Status};
use ats_p2p::error::Code;
use ats_p2p::event::Phase;
use ats_p2p::trust::SeedChoice;
use ats_p2p::wire::FrameType;
use futures_util::StreamExt as _;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::lab::{Lab, PATIENCE, allowed, content, sha256};
use crate::peer::{LEASE, Sender, dialled, met, offer_payload, p2p, post, until, wait_on};

const SECOND: Duration = Duration::from_secs(1);

/// Bytes that are some way through a transfer when there are more.
const SOME: usize = 300_000;

/// An offer as an original with this id makes it.
fn from_original(from: &str, to: Option<&str>) -> Value {
    offer_payload(&uuid::Uuid::new_v4().to_string(), "f", b"content", from, to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_in_anothers_name_is_rejected() {
    let lab = Lab::new().await;
    let mallory = lab.client("mallory");
    let careless = lab.agent("careless", |_| {});
    let choosy = lab.agent("choosy", |options| options.allowed_peers = allowed(&["a"]));
    careless.watch(Some(lab.path("in")));
    choosy.watch(Some(lab.path("in")));
    // With a key, sender and source must be one; without, an allowlist must hold both.
    let mut with_key = from_original("a", Some("careless"));
    with_key["p2p"] = p2p(&KeyPair::generate(), 1);
    let without = from_original("a", Some("choosy"));
    let from_stranger = from_original("mallory", Some("choosy"));
    for (payload, agent, code) in [
        (with_key, &careless, Code::Identity),
        (without, &choosy, Code::NotAllowed),
        (from_stranger, &choosy, Code::NotAllowed),
    ] {
        let task = post(&mallory, payload).await;
        assert_eq!(agent.failure().await, code);
        until(&mallory, &task.id, Status::Rejected).await;
    }
    assert!(lab.listing("in").is_empty());
    lab.close([careless, choosy]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_that_are_stale_or_not_for_us_are_left_alone() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |options| options.max_offer_age = Duration::ZERO);
    b.watch(None);
    b.event_named("connected").await;
    let a = lab.client("a");
    let mut expired = from_original("a", Some("b"));
    expired["expires_at"] = json!("2020-01-01T00:00:00Z");
    let expired = post(&a, expired).await;
    let left = [
        // The service's clock is known by the second: this one is a little old already.
        post(&a, from_original("a", Some("c"))).await,
        post(&lab.client("b"), from_original("b", None)).await,
    ];
    for malformed in ["size", "hash", "filename", "sender_id", "transfer_id"] {
        let mut payload = from_original("a", Some("b"));
        payload[malformed] = json!({ "no": "such thing" });
        post(&a, payload).await;
    }
    let mut good = from_original("a", Some("b"));
    good["expires_at"] = json!("2999-01-01T00:00:00Z");
    let good = post(&a, good).await;
    let (_, told) = b.offer().await;
    assert_eq!(told.task_id, Some(good.id));
    for task in left {
        assert_eq!(a.get(&task.id).await.unwrap().status, Status::Pending);
    }
    // Nobody answers it: the hub ends it.
    until(&a, &expired.id, Status::Cancelled).await;
    assert!(b.seen().is_empty());
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tasks_with_one_transfer_id_the_first_counts() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    let a = lab.client("a");
    let payload = from_original("a", Some("b"));
    let first = post(&a, payload.clone()).await;
    let mut copy = payload;
    copy["sender_id"] = json!("mallory");
    copy["filename"] = json!("another");
    post(&lab.client("mallory"), copy).await;
    let last = post(&a, from_original("a", Some("b"))).await;
    b.watch(None);
    assert_eq!(b.offer().await.1.task_id, Some(first.id));
    assert_eq!(b.offer().await.1.task_id, Some(last.id));
    lab.close([b]).await;
}

/// Posts so many offers for somebody else, each with so many bytes beside it.
async fn leave_over(client: &Client, count: usize, padding: usize) {
    let posts = (0..count).map(|_| async {
        let mut payload = from_original("a", Some("somebody else"));
        payload["padding"] = json!("x".repeat(padding));
        post(client, payload).await;
    });
    futures_util::stream::iter(posts).buffer_unordered(16).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_hide_no_offer_however_many_or_large_they_are() {
    let lab = Lab::new().await;
    let a = lab.client("a");
    // More than a node reads of one list where it begins with the oldest.
    leave_over(&a, 2_050, 0).await;
    let offer = post(&a, from_original("a", Some("b"))).await;
    // More than the hub puts on a page.
    leave_over(&a, 80, 250_000).await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    assert_eq!(b.offer().await.1.task_id, Some(offer.id));
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_told_once_however_many_watch() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    b.watch(None);
    let a = lab.client("a");
    let tasks =
        [post(&a, from_original("a", Some("b"))).await, post(&a, from_original("a", Some("b"))).await];
    for task in tasks {
        assert_eq!(b.offer().await.1.task_id, Some(task.id));
    }
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_for_anybody_goes_to_one_and_is_only_left_by_the_rest() {
    let lab = Lab::new().await;
    let (b, c) = (lab.agent("b", |_| {}), lab.agent("c", |_| {}));
    b.watch(None);
    c.watch(None);
    let d = lab.client("d");
    let task = post(&d, from_original("a", None)).await;
    let (for_b, _) = b.offer().await;
    let (for_c, _) = c.offer().await;
    c.node.reject(for_c, Some("not for me")).await.unwrap();
    assert_eq!(d.get(&task.id).await.unwrap().status, Status::Pending);
    // Somebody else is first, whatever our node has heard of that.
    d.claim(&task.id, LEASE).await.unwrap();
    let error = b.accept(for_b, lab.path("f")).await.unwrap_err();
    assert!(matches!(error.code, Code::AlreadyClaimed | Code::AlreadyAnswered), "{error}");
    let now = d.get(&task.id).await.unwrap();
    assert!(now.is_held_by("d") && now.messages.is_empty());
    assert!(!lab.path("f").exists());
    lab.close([b, c]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_too_late_says_so() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let a = lab.client("a");
    for accepts in [true, false] {
        let task = post(&a, from_original("a", Some("b"))).await;
        let (offer, _) = b.offer().await;
        a.cancel(&task.id).await.unwrap();
        let error = match accepts {
            true => b.accept(offer, lab.path("f")).await.unwrap_err(),
            false => b.node.reject(offer, None).await.unwrap_err(),
        };
        assert!(matches!(error.code, Code::OfferExpired | Code::AlreadyAnswered), "{error}");
        assert_eq!(a.get(&task.id).await.unwrap().status, Status::Cancelled);
        let again = b.accept(offer, lab.path("f")).await.unwrap_err();
        assert_eq!(again.code, Code::AlreadyAnswered);
    }
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_answered_once_but_may_be_accepted_again_where_nothing_was_claimed() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let mut a = Sender::new(&lab).await;
    let task = a.offer(b"content", p2p(&a.keys, 1)).await;
    let (offer, _) = b.offer().await;
    let nowhere = lab.path("missing").join("f");
    assert_eq!(b.accept(offer, nowhere).await.unwrap_err().code, Code::NotWritable);
    assert_eq!(a.client.get(&task.id).await.unwrap().status, Status::Pending);
    let transfer = async {
        let mut peer = dialled(&mut a.server).await;
        peer.announce(&task.payload).await;
        assert_eq!(b.accept(offer, lab.path("g")).await.unwrap_err().code, Code::AlreadyAnswered);
        assert_eq!(b.node.reject(offer, None).await.unwrap_err().code, Code::AlreadyAnswered);
        peer.hand_over(b"content").await;
        peer.finish().await;
        peer.take_until(FrameType::Ack).await;
    };
    let (received, ()) = tokio::join!(b.accept(offer, lab.path("f")), transfer);
    assert_eq!(std::fs::read(received.unwrap().file_path.unwrap()).unwrap(), b"content");
    assert!(!lab.path("g").exists() && !lab.path("missing").exists());
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_lapsed_is_made_again_to_complete_the_task() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let task = a.offer(b"content", p2p(&a.keys, 1)).await;
    let mut peer = dialled(&mut a.server).await;
    peer.announce(&task.payload).await;
    b.event_named("transfer_start").await;
    request(&lab, "b", "PATCH", &format!("/tasks/{}", task.id), r#"{"status":"pending"}"#).await;
    peer.hand_over(b"content").await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_expired_before_its_answer_is_not_claimed() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let a = lab.client("a");
    let mut payload = from_original("a", Some("b"));
    // The service's clock is known within a second.
    let expiry = time::OffsetDateTime::now_utc() + 2 * SECOND;
    payload["expires_at"] = json!(expiry.format(&time::format_description::well_known::Rfc3339).unwrap());
    let task = post(&a, payload).await;
    let (offer, _) = b.offer().await;
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(b.accept(offer, lab.path("f")).await.unwrap_err().code, Code::OfferExpired);
    assert_eq!(a.get(&task.id).await.unwrap().status, Status::Pending);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_from_the_offer_is_refused_and_leaves_nothing() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let content = content(SOME);
    for fault in ["meta", "longer", "shorter", "other"] {
        let task = a.offer(&content, p2p(&a.keys, 1)).await;
        let mut peer = dialled(&mut a.server).await;
        let mut meta = task.payload.clone();
        if fault == "meta" {
            meta["size"] = json!(SOME + 1);
        }
        peer.announce(&meta).await;
        let sent = match fault {
            "longer" => [&content[..], b"!"].concat(),
            "shorter" => content[1..].to_vec(),
            _ => content.iter().map(|byte| byte ^ 1).collect(),
        };
        if fault != "meta" {
            peer.hand_over(&sent).await;
            peer.finish().await;
        }
        let (_, reason) = peer.take_until(FrameType::Nack).await;
        assert!(reason.starts_with(b"INTEGRITY"), "{fault}");
        assert_eq!(b.failure().await, Code::Integrity, "{fault}");
        until(&a.client, &task.id, Status::Failed).await;
        assert!(lab.listing("in").is_empty(), "{fault}");
    }
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_dialled_again() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let content = content(SOME);
    let task = a.offer(&content, p2p(&a.keys, 1)).await;
    let mut peer = dialled(&mut a.server).await;
    peer.announce(&task.payload).await;
    peer.hand_over(&content[..SOME / 2]).await;
    drop(peer);
    let mut peer = dialled(&mut a.server).await;
    peer.announce(&task.payload).await;
    peer.hand_over(&content).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    let done = until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(done.outputs[0]["hash"], task.payload["hash"]);
    assert_eq!(sha256(&lab.path("in").join("f")), task.payload["hash"].as_str().unwrap());
    b.event_named("transfer_complete").await;
    assert_eq!(b.seen(), ["transfer_start", "transfer_complete"]);
    assert_eq!(lab.listing("in"), ["f"]);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_falls_silent_or_vanishes_ends_the_transfer() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |options| options.timeout = SECOND);
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let content = content(SOME);
    let task = a.offer(&content, p2p(&a.keys, 1)).await;
    let mut silent = dialled(&mut a.server).await;
    silent.announce(&task.payload).await;
    silent.hand_over(&content[..SOME / 2]).await;
    let (_, reason) = silent.take_until(FrameType::Error).await;
    assert!(reason.starts_with(b"STALLED"));
    assert_eq!(b.failure().await, Code::Stalled);
    until(&a.client, &task.id, Status::Failed).await;

    let task = a.offer(&content, p2p(&a.keys, 1)).await;
    let mut vanishing = dialled(&mut a.server).await;
    vanishing.announce(&task.payload).await;
    vanishing.hand_over(&content[..SOME / 2]).await;
    a.server.close().await;
    drop(vanishing);
    assert_eq!(b.failure().await, Code::PeerUnreachable);
    until(&a.client, &task.id, Status::Failed).await;
    assert!(lab.listing("in").is_empty());
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_party_that_cancels_or_fails_the_task_is_the_cause() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut a = Sender::new(&lab).await;
    let content = content(SOME);
    for (end, sender_leaves) in
        [(Status::Cancelled, false), (Status::Cancelled, true), (Status::Failed, false)]
    {
        let task = a.offer(&content, p2p(&a.keys, 1)).await;
        let mut peer = dialled(&mut a.server).await;
        peer.announce(&task.payload).await;
        peer.hand_over(&content[..SOME / 2]).await;
        b.event_named("transfer_start").await;
        match end {
            Status::Failed => drop(lab.client("a").fail(&task.id, "no more").await.unwrap()),
            _ => drop(lab.client("a").cancel(&task.id).await.unwrap()),
        }
        if sender_leaves {
            peer.say(FrameType::Error, b"ABORTED: the transfer was cancelled").await;
        } else {
            peer.take_until(FrameType::Error).await;
        }
        assert_eq!(b.failure().await, Code::Cancelled);
        assert_eq!(a.client.get(&task.id).await.unwrap().status, end);
        assert!(lab.listing("in").is_empty());
    }
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn third_parties_on_the_topic_do_not_keep_an_original_from_delivering() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let a = lab.client("a");
    let dht = lab.dht().await;
    let content = content(SOME);
    let payload = offer_payload("not a uuid: ../../x", "../f", &content, "a", Some("b"));
    let task = post(&a, payload).await;
    until(&a, &task.id, Status::InProgress).await;
    let original = wait_on(&dht, &task).await;
    let others = ["silence", "meta", "babble", "error", "wrong bytes"].map(async |fault| {
        let swarm = wait_on(&dht, &task).await;
        let mut peer = met(&swarm).await;
        match fault {
            "silence" => return Some(peer),
            "meta" => {
                let mut meta = task.payload.clone();
                meta["hash"] = json!("0".repeat(64));
                peer.announce(&meta).await;
            }
            "babble" => peer.babble(&[0xff; 100]).await,
            "error" => peer.say(FrameType::Error, b"go away").await,
            _ => {
                peer.announce(&task.payload).await;
                peer.hand_over(&vec![0; SOME]).await;
                peer.finish().await;
            }
        }
        peer.end().await;
        None
    });
    let _silent = futures_util::future::join_all(others).await;
    let mut peer = met(&original).await;
    peer.announce(&task.payload).await;
    peer.hand_over(&content).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a, &task.id, Status::Completed).await;
    b.event_named("transfer_complete").await;
    let phases = b.phases();
    assert!(phases.starts_with(&[Phase::Waiting, Phase::Connecting, Phase::Transferring]), "{phases:?}");
    assert!(phases.ends_with(&[Phase::Transferring, Phase::Verifying]), "{phases:?}");
    let files = lab.listing("in");
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(sha256(&lab.path("in").join(&files[0])), task.payload["hash"].as_str().unwrap());
    assert_eq!(b.seen(), ["transfer_start", "transfer_complete"]);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_in_numbers_on_the_topic_give_way() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let a = lab.client("a");
    let dht = lab.dht().await;
    let task = post(&a, from_original("a", Some("b"))).await;
    until(&a, &task.id, Status::InProgress).await;
    let strangers = [0; 10].map(async |_| wait_on(&dht, &task).await);
    let strangers = futures_util::future::join_all(strangers).await;
    let _silent = futures_util::future::join_all(strangers.iter().take(8).map(met)).await;
    let original = wait_on(&dht, &task).await;
    let mut peer = met(&original).await;
    peer.announce(&task.payload).await;
    peer.hand_over(b"content").await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a, &task.id, Status::Completed).await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_with_many_offers_does_not_keep_others_waiting() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let silent = lab.client("silent");
    for _ in 0..20 {
        post(&silent, from_original("silent", Some("b"))).await;
    }
    let claimed = ListQuery { status: Some(Status::InProgress), ..Default::default() };
    while silent.list(&claimed).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let a = lab.agent("a", |_| {});
    a.send(&lab.file("f", 10), "b").await.unwrap();
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_of_one_actor_one_receives_and_the_other_harms_nothing() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |_| {});
    let elsewhere = lab.path("elsewhere");
    let first = lab.agent("b", |options| options.timeout = 2 * SECOND);
    // They share who they are, and nothing else.
    first.node.trust().identity().unwrap();
    let seed = lab.path("home-b").join("seed");
    let second = lab.agent("b", |options| {
        options.home = elsewhere;
        options.identity = SeedChoice::File(seed);
        options.timeout = 2 * SECOND;
    });
    first.watch(Some(lab.path("first")));
    second.watch(Some(lab.path("second")));
    first.event_named("connected").await;
    second.event_named("connected").await;
    for i in 0..5 {
        let sent = a.send(&lab.file(&format!("f{i}"), SOME), "b").await.unwrap();
        until(&lab.client("a"), &task_id(&sent.task_id), Status::Completed).await;
    }
    for agent in [first, second] {
        agent.node.destroy().await;
    }
    assert_eq!(lab.listing("first").len() + lab.listing("second").len(), 5);
    lab.close([a]).await;
}

fn task_id(value: &Value) -> ats_p2p::ats::TaskId {
    ats_p2p::ats::TaskId::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_may_send_to_itself() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |_| {});
    a.watch(Some(lab.path("in")));
    let sent = a.send(&lab.file("f", SOME), "a").await.unwrap();
    assert_eq!(sha256(&lab.path("in").join("f")), sent.hash);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_here_already_only_completes_its_task() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let mut a = Sender::new(&lab).await;
    let content = content(SOME);
    let task = a.offer(&content, p2p(&a.keys, 1)).await;
    let transfer = async {
        let mut peer = dialled(&mut a.server).await;
        peer.announce(&task.payload).await;
        peer.hand_over(&content).await;
        peer.finish().await;
        peer.take_until(FrameType::Ack).await;
    };
    let (offer, _) = b.offer().await;
    let (received, ()) = tokio::join!(b.accept(offer, lab.path("f")), transfer);
    received.unwrap();
    b.node.destroy().await;
    // What a receiver that was killed before it could complete leaves behind.
    for changed in [false, true] {
        if changed {
            std::fs::write(lab.path("f"), vec![0; SOME]).unwrap();
        }
        request(&lab, "a", "POST", &format!("/tasks/{}/reopen", task.id), "{}").await;
        let b = lab.agent("b", |options| options.timeout = 2 * SECOND);
        b.watch(None);
        let (offer, _) = b.offer().await;
        let accepted = timeout(PATIENCE, b.accept(offer, lab.path("f"))).await.unwrap();
        assert_eq!(accepted.is_ok(), !changed, "{accepted:?}");
        // What is here is read, whoever comes then.
        assert!(b.phases().contains(&Phase::Hashing), "{:?}", b.phases());
        b.node.destroy().await;
    }
    lab.close([]).await;
}

/// What agents have no call for, in the name of an actor.
pub(crate) async fn request(lab: &Lab, actor: &str, method: &str, path: &str, body: &str) {
    let address = lab.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-Actor-ID: {actor}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
