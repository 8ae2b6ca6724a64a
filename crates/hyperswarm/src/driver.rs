//! The task that owns a swarm: it feeds the state machine with what happens, and does what it says.

use std::{collections::HashMap, sync::Arc};

use hyperdht::{
    Network,
    connect::{
        ConnectError, ConnectOptions, Connection, FirewallHook, ListenError, RelayHook, ServerOptions,
    },
};
use rand::{SeedableRng, rngs::StdRng};
use secret_stream::{Control, PublicKey};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    JoinOptions, PeerInfo, SwarmConfig, Topic,
    bans::Bans,
    firewall::PeerFilter,
    listener::Listener,
    state::{Action, FlushId, LinkId, Settings, State},
    topic::{self, Found, Roles, TopicCommand},
};

/// Found peers that wait to be looked at; beyond, lookups wait.
const MAX_QUEUED_FOUND: usize = 64;

/// Connections that came in and wait to be looked at; beyond, they wait in the server.
const MAX_QUEUED_INCOMING: usize = 16;

/// What a user of a swarm asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Update { topic: Topic, session: u64, options: JoinOptions },
    EndSession { topic: Topic, session: u64, done: oneshot::Sender<()> },
    Leave { topic: Topic, done: oneshot::Sender<()> },
    Refresh { topic: Topic },
    LookUp { topic: Topic },
    Flushed { topic: Topic, done: oneshot::Sender<bool> },
    FoundPeers { topic: Topic, done: oneshot::Sender<Vec<PublicKey>> },
    Hold,
    Release,
    FlushTopics(oneshot::Sender<Vec<oneshot::Receiver<bool>>>),
    Flush(oneshot::Sender<bool>),
    JoinPeer(PublicKey),
    LeavePeer(PublicKey),
    Listen(oneshot::Sender<Result<(), ListenError>>),
    Suspend(oneshot::Sender<()>),
    Resume(oneshot::Sender<()>),
    Destroy(oneshot::Sender<()>),
}

/// Starts the task. It ends with [`Command::Destroy`], or when nobody can send commands any more.
pub(crate) fn spawn(
    config: SwarmConfig,
    commands: mpsc::UnboundedReceiver<Command>,
    accepted: mpsc::Sender<(Connection, PeerInfo)>,
) {
    let settings = Settings {
        public_key: config.key_pair.public_key(),
        max_peers: config.max_peers,
        max_parallel: config.max_parallel,
    };
    let bans = Bans::default();
    let (found_sender, found) = mpsc::channel(MAX_QUEUED_FOUND);
    let (incoming_sender, incoming) = mpsc::channel(MAX_QUEUED_INCOMING);
    let filter =
        PeerFilter { own_key: settings.public_key, firewall: config.firewall.clone(), bans: bans.clone() };
    let listener = listener(&config, filter.clone(), incoming_sender);
    let driver = Driver {
        state: State::new(settings, bans, StdRng::from_rng(&mut rand::rng())),
        network: config.dht.network(),
        config,
        filter,
        accepted,
        dials: JoinSet::new(),
        endings: JoinSet::new(),
        links: HashMap::new(),
        arrived: HashMap::new(),
        topics: HashMap::new(),
        leaving: HashMap::new(),
        found_sender,
        listener,
        unreachable: Bans::default(),
        flushes: HashMap::new(),
        next_flush: 0,
        suspended: false,
        listens: false,
    };
    tokio::spawn(driver.run(commands, found, incoming));
}

/// The server, which refuses as the swarm does.
fn listener(config: &SwarmConfig, filter: PeerFilter, incoming: mpsc::Sender<Connection>) -> Listener {
    let hook: FirewallHook = Arc::new(move |request| {
        let filter = filter.clone();
        Box::pin(async move { filter.refuses(request.remote_public_key, Some(request.payload)).await })
    });
    let relay_keys = config.relay_through.as_ref().and_then(|relay| relay.keys.clone());
    let relay_through = config.relay_through.clone().map(|relay| {
        let network = config.dht.network();
        let choose: RelayHook = Arc::new(move || relay.choose(false, &network.borrow()));
        choose
    });
    let options =
        ServerOptions { firewall: Some(hook), relay_through, relay_keys, ..ServerOptions::default() };
    Listener::new(config.dht.clone(), config.key_pair.clone(), options, incoming)
}

struct Driver {
    config: SwarmConfig,
    state: State,
    filter: PeerFilter,
    accepted: mpsc::Sender<(Connection, PeerInfo)>,
    dials: JoinSet<(LinkId, Result<Connection, DialError>)>,
    /// Wait for the ends of connections.
    endings: JoinSet<LinkId>,
    links: HashMap<LinkId, Link>,
    /// Connections that the state has not disposed of yet.
    arrived: HashMap<LinkId, Connection>,
    topics: HashMap<Topic, TopicEntry>,
    /// Topics that are being left, until that is done.
    leaving: HashMap<Topic, CancellationToken>,
    found_sender: mpsc::Sender<Found>,
    listener: Listener,
    network: watch::Receiver<Network>,
    /// Peers that no direct way led to.
    unreachable: Bans,
    flushes: HashMap<FlushId, oneshot::Sender<bool>>,
    next_flush: u64,
    suspended: bool,
    /// Somebody asked to be reachable, whatever the topics.
    listens: bool,
}

enum Link {
    Dialling(AbortHandle),
    Open { control: Control<udx::WriteHalf>, stream: udx::StreamHandle },
}

/// Why a dial came to nothing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum DialError {
    #[error("the firewall refuses the peer")]
    Refused,
    #[error(transparent)]
    Failed(ConnectError),
}

struct TopicEntry {
    sessions: HashMap<u64, JoinOptions>,
    limit: Option<usize>,
    commands: mpsc::UnboundedSender<TopicCommand>,
    done: CancellationToken,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut found: mpsc::Receiver<Found>,
        mut incoming: mpsc::Receiver<Connection>,
    ) {
        let mut changes = self.network.borrow().changes;
        let mut network = self.network.clone();
        loop {
            let deadline = self.state.deadline().map(Instant::from_std);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Destroy(done)) => {
                        self.destroy().await;
                        // Nobody waits any more if the receiver is gone.
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => {
                        // Who was found before the caller heard of the lookup's end counts for the caller.
                        while let Ok(peer) = found.try_recv() {
                            self.found(peer);
                        }
                        self.obey(command).await;
                    }
                    None => return self.destroy().await,
                },
                Some(peer) = found.recv() => self.found(peer),
                Some(connection) = incoming.recv() => self.arrive(connection),
                Some(result) = self.dials.join_next() => self.dial_ended(result),
                Some(result) = self.endings.join_next() => {
                    if let Ok(id) = result {
                        self.ended(id);
                    }
                }
                () = sleep_until_some(deadline) => self.state.wake(now()),
                Ok(()) = network.changed() => {
                    let now_changes = network.borrow_and_update().changes;
                    if std::mem::replace(&mut changes, now_changes) != now_changes && !self.suspended {
                        self.look_around();
                    }
                }
            }
            self.act();
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Update { topic, session, options } => {
                let entry = self.topic(topic);
                entry.sessions.insert(session, options);
                entry.limit = options.limit;
                entry.refresh();
            }
            Command::EndSession { topic, session, done } => {
                if let Some(entry) = self.topics.get_mut(&topic) {
                    entry.sessions.remove(&session);
                    if entry.sessions.is_empty() {
                        return self.leave(topic, Some(done));
                    }
                    entry.refresh();
                }
                // Nobody waits any more if the receiver is gone.
                let _ = done.send(());
            }
            Command::Leave { topic, done } => self.leave(topic, Some(done)),
            Command::Refresh { topic } => {
                if let Some(entry) = self.topics.get(&topic) {
                    entry.refresh();
                }
            }
            Command::LookUp { topic } => {
                if let Some(entry) = self.topics.get(&topic) {
                    entry.send(TopicCommand::LookUp);
                }
            }
            Command::Flushed { topic, done } => {
                if let Some(entry) = self.topics.get(&topic) {
                    entry.send(TopicCommand::Flushed(done));
                }
            }
            Command::FoundPeers { topic, done } => {
                if self.topics.contains_key(&topic) {
                    // Nobody waits any more if the receiver is gone.
                    let _ = done.send(self.state.found_for(&topic));
                }
            }
            Command::Hold => self.state.hold(),
            Command::Release => self.state.release(now()),
            Command::FlushTopics(reply) => {
                let flushing = self.topics.values().map(TopicEntry::flushed).collect();
                // Nobody waits any more if the receiver is gone.
                let _ = reply.send(flushing);
            }
            Command::Flush(done) => {
                let id = FlushId(self.next_flush);
                self.next_flush += 1;
                self.flushes.insert(id, done);
                self.state.flush(id);
            }
            Command::JoinPeer(key) => self.state.join_peer(now(), key),
            Command::LeavePeer(key) => self.state.leave_peer(&key),
            Command::Listen(done) => {
                self.listens = true;
                let listener = self.listener.clone();
                tokio::spawn(async move {
                    let result = listener.listen().await.map(drop);
                    // Nobody waits any more if the receiver is gone.
                    let _ = done.send(result);
                });
            }
            Command::Suspend(done) => {
                self.suspend().await;
                let _ = done.send(());
            }
            Command::Resume(done) => {
                self.resume().await;
                let _ = done.send(());
            }
            // Taken by `run`.
            Command::Destroy(_) => {}
        }
    }

    /// The entry of a topic, whose task is started if it is new.
    fn topic(&mut self, topic: Topic) -> &mut TopicEntry {
        self.leaving.retain(|_, left| !left.is_cancelled());
        self.state.add_topic(topic);
        self.topics.entry(topic).or_insert_with(|| {
            let done = CancellationToken::new();
            let context = topic::Context {
                topic,
                dht: self.config.dht.clone(),
                keys: self.config.key_pair.clone(),
                found: self.found_sender.clone(),
                listener: self.listener.clone(),
                after: self.leaving.get(&topic).cloned(),
                suspended: self.suspended,
            };
            let commands = topic::spawn(context, done.clone());
            TopicEntry { sessions: HashMap::new(), limit: None, commands, done }
        })
    }

    fn leave(&mut self, topic: Topic, done: Option<oneshot::Sender<()>>) {
        let left = match self.topics.remove(&topic) {
            Some(entry) => {
                self.state.remove_topic(&topic);
                entry.send(TopicCommand::Destroy);
                self.leaving.insert(topic, entry.done.clone());
                Some(entry.done)
            }
            None => self.leaving.get(&topic).cloned(),
        };
        if let Some(done) = done {
            tokio::spawn(async move {
                if let Some(left) = left {
                    left.cancelled().await;
                }
                // Nobody waits any more if the receiver is gone.
                let _ = done.send(());
            });
        }
    }

    /// A peer has connected to our server.
    fn arrive(&mut self, connection: Connection) {
        let links = &self.links;
        let id = self.state.incoming(connection.remote_public_key(), |id| match links.get(&id) {
            Some(Link::Open { control, .. }) => {
                let traffic = control.traffic();
                traffic.sent > 0 && traffic.received > 0
            }
            _ => false,
        });
        self.keep(id, connection);
    }

    fn found(&mut self, Found { topic, peer }: Found) {
        if self.topics.contains_key(&topic) {
            self.state.found(now(), peer.public_key, peer.relay_addresses, topic);
        }
    }

    fn dial_ended(&mut self, result: Result<(LinkId, Result<Connection, DialError>), JoinError>) {
        match result {
            Ok((id, result)) => self.dialled(id, result),
            // One that was given up, which the state knows, or one whose firewall panicked.
            Err(error) => {
                let is_it = |link: &Link| matches!(link, Link::Dialling(dial) if dial.id() == error.id());
                let id = self.links.iter().find_map(|(id, link)| is_it(link).then_some(*id));
                if let Some(id) = id {
                    self.dialled(id, Err(DialError::Refused));
                }
            }
        }
    }

    fn dialled(&mut self, id: LinkId, result: Result<Connection, DialError>) {
        match result {
            Ok(connection) => {
                if self.state.opened(now(), id) {
                    self.keep(id, connection);
                }
            }
            Err(error) => {
                debug!(%error, "a dial failed");
                let needs_relay = matches!(error, DialError::Failed(error) if may_need_relay(error));
                if self.config.relay_through.is_some() && needs_relay {
                    // The next attempt comes soon, and names the relay.
                    if let Some(key) = self.state.begin_anew(id) {
                        self.unreachable.insert(key);
                    }
                }
                self.links.remove(&id);
                self.state.closed(now(), id);
            }
        }
    }

    /// Watches over a connection that the state has named.
    fn keep(&mut self, id: LinkId, connection: Connection) {
        let stream = connection.stream.transport().clone();
        let control = connection.stream.control();
        self.links.insert(id, Link::Open { control, stream: stream.clone() });
        self.arrived.insert(id, connection);
        self.endings.spawn(async move {
            // How it ended is its owner's concern.
            let _ = stream.closed().await;
            id
        });
    }

    fn ended(&mut self, id: LinkId) {
        if self.links.remove(&id).is_none() {
            return;
        }
        if self.arrived.remove(&id).is_some() {
            self.state.replacement_closed(id);
        } else {
            self.state.closed(now(), id);
        }
    }

    /// Does what the state wants done.
    fn act(&mut self) {
        while let Some(action) = self.state.next_action() {
            match action {
                Action::Dial { id, key, relay_addresses } => {
                    let relay = self.config.relay_through.as_ref();
                    let is_forced = self.unreachable.contains(&key);
                    let options = ConnectOptions {
                        key_pair: Some(self.config.key_pair.clone()),
                        relay_addresses,
                        relay_through: relay
                            .and_then(|relay| relay.choose(is_forced, &self.network.borrow())),
                        relay_keys: relay.and_then(|relay| relay.keys.clone()),
                        ..ConnectOptions::default()
                    };
                    let (dht, filter) = (self.config.dht.clone(), self.filter.clone());
                    let dial = async move {
                        if filter.refuses(key, None).await {
                            return (id, Err(DialError::Refused));
                        }
                        (id, dht.connect(key, options).await.map_err(DialError::Failed))
                    };
                    let dial = self.dials.spawn(dial);
                    self.links.insert(id, Link::Dialling(dial));
                }
                Action::Deliver { id, key, topics } => {
                    if let Some(connection) = self.arrived.remove(&id) {
                        let info = PeerInfo { public_key: key, topics };
                        // Where nobody accepts, it is dropped here, and so ended.
                        let _ = self.accepted.try_send((connection, info));
                    }
                }
                Action::KeepAlive(id) => {
                    if let Some(Link::Open { control, .. }) = self.links.get(&id) {
                        control.send_keep_alive();
                    }
                }
                Action::Destroy(id) => match self.links.get(&id) {
                    Some(Link::Open { stream, .. }) => stream.destroy(),
                    Some(Link::Dialling(dial)) => {
                        dial.abort();
                        self.links.remove(&id);
                        self.state.closed(now(), id);
                    }
                    None => self.state.closed(now(), id),
                },
                Action::Refuse(id) => {
                    self.links.remove(&id);
                    self.arrived.remove(&id);
                }
                Action::Flushed(id, flushed) => {
                    if let Some(done) = self.flushes.remove(&id) {
                        // Nobody waits any more if the receiver is gone.
                        let _ = done.send(flushed);
                    }
                }
            }
        }
    }

    /// The network has changed: connections may be dead, and nodes may not know us any more.
    fn look_around(&mut self) {
        for id in self.state.open_links() {
            if let Some(Link::Open { control, .. }) = self.links.get(&id) {
                control.send_keep_alive();
            }
        }
        for entry in self.topics.values() {
            entry.refresh();
        }
    }

    async fn suspend(&mut self) {
        if std::mem::replace(&mut self.suspended, true) {
            return;
        }
        self.state.suspend();
        self.act();
        let mut withdrawals = JoinSet::new();
        for entry in self.topics.values() {
            let (done, withdrawn) = oneshot::channel();
            entry.send(TopicCommand::Suspend(done));
            // An error means that the topic was left.
            withdrawals.spawn(async move { drop(withdrawn.await) });
        }
        self.listener.close().await;
        withdrawals.join_all().await;
        if self.config.owns_dht {
            self.config.dht.suspend().await;
        }
    }

    async fn resume(&mut self) {
        if !std::mem::replace(&mut self.suspended, false) {
            return;
        }
        if self.config.owns_dht
            && let Err(error) = self.config.dht.resume().await
        {
            debug!(%error, "the node cannot be resumed yet");
        }
        if self.listens {
            let listener = self.listener.clone();
            tokio::spawn(async move { drop(listener.listen().await) });
        }
        for entry in self.topics.values() {
            entry.send(TopicCommand::Resume);
        }
        self.state.resume(now());
    }

    async fn destroy(&mut self) {
        self.state.destroy();
        self.act();
        let topics: Vec<Topic> = self.topics.keys().copied().collect();
        for topic in topics {
            self.leave(topic, None);
        }
        self.listener.close().await;
        for left in self.leaving.values() {
            left.cancelled().await;
        }
        if self.config.owns_dht {
            self.config.dht.destroy().await;
        }
        // Whatever is not delivered ends here, and `accept` with it.
    }
}

impl TopicEntry {
    fn refresh(&self) {
        self.send(TopicCommand::Refresh(Roles {
            server: self.sessions.values().any(|session| session.server),
            client: self.sessions.values().any(|session| session.client),
            limit: self.limit,
        }));
    }

    fn flushed(&self) -> oneshot::Receiver<bool> {
        let (done, flushed) = oneshot::channel();
        self.send(TopicCommand::Flushed(done));
        flushed
    }

    fn send(&self, command: TopicCommand) {
        // The task ends only when told to, or with the swarm.
        let _ = self.commands.send(command);
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether a dial failed for want of a direct way (hyperswarm/index.js shouldForceRelaying).
fn may_need_relay(error: ConnectError) -> bool {
    matches!(
        error,
        ConnectError::HolepunchAborted
            | ConnectError::TryLater
            | ConnectError::DoubleRandomizedNats
            | ConnectError::CannotHolepunch
    )
}
