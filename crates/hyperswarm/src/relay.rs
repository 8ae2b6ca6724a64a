//! The relay of a swarm, and when it is named.

use hyperdht::Network;
use secret_stream::{KeyPair, PublicKey};

/// A third peer that connections may go through.
#[derive(Clone, Debug)]
pub struct RelayThrough {
    /// The relay's key.
    pub public_key: PublicKey,
    /// Name it beside every attempt. Otherwise as npm hyperswarm does with a key: to a peer that
    /// could not be reached directly before, and while our NAT shows everybody another port.
    pub always: bool,
    /// Who the swarm is to the relay; as whom it connects if `None`.
    pub keys: Option<KeyPair>,
}

impl RelayThrough {
    /// A relay that is named where npm hyperswarm would name it.
    pub fn when_needed(public_key: PublicKey) -> Self {
        Self { public_key, always: false, keys: None }
    }

    /// A relay that is named beside every attempt.
    pub fn always(public_key: PublicKey) -> Self {
        Self { public_key, always: true, keys: None }
    }

    /// The key to name now; `is_forced` if the peer could not be reached directly before.
    pub(crate) fn choose(&self, is_forced: bool, network: &Network) -> Option<PublicKey> {
        let is_randomized = network.seen_as.is_some_and(|address| address.port() == 0);
        (self.always || is_forced || is_randomized).then_some(self.public_key)
    }
}
