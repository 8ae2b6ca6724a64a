//! Who is at the other end: what peers say of themselves, and what others say in their name.

use std::net::SocketAddr;
use std::time::Duration;

use ats_p2p::ats::{Client, Status, Task};
use ats_p2p::error::{Code, Error};
use ats_p2p::event::PeerIdentity;
use ats_p2p::trust::{SeedChoice, Standing};
use ats_p2p::wire::FrameType;
use futures_util::future::join_all;
use hyperswarm::Swarm;
use protocol::completion::Completion;
use protocol::identity::IdentityKey;
use protocol::offer::Offer;
use protocol::p2p::P2p;
use protocol::statement::Role;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::lab::{Agent, Lab, PATIENCE, allowed, content, sha256};
use crate::peer::{
    LEASE, Recipient, Sender, dial, dialled, look_for, offer_payload, offered, p2p, post, say, signed,
    signed_offer, try_dial, until, wait_on,
};
use crate::senders::request;

/// How many stand between two peers.
const IMPOSTORS: usize = 10;

/// An offer by `a` to `b`, as a peer of ours without an identity makes it.
fn from_ours() -> Value {
    let mut payload = offer_payload(&uuid::Uuid::new_v4().to_string(), "f", b"content", "a", Some("b"));
    payload["p2p"] = p2p(&KeyPair::generate(), 1);
    payload
}

/// Sends a file from `a` to `b`, which watches without a folder and takes it.
async fn exchange(lab: &Lab, a: &Agent, b: &Agent) -> (PeerIdentity, PeerIdentity) {
    let sending = a.sending(lab.file("f", 1000), "b");
    let (offer, told) = b.offer().await;
    let received = b.accept(offer, lab.path("g")).await.unwrap();
    let sent = sending.await.unwrap().unwrap();
    // What either was told is read to the end, for the sake of the next transfer.
    for agent in [a, b] {
        agent.event_named("transfer_complete").await;
    }
    assert_eq!(sha256(&lab.path("g")), sent.hash);
    assert_eq!(told.peer, received.peer, "what was told before the answer holds at the end");
    (sent.peer, received.peer)
}

/// Another machine that goes by an actor's name.
fn impostor(lab: &Lab, actor_id: &str) -> Agent {
    let home = lab.path(&format!("home of another {actor_id}"));
    lab.agent(actor_id, |options| options.home = home)
}

/// Another address under which the same service is reached.
async fn another_way_to(hub: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(hub).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    address
}

/// Two agents that know each other.
async fn acquainted(lab: &Lab) -> (Agent, Agent) {
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    exchange(lab, &a, &b).await;
    (a, b)
}

/// Puts another payload into a pending task of `a`, as anybody can on a service that asks nobody who they
/// are.
pub(crate) async fn rewrite(lab: &Lab, task: &Task, payload: &Value) {
    let body = json!({ "payload": payload }).to_string();
    request(lab, "a", "PATCH", &format!("/tasks/{}", task.id), &body).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_meet_for_the_first_time_know_each_other_afterwards() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let identity = |agent: &Agent| agent.node.trust().identity().unwrap().unwrap().public_key();
    for standing in [Standing::FirstUse, Standing::Known, Standing::Known] {
        let (b_as_seen, a_as_seen) = exchange(&lab, &a, &b).await;
        assert_eq!(a_as_seen, PeerIdentity { identity: Some(identity(&a)), standing });
        assert_eq!(b_as_seen, PeerIdentity { identity: Some(identity(&b)), standing });
    }
    let known = a.node.trust().peers().unwrap();
    assert_eq!(known.iter().map(|peer| peer.actor.as_str()).collect::<Vec<_>>(), ["b"]);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_service_by_two_names_is_no_other_service() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |_| {});
    let (other_name, bootstrap) = (another_way_to(lab.address()).await, lab.bootstrap());
    let b = lab.agent("b", |options| {
        options.ats.url = Some(format!("http://{other_name}"));
        options.bootstrap = Some(bootstrap);
    });
    b.watch(None);
    exchange(&lab, &a, &b).await;
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_the_name_of_a_known_actor_is_refused_at_either_end() {
    let lab = Lab::new().await;
    let (a, b) = acquainted(&lab).await;
    let false_a = impostor(&lab, "a");
    let error = false_a.send(&lab.file("f", 10), "b").await.unwrap_err();
    assert_eq!(error.code, Code::Rejected, "{error}");
    assert_eq!(b.failure().await, Code::Identity);

    b.node.destroy().await;
    let false_b = impostor(&lab, "b");
    false_b.watch(Some(lab.path("in")));
    let error = a.send(&lab.file("f", 10), "b").await.unwrap_err();
    assert_eq!(error.code, Code::Identity);
    let shown = false_b.node.trust().identity().unwrap().unwrap().public_key();
    assert!(error.message.contains("ats-p2p peers accept b") && error.message.contains(&hex::encode(shown)));
    false_b.event_named("transfer_failed").await;
    assert!(lab.listing("in").is_empty());

    // Once a person says so, it is the other one that counts.
    a.node.trust().accept("b", Some(shown)).unwrap();
    a.send(&lab.file("f", 10), "b").await.unwrap();
    lab.close([a, false_a, false_b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_offer_of_a_known_actor_that_somebody_rewrote_is_refused() {
    let lab = Lab::new().await;
    let (a, b) = acquainted(&lab).await;
    b.node.destroy().await;
    let mallory = IdentityKey::from_seed(&[7; 32]);
    let changes: [fn(&mut Value); 8] = [
        |payload| drop(payload.as_object_mut().unwrap().remove("p2p")),
        |payload| payload["p2p"] = Value::Null,
        |payload| payload["filename"] = json!("other.sh"),
        |payload| payload["hash"] = json!("0".repeat(64)),
        |payload| payload["p2p"]["key"] = json!("07".repeat(32)),
        |payload| payload["sender_id"] = json!("mallory"),
        |payload| {
            // An original's may differ from its task, but not from an actor that shows an identity.
            payload["sender_id"] = json!("mallory");
            payload.as_object_mut().unwrap().remove("p2p");
        },
        |payload| payload["p2p"] = p2p(&KeyPair::generate(), u64::MAX),
    ];
    let changed = |task: &Task, change: fn(&mut Value)| {
        let mut payload = task.payload.clone();
        change(&mut payload);
        payload
    };
    let unsigned = changes.len() - 1;
    for number in 0..=changes.len() {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &lab.client("b")).await;
        let payload = match changes.get(number) {
            Some(change) => changed(&task, *change),
            None => signed_offer(&lab, changed(&task, changes[unsigned]), &mallory),
        };
        rewrite(&lab, &task, &payload).await;
        let b = lab.agent("b", |_| {});
        b.watch(Some(lab.path("in")));
        assert_eq!(b.failure().await, Code::Identity, "change {number}");
        assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Rejected);
        b.node.destroy().await;
    }
    assert!(lab.listing("in").is_empty());
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_say_in_a_known_recipients_name_gets_them_nothing() {
    let lab = Lab::new().await;
    let (a, b) = acquainted(&lab).await;
    b.node.destroy().await;
    let sending = a.sending(lab.file("f", 100_000), "b");
    let mut impostor = Recipient::new(&lab).await;
    let task = offered(&a, &impostor.client).await;
    let key = IdentityKey::from_seed(&[7; 32]);
    let unsigned = KeyPair::generate();
    say(&impostor.client, &task, p2p(&unsigned, u64::MAX - 1)).await;
    let mine = p2p(&impostor.keys, u64::MAX);
    say(&impostor.client, &task, signed(&lab, mine.clone(), Role::Receiver, &task, &key)).await;
    // What b itself once signed for another task is nothing here.
    say(&impostor.client, &task, json!({ "version": 2 })).await;
    let knocking: Vec<_> = [impostor.keys.clone(), unsigned]
        .map(|keys| {
            let (dht, task) = (impostor.dht.clone(), task.clone());
            tokio::spawn(async move { try_dial(&dht, &task, &keys).await.is_some() })
        })
        .into();
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let sent = sending.await.unwrap().unwrap();
    assert_eq!(sha256(&lab.path("in").join("f")), sent.hash);
    for knocking in knocking {
        assert!(!timeout(PATIENCE, knocking).await.unwrap().unwrap(), "an impostor was let in");
    }
    b.node.destroy().await;

    // Alone on the task, whoever claims in b's name is refused.
    impostor.keys = KeyPair::generate();
    for said in [None, Some(p2p(&impostor.keys, 9)), Some(json!({}))] {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &impostor.client).await;
        if let Some(said) = said {
            say(&impostor.client, &task, said).await;
        }
        impostor.client.claim(&task.id, LEASE).await.unwrap();
        assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Identity);
        until(&impostor.client, &task.id, Status::Failed).await;
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_recipient_signed_for_another_task_or_part_is_nothing_here() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let key = IdentityKey::from_seed(&[1; 32]);
    let mut before: Option<Task> = None;
    for role in [Role::Sender, Role::Done { duration_ms: 1, completed_at: 1 }, Role::Receiver] {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &b.client).await;
        let signed_for = if role == Role::Receiver { before.as_ref().unwrap() } else { &task };
        b.take(&task, signed(&lab, p2p(&b.keys, 1), role, signed_for, &key)).await;
        assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Identity, "{role:?}");
        before = Some(task);
    }
    lab.close([a]).await;
}

/// Waits on the topic of a transfer, so many times, and looks for others there.
async fn on_topic(lab: &Lab, task: &Task) -> Vec<Swarm> {
    let dht = lab.dht().await;
    let waiting = join_all((0..IMPOSTORS / 2).map(|_| wait_on(&dht, task))).await;
    waiting.into_iter().chain((0..IMPOSTORS / 2).map(|_| look_for(&dht, task))).collect()
}

/// The bytes that came to anybody on a topic until their connections ended.
async fn overheard(swarms: Vec<Swarm>) -> usize {
    let listening = swarms.iter().map(|swarm| async {
        let mut heard = 0;
        while let Some((mut connection, _)) = swarm.accept().await {
            while let Ok(Some(message)) = connection.stream.recv().await {
                heard += message.len();
            }
        }
        heard
    });
    // They stay as long as they like; nobody speaks to them.
    let heard = join_all(listening.map(|heard| timeout(Duration::from_secs(2), heard))).await;
    heard.into_iter().map(Result::unwrap_or_default).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_impostors_on_the_topic_get_no_byte_and_hinder_nobody() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    // Strangers to each other at first, known afterwards: there is a topic to sit on or there is none.
    for _ in 0..2 {
        let sending = a.sending(lab.file("f", 100_000), "b");
        let (offer, told) = b.offer().await;
        let task = lab.client("c").get(&told.task_id.unwrap()).await.unwrap();
        let impostors = on_topic(&lab, &task).await;
        let overheard = tokio::spawn(overheard(impostors));
        b.accept(offer, lab.path("g")).await.unwrap();
        let sent = sending.await.unwrap().unwrap();
        assert_eq!(sha256(&lab.path("g")), sent.hash);
        assert_eq!(overheard.await.unwrap(), 0);
    }
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_impostors_at_the_keys_get_no_byte_and_hinder_nobody() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let sending = a.sending(lab.file("f", 100_000), "b");
    let (offer, told) = b.offer().await;
    let task = lab.client("c").get(&told.task_id.unwrap()).await.unwrap();
    let dht = lab.dht().await;
    let knocking: Vec<_> = (0..IMPOSTORS)
        .map(|_| {
            let (dht, task) = (dht.clone(), task.clone());
            tokio::spawn(async move { try_dial(&dht, &task, &KeyPair::generate()).await.is_some() })
        })
        .collect();
    b.accept(offer, lab.path("g")).await.unwrap();
    sending.await.unwrap().unwrap();
    for knocking in knocking {
        assert!(!timeout(PATIENCE, knocking).await.unwrap().unwrap(), "an impostor was let in");
    }
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_verified_peers_are_wanted_no_other_is_dealt_with() {
    let lab = Lab::new().await;
    let strict = |actor: &str| lab.agent(actor, |options| options.require_verified = true);
    let (a, b) = (strict("a"), strict("b"));
    b.watch(None);
    let client = lab.client("a");
    let original = offer_payload("an original's", "f", b"content", "a", Some("b"));
    for payload in [original, from_ours()] {
        let task = post(&client, payload).await;
        assert_eq!(b.failure().await, Code::Identity);
        until(&client, &task.id, Status::Rejected).await;
    }
    let c = Recipient::new(&lab).await;
    let c_client = lab.client("c");
    for keys in [None, Some(&c.keys)] {
        let sending = a.sending(lab.file("f", 10), "c");
        let task = offered(&a, &c_client).await;
        if let Some(keys) = keys {
            say(&c_client, &task, p2p(keys, 1)).await;
        }
        c_client.claim(&task.id, LEASE).await.unwrap();
        assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Identity);
    }
    exchange(&lab, &a, &b).await;
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_was_named_for_an_actor_needs_no_faith() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    let shown = |agent: &Agent| hex::encode(agent.node.trust().identity().unwrap().unwrap().public_key());
    let (of_a, of_b) = (shown(&a), shown(&b));
    a.node.destroy().await;
    b.node.destroy().await;
    let with =
        |actor: &str, peers: &[&str]| lab.agent(actor, |options| options.allowed_peers = allowed(peers));
    let (a, b) = (with("a", &[&format!("b={of_b}")]), with("b", &[&format!("a={of_a}")]));
    b.watch(None);
    let (b_as_seen, a_as_seen) = exchange(&lab, &a, &b).await;
    assert_eq!((b_as_seen.standing, a_as_seen.standing), (Standing::Known, Standing::Known));
    b.node.destroy().await;

    // Another one than was named is refused, on the first meeting already.
    let home = lab.path("a home that knows nobody");
    let b = lab.agent("b", |options| {
        options.allowed_peers = allowed(&[&format!("a={of_b}")]);
        options.home = home.clone();
    });
    b.watch(Some(lab.path("in")));
    assert_eq!(a.send(&lab.file("f", 10), "b").await.unwrap_err().code, Code::Rejected);
    assert_eq!(b.failure().await, Code::Identity);
    b.node.destroy().await;
    let b = lab.agent("b", |options| options.home = home);
    b.watch(Some(lab.path("in")));
    assert_eq!(a.send(&lab.file("f", 10), "b").await.unwrap_err().code, Code::Identity);
    b.failure().await;
    assert!(lab.listing("in").is_empty());
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_an_identity_is_a_peer_like_any_until_it_had_one() {
    let lab = Lab::new().await;
    let anonymous = |actor: &str| lab.agent(actor, |options| options.identity = SeedChoice::Nobody);
    let (a, b) = (anonymous("a"), lab.agent("b", |_| {}));
    b.watch(None);
    let (_, a_as_seen) = exchange(&lab, &a, &b).await;
    assert_eq!(a_as_seen, PeerIdentity::UNKNOWN);
    a.node.destroy().await;
    let a = lab.agent("a", |_| {});
    exchange(&lab, &a, &b).await;
    a.node.destroy().await;
    let a = anonymous("a");
    assert_eq!(a.send(&lab.file("f", 10), "b").await.unwrap_err().code, Code::Rejected);
    assert_eq!(b.failure().await, Code::Identity);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_of_one_actor_one_takes_the_file_and_neither_disturbs_the_other() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |_| {});
    let (one, other) = (lab.agent("b", |_| {}), lab.agent("b", |_| {}));
    one.watch(Some(lab.path("in")));
    other.watch(Some(lab.path("in")));
    for number in 1..=5 {
        let sent = a.send(&lab.file("f", 100_000 * number), "b").await.unwrap();
        let files = || lab.listing("in").into_iter().filter(|name| !name.ends_with(".part"));
        assert_eq!(files().count(), number, "{:?}", lab.listing("in"));
        assert!(files().any(|name| sha256(&lab.path("in").join(name)) == sent.hash));
    }
    lab.close([a, one, other]).await;
}

/// Completes a task as a recipient with this identity does.
async fn complete(lab: &Lab, client: &Client, task: &Task, keys: &KeyPair, key: Option<&IdentityKey>) {
    let offer = Offer::from_payload(&task.payload).unwrap();
    let (duration_ms, completed_at) = (5, 7);
    let role = Role::Done { duration_ms, completed_at };
    let p2p = match key {
        Some(key) => signed(lab, p2p(keys, 1), role, task, key),
        None => p2p(keys, 1),
    };
    let completion = Completion { duration_ms, completed_at, p2p: P2p::from_value(&p2p).unwrap() };
    client.complete(&task.id, vec![completion.to_output(&offer, "b")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_counts_by_the_signature_of_whoever_was_admitted() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let (key, other) = (IdentityKey::from_seed(&[1; 32]), IdentityKey::from_seed(&[2; 32]));
    for (signer, expected) in
        [(None, Err(Code::Identity)), (Some(&other), Err(Code::Identity)), (Some(&key), Ok(()))]
    {
        let sending = a.sending(lab.file("f", 10), "b");
        let task = offered(&a, &b.client).await;
        b.take(&task, signed(&lab, p2p(&b.keys, 1), Role::Receiver, &task, &key)).await;
        let mut peer = dial(&b.dht, &task, &b.keys).await;
        peer.take_until(FrameType::Done).await;
        drop(peer);
        complete(&lab, &b.client, &task, &b.keys, signer).await;
        let result = sending.await.unwrap().map(drop).map_err(|error: Error| error.code);
        assert_eq!(result, expected);
    }
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsigned_peer_is_held_to_its_key_and_a_signed_one_to_its_identity() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", 100_000), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    peer.take_until(FrameType::Meta).await;
    // Others come later, with a higher number: another key, and somebody with an identity.
    let (unsigned, with_identity) = (KeyPair::generate(), KeyPair::generate());
    say(&b.client, &task, p2p(&unsigned, 2)).await;
    let key = IdentityKey::from_seed(&[2; 32]);
    say(&b.client, &task, signed(&lab, p2p(&with_identity, 3), Role::Receiver, &task, &key)).await;
    for keys in [&unsigned, &with_identity] {
        assert!(try_dial(&b.dht, &task, keys).await.is_none(), "another peer was let in");
    }
    peer.take_until(FrameType::Done).await;
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_follows_its_sender_and_nobody_who_speaks_in_its_name() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let a = Sender::new(&lab).await;
    let (key, other) = (IdentityKey::from_seed(&[1; 32]), IdentityKey::from_seed(&[2; 32]));
    // Nobody listens on the key that the offer names any more.
    let mut payload = offer_payload(&uuid::Uuid::new_v4().to_string(), "f", &content(9), "a", Some("b"));
    payload["p2p"] = p2p(&KeyPair::generate(), 1);
    let task = post(&a.client, signed_offer(&lab, payload, &key)).await;
    let task = until(&a.client, &task.id, Status::InProgress).await;
    let impostor = Sender::new(&lab).await;
    say(&a.client, &task, p2p(&impostor.keys, 9)).await;
    say(&a.client, &task, signed(&lab, p2p(&impostor.keys, 8), Role::Sender, &task, &other)).await;
    say(&a.client, &task, signed(&lab, p2p(&a.keys, 7), Role::Sender, &task, &key)).await;
    let (mut a, mut impostor) = (a, impostor);
    let mut peer = tokio::select! {
        peer = dialled(&mut a.server) => peer,
        _ = dialled(&mut impostor.server) => panic!("an impostor was dialled"),
    };
    peer.announce(&task.payload).await;
    peer.hand_over(&content(9)).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    lab.close([b]).await;
}
