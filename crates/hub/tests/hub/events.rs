//! Events over the WebSocket.

use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{PATIENCE, TestHub, rfc3339};

#[tokio::test]
async fn everything_that_happens_to_a_task_is_told_in_order() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let mut listener = a.subscribe(json!({"type": "subscribe", "id": "s"})).await;

    let id = a.make_task(json!({"title": "t"})).await;
    let created = listener.next().await;
    assert_eq!((&created["type"], &created["actor_name"]), (&json!("task.created"), &json!("A")));
    assert_eq!(created["data"]["task"]["title"], "t");

    let steps = [
        ("b", "messages", json!({"parts": [{"type": "text", "content": "hello"}]}), "task.message"),
        ("b", "claim", json!({}), "task.claimed"),
        ("b", "claim", json!({}), "task.updated"),
        ("b", "complete", json!({}), "task.completed"),
        ("a", "reopen", json!({}), "task.reopened"),
        ("b", "reject", json!({}), "task.rejected"),
        ("a", "reopen", json!({}), "task.reopened"),
        ("a", "fail", json!({}), "task.failed"),
        ("a", "reopen", json!({}), "task.reopened"),
        ("a", "cancel", json!({}), "task.cancelled"),
        ("a", "reopen", json!({}), "task.reopened"),
    ];
    for (actor, path, body, expected) in steps {
        let by = if actor == "a" { &a } else { &b };
        by.post(&format!("/tasks/{id}/{path}"), body).await;
        let event = listener.next().await;
        let name = actor.to_uppercase();
        assert_eq!((&event["type"], &event["actor_name"]), (&json!(expected), &json!(name)));
        if expected == "task.message" {
            assert_eq!(event["data"]["message"]["parts"][0]["content"], "hello");
        }
    }
    a.call(Method::PATCH, &format!("/tasks/{id}"), Some(json!({"priority": 1}))).await;
    assert_eq!(listener.next_event().await, ("task.updated".into(), id));
}

#[tokio::test]
async fn a_message_goes_along_with_an_action_before_it_or_not_at_all() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let mut listener = a.subscribe(json!({"type": "subscribe", "id": "s"})).await;
    let id = a.make_task(json!({"title": "t"})).await;
    assert_eq!(listener.next_event().await, ("task.created".into(), id));
    let with = |text: &str| json!({"only_pending": true, "parts": [{"type": "text", "content": text}]});

    for (action, before, after, event) in [
        ("claim", "pending", "in_progress", "task.claimed"),
        ("complete", "in_progress", "completed", "task.completed"),
    ] {
        let answer = b.post(&format!("/tasks/{id}/{action}"), with(action)).await;
        assert_eq!((&answer["task"]["status"], &answer["message"]["actor_id"]), (&json!(after), &json!("b")));
        let told = listener.next().await;
        assert_eq!(
            (&told["type"], &told["data"]["task"]["status"]),
            (&json!("task.message"), &json!(before))
        );
        assert_eq!(told["data"]["message"], answer["message"]);
        assert_eq!(told["data"]["message"]["parts"][0]["content"], action);
        assert_eq!(listener.next_event().await, (event.into(), id));
        // Neither a claim of what this actor has already, nor what the task's state forbids, leaves a word.
        let (status, _) = b.call(Method::POST, &format!("/tasks/{id}/{action}"), Some(with("again"))).await;
        assert_eq!(status, 409);
    }
    for (by, body, expected) in [(&b, with("mine"), 403), (&a, json!({"parts": []}), 400)] {
        let (status, _) = by.call(Method::POST, &format!("/tasks/{id}/reopen"), Some(body)).await;
        assert_eq!(status, expected);
    }
    let task = a.get(&format!("/tasks/{id}")).await;
    let said: Vec<_> = task["task"]["messages"].as_array().expect("messages").iter().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    a.post(&format!("/tasks/{id}/reopen"), json!({})).await;
    assert_eq!(listener.next_event().await, ("task.reopened".into(), id));
}

#[tokio::test]
async fn a_task_takes_a_thousand_messages_and_no_action_with_another_one() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let id = a.make_task(json!({"title": "t"})).await;
    let word = || json!({"parts": [{"type": "text", "content": "x"}]});
    for _ in 0..20 {
        let path = format!("/tasks/{id}/messages");
        join_all((0..50).map(|_| a.post(&path, word()))).await;
    }
    for path in ["messages", "claim"] {
        let (status, said) = a.call(Method::POST, &format!("/tasks/{id}/{path}"), Some(word())).await;
        assert_eq!(status, 413, "{said}");
    }
    let claimed = a.post(&format!("/tasks/{id}/claim"), json!({"only_pending": true})).await;
    assert_eq!(claimed["task"]["status"], "in_progress");
    // So is one whose messages are as long as they may be together.
    let id = a.make_task(json!({"title": "long"})).await;
    let long = || json!({"parts": [{"type": "text", "content": "x".repeat(200_000)}]});
    let mut taken = 0;
    while a.call(Method::POST, &format!("/tasks/{id}/messages"), Some(long())).await.0 == 201 {
        taken += 1;
    }
    assert_eq!(taken, 4 * 1024 * 1024 / 200_000);
}

#[tokio::test]
async fn a_lease_that_runs_out_is_told_in_time() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let mut listener = a.subscribe(json!({"type": "subscribe", "event_types": ["task.lease_expired"]})).await;
    let long = a.make_task(json!({"title": "long"})).await;
    let short = a.make_task(json!({"title": "short"})).await;
    b.post(&format!("/tasks/{long}/claim"), json!({"lease_duration": 60_000})).await;
    let claimed = Instant::now();
    b.post(&format!("/tasks/{short}/claim"), json!({"lease_duration": 300})).await;
    assert_eq!(listener.next_event().await, ("task.lease_expired".into(), short));
    assert!(claimed.elapsed() >= Duration::from_millis(290), "{:?}", claimed.elapsed());
    let task = &a.get(&format!("/tasks/{short}")).await["task"];
    assert_eq!((&task["status"], &task["assignee_id"]), (&json!("pending"), &json!(null)));
    b.post(&format!("/tasks/{short}/claim"), json!({})).await;

    // The timer is set anew for a claim that ends sooner than it did before.
    b.post(&format!("/tasks/{long}/claim"), json!({"lease_duration": 300})).await;
    assert_eq!(listener.next_event().await, ("task.lease_expired".into(), long));
}

#[tokio::test]
async fn an_offer_that_nobody_takes_is_ended_in_time_and_told() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let mut listener = a.subscribe(json!({"type": "subscribe", "event_types": ["task.cancelled"]})).await;
    let offer = |payload: Value| json!({"title": "t", "type": "file_offer", "payload": payload});
    let expired = json!({"expires_at": "2000-01-01T00:00:00Z"});
    let soon = rfc3339(SystemTime::now() - Duration::from_secs(4));
    let claimed = a.make_task(offer(json!({"expires_at": soon}))).await;
    b.post(&format!("/tasks/{claimed}/claim"), json!({})).await;
    let of_an_original = a.make_task(offer(json!({}))).await;
    let work = a.make_task(json!({"title": "t", "payload": expired})).await;

    for _ in 0..3 {
        // It is left to its sender for five seconds after its expiry.
        let started = Instant::now();
        let expires_at = rfc3339(SystemTime::now() - Duration::from_millis(4600));
        let expiring = a.make_task(offer(json!({"expires_at": expires_at}))).await;
        let event = listener.next().await;
        assert!(started.elapsed() >= Duration::from_millis(390), "{:?}", started.elapsed());
        assert_eq!((&event["data"]["task"]["id"], &event["actor_name"]), (&json!(expiring), &json!(null)));
        let task = &a.get(&format!("/tasks/{expiring}")).await["task"];
        assert_eq!(task["status"], "cancelled");
        assert!(task["reason"].as_str().is_some_and(|reason| reason.contains("expired")), "{task}");
        assert_eq!(b.call(Method::POST, &format!("/tasks/{expiring}/claim"), Some(json!({}))).await.0, 409);
    }
    for (id, status) in [(claimed, "in_progress"), (of_an_original, "pending"), (work, "pending")] {
        assert_eq!(a.get(&format!("/tasks/{id}")).await["task"]["status"], status);
    }
}

#[tokio::test]
async fn filters_hold_and_subscriptions_can_be_changed() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let mut listener = a
        .subscribe(json!({"type": "subscribe", "id": "s", "channels": ["c"], "task_types": ["file_offer"]}))
        .await;
    let make = |channel: &str, kind: &str| json!({"title": "t", "channel": channel, "type": kind});
    a.make_task(make("d", "file_offer")).await;
    a.make_task(make("c", "task")).await;
    let wanted = a.make_task(make("c", "file_offer")).await;
    assert_eq!(listener.next_event().await, ("task.created".into(), wanted));

    listener.send(json!({"type": "subscribe", "id": "s", "channels": ["d"]})).await;
    assert_eq!(listener.next().await, json!({"type": "subscribed", "id": "s", "complete": true}));
    a.make_task(make("c", "file_offer")).await;
    let wanted = a.make_task(make("d", "task")).await;
    assert_eq!(listener.next_event().await, ("task.created".into(), wanted));

    listener.send(json!({"type": "unsubscribe", "id": "s"})).await;
    assert_eq!(listener.next().await["type"], "unsubscribed");
    a.make_task(make("d", "task")).await;
    listener.send(json!({"type": "ping"})).await;
    assert_eq!(listener.next().await, json!({"type": "pong"}));
}

#[tokio::test]
async fn nonsense_is_answered_and_survived() {
    let hub = TestHub::start().await;
    let mut listener = hub.caller("a").open().await;
    for nonsense in [
        json!({"type": "explode"}),
        json!({"type": 5}),
        json!([]),
        json!({"type": "subscribe", "channels": "c"}),
        json!({"type": "subscribe", "channels": [5]}),
        json!({"type": "subscribe", "id": "x".repeat(1000)}),
    ] {
        listener.send(nonsense.clone()).await;
        assert_eq!(listener.next().await["type"], "error", "{nonsense}");
    }
    for id in 0..16 {
        listener.send(json!({"type": "subscribe", "id": id})).await;
        assert_eq!(listener.next().await["type"], "subscribed");
    }
    listener.send(json!({"type": "subscribe", "id": "one too many"})).await;
    assert_eq!(listener.next().await["type"], "error");
    for id in 0..6 {
        let names = Vec::from_iter((0..50).map(|n| n.to_string()));
        listener.send(json!({"type": "subscribe", "id": id, "channels": names})).await;
        let expected = if id < 5 { "subscribed" } else { "error" };
        assert_eq!(listener.next().await["type"], expected, "{id}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_connection() {
    let hub = TestHub::start().await;
    let mut listener = hub.caller("a").open().await;
    listener.send(json!({"type": "subscribe", "id": "x".repeat(70_000)})).await;
    let end = timeout(PATIENCE, listener.0.next()).await.expect("an end in time");
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "{end:?}");
}

#[tokio::test]
async fn a_subscriber_that_stops_reading_is_dropped_and_delays_nobody() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let mut fast = a.subscribe(json!({"type": "subscribe"})).await;

    let address = hub.hub.local_addr();
    let mut slow = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    slow.write_all(request.as_bytes()).await.expect("sent");
    let subscribe = br#"{"type":"subscribe"}"#;
    let mut frame = vec![0x81, 0x80 | u8::try_from(subscribe.len()).expect("short"), 0, 0, 0, 0];
    frame.extend_from_slice(subscribe);
    slow.write_all(&frame).await.expect("sent");
    let mut greeting = Vec::new();
    while !greeting.ends_with(br#""subscribed"}"#) {
        let mut byte = [0];
        timeout(PATIENCE, slow.read_exact(&mut byte)).await.expect("in time").expect("a byte");
        greeting.push(byte[0]);
    }

    // More than sockets and queue can hold.
    let payload = json!({"x": "x".repeat(200 * 1024)});
    for n in 0..120 {
        let id = a.make_task(json!({"title": n.to_string(), "payload": payload})).await;
        assert_eq!(fast.next_event().await, ("task.created".into(), id));
    }
    // The hub has let go of it: what is left in the pipe ends.
    let drained = async {
        let mut buffer = vec![0; 1 << 16];
        while slow.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    timeout(PATIENCE, drained).await.expect("the connection to end");
}

#[tokio::test]
async fn who_leaves_is_forgotten_and_the_end_is_told() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let gone = a.subscribe(json!({"type": "subscribe"})).await;
    drop(gone);
    let mut listener = a.subscribe(json!({"type": "subscribe"})).await;
    let id = a.make_task(json!({"title": "t"})).await;
    assert_eq!(listener.next_event().await, ("task.created".into(), id));

    hub.hub.shutdown().await;
    match timeout(PATIENCE, listener.0.next()).await.expect("an end in time") {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("no close but {other:?}"),
    }
}
