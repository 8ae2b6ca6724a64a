//! The node's connections through tunnels, which it leaves together with the peer network.

use std::sync::Mutex;

use secret_stream::{KeyPair, PublicKey};
use tokio::sync::watch;

use super::peer::PeerConnection;
use super::presence::NetworkState;
use crate::sync::lock;
use crate::tunnel::{Tunnel, TunnelError, TunnelLink, TunnelRole, meet};

/// Meets peers at tunnels while the node is on the network.
#[derive(Debug)]
pub(crate) struct Meetings {
    presence: watch::Receiver<NetworkState>,
    links: Mutex<Vec<TunnelLink>>,
}

impl Meetings {
    pub(super) fn new(presence: watch::Receiver<NetworkState>) -> Self {
        Self { presence, links: Mutex::default() }
    }

    /// See [`meet`]. Waits while the node is away from the network.
    pub(crate) async fn meet(
        &self,
        tunnel: &Tunnel,
        keys: &KeyPair,
        peer: PublicKey,
        role: TunnelRole,
    ) -> Result<PeerConnection, TunnelError> {
        let mut presence = self.presence.clone();
        let _ = presence.wait_for(|presence| *presence == NetworkState::Active).await;
        let met = tokio::select! {
            met = meet(tunnel, keys, peer, role) => met?,
            _ = presence.wait_for(|presence| *presence != NetworkState::Active) => {
                return Err(TunnelError::Left);
            }
        };
        {
            let mut links = lock(&self.links);
            links.retain(TunnelLink::is_open);
            links.push(met.link.clone());
        }
        if *presence.borrow() != NetworkState::Active {
            self.leave();
        }
        Ok(PeerConnection::met(met, peer))
    }

    /// Ends all connections.
    pub(super) fn leave(&self) {
        lock(&self.links).drain(..).for_each(|link| link.destroy());
    }
}
