//! AtsEvent connections that misbehave.

use std::time::Duration;

use ats_p2p::ats::{AtsEvent, Client, EventKind, Events, Listener, Subscription};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::fake::{client, read_request, settings};

const PATIENCE: Duration = Duration::from_secs(10);

/// A port at which a test plays the service by hand.
struct Port {
    listener: TcpListener,
}

impl Port {
    async fn open() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    fn client(&self) -> Client {
        client(&format!("http://{}", self.listener.local_addr().expect("an address")))
    }

    async fn accept(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept())
            .await
            .expect("a connection in time")
            .expect("a connection")
            .0
    }

    /// Answers one connection as a WebSocket and reads the subscription.
    async fn accept_socket(&self) -> (WebSocketStream<TcpStream>, Value) {
        let mut socket = tokio_tungstenite::accept_async(self.accept().await).await.expect("a WebSocket");
        let subscription = next(&mut socket).await;
        (socket, subscription)
    }

    async fn accept_subscriber(&self) -> WebSocketStream<TcpStream> {
        let (mut socket, _) = self.accept_socket().await;
        send(&mut socket, json!({"type": "subscribed", "id": "x"})).await;
        socket
    }
}

async fn send(socket: &mut WebSocketStream<TcpStream>, message: Value) {
    socket.send(Message::text(message.to_string())).await.expect("sent");
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Value {
    let message = timeout(PATIENCE, socket.next()).await.expect("a message in time").expect("a message");
    serde_json::from_str(message.expect("a message").to_text().expect("text")).expect("JSON")
}

async fn event(events: &mut Listener) -> AtsEvent {
    timeout(PATIENCE, events.next()).await.expect("an event in time")
}

async fn expect_connected(events: &mut Listener) {
    let event = event(events).await;
    assert!(matches!(event, AtsEvent::Connected), "{event:?}");
}

async fn expect_disconnected(events: &mut Listener) -> String {
    match event(events).await {
        AtsEvent::Disconnected { error } => error.to_string(),
        other => panic!("not disconnected but {other:?}"),
    }
}

#[tokio::test]
async fn connections_that_close_at_once_are_told_once() {
    let port = Port::open().await;
    let subscribed = Events::start(&port.client(), Subscription::default());
    let (mut events, _) = subscribed.listen();
    // Before an answer, before the handshake is whole, after it, and after the subscription was read.
    drop(port.accept().await);
    let mut stream = port.accept().await;
    stream.write_all(b"HTTP/1.1 101 Switch").await.expect("sent");
    drop(stream);
    drop(tokio_tungstenite::accept_async(port.accept().await).await.expect("a WebSocket"));
    drop(port.accept_socket().await);
    let mut socket = port.accept_subscriber().await;
    expect_disconnected(&mut events).await;
    expect_connected(&mut events).await;

    socket.close(None).await.expect("closed");
    expect_disconnected(&mut events).await;
    let _socket = port.accept_subscriber().await;
    expect_connected(&mut events).await;
}

#[tokio::test]
async fn whoever_answers_otherwise_is_told_and_tried_again() {
    let port = Port::open().await;
    for (answer, said) in [
        ("HTTP/1.1 500 Oops\r\nContent-Length: 16\r\n\r\n{\"error\":\"down\"}", "500: down"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p>x", "text/html"),
        ("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}", "API key"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: d3Jvbmc=\r\n\r\n",
            "speaks no WebSocket",
        ),
    ] {
        let subscribed = Events::start(&port.client(), Subscription::default());
        let (mut events, _) = subscribed.listen();
        let mut stream = port.accept().await;
        let request = read_request(&mut stream).await.expect("a request");
        assert!(request.line.starts_with("GET /ws?actor_type=agent&actor_id=me&actor_name=K%C3%A4the"));
        assert!(request.head.to_lowercase().contains("authorization: bearer hush-hush"), "{}", request.head);
        stream.write_all(answer.as_bytes()).await.expect("sent");
        let error = expect_disconnected(&mut events).await;
        assert!(error.contains(said) && !error.contains("hush"), "{error}");
        drop(stream);
        let _socket = port.accept_subscriber().await;
        expect_connected(&mut events).await;
    }
}

#[tokio::test]
async fn events_are_subscribed_to_where_the_service_has_moved_them_within_its_place() {
    let port = Port::open().await;
    let subscribed = Events::start(&port.client(), Subscription::default());
    let (mut events, _) = subscribed.listen();
    let mut stream = port.accept().await;
    read_request(&mut stream).await.expect("a request");
    let head = "HTTP/1.1 308 Permanent Redirect\r\nLocation: /v2/events?a=b\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    drop(stream);
    let mut stream = port.accept().await;
    let request = read_request(&mut stream).await.expect("a request");
    assert_eq!(request.line, "GET /v2/events?a=b");
    let head = request.head.to_lowercase();
    assert!(head.contains("upgrade: websocket") && head.contains("authorization: bearer"), "{head}");
    drop(stream);
    expect_disconnected(&mut events).await;
}

#[tokio::test]
async fn events_come_as_sent_and_nonsense_does_not() {
    let port = Port::open().await;
    let subscription = Subscription {
        channels: vec!["c".into()],
        task_types: vec!["file_offer".into()],
        event_types: vec![EventKind::Created, EventKind::Claimed],
    };
    let subscribed = Events::start(&port.client(), subscription);
    let (mut events, _) = subscribed.listen();
    let (mut socket, subscribe) = port.accept_socket().await;
    assert_eq!(subscribe["type"], "subscribe");
    assert_eq!((&subscribe["channels"], &subscribe["task_types"]), (&json!(["c"]), &json!(["file_offer"])));
    assert_eq!(subscribe["event_types"], json!(["task.created", "task.claimed"]));
    send(&mut socket, json!({"type": "connected"})).await;
    send(&mut socket, json!({"type": "subscribed"})).await;
    let task = json!({"id": 1, "channel": "c", "type": "file_offer"});
    let created = json!({"type": "task.created", "data": {"task": task}, "actor_name": "A"});
    send(&mut socket, created.clone()).await;
    socket.send(Message::text("no json")).await.expect("sent");
    socket.send(Message::binary(vec![0xff; 9])).await.expect("sent");
    send(&mut socket, json!({"type": "task.created", "data": {"task": {"no": "id"}}})).await;
    send(&mut socket, json!({"type": "task.created", "task": {"id": 2, "channel": "other"}})).await;
    send(&mut socket, created).await;
    send(&mut socket, json!({"type": "task.claimed", "task": task})).await;

    expect_connected(&mut events).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        match event(&mut events).await {
            AtsEvent::Task { kind, task, actor_name } => seen.push((kind, task.id.to_string(), actor_name)),
            other => panic!("no task but {other:?}"),
        }
    }
    let created = (EventKind::Created, "1".to_owned(), Some("A".to_owned()));
    assert_eq!(seen, [created.clone(), created, (EventKind::Claimed, "1".into(), None)]);
}

#[tokio::test]
async fn a_refused_subscription_is_no_connection() {
    let port = Port::open().await;
    let subscribed = Events::start(&port.client(), Subscription::default());
    let (mut events, _) = subscribed.listen();
    let (mut socket, _) = port.accept_socket().await;
    send(&mut socket, json!({"type": "error", "message": "not you"})).await;
    assert!(expect_disconnected(&mut events).await.contains("not you"));
}

#[tokio::test]
async fn a_message_longer_than_any_event_ends_the_connection() {
    let port = Port::open().await;
    let subscribed = Events::start(&port.client(), Subscription::default());
    let (mut events, _) = subscribed.listen();
    let mut socket = port.accept_subscriber().await;
    expect_connected(&mut events).await;
    let long = Message::text("x".repeat(5 * 1024 * 1024));
    // The client may hang up before it is all sent.
    let _ = socket.send(long).await;
    expect_disconnected(&mut events).await;
}

/// Time jumps here whenever nothing else is left to do, so that minutes pass at once.
#[tokio::test]
async fn a_subscription_that_is_never_confirmed_is_taken_as_made() {
    let port = Port::open().await;
    let subscribed = Events::start(&port.client(), Subscription::default());
    let (mut events, _) = subscribed.listen();
    let (socket, _) = port.accept_socket().await;
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    assert!(matches!(events.next().await, AtsEvent::Connected));
    assert!((4..=5).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    drop(socket);
}

#[tokio::test]
async fn a_service_that_falls_silent_is_left() {
    let port = Port::open().await;
    let subscribed = Events::start(&port.client(), Subscription::default());
    let (mut events, _) = subscribed.listen();
    let mut socket = port.accept_subscriber().await;
    expect_connected(&mut events).await;
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    match events.next().await {
        AtsEvent::Disconnected { error } => assert!(error.to_string().contains("silent"), "{error}"),
        other => panic!("not disconnected but {other:?}"),
    }
    assert!((74..=76).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    tokio::time::resume();
    // It was asked for a sign of life before.
    for _ in 0..2 {
        assert_eq!(next(&mut socket).await, json!({"type": "ping"}));
    }
}

#[tokio::test]
async fn pauses_between_attempts_grow_to_a_minute() {
    // Nobody listens there.
    let url = {
        let port = Port::open().await;
        format!("http://{}", port.listener.local_addr().expect("an address"))
    };
    let subscribed = Events::start(&Client::new(settings(&url)).expect("a client"), Subscription::default());
    let (mut events, _) = subscribed.listen();
    expect_disconnected(&mut events).await;
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let listener = TcpListener::bind(url.trim_start_matches("http://")).await.expect("the port");
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let waited = started.elapsed();
    assert!(waited <= Duration::from_secs(2) && waited >= Duration::from_millis(1400), "{waited:?}");
    // Each failed attempt doubles the pause; a short connection does not reset it.
    let mut pauses = Vec::new();
    for _ in 0..6 {
        drop(stream);
        let before = tokio::time::Instant::now();
        stream = listener.accept().await.expect("a connection").0;
        pauses.push(before.elapsed().as_secs_f64());
    }
    for (pause, nominal) in pauses.iter().zip([4.0, 8.0, 16.0, 32.0, 60.0, 60.0]) {
        assert!(*pause <= nominal + 0.1 && *pause >= nominal * 0.74, "{pauses:?}");
    }
}

#[tokio::test]
async fn dropping_or_ending_events_ends_the_connection() {
    for ends in [false, true] {
        let port = Port::open().await;
        let subscribed = Events::start(&port.client(), Subscription::default());
        let (mut events, _) = subscribed.listen();
        let socket = port.accept_subscriber().await;
        expect_connected(&mut events).await;
        let kept = if ends {
            timeout(PATIENCE, subscribed.end()).await.expect("an end in time");
            Some(subscribed)
        } else {
            drop(subscribed);
            None
        };
        let mut stream = socket.into_inner();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end in time").ok();
        drop(kept);
    }
}

#[tokio::test]
async fn while_a_transfer_is_open_a_lost_subscription_is_renewed_within_two_seconds() {
    // Nobody listens there.
    let url = {
        let port = Port::open().await;
        format!("http://{}", port.listener.local_addr().expect("an address"))
    };
    let subscribed = Events::start(&Client::new(settings(&url)).expect("a client"), Subscription::default());
    let (mut events, _) = subscribed.listen();
    expect_disconnected(&mut events).await;
    let listener = TcpListener::bind(url.trim_start_matches("http://")).await.expect("the port");
    tokio::time::pause();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        drop(listener.accept().await.expect("a connection"));
    }
    // The pause that has begun, of half a minute by now, is cut short.
    let transfer = subscribed.listen_for_transfer();
    for _ in 0..4 {
        let before = tokio::time::Instant::now();
        drop(listener.accept().await.expect("a connection"));
        pauses.push(before.elapsed());
    }
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(2_100)), "{pauses:?}");
    drop(transfer);
    let before = tokio::time::Instant::now();
    drop(listener.accept().await.expect("a connection"));
    drop(listener.accept().await.expect("a connection"));
    assert!(before.elapsed() > Duration::from_secs(30), "{:?}", before.elapsed());
}
