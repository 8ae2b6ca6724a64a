//! Sends events to subscribers. Publishing never waits: a subscriber that does not keep up is dropped. When
//! it comes back, it lists the tasks to find out what it missed.

use std::cell::LazyCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::ws::Utf8Bytes;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::sync::lock;
use crate::task::{EventKind, Parties, Task, View};
use crate::time::Millis;

/// The most events that may wait for one subscriber.
const MAX_WAITING: usize = 1024;
/// The most bytes that may wait for one subscriber. The text of an event is kept once for all subscribers,
/// but counts in full for each of them.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// The most subscriptions of one connection.
const MAX_FILTERS: usize = 16;

/// The most names in all of them together. Each event is compared with them.
const MAX_NAMES: usize = 256;

/// What a subscription asks for; an empty list stands for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) channels: Vec<String>,
    pub(crate) task_types: Vec<String>,
    pub(crate) event_types: Vec<String>,
}

impl Filter {
    fn names(&self) -> usize {
        self.channels.len() + self.task_types.len() + self.event_types.len()
    }

    fn wants(&self, subject: &Subject<'_>) -> bool {
        let among = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        among(&self.channels, subject.channel)
            && among(&self.task_types, subject.task_type)
            && among(&self.event_types, subject.event)
    }
}

/// What an event is about, as far as that decides who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject<'t> {
    /// The name of the event.
    pub(crate) event: &'t str,
    pub(crate) channel: &'t str,
    pub(crate) task_type: &'t str,
    pub(crate) parties: Parties<'t>,
}

impl<'t> Subject<'t> {
    pub(crate) fn new(event: EventKind, task: &'t Task) -> Self {
        Self {
            event: event.name(),
            channel: &task.channel,
            task_type: &task.kind,
            parties: Parties::of(task),
        }
    }
}

/// All subscribers of a hub.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bus(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    /// Told of each event, whatever it is about.
    changes: Arc<Notify>,
    next: u64,
    by_id: HashMap<u64, Member>,
    /// Events that were published, and subscribers that did not keep up.
    published: Counter,
    left_behind: Counter,
}

/// Who a subscriber is, for those who look at who is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presence {
    /// The id of the actor, if it says so.
    pub(crate) actor: Option<String>,
    /// Whether it is the hub's own page in a browser.
    pub(crate) is_page: bool,
    /// When it came.
    pub(crate) since: Millis,
}

/// A subscriber as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) presence: Presence,
    /// The channels that it listens to, sorted; none stands for all.
    pub(crate) channels: Vec<String>,
}

#[derive(Debug)]
struct Member {
    view: View,
    presence: Presence,
    filters: HashMap<String, Filter>,
    queue: mpsc::Sender<Utf8Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    too_slow: CancellationToken,
}

/// One connection's place on the bus; leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Subscriber {
    bus: Bus,
    id: u64,
    queue: mpsc::Receiver<Utf8Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    too_slow: CancellationToken,
}

impl Bus {
    /// A bus that counts the events it publishes, and the subscribers that do not keep up.
    pub(crate) fn new((published, left_behind): (Counter, Counter)) -> Self {
        Self(Arc::new(Mutex::new(Members { published, left_behind, ..Members::default() })))
    }

    /// What is told whenever a task has changed, of this hub or another one on its database.
    pub(crate) fn changes(&self) -> Arc<Notify> {
        self.members().changes.clone()
    }

    /// Adds a subscriber that has no subscription yet, and is told of what the view shows.
    pub(crate) fn join(&self, view: View, presence: Presence) -> Subscriber {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let too_slow = CancellationToken::new();
        let member = Member {
            view,
            presence,
            filters: HashMap::new(),
            queue: sender,
            waiting_bytes: waiting_bytes.clone(),
            too_slow: too_slow.clone(),
        };
        let mut members = self.members();
        let id = members.next;
        members.next += 1;
        members.by_id.insert(id, member);
        drop(members);
        Subscriber { bus: self.clone(), id, queue, waiting_bytes, too_slow }
    }

    /// Sends an event of a task to all who subscribed to it; with the message, if that is what happened.
    pub(crate) fn publish(
        &self,
        event: EventKind,
        task: &Task,
        actor_name: Option<&str>,
        message: Option<&Value>,
    ) {
        let text = || event_text(event, task, actor_name, message);
        self.send_of(|| Subject::new(event, task), text);
    }

    /// Sends an event's text, which is made once somebody wants it.
    pub(crate) fn send(&self, subject: &Subject<'_>, text: impl FnOnce() -> String) {
        self.send_of(|| subject.clone(), text);
    }

    /// [`Bus::send`], where the subject too is made once there is anybody to be told.
    fn send_of<'t>(&self, subject: impl FnOnce() -> Subject<'t>, text: impl FnOnce() -> String) {
        let (subject, text) = (LazyCell::new(subject), LazyCell::new(|| Utf8Bytes::from(text())));
        let mut members = self.members();
        members.published.inc();
        members.changes.notify_waiters();
        let before = members.by_id.len();
        members.by_id.retain(|_, member| {
            let is_wanted = member.filters.values().any(|filter| filter.wants(&subject));
            !is_wanted || !member.view.shows_to(&subject.parties) || member.tell((*text).clone())
        });
        members.left_behind.inc_by(u64::try_from(before - members.by_id.len()).unwrap_or(u64::MAX));
    }

    /// Has all connections end, because events were lost: each lists the tasks when it comes back.
    pub(crate) fn end_all(&self) {
        let mut members = self.members();
        members.changes.notify_waiters();
        for (_, member) in members.by_id.drain() {
            member.too_slow.cancel();
        }
    }

    /// Who is subscribed to anything, those that came last first; an actor sees itself alone.
    pub(crate) fn connected(&self, view: &View) -> Vec<Connected> {
        let is_shown = |member: &&Member| match view {
            View::All => true,
            View::Of(id) => member.presence.actor.as_ref() == Some(id),
        };
        let mut connected: Vec<Connected> = self
            .members()
            .by_id
            .values()
            .filter(|member| !member.filters.is_empty())
            .filter(is_shown)
            .map(|member| Connected { presence: member.presence.clone(), channels: member.channels() })
            .collect();
        connected.sort_by_key(|connected| Reverse(connected.presence.since));
        connected
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.0)
    }
}

impl Member {
    /// The channels of all its subscriptions; none where one of them is to all.
    fn channels(&self) -> Vec<String> {
        if self.filters.values().any(|filter| filter.channels.is_empty()) {
            return Vec::new();
        }
        let channels: BTreeSet<&String> = self.filters.values().flat_map(|filter| &filter.channels).collect();
        channels.into_iter().cloned().collect()
    }

    /// Queues an event; false if the subscriber does not keep up, and then its connection is told to end.
    fn tell(&self, text: Utf8Bytes) -> bool {
        let length = text.len();
        let before = self.waiting_bytes.fetch_add(length, Ordering::Relaxed);
        // A single event is let through, however long.
        let has_room = before == 0 || before + length <= MAX_WAITING_BYTES;
        if has_room && self.queue.try_send(text).is_ok() {
            return true;
        }
        self.too_slow.cancel();
        false
    }
}

impl Subscriber {
    /// Adds a subscription, or changes the one of that id.
    ///
    /// # Errors
    /// A sentence that says what there is too much of.
    pub(crate) fn subscribe(&self, id: String, filter: Filter) -> Result<(), String> {
        let mut members = self.bus.members();
        let Some(member) = members.by_id.get_mut(&self.id) else { return Ok(()) };
        if member.filters.len() >= MAX_FILTERS && !member.filters.contains_key(&id) {
            return Err(format!("too many subscriptions: a connection has {MAX_FILTERS} at most"));
        }
        let others = member.filters.iter().filter(|(other, _)| **other != id);
        let names = others.map(|(_, filter)| filter.names()).sum::<usize>() + filter.names();
        if names > MAX_NAMES {
            return Err(format!(
                "too many names: the subscriptions of a connection have {MAX_NAMES} at most"
            ));
        }
        member.filters.insert(id, filter);
        Ok(())
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&self, id: &str) {
        if let Some(member) = self.bus.members().by_id.get_mut(&self.id) {
            member.filters.remove(id);
        }
    }

    /// The next event as JSON text. Once this subscriber was too slow, it waits for ever. May be cancelled
    /// and called again.
    pub(crate) async fn next(&mut self) -> Utf8Bytes {
        match self.queue.recv().await {
            Some(text) => self.taken(text),
            None => std::future::pending().await,
        }
    }

    /// The next event, if one waits.
    pub(crate) fn next_waiting(&mut self) -> Option<Utf8Bytes> {
        self.queue.try_recv().ok().map(|text| self.taken(text))
    }

    fn taken(&self, text: Utf8Bytes) -> Utf8Bytes {
        self.waiting_bytes.fetch_sub(text.len(), Ordering::Relaxed);
        text
    }

    /// Cancelled once this subscriber did not keep up.
    pub(crate) fn too_slow(&self) -> &CancellationToken {
        &self.too_slow
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.bus.members().by_id.remove(&self.id);
    }
}

/// An event as subscribers are sent it; the message stands beside the task.
pub(crate) fn event_text(
    event: EventKind,
    task: &Task,
    actor_name: Option<&str>,
    message: Option<&Value>,
) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        task: &'a Task,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a Value>,
    }
    #[derive(Serialize)]
    struct Event<'a> {
        r#type: &'a str,
        actor_name: Option<&'a str>,
        data: Data<'a>,
    }
    let event = Event { r#type: event.name(), actor_name, data: Data { task, message } };
    // Nothing in a task fails to be written as JSON.
    serde_json::to_string(&event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task::{Actor, Status};

    fn task(channel: &str, title: &str) -> Task {
        Task {
            id: 1,
            organization: "default".into(),
            project: "main".into(),
            project_id: 1,
            title: title.into(),
            description: None,
            kind: "task".into(),
            channel: channel.into(),
            priority: 5,
            status: Status::Pending,
            payload: json!({}),
            outputs: Vec::new(),
            reason: None,
            source: Actor { kind: "agent".into(), id: "a".into(), name: "A".into() },
            assignee: None,
            lease_expires: None,
            created_at: Millis(0),
            updated_at: Millis(0),
            completed_at: None,
        }
    }

    fn presence(actor: &str, since: i64) -> Presence {
        Presence { actor: Some(actor.into()), is_page: false, since: Millis(since) }
    }

    fn of_channel(channel: &str) -> Filter {
        Filter { channels: vec![channel.into()], ..Filter::default() }
    }

    #[tokio::test]
    async fn subscribers_hear_what_they_asked_for_once() {
        let bus = Bus::default();
        let mut subscriber = bus.join(View::All, presence("a", 0));
        bus.publish(EventKind::Created, &task("c", "before"), None, None);
        assert_eq!(subscriber.subscribe("1".into(), of_channel("c")), Ok(()));
        assert_eq!(subscriber.subscribe("2".into(), Filter::default()), Ok(()));
        bus.publish(EventKind::Created, &task("c", "both"), Some("A"), None);
        subscriber.unsubscribe("2");
        bus.publish(EventKind::Created, &task("d", "neither"), None, None);
        bus.publish(EventKind::Message, &task("c", "one"), None, Some(&json!({"id": 9})));

        let first: Value = serde_json::from_str(&subscriber.next().await).expect("JSON");
        assert_eq!(first["data"]["task"]["title"], "both");
        assert_eq!((&first["type"], &first["actor_name"]), (&json!("task.created"), &json!("A")));
        let second: Value = serde_json::from_str(&subscriber.next().await).expect("JSON");
        assert_eq!(second["data"]["task"]["title"], "one");
        assert_eq!(second["data"]["message"]["id"], 9);
    }

    #[tokio::test]
    async fn one_that_does_not_keep_up_is_dropped_and_others_are_not() {
        let bus = Bus::default();
        let slow = bus.join(View::All, presence("a", 0));
        let mut fast = bus.join(View::All, presence("a", 0));
        assert_eq!(slow.subscribe("s".into(), Filter::default()), Ok(()));
        assert_eq!(fast.subscribe("f".into(), Filter::default()), Ok(()));
        for _ in 0..=MAX_WAITING {
            assert!(!slow.too_slow().is_cancelled());
            bus.publish(EventKind::Created, &task("c", "t"), None, None);
            fast.next().await;
        }
        assert!(slow.too_slow().is_cancelled());
        assert!(!fast.too_slow().is_cancelled());
        assert_eq!(bus.members().by_id.len(), 1);
        drop((slow, fast));
        assert_eq!(bus.members().by_id.len(), 0);
    }

    #[tokio::test]
    async fn long_events_count_by_their_bytes() {
        let bus = Bus::default();
        let slow = bus.join(View::All, presence("a", 0));
        assert_eq!(slow.subscribe("s".into(), Filter::default()), Ok(()));
        let long = task("c", &"x".repeat(MAX_WAITING_BYTES / 3));
        bus.publish(EventKind::Created, &long, None, None);
        bus.publish(EventKind::Created, &long, None, None);
        assert!(!slow.too_slow().is_cancelled());
        bus.publish(EventKind::Created, &long, None, None);
        assert!(slow.too_slow().is_cancelled());
    }

    #[test]
    fn subscriptions_are_bounded() {
        let bus = Bus::default();
        let subscriber = bus.join(View::All, presence("a", 0));
        for id in 0..MAX_FILTERS {
            assert_eq!(subscriber.subscribe(id.to_string(), Filter::default()), Ok(()));
        }
        assert!(subscriber.subscribe("more".into(), Filter::default()).is_err());
        let names = |count| Filter { channels: vec!["c".into(); count], ..Filter::default() };
        assert_eq!(subscriber.subscribe("1".into(), names(MAX_NAMES - 1)), Ok(()));
        assert_eq!(subscriber.subscribe("1".into(), names(MAX_NAMES)), Ok(()));
        assert!(subscriber.subscribe("2".into(), names(1)).is_err());
        assert_eq!(subscriber.subscribe("1".into(), names(1)), Ok(()));
        assert_eq!(subscriber.subscribe("0".into(), of_channel("c")), Ok(()));
    }

    #[test]
    fn who_is_connected_is_told_with_the_channels_and_to_an_actor_of_itself_alone() {
        let bus = Bus::default();
        let (a, b) = (bus.join(View::All, presence("a", 1)), bus.join(View::All, presence("b", 2)));
        let silent = bus.join(View::All, presence("silent", 3));
        assert_eq!(a.subscribe("1".into(), of_channel("d")), Ok(()));
        assert_eq!(a.subscribe("2".into(), of_channel("c")), Ok(()));
        assert_eq!(b.subscribe("1".into(), of_channel("c")), Ok(()));
        assert_eq!(b.subscribe("2".into(), Filter::default()), Ok(()));
        let told = |view: View| -> Vec<(String, Vec<String>)> {
            let connected = bus.connected(&view).into_iter();
            connected.map(|one| (one.presence.actor.unwrap_or_default(), one.channels)).collect()
        };
        let of_a = ("a".to_owned(), vec!["c".to_owned(), "d".to_owned()]);
        assert_eq!(told(View::All), [("b".to_owned(), vec![]), of_a.clone()]);
        assert_eq!(told(View::Of("a".into())), [of_a]);
        drop((a, b, silent));
        assert_eq!(told(View::All), []);
    }
}
