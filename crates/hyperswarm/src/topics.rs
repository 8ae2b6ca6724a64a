//! The topics of a swarm, each with its sessions and its task.

use std::collections::HashMap;

use hyperdht::Dht;
use secret_stream::KeyPair;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Topic,
    command::answer,
    config::JoinOptions,
    listener::Listener,
    topic::{self, Found, Roles, TopicCommand, TopicContext},
};

/// All topics that were joined.
pub(crate) struct Topics {
    dht: Dht,
    keys: KeyPair,
    listener: Listener,
    found: mpsc::Sender<Found>,
    joined: HashMap<Topic, JoinedTopic>,
    /// Topics that are being left, until that is done.
    leaving: HashMap<Topic, CancellationToken>,
}

struct JoinedTopic {
    sessions: HashMap<u64, JoinOptions>,
    limit: Option<usize>,
    commands: mpsc::UnboundedSender<TopicCommand>,
    done: CancellationToken,
}

impl Topics {
    /// None yet. Who is found later is sent to `found`.
    pub(crate) fn new(dht: Dht, keys: KeyPair, listener: Listener, found: mpsc::Sender<Found>) -> Self {
        Self { dht, keys, listener, found, joined: HashMap::new(), leaving: HashMap::new() }
    }

    pub(crate) fn contains(&self, topic: &Topic) -> bool {
        self.joined.contains_key(topic)
    }

    /// Adds a session or changes it, and refreshes. A topic that is new rests at first if `suspended`.
    pub(crate) fn update(&mut self, topic: Topic, session: u64, options: JoinOptions, suspended: bool) {
        self.leaving.retain(|_, left| !left.is_cancelled());
        let joined = self.joined.entry(topic).or_insert_with(|| {
            let context = TopicContext {
                topic,
                dht: self.dht.clone(),
                keys: self.keys.clone(),
                found: self.found.clone(),
                listener: self.listener.clone(),
                after: self.leaving.get(&topic).cloned(),
                suspended,
            };
            let done = CancellationToken::new();
            let commands = topic::spawn(context, done.clone());
            JoinedTopic { sessions: HashMap::new(), limit: None, commands, done }
        });
        joined.sessions.insert(session, options);
        joined.limit = options.limit;
        joined.refresh();
    }

    /// Ends a session. True if it was the topic's last: then the topic is to be left.
    pub(crate) fn end_session(&mut self, topic: &Topic, session: u64) -> bool {
        let Some(joined) = self.joined.get_mut(topic) else { return false };
        joined.sessions.remove(&session);
        if joined.sessions.is_empty() {
            return true;
        }
        joined.refresh();
        false
    }

    /// Leaves a topic. `done` is answered once nodes were told to forget us.
    pub(crate) fn leave(&mut self, topic: Topic, done: Option<oneshot::Sender<()>>) {
        let left = match self.joined.remove(&topic) {
            Some(joined) => {
                joined.send(TopicCommand::Destroy);
                self.leaving.insert(topic, joined.done.clone());
                Some(joined.done)
            }
            None => self.leaving.get(&topic).cloned(),
        };
        if let Some(done) = done {
            tokio::spawn(async move {
                if let Some(left) = left {
                    left.cancelled().await;
                }
                answer(done, ());
            });
        }
    }

    pub(crate) fn refresh(&self, topic: &Topic) {
        if let Some(joined) = self.joined.get(topic) {
            joined.refresh();
        }
    }

    pub(crate) fn refresh_all(&self) {
        self.joined.values().for_each(JoinedTopic::refresh);
    }

    /// Has the topic's task do something, if there is one.
    pub(crate) fn send(&self, topic: &Topic, command: TopicCommand) {
        if let Some(joined) = self.joined.get(topic) {
            joined.send(command);
        }
    }

    /// For each topic, what tells once no refresh of it runs.
    pub(crate) fn flushed(&self) -> Vec<oneshot::Receiver<bool>> {
        let flushed = |joined: &JoinedTopic| {
            let (done, flushed) = oneshot::channel();
            joined.send(TopicCommand::Flushed(done));
            flushed
        };
        self.joined.values().map(flushed).collect()
    }

    /// Withdraws all announces. The future ends when that is done.
    pub(crate) fn suspend(&self) -> impl Future<Output = ()> + use<> {
        let mut withdrawals = JoinSet::new();
        for joined in self.joined.values() {
            let (done, withdrawn) = oneshot::channel();
            joined.send(TopicCommand::Suspend(done));
            // An error means that the topic was left.
            withdrawals.spawn(async move { drop(withdrawn.await) });
        }
        async move { drop(withdrawals.join_all().await) }
    }

    pub(crate) fn resume(&self) {
        for joined in self.joined.values() {
            joined.send(TopicCommand::Resume);
        }
    }

    /// Starts to leave all topics.
    pub(crate) fn leave_all(&mut self) {
        let topics: Vec<Topic> = self.joined.keys().copied().collect();
        for topic in topics {
            self.leave(topic, None);
        }
    }

    /// Waits until all topics that were left are.
    pub(crate) async fn left(&self) {
        for left in self.leaving.values() {
            left.cancelled().await;
        }
    }
}

impl JoinedTopic {
    /// Takes the roles of all sessions together.
    fn refresh(&self) {
        self.send(TopicCommand::Refresh(Roles {
            server: self.sessions.values().any(|session| session.server),
            client: self.sessions.values().any(|session| session.client),
            limit: self.limit,
        }));
    }

    fn send(&self, command: TopicCommand) {
        // The task ends only when told to, or with the swarm.
        let _ = self.commands.send(command);
    }
}
