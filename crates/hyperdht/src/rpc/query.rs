//! One iterative query: whom to ask next, what was found, when it is over (spec/dht.md §9).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::id::{Id, distance, node_id};
use crate::rpc::filter;
use crate::rpc::table::{K, network_of};
use crate::rpc::{QuerySpec, Reply};

/// Nodes that are asked in all. A network of millions needs a few dozen. Made-up addresses near the target,
/// each of which costs six sends, end here.
const MAX_VISITS: usize = 256;
/// Addresses remembered, asked or not.
const MAX_SEEN: usize = 2048;
/// After this time the query ends with what it has. A dead node takes 6 s, and several are asked at the same
/// time.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Requests at once after the first burst, if the caller named nodes: the closest ones get time to answer
/// before many others are asked.
const SLOW_START: usize = 3;
/// Nodes of one /24 network among the closest replies, if the query defends itself.
const MAX_PER_NETWORK: usize = 3;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Visit(SocketAddrV4),
    /// Wait for an answer or a timeout.
    Wait,
    /// The caller's nodes have failed: [`IterativeQuery::add_from_table`], then ask again.
    TryTable,
    Done,
}

/// A node that answered, and one that it named and that is down: the first will be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DownHint {
    pub tell: SocketAddrV4,
    pub down: SocketAddrV4,
}

/// The state of one query.
#[derive(Debug)]
pub(super) struct IterativeQuery {
    pub spec: QuerySpec,
    /// The replies closest to the target, closest first.
    pub closest: Vec<Closest>,
    own_id: Id,
    defended: bool,
    started: Instant,
    /// Not asked yet, by distance.
    pending: BTreeMap<Id, SocketAddrV4>,
    seen: HashMap<SocketAddrV4, Seen>,
    in_flight: usize,
    /// The nodes in flight that have timed out once.
    slow: usize,
    slow_start: bool,
    from_table: bool,
    visits: usize,
    successes: usize,
    errors: usize,
}

/// A reply in the result, with the distance of its node.
#[derive(Debug)]
pub(super) struct Closest {
    distance: Id,
    pub reply: Reply,
}

#[derive(Debug)]
enum Seen {
    /// The node that named it, until it has answered.
    Named(Vec<SocketAddrV4>),
    Done,
    Down,
}

impl IterativeQuery {
    /// Starts with the nodes of `spec`. The caller adds nodes of its table and the bootstrap nodes while
    /// [`IterativeQuery::wants_more`].
    pub(super) fn new(now: Instant, mut spec: QuerySpec, own_id: Id, defended: bool) -> Self {
        let nodes = std::mem::take(&mut spec.nodes);
        let mut query = Self {
            spec,
            closest: Vec::new(),
            own_id,
            defended,
            started: now,
            pending: BTreeMap::new(),
            seen: HashMap::new(),
            in_flight: 0,
            slow: 0,
            slow_start: false,
            from_table: false,
            visits: 0,
            successes: 0,
            errors: 0,
        };
        for node in nodes {
            query.add(node, None);
        }
        query
    }

    /// Whether it has fewer nodes than a full result.
    pub(super) fn wants_more(&self) -> bool {
        !self.spec.only_nodes && self.pending.len() < K
    }

    pub(super) fn missing(&self) -> usize {
        K.saturating_sub(self.pending.len())
    }

    /// When it ends at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.started + MAX_TIME
    }

    /// Nodes of the routing table, or bootstrap nodes.
    pub(super) fn add_from_table(&mut self, nodes: impl IntoIterator<Item = SocketAddrV4>) {
        self.from_table = true;
        if !self.spec.only_nodes {
            for node in nodes {
                self.add(node, None);
            }
        }
    }

    /// The next step; to be called again after each [`Next::Visit`].
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let late = now >= self.deadline();
        if late || self.visits >= MAX_VISITS {
            self.pending.clear();
        }
        let concurrency = if self.slow_start { SLOW_START } else { self.spec.concurrency };
        if self.in_flight < concurrency + self.slow {
            while let Some((distance, addr)) = self.pending.pop_first() {
                if self.is_closer(&distance) {
                    self.in_flight += 1;
                    self.visits += 1;
                    return Next::Visit(addr);
                }
                // Those behind it are further away still.
                self.pending.clear();
            }
        }
        if !self.from_table && self.successes + self.errors == 0 {
            self.slow_start = true;
        }
        if !late && !self.pending.is_empty() {
            return Next::Wait;
        }
        let only_slow = self.slow == self.in_flight && self.closest.len() >= K;
        if self.in_flight > 0 && !only_slow && !late {
            return Next::Wait;
        }
        if !late && !self.from_table && !self.spec.only_nodes && self.successes < K / 4 {
            return Next::TryTable;
        }
        Next::Done
    }

    /// A node answered. `slow`: [`IterativeQuery::handle_slow`] was called for it before. If it had named
    /// nodes that are down, they are added to `hints`.
    pub(super) fn handle_reply(&mut self, reply: &Reply, slow: bool, hints: &mut Vec<DownHint>) {
        self.settle(slow);
        self.seen.insert(reply.from, Seen::Done);
        if reply.error == 0 {
            self.successes += 1;
            if let Some(id) = reply.id {
                self.push_closest(distance(&self.spec.target, &id), reply);
            }
        } else {
            self.errors += 1;
        }
        let closer = if self.spec.only_nodes { &[] } else { reply.closer.as_slice() };
        for &node in closer {
            if !filter::may_use(node, *reply.from.ip()) || node_id(node) == self.own_id {
                continue;
            }
            if let Some(Seen::Down) = self.seen.get(&node) {
                hints.push(DownHint { tell: reply.from, down: node });
            }
            // Nodes are named closest first, so the rest is not closer either.
            if !self.add(node, Some(reply.from)) {
                break;
            }
        }
        if !self.from_table && self.successes + self.errors >= self.spec.concurrency {
            self.slow_start = false;
        }
    }

    /// The first attempt at a node was not answered in time.
    pub(super) fn handle_slow(&mut self) {
        self.slow += 1;
    }

    /// A node did not answer at all.
    pub(super) fn handle_timeout(&mut self, addr: SocketAddrV4, slow: bool, hints: &mut Vec<DownHint>) {
        self.settle(slow);
        self.errors += 1;
        if let Some(Seen::Named(by)) = self.seen.insert(addr, Seen::Down) {
            hints.extend(by.into_iter().map(|tell| DownHint { tell, down: addr }));
        }
    }

    /// A request could not be sent.
    pub(super) fn handle_failure(&mut self) {
        self.settle(false);
        self.errors += 1;
    }

    fn settle(&mut self, slow: bool) {
        self.in_flight -= 1;
        if slow {
            self.slow -= 1;
        }
    }

    fn is_closer(&self, distance: &Id) -> bool {
        self.closest.len() < K || self.closest.last().is_some_and(|last| *distance < last.distance)
    }

    /// Whether the node is closer than those in the result, so that its neighbours may be too.
    fn add(&mut self, addr: SocketAddrV4, named_by: Option<SocketAddrV4>) -> bool {
        let distance = distance(&self.spec.target, &node_id(addr));
        let closer = self.is_closer(&distance);
        let room = self.seen.len() < MAX_SEEN;
        match self.seen.get_mut(&addr) {
            Some(Seen::Named(by)) => {
                if by.len() < K {
                    by.extend(named_by);
                }
                closer
            }
            Some(Seen::Done | Seen::Down) => closer,
            None if closer && room => {
                self.seen.insert(addr, Seen::Named(named_by.into_iter().collect()));
                self.pending.insert(distance, addr);
                true
            }
            None => false,
        }
    }

    fn push_closest(&mut self, distance: Id, reply: &Reply) {
        let at = match self.closest.binary_search_by(|held| held.distance.cmp(&distance)) {
            Ok(_) => return,
            Err(at) => at,
        };
        if at >= K {
            return;
        }
        self.closest.insert(at, Closest { distance, reply: reply.clone() });
        if self.defended && filter::is_public(*reply.from.ip()) {
            let network = network_of(reply.from);
            let same = self.closest.iter().enumerate();
            let same = same.filter(|(_, held)| network_of(held.reply.from) == network);
            if let Some((surplus, _)) = same.skip(MAX_PER_NETWORK).last() {
                self.closest.remove(surplus);
            }
        }
        self.closest.truncate(K);
    }
}
