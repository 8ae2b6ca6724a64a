//! The plain DHT as a state machine: messages, routing table, queries, upkeep. Datagrams and the time go in;
//! datagrams, events and the next deadline come out.
//!
//! # Layout
//! - `message`: what is on the wire; `request`: what crosses the border of this module
//! - `io`, `window`, `adaptive`, `token`: requests under way
//! - `table`, `nat`, `health`: what is known of others and of oneself
//! - `query`: one iterative query; `queries`: all that run
//! - `answers`: answers to others; `bootstrap`, `upkeep`: what a node does by itself

mod adaptive;
mod answers;
mod bootstrap;
pub(crate) mod filter;
mod health;
mod io;
pub(crate) mod message;
mod nat;
mod queries;
mod query;
mod request;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod upkeep;
mod window;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::id::{Id, node_id};
use crate::limit::RateLimit;
use answers::DelayedPings;
use bootstrap::{NetworkCheck, Phase};
pub(crate) use filter::may_use;
use health::{Health, HealthMonitor};
pub use io::Traffic;
use io::{Expiry, Io};
use message::{Message, ResponseMessage};
pub(crate) use nat::NatSampler;
use queries::RunningQuery;
pub(crate) use request::{Answer, Incoming, QueryId, QuerySpec, Request, RequestId, Transmit};
pub use request::{Reply, RequestError, Token, Via};
pub(crate) use table::K;
use table::{Added, Node, Table};
use upkeep::{Clock, PingedNewcomers};

/// How a node takes part in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RpcConfig {
    /// `Some(false)`: persistent from the start. `Some(true)`: never. `None`: persistent once it has been
    /// stable and reachable for long enough.
    pub ephemeral: Option<bool>,
    /// `false`: known to be reachable from outside, so nothing has to be checked.
    pub firewalled: bool,
    /// Never treated as reachable, even if a check says so.
    pub stays_firewalled: bool,
    /// The IP address of this node, for the first node of a network.
    pub known_host: Option<Ipv4Addr>,
    /// Give each IP address one vote and each /24 network few places: for networks in which anybody may take
    /// part. Useless where all nodes share a machine.
    pub defended: bool,
    /// Resend a request after the time that its node usually takes to answer, instead of a second.
    pub adaptive_timeouts: bool,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request that the rpc does not handle itself; answer with [`Rpc::answer`], now or later.
    Request(Incoming),
    /// The end of a request of [`Rpc::request`].
    Response { id: RequestId, result: Result<Reply, RequestError> },
    /// A reply without an error to a query of [`Rpc::query`].
    QueryReply { id: QueryId, reply: Reply },
    /// The end of a query: the replies of the nodes closest to the target, closest first.
    QueryDone { id: QueryId, result: Result<Vec<Reply>, RequestError> },
    /// The first query for the own neighbourhood has ended.
    Ready,
    /// The node has an id now, and stores for others.
    Persistent,
    /// It has lost it again.
    Ephemeral,
    /// More time has passed than was counted: the machine slept.
    Wakeup,
    /// The network's health has changed: [`Rpc::is_online`].
    NetworkUpdate,
    /// The address others see has changed.
    NatUpdate,
    /// The bootstrap nodes are needed again: look their names up, then [`Rpc::set_bootstrap`].
    ResolveBootstrap,
}

/// What a request was sent for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Caller,
    Query(QueryId),
    /// Is a node of the table still there?
    Check {
        node: Id,
    },
    /// The same; a newcomer waits for its place.
    Swap {
        node: Id,
        newcomer: SocketAddrV4,
    },
    /// Does a node that asked us really have that address?
    Newcomer,
    /// May the server socket be reached from outside? A first guess while bootstrapping.
    QuickCheck,
    /// The same, thoroughly.
    NetworkCheck,
    /// Nobody waits for the answer.
    Courtesy,
}

/// The state of one node.
pub(crate) struct Rpc {
    config: RpcConfig,
    io: Io<Purpose>,
    table: Table,
    nat: NatSampler,
    health: HealthMonitor,
    server_port: u16,
    bound: bool,
    suspended: bool,
    firewalled: bool,
    ephemeral: bool,
    bootstrap_nodes: Vec<SocketAddrV4>,
    /// They have been looked up once, with or without a result.
    bootstrap_known: bool,
    phase: Phase,
    check: Option<NetworkCheck>,
    queries: BTreeMap<QueryId, RunningQuery>,
    next_query: u64,
    clock: Clock,
    delayed_pings: DelayedPings,
    newcomers: PingedNewcomers,
    limit: RateLimit,
    /// Nodes without an id whose view of our address was counted.
    sampled_strangers: HashSet<SocketAddrV4>,
    /// IPs whose view was counted, where each has one vote.
    sampled_hosts: HashMap<Ipv4Addr, u64>,
    events: VecDeque<Event>,
}

impl Rpc {
    /// A node without sockets. `seed` must come from the operating system, because tids and tokens must not
    /// be guessed.
    pub(crate) fn new(now: Instant, config: RpcConfig, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let own_id = rng.random();
        let clock = Clock::new(now, config.ephemeral.is_none(), &mut rng);
        Self {
            table: Table::new(own_id, config.defended),
            firewalled: config.firewalled,
            ephemeral: true,
            io: Io::new(now, rng, config.adaptive_timeouts),
            nat: NatSampler::new(),
            health: HealthMonitor::default(),
            server_port: 0,
            bound: false,
            suspended: false,
            bootstrap_nodes: Vec::new(),
            bootstrap_known: false,
            phase: Phase::Idle,
            check: None,
            queries: BTreeMap::new(),
            next_query: 0,
            clock,
            delayed_pings: DelayedPings::default(),
            newcomers: PingedNewcomers::default(),
            limit: RateLimit::new(answers::PER_SECOND, answers::BURST),
            sampled_strangers: HashSet::new(),
            sampled_hosts: HashMap::new(),
            events: VecDeque::new(),
            config,
        }
    }

    /// The sockets are bound, the server socket to `server_port`. Starts with [`Rpc::set_bootstrap`], or goes
    /// on after [`Rpc::suspend`].
    pub(crate) fn bind(&mut self, now: Instant, server_port: u16) {
        self.server_port = server_port;
        self.bound = true;
        if let Some(host) = self.config.known_host.take() {
            self.nat.add(SocketAddrV4::new(host, server_port));
        }
        if self.suspended {
            self.suspended = false;
            self.wakeup(now);
            if self.phase == Phase::Idle && self.bootstrap_known {
                self.look_around(now, false);
            } else {
                self.refresh(now);
            }
        }
    }

    /// Fails all requests and queries and stays silent until [`Rpc::bind`].
    pub(crate) fn suspend(&mut self) {
        self.bound = false;
        self.suspended = true;
        self.fail_all(RequestError::Suspended);
    }

    /// Fails all requests and queries, for ever.
    pub(crate) fn destroy(&mut self) {
        self.bound = false;
        self.fail_all(RequestError::Destroyed);
    }

    /// The id of this node while it is persistent.
    pub(crate) fn id(&self) -> Option<&Id> {
        (!self.ephemeral).then(|| self.table.own_id())
    }

    pub(crate) fn is_firewalled(&self) -> bool {
        self.firewalled
    }

    pub(crate) fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    pub(crate) fn is_bootstrapped(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    pub(crate) fn is_online(&self) -> bool {
        self.health.health() != Health::Offline
    }

    /// The address others see; port 0 where it differs from one to the other.
    pub(crate) fn seen_as(&self) -> Option<SocketAddrV4> {
        self.nat.address()
    }

    /// Where this node is reached from outside, if it is known to be.
    pub(crate) fn remote_address(&self) -> Option<SocketAddrV4> {
        let reachable = |addr: &SocketAddrV4| !self.firewalled && addr.port() == self.server_port;
        self.nat.exact().filter(reachable)
    }

    /// Nodes in the routing table, the one heard last first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.table.latest().map(|node| node.addr)
    }

    /// How many nodes are in the routing table.
    pub(crate) fn node_count(&self) -> usize {
        self.table.len()
    }

    /// Takes in nodes known from an earlier run.
    pub(crate) fn add_nodes(&mut self, nodes: impl IntoIterator<Item = SocketAddrV4>) {
        for addr in nodes {
            if filter::is_host(addr) {
                let _ = self.table.add(self.fresh_node(addr));
            }
        }
    }

    /// The requests that the node has sent so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.io.traffic
    }

    /// The socket requests leave by.
    pub(crate) fn via(&self) -> Via {
        if self.firewalled { Via::Client } else { Via::Server }
    }

    /// Sends a request; [`Event::Response`] tells its end, unless it is cancelled.
    pub(crate) fn request(&mut self, now: Instant, request: Request) -> Result<RequestId, RequestError> {
        self.start(now, request, Purpose::Caller)
    }

    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.io.cancel(id);
    }

    /// Takes a datagram that belongs to no stream. What is not a message of the DHT is dropped.
    pub(crate) fn handle_datagram(&mut self, now: Instant, via: Via, from: SocketAddrV4, data: &[u8]) {
        if !self.bound || from.port() == 0 {
            return;
        }
        match Message::decode(data) {
            Ok(Message::Request(request)) => self.handle_request(now, via, from, request),
            Ok(Message::Response(response)) => self.handle_response(now, via, from, response),
            Err(_) => {}
        }
    }

    /// To be called when [`Rpc::poll_timeout`] has passed; earlier is harmless.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(expiry) = self.io.expire(now) {
            match expiry {
                Expiry::Late(request, Purpose::Query(id)) => self.query_is_slow(now, id, request),
                Expiry::Late(..) => {}
                Expiry::Dead(id, to, purpose) => self.handle_dead(now, id, to, purpose),
            }
        }
        self.expire_queries(now);
        self.send_delayed_pings(now);
        if self.clock.is_due(now) {
            self.tick(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.bound {
            return None;
        }
        let deadlines = [
            self.io.poll_timeout(),
            self.queries_deadline(),
            self.delayed_pings.next(),
            Some(self.clock.next()),
        ];
        deadlines.into_iter().flatten().min()
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.io.poll_transmit()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a request of this node with that tid is under way.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn has_asked(&self, to: SocketAddrV4, tid: u16) -> bool {
        self.io.has_asked(to, tid)
    }

    /// Number of entries in all collections, except the table.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        let strangers = self.sampled_strangers.len() + self.sampled_hosts.len() + self.newcomers.len();
        let waiting = self.queries.len() + self.delayed_pings.len() + self.events.len();
        self.io.in_flight() + self.limit.held() + strangers + waiting
    }

    fn start(&mut self, now: Instant, request: Request, purpose: Purpose) -> Result<RequestId, RequestError> {
        if let Some(error) = self.unavailable() {
            return Err(error);
        }
        let via = request.via.unwrap_or(self.via());
        let id = self.id_on(via);
        self.io.start(now, request, via, id, purpose)
    }

    /// Why nothing can be sent.
    fn unavailable(&self) -> Option<RequestError> {
        if self.suspended {
            Some(RequestError::Suspended)
        } else if !self.bound {
            Some(RequestError::Destroyed)
        } else {
            None
        }
    }

    /// Like `start`, for a request whose failure does not matter.
    fn start_courtesy(&mut self, now: Instant, request: Request) {
        let _ = self.start(now, request, Purpose::Courtesy);
    }

    /// The id is that of the server socket's address, so it is shown only there.
    fn id_on(&self, via: Via) -> Option<Id> {
        (!self.ephemeral && via == Via::Server).then(|| *self.table.own_id())
    }

    fn handle_response(&mut self, now: Instant, via: Via, from: SocketAddrV4, response: ResponseMessage) {
        let id = response.id.filter(|id| *id == node_id(from));
        let Some((request, purpose, reply)) = self.io.handle_response(now, via, from, id, response) else {
            return;
        };
        self.hear_from(now, &reply);
        match purpose {
            Purpose::Caller => {
                self.events.push_back(Event::Response { id: request, result: Ok(reply) });
            }
            Purpose::Query(id) => self.query_replied(now, id, request, reply),
            Purpose::Check { node } => self.check_answered(&node, reply.id == Some(node)),
            Purpose::Swap { node, newcomer } => {
                self.swap_answered(&node, reply.id == Some(node), newcomer);
            }
            Purpose::QuickCheck => self.quick_check_passed(),
            Purpose::NetworkCheck => self.network_check_replied(now, &reply),
            Purpose::Newcomer | Purpose::Courtesy => {}
        }
    }

    fn handle_dead(&mut self, now: Instant, request: RequestId, to: SocketAddrV4, purpose: Purpose) {
        match purpose {
            Purpose::Caller => {
                let result = Err(RequestError::TimedOut);
                self.events.push_back(Event::Response { id: request, result });
            }
            Purpose::Query(id) => {
                self.table.remove(&node_id(to));
                self.query_timed_out(now, id, request, to);
            }
            Purpose::Check { node } => self.check_answered(&node, false),
            Purpose::Swap { node, newcomer } => self.swap_answered(&node, false, newcomer),
            Purpose::NetworkCheck => self.network_check_answered(now),
            Purpose::Newcomer | Purpose::QuickCheck | Purpose::Courtesy => {}
        }
    }

    fn fail_all(&mut self, error: RequestError) {
        for (id, purpose) in self.io.clear() {
            if matches!(purpose, Purpose::Caller) {
                self.events.push_back(Event::Response { id, result: Err(error) });
            }
        }
        self.fail_queries(error);
        self.check = None;
        self.clock.forget_requests();
        self.delayed_pings.clear();
        self.newcomers.clear();
        if !self.is_bootstrapped() {
            self.phase = Phase::Idle;
        }
    }

    fn fresh_node(&self, addr: SocketAddrV4) -> Node {
        let tick = self.clock.tick;
        Node { id: node_id(addr), addr, added: tick, pinged: tick, seen: tick, sampled: None, down_hints: 0 }
    }
}
