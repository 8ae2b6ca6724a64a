//! The relay of a swarm, and when it is named.

use hyperdht::Network;
use secret_stream::{KeyPair, PublicKey};

/// A third peer that connections may go through.
#[derive(Clone, Debug)]
pub struct RelayThrough {
    /// The relay's key.
    pub public_key: PublicKey,
    /// Name the relay in every attempt. If false, name it as npm hyperswarm does: to a peer that could not be
    /// reached directly before, and while our NAT uses another port for each destination.
    pub always: bool,
    /// The swarm's key pair towards the relay. `None`: the one it connects with.
    pub keys: Option<KeyPair>,
}

impl RelayThrough {
    /// A relay that is named only when npm hyperswarm would name it.
    pub fn when_needed(public_key: PublicKey) -> Self {
        Self { public_key, always: false, keys: None }
    }

    /// A relay that is named in every attempt.
    pub fn always(public_key: PublicKey) -> Self {
        Self { public_key, always: true, keys: None }
    }

    /// The key to name now; `is_forced` if the peer could not be reached directly before.
    pub(crate) fn choose(&self, is_forced: bool, network: &Network) -> Option<PublicKey> {
        let is_randomized = network.seen_as.is_some_and(|address| address.port() == 0);
        (self.always || is_forced || is_randomized).then_some(self.public_key)
    }
}
