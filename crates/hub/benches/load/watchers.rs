//! How long events take to reach many watchers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use hub::Hub;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_tungstenite::tungstenite::Message;

use crate::Plan;
use crate::client::Client;
use crate::figures::Times;

/// Between two events: a hundred a second.
const EVERY: Duration = Duration::from_millis(10);
/// How long an event may be on its way to the last watcher before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands in a title before the time at which its task was made, in microseconds since the start.
const MARK: &str = "made at ";

pub(crate) async fn run(plan: &Plan) {
    let dir = tempfile::tempdir_in(&plan.data).expect("a temporary folder");
    let hub = Hub::start(plan.hub(dir.path())).await.expect("a hub");
    let events = plan.time.as_millis() / EVERY.as_millis();
    let events = usize::try_from(events).expect("a few");
    let ready = Arc::new(Barrier::new(plan.watchers + 1));
    let started = Instant::now();
    let watchers: Vec<_> = (0..plan.watchers)
        .map(|_| tokio::spawn(watch(hub.local_addr(), started, events, ready.clone())))
        .collect();
    ready.wait().await;
    let mut client = Client::connect(hub.local_addr(), "maker").await;
    let mut next = tokio::time::interval(EVERY);
    for _ in 0..events {
        next.tick().await;
        let title = format!("{MARK}{}", started.elapsed().as_micros());
        client
            .json("POST", "/tasks", &json!({ "title": title, "channel": "p2p-transfer" }).to_string())
            .await;
    }
    let mut times = Times::default();
    for watcher in watchers {
        times.extend(watcher.await.expect("a watcher"));
    }
    let (seen, summary) = (times.count(), times.summary());
    println!("watchers: {} of them, {events} events at 100 a second, {seen} seen, {summary}", plan.watchers);
    assert_eq!(seen, events * plan.watchers, "events were lost");
    hub.shutdown().await;
}

/// How long each event took, from before its task was made.
async fn watch(hub: SocketAddr, started: Instant, events: usize, ready: Arc<Barrier>) -> Times {
    let stream = TcpStream::connect(hub).await.expect("a connection");
    let url = format!("ws://{hub}/ws?actor_type=agent&actor_id=watcher");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a WebSocket");
    let subscription = json!({ "type": "subscribe", "id": "1", "channels": ["p2p-transfer"] });
    socket.send(Message::text(subscription.to_string())).await.expect("sent");
    while !text(socket.next().await).contains("subscribed") {}
    ready.wait().await;
    let mut times = Times::default();
    while times.count() < events {
        let Ok(message) = tokio::time::timeout(PATIENCE, socket.next()).await else { break };
        let text = text(message);
        let Some((_, rest)) = text.split_once(MARK) else { continue };
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let made = Duration::from_micros(digits.parse().expect("a time"));
        times.add(started.elapsed().saturating_sub(made));
    }
    times
}

fn text(message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> String {
    match message {
        Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
        Some(Ok(_)) => String::new(),
        other => panic!("no message but {other:?}"),
    }
}
