use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyperdht::{
    Dht,
    connect::{Connection, ListenError},
};
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    Discovery, Firewall, JoinOptions, RelayThrough, Topic,
    driver::{self, Command},
};

/// Connections that wait to be accepted; beyond, new ones are ended at once.
const MAX_QUEUED_CONNECTIONS: usize = 64;

/// How a swarm behaves.
#[derive(Clone)]
pub struct SwarmConfig {
    /// The node to find and be found through. Several swarms may share one.
    pub dht: Dht,
    /// Who the swarm is. Swarms on one node need key pairs of their own.
    pub key_pair: KeyPair,
    /// No further peers of topics are dialled while so many are connected. Default: 64.
    pub max_peers: usize,
    /// Peers dialled at once. Default: 3.
    pub max_parallel: usize,
    /// Default: everybody is welcome.
    pub firewall: Option<Firewall>,
    /// Where connections may go if no direct way opens. Default: nowhere.
    pub relay_through: Option<RelayThrough>,
    /// Suspend, resume and destroy the node with the swarm. Default: false.
    pub owns_dht: bool,
}

impl SwarmConfig {
    /// The defaults.
    pub fn new(dht: Dht, key_pair: KeyPair) -> Self {
        Self {
            dht,
            key_pair,
            max_peers: 64,
            max_parallel: 3,
            firewall: None,
            relay_through: None,
            owns_dht: false,
        }
    }
}

impl fmt::Debug for SwarmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmConfig")
            .field("key_pair", &self.key_pair)
            .field("max_peers", &self.max_peers)
            .field("max_parallel", &self.max_parallel)
            .field("firewall", &self.firewall.is_some())
            .field("relay_through", &self.relay_through)
            .field("owns_dht", &self.owns_dht)
            .finish_non_exhaustive()
    }
}

/// What is known of a peer when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its key, which the connection has proven.
    pub public_key: PublicKey,
    /// Topics it was found for. Empty for a stranger who dialled us: it may have come for any.
    pub topics: Vec<Topic>,
}

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
    /// ([`Discovery::found`]); who dials us is let in, dials that are under way go on.
    ///
    /// So a topic can be joined, and those on it counted, before it is certain that they are wanted.
    pub fn hold(&self) {
        self.send(Command::Hold);
    }

    /// Undoes [`Self::hold`]: those who were found are dialled now.
    pub fn release(&self) {
        self.send(Command::Release);
    }

    /// Waits until running refreshes are over, and each peer found so far was tried or there is no room for
    /// more; after [`Self::hold`] not before [`Self::release`]. False if the swarm is destroyed first.
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
        // Fails only if the swarm was destroyed; where an answer is awaited, its absence tells.
        let _ = self.commands.send(command);
    }
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swarm").finish_non_exhaustive()
    }
}
