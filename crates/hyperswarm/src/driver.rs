//! The task that owns a swarm: it feeds the state machine with what happens, and does what it says.

use std::{collections::HashMap, sync::Arc};

use hyperdht::{
    Network,
    connect::{ConnectOptions, Connection, FirewallHook, RelayHook, ServerOptions},
};
use rand::{SeedableRng, rngs::StdRng};
use secret_stream::PublicKey;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::debug;

use crate::{
    Topic,
    command::{Command, answer},
    config::SwarmConfig,
    connections::{ConnectionEvent, Connections, DialError},
    firewall::PeerFilter,
    flushes::FlushId,
    key_set::KeySet,
    links::LinkId,
    listener::Listener,
    peer::PeerInfo,
    state::{Action, Settings, SwarmState},
    topic::{Found, TopicCommand},
    topics::Topics,
};

/// Found peers that wait to be looked at; beyond, lookups wait.
const MAX_QUEUED_FOUND: usize = 64;

/// Connections that came in and wait to be looked at; beyond, they wait in the server.
const MAX_QUEUED_INCOMING: usize = 16;

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
    let bans = KeySet::default();
    let (found_sender, found) = mpsc::channel(MAX_QUEUED_FOUND);
    let (incoming_sender, incoming) = mpsc::channel(MAX_QUEUED_INCOMING);
    let filter =
        PeerFilter { own_key: settings.public_key, firewall: config.firewall.clone(), bans: bans.clone() };
    let listener = listener(&config, filter.clone(), incoming_sender);
    let topics = Topics::new(config.dht.clone(), config.key_pair.clone(), listener.clone(), found_sender);
    let driver = Driver {
        state: SwarmState::new(settings, bans, StdRng::from_rng(&mut rand::rng())),
        network: config.dht.network(),
        config,
        filter,
        accepted,
        connections: Connections::default(),
        topics,
        listener,
        unreachable: KeySet::default(),
        flushes: HashMap::new(),
        next_flush: 0,
        suspended: false,
        listens: false,
    };
    tokio::spawn(driver.run(commands, found, incoming));
}

/// The swarm's server. It asks the same firewall as dials do.
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
    state: SwarmState,
    filter: PeerFilter,
    accepted: mpsc::Sender<(Connection, PeerInfo)>,
    connections: Connections,
    topics: Topics,
    listener: Listener,
    network: watch::Receiver<Network>,
    /// Peers that could not be reached directly.
    unreachable: KeySet,
    flushes: HashMap<FlushId, oneshot::Sender<bool>>,
    next_flush: u64,
    suspended: bool,
    /// The server is wanted even without a topic.
    listens: bool,
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
                        return answer(done, ());
                    }
                    Some(command) => {
                        // A caller that was told of a lookup's end expects all found peers to be known.
                        while let Ok(peer) = found.try_recv() {
                            self.found(peer);
                        }
                        self.obey(command).await;
                    }
                    None => return self.destroy().await,
                },
                Some(peer) = found.recv() => self.found(peer),
                Some(connection) = incoming.recv() => self.arrive(connection),
                event = self.connections.next() => match event {
                    ConnectionEvent::Dialled(id, result) => self.dialled(id, result),
                    ConnectionEvent::Ended(id) => self.ended(id),
                },
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
                self.state.add_topic(topic);
                self.topics.update(topic, session, options, self.suspended);
            }
            Command::EndSession { topic, session, done } => {
                if self.topics.end_session(&topic, session) {
                    self.leave(topic, done);
                } else {
                    answer(done, ());
                }
            }
            Command::Leave { topic, done } => self.leave(topic, done),
            Command::Refresh { topic } => self.topics.refresh(&topic),
            Command::LookUp { topic } => self.topics.send(&topic, TopicCommand::LookUp),
            Command::Flushed { topic, done } => self.topics.send(&topic, TopicCommand::Flushed(done)),
            Command::FoundPeers { topic, done } => {
                if self.topics.contains(&topic) {
                    answer(done, self.state.found_for(&topic));
                }
            }
            Command::FlushTopics(done) => answer(done, self.topics.flushed()),
            Command::Flush(done) => {
                let id = FlushId(self.next_flush);
                self.next_flush += 1;
                self.flushes.insert(id, done);
                self.state.flush(id);
            }
            Command::Hold => self.state.hold(),
            Command::Release => self.state.release(now()),
            Command::JoinPeer(key) => self.state.join_peer(now(), key),
            Command::LeavePeer(key) => self.state.leave_peer(&key),
            Command::Listen(done) => {
                self.listens = true;
                let listener = self.listener.clone();
                tokio::spawn(async move { answer(done, listener.listen().await.map(drop)) });
            }
            Command::Suspend(done) => {
                self.suspend().await;
                answer(done, ());
            }
            Command::Resume(done) => {
                self.resume().await;
                answer(done, ());
            }
            // Taken by `run`.
            Command::Destroy(_) => {}
        }
    }

    fn leave(&mut self, topic: Topic, done: oneshot::Sender<()>) {
        self.state.remove_topic(&topic);
        self.topics.leave(topic, Some(done));
    }

    fn found(&mut self, Found { topic, peer }: Found) {
        if self.topics.contains(&topic) {
            self.state.found(now(), peer.public_key, peer.relay_addresses, topic);
        }
    }

    /// A peer has connected to our server.
    fn arrive(&mut self, connection: Connection) {
        let connections = &self.connections;
        let id = self.state.incoming(connection.remote_public_key(), |older| connections.is_used(older));
        self.connections.keep(id, connection);
    }

    fn dialled(&mut self, id: LinkId, result: Result<Box<Connection>, DialError>) {
        match result {
            Ok(connection) => {
                if self.state.opened(now(), id) {
                    self.connections.keep(id, *connection);
                }
            }
            Err(error) => {
                debug!(%error, "a dial failed");
                if self.config.relay_through.is_some() && error.may_need_relay() {
                    // The next attempt comes soon, and names the relay.
                    if let Some(key) = self.state.begin_anew(id) {
                        self.unreachable.insert(key);
                    }
                }
                self.connections.forget(id);
                self.state.closed(now(), id);
            }
        }
    }

    fn ended(&mut self, id: LinkId) {
        if !self.connections.forget(id) {
            return;
        }
        if self.connections.take(id).is_some() {
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
                    let options = ConnectOptions { relay_addresses, ..self.connect_options(key) };
                    let (dht, filter) = (self.config.dht.clone(), self.filter.clone());
                    self.connections.dial(id, async move {
                        if filter.refuses(key, None).await {
                            return Err(DialError::Refused);
                        }
                        dht.connect(key, options).await.map_err(DialError::Failed)
                    });
                }
                Action::Deliver { id, key, topics } => {
                    if let Some(connection) = self.connections.take(id) {
                        let info = PeerInfo { public_key: key, topics };
                        // If the queue is full, the connection is dropped here, which ends it.
                        let _ = self.accepted.try_send((connection, info));
                    }
                }
                Action::KeepAlive(id) => self.connections.keep_alive(id),
                Action::Destroy(id) => {
                    if self.connections.destroy(id) {
                        self.state.closed(now(), id);
                    }
                }
                Action::Refuse(id) => self.connections.refuse(id),
                Action::Flushed(id, flushed) => {
                    if let Some(done) = self.flushes.remove(&id) {
                        answer(done, flushed);
                    }
                }
            }
        }
    }

    fn connect_options(&self, key: PublicKey) -> ConnectOptions {
        let relay = self.config.relay_through.as_ref();
        let is_forced = self.unreachable.contains(&key);
        ConnectOptions {
            key_pair: Some(self.config.key_pair.clone()),
            relay_through: relay.and_then(|relay| relay.choose(is_forced, &self.network.borrow())),
            relay_keys: relay.and_then(|relay| relay.keys.clone()),
            ..ConnectOptions::default()
        }
    }

    /// The network has changed: connections may be dead, and nodes may not know us any more.
    fn look_around(&mut self) {
        for id in self.state.open_links() {
            self.connections.keep_alive(id);
        }
        self.topics.refresh_all();
    }

    async fn suspend(&mut self) {
        if std::mem::replace(&mut self.suspended, true) {
            return;
        }
        self.state.suspend();
        self.act();
        let withdrawn = self.topics.suspend();
        self.listener.close().await;
        withdrawn.await;
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
        self.topics.resume();
        self.state.resume(now());
    }

    async fn destroy(&mut self) {
        self.state.destroy();
        self.act();
        self.topics.leave_all();
        self.listener.close().await;
        self.topics.left().await;
        if self.config.owns_dht {
            self.config.dht.destroy().await;
        }
        // Dropping the driver ends connections that were not delivered, and makes `accept` return `None`.
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
