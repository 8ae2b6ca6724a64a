//! The peers a swarm knows, and those of them that wait to be dialled. No I/O.

use std::collections::HashMap;

use rand::Rng;
use secret_stream::PublicKey;

use crate::{Topic, peer::Peer, queue::Queue};

/// Peers remembered at once from lookups. Keys cost nothing, so whoever answers could fill the memory and the
/// queue. Beyond this, a new peer takes the place of one of the least urgent.
pub(crate) const MAX_KNOWN_PEERS: usize = 1024;

/// All known peers, by key.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: HashMap<PublicKey, Peer>,
    queue: Queue,
    /// Asked for by key, in the order of asking.
    explicit: Vec<PublicKey>,
}

impl Peers {
    pub(crate) fn get(&self, key: &PublicKey) -> Option<&Peer> {
        self.peers.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut Peer> {
        self.peers.get_mut(key)
    }

    /// The peer, which is known from now on.
    pub(crate) fn know(&mut self, key: PublicKey) -> &mut Peer {
        self.peers.entry(key).or_default()
    }

    pub(crate) fn contains(&self, key: &PublicKey) -> bool {
        self.peers.contains_key(key)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.peers.len() >= MAX_KNOWN_PEERS
    }

    /// Those that were found for a topic.
    pub(crate) fn found_for(&self, topic: &Topic) -> Vec<PublicKey> {
        let found = self.peers.iter().filter(|(_, peer)| peer.topics.contains(topic));
        found.map(|(key, _)| *key).collect()
    }

    /// Those asked for by key.
    pub(crate) fn explicit(&self) -> &[PublicKey] {
        &self.explicit
    }

    pub(crate) fn set_explicit(&mut self, key: PublicKey) {
        if !std::mem::replace(&mut self.know(key).explicit, true) {
            self.explicit.push(key);
        }
    }

    pub(crate) fn unset_explicit(&mut self, key: &PublicKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.explicit = false;
            self.explicit.retain(|explicit| explicit != key);
        }
    }

    /// Queues the peer to be dialled, unless it was tried too often or is queued already.
    pub(crate) fn enqueue(&mut self, key: PublicKey) {
        if let Some(peer) = self.peers.get_mut(&key)
            && let Some(priority) = peer.update_priority()
        {
            peer.queued = true;
            self.queue.push(key, priority);
        }
    }

    /// Takes one of the most urgent out of the queue.
    pub(crate) fn pop(&mut self, random: &mut impl Rng) -> Option<PublicKey> {
        let key = self.queue.pop(random)?;
        self.unqueued(key)
    }

    /// Takes one of the least urgent out of the queue.
    pub(crate) fn pop_last(&mut self, random: &mut impl Rng) -> Option<PublicKey> {
        let key = self.queue.pop_last(random)?;
        self.unqueued(key)
    }

    fn unqueued(&mut self, key: PublicKey) -> Option<PublicKey> {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.queued = false;
        }
        Some(key)
    }

    pub(crate) fn queued(&self) -> impl Iterator<Item = &PublicKey> {
        self.queue.iter()
    }

    /// Forgets a peer that is not connected, if nothing is lost with it.
    pub(crate) fn forget_maybe(&mut self, key: &PublicKey) {
        if self.peers.get(key).is_some_and(Peer::is_forgettable) {
            self.peers.remove(key);
        }
    }

    /// Lets nobody wait any more, and forgets those that are not connected if nothing is lost with them.
    pub(crate) fn stop(&mut self, is_connected: impl Fn(&PublicKey) -> bool) {
        self.queue = Queue::default();
        for peer in self.peers.values_mut() {
            peer.queued = false;
            peer.waiting = false;
        }
        self.peers.retain(|key, peer| is_connected(key) || !peer.is_forgettable());
    }
}
