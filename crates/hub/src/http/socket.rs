//! One subscriber's WebSocket. What waits to be sent to it is bounded, and so is what it may say: messages
//! that come faster than they are answered wait in the network, where they slow their sender down.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use super::connections::{Network, NoPlace, Payer, Place};
use super::session::SignedIn;
use super::{ClientAddress, Shared};
use crate::access::Requester;
use crate::access::guard::HeldKey;
use crate::access::sessions::Session;
use crate::bus::{Presence, Subscriber};
use crate::error::Refusal;
use crate::input::Fields;
use crate::metrics::Limit;
use crate::task::Rights;
use crate::time::Millis;

/// The most bytes of a message from a subscriber.
const MAX_MESSAGE: usize = 64 * 1024;
/// How many bytes are read at once, and gathered before they are sent.
const BUFFER: usize = 8 * 1024;
/// The most bytes that wait for a subscriber in its connection: several of the longest events.
const MAX_UNSENT: usize = 4 * 1024 * 1024;
/// How often a subscriber may send something, pings included, and how many of these it may have in hand.
const MESSAGE_EVERY: Duration = Duration::from_millis(50);
const MESSAGES_IN_HAND: u32 = 100;
/// How many events are sent together where more than one waits.
const EVENTS_AT_ONCE: usize = 64;
/// The most bytes of an actor's id that a subscriber says in the URL.
const MAX_CLAIMED_ID: usize = 256;
/// How often a subscriber is pinged, and how long it may send nothing, pongs included.
const PING_EVERY: Duration = Duration::from_secs(30);
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// How long sending one message may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sending the last message of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection ends.
enum End {
    /// The other side went away, or the connection broke.
    Gone,
    Closed(CloseFrame),
}

/// By what a connection is open, while it is.
struct Right {
    key: Option<HeldKey>,
    session: Option<Session>,
}

impl Right {
    /// Waits until it no longer holds, and says why; for ever where none was needed.
    async fn over(&self) -> &'static str {
        let key = async {
            match &self.key {
                Some(key) => key.over().cancelled().await,
                None => std::future::pending().await,
            }
        };
        let session = async {
            match &self.session {
                Some(session) => session.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = key => "the key was revoked or has expired",
            () = session => "the session is over",
        }
    }
}

/// Makes a connection a subscriber's.
pub(super) async fn subscribe(
    State(app): Shared,
    Extension(client): Extension<ClientAddress>,
    Extension(connection): Extension<Arc<Place>>,
    Extension(requester): Extension<Requester>,
    Extension(SignedIn(session)): Extension<SignedIn>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|error| Refusal { status: error.status(), message: error.body_text() })?;
    let holder = requester.actor.as_ref().filter(|_| requester.key.is_some());
    let payer = holder.map_or(Network::from(client.0).into(), |actor| app.known_keys.payer(&actor.id));
    let place = app.socket_places.take(payer, false).map_err(|why| {
        app.metrics.refused(Limit::Sockets);
        match (why, payer) {
            (NoPlace::Share, Payer::Actor(_)) => {
                Refusal::too_many("this actor holds as many WebSockets as it may")
            }
            (NoPlace::Share, _) => Refusal::too_many("your address holds as many WebSockets as it may"),
            (NoPlace::Full, _) => Refusal::unavailable("the hub has as many subscribers as it can"),
        }
    })?;
    if holder.is_some() {
        // Others at its address have theirs.
        connection.hand_over(payer);
    }
    let right = Right { key: requester.key.map(|key| app.guard.hold(key)), session };
    let presence = presence(&requester, &query.unwrap_or_default(), app.readers.now());
    let (token, held) = (app.sockets.token(), (place.in_use(), connection.in_use()));
    let upgrade = upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(MAX_UNSENT)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        tokio::select! {
            () = serve(socket, app.bus.join(requester.view(), presence), &right, &app.shutdown) => {}
            () = app.abort.cancelled() => {}
        }
        drop((held, token));
    }))
}

/// Serves one connection to its end.
async fn serve(
    mut socket: WebSocket,
    mut subscriber: Subscriber,
    right: &Right,
    shutdown: &CancellationToken,
) {
    let too_slow = subscriber.too_slow().clone();
    let end = tokio::select! {
        end = converse(&mut socket, &mut subscriber) => end,
        () = too_slow.cancelled() => End::Closed(frame(close_code::AGAIN, "too slow: events were lost")),
        why = right.over() => End::Closed(frame(close_code::POLICY, why)),
        () = shutdown.cancelled() => End::Closed(frame(close_code::AWAY, "the hub is shutting down")),
    };
    if let End::Closed(frame) = end {
        // A subscriber that does not read this in time notices that the connection ends.
        let _ = timeout(CLOSE_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
    }
}

/// Who a subscriber is for those who look at who is connected. Without a key it may say so in the URL, too:
/// no browser, and no original, sends headers with a WebSocket.
fn presence(requester: &Requester, query: &str, since: Millis) -> Presence {
    let query = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    };
    let claimed = || {
        let may_claim = requester.rights == Some(Rights::Unproven);
        query("actor_id").filter(|id| may_claim && !id.is_empty() && id.len() <= MAX_CLAIMED_ID)
    };
    let actor = requester.actor.as_ref().map(|actor| actor.id.clone()).or_else(claimed);
    Presence { actor, is_page: query("page").is_some(), since }
}

async fn converse(socket: &mut WebSocket, subscriber: &mut Subscriber) -> End {
    if let Err(end) = send(socket, &json!({ "type": "connected" })).await {
        return end;
    }
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    // When all messages so far would have come, had each kept its distance.
    let mut paid = Instant::now();
    loop {
        let readable = paid.checked_sub(MESSAGE_EVERY * MESSAGES_IN_HAND).unwrap_or(paid);
        let message = async {
            sleep_until(readable).await;
            socket.recv().await
        };
        let done = tokio::select! {
            message = message => {
                heard = Instant::now();
                paid = paid.max(heard) + MESSAGE_EVERY;
                match message {
                    Some(Ok(Message::Text(text))) => send(socket, &reply(&text, subscriber)).await,
                    Some(Ok(Message::Binary(_))) => send(socket, &complaint("messages must be text")).await,
                    // The pong stands in the buffer. Nothing more is read before it has gone out, so that one
                    // who sends pings and reads no pongs waits for itself.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => in_time(socket.flush()).await,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
                }
            }
            event = subscriber.next() => in_time(send_events(socket, event, subscriber)).await,
            _ = ping.tick() => {
                if heard.elapsed() >= SILENCE_LIMIT {
                    return End::Closed(frame(close_code::POLICY, "no sign of life"));
                }
                in_time(socket.send(Message::Ping(Vec::new().into()))).await
            }
        };
        if let Err(end) = done {
            return end;
        }
    }
}

/// Sends an event and those that wait behind it.
async fn send_events(
    socket: &mut WebSocket,
    first: Utf8Bytes,
    subscriber: &mut Subscriber,
) -> Result<(), axum::Error> {
    socket.feed(Message::Text(first)).await?;
    for _ in 1..EVENTS_AT_ONCE {
        let Some(event) = subscriber.next_waiting() else { break };
        socket.feed(Message::Text(event)).await?;
    }
    socket.flush().await
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
            subscriber.subscribe(id.clone(), filter).map_err(Refusal::bad_request)?;
            // Who is told this need not look for events that got lost: where one would, the connection ends.
            Ok(json!({ "type": "subscribed", "id": id, "complete": true }))
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
    in_time(socket.send(Message::Text(message.to_string().into()))).await
}

async fn in_time(sending: impl Future<Output = Result<(), axum::Error>>) -> Result<(), End> {
    match timeout(SEND_TIMEOUT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Closed(frame(close_code::AGAIN, "too slow"))),
    }
}

fn frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code, reason: Utf8Bytes::from_static(reason) }
}
