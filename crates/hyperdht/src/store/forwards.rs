//! Where servers announced themselves, and so where handshakes for them are passed on to.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::generations::Generations;
use crate::id::Id;

/// Entries a generation holds, and how long an entry lives unused (JavaScript's values).
const MAX_FORWARDS: usize = 65_536;
const MAX_AGE: Duration = Duration::from_secs(20 * 60);

/// A server that announced itself to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Where its announce came from; handshakes go there.
    pub relay: SocketAddrV4,
    /// Its peer record, the answer to FIND_PEER.
    pub record: Bytes,
}

/// Servers by the hash of their public key: those that announced themselves here, and this node's own, which
/// no announce can replace.
#[derive(Debug)]
pub(crate) struct Forwards {
    announced: Generations<Id, Forward>,
    own: HashMap<Id, Bytes>,
}

impl Forwards {
    pub(crate) fn new(now: Instant) -> Self {
        Self { announced: Generations::new(now, MAX_FORWARDS, MAX_AGE), own: HashMap::new() }
    }

    /// Where handshakes for the server at `target` are passed on to; `None` for servers of this node.
    pub(crate) fn get(&mut self, now: Instant, target: &Id) -> Option<&Forward> {
        if self.own.contains_key(target) {
            return None;
        }
        self.announced.get(now, target).map(|forward| &*forward)
    }

    /// The peer record of the server at `target`, be it announced or own.
    pub(crate) fn record(&mut self, now: Instant, target: &Id) -> Option<Bytes> {
        if let Some(record) = self.own.get(target) {
            return Some(record.clone());
        }
        self.announced.get(now, target).map(|forward| forward.record.clone())
    }

    pub(crate) fn insert(&mut self, now: Instant, target: Id, forward: Forward) {
        if !self.own.contains_key(&target) {
            self.announced.insert(now, target, forward);
        }
    }

    /// Forgets an announced server; own servers stay.
    pub(crate) fn remove(&mut self, target: &Id) {
        self.announced.remove(target);
    }

    /// Answer for a server of this node itself.
    pub(crate) fn insert_own(&mut self, target: Id, record: Bytes) {
        self.announced.remove(&target);
        self.own.insert(target, record);
    }

    pub(crate) fn remove_own(&mut self, target: &Id) {
        self.own.remove(target);
    }

    /// Servers, announced and own.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        self.announced.len() + self.own.len()
    }
}
