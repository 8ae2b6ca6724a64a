//! What is known of one peer, how urgent it is, and when it is tried again (hyperswarm/lib/peer-info.js).

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use secret_stream::PublicKey;

use crate::Topic;

/// A connection that lasted this long has proven that the peer can be reached: the count of attempts begins
/// anew.
const MIN_CONNECTION_TIME: Duration = Duration::from_secs(15);

/// After so many attempts a peer is given up, unless it was asked for by key.
const MAX_ATTEMPTS: u32 = 3;

/// Topics remembered for one peer. Only topics that the caller joined count, so few callers reach this.
const MAX_TOPICS: usize = 64;

/// What is known of a peer when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its key, which the connection has proven.
    pub public_key: PublicKey,
    /// Topics it was found for. Empty for a stranger who dialled us: it may have come for any.
    pub topics: Vec<Topic>,
}

/// How urgent it is to dial a peer; the numbers are npm's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Tried three times.
    Low = 1,
    /// Not tried yet.
    Normal = 2,
    /// Tried twice.
    High = 3,
    /// Tried once, or just lost: likely to be there.
    VeryHigh = 4,
}

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// A second.
    Short,
    /// Five seconds.
    Medium,
    /// A quarter of a minute.
    Long,
    /// Ten minutes.
    Extra,
}

/// One peer. Whether it is connected is not known here.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Nodes that pass handshakes on to it, as last heard.
    pub relay_addresses: Vec<SocketAddrV4>,
    /// What it was found for.
    pub topics: Vec<Topic>,
    /// Asked for by its key: never given up.
    pub explicit: bool,
    /// Stands in the queue of those to dial.
    pub queued: bool,
    /// Waits for its next attempt.
    pub waiting: bool,
    /// The last connection was dialled by us.
    pub dialled: bool,
    /// A dial has succeeded since it was found.
    pub proven: bool,
    /// Connections lost and dials failed in a row.
    pub attempts: u32,
    pub disconnected_at: Option<Instant>,
    connected_at: Option<Instant>,
    priority: Option<Priority>,
}

impl Peer {
    /// A dial has succeeded.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.proven = true;
        self.dialled = true;
        self.connected_at = Some(now);
    }

    /// A dial has failed, or a dialled connection has ended.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.disconnected_at = Some(now);
        if self.connected_at.take().is_some_and(|since| now - since >= MIN_CONNECTION_TIME) {
            self.attempts = 0;
        }
        self.attempts = self.attempts.saturating_add(1);
    }

    /// It was found for a topic.
    pub(crate) fn found(&mut self, topic: Topic) {
        if !self.topics.contains(&topic) && self.topics.len() < MAX_TOPICS {
            self.topics.push(topic);
        }
    }

    /// Forgets past attempts of a peer that was found again, if it was tried too often or last dialled us.
    pub(crate) fn reset_if_stale(&mut self) {
        let prioritized = self.priority.is_none_or(|priority| priority >= Priority::Normal);
        if !prioritized || !self.dialled {
            self.dialled = false;
            self.proven = false;
            self.attempts = 0;
        }
    }

    /// How urgent it is to dial it, if it may be queued at all.
    pub(crate) fn update_priority(&mut self) -> Option<Priority> {
        if self.explicit && self.attempts > MAX_ATTEMPTS {
            self.attempts = MAX_ATTEMPTS;
        }
        if self.queued {
            return None;
        }
        self.priority = Some(match self.attempts {
            0 => Priority::Normal,
            1 => Priority::VeryHigh,
            2 => Priority::High,
            3 => Priority::Low,
            _ => return None,
        });
        self.priority
    }

    /// After which wait to try again, if at all.
    pub(crate) fn retry_tier(&self) -> Option<Tier> {
        match (self.attempts, self.proven) {
            (0, _) | (1, true) => Some(Tier::Short),
            (1, false) | (2, true) => Some(Tier::Medium),
            (2, false) | (3, _) => Some(Tier::Long),
            _ => self.explicit.then_some(Tier::Extra),
        }
    }

    /// Whether the peer may be forgotten while it is not connected.
    pub(crate) fn is_forgettable(&self) -> bool {
        !(self.queued || self.explicit || self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The steps of trace `swarm-priority`: a peer in a given state, its tier, then its priority.
    #[test]
    fn tiers_and_priorities_of_npm() {
        let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/dht.json")).unwrap();
        let traces = vectors["traces"].as_array().unwrap();
        let trace = traces.iter().find(|trace| trace["id"] == "swarm-priority").unwrap();
        let steps = trace["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 24);
        for step in steps {
            let mut peer = Peer {
                explicit: step["explicit"].as_bool().unwrap(),
                proven: step["proven"].as_bool().unwrap(),
                attempts: step["attempts"].as_u64().unwrap() as u32,
                ..Peer::default()
            };
            let tier = peer.retry_tier().map(|tier| match tier {
                Tier::Short => "S",
                Tier::Medium => "M",
                Tier::Long => "L",
                Tier::Extra => "X",
            });
            assert_eq!(tier, step["retryTier"].as_str(), "{step}");
            let priority = peer.update_priority();
            assert_eq!(priority.is_some(), step["mayQueue"].as_bool().unwrap(), "{step}");
            assert_eq!(priority.map(|priority| priority as u64), step["priority"].as_u64(), "{step}");
            assert_eq!(u64::from(peer.attempts), step["attemptsAfter"].as_u64().unwrap(), "{step}");
        }
    }

    #[test]
    fn a_long_connection_clears_the_count() {
        let start = Instant::now();
        let mut peer = Peer { attempts: 3, ..Peer::default() };
        peer.connected(start);
        peer.disconnected(start + MIN_CONNECTION_TIME);
        assert_eq!(peer.attempts, 1);
        peer.connected(start);
        peer.disconnected(start + MIN_CONNECTION_TIME - Duration::from_millis(1));
        assert_eq!(peer.attempts, 2);
        peer.disconnected(start + Duration::from_secs(60));
        assert_eq!(peer.attempts, 3);
    }

    #[test]
    fn found_again() {
        let mut low = Peer { attempts: 3, proven: true, dialled: true, ..Peer::default() };
        low.update_priority();
        low.reset_if_stale();
        assert_eq!((low.attempts, low.proven), (0, false));

        let mut high = Peer { attempts: 2, dialled: true, ..Peer::default() };
        high.update_priority();
        high.reset_if_stale();
        assert_eq!(high.attempts, 2);

        let mut came_to_us = Peer { attempts: 2, dialled: false, ..Peer::default() };
        came_to_us.update_priority();
        came_to_us.reset_if_stale();
        assert_eq!(came_to_us.attempts, 0);
    }

    #[test]
    fn nothing_is_queued_twice() {
        assert_eq!(Peer { queued: true, ..Peer::default() }.update_priority(), None);
    }
}
