//! What a node does by itself to stay in touch (spec/dht.md §8).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::id::{Id, node_id};
use crate::rpc::queries::Audience;
use crate::rpc::{Added, Event, Purpose, Reply, Request, Rpc, filter};

/// The unit in which most times of the DHT are counted.
const TICK: Duration = Duration::from_secs(5);
/// If more time than this passes between two ticks, the machine slept.
const SLEPT: Duration = Duration::from_secs(15);
/// Ticks after which an undisturbed node may become persistent: 20 min.
const STABLE_TICKS: u64 = 240;
/// The same after a failed check or a wakeup: 1 h.
const MORE_STABLE_TICKS: u64 = 3 * STABLE_TICKS;
/// Ticks without a query after which the node looks around: 5 min.
const REFRESH_TICKS: u64 = 60;
/// Ticks for which a node counts as just heard: 1 min.
const RECENT: u64 = 12;
/// Ticks after which a node counts as an old member: 30 min.
const OLD: u64 = 360;
/// Old members that are checked at once because a newcomer wants their place.
const MAX_SWAPS: usize = 3;
/// Nodes said to be down that are checked at once.
const MAX_CHECKS: usize = 10;
/// Strangers with an id that are asked back at once, and ticks until one of them is asked again. A forged
/// request costs its victim one ping of the same size.
const MAX_NEWCOMERS: usize = 64;
/// IPs that are remembered because they have voted.
const MAX_VOTERS: usize = 1024;

/// Ticks, and what is counted by them.
#[derive(Debug)]
pub(super) struct Clock {
    pub tick: u64,
    /// Requests under way that ask nodes of the table whether they are there.
    pub checks: usize,
    /// Hints sent since the last tick.
    pub down_hints: u32,
    adaptive: bool,
    swaps: usize,
    last: Instant,
    stable_ticks: u64,
    refresh_ticks: u64,
    /// The address at the last check for persistence. The check is not repeated at the same address, except
    /// by a node that runs for others: somebody may have opened its port.
    last_host: Option<Ipv4Addr>,
}

impl Clock {
    /// Counters start at random values, so that nodes started together don't act together.
    pub(super) fn new(now: Instant, adaptive: bool, rng: &mut StdRng) -> Self {
        Self {
            tick: rng.random_range(50..=100),
            checks: 0,
            down_hints: 0,
            adaptive,
            swaps: 0,
            last: now,
            stable_ticks: STABLE_TICKS,
            refresh_ticks: rng.random_range(REFRESH_TICKS / 2..=REFRESH_TICKS),
            last_host: None,
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.last + TICK
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next()
    }

    /// A query makes a refresh unnecessary.
    pub(super) fn postpone_refresh(&mut self) {
        self.refresh_ticks = REFRESH_TICKS;
    }

    /// `is_first`: the node has just bootstrapped, so the next check comes sooner.
    pub(super) fn checked_host(&mut self, host: Option<Ipv4Addr>, is_first: bool) {
        self.stable_ticks = if is_first { STABLE_TICKS } else { MORE_STABLE_TICKS };
        self.last_host = host;
    }

    pub(super) fn forget_requests(&mut self) {
        self.checks = 0;
        self.swaps = 0;
    }
}

/// Strangers asked whether they are there, with the tick of it.
#[derive(Debug, Default)]
pub(super) struct PingedNewcomers(HashMap<SocketAddrV4, u64>);

impl PingedNewcomers {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Rpc {
    /// Starts over because the network may be another one: after sleep, or when the driver says so.
    pub(crate) fn wakeup(&mut self, now: Instant) {
        // All known nodes count as old, and are asked again two ticks from now.
        self.clock.tick += 2 * OLD;
        self.clock.tick = (self.clock.tick | 7) - 1;
        self.clock.last = now;
        self.clock.stable_ticks = MORE_STABLE_TICKS;
        self.clock.refresh_ticks = 1;
        self.clock.last_host = None;
        self.health.reset();
        if self.clock.adaptive && !self.ephemeral {
            self.ephemeral = true;
            self.events.push_back(Event::Ephemeral);
        }
        self.events.push_back(Event::Wakeup);
    }

    /// Looks around near a node it knows.
    pub(crate) fn refresh(&mut self, now: Instant) {
        if self.table.is_empty() {
            self.events.push_back(Event::ResolveBootstrap);
        }
        let pick = self.io.rng.random_range(0..self.table.len().max(1));
        let target = self.table.latest().nth(pick).map_or(*self.table.own_id(), |node| node.id);
        self.background_query(now, target, Audience::Background);
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.clock.last) > SLEPT {
            self.wakeup(now);
        } else {
            self.clock.tick += 1;
            self.clock.last += TICK;
        }
        let tick = self.clock.tick;
        self.newcomers.0.retain(|_, pinged| tick - *pinged < RECENT);
        if !self.is_bootstrapped() {
            return;
        }

        let is_for_others = self.is_forced_persistent();
        if (self.clock.adaptive || is_for_others) && self.ephemeral {
            self.clock.stable_ticks = self.clock.stable_ticks.saturating_sub(1);
            if self.clock.stable_ticks == 0 {
                let is_same = self.clock.last_host == self.nat.address().map(|addr| *addr.ip());
                self.clock.stable_ticks = MORE_STABLE_TICKS;
                if is_for_others || !is_same {
                    self.update_network_state(now, false);
                }
            }
        }
        if tick.is_multiple_of(8) {
            self.ping_some(now);
        }
        self.clock.refresh_ticks = self.clock.refresh_ticks.saturating_sub(1);
        let sparse = tick.is_multiple_of(64) && self.table.len() < crate::rpc::K;
        if sparse || self.clock.refresh_ticks == 0 {
            self.refresh(now);
        }
        self.clock.down_hints = 0;

        let before = self.health.health();
        if self.health.update(self.io.traffic.responses, self.io.traffic.timeouts) != before {
            self.events.push_back(Event::NetworkUpdate);
        }
    }

    /// A node answered: it is there, and tells us our address.
    pub(super) fn hear_from(&mut self, now: Instant, reply: &Reply) {
        if !filter::is_host(reply.from) {
            return;
        }
        let on_main_socket = reply.via == self.via();
        let Some(id) = reply.id else {
            let limit = self.bootstrap_nodes.len().max(1);
            if on_main_socket
                && self.sampled_strangers.len() < limit
                && self.sampled_strangers.insert(reply.from)
            {
                self.sample(reply);
            }
            return;
        };
        let tick = self.clock.tick;
        if let Some(node) = self.table.get_mut(&id) {
            node.pinged = tick;
            node.seen = tick;
            let due = node.sampled.is_none_or(|sampled| tick - sampled >= OLD);
            if due && on_main_socket {
                node.sampled = Some(tick);
                self.sample(reply);
            }
            self.table.touch(&id);
            return;
        }
        let mut node = self.fresh_node(reply.from);
        node.sampled = on_main_socket.then_some(tick);
        match self.table.add(node) {
            Added::Yes if on_main_socket => self.sample(reply),
            Added::RowFull => self.compete(now, &id, reply.from),
            Added::Yes | Added::Known | Added::Refused => {}
        }
    }

    /// A node with an id asked us something. The sender's address may be forged, so it enters the table only
    /// after it has answered.
    pub(super) fn meet(&mut self, now: Instant, id: Id, from: SocketAddrV4) {
        let room = self.table.has_room(&id, from) || self.may_swap();
        let known = self.table.get(&id).is_some() || self.newcomers.0.contains_key(&from);
        if room && !known && self.newcomers.0.len() < MAX_NEWCOMERS && filter::is_host(from) {
            self.newcomers.0.insert(from, self.clock.tick);
            let _ = self.start(now, Request::ping(from).attempts(2), Purpose::Newcomer);
        }
    }

    /// Another node found a node down that we had named.
    pub(super) fn handle_down_hint(&mut self, now: Instant, down: SocketAddrV4) {
        let (id, tick) = (node_id(down), self.clock.tick);
        if self.clock.checks >= MAX_CHECKS {
            return;
        }
        if let Some(node) = self.table.get_mut(&id)
            && (node.pinged < tick || node.down_hints == 0)
        {
            node.down_hints += 1;
            self.check(now, id);
        }
    }

    pub(super) fn check_answered(&mut self, node: &Id, alive: bool) {
        self.clock.checks = self.clock.checks.saturating_sub(1);
        if !alive {
            self.table.remove(node);
        }
    }

    pub(super) fn swap_answered(&mut self, node: &Id, alive: bool, newcomer: SocketAddrV4) {
        self.clock.swaps = self.clock.swaps.saturating_sub(1);
        if !alive {
            self.table.remove(node);
            let newcomer = self.fresh_node(newcomer);
            let _ = self.table.add(newcomer);
        }
    }

    fn ping_some(&mut self, now: Instant) {
        let tick = self.clock.tick;
        let Some(oldest) = self.table.latest().next_back() else { return self.refresh(now) };
        let count = if tick - oldest.pinged < RECENT {
            2
        } else if self.io.in_flight() > 2 {
            3
        } else {
            5
        };
        let due = self.table.latest().rev().filter(|node| node.pinged != tick).take(count);
        for id in due.map(|node| node.id).collect::<Vec<_>>() {
            self.check(now, id);
        }
    }

    fn check(&mut self, now: Instant, id: Id) {
        let Some(node) = self.table.get_mut(&id) else { return };
        node.pinged = self.clock.tick;
        let request = Request::ping(node.addr);
        if self.start(now, request, Purpose::Check { node: id }).is_ok() {
            self.clock.checks += 1;
        }
    }

    /// Asks the member of a full row that was not asked for longest whether it is still there, unless it has
    /// lately proven to be a good old one.
    fn compete(&mut self, now: Instant, newcomer: &Id, addr: SocketAddrV4) {
        let tick = self.clock.tick;
        if !self.may_swap() {
            return;
        }
        let candidates = self.table.row_of(newcomer).filter(|node| node.pinged != tick);
        let Some(member) = candidates.min_by_key(|node| (node.pinged, node.added)) else { return };
        if tick - member.pinged < RECENT && tick - member.added > OLD {
            return;
        }
        let (id, request) = (member.id, Request::ping(member.addr));
        if let Some(member) = self.table.get_mut(&id) {
            member.pinged = tick;
        }
        if self.start(now, request, Purpose::Swap { node: id, newcomer: addr }).is_ok() {
            self.clock.swaps += 1;
        }
    }

    fn may_swap(&self) -> bool {
        self.is_bootstrapped() && self.clock.swaps < MAX_SWAPS
    }

    /// Counts the address that a node sees us at.
    fn sample(&mut self, reply: &Reply) {
        if self.config.defended {
            let tick = self.clock.tick;
            self.sampled_hosts.retain(|_, voted| tick - *voted < OLD);
            let full = self.sampled_hosts.len() >= MAX_VOTERS;
            if full || self.sampled_hosts.insert(*reply.from.ip(), tick).is_some() {
                return;
            }
        }
        let before = self.nat.address();
        self.nat.add(reply.to);
        if self.nat.address() != before {
            self.events.push_back(Event::NatUpdate);
        }
    }
}
