//! What one client must not do to all others.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::support::{Caller, PATIENCE, RawCaller, TestHub, ask};

/// How long a client that is held back is watched.
const HELD_BACK: Duration = Duration::from_secs(1);

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// How the answer to a request begins.
async fn begin(hub: &TestHub, request: &str) -> String {
    let mut caller = RawCaller::connect(hub.hub.local_addr()).await;
    caller.send(request).await;
    caller.begin().await
}

/// The pongs used to be kept for it, hundreds of megabytes within seconds.
#[tokio::test]
async fn one_that_sends_pings_and_reads_no_pongs_waits_for_itself() {
    let hub = TestHub::start().await;
    let mut flood = RawCaller::connect(hub.hub.local_addr()).await;
    flood.send(UPGRADE).await;
    let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
    ping.resize(6 + 125, b'x');
    let pings = ping.repeat(1000);
    let mut sent = 0;
    while let Ok(done) = timeout(HELD_BACK, flood.0.write_all(&pings)).await {
        done.expect("sent");
        sent += pings.len();
        assert!(sent < 32 << 20, "the hub takes whatever comes");
    }
    // Others do not notice.
    let a = hub.caller("a");
    let mut listener = a.subscribe(json!({"type": "subscribe"})).await;
    let id = a.make_task(json!({"title": "t"})).await;
    assert_eq!(listener.next_event().await, ("task.created".into(), id));
}

/// Time jumps here whenever nothing else is left to do.
#[tokio::test]
async fn one_that_asks_and_does_not_read_the_answer_is_cut() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for n in 0..60 {
        a.make_task(json!({"title": n.to_string(), "payload": {"x": "x".repeat(250 * 1024)}})).await;
    }
    let mut caller = RawCaller::connect(hub.hub.local_addr()).await;
    caller.send("GET /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(caller.begin().await, "HTTP/1.1 200");
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(12)).await;
    tokio::time::resume();
    let answer = caller.rest().await;
    assert!(answer.len() < 15 << 20, "{} bytes", answer.len());
}

/// A client with 1,024 connections used to lock everyone out, for as long as it liked.
#[tokio::test]
async fn connections_on_which_nothing_happens_give_way() {
    let hub = TestHub::start_with(|config| config.max_connections = 32).await;
    let mut idle = Vec::new();
    for n in 0..100 {
        let mut caller = RawCaller::connect(hub.hub.local_addr()).await;
        match n % 3 {
            0 => {}
            1 => caller.send("GET /health HTTP/1.1\r\nHost: loc").await,
            _ => {
                caller.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
                assert_eq!(caller.begin().await, "HTTP/1.1 200");
            }
        }
        idle.push(caller);
    }
    assert_eq!(hub.caller("a").make_task(json!({"title": "t"})).await, 1);
    drop(idle);
}

#[tokio::test]
async fn one_client_that_keeps_all_its_places_busy_leaves_some_to_others() {
    let hub = TestHub::start_with(|config| {
        config.max_connections = 32;
        config.listen.set_ip([0, 0, 0, 0].into());
    })
    .await;
    let here = ([127, 0, 0, 1], hub.hub.local_addr().port()).into();
    let mut busy = Vec::new();
    for _ in 0..24 {
        let mut caller = RawCaller::connect(here).await;
        caller
            .send(
                "POST /tasks HTTP/1.1\r\nHost: localhost\r\nX-Actor-ID: a\r\nContent-Length: 9\r\n\
                 Expect: 100-continue\r\n\r\n",
            )
            .await;
        // It is at work once it waits for the body.
        assert_eq!(caller.begin().await, "HTTP/1.1 100");
        busy.push(caller);
    }
    let answer = ask(here, "GET /health HTTP/1.1\r\nHost: localhost").await;
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("Retry-After: "), "{answer}");
    // Another address of this machine is another client's, as far as the hub knows.
    let elsewhere = hub.hub.urls()[0].trim_start_matches("http://").parse().expect("an address");
    if elsewhere != here {
        Caller::new(elsewhere, "b").get("/health").await;
    }
    drop(busy.pop());
    let freed = async {
        while !ask(here, "GET /health HTTP/1.1\r\nHost: localhost").await.starts_with("HTTP/1.1 200") {}
    };
    timeout(PATIENCE, freed).await.expect("a place in time");
}

#[tokio::test]
async fn one_client_has_so_many_websockets_and_still_its_requests() {
    let hub = TestHub::start_with(|config| config.max_connections = 32).await;
    let a = hub.caller("a");
    let mut held = Vec::new();
    for _ in 0..18 {
        held.push(a.open().await);
    }
    assert_eq!(begin(&hub, UPGRADE).await, "HTTP/1.1 429");
    a.make_task(json!({"title": "t"})).await;
    drop(held.pop());
    let freed = async { while begin(&hub, UPGRADE).await != "HTTP/1.1 101" {} };
    timeout(PATIENCE, freed).await.expect("a place in time");
}

#[tokio::test]
async fn one_that_never_finishes_does_not_hold_up_the_end() {
    let hub = TestHub::start().await;
    let mut dawdler = RawCaller::connect(hub.hub.local_addr()).await;
    dawdler
        .send("POST /tasks HTTP/1.1\r\nHost: localhost\r\nX-Actor-ID: a\r\nContent-Length: 9\r\n\r\n{")
        .await;
    let mut silent = RawCaller::connect(hub.hub.local_addr()).await;
    silent.send(UPGRADE).await;
    hub.caller("a").get("/health").await;
    let started = Instant::now();
    hub.hub.shutdown().await;
    assert!(started.elapsed() < Duration::from_millis(3500), "{:?}", started.elapsed());
    // The connection is over, and not only forgotten.
    assert_eq!(dawdler.rest().await, "");
}

/// It wrote 474 MB within five seconds.
#[tokio::test]
async fn one_client_that_writes_as_fast_as_it_can_is_told_to_wait() {
    let hub = TestHub::start_with(|config| config.bytes_per_second = 64 * 1024).await;
    let a = hub.caller("a");
    let body = json!({"title": "t", "payload": {"x": "x".repeat(250 * 1024)}}).to_string();
    let mut taken = 0;
    let refused = loop {
        let request = a.http.post(format!("{}/tasks", a.base)).header("x-actor-id", "a").body(body.clone());
        let answer = request.send().await.expect("an answer");
        match answer.status().as_u16() {
            201 => taken += body.len(),
            status => break (status, answer),
        }
        assert!(taken < 32 << 20, "the hub takes whatever comes");
    };
    let (status, answer) = refused;
    let seconds: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!(status == 429 && (1..=10).contains(&seconds), "{status} {seconds}");
    assert!(answer.text().await.expect("a body").contains("share"));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    a.make_task(json!({"title": "t"})).await;
}

#[tokio::test]
async fn one_client_does_not_fill_the_disk_however_slowly_it_writes() {
    let hub = TestHub::start_with(|config| config.stored_bytes_per_day = 128 * 1024).await;
    let a = hub.caller("a");
    let body = json!({"title": "t", "payload": {"x": "x".repeat(200 * 1024)}});
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(a.call(Method::POST, "/tasks", Some(body.clone())).await.0);
    }
    assert_eq!(statuses, [201, 201, 201, 201, 201, 429, 429, 429]);
    // It still sees what there is.
    assert_eq!(a.get("/tasks").await["count"], 5);
}

/// Four thousand requests a second of one machine are no attack.
#[tokio::test]
async fn a_busy_machine_is_not_told_to_wait() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for _ in 0..3000 {
        a.get("/health").await;
    }
}
