//! One session on a topic, as its user holds it.

use secret_stream::PublicKey;
use tokio::sync::{mpsc, oneshot};

use crate::{Topic, command::Command, config::JoinOptions};

/// One session on a topic. Several sessions on one topic share its announce and its lookups.
///
/// Dropping this changes nothing: the session lasts until [`Self::destroy`],
/// [`Swarm::leave`](crate::Swarm::leave) or the end of the swarm.
#[derive(Debug)]
pub struct Discovery {
    topic: Topic,
    session: u64,
    /// Weak, so that this handle does not keep the swarm alive.
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Discovery {
    pub(crate) fn new(topic: Topic, session: u64, commands: mpsc::WeakUnboundedSender<Command>) -> Self {
        Self { topic, session, commands }
    }

    /// What the session is for.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// Waits until no refresh of the topic is running: it is announced, and those who were found are known.
    /// False if the last refresh failed or the topic was left.
    pub async fn flushed(&self) -> bool {
        let (done, flushed) = oneshot::channel();
        self.send(Command::Flushed { topic: self.topic, done });
        flushed.await.unwrap_or(false)
    }

    /// The peers that were found on the topic and were not given up since, connected or not, in no order.
    /// After [`Self::flushed`], all that the last lookup found are among them. Where no session of the topic
    /// is a client, none are found.
    pub async fn found(&self) -> Vec<PublicKey> {
        let (done, found) = oneshot::channel();
        self.send(Command::FoundPeers { topic: self.topic, done });
        found.await.unwrap_or_default()
    }

    /// Announces and looks for peers again now, unless that goes on already. By itself it happens every ten
    /// to twelve minutes.
    pub fn refresh(&self) {
        self.send(Command::Refresh { topic: self.topic });
    }

    /// Looks for peers now, without announcing: the cheaper half of [`Self::refresh`], for those who expect
    /// somebody any moment.
    pub fn look_up(&self) {
        self.send(Command::LookUp { topic: self.topic });
    }

    /// Changes what the session does, and refreshes the topic.
    pub fn update(&self, options: JoinOptions) {
        self.send(Command::Update { topic: self.topic, session: self.session, options });
    }

    /// Ends the session. With the last one the topic is left, as by [`Swarm::leave`](crate::Swarm::leave).
    pub async fn destroy(self) {
        let (done, ended) = oneshot::channel();
        self.send(Command::EndSession { topic: self.topic, session: self.session, done });
        // An error means that the swarm has ended, and all sessions with it.
        let _ = ended.await;
    }

    fn send(&self, command: Command) {
        if let Some(commands) = self.commands.upgrade() {
            // Fails only if the swarm has ended, and then there is nothing to do.
            let _ = commands.send(command);
        }
    }
}
