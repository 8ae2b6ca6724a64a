//! The swarm as a state machine without I/O (hyperswarm/index.js): whom to dial and when, which connections
//! to keep, and whom to refuse. The time is passed in; [`SwarmState::next_action`] says what is to be done.

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use rand::rngs::StdRng;
use secret_stream::PublicKey;

use crate::{
    Topic,
    flushes::{FlushId, Flushes},
    key_set::KeySet,
    links::{LinkId, Links},
    peers::Peers,
    retry::RetryTimers,
};

/// Connections at once, whoever opened them. npm hyperswarm does not limit incoming ones.
const MAX_LINKS: usize = 1024;

/// A peer that was asked for by key is dialled past all limits while it failed fewer times than this…
const EXPLICIT_ATTEMPTS: u32 = 5;

/// …and if its last failure is so long ago, times the number of failures.
const EXPLICIT_WAIT: Duration = Duration::from_secs(1);

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Dial, and report [`SwarmState::opened`] or [`SwarmState::closed`].
    Dial { id: LinkId, key: PublicKey, relay_addresses: Vec<SocketAddrV4> },
    /// Hand the connection to the application.
    Deliver { id: LinkId, key: PublicKey, topics: Vec<Topic> },
    /// See whether the other end is still there.
    KeepAlive(LinkId),
    /// Give up a dial or end a connection, and report [`SwarmState::closed`] once it is gone.
    Destroy(LinkId),
    /// End a connection that came in and was not taken. Nothing is to be reported.
    Refuse(LinkId),
    /// Answer a flush: whether everything was tried.
    Flushed(FlushId, bool),
}

/// Limits and identity.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub public_key: PublicKey,
    /// No dials for topics while so many are connected or being dialled.
    pub max_peers: usize,
    /// Dials at once.
    pub max_parallel: usize,
}

/// The state of a swarm.
#[derive(Debug)]
pub(crate) struct SwarmState {
    settings: Settings,
    random: StdRng,
    peers: Peers,
    bans: KeySet,
    links: Links,
    timers: RetryTimers,
    topics: HashSet<Topic>,
    flushes: Flushes,
    /// Nobody is to be dialled for now.
    held: bool,
    suspended: bool,
    destroyed: bool,
    actions: VecDeque<Action>,
}

impl SwarmState {
    pub(crate) fn new(settings: Settings, bans: KeySet, mut random: StdRng) -> Self {
        let timers = RetryTimers::new(&mut random);
        Self {
            settings,
            random,
            peers: Peers::default(),
            bans,
            links: Links::default(),
            timers,
            topics: HashSet::new(),
            flushes: Flushes::default(),
            held: false,
            suspended: false,
            destroyed: false,
            actions: VecDeque::new(),
        }
    }

    /// What to do next. To be asked until `None` after every other call.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::wake`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.suspended { None } else { self.timers.deadline() }
    }

    /// Queues those whose wait is over.
    pub(crate) fn wake(&mut self, now: Instant) {
        for key in self.timers.expired(now) {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.waiting = false;
                self.enqueue(key);
                self.forget_maybe(&key);
            }
        }
        self.dial_some(now);
    }

    pub(crate) fn add_topic(&mut self, topic: Topic) {
        self.topics.insert(topic);
    }

    pub(crate) fn remove_topic(&mut self, topic: &Topic) {
        self.topics.remove(topic);
    }

    /// Somebody said that the peer is there for a topic.
    pub(crate) fn found(
        &mut self,
        now: Instant,
        key: PublicKey,
        relay_addresses: Vec<SocketAddrV4>,
        topic: Topic,
    ) {
        if self.suspended || self.destroyed || self.is_refused(&key) || !self.make_room(&key) {
            return;
        }
        let peer = self.peers.know(key);
        peer.relay_addresses = relay_addresses;
        peer.found(topic);
        if !self.links.contains(&key) {
            peer.reset_if_stale();
            self.enqueue(key);
            self.dial_some(now);
        }
    }

    /// The peers that were found for a topic and are not forgotten.
    pub(crate) fn found_for(&self, topic: &Topic) -> Vec<PublicKey> {
        self.peers.found_for(topic)
    }

    /// Starts no dials until [`Self::release`].
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    pub(crate) fn release(&mut self, now: Instant) {
        self.held = false;
        self.dial_some(now);
    }

    /// Keeps the peer connected until [`Self::leave_peer`].
    pub(crate) fn join_peer(&mut self, now: Instant, key: PublicKey) {
        if key == self.settings.public_key {
            return;
        }
        self.peers.set_explicit(key);
        if !self.links.contains(&key) {
            self.enqueue(key);
            self.dial_some(now);
        }
    }

    /// The peer is no longer dialled for its own sake. A connection goes on.
    pub(crate) fn leave_peer(&mut self, key: &PublicKey) {
        self.peers.unset_explicit(key);
        self.forget_maybe(key);
    }

    fn is_refused(&self, key: &PublicKey) -> bool {
        *key == self.settings.public_key || self.bans.contains(key)
    }

    /// A dial has succeeded. False if it is not wanted any more: the caller then drops the connection.
    pub(crate) fn opened(&mut self, now: Instant, id: LinkId) -> bool {
        let Some(key) = self.links.opened(id) else { return false };
        let peer = self.peers.know(key);
        peer.connected(now);
        let topics = peer.topics.clone();
        self.actions.push_back(Action::Deliver { id, key, topics });
        self.tried(&key);
        self.dial_some(now);
        true
    }

    /// A peer has connected to us. `is_used` tells whether messages went both ways on an older connection.
    /// Returns the connection's name; what becomes of it follows as an action.
    pub(crate) fn incoming(&mut self, key: PublicKey, is_used: impl FnOnce(LinkId) -> bool) -> LinkId {
        let id = self.links.new_id();
        if self.destroyed || self.suspended || self.is_refused(&key) {
            self.actions.push_back(Action::Refuse(id));
            return id;
        }
        let Some(link) = self.links.get_mut(&key) else {
            self.take_in(id, key);
            return id;
        };
        // Both ends follow one rule: of two connections, the one that the larger key dialled stays. But if
        // the older one has carried messages both ways, the peer dials again because it has lost that one.
        if !is_used(link.id) && key < self.settings.public_key {
            self.actions.push_back(Action::KeepAlive(link.id));
            self.actions.push_back(Action::Refuse(id));
            return id;
        }
        match link.replacement.replace(id) {
            Some(older) => self.actions.push_back(Action::Refuse(older)),
            None => self.actions.push_back(Action::Destroy(link.id)),
        }
        id
    }

    /// Forgets the failed attempts of the peer that this dial goes to, so that the next attempt comes soon.
    /// To be called before [`Self::closed`]. Returns the peer's key.
    pub(crate) fn begin_anew(&mut self, id: LinkId) -> Option<PublicKey> {
        let key = self.links.key(id)?;
        self.peers.get_mut(&key)?.attempts = 0;
        Some(key)
    }

    /// A dial has failed, or a connection has ended.
    pub(crate) fn closed(&mut self, now: Instant, id: LinkId) {
        let Some((key, link)) = self.links.remove(id) else { return };
        if link.dialled {
            let retry = self.wants_retry(&key);
            let peer = self.peers.know(key);
            peer.disconnected(now);
            if let Some(tier) = peer.retry_tier().filter(|_| retry) {
                peer.waiting = true;
                self.timers.add(now, tier, key);
            }
        }
        if !link.open {
            self.tried(&key);
        }
        if let Some(replacement) = link.replacement {
            self.take_in(replacement, key);
        }
        self.forget_maybe(&key);
        self.dial_some(now);
    }

    /// A connection that waits for another to end has itself ended, or was given up.
    pub(crate) fn replacement_closed(&mut self, id: LinkId) {
        for link in self.links.iter_mut() {
            link.replacement.take_if(|replacement| *replacement == id);
        }
    }

    /// Answers with [`Action::Flushed`] once every peer that is queued or being dialled now was tried, or
    /// nothing is being dialled and there is room for nobody.
    pub(crate) fn flush(&mut self, id: FlushId) {
        let dialling = self.links.iter().filter(|(_, link)| !link.open).map(|(key, _)| key);
        let untried = self.peers.queued().chain(dialling).copied().collect();
        self.flushes.add(id, untried);
        self.answer_flushes();
    }

    /// Ends all connections and dials, and starts none until [`Self::resume`].
    pub(crate) fn suspend(&mut self) {
        if !std::mem::replace(&mut self.suspended, true) {
            self.stop(true);
        }
    }

    pub(crate) fn resume(&mut self, now: Instant) {
        self.suspended = false;
        self.dial_some(now);
    }

    /// Ends all dials and starts none any more. Open connections are their owners'.
    pub(crate) fn destroy(&mut self) {
        self.destroyed = true;
        self.stop(false);
        let flushed = self.flushes.take_all().map(|id| Action::Flushed(id, false));
        self.actions.extend(flushed);
    }

    /// All open connections.
    pub(crate) fn open_links(&self) -> impl Iterator<Item = LinkId> {
        self.links.iter().filter(|(_, link)| link.open).map(|(_, link)| link.id)
    }

    fn stop(&mut self, ends_open: bool) {
        for link in self.links.iter_mut() {
            if ends_open || !link.open {
                self.actions.push_back(Action::Destroy(link.id));
            }
            if let Some(replacement) = link.replacement.take() {
                self.actions.push_back(Action::Refuse(replacement));
            }
        }
        self.timers.clear();
        self.flushes.give_up();
        let links = &self.links;
        self.peers.stop(|key| links.contains(key));
    }

    /// Makes room for a peer that was found, if it is new. False if there is none.
    fn make_room(&mut self, key: &PublicKey) -> bool {
        if self.peers.contains(key) || !self.peers.is_full() {
            return true;
        }
        let Some(displaced) = self.peers.pop_last(&mut self.random) else { return false };
        self.tried(&displaced);
        self.forget_maybe(&displaced);
        true
    }

    fn enqueue(&mut self, key: PublicKey) {
        if !(self.suspended || self.destroyed || self.links.contains(&key)) {
            self.peers.enqueue(key);
        }
    }

    fn dial_some(&mut self, now: Instant) {
        if self.held || self.suspended || self.destroyed {
            return;
        }
        for key in self.peers.explicit().to_vec() {
            if self.links.dialling() >= self.settings.max_parallel {
                break;
            }
            let Some(peer) = self.peers.get(&key) else { continue };
            let rested = peer
                .disconnected_at
                .is_none_or(|since| now.saturating_duration_since(since) >= EXPLICIT_WAIT * peer.attempts);
            if peer.attempts < EXPLICIT_ATTEMPTS && rested {
                self.dial(key);
            }
        }
        while self.links.dialling() < self.settings.max_parallel && self.has_room() {
            let Some(key) = self.peers.pop(&mut self.random) else { break };
            self.dial(key);
        }
        self.answer_flushes();
    }

    fn dial(&mut self, key: PublicKey) {
        if let Some(link) = self.links.get(&key) {
            if link.open {
                self.tried(&key);
            }
            return;
        }
        let Some(peer) = self.peers.get(&key).filter(|_| !self.bans.contains(&key)) else {
            self.tried(&key);
            self.forget_maybe(&key);
            return;
        };
        let relay_addresses = peer.relay_addresses.clone();
        let id = self.links.add_dial(key);
        self.actions.push_back(Action::Dial { id, key, relay_addresses });
    }

    /// Hands up a connection that came in, as the peer's one.
    fn take_in(&mut self, id: LinkId, key: PublicKey) {
        if self.destroyed || self.suspended || self.links.len() >= MAX_LINKS {
            self.actions.push_back(Action::Refuse(id));
            return;
        }
        let peer = self.peers.know(key);
        peer.dialled = false;
        let topics = peer.topics.clone();
        self.links.add_open(id, key);
        self.actions.push_back(Action::Deliver { id, key, topics });
        self.tried(&key);
    }

    /// Whether there is room to dial for topics. Peers asked for by key make it scarcer.
    fn has_room(&self) -> bool {
        let factor = match self.peers.explicit().len() {
            0 => 1,
            1 => 2,
            2 | 3 => 3,
            _ => 4,
        };
        factor * self.links.len() < self.settings.max_peers
    }

    fn wants_retry(&self, key: &PublicKey) -> bool {
        let Some(peer) = self.peers.get(key) else { return false };
        !(self.suspended || self.destroyed || self.bans.contains(key))
            && (peer.explicit || peer.topics.iter().any(|topic| self.topics.contains(topic)))
    }

    fn tried(&mut self, key: &PublicKey) {
        self.flushes.tried(key);
        self.answer_flushes();
    }

    fn answer_flushes(&mut self) {
        if self.links.dialling() == 0 && !self.has_room() {
            self.flushes.give_up();
        }
        let flushed = self.flushes.take_done().map(|id| Action::Flushed(id, true));
        self.actions.extend(flushed);
    }

    fn forget_maybe(&mut self, key: &PublicKey) {
        if !self.links.contains(key) {
            self.peers.forget_maybe(key);
        }
    }
}

#[cfg(test)]
mod tests;
