//! What one actor must not do to others, wherever it comes from; nor others at its address to it.

use hub::HubConfig;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, RawCaller, TestHub};

/// A hub behind a proxy, which says where requests come from.
async fn hub(set_up: impl FnOnce(&mut HubConfig)) -> TestHub {
    TestHub::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        set_up(config);
    })
    .await
}

/// An actor at an address of another network.
fn at(hub: &TestHub, address: u8, actor: &str, key: &str) -> Caller {
    let mut caller = hub.caller(actor).encrypted().with_key(key);
    caller.headers.push(("x-forwarded-for", format!("203.0.113.{address}")));
    caller
}

async fn list(caller: &Caller) -> (u16, Value) {
    caller.call(Method::GET, "/tasks", None).await
}

async fn status(caller: &Caller) -> u16 {
    list(caller).await.0
}

#[tokio::test]
async fn an_actor_at_many_addresses_has_one_rate_and_one_at_its_address_has_another() {
    const ADDRESSES: u8 = 40;
    let hub = hub(|config| config.requests_per_second = 1).await;
    let (key, other) = (hub.key("a", false).await, hub.key("b", false).await);
    let mut served = 0;
    let mut refused = Value::Null;
    for address in 1..=ADDRESSES {
        let a = at(&hub, address, "a", &key);
        for _ in 0..5 {
            // Each address alone may ask for so many at once.
            match list(&a).await {
                (200, _) => served += 1,
                (429, said) => refused = said,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(served < 100, "{served} of 200 were served");
    assert!(refused["error"].as_str().is_some_and(|said| said.contains("this actor")), "{refused}");
    // Neither its addresses nor whoever else is there have less for it.
    assert_eq!(status(&at(&hub, ADDRESSES, "b", &other)).await, 200);
    assert_eq!(status(&at(&hub, 1, "b", &other)).await, 200);
}

#[tokio::test]
async fn who_tries_keys_uses_up_what_its_address_may_ask_for_and_no_actor_has_less_for_it() {
    let hub = hub(|config| config.requests_per_second = 1).await;
    let key = hub.key("a", false).await;
    let a = at(&hub, 1, "a", &key);
    assert_eq!(status(&a).await, 200);
    let wrong = format!("atsp2p_key_{}", "0".repeat(64));
    let thief = at(&hub, 1, "a", &wrong);
    let mut tries = Vec::new();
    while tries.last() != Some(&429) && tries.len() < 200 {
        tries.push(status(&thief).await);
    }
    assert_eq!((tries[0], tries.last()), (401, Some(&429)), "{tries:?}");
    assert_eq!(status(&a).await, 200);
}

#[tokio::test]
async fn a_key_that_was_revoked_uses_up_nothing_of_its_actor() {
    let hub = hub(|config| config.requests_per_second = 1).await;
    let mut keys = hub.keys().await;
    let (stolen, new) = (keys.create("a", false, None).await.expect("a key"), hub.key("a", false).await);
    let thief = at(&hub, 1, "a", stolen.expose());
    assert_eq!(status(&thief).await, 200);
    keys.revoke(stolen.id).await.expect("revoked");
    keys.close().await.expect("closed");
    let mut tries = Vec::new();
    while tries.last() != Some(&429) && tries.len() < 200 {
        tries.push(status(&thief).await);
    }
    assert_eq!((tries[0], tries.last()), (401, Some(&429)), "{tries:?}");
    assert_eq!(status(&at(&hub, 2, "a", &new)).await, 200);
}

#[tokio::test]
async fn an_actor_does_not_fill_the_disk_by_way_of_many_addresses() {
    let hub = hub(|config| config.stored_bytes_per_day = 128 * 1024).await;
    let (key, other) = (hub.key("a", false).await, hub.key("b", false).await);
    assert_eq!(status(&at(&hub, 1, "a", &key)).await, 200);
    let body = json!({"title": "t", "payload": {"x": "x".repeat(20 * 1024)}});
    let mut statuses = Vec::new();
    for address in 1..=9 {
        let a = at(&hub, address, "a", &key);
        statuses.push(a.call(Method::POST, "/tasks", Some(body.clone())).await.0);
    }
    assert_eq!(statuses, [201, 201, 201, 201, 201, 201, 429, 429, 429]);
    assert_eq!(status(&at(&hub, 9, "a", &key)).await, 200);
    let b = at(&hub, 9, "b", &other);
    assert_eq!(b.call(Method::POST, "/tasks", Some(body)).await.0, 201);
}

#[tokio::test]
async fn an_actor_has_so_many_websockets_at_all_its_addresses_and_others_there_have_theirs() {
    // Of which nine are for the WebSockets of one actor.
    let hub = hub(|config| config.max_connections = 192).await;
    let (key, other) = (hub.key("a", false).await, hub.key("b", false).await);
    let mut held = Vec::new();
    for address in 1..=9 {
        held.push(at(&hub, address, "a", &key).open().await);
    }
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Actor-ID: a\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.99\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    let mut one_more = RawCaller::connect(hub.hub.local_addr()).await;
    one_more.send(&upgrade).await;
    assert_eq!(one_more.begin().await, "HTTP/1.1 429");
    for _ in 0..9 {
        held.push(at(&hub, 1, "b", &other).open().await);
    }
}
