//! Who is not joined, and what they are told.

use hub::TunnelAccess;
use protocol::tunnel::{PATH, close};
use reqwest::Method;
use secret_stream::KeyPair;
use serde_json::json;
use tokio::net::TcpStream;

use super::{End, host_of, hub_for, pair, path_of, task_of};
use crate::support::{Caller, TestHub};

/// The status of a try to open the tunnel with these headers.
async fn status(hub: &TestHub, headers: &[(&'static str, String)]) -> u16 {
    let (address, keys) = (hub.hub.local_addr(), KeyPair::generate());
    let stream = TcpStream::connect(address).await.expect("a connection");
    End::open_over(stream, address, &keys, [7; 32], headers).await.err().unwrap_or(101)
}

#[tokio::test]
async fn what_is_no_request_for_the_tunnel_is_told_so() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let (one, other) = (hex::encode([0xab; 32]), hex::encode([0xcd; 32]));
    for query in [
        String::new(),
        format!("?key={one}"),
        format!("?key={one}&peer={one}"),
        format!("?key={one}&peer={}", &other[2..]),
        format!("?key={one}&peer={}", other.to_uppercase()),
        format!("?key={one}&peer={other}&key={other}"),
        format!("?key={one}&peer={}x", &other[1..]),
    ] {
        let (status, answer) = a.call(Method::GET, &format!("{PATH}{query}"), None).await;
        assert!(status == 400 && answer["error"].is_string(), "{query}: {status} {answer}");
    }
    let (status, answer) = a.call(Method::GET, &format!("{PATH}?key={one}&peer={other}"), None).await;
    assert!(status == 426 && answer["error"].is_string(), "{status} {answer}");
}

#[tokio::test]
async fn a_hub_without_a_tunnel_says_so() {
    let hub = hub_for(TunnelAccess::Off).await;
    assert_eq!(status(&hub, &[]).await, 404);
}

#[tokio::test]
async fn a_key_of_the_hub_is_asked_for_where_the_tunnel_is_for_those_who_have_one() {
    let elsewhere = || ("x-forwarded-for", "203.0.113.9".to_owned());
    let encrypted = || ("x-forwarded-proto", "https".to_owned());
    let hub = TestHub::start_with(|config| {
        config.tunnel = TunnelAccess::Keys;
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    assert_eq!(status(&hub, &[elsewhere(), encrypted()]).await, 401);
    let key = hub.key("b", false).await;
    let shown = |key: &str| ("authorization", format!("Bearer {key}"));
    assert_eq!(status(&hub, &[elsewhere(), encrypted(), shown(&key)]).await, 101);
    assert_eq!(status(&hub, &[elsewhere(), shown(&key)]).await, 403, "over plain HTTP");
    let over = hub.key_that_is_over("b").await;
    assert_eq!(status(&hub, &[elsewhere(), encrypted(), shown(&over)]).await, 401);

    // Elsewhere the task is the permission, but a key that opens nothing is still told so.
    let hub = TestHub::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    assert_eq!(status(&hub, &[elsewhere()]).await, 101);
    let over = hub.key_that_is_over("b").await;
    assert_eq!(status(&hub, &[elsewhere(), encrypted(), shown(&over)]).await, 401);
}

#[tokio::test]
async fn an_end_that_is_there_by_a_key_of_the_hub_is_closed_when_that_is_revoked() {
    let hub = hub_for(TunnelAccess::Keys).await;
    let mut keys = hub.keys().await;
    let key = keys.create("b", false, None).await.expect("a key");
    let shown = [("authorization", format!("Bearer {}", key.expose()))];
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let address = hub.hub.local_addr();
    let stream = TcpStream::connect(address).await.expect("a connection");
    let mut one = End::open_over(stream, address, &a, b.public_key(), &shown).await.expect("opened");
    one.prove(&a, a.public_key(), b.public_key(), &host_of(address)).await;
    let other = End::enter(address, &b, a.public_key()).await;
    let (one, other) = tokio::join!(one.joined(), other.joined());
    keys.revoke(key.id).await.expect("revoked");
    assert_eq!(one.closed().await, close::NOT_ALLOWED);
    assert_eq!(other.closed().await, close::PEER_GONE);
}

#[tokio::test]
async fn nobody_is_taken_for_another() {
    let hub = TestHub::start().await;
    let (a, b, thief) = (KeyPair::generate(), KeyPair::generate(), KeyPair::generate());
    task_of(&hub.caller("a"), &[&a, &b]).await;
    let (address, (key, peer)) = (hub.hub.local_addr(), (a.public_key(), b.public_key()));
    let host = host_of(address);

    let mut by_another = End::open(address, &a, peer).await;
    by_another.prove(&thief, key, peer, &host).await;
    let mut for_another_hub = End::open(address, &a, peer).await;
    for_another_hub.prove(&a, key, peer, "hub.example").await;
    let mut for_another_peer = End::open(address, &a, peer).await;
    for_another_peer.prove(&a, key, thief.public_key(), &host).await;
    let mut replayed = End::open(address, &a, peer).await;
    replayed.challenge = for_another_peer.challenge;
    replayed.prove(&a, key, peer, &host).await;
    for end in [by_another, for_another_hub, for_another_peer, replayed] {
        assert_eq!(end.closed().await, close::NOT_PROVEN);
    }
    let silent = End::open(address, &a, peer).await;
    assert_eq!(silent.closed().await, close::NOT_PROVEN);
}

#[tokio::test]
async fn what_is_signed_may_name_the_hub_by_its_public_url() {
    let hub = TestHub::start_with(|config| {
        config.public_url = hub::parse_public_url("https://hub.example/");
        config.tunnel = TunnelAccess::Open;
    })
    .await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let address = hub.hub.local_addr();
    let mut one = End::open(address, &a, b.public_key()).await;
    one.prove(&a, a.public_key(), b.public_key(), "hub.example").await;
    let other = End::enter(address, &b, a.public_key()).await;
    tokio::join!(one.joined(), other.joined());
}

#[tokio::test]
async fn no_two_are_joined_that_no_open_task_names() {
    let hub = TestHub::start().await;
    let [a, b, c, d] = [(); 4].map(|()| KeyPair::generate());
    let caller = hub.caller("a");
    task_of(&caller, &[&a]).await;
    task_of(&caller, &[&b]).await;
    let ended = task_of(&caller, &[&c, &d]).await;
    caller.post(&format!("/tasks/{ended}/cancel"), json!({})).await;
    let address = hub.hub.local_addr();
    // Each in a task of its own; in one that is over; in none.
    let in_two = End::enter(address, &a, b.public_key()).await;
    let in_two = (in_two, End::enter(address, &b, a.public_key()).await);
    let over = End::enter(address, &c, d.public_key()).await;
    let over = (over, End::enter(address, &d, c.public_key()).await);
    let nowhere = End::enter(address, &KeyPair::generate(), a.public_key()).await;
    let codes = tokio::join!(in_two.1.closed(), over.0.closed(), over.1.closed(), nowhere.closed());
    assert_eq!(codes, (close::NOT_ALLOWED, close::NOT_ALLOWED, close::NOT_ALLOWED, close::NOT_ALLOWED));
    // The one that a task names may go on waiting.
    drop(in_two.0);
}

#[tokio::test]
async fn a_peer_is_met_by_the_key_that_it_was_named_by_alone() {
    let hub = hub_for(TunnelAccess::Open).await;
    let [a, b, stranger] = [(); 3].map(|()| KeyPair::generate());
    let address = hub.hub.local_addr();
    let mut one = End::enter(address, &a, b.public_key()).await;
    let mut uninvited = End::enter(address, &stranger, a.public_key()).await;
    uninvited.send(b"from a stranger".to_vec()).await;
    let mut other = End::enter(address, &b, a.public_key()).await.joined().await;
    one = one.joined().await;
    other.send(b"from the peer".to_vec()).await;
    assert_eq!(one.receive(13).await, b"from the peer");
}

#[tokio::test]
async fn there_are_as_many_pairs_as_the_relay_may_have() {
    let hub = TestHub::start_with(|config| config.relay_limits.pairs = 1).await;
    let first = pair(&hub).await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    task_of(&hub.caller("a"), &[&a, &b]).await;
    let address = hub.hub.local_addr();
    let one = End::enter(address, &a, b.public_key()).await;
    let other = End::enter(address, &b, a.public_key()).await;
    assert_eq!(other.closed().await, close::LIMITED);
    drop(first);
    drop(one);
}

#[tokio::test]
async fn a_pair_ends_when_it_has_sent_what_it_may() {
    let hub = TestHub::start_with(|config| config.relay_limits.bytes_per_pair = 300_000).await;
    let ((_, mut one), (_, mut other)) = pair(&hub).await;
    one.send(vec![1; 200_000]).await;
    assert_eq!(other.receive(200_000).await.len(), 200_000);
    other.send(vec![2; 200_000]).await;
    assert_eq!(other.closed().await, close::LIMITED);
    assert_eq!(one.closed().await, close::LIMITED);
}

#[tokio::test]
async fn the_api_says_what_passes() {
    let hub = TestHub::start().await;
    let ((_, mut one), (_, mut other)) = pair(&hub).await;
    one.send(vec![1; 1000]).await;
    other.receive(1000).await;
    let a: Caller = hub.caller("a");
    let metrics = a.http.get(format!("{}/metrics", a.base)).send().await.expect("an answer");
    let text = metrics.text().await.expect("a text");
    for line in ["ats_hub_tunnel_pairs 1", "ats_hub_tunnel_ends 2", "ats_hub_tunnel_bytes_total 1008"] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let keys = KeyPair::generate();
    assert!(path_of(&keys, [1; 32]).starts_with(PATH));
}
