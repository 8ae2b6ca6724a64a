//! Client and server behind simulated NATs, in virtual time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::client::{ClientPunch, PunchReply, Start};
use super::puncher::{Action, BIRTHDAY_SOCKETS, Failure, Outcome, RequestNumber, Setup, Slot};
use super::server::{ClientRound, ServerPunch};
use super::throttle::Throttle;
use crate::connect::payload::{Firewall, RelayInfo};
use crate::connect::punch::{HolepunchPayload, SecurePayload};

/// From any host to any other.
const LATENCY: Duration = Duration::from_millis(20);
/// Patience of a request with all its sends.
const REQUEST: Duration = Duration::from_secs(4);
/// The socket a server announces from.
const ANNOUNCED: Slot = Slot(u32::MAX);
const NODES: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// None: the socket is reached by all.
    Open,
    /// One port for all, open to those who were sent something.
    Cone,
    /// Another port for each.
    Symmetric,
}

use Kind::{Cone, Open, Symmetric};

/// The NAT of one peer.
struct SimulatedNat {
    kind: Kind,
    ip: Ipv4Addr,
    ports: HashMap<(Slot, Option<SocketAddrV4>), u16>,
    owners: HashMap<u16, Slot>,
    sent: HashSet<(u16, SocketAddrV4)>,
    rng: StdRng,
}

impl SimulatedNat {
    fn new(kind: Kind, ip: [u8; 4], seed: u64) -> Self {
        Self {
            kind,
            ip: ip.into(),
            ports: HashMap::new(),
            owners: HashMap::new(),
            sent: HashSet::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Where a datagram to `to` seems to come from.
    fn send_out(&mut self, by: Slot, to: SocketAddrV4) -> SocketAddrV4 {
        let to_whom = (self.kind == Symmetric).then_some(to);
        let owners = &mut self.owners;
        let rng = &mut self.rng;
        let port = *self.ports.entry((by, to_whom)).or_insert_with(|| {
            loop {
                let port = rng.random_range(1024..=u16::MAX);
                if let std::collections::hash_map::Entry::Vacant(free) = owners.entry(port) {
                    free.insert(by);
                    return port;
                }
            }
        });
        self.sent.insert((port, to));
        SocketAddrV4::new(self.ip, port)
    }

    /// Which socket gets a datagram.
    fn let_in(&self, from: SocketAddrV4, to: SocketAddrV4) -> Option<Slot> {
        let is_let_in = self.kind == Open || self.sent.contains(&(to.port(), from));
        self.owners.get(&to.port()).copied().filter(|_| *to.ip() == self.ip && is_let_in)
    }
}

enum WorldEvent {
    Pong {
        is_client: bool,
        by: Slot,
        node: SocketAddrV4,
        seen_as: Option<SocketAddrV4>,
    },
    Probe {
        is_client: bool,
        by: Slot,
        from: SocketAddrV4,
    },
    /// At the server.
    Asked {
        by: Slot,
        seen_as: SocketAddrV4,
        node: SocketAddrV4,
        client: SocketAddrV4,
        payload: HolepunchPayload,
    },
    /// At the client.
    Answered(u64, Option<PunchReply>),
    /// The first packet of the stream, at the server.
    Stream,
}

struct World {
    now: Instant,
    began: Instant,
    nats: [SimulatedNat; 2],
    client: ClientPunch,
    server: ServerPunch,
    events: BTreeMap<(Instant, u64), WorldEvent>,
    serial: u64,
    /// The client's question under way.
    question: u64,
    requests: Vec<(SocketAddrV4, SocketAddrV4)>,
    dead_nodes: HashSet<SocketAddrV4>,
    loss: f64,
    /// Probes are lost until then.
    loss_until: Duration,
    /// The client or the server says that it is open, and names no address.
    names_nothing: Option<bool>,
    rng: StdRng,
    connected: Option<Duration>,
    most_sockets: usize,
    open_sockets: HashSet<(bool, Slot)>,
}

fn node(i: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(8, 8, i, 1), 49737)
}

fn nodes() -> Vec<SocketAddrV4> {
    (0..NODES).map(node).collect()
}

impl World {
    fn new(server: Kind, client: Kind, seed: u64) -> Self {
        let throttles = [Throttle::default(), Throttle::default()];
        Self::with(server, client, seed, &throttles, false)
    }

    fn with(server: Kind, client: Kind, seed: u64, throttles: &[Throttle; 2], has_relay: bool) -> Self {
        let now = Instant::now();
        let mut nats = [
            SimulatedNat::new(server, [5, 5, 5, 5], seed),
            SimulatedNat::new(client, [6, 6, 6, 6], seed + 1),
        ];
        let setup = |is_initiator: bool| Setup {
            is_initiator,
            nodes: nodes(),
            remote_firewall: Firewall::Unknown,
            throttle: throttles[usize::from(is_initiator)].clone(),
            rng: StdRng::seed_from_u64(seed + 2 + u64::from(is_initiator)),
        };
        let secure = || Arc::new(SecurePayload::new([1; 32], [u8::try_from(seed % 256).unwrap(); 32]));
        let server = ServerPunch::new(now, setup(false), secure(), has_relay);
        // The server is announced at two nodes; the handshake went through one, and the first
        // round goes through the other.
        let announced = nats[0].send_out(ANNOUNCED, node(1));
        let seen_as = nats[0].send_out(Slot(0), node(0));
        let start = Start {
            node: node(0),
            server: seen_as,
            relay: RelayInfo { relay: node(1), peer: announced },
            has_relay,
            secure: secure(),
        };
        Self {
            now,
            began: now,
            nats,
            client: ClientPunch::new(setup(true), start),
            server,
            events: BTreeMap::new(),
            serial: 0,
            question: 0,
            requests: Vec::new(),
            dead_nodes: HashSet::new(),
            loss: 0.0,
            loss_until: Duration::ZERO,
            names_nothing: None,
            rng: StdRng::seed_from_u64(seed + 4),
            connected: None,
            most_sockets: 0,
            open_sockets: HashSet::new(),
        }
    }

    /// Until the client has an outcome and what it led to has happened.
    fn run(&mut self) -> Outcome {
        for _ in 0..200_000 {
            self.act();
            self.most_sockets = self.most_sockets.max(self.open_sockets.len());
            if let Some(outcome @ Outcome::Failed(_)) = self.client.outcome() {
                return outcome;
            }
            if let (Some(outcome), Some(_)) = (self.client.outcome(), self.connected) {
                return outcome;
            }
            let timeouts = [self.client.poll_timeout(), self.server.poll_timeout()];
            let event = self.events.keys().next().map(|(at, _)| *at);
            self.now =
                timeouts.into_iter().flatten().chain(event).min().expect("something happens").max(self.now);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= self.now) {
                let (_, event) = self.events.pop_first().unwrap();
                self.handle(event);
            }
        }
        panic!("no outcome");
    }

    fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    fn at(&mut self, after: Duration, event: WorldEvent) {
        self.serial += 1;
        self.events.insert((self.now + after, self.serial), event);
    }

    fn handle(&mut self, event: WorldEvent) {
        let now = self.now;
        match event {
            WorldEvent::Pong { is_client: true, by, node, seen_as } => {
                self.client.handle_pong(now, by, node, seen_as)
            }
            WorldEvent::Pong { by, node, seen_as, .. } => self.server.handle_pong(now, by, node, seen_as),
            WorldEvent::Probe { is_client: true, by, from } => {
                self.client.handle_probe(by, from);
                if let Some(Outcome::Open { by, to }) = self.client.outcome() {
                    self.send_stream(by, to);
                }
            }
            WorldEvent::Probe { by, from, .. } => self.server.handle_probe(by, from),
            WorldEvent::Asked { by, seen_as, node, client, payload } => {
                let number = RequestNumber(self.requests.len() as u64);
                self.requests.push((node, client));
                let by = (by != ANNOUNCED).then_some(by);
                let is_own_relay = node == self::node(0) || node == self::node(1);
                let request =
                    ClientRound { number, by, seen_as, from: node, is_own_relay, peer: client, payload };
                self.server.handle_request(now, request);
            }
            WorldEvent::Answered(question, reply) if question == self.question => {
                self.question += 1;
                self.client.handle_reply(now, reply);
            }
            WorldEvent::Answered(..) => {}
            WorldEvent::Stream => self.connected = Some(self.elapsed()),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.server.poll_action() {
            self.do_for(false, action);
        }
        while let Some(action) = self.client.poll_action() {
            self.do_for(true, action);
        }
    }

    fn do_for(&mut self, is_client: bool, action: Action) {
        let own = usize::from(is_client);
        match action {
            Action::Open(slot) => drop(self.open_sockets.insert((is_client, slot))),
            Action::Close(slot) => drop(self.open_sockets.remove(&(is_client, slot))),
            Action::Ping { by, to } => {
                let seen_as =
                    Some(self.nats[own].send_out(by, to)).filter(|_| !self.dead_nodes.contains(&to));
                let after = if seen_as.is_some() { LATENCY * 2 } else { Duration::from_secs(1) };
                self.at(after, WorldEvent::Pong { is_client, by, node: to, seen_as });
            }
            Action::Probe { by, to, is_short } => {
                assert!(self.open_sockets.contains(&(is_client, by)), "a probe by a closed socket");
                let from = self.nats[own].send_out(by, to);
                if is_short || self.elapsed() < self.loss_until || self.rng.random_bool(self.loss) {
                    return;
                }
                if let Some(by) = self.nats[1 - own].let_in(from, to) {
                    self.at(LATENCY, WorldEvent::Probe { is_client: !is_client, by, from });
                }
            }
            Action::Ask { by, relay, peer, payload } => {
                let payload = self.said(true, payload);
                let client = self.nats[1].send_out(by, relay);
                self.at(REQUEST, WorldEvent::Answered(self.question, None));
                if let Some(by) = self.nats[0].let_in(relay, peer) {
                    self.at(
                        LATENCY * 2,
                        WorldEvent::Asked { by, seen_as: peer, node: relay, client, payload },
                    );
                }
            }
            Action::GiveUp { relay, peer, payload } => {
                if let Some(by) = self.nats[0].let_in(relay, peer) {
                    let client = self.nats[1].send_out(ANNOUNCED, relay);
                    self.at(
                        LATENCY * 2,
                        WorldEvent::Asked { by, seen_as: peer, node: relay, client, payload },
                    );
                }
            }
            Action::Answer { to, by, payload } => {
                let payload = self.said(false, payload);
                let (relay, client) = self.requests[usize::try_from(to.0).unwrap()];
                let peer = self.nats[0].send_out(by.unwrap_or(ANNOUNCED), relay);
                let reply = PunchReply { seen_as: client, from: relay, peer, payload: Some(payload) };
                self.at(LATENCY * 2, WorldEvent::Answered(self.question, Some(reply)));
            }
        }
    }

    /// What a peer says, who may be a JavaScript one.
    fn said(&self, is_client: bool, payload: HolepunchPayload) -> HolepunchPayload {
        match self.names_nothing == Some(is_client) {
            true => HolepunchPayload { firewall: Firewall::Open, addresses: None, ..payload },
            false => payload,
        }
    }

    fn send_stream(&mut self, by: Slot, to: SocketAddrV4) {
        let from = self.nats[1].send_out(by, to);
        if self.nats[0].let_in(from, to).is_some() {
            self.at(LATENCY, WorldEvent::Stream);
        }
    }
}

/// Punches, and how long it took with all the way.
fn punch(server: Kind, client: Kind, seed: u64) -> Duration {
    let mut world = World::new(server, client, seed);
    let outcome = world.run();
    assert!(matches!(outcome, Outcome::Open { .. }), "{server:?}:{client:?} {outcome:?}");
    world.connected.unwrap()
}

#[test]
fn nats_of_one_port_open_before_the_first_answer() {
    for (server, client) in [(Open, Open), (Open, Cone), (Cone, Open), (Cone, Cone)] {
        for seed in 0..10 {
            let took = punch(server, client, seed);
            assert!(took <= LATENCY * 6, "{server:?}:{client:?} {took:?}");
        }
    }
}

#[test]
fn a_random_nat_is_hit_within_four_seconds() {
    for (server, client) in [(Cone, Symmetric), (Symmetric, Cone), (Open, Symmetric), (Symmetric, Open)] {
        for seed in 0..10 {
            let took = punch(server, client, seed);
            assert!(took < Duration::from_secs(4), "{server:?}:{client:?} {took:?}");
        }
    }
}

#[test]
fn no_more_sockets_than_it_takes() {
    let mut world = World::new(Cone, Symmetric, 3);
    world.run();
    assert_eq!(world.most_sockets, BIRTHDAY_SOCKETS + 1);
    let mut world = World::new(Cone, Cone, 3);
    world.run();
    assert_eq!(world.most_sockets, 2);
}

#[test]
fn two_random_nats_are_refused_after_fresh_sockets_were_tried() {
    let mut world = World::new(Symmetric, Symmetric, 1);
    let outcome = world.run();
    assert!(
        matches!(outcome, Outcome::Failed(Failure::DoubleRandom | Failure::RemoteAborted)),
        "{outcome:?}"
    );
    assert!(world.elapsed() < Duration::from_secs(3), "{:?}", world.elapsed());
}

#[test]
fn lost_probes_are_sent_again() {
    for seed in 0..10 {
        let mut world = World::new(Cone, Cone, seed);
        world.loss = 0.5;
        assert!(matches!(world.run(), Outcome::Open { .. }), "seed {seed}");
    }
}

#[test]
fn peers_between_whom_nothing_passes_give_up() {
    let mut world = World::new(Cone, Cone, 1);
    world.loss = 1.0;
    assert_eq!(world.run(), Outcome::Failed(Failure::Exhausted));
    assert!(world.elapsed() < Duration::from_secs(12), "{:?}", world.elapsed());
}

#[test]
fn a_nat_of_which_no_node_tells_is_given_up() {
    let mut world = World::new(Cone, Cone, 1);
    world.dead_nodes = nodes().into_iter().collect();
    let outcome = world.run();
    assert!(
        matches!(outcome, Outcome::Failed(Failure::UnknownNat | Failure::NoAnswer | Failure::RemoteAborted)),
        "{outcome:?}"
    );
}

#[test]
fn silent_nodes_are_made_up_for_by_others() {
    let mut world = World::new(Cone, Cone, 1);
    // Those asked first: the five heard last are left out.
    world.dead_nodes = [node(5), node(6), node(7)].into();
    assert!(matches!(world.run(), Outcome::Open { .. }));
}

#[test]
fn a_second_random_punch_waits_or_is_refused() {
    let throttles = [Throttle::default(), Throttle::default()];
    let mut first = World::with(Cone, Symmetric, 1, &throttles, false);
    assert!(matches!(first.run(), Outcome::Open { .. }));
    drop(first);
    let mut second = World::with(Cone, Symmetric, 2, &throttles, false);
    assert_eq!(second.run(), Outcome::Failed(Failure::TryLater));
    // One that is relayed meanwhile has time.
    let mut third = World::with(Cone, Symmetric, 3, &throttles, true);
    assert!(matches!(third.run(), Outcome::Open { .. }));
    assert!(third.elapsed() > Duration::from_secs(10), "{:?}", third.elapsed());
}

#[test]
fn a_server_that_is_busy_with_another_asks_for_patience() {
    let throttles = [Throttle::default(), Throttle::default()];
    let busy = throttles[0].start(Instant::now()).unwrap();
    let mut world = World::with(Cone, Symmetric, 1, &throttles, false);
    assert_eq!(world.run(), Outcome::Failed(Failure::TryLater));
    drop(busy);
}

#[test]
fn a_peer_outside_sends_us_nowhere_inside() {
    let mut world = World::new(Cone, Cone, 1);
    let payload = HolepunchPayload {
        firewall: Firewall::Consistent,
        punching: true,
        addresses: Some(
            ["192.168.0.1:80", "127.0.0.1:80", "224.0.0.1:80", "9.9.9.9:9"]
                .map(|a| a.parse().unwrap())
                .into(),
        ),
        ..HolepunchPayload::default()
    };
    let (client, node) = ("9.9.9.9:7".parse().unwrap(), node(1));
    world.handle(WorldEvent::Asked { by: ANNOUNCED, seen_as: client, node, client, payload });
    let mut probed = HashSet::new();
    while world.server.outcome().is_none() {
        while let Some(action) = world.server.poll_action() {
            if let Action::Probe { to, .. } = action {
                probed.insert(to);
            } else if let Action::Ping { by, to } = action {
                world.server.handle_pong(world.now, by, to, Some("5.5.5.5:5".parse().unwrap()));
            }
        }
        world.now = world.server.poll_timeout().unwrap();
        world.server.handle_timeout(world.now);
    }
    assert_eq!(probed, HashSet::from(["9.9.9.9:9".parse().unwrap()]));
}

/// As JavaScript does it where a node finds out, while it connects, that everybody reaches it.
#[test]
fn a_peer_that_is_open_and_names_no_address_is_met_where_nodes_see_it() {
    for (is_client, seed) in [(true, 1), (true, 2), (false, 3), (false, 4)] {
        let kinds = if is_client { (Cone, Open) } else { (Open, Cone) };
        let mut world = World::new(kinds.0, kinds.1, seed);
        world.names_nothing = Some(is_client);
        // Otherwise the first probe of the client would open the way before anybody asks.
        world.loss_until = REQUEST;
        let outcome = world.run();
        assert!(matches!(outcome, Outcome::Open { .. }), "client: {is_client}, {outcome:?}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_a_peer_says_never_panics_and_ends(
        values in proptest::collection::vec(
            (0u64..5, 0u64..5, 0u64..4, proptest::prelude::any::<[bool; 4]>()), 1..6
        )
    ) {
        let mut world = World::new(Cone, Symmetric, 1);
        for (error, firewall, round, [punching, has_token, has_addresses, is_reply]) in values {
            let address: SocketAddrV4 = "7.7.7.7:7".parse().unwrap();
            let payload = HolepunchPayload {
                error: if error == 4 { 0 } else { error },
                firewall: Firewall::from_uint(firewall),
                round,
                punching,
                addresses: has_addresses.then(|| vec![address, SocketAddrV4::new(*address.ip(), 0)]),
                token: has_token.then_some([1; 32]),
                remote_token: has_token.then_some([2; 32]),
                ..HolepunchPayload::default()
            };
            if is_reply {
                let payload = Some(payload);
                let reply = PunchReply { seen_as: address, from: node(0), peer: address, payload };
                world.client.handle_reply(world.now, Some(reply));
            } else {
                let (by, node) = (Slot(0), node(1));
                world.handle(WorldEvent::Asked { by, seen_as: address, node, client: address, payload });
            }
        }
        world.run();
    }
}
