//! The sockets of one punch: what their NAT does, and how they get through it (spec/connect.md §8). No I/O:
//! the time and what arrived go in, actions come out.

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::nat::{NatView, SAMPLES};
use super::throttle::{RandomPunch, Throttle};
use crate::connect::payload::Firewall;
use crate::connect::punch::HolepunchPayload;
use crate::rpc::filter::{is_host, is_public};

/// Sockets that are opened when our NAT shows every peer another port, and the peer's NAT lets in only what
/// comes from where the peer sent to. With 256 of them, one guessed port in 252 is one of ours.
pub(super) const BIRTHDAY_SOCKETS: usize = 256;
/// Fresh sockets that are tried when the NAT of the first one can't be punched through: mobile networks have
/// several ways out, and another one may be better.
const MAX_REOPENS: u32 = 3;
/// A node that knows many others does not ask those heard last: the handshake may have gone through them.
const SKIPPED_NODES: usize = 5;
/// Number of nodes that it must know to do so.
const NODES_TO_SKIP: usize = 8;
/// How often nodes are asked for our address.
const SAMPLE_ROUNDS: u32 = 2;

/// Probes between two NATs that show everybody the same port: one a second, ten times.
const CONSISTENT_TICK: Duration = Duration::from_secs(1);
const CONSISTENT_TICKS: u32 = 10;
/// Addresses that the peer has not proven get a probe every fourth time.
const UNVERIFIED_EVERY: u32 = 4;

/// Probes if the port of one side is random: every 20 ms, for 35 s.
const RANDOM_TICK: Duration = Duration::from_millis(20);
const RANDOM_TICKS: u32 = 1750;
/// Ports guessed in a tick during the first four seconds. npm hyperdht guesses one a tick: on average it hits
/// one of the peer's 256 ports after five seconds, and for one peer in twenty after fifteen. Ten a tick hit
/// one within four seconds for all but three in ten thousand peers. That is 500 tiny packets a second, and
/// takes no more entries of the router's table than the original.
const FAST_GUESSES: u32 = 10;
const FAST_TICKS: u32 = 200;
/// The pause after many sockets were opened at once.
const BIRTHDAY_PAUSE: Duration = Duration::from_millis(100);
/// The lowest port that is guessed; NATs do not give lower ones.
const FIRST_GUESSED_PORT: u32 = 1000;
const GUESSED_PORTS: u32 = 65_536 - FIRST_GUESSED_PORT;

/// A socket of a punch, counted in the order of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(pub u32);

/// Names a request of the client until the server has answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RequestNumber(pub u64);

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Open a socket at any port.
    Open(Slot),
    /// It is not needed any more.
    Close(Slot),
    /// Ask a DHT node once how it sees the socket.
    Ping { by: Slot, to: SocketAddrV4 },
    /// Send one byte. If `is_short`, only far enough to open our own NAT: a probe that arrives too early may
    /// make the other NAT suspicious.
    Probe { by: Slot, to: SocketAddrV4, is_short: bool },
    /// Ask the server through a node, which passes the payload on to `peer`.
    Ask { by: Slot, relay: SocketAddrV4, peer: SocketAddrV4, payload: HolepunchPayload },
    /// Tell the server in the same way that we give up, and wait for no answer.
    GiveUp { relay: SocketAddrV4, peer: SocketAddrV4, payload: HolepunchPayload },
    /// Answer the client, by the node's socket if `by` is `None`.
    Answer { to: RequestNumber, by: Option<Slot>, payload: HolepunchPayload },
}

/// How a punch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A probe came by that socket from there.
    Open {
        by: Slot,
        to: SocketAddrV4,
    },
    Failed(Failure),
}

/// Why a punch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No node passes our messages on.
    NoAnswer,
    /// The peer's message can't be read.
    Invalid,
    /// The peer gave up.
    RemoteAborted,
    /// What one of the NATs does is still not known.
    UnknownNat,
    /// Both NATs show everybody another port.
    DoubleRandom,
    /// This node or the peer punches at random already, or did so a moment ago.
    TryLater,
    /// The peer will not punch, or nobody knows where it is.
    NotPunching,
    /// No probe came through.
    Exhausted,
    /// The client did not ask in time.
    TimedOut,
}

/// Where the peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RemoteAddress {
    addr: SocketAddrV4,
    /// The peer has proven that it receives at this host.
    is_verified: bool,
}

/// One side's sockets and what they do. Owned by the rounds that lead to punching.
#[derive(Debug)]
pub(super) struct Puncher {
    /// The client takes the first probe that comes; the server only sends it back.
    is_initiator: bool,
    /// Nodes that can tell how they see us, the one heard last first.
    nodes: Vec<SocketAddrV4>,
    asked: HashSet<SocketAddrV4>,
    pings: usize,
    sample_rounds: u32,
    nat: NatView,
    /// All open sockets. The first is the one the peer knows.
    slots: Vec<Slot>,
    next_slot: u32,
    reopens: u32,
    remote_firewall: Firewall,
    remote_addresses: Vec<RemoteAddress>,
    punch: Option<Punch>,
    throttle: Throttle,
    actions: VecDeque<Action>,
    outcome: Option<Outcome>,
    rng: StdRng,
}

/// What a puncher works with.
#[derive(Debug)]
pub(super) struct Setup {
    pub is_initiator: bool,
    /// Nodes that can tell how they see us, the one heard last first.
    pub nodes: Vec<SocketAddrV4>,
    /// What the peer said of its NAT in the handshake.
    pub remote_firewall: Firewall,
    pub throttle: Throttle,
    /// For ports and pauses.
    pub rng: StdRng,
}

/// Probes under way.
#[derive(Debug)]
struct Punch {
    strategy: Strategy,
    tick: u32,
    next: Instant,
    /// The permission to probe random ports, if this punch does.
    random: Option<RandomPunch>,
}

#[derive(Debug)]
enum Strategy {
    /// Each knows the other's port.
    Consistent,
    /// The peer's port is guessed.
    Guess { host: Ipv4Addr, ports: GuessedPorts },
    /// The peer guesses one of ours.
    Birthday { to: SocketAddrV4, next: usize, is_first_round: bool },
}

impl Puncher {
    pub(super) fn new(setup: Setup) -> Self {
        let mut puncher = Self {
            is_initiator: setup.is_initiator,
            nodes: setup.nodes,
            asked: HashSet::new(),
            pings: 0,
            sample_rounds: 0,
            nat: NatView::default(),
            slots: Vec::new(),
            next_slot: 0,
            reopens: 0,
            remote_firewall: setup.remote_firewall,
            remote_addresses: Vec::new(),
            punch: None,
            throttle: setup.throttle,
            actions: VecDeque::new(),
            outcome: None,
            rng: setup.rng,
        };
        puncher.open();
        puncher.sample();
        puncher
    }

    /// The socket the peer knows.
    pub(super) fn slot(&self) -> Slot {
        self.slots.first().copied().unwrap_or(Slot(0))
    }

    pub(super) fn nat(&self) -> &NatView {
        &self.nat
    }

    pub(super) fn remote_firewall(&self) -> Firewall {
        self.remote_firewall
    }

    /// A node sees our first socket at `seen_as`.
    pub(super) fn add_sample(&mut self, seen_as: SocketAddrV4, node: SocketAddrV4) {
        self.nat.add(seen_as, node);
    }

    /// The end of an [`Action::Ping`]: how the node sees us, if it answered.
    pub(super) fn handle_pong(&mut self, by: Slot, node: SocketAddrV4, seen_as: Option<SocketAddrV4>) {
        if by != self.slot() {
            return;
        }
        self.pings = self.pings.saturating_sub(1);
        if let Some(seen_as) = seen_as {
            self.nat.add(seen_as, node);
        }
        if self.pings == 0 && !self.nat.is_settled() {
            self.sample();
        }
    }

    /// A probe came.
    pub(super) fn handle_probe(&mut self, by: Slot, from: SocketAddrV4) {
        if self.outcome.is_some() || !self.slots.contains(&by) || !is_host(from) {
            return;
        }
        if self.is_initiator {
            self.end(Outcome::Open { by, to: from });
        } else {
            self.actions.push_back(Action::Probe { by, to: from, is_short: false });
        }
    }

    /// It is known what the NAT does, or it will not become known.
    pub(super) fn is_analyzed(&self) -> bool {
        self.nat.is_settled() || self.pings == 0
    }

    /// Punching would be in vain, as far as is known.
    pub(super) fn is_unstable(&self) -> bool {
        self.nat.firewall() == Firewall::Unknown || self.is_double_random()
    }

    pub(super) fn is_double_random(&self) -> bool {
        self.nat.firewall() == Firewall::Random && self.remote_firewall == Firewall::Random
    }

    /// Takes a fresh socket, which may have another address than the last one. False if enough were tried.
    pub(super) fn reopen(&mut self) -> bool {
        if self.reopens == MAX_REOPENS || self.punch.is_some() || self.outcome.is_some() {
            return false;
        }
        self.reopens += 1;
        self.actions.extend(self.slots.drain(..).map(Action::Close));
        self.nat = NatView::default();
        self.asked.clear();
        (self.pings, self.sample_rounds) = (0, 0);
        self.open();
        self.sample();
        true
    }

    /// What the peer says of itself now. It is proven to be at the host `verified`. `host`: where a node
    /// saw it first; a peer outside of our network names no address inside. `seen_as`: its socket as a
    /// node sees it now.
    ///
    /// A JavaScript peer that finds out, while it punches, that everybody reaches it says so and names no
    /// address (hyperdht/lib/nat.js). It is where the node sees it.
    pub(super) fn update_remote(
        &mut self,
        host: Ipv4Addr,
        seen_as: SocketAddrV4,
        payload: &HolepunchPayload,
        verified: Option<Ipv4Addr>,
    ) {
        let known: Vec<Ipv4Addr> =
            self.remote_addresses.iter().filter(|a| a.is_verified).map(|a| *a.addr.ip()).collect();
        let is_verified = |addr: &SocketAddrV4| verified == Some(*addr.ip()) || known.contains(addr.ip());
        self.remote_firewall = payload.firewall;
        let named = payload.addresses.as_deref().unwrap_or_default();
        let addresses =
            if named.is_empty() && payload.firewall == Firewall::Open { &[seen_as] } else { named };
        self.remote_addresses = addresses
            .iter()
            .filter(|addr| is_public(*addr.ip()) || !is_public(host))
            .map(|addr| RemoteAddress { addr: *addr, is_verified: is_verified(addr) })
            .collect();
    }

    /// Fixes what is known of our NAT, because the peer is told of it.
    pub(super) fn freeze(&mut self) {
        self.nat.freeze();
    }

    /// Sends one probe by the first socket.
    pub(super) fn probe(&mut self, to: SocketAddrV4, is_short: bool) {
        // Nodes and peers name these addresses: only hosts get a probe.
        if is_host(to) {
            self.actions.push_back(Action::Probe { by: self.slot(), to, is_short });
        }
    }

    /// One of the NATs shows everybody another port, so many probes are needed.
    pub(super) fn is_random(&self) -> bool {
        self.nat.firewall() == Firewall::Random || self.remote_firewall == Firewall::Random
    }

    /// The permission to send many probes, or none for now.
    pub(super) fn try_random(&self, now: Instant) -> Option<RandomPunch> {
        self.throttle.start(now)
    }

    pub(super) fn is_punching(&self) -> bool {
        self.punch.is_some() && self.outcome.is_none()
    }

    /// Starts probing. False if it would be in vain. `random`: the permission that is needed if
    /// [`Puncher::is_random`].
    pub(super) fn punch(&mut self, now: Instant, random: Option<RandomPunch>) -> bool {
        if self.is_punching() {
            return true;
        }
        if self.outcome.is_some() || self.remote_addresses.is_empty() {
            return false;
        }
        let verified = self.remote_addresses.iter().find(|address| address.is_verified).map(|a| a.addr);
        let (strategy, delay) = match (coerced(self.nat.firewall()), coerced(self.remote_firewall), verified)
        {
            // A server has just sent a probe in answer to the client's first.
            (Firewall::Consistent, Firewall::Consistent, _) => {
                (Strategy::Consistent, if self.is_initiator { Duration::ZERO } else { CONSISTENT_TICK })
            }
            (Firewall::Consistent, Firewall::Random, Some(to)) => {
                (Strategy::Guess { host: *to.ip(), ports: GuessedPorts::new(&mut self.rng) }, Duration::ZERO)
            }
            (Firewall::Random, Firewall::Consistent, Some(to)) => {
                self.open_birthday_sockets(to);
                (Strategy::Birthday { to, next: 0, is_first_round: true }, BIRTHDAY_PAUSE)
            }
            _ => return false,
        };
        self.punch = Some(Punch { strategy, tick: 0, next: now + delay, random });
        self.handle_timeout(now);
        true
    }

    /// Ends the punch as failed.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.outcome.is_none() {
            self.end(Outcome::Failed(failure));
        }
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// To be called when [`Puncher::poll_timeout`] has passed; earlier is harmless.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some(punch) = self.punch.as_mut().filter(|punch| punch.next <= now) else { return };
        if let Some(random) = &mut punch.random {
            random.is_active(now);
        }
        let (tick, last) = match punch.strategy {
            Strategy::Consistent => (CONSISTENT_TICK, CONSISTENT_TICKS),
            Strategy::Guess { .. } | Strategy::Birthday { .. } => (RANDOM_TICK, RANDOM_TICKS),
        };
        if punch.tick == last {
            return self.end(Outcome::Failed(Failure::Exhausted));
        }
        punch.tick += 1;
        // After a pause of the machine, the ticks that were missed are not made up for.
        punch.next = now + tick;
        self.send_probes();
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.punch.as_ref().map(|punch| punch.next)
    }

    /// Adds an action after those that [`Puncher::poll_action`] has not returned yet.
    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Randomness for pauses.
    pub(super) fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    fn send_probes(&mut self) {
        let first = self.slot();
        let Some(punch) = &mut self.punch else { return };
        let actions = &mut self.actions;
        match &mut punch.strategy {
            Strategy::Consistent => {
                let all = punch.tick.is_multiple_of(UNVERIFIED_EVERY);
                let tried = self.remote_addresses.iter().filter(|a| a.is_verified || all).map(|a| a.addr);
                actions.extend(tried.filter(|addr| is_host(*addr)).map(|to| Action::Probe {
                    by: first,
                    to,
                    is_short: false,
                }));
            }
            Strategy::Guess { host, ports } => {
                let guesses = if punch.tick <= FAST_TICKS { FAST_GUESSES } else { 1 };
                for _ in 0..guesses {
                    let to = SocketAddrV4::new(*host, ports.next());
                    if is_host(to) {
                        actions.push_back(Action::Probe { by: first, to, is_short: false });
                    }
                }
            }
            Strategy::Birthday { to, next, is_first_round } => {
                if *next >= self.slots.len() {
                    (*next, *is_first_round) = (0, false);
                }
                if let Some(by) = self.slots.get(*next) {
                    actions.push_back(Action::Probe { by: *by, to: *to, is_short: *is_first_round });
                }
                *next += 1;
            }
        }
    }

    fn open_birthday_sockets(&mut self, to: SocketAddrV4) {
        if !is_host(to) {
            return;
        }
        while self.slots.len() < BIRTHDAY_SOCKETS {
            let by = self.open();
            self.actions.push_back(Action::Probe { by, to, is_short: true });
        }
    }

    fn open(&mut self) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.slots.push(slot);
        self.actions.push_back(Action::Open(slot));
        slot
    }

    /// Asks as many further nodes as are needed how they see the first socket.
    fn sample(&mut self) {
        let by = self.slot();
        while self.pings == 0 && self.sample_rounds < SAMPLE_ROUNDS {
            let may_skip = self.sample_rounds == 0 && self.nodes.len() >= NODES_TO_SKIP;
            let skip = if may_skip { SKIPPED_NODES } else { 0 };
            self.sample_rounds += 1;
            let missing = SAMPLES.saturating_sub(self.nat.sampled());
            let fresh = self.nodes.iter().skip(skip).filter(|node| !self.asked.contains(node));
            let chosen: Vec<_> = fresh.take(missing).copied().collect();
            self.pings += chosen.len();
            self.asked.extend(&chosen);
            self.actions.extend(chosen.into_iter().map(|to| Action::Ping { by, to }));
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.punch = None;
    }
}

/// A peer without a NAT is probed like one whose NAT shows everybody the same port.
fn coerced(firewall: Firewall) -> Firewall {
    if firewall == Firewall::Open { Firewall::Consistent } else { firewall }
}

/// Ports in a random order; each comes once before any comes again.
#[derive(Debug)]
struct GuessedPorts {
    at: u32,
    step: u32,
}

impl GuessedPorts {
    fn new(rng: &mut StdRng) -> Self {
        let step = loop {
            let step = rng.random_range(1..GUESSED_PORTS);
            if greatest_common_divisor(step, GUESSED_PORTS) == 1 {
                break step;
            }
        };
        Self { at: rng.random_range(0..GUESSED_PORTS), step }
    }

    fn next(&mut self) -> u16 {
        self.at = (self.at + self.step) % GUESSED_PORTS;
        u16::try_from(FIRST_GUESSED_PORT + self.at).unwrap_or(u16::MAX)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_port_is_guessed_once() {
        let mut ports = GuessedPorts::new(&mut StdRng::seed_from_u64(1));
        let all: HashSet<u16> = (0..GUESSED_PORTS).map(|_| ports.next()).collect();
        assert_eq!(all.len(), GUESSED_PORTS as usize);
        assert_eq!(u32::from(*all.iter().min().unwrap()), FIRST_GUESSED_PORT);
    }
}
