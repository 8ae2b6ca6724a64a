//! A node to which nothing happens, and one whose events are blocked for a while. Time jumps here whenever
//! nothing else is left to do, so that hours pass at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ats_p2p::event::Event;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, pause, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::service::{Agent, Answer, Service, Socket, offer};
use crate::streams::created;

const MINUTE: Duration = Duration::from_secs(60);

async fn say(socket: &mut Socket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// Takes the subscription, and confirms it with these fields besides.
async fn confirm(socket: &mut Socket, besides: Value) {
    socket.next().await.expect("a subscription").expect("a message");
    let mut confirmed = besides;
    confirmed["type"] = json!("subscribed");
    say(socket, &confirmed).await;
}

async fn connected(b: &mut Agent) {
    b.event(|event| matches!(event, Event::Connected { .. }).then_some(())).await;
}

async fn disconnected(b: &mut Agent) {
    b.event(|event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
}

/// Answers pings for so long; gives when each came, in whole seconds from now.
async fn pings(socket: &mut Socket, time: Duration) -> Vec<u64> {
    let began = Instant::now();
    let mut pings = Vec::new();
    while let Ok(message) = timeout_at(began + time, socket.next()).await {
        let text = message.expect("a message").expect("a message").into_text().expect("text");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), json!({"type": "ping"}));
        pings.push(began.elapsed().as_secs());
        say(socket, &json!({"type": "pong"})).await;
    }
    pings
}

/// Waits until the node has listed the channel so often.
async fn listed(service: &Service, count: usize) {
    while service.count("GET", "/tasks") < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_node_at_rest_sends_a_ping_each_half_minute_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let service = Service::start(|_| None).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    b.watch();
    let mut socket = service.socket().await;
    confirm(&mut socket, json!({"complete": true})).await;
    connected(&mut b).await;
    listed(&service, 1).await;
    pause();
    let pings = pings(&mut socket, 60 * MINUTE).await;
    let between: Vec<u64> = pings.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pings[0] <= 30 && pings.len() >= 119, "{pings:?}");
    assert!(between.iter().all(|seconds| *seconds == 30), "{pings:?}");
    assert_eq!(service.lines(), ["GET /ws", "GET /tasks"]);
    b.node.destroy().await;
}

#[tokio::test]
async fn a_service_that_may_lose_events_is_looked_at_every_few_minutes() {
    let home = tempfile::tempdir().unwrap();
    let lists = Arc::new(Mutex::new(Vec::new()));
    let log = lists.clone();
    let service = Service::start(move |request| {
        if request.path == "/tasks" {
            log.lock().unwrap().push(Instant::now());
        }
        None
    })
    .await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    b.watch();
    let mut socket = service.socket().await;
    confirm(&mut socket, json!({})).await;
    connected(&mut b).await;
    listed(&service, 1).await;
    pause();
    pings(&mut socket, 17 * MINUTE).await;
    let times = lists.lock().unwrap().clone();
    let between: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    let nominal = [60, 120, 240, 240, 240];
    assert_eq!(between.len(), nominal.len(), "{between:?}");
    for (seconds, nominal) in between.iter().zip(nominal) {
        // It looks at the time each five seconds.
        assert!((nominal..nominal + 11).contains(seconds), "{between:?}");
    }
    // Where something happens, something else may have got lost.
    socket.send(created(&offer("honest"))).await.unwrap();
    b.offered("honest").await;
    let before = service.count("GET", "/tasks");
    pings(&mut socket, Duration::from_secs(72)).await;
    assert_eq!(service.count("GET", "/tasks"), before + 1);
    b.node.destroy().await;
}

#[tokio::test]
async fn a_node_lists_while_websockets_are_blocked_and_returns_to_them() {
    let home = tempfile::tempdir().unwrap();
    let (is_blocked, offered) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(None)));
    let (blocked, listed_offer) = (is_blocked.clone(), offered.clone());
    let service = Service::start(move |request| match request.path.as_str() {
        "/ws" if blocked.load(Ordering::Relaxed) => {
            Some(Answer::with_head("403 Forbidden", &[("Content-Type", "text/html")], "<h1>No upgrades"))
        }
        "/tasks" => listed_offer.lock().unwrap().map(|id| Answer::json(&json!({ "tasks": [offer(id)] }))),
        _ => None,
    })
    .await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    b.watch();
    disconnected(&mut b).await;
    pause();
    let mut sockets = Vec::new();
    for (told_by_list, told_by_event) in [("1", "2"), ("3", "4")] {
        *offered.lock().unwrap() = Some(told_by_list);
        b.offered(told_by_list).await;
        is_blocked.store(false, Ordering::Relaxed);
        let mut socket = service.socket().await;
        let before = service.count("GET", "/tasks");
        confirm(&mut socket, json!({"complete": true})).await;
        connected(&mut b).await;
        listed(&service, before + 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Now it asks no more.
        let before = service.count("GET", "/tasks");
        pings(&mut socket, 10 * MINUTE).await;
        assert_eq!(service.count("GET", "/tasks"), before);
        socket.send(created(&offer(told_by_event))).await.unwrap();
        b.offered(told_by_event).await;
        is_blocked.store(true, Ordering::Relaxed);
        socket.close(None).await.unwrap();
        sockets.push(socket);
        disconnected(&mut b).await;
    }
    b.node.destroy().await;
}
