//! The simulated network: hosts, their NATs, packets, and the time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::callers::Callers;
use crate::instruction::Instruction;
use crate::machine::Machine;
use crate::rpc::{Event, RpcConfig, Transmit, Via};
use crate::store::Now;

/// The ports of each host's two sockets.
pub(crate) const SERVER_PORT: u16 = 49737;
pub(crate) const CLIENT_PORT: u16 = 5000;

/// What stands between a node and the network.
pub(crate) enum Nat {
    None,
    /// Each socket has one outside port, open to those it wrote to.
    Consistent {
        opened: HashSet<(Via, SocketAddrV4)>,
    },
    /// Each socket has another outside port for each destination.
    Random {
        ports: HashMap<(Via, SocketAddrV4), u16>,
    },
}

/// A node and its place in the network.
pub(crate) struct Host {
    pub ip: Ipv4Addr,
    pub machine: Machine,
    pub callers: Callers,
    pub nat: Nat,
    /// One that is not alive neither sends nor receives.
    pub alive: bool,
    /// Events of the node that nobody waits for.
    pub events: Vec<Event>,
    /// Datagrams, of all time.
    pub sent: u64,
    /// The deadline that the network knows of.
    deadline: Option<Instant>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packet {
    pub at: Instant,
    pub number: u64,
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub data: Vec<u8>,
}

/// Hosts, the packets between them, and the time, which passes only in [`SimulatedNetwork::run_until`].
pub(crate) struct SimulatedNetwork {
    pub start: Instant,
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub wire: BinaryHeap<Reverse<Packet>>,
    /// Share of packets lost.
    pub loss: f64,
    /// Keep the events that nobody waits for.
    pub keep_events: bool,
    pub rng: StdRng,
    by_ip: HashMap<Ipv4Addr, usize>,
    addresses: u32,
    /// Hosts by deadline; a host may stand here again with an earlier one that has passed.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    number: u64,
}

impl SimulatedNetwork {
    pub(crate) fn new(now: Instant, seed: [u8; 32]) -> Self {
        Self {
            start: now,
            now,
            hosts: Vec::new(),
            wire: BinaryHeap::new(),
            loss: 0.0,
            keep_events: true,
            rng: StdRng::from_seed(seed),
            by_ip: HashMap::new(),
            addresses: 0,
            deadlines: BinaryHeap::new(),
            number: 0,
        }
    }

    /// A node that begins with the first one.
    pub(crate) fn add(&mut self, config: RpcConfig, nat: Nat) -> usize {
        let i = self.hosts.len();
        let host = self.host(config, nat);
        self.by_ip.insert(host.ip, i);
        self.hosts.push(host);
        self.settle(i);
        i
    }

    /// A node that is reachable, knows it, and stores for others.
    pub(crate) fn persistent(&mut self) -> usize {
        let known_host = self.hosts.is_empty().then(|| ip(self.addresses + 1));
        self.add(RpcConfig { known_host, ..persistent() }, Nat::None)
    }

    /// Removes a node silently, and adds a persistent one at another address.
    pub(crate) fn replace(&mut self, i: usize) {
        let host = self.host(persistent(), Nat::None);
        self.by_ip.remove(&self.hosts[i].ip);
        self.by_ip.insert(host.ip, i);
        self.hosts[i] = host;
        self.settle(i);
    }

    /// A node that has to find out what it may become.
    pub(crate) fn adaptive(&mut self, nat: Nat) -> usize {
        let config = RpcConfig { firewalled: true, defended: true, ..RpcConfig::default() };
        self.add(config, nat)
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let arrival = self.wire.peek().map(|Reverse(packet)| packet.at);
        let deadline = self.deadlines.peek().map(|Reverse((at, _))| *at);
        [arrival, deadline].into_iter().flatten().min()
    }

    pub(crate) fn run_until(&mut self, end: Instant) {
        loop {
            let arrival = self.wire.peek().map(|Reverse(packet)| packet.at);
            let deadline = self.deadlines.peek().map(|Reverse((at, _))| *at);
            match (arrival, deadline) {
                (Some(at), deadline) if at <= end && deadline.is_none_or(|due| at <= due) => {
                    self.now = self.now.max(at);
                    let Some(Reverse(packet)) = self.wire.pop() else { return };
                    self.deliver(&packet);
                }
                (_, Some(due)) if due <= end => {
                    self.now = self.now.max(due);
                    let Some(Reverse((due, i))) = self.deadlines.pop() else { return };
                    self.expire(due, i);
                }
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    /// Has a node do something, and sends what comes of it.
    pub(crate) fn instruct(&mut self, host: usize, instruction: Instruction) {
        let now = self.now;
        let Host { machine, callers, .. } = &mut self.hosts[host];
        callers.instruct(machine, now, instruction);
        self.settle(host);
    }

    /// Puts a packet on the wire, whoever may have sent it.
    pub(crate) fn inject(&mut self, from: SocketAddrV4, to: SocketAddrV4, data: Vec<u8>) {
        if self.loss > 0.0 && self.rng.random_bool(self.loss) {
            return;
        }
        self.number += 1;
        let at = self.now + Duration::from_millis(self.rng.random_range(10..80));
        self.wire.push(Reverse(Packet { at, number: self.number, from, to, data }));
    }

    /// Takes the events and datagrams of a node. To be called after each use of its machine.
    pub(crate) fn settle(&mut self, i: usize) {
        let now = self.now();
        let host = &mut self.hosts[i];
        while let Some(event) = host.machine.poll_event(now) {
            if let Some(event) = host.callers.tell(event)
                && self.keep_events
            {
                host.events.push(event);
            }
        }
        while let Some(transmit) = self.hosts[i].machine.rpc.poll_transmit() {
            self.hosts[i].sent += 1;
            self.send(i, &transmit);
        }
        let host = &mut self.hosts[i];
        let deadline = host.machine.rpc.poll_timeout();
        // If the deadline has moved to a later time, that is noticed when the known one has passed.
        if let Some(due) = deadline
            && host.deadline.is_none_or(|known| due < known)
        {
            host.deadline = Some(due);
            self.deadlines.push(Reverse((due, i)));
        }
    }

    /// The time on the nodes' clocks, which start at 1970.
    fn now(&self) -> Now {
        let millis = self.now.saturating_duration_since(self.start).as_millis();
        Now { instant: self.now, unix_millis: u64::try_from(millis).unwrap_or(u64::MAX) }
    }

    fn expire(&mut self, due: Instant, i: usize) {
        let now = self.now;
        let host = &mut self.hosts[i];
        if host.deadline != Some(due) {
            return;
        }
        host.deadline = None;
        if host.alive {
            host.machine.rpc.handle_timeout(now);
            self.settle(i);
        }
    }

    fn deliver(&mut self, packet: &Packet) {
        let Some(&i) = self.by_ip.get(packet.to.ip()) else { return };
        let (from, port) = (packet.from, packet.to.port());
        let own_port = |port| match port {
            SERVER_PORT => Some(Via::Server),
            CLIENT_PORT => Some(Via::Client),
            _ => None,
        };
        let host = &mut self.hosts[i];
        let via = match &host.nat {
            Nat::None => own_port(port),
            Nat::Consistent { opened } => own_port(port).filter(|via| opened.contains(&(*via, from))),
            Nat::Random { ports } => ports
                .iter()
                .find(|((_, to), mapped)| **mapped == port && *to == from)
                .map(|((via, _), _)| *via),
        };
        if let Some(via) = via.filter(|_| host.alive) {
            host.machine.rpc.handle_datagram(self.now, via, from, &packet.data);
            self.settle(i);
        }
    }

    fn send(&mut self, i: usize, transmit: &Transmit) {
        let host = &mut self.hosts[i];
        let own_port = if transmit.via == Via::Server { SERVER_PORT } else { CLIENT_PORT };
        let port = match &mut host.nat {
            Nat::None => own_port,
            Nat::Consistent { opened } => {
                opened.insert((transmit.via, transmit.to));
                own_port
            }
            Nat::Random { ports } => {
                let next = 10_000 + u16::try_from(ports.len()).unwrap_or(u16::MAX - 10_000);
                *ports.entry((transmit.via, transmit.to)).or_insert(next)
            }
        };
        let from = SocketAddrV4::new(host.ip, port);
        self.inject(from, transmit.to, transmit.data.to_vec());
    }

    fn host(&mut self, config: RpcConfig, nat: Nat) -> Host {
        self.addresses += 1;
        let bootstrap = self.hosts.first().map(|first| SocketAddrV4::new(first.ip, SERVER_PORT));
        let mut machine = Machine::new(self.now, config, self.rng.random(), self.rng.random());
        machine.rpc.bind(self.now, SERVER_PORT);
        machine.rpc.set_bootstrap(self.now, bootstrap.into_iter().collect());
        let (events, sent, deadline) = (Vec::new(), 0, None);
        Host {
            ip: ip(self.addresses),
            machine,
            callers: Callers::default(),
            nat,
            alive: true,
            events,
            sent,
            deadline,
        }
    }
}

fn persistent() -> RpcConfig {
    RpcConfig { ephemeral: Some(false), firewalled: false, defended: true, ..RpcConfig::default() }
}

/// Each host is in a /24 network of its own, as where nodes defend themselves.
fn ip(number: u32) -> Ipv4Addr {
    let [_, a, b, c] = number.to_be_bytes();
    Ipv4Addr::new(20 + a, b, c, 1)
}
