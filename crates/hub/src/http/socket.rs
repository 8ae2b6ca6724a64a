//! One subscriber's WebSocket.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::bus::Subscriber;
use crate::error::Refusal;
use crate::input::Fields;

/// The most bytes of a message from a subscriber.
const MAX_MESSAGE: usize = 64 * 1024;
/// How often a subscriber is pinged, and how long it may send nothing, pongs included.
const PING_EVERY: Duration = Duration::from_secs(30);
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// How long sending one message may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long sending the last message of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The most subscribers at once: each may hold its connection for ever.
const MAX_SUBSCRIBERS: usize = 1024;

/// Why a connection ends.
enum End {
    /// The other side went away, or the connection broke.
    Gone,
    Closed(CloseFrame),
}

pub(super) async fn subscribe(
    State(app): Shared,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|error| Refusal { status: error.status(), message: error.body_text() })?;
    if app.sockets.len() >= MAX_SUBSCRIBERS {
        return Err(Refusal::unavailable(format!(
            "the hub has {MAX_SUBSCRIBERS} subscribers, as many as it can"
        )));
    }
    let token = app.sockets.token();
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        serve(socket, app.bus.join(), &app.shutdown).await;
        drop(token);
    }))
}

/// Serves one connection to its end.
async fn serve(mut socket: WebSocket, mut subscriber: Subscriber, shutdown: &CancellationToken) {
    let too_slow = subscriber.too_slow().clone();
    let end = tokio::select! {
        end = converse(&mut socket, &mut subscriber) => end,
        () = too_slow.cancelled() => End::Closed(frame(close_code::AGAIN, "too slow: events were lost")),
        () = shutdown.cancelled() => End::Closed(frame(close_code::AWAY, "the hub is shutting down")),
    };
    if let End::Closed(frame) = end {
        // A subscriber that does not read this in time notices that the connection ends.
        let _ = timeout(CLOSE_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
    }
}

async fn converse(socket: &mut WebSocket, subscriber: &mut Subscriber) -> End {
    if let Err(end) = send(socket, &json!({ "type": "connected" })).await {
        return end;
    }
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let done = tokio::select! {
            message = socket.recv() => {
                heard = Instant::now();
                let reply = match message {
                    Some(Ok(Message::Text(text))) => reply(&text, subscriber),
                    Some(Ok(Message::Binary(_))) => complaint("messages must be text"),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
                };
                send(socket, &reply).await
            }
            event = subscriber.next() => send_text(socket, Utf8Bytes::from(&*event)).await,
            _ = ping.tick() => {
                if heard.elapsed() >= SILENCE_LIMIT {
                    return End::Closed(frame(close_code::POLICY, "no sign of life"));
                }
                deliver(socket, Message::Ping(Vec::new().into())).await
            }
        };
        if let Err(end) = done {
            return end;
        }
    }
}

/// The answer to a message.
fn reply(text: &str, subscriber: &Subscriber) -> Value {
    match understand(text, subscriber) {
        Ok(reply) => reply,
        Err(refusal) => complaint(&refusal.message),
    }
}

fn understand(text: &str, subscriber: &Subscriber) -> Result<Value, Refusal> {
    let mut fields = Fields::parse(text.as_bytes())?;
    match fields.text("type", 64)?.as_deref() {
        Some("subscribe") => {
            let (id, filter) = fields.subscription()?;
            match subscriber.subscribe(id.clone(), filter) {
                true => Ok(json!({ "type": "subscribed", "id": id })),
                false => Err(Refusal::bad_request("too many subscriptions")),
            }
        }
        Some("unsubscribe") => {
            let id = fields.subscription_id()?;
            subscriber.unsubscribe(&id);
            Ok(json!({ "type": "unsubscribed", "id": id }))
        }
        Some("ping") => Ok(json!({ "type": "pong" })),
        _ => Err(Refusal::bad_request("type must be subscribe, unsubscribe or ping")),
    }
}

fn complaint(message: &str) -> Value {
    json!({ "type": "error", "message": message })
}

async fn send(socket: &mut WebSocket, message: &Value) -> Result<(), End> {
    send_text(socket, message.to_string().into()).await
}

async fn send_text(socket: &mut WebSocket, text: Utf8Bytes) -> Result<(), End> {
    deliver(socket, Message::Text(text)).await
}

async fn deliver(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Closed(frame(close_code::AGAIN, "too slow"))),
    }
}

fn frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code, reason: Utf8Bytes::from_static(reason) }
}
