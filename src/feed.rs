//! What happens on a channel of the task service, shared by all transfers of a node.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::ats::{self, Client, Task, TaskId};
use crate::node::lock;

/// How often a task is read when no event says that it changed: events are a hint, not a record.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Events held for a slow listener; one that falls behind reads the service's lists instead.
const BACKLOG: usize = 256;

/// How a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Neither confirmed nor refused yet.
    Starting,
    /// Events flow.
    Up,
    /// It broke, or never came about, for this reason; it is being renewed.
    Down(String),
}

/// What a feed tells.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// The subscription is confirmed, for the first time or again: list what is pending now.
    Connected,
    /// The subscription broke; it is being renewed.
    Disconnected(String),
    /// Something happened to a task.
    Task(Arc<Task>),
    /// Notices were missed: list what is pending now.
    Lagged,
}

/// One subscription to the events of one channel. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Feed {
    sender: broadcast::Sender<Notice>,
    link: Arc<Mutex<Link>>,
    /// What the node's owner was told last: whether the service is reached.
    told: Mutex<Option<bool>>,
    pump: AbortHandle,
}

/// A listener of a feed.
#[derive(Debug)]
pub(crate) struct Listener {
    receiver: broadcast::Receiver<Notice>,
    /// A change was noticed that nobody has looked at yet.
    unseen: bool,
}

impl Feed {
    /// Subscribes to a channel's offers; must be called within a tokio runtime.
    pub(crate) fn start(client: &Client, channel: &str) -> Self {
        let subscription = ats::Subscription {
            channels: vec![channel.to_owned()],
            task_types: vec![crate::offer::TASK_TYPE.to_owned()],
            event_types: Vec::new(),
        };
        let mut events = ats::Events::start(client, subscription);
        let (sender, _) = broadcast::channel(BACKLOG);
        let out = sender.clone();
        let link = Arc::new(Mutex::new(Link::Starting));
        let latest = link.clone();
        let pump = tokio::spawn(async move {
            loop {
                let notice = match events.next().await {
                    ats::Event::Connected => {
                        *lock(&latest) = Link::Up;
                        Notice::Connected
                    }
                    ats::Event::Disconnected { error } => {
                        let reason = error.to_string();
                        *lock(&latest) = Link::Down(reason.clone());
                        Notice::Disconnected(reason)
                    }
                    ats::Event::Task { task, .. } => Notice::Task(Arc::from(task)),
                };
                // Nobody listening is no reason to stop: the next transfer joins this subscription.
                let _ = out.send(notice);
            }
        });
        Self { sender, link, told: Mutex::default(), pump: pump.abort_handle() }
    }

    /// How the subscription stands now, for those who come after it was told.
    pub(crate) fn link(&self) -> Link {
        lock(&self.link).clone()
    }

    /// Whether the owner does not know yet that the service is reached, or is not; from now on it does.
    /// However many watch a channel, each change is told once.
    pub(crate) fn is_news(&self, is_reached: bool) -> bool {
        lock(&self.told).replace(is_reached) != Some(is_reached)
    }

    /// Listens from now on.
    pub(crate) fn listen(&self) -> Listener {
        Listener { receiver: self.sender.subscribe(), unseen: false }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Listener {
    /// The next notice; `None` once the feed has ended.
    pub(crate) async fn next(&mut self) -> Option<Notice> {
        match self.receiver.recv().await {
            Ok(notice) => Some(notice),
            Err(RecvError::Lagged(_)) => Some(Notice::Lagged),
            Err(RecvError::Closed) => None,
        }
    }

    /// Waits until the task `id` may have changed: an event of it, a subscription begun anew, or the
    /// polling interval over. Comes back at once until [`Listener::seen`] says that the change was looked
    /// at, so that a wait given up half-way loses nothing.
    pub(crate) async fn changed(&mut self, id: &TaskId) {
        self.changed_so_that(id, |_| true).await;
    }

    /// As [`Self::changed`], but passes over events whose task `matters` not.
    pub(crate) async fn changed_so_that(&mut self, id: &TaskId, matters: impl Fn(&Task) -> bool) {
        if self.unseen {
            return;
        }
        let deadline = Instant::now() + POLL_INTERVAL;
        loop {
            match timeout_at(deadline, self.next()).await {
                Err(_) => break,
                Ok(None) => {
                    tokio::time::sleep_until(deadline).await;
                    break;
                }
                Ok(Some(Notice::Task(task))) if task.id != *id || !matters(&task) => {}
                Ok(Some(Notice::Disconnected(_))) => {}
                Ok(Some(_)) => break,
            }
        }
        self.unseen = true;
    }

    /// Notes that the task was read.
    pub(crate) fn seen(&mut self) {
        self.unseen = false;
    }

    /// Makes the next wait come back at once: the task is to be read again.
    pub(crate) fn unsee(&mut self) {
        self.unseen = true;
    }
}
