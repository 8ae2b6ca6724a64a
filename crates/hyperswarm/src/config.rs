//! How a swarm, and a session on one of its topics, behaves.

use std::fmt;

use hyperdht::Dht;
use secret_stream::KeyPair;

use crate::{firewall::Firewall, relay::RelayThrough};

/// How a swarm behaves.
#[derive(Clone)]
pub struct SwarmConfig {
    /// The node to find and be found through. Several swarms may share one.
    pub dht: Dht,
    /// Who the swarm is. Swarms on one node need key pairs of their own.
    pub key_pair: KeyPair,
    /// No further peers of topics are dialled while so many are connected. Default: 64.
    pub max_peers: usize,
    /// Peers dialled at once. Default: 3.
    pub max_parallel: usize,
    /// Default: everybody is welcome.
    pub firewall: Option<Firewall>,
    /// Where connections may go if no direct way opens. Default: nowhere.
    pub relay_through: Option<RelayThrough>,
    /// Suspend, resume and destroy the node with the swarm. Default: false.
    pub owns_dht: bool,
}

impl SwarmConfig {
    /// The defaults.
    pub fn new(dht: Dht, key_pair: KeyPair) -> Self {
        Self {
            dht,
            key_pair,
            max_peers: 64,
            max_parallel: 3,
            firewall: None,
            relay_through: None,
            owns_dht: false,
        }
    }
}

impl fmt::Debug for SwarmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmConfig")
            .field("key_pair", &self.key_pair)
            .field("max_peers", &self.max_peers)
            .field("max_parallel", &self.max_parallel)
            .field("firewall", &self.firewall.is_some())
            .field("relay_through", &self.relay_through)
            .field("owns_dht", &self.owns_dht)
            .finish_non_exhaustive()
    }
}

/// What to do on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinOptions {
    /// Announce ourselves, and accept those who dial. Default: true.
    pub server: bool,
    /// Look for others, and dial them. Default: true.
    pub client: bool,
    /// Dial at most so many peers that one look for them finds. Default: no limit but the swarm's.
    pub limit: Option<usize>,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self { server: true, client: true, limit: None }
    }
}
