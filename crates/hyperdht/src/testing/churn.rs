//! A large network whose nodes come and go, and the lookups and servers that live in it.
//!
//! Lookups, announces and servers here are those of real networks: they use a node of the simulation like one
//! with sockets. Tokio's clock is paused and moves with that of the network.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::SocketAddrV4;
use std::pin::pin;
use std::time::{Duration, Instant};

use rand::RngExt;
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{mpsc, oneshot, watch};
use udx::Udx;

use super::network::{Nat, SimulatedNetwork};
use crate::command;
use crate::connect::announcer::{Announcer, Order, Relays};
use crate::crypto::hash;
use crate::error::Error;
use crate::handle::Handle;
use crate::id::Id;
use crate::instruction::Command;
use crate::lookup::{Announcement, Lookup};
use crate::pool::Pool;
use crate::rpc::QuerySpec;
use crate::store::message::Peer;

/// Nodes that join in a virtual second while a network is built: the fastest growth in which each newcomer
/// finds its place.
const JOINS_PER_SECOND: usize = 20;

/// A network to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct ChurnConfig {
    /// Persistent nodes, each on a host and in a network of its own.
    pub nodes: usize,
    /// Share of the nodes that leave silently and are replaced in ten minutes. The first node, which all
    /// begin with, stays.
    pub churn: f64,
    /// Share of the packets lost.
    pub loss: f64,
    /// Seed of all randomness.
    pub seed: u8,
}

/// The network, and those who live in it.
pub struct ChurningNetwork {
    network: SimulatedNetwork,
    commands: mpsc::UnboundedReceiver<(usize, Command)>,
    sender: mpsc::UnboundedSender<(usize, Command)>,
    /// When the next node is replaced, and how long it takes until another is.
    next_change: Option<Instant>,
    change_every: Option<Duration>,
    /// Hosts that take part and may be replaced.
    residents: Vec<usize>,
    /// Nodes that left, of all time.
    left: u64,
    /// Handles need one; nothing is sent over it.
    udx: Udx,
}

/// How many entries the nodes of a network hold, to see whether they grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Nodes that take part.
    pub nodes: usize,
    /// Entries of all routing tables.
    pub table_entries: usize,
    /// Requests and queries under way, pings put off, and who is remembered for having asked.
    pub under_way: usize,
    /// Records, values and servers kept for others.
    pub stored: usize,
    /// Everything that any node holds; the most of one node.
    pub most: usize,
}

impl ChurningNetwork {
    /// Builds the network and lets it settle for a minute, without churn.
    ///
    /// Has to run on a current-thread runtime whose clock is paused.
    pub async fn new(config: ChurnConfig) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let mut network = SimulatedNetwork::new(now, [config.seed; 32]);
        network.loss = config.loss;
        network.keep_events = false;
        let (sender, commands) = mpsc::unbounded_channel();
        let (udx, _datagrams) = Udx::spawn(udx::Config::default());
        let mut churning = Self {
            network,
            commands,
            sender,
            next_change: None,
            change_every: None,
            residents: Vec::new(),
            left: 0,
            udx,
        };
        for i in 0..config.nodes {
            let host = churning.network.persistent();
            if i > 0 {
                churning.residents.push(host);
            }
            churning.live(Duration::from_secs(1) / u32::try_from(JOINS_PER_SECOND).unwrap_or(1)).await;
        }
        churning.live(Duration::from_secs(60)).await;
        let replaced = config.churn * config.nodes as f64;
        if replaced > 0.0 {
            let every = Duration::from_secs(600).div_f64(replaced);
            churning.change_every = Some(every);
            churning.next_change = Some(churning.network.now + every);
        }
        churning
    }

    /// Lets time pass.
    pub async fn live(&mut self, time: Duration) {
        self.meanwhile(tokio::time::sleep(time)).await;
    }

    /// Runs the network for as long as `future` takes.
    pub async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            let next = [self.network.next(), self.next_change].into_iter().flatten().min();
            let wake = next.unwrap_or(self.network.now + Duration::from_secs(1));
            tokio::select! {
                biased;
                result = &mut future => return result,
                Some((host, command)) = self.commands.recv() => self.do_command(host, command),
                () = tokio::time::sleep_until(wake.into()) => self.advance(),
            }
        }
    }

    /// A node behind a NAT, whose ports may differ for each destination. It is never replaced.
    pub fn visitor(&mut self, ports_vary: bool) -> Visitor {
        let nat = if ports_vary {
            Nat::Random { ports: HashMap::new() }
        } else {
            Nat::Consistent { opened: HashSet::new() }
        };
        let host = self.network.adaptive(nat);
        self.visitor_at(host)
    }

    /// Virtual time since the start.
    pub fn age(&self) -> Duration {
        self.network.now - self.network.start
    }

    /// Nodes that left and were replaced so far.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Datagrams sent so far, by those who still take part.
    pub fn sent(&self) -> u64 {
        self.network.hosts.iter().filter(|host| host.alive).map(|host| host.sent).sum()
    }

    /// What all who take part hold.
    pub fn census(&self) -> Census {
        let living = self.network.hosts.iter().filter(|host| host.alive);
        living.fold(Census::default(), |mut sum, host| {
            let machine = &host.machine;
            let (table, under_way) = (machine.rpc.node_count(), machine.held() + host.callers.held());
            let stored = machine.store.held() + machine.forwards.held();
            sum.nodes += 1;
            sum.table_entries += table;
            sum.under_way += under_way;
            sum.stored += stored;
            sum.most = sum.most.max(table + under_way + stored);
            sum
        })
    }

    fn visitor_at(&mut self, host: usize) -> Visitor {
        let (commands, mut received) = mpsc::unbounded_channel();
        let network = watch::Sender::new(self.network.hosts[host].machine.network());
        let (_, sockets) = watch::channel(None);
        let at = self.network.hosts[host].ip.into();
        let pool = Pool::default();
        let handle = Handle::new(commands, network.subscribe(), sockets, pool, at, self.udx.clone());
        let sender = self.sender.clone();
        tokio::spawn(async move {
            while let Some(command) = received.recv().await {
                if sender.send((host, command)).is_err() {
                    return;
                }
            }
            // Kept until here: dropping it would look like the end of the node.
            drop(network);
        });
        Visitor { handle }
    }

    fn do_command(&mut self, host: usize, command: Command) {
        match command {
            Command::Instruction(instruction) => self.network.instruct(host, *instruction),
            Command::Suspend(done) | Command::Destroy(done) => drop(done.send(())),
            Command::Resume(done) => drop(done.send(Ok(()))),
        }
    }

    fn advance(&mut self) {
        let now = tokio::time::Instant::now().into_std();
        while let (Some(change), Some(every)) = (self.next_change, self.change_every)
            && change <= now
        {
            self.network.run_until(change);
            self.replace_one();
            self.next_change = Some(change + every);
        }
        self.network.run_until(now);
    }

    fn replace_one(&mut self) {
        if self.residents.is_empty() {
            return;
        }
        let leaving = self.network.rng.random_range(0..self.residents.len());
        self.network.replace(self.residents[leaving]);
        self.left += 1;
    }
}

/// A node that looks up, announces or listens.
pub struct Visitor {
    handle: Handle,
}

impl Visitor {
    /// Announces a key pair for a topic, as a swarm does.
    ///
    /// # Errors
    /// [`Error::TooFewNodes`] if nobody took it.
    pub async fn announce(&self, topic: Id, key_pair: &KeyPair) -> Result<Vec<SocketAddrV4>, Error> {
        let announcement = Announcement { key_pair: key_pair.clone(), relay_addresses: Vec::new(), bump: 0 };
        let spec = QuerySpec::user(command::LOOKUP, topic);
        Lookup::new(&self.handle, spec, None, Some(announcement)).finish().await
    }

    /// Whether a lookup of the topic finds the public key.
    pub async fn finds(&self, topic: Id, public_key: &PublicKey) -> bool {
        let spec = QuerySpec::user(command::LOOKUP, topic);
        let mut lookup = Lookup::new(&self.handle, spec, None, None);
        while let Some(answer) = lookup.next().await {
            if answer.peers.iter().any(|peer| peer.public_key == *public_key) {
                return true;
            }
        }
        false
    }

    /// Whether the server of a public key is found, at a node that passes handshakes on to it.
    pub async fn finds_server(&self, public_key: &PublicKey) -> bool {
        let spec = QuerySpec::user(command::FIND_PEER, hash(&[public_key]));
        let mut query = self.handle.query(spec);
        while let Some(reply) = query.next().await {
            let peer = reply.value.and_then(|value| Peer::decode(&value).ok());
            if peer.is_some_and(|peer| peer.public_key == *public_key) {
                return true;
            }
        }
        false
    }
}

impl Visitor {
    /// Starts a server and returns after its first announce. The server stays findable for as long as the
    /// result lives.
    pub async fn listen(&self, key_pair: KeyPair) -> Listening {
        let target = hash(&[&key_pair.public_key()]);
        let (relays, _) = watch::channel(Relays::default());
        let (orders, received) = mpsc::channel(1);
        let (announced, first) = oneshot::channel();
        let announcer = Announcer::new(self.handle.clone(), key_pair, target, relays);
        tokio::spawn(announcer.run(received, announced));
        let _ = first.await;
        Listening { _orders: orders }
    }
}

/// A server that runs; it ends when this is dropped.
pub struct Listening {
    _orders: mpsc::Sender<Order>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secret_stream::KeyPair;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How many of `count` lookups, with a pause after each, find what was announced.
    async fn look(
        network: &mut ChurningNetwork,
        seeker: &Visitor,
        keys: &[KeyPair],
        count: usize,
        pause: Duration,
    ) -> usize {
        let mut found = 0;
        for (i, keys) in keys.iter().enumerate().cycle().take(count) {
            let topic = [i as u8; 32];
            found += usize::from(network.meanwhile(seeker.finds(topic, &keys.public_key())).await);
            network.live(pause).await;
        }
        found
    }

    async fn announced(network: &mut ChurningNetwork, visitor: &Visitor, count: u8) -> Vec<KeyPair> {
        let keys: Vec<_> = (0..count).map(|i| KeyPair::from_seed(&[i; 32])).collect();
        for (i, keys) in (0..).zip(&keys) {
            network.meanwhile(visitor.announce([i; 32], keys)).await.unwrap();
        }
        keys
    }

    #[tokio::test(start_paused = true)]
    async fn among_a_thousand_nodes_every_lookup_finds_its_announcement() {
        let mut network =
            ChurningNetwork::new(ChurnConfig { nodes: 1000, churn: 0.0, loss: 0.0, seed: 1 }).await;
        let (announcer, seeker) = (network.visitor(false), network.visitor(true));
        let keys = announced(&mut network, &announcer, 10).await;
        assert_eq!(look(&mut network, &seeker, &keys, 10, Duration::ZERO).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_is_found_though_a_third_of_the_nodes_is_replaced_in_ten_minutes() {
        let mut network =
            ChurningNetwork::new(ChurnConfig { nodes: 100, churn: 0.3, loss: 0.02, seed: 2 }).await;
        let (announcer, seeker) = (network.visitor(false), network.visitor(true));
        let mut found = 0;
        for _ in 0..3 {
            let keys = announced(&mut network, &announcer, 10).await;
            found += look(&mut network, &seeker, &keys, 20, MINUTE / 2).await;
        }
        assert!(network.left() > 50);
        assert!(found >= 59, "{found} of 60");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_stays_findable_while_nodes_come_and_go_and_nobody_holds_more_and_more() {
        let mut network =
            ChurningNetwork::new(ChurnConfig { nodes: 40, churn: 0.3, loss: 0.0, seed: 3 }).await;
        let (host, seeker) = (network.visitor(false), network.visitor(true));
        let keys = KeyPair::from_seed(&[9; 32]);
        let listening = network.meanwhile(host.listen(keys.clone())).await;
        let mut most = Vec::new();
        for _hour in 0..4 {
            for _ in 0..12 {
                assert!(network.meanwhile(seeker.finds_server(&keys.public_key())).await);
                network.live(5 * MINUTE).await;
            }
            most.push(network.census().most);
        }
        assert!(most[3] <= most[1] + most[1] / 4, "{most:?}");
        drop(listening);
    }
}
