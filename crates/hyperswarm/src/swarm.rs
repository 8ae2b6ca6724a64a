//! A swarm, as its user holds it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyperdht::connect::{Connection, ListenError};
use secret_stream::PublicKey;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    Topic,
    command::Command,
    config::{JoinOptions, SwarmConfig},
    discovery::Discovery,
    driver,
    peer::PeerInfo,
};

/// Connections that wait to be accepted; beyond, new ones are ended at once.
const MAX_QUEUED_CONNECTIONS: usize = 64;

/// Peers that meet on topics, one connection each. Clones are the same swarm; with the last one it ends as by
/// [`Self::destroy`].
#[derive(Clone)]
pub struct Swarm {
    public_key: PublicKey,
    commands: mpsc::UnboundedSender<Command>,
    connections: Arc<Mutex<mpsc::Receiver<(Connection, PeerInfo)>>>,
    sessions: Arc<AtomicU64>,
}

impl Swarm {
    /// Starts a swarm on the current tokio runtime. It does nothing by itself.
    pub fn new(config: SwarmConfig) -> Self {
        let public_key = config.key_pair.public_key();
        let (commands, receiver) = mpsc::unbounded_channel();
        let (accepted, connections) = mpsc::channel(MAX_QUEUED_CONNECTIONS);
        driver::spawn(config, receiver, accepted);
        Self {
            public_key,
            commands,
            connections: Arc::new(Mutex::new(connections)),
            sessions: Arc::default(),
        }
    }

    /// Who the swarm is.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Takes part in a topic until [`Self::leave`], or until all its sessions are destroyed.
    pub fn join(&self, topic: Topic, options: JoinOptions) -> Discovery {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        self.send(Command::Update { topic, session, options });
        Discovery::new(topic, session, self.commands.downgrade())
    }

    /// Ends all sessions of a topic, and returns once nodes were told to forget us. Connections go on.
    pub async fn leave(&self, topic: Topic) {
        let (done, left) = oneshot::channel();
        self.send(Command::Leave { topic, done });
        // An error means that the swarm has ended.
        let _ = left.await;
    }

    /// Connects to a peer by its key, and again whenever that connection ends.
    pub fn join_peer(&self, public_key: PublicKey) {
        self.send(Command::JoinPeer(public_key));
    }

    /// Undoes [`Self::join_peer`]. A connection goes on.
    pub fn leave_peer(&self, public_key: PublicKey) {
        self.send(Command::LeavePeer(public_key));
    }

    /// Makes the swarm reachable by its key, as joining a topic as server does. Returns once nodes know.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn listen(&self) -> Result<(), ListenError> {
        let (done, listening) = oneshot::channel();
        self.send(Command::Listen(done));
        listening.await.map_err(|_| ListenError::Destroyed)?
    }

    /// The next connection, whoever opened it. `None` once the swarm is destroyed.
    ///
    /// There is one for each peer; a newer one for the same peer means that the older has ended.
    pub async fn accept(&self) -> Option<(Connection, PeerInfo)> {
        self.connections.lock().await.recv().await
    }

    /// Dials nobody from now on, until [`Self::release`]. Peers that lookups find are remembered meanwhile
    /// ([`Discovery::found`]). Peers that dial us still connect, and dials that are under way go on.
    ///
    /// Use it to join a topic, and to see who is there, before it is certain that they are wanted.
    pub fn hold(&self) {
        self.send(Command::Hold);
    }

    /// Undoes [`Self::hold`]: those who were found are dialled now.
    pub fn release(&self) {
        self.send(Command::Release);
    }

    /// Waits until running refreshes are over, and each peer found so far was tried or there is no room for
    /// more. After [`Self::hold`] this takes until [`Self::release`] if anybody was found. False if the swarm
    /// is destroyed first.
    pub async fn flush(&self) -> bool {
        let (topics, flushing) = oneshot::channel();
        self.send(Command::FlushTopics(topics));
        let Ok(flushing) = flushing.await else { return false };
        for topic in flushing {
            // A failed refresh found nobody to wait for.
            let _ = topic.await;
        }
        let (done, flushed) = oneshot::channel();
        self.send(Command::Flush(done));
        flushed.await.unwrap_or(false)
    }

    /// Withdraws announces and ends all connections, until [`Self::resume`].
    pub async fn suspend(&self) {
        let (done, suspended) = oneshot::channel();
        self.send(Command::Suspend(done));
        // An error means that the swarm has ended.
        let _ = suspended.await;
    }

    /// Announces, looks for peers and dials again.
    pub async fn resume(&self) {
        let (done, resumed) = oneshot::channel();
        self.send(Command::Resume(done));
        // An error means that the swarm has ended.
        let _ = resumed.await;
    }

    /// Ends the swarm: announces are withdrawn, dials given up. Connections that were accepted are their
    /// owner's, unless the swarm owns the node, with which they end.
    pub async fn destroy(&self) {
        let (done, destroyed) = oneshot::channel();
        self.send(Command::Destroy(done));
        // An error means that it has ended already.
        let _ = destroyed.await;
    }

    fn send(&self, command: Command) {
        // Fails only if the swarm was destroyed; whoever waits for an answer learns it there.
        let _ = self.commands.send(command);
    }
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swarm").finish_non_exhaustive()
    }
}
