//! Event connections that send what no client should trust, against a node that watches.

use ats_p2p::event::Event;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::service::{Agent, KEY, PATIENCE, Service, Socket, offer};

/// Confirms the subscription.
pub(crate) async fn confirm(socket: &mut Socket) {
    timeout(PATIENCE, socket.next()).await.expect("a subscription").expect("a message").expect("text");
    socket.send(Message::text(json!({ "type": "subscribed" }).to_string())).await.unwrap();
}

pub(crate) fn created(task: &Value) -> Message {
    Message::text(json!({ "type": "task.created", "data": { "task": task } }).to_string())
}

/// Messages that are no event of any use.
fn bad_messages() -> Vec<Message> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let task = offer("bad").to_string();
    let mut texts = vec![
        deep.clone(),
        "{".into(),
        "null".into(),
        "\"task.created\"".into(),
        "{\"type\":[]}".into(),
        "{\"type\":\"task.created\"}".into(),
        "{\"type\":\"task.created\",\"data\":null}".into(),
        "{\"type\":\"task.created\",\"data\":{\"task\":{\"id\":null}}}".into(),
        format!("{{\"type\":\"task.created\",\"data\":{deep}}}"),
        format!("{{\"type\":\"task.created\",\"data\":{{\"task\":{deep}}}}}"),
        format!("{{\"type\":{:?},\"data\":{{\"task\":{task}}}}}", format!("task.{}", "x".repeat(100_000))),
        format!("{{\"type\":\"error\",\"message\":{deep}}}"),
        format!("{{\"type\":\"error\",\"message\":\"\\ud800\"}}"),
        format!("{{\"type\":\"error\",\"message\":{:?}}}", format!("Bearer {KEY}")),
        format!("{{\"type\":\"subscribed\",\"id\":{:?}}}", "x".repeat(1_000_000)),
        format!("{{\"type\":\"task.created\",\"x\":[{}0],\"data\":7}}", "[0],".repeat(200_000)),
        format!("{{\"type\":\"task.created\",\"actor_name\":{{\"a\":{deep}}},\"data\":{{\"task\":7}}}}"),
    ];
    texts.push("\u{0}".repeat(1000));
    let mut messages: Vec<Message> = texts.into_iter().map(Message::text).collect();
    messages.push(Message::binary(vec![0xff; 100_000]));
    messages.push(Message::binary(Vec::new()));
    messages.push(Message::Ping(vec![7; 125].into()));
    messages.push(Message::Pong(Vec::new().into()));
    messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_offer_arrives_after_messages_that_make_no_sense() {
    let home = tempfile::tempdir().unwrap();
    let service = Service::start(|_| None).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let mut socket = b.watch_confirmed(&service).await;
    for (n, message) in bad_messages().into_iter().enumerate() {
        let honest = format!("honest {n}");
        socket.send(message).await.unwrap();
        socket.send(created(&offer(&honest))).await.unwrap();
        b.offered(&honest).await;
    }
    b.node.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_taken_for_what_can_be_read_of_its_task() {
    let home = tempfile::tempdir().unwrap();
    let service = Service::start(|_| None).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let mut socket = b.watch_confirmed(&service).await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let long = format!("{:?}", "x".repeat(500_000));
    for (n, bad) in [deep.as_str(), &long, "\"\\ud800\""].into_iter().enumerate() {
        for field in ["title", "messages", "outputs"] {
            let honest = format!("honest {n} {field}");
            let mut task = offer(&honest);
            task[field] = json!("THE PLACE");
            let event = json!({ "type": "task.created", "data": { "task": task } }).to_string();
            socket.send(Message::text(event.replace("\"THE PLACE\"", bad))).await.unwrap();
            b.offered(&honest).await;
        }
    }
    b.node.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_events_and_events_out_of_order_offer_a_file_once() {
    let home = tempfile::tempdir().unwrap();
    let service = Service::start(|_| None).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let mut socket = b.watch_confirmed(&service).await;
    for _ in 0..300 {
        socket.send(created(&offer("honest"))).await.unwrap();
    }
    let mut claimed = offer("other");
    claimed["status"] = json!("in_progress");
    for message in [
        json!({ "type": "task.completed", "data": { "task": claimed } }),
        json!({ "type": "task.claimed", "data": { "task": claimed } }),
        json!({ "type": "task.created", "data": { "task": claimed } }),
    ] {
        socket.send(Message::text(message.to_string())).await.unwrap();
    }
    socket.send(created(&offer("last"))).await.unwrap();
    let mut offered = Vec::new();
    while offered.last().is_none_or(|last| last != "last") {
        offered.push(
            b.event(|event| match event {
                Event::File { transfer, .. } => Some(transfer.transfer_id.clone()),
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(offered, ["honest", "last"]);
    b.node.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_talks_without_end_is_left_and_met_again() {
    let home = tempfile::tempdir().unwrap();
    let service = Service::start(|_| None).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    b.watch();
    for talk in [Message::Ping(vec![7; 125].into()), Message::text("{\"type\":\"pong\"}")] {
        let mut socket = service.socket().await;
        confirm(&mut socket).await;
        b.event(|event| (event.name() == "connected").then_some(())).await;
        // The client may hang up before it is all sent.
        for _ in 0..5_000 {
            if socket.send(talk.clone()).await.is_err() {
                break;
            }
        }
        let reason = b
            .event(|event| match event {
                Event::Disconnected { reason } => Some(reason.clone()),
                _ => None,
            })
            .await;
        assert!(reason.contains("says nothing"), "{reason}");
    }
    b.node.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_connection_was_closed_is_told_without_our_key() {
    let home = tempfile::tempdir().unwrap();
    let service = Service::start(|_| None).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let mut socket = b.watch_confirmed(&service).await;
    let frame = CloseFrame { code: CloseCode::Policy, reason: format!("Bearer {KEY}\u{1b}[2J").into() };
    socket.close(Some(frame)).await.unwrap();
    let reason = b
        .event(|event| match event {
            Event::Disconnected { reason } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(reason.contains("Bearer (secret)") && !reason.contains('\u{1b}'), "{reason}");
    b.node.destroy().await;
}
