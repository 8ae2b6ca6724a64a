//! Events of the service, shared by all who listen. They are hints, not a record: what happens while nobody
//! is subscribed is told to nobody. So whoever uses them lists the tasks after every [`AtsEvent::Connected`]
//! and [`AtsEvent::Missed`].

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{self, LISTED_TASK};
use super::backoff::Backoff;
use super::client::Client;
use super::error::{AtsError, AtsResult};
use super::http::said;
use super::model::{Message, Task, TaskId};
use super::socket::Socket;
use super::text::SHOWN;
use crate::sync::lock;

/// How often a task is read when no event says that it changed: events are a hint, not a record.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long a connection must have held for the next pause to be the first again: a service that closes
/// each connection at once is not asked every two seconds.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How often a sign of life is asked for; the service's own client does so too.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long the service may be silent before the connection counts as dead: two pings and some.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);
/// How long the service may take to confirm a subscription. One that is still open then is taken as made:
/// being wrong costs a listing, not an event that polling would not find.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);
/// Messages between two pings of ours that tell nothing, pings and pongs among them: a service that sends
/// more means harm, or is broken.
const MAX_IDLE_TALK: u32 = 1_000;
/// Messages on a task that a listener remembers: a transfer has two or three.
const MAX_HEARD: usize = 16;
/// Events held for a slow listener; one that falls behind reads the service's lists instead.
const BACKLOG: usize = 256;
/// The name of the one subscription of a connection.
const SUBSCRIPTION_ID: &str = "ats-p2p";

/// What to be told of; an empty list stands for all.
#[derive(Debug, Clone, Default)]
pub struct Subscription {
    /// Channels of the tasks.
    pub channels: Vec<String>,
    /// Types of the tasks.
    pub task_types: Vec<String>,
    /// What happened to them.
    pub event_types: Vec<EventKind>,
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It was made.
    Created,
    /// Somebody claimed it.
    Claimed,
    /// A field of it changed.
    Updated,
    /// Its assignee has done it.
    Completed,
    /// It was given up.
    Cancelled,
    /// Its assignee could not do it.
    Failed,
    /// Nobody wants to do it.
    Rejected,
    /// It is pending once more.
    Reopened,
    /// Somebody posted a message on it.
    Message,
    /// Its claim ran out.
    LeaseExpired,
    /// One that this client does not know.
    Other(String),
}

/// Something to react to.
#[derive(Debug, Clone)]
pub enum AtsEvent {
    /// Subscribed, for the first time or again: now list, since events before this one are lost.
    Connected,
    /// No longer subscribed, or not yet; told once until the next `Connected`. Trying goes on.
    Disconnected {
        /// Why.
        error: AtsError,
    },
    /// Something happened to a task. It may be told twice, late or never.
    Task {
        /// What happened.
        kind: EventKind,
        /// The task as it was then; of its messages the one that was posted just now, where the service tells
        /// it.
        task: Arc<Task>,
        /// Who did it, by name, if the service says so.
        actor_name: Option<String>,
    },
    /// Some were missed, for want of reading them in time: list now.
    Missed,
}

impl AtsEvent {
    /// Reads what a service told from the JSON of its message, as the client does: what is too large or
    /// malformed in it is left out. `None` if nothing remains that happened to a task.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        match ServerMessage::from_value(answer::read(json, LISTED_TASK, None)?.value) {
            ServerMessage::Task { kind, task, actor_name } => Some(Self::Task { kind, task, actor_name }),
            _ => None,
        }
    }
}

/// How a subscription stands.
#[derive(Debug, Clone)]
pub enum Subscribed {
    /// Neither confirmed nor refused yet.
    Pending,
    /// Events flow.
    Yes {
        /// The service tells every event or ends the connection, as a hub does: there is no need to look for
        /// what it may have passed over.
        is_complete: bool,
    },
    /// It broke, or never came about, for this reason; it is being renewed.
    No(AtsError),
}

/// A subscription that connects again by itself, after 2 s and then up to 60 s; while a transfer is open,
/// after 2 s each time. Ends when dropped.
#[derive(Debug)]
pub struct Events {
    feed: Feed,
    /// The connection ends when this is cancelled, and is over when nothing is tracked any more.
    end: CancellationToken,
    connection: TaskTracker,
}

/// Where the connection's events go: to all listeners, and to the state that those who come later read.
#[derive(Debug, Clone)]
struct Feed {
    sender: broadcast::Sender<AtsEvent>,
    state: Arc<Mutex<Subscribed>>,
    /// How many listeners have a transfer open.
    transfers: watch::Sender<usize>,
}

/// A transfer that is open. Ends when dropped.
#[derive(Debug)]
struct OpenTransfer(watch::Sender<usize>);

/// A listener to the events from its beginning on.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<AtsEvent>,
    /// A change was noticed that nobody has looked at yet.
    unseen: bool,
    /// Messages on the task that is waited for, of which events have told.
    heard: Vec<Message>,
    /// Whom it is that hurries the subscription.
    _transfer: Option<OpenTransfer>,
}

impl Events {
    /// Subscribes; must be called within a tokio runtime. Comes back at once and connects, again and again if
    /// need be.
    pub fn start(client: &Client, subscription: Subscription) -> Self {
        let feed = Feed {
            sender: broadcast::Sender::new(BACKLOG),
            state: Arc::new(Mutex::new(Subscribed::Pending)),
            transfers: watch::Sender::new(0),
        };
        let (end, connection) = (CancellationToken::new(), TaskTracker::new());
        let kept = keep_connected(client.clone(), subscription, feed.clone());
        connection.spawn(end.clone().run_until_cancelled_owned(kept));
        connection.close();
        Self { feed, end, connection }
    }

    /// Ends the subscription; its connection is closed once this returns.
    pub async fn end(&self) {
        self.end.cancel();
        self.connection.wait().await;
    }

    /// Listens from now on. The state is that of this moment: whatever comes later is an event.
    pub fn listen(&self) -> (Listener, Subscribed) {
        let state = lock(&self.feed.state);
        (Listener::new(&self.feed.sender, None), state.clone())
    }

    /// Listens for an open transfer, to which much may happen in a short time: until the listener is dropped,
    /// a subscription that broke is renewed after the shortest pause.
    pub fn listen_for_transfer(&self) -> Listener {
        Listener::new(&self.feed.sender, Some(OpenTransfer::begin(&self.feed.transfers)))
    }

    /// How the subscription stands now.
    pub fn state(&self) -> Subscribed {
        lock(&self.feed.state).clone()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl OpenTransfer {
    fn begin(transfers: &watch::Sender<usize>) -> Self {
        transfers.send_modify(|open| *open += 1);
        Self(transfers.clone())
    }
}

impl Drop for OpenTransfer {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Feed {
    /// Tells all listeners. That there is none is no reason to stop: the next one joins this subscription.
    fn tell(&self, event: AtsEvent) {
        self.tell_in_state(None, event);
    }

    /// Tells that the subscription stands otherwise, and how.
    fn tell_in_state(&self, state: impl Into<Option<Subscribed>>, event: AtsEvent) {
        let mut now = lock(&self.state);
        if let Some(state) = state.into() {
            *now = state;
        }
        let _ = self.sender.send(event);
    }
}

impl Listener {
    fn new(sender: &broadcast::Sender<AtsEvent>, transfer: Option<OpenTransfer>) -> Self {
        Self { receiver: sender.subscribe(), unseen: false, heard: Vec::new(), _transfer: transfer }
    }

    /// The next event. May be cancelled and called again.
    pub async fn next(&mut self) -> AtsEvent {
        match self.receiver.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => AtsEvent::Missed,
            // The subscription was dropped, and nothing happens any more.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Waits until the task `id` may have changed: an event of it, a subscription begun anew, or the
    /// polling interval over. Comes back at once until [`Self::seen`] says that the change was looked
    /// at, so that a wait given up half-way loses nothing.
    pub async fn changed(&mut self, id: &TaskId) {
        self.changed_so_that(id, |_| true).await;
    }

    /// As [`Self::changed`], but passes over events whose task `matters` not. Where an event told of it
    /// gives the task as it told it, with the messages on it that this listener has heard of: those
    /// before it, and such as got lost, are missing.
    pub async fn changed_so_that(&mut self, id: &TaskId, matters: impl Fn(&Task) -> bool) -> Option<Task> {
        if self.unseen {
            return None;
        }
        let deadline = Instant::now() + POLL_INTERVAL;
        let told = loop {
            match timeout_at(deadline, self.next()).await {
                Ok(AtsEvent::Task { task, .. }) if task.id == *id => {
                    let room = MAX_HEARD.saturating_sub(self.heard.len());
                    self.heard.extend(task.messages.iter().take(room).cloned());
                    if matters(&task) {
                        let mut told = Arc::unwrap_or_clone(task);
                        told.messages.clone_from(&self.heard);
                        break Some(told);
                    }
                }
                Ok(AtsEvent::Task { .. } | AtsEvent::Disconnected { .. }) => {}
                Ok(_) | Err(_) => break None,
            }
        };
        self.unseen = true;
        told
    }

    /// Waits for a sign that the peer of the task `id` may be reached now: a message on it, or a subscription
    /// begun anew, before which messages may have been missed.
    pub async fn called(&mut self, id: &TaskId) {
        loop {
            match self.next().await {
                AtsEvent::Task { kind: EventKind::Message, task, .. } if task.id == *id => return,
                AtsEvent::Connected | AtsEvent::Missed => return,
                AtsEvent::Task { .. } | AtsEvent::Disconnected { .. } => {}
            }
        }
    }

    /// Notes that the task was read.
    pub fn seen(&mut self) {
        self.unseen = false;
    }

    /// Makes the next wait come back at once: the task is to be read again.
    pub fn unsee(&mut self) {
        self.unseen = true;
    }
}

impl EventKind {
    /// Reads a kind by its name, `task.created` and so on.
    pub fn from_name(name: &str) -> Self {
        match name {
            "task.created" => Self::Created,
            "task.claimed" => Self::Claimed,
            "task.updated" => Self::Updated,
            "task.completed" => Self::Completed,
            "task.cancelled" => Self::Cancelled,
            "task.failed" => Self::Failed,
            "task.rejected" => Self::Rejected,
            "task.reopened" => Self::Reopened,
            "task.message" => Self::Message,
            "task.lease_expired" => Self::LeaseExpired,
            other => Self::Other(other.chars().take(64).collect()),
        }
    }

    /// The kind's name in the service's language.
    pub fn name(&self) -> &str {
        match self {
            Self::Created => "task.created",
            Self::Claimed => "task.claimed",
            Self::Updated => "task.updated",
            Self::Completed => "task.completed",
            Self::Cancelled => "task.cancelled",
            Self::Failed => "task.failed",
            Self::Rejected => "task.rejected",
            Self::Reopened => "task.reopened",
            Self::Message => "task.message",
            Self::LeaseExpired => "task.lease_expired",
            Self::Other(name) => name,
        }
    }
}

impl Subscription {
    fn to_value(&self) -> Value {
        let mut value = json!({ "type": "subscribe", "id": SUBSCRIPTION_ID });
        if !self.channels.is_empty() {
            value["channels"] = json!(self.channels);
        }
        if !self.task_types.is_empty() {
            value["task_types"] = json!(self.task_types);
        }
        if !self.event_types.is_empty() {
            value["event_types"] = self.event_types.iter().map(EventKind::name).collect();
        }
        value
    }

    /// Whether this was asked for: not every service has to know every filter.
    fn wants(&self, kind: &EventKind, task: &Task) -> bool {
        // An event need not tell everything of its task; what it does not tell excludes nothing.
        let among =
            |list: &[String], value: &String| list.is_empty() || value.is_empty() || list.contains(value);
        among(&self.channels, &task.channel)
            && among(&self.task_types, &task.kind)
            && (self.event_types.is_empty() || self.event_types.contains(kind))
    }
}

/// A message of the service.
#[derive(Debug, PartialEq)]
enum ServerMessage {
    Subscribed {
        /// Every event is told, or the connection ends.
        is_complete: bool,
    },
    Refused(String),
    Task {
        kind: EventKind,
        task: Arc<Task>,
        actor_name: Option<String>,
    },
    /// A greeting, an answer to a ping, or what this client does not know.
    Other,
}

impl ServerMessage {
    fn from_value(mut value: Value) -> Self {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "subscribed" => {
                Self::Subscribed { is_complete: value.get("complete").and_then(Value::as_bool) == Some(true) }
            }
            "error" => Self::Refused(said(&value).unwrap_or("it gave no reason").to_owned()),
            name if name.starts_with("task.") => {
                let actor_name = value.get("actor_name").and_then(Value::as_str).map(str::to_owned);
                let within = value.pointer_mut("/data/task").map(Value::take);
                let task = within.or_else(|| value.get_mut("task").map(Value::take));
                let task = task.or_else(|| value.get_mut("data").map(Value::take));
                let message = value.pointer_mut("/data/message").map(Value::take);
                let message = message.or_else(|| value.get_mut("message").map(Value::take));
                match task.and_then(Task::from_value) {
                    Some(mut task) => {
                        task.messages.extend(message.and_then(Message::from_value));
                        Self::Task { kind: EventKind::from_name(name), task: Arc::new(task), actor_name }
                    }
                    None => Self::Other,
                }
            }
            _ => Self::Other,
        }
    }
}

/// Connects, passes events on, and connects again, without end.
async fn keep_connected(client: Client, subscription: Subscription, feed: Feed) {
    let longest = client.policy().longest_reconnect;
    let mut backoff = Backoff::new(client.policy().first_reconnect, longest);
    let mut is_told = false;
    loop {
        let mut connected_at = None;
        let error = match connection(&client, &subscription, &feed, &mut connected_at).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        tracing::debug!("event connection: {error}");
        let asked = error.retry_after().unwrap_or_default().min(longest);
        if connected_at.is_some_and(|at: Instant| at.elapsed() >= HEALTHY_AFTER) {
            backoff.reset();
        }
        if connected_at.is_some() || !is_told {
            feed.tell_in_state(Subscribed::No(error.clone()), AtsEvent::Disconnected { error });
        }
        is_told = true;
        let usual = backoff.pause(rand::random()).max(asked);
        let first = Backoff::new(client.policy().first_reconnect, longest).pause(rand::random());
        pause(&feed, usual, first.max(asked)).await;
    }
}

/// Pauses before the next connection, no longer than `first` while a transfer is open.
async fn pause(feed: &Feed, usual: Duration, first: Duration) {
    let began = Instant::now();
    let mut transfers = feed.transfers.subscribe();
    let hurried = async {
        // The sender is held here: it can't be closed.
        let _ = transfers.wait_for(|open| *open > 0).await;
        sleep_until(began + first).await;
    };
    tokio::select! {
        () = sleep_until(began + usual) => {}
        () = hurried => {}
    }
}

/// One connection, from opening to its end. `connected_at` is set once the subscription holds.
async fn connection(
    client: &Client,
    subscription: &Subscription,
    feed: &Feed,
    connected_at: &mut Option<Instant>,
) -> AtsResult<Infallible> {
    let actor = &client.settings().actor;
    let query = vec![
        ("actor_type", actor.kind.clone()),
        ("actor_id", actor.id.clone()),
        ("actor_name", actor.name.clone()),
    ];
    let mut socket = Socket::connect(client.http(), query).await?;
    socket.send(&subscription.to_value()).await?;

    let confirm_by = Instant::now() + CONFIRM_WITHIN;
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_at = Instant::now() + SILENCE_LIMIT;
    let mut idle_talk = 0;
    loop {
        let deadline = if connected_at.is_none() { confirm_by } else { silent_at };
        let message = tokio::select! {
            message = timeout_at(deadline, socket.next()) => message,
            _ = ping.tick() => {
                socket.send(&json!({ "type": "ping" })).await?;
                idle_talk = 0;
                continue;
            }
        };
        let message = match message {
            Ok(message) => {
                silent_at = Instant::now() + SILENCE_LIMIT;
                ServerMessage::from_value(message?)
            }
            Err(_) if connected_at.is_none() => ServerMessage::Subscribed { is_complete: false },
            Err(_) => return Err(socket.ended("the service fell silent")),
        };
        let is_sign = matches!(message, ServerMessage::Subscribed { .. } | ServerMessage::Task { .. });
        if connected_at.is_none() && is_sign {
            tracing::debug!("events of the service are subscribed to");
            *connected_at = Some(Instant::now());
            let is_complete = matches!(message, ServerMessage::Subscribed { is_complete: true });
            feed.tell_in_state(Subscribed::Yes { is_complete }, AtsEvent::Connected);
        }
        idle_talk = if matches!(message, ServerMessage::Task { .. }) { 0 } else { idle_talk + 1 };
        if idle_talk > MAX_IDLE_TALK {
            return Err(socket.ended("the service sends without end what says nothing"));
        }
        match message {
            ServerMessage::Refused(reason) if connected_at.is_none() => {
                return Err(socket.ended(&format!("the subscription was refused: {reason}")));
            }
            ServerMessage::Refused(reason) => {
                tracing::debug!("the service complains: {}", client.http().printable(&reason, SHOWN));
            }
            ServerMessage::Task { kind, task, actor_name } if subscription.wants(&kind, &task) => {
                tracing::trace!("event {} of task {}", kind.name().escape_debug(), task.id);
                feed.tell(AtsEvent::Task { kind, task, actor_name });
            }
            ServerMessage::Task { .. } | ServerMessage::Subscribed { .. } | ServerMessage::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ats::{Part, Status};

    fn task(value: Value) -> ServerMessage {
        ServerMessage::from_value(value)
    }

    #[test]
    fn the_task_of_an_event_is_found_where_services_put_it() {
        let inner = json!({"id": 3, "channel": "c"});
        for given in [
            json!({"type": "task.claimed", "data": {"task": inner}, "actor_name": "B"}),
            json!({"type": "task.claimed", "task": inner, "actor_name": "B"}),
            json!({"type": "task.claimed", "data": inner, "actor_name": "B"}),
        ] {
            let ServerMessage::Task { kind, task, actor_name } = task(given) else { panic!("no task") };
            assert_eq!((kind, actor_name.as_deref()), (EventKind::Claimed, Some("B")));
            assert_eq!((task.id.as_str(), task.channel.as_str()), ("3", "c"));
        }
    }

    #[test]
    fn the_message_of_an_event_is_read_with_its_task() {
        let message = json!({"id": 8, "actor_id": "b", "parts": [{"type": "text", "content": "hi"}]});
        for given in [
            json!({"type": "task.message", "data": {"task": {"id": 3}, "message": message}}),
            json!({"type": "task.message", "task": {"id": 3}, "message": message}),
        ] {
            let ServerMessage::Task { task, .. } = task(given) else { panic!("no task") };
            let [heard] = &task.messages[..] else { panic!("{:?}", task.messages) };
            assert_eq!(heard.actor.as_ref().map(|actor| actor.id.as_str()), Some("b"));
            assert_eq!(heard.parts, [Part::text("hi")]);
        }
        for nonsense in [json!("hi"), json!(null), json!([1])] {
            let given = json!({"type": "task.message", "task": {"id": 3}, "message": nonsense});
            let ServerMessage::Task { task, .. } = task(given) else { panic!("no task") };
            assert!(task.messages.is_empty());
        }
    }

    #[tokio::test]
    async fn a_listener_gives_the_task_with_the_messages_that_it_has_heard_of() {
        let sender = broadcast::Sender::new(BACKLOG);
        let mut listener = Listener::new(&sender, None);
        let tell = |value: Value| {
            let ServerMessage::Task { kind, task, actor_name } = task(value) else { panic!("no task") };
            sender.send(AtsEvent::Task { kind, task, actor_name }).expect("a listener");
        };
        let posted =
            |id: u32| json!({"type": "task.message", "task": {"id": id}, "message": {"id": id + 50}});
        let claimed = json!({"type": "task.claimed", "task": {"id": 1, "status": "in_progress"}});
        for event in [posted(1), posted(2), claimed] {
            tell(event);
        }
        let id = TaskId::from_value(&json!(1)).expect("an id");
        let is_claimed = |task: &Task| task.status == Status::InProgress;
        let told = listener.changed_so_that(&id, is_claimed).await.expect("a task");
        assert_eq!(told.status, Status::InProgress);
        let heard = told.messages.iter().filter_map(|message| message.id.as_ref()).map(TaskId::as_str);
        assert_eq!(heard.collect::<Vec<_>>(), ["51"]);
        // Until it was seen there is nothing new to tell, and never of what may have been missed.
        assert_eq!(listener.changed_so_that(&id, |_| true).await, None);
        listener.seen();
        sender.send(AtsEvent::Missed).expect("a listener");
        assert_eq!(listener.changed_so_that(&id, |_| true).await, None);
    }

    #[test]
    fn messages_that_mean_nothing_are_passed_over() {
        for given in [
            json!({"type": "connected"}),
            json!({"type": "pong"}),
            json!({"type": "task.created"}),
            json!({"type": "task.created", "data": {"task": {"title": "no id"}}}),
            json!({"type": 5}),
            json!([]),
            Value::Null,
        ] {
            assert_eq!(task(given.clone()), ServerMessage::Other, "{given}");
        }
        for (complete, is_complete) in [(json!(true), true), (json!(1), false), (Value::Null, false)] {
            let given = json!({"type": "subscribed", "id": "x", "complete": complete});
            assert_eq!(task(given), ServerMessage::Subscribed { is_complete });
        }
        let refused = task(json!({"type": "error", "message": "no"}));
        assert_eq!(refused, ServerMessage::Refused("no".into()));
    }

    #[test]
    fn kinds_have_names() {
        for name in ["task.created", "task.message", "task.lease_expired", "task.new_one"] {
            assert_eq!(EventKind::from_name(name).name(), name);
        }
    }

    #[test]
    fn a_subscription_filters_here_too() {
        let subscription = Subscription {
            channels: vec!["c".into()],
            task_types: vec!["t".into()],
            event_types: vec![EventKind::Created],
        };
        let sent = subscription.to_value();
        assert_eq!(sent["channels"], json!(["c"]));
        assert_eq!(sent["event_types"], json!(["task.created"]));
        let wanted = |task: Value, kind| subscription.wants(&kind, &Task::from_value(task).expect("a task"));
        assert!(wanted(json!({"id": 1, "channel": "c", "type": "t"}), EventKind::Created));
        assert!(wanted(json!({"id": 1}), EventKind::Created));
        assert!(!wanted(json!({"id": 1, "channel": "d", "type": "t"}), EventKind::Created));
        assert!(!wanted(json!({"id": 1, "channel": "c", "type": "u"}), EventKind::Created));
        assert!(!wanted(json!({"id": 1, "channel": "c", "type": "t"}), EventKind::Claimed));
    }
}
