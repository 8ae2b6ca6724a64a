//! The sender's end of a tunnel: where a recipient that can be reached by nothing else finds it.

use std::sync::Arc;
use std::time::Duration;

use secret_stream::{KeyPair, PublicKey};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::meetings::Meetings;
use super::peer::PeerConnection;
use super::udp::Udp;
use crate::reconnect::redial_pause;
use crate::tunnel::{Tunnel, TunnelRole};

/// How long the recipient has to come by UDP before it is waited for at the tunnel as well.
pub(crate) const HEAD_START: Duration = Duration::from_secs(1);

/// Waits at a tunnel for one recipient.
pub(super) struct TunnelEnd {
    tunnel: Option<Tunnel>,
    meetings: Arc<Meetings>,
    udp: watch::Receiver<Udp>,
    keys: KeyPair,
    peer: Option<PublicKey>,
    /// It came there last, so there it will come again.
    was_met: bool,
    waiting: Option<AbortOnDropHandle<PeerConnection>>,
}

impl TunnelEnd {
    /// Waits for nobody yet.
    pub(super) fn new(
        tunnel: Option<Tunnel>,
        meetings: Arc<Meetings>,
        udp: watch::Receiver<Udp>,
        keys: KeyPair,
    ) -> Self {
        Self { tunnel, meetings, udp, keys, peer: None, was_met: false, waiting: None }
    }

    /// Waits for this peer from now on, and for nobody else.
    pub(super) fn expect(&mut self, peer: Option<PublicKey>) {
        if self.peer != peer {
            (self.peer, self.was_met, self.waiting) = (peer, false, None);
        }
    }

    /// Does not wait any more, until [`Self::accept`]: the peer has come another way.
    pub(super) fn leave(&mut self) {
        (self.was_met, self.waiting) = (false, None);
    }

    /// The peer, met at the tunnel. May be cancelled, and called again. Waits for ever where there is no
    /// tunnel, or nobody who knows it.
    pub(super) async fn accept(&mut self) -> PeerConnection {
        let (Some(tunnel), Some(peer)) = (&self.tunnel, self.peer) else {
            return std::future::pending().await;
        };
        let waiting = self.waiting.get_or_insert_with(|| {
            let (tunnel, keys, meetings) = (tunnel.clone(), self.keys.clone(), self.meetings.clone());
            let head_start = (!self.was_met).then(|| self.udp.clone());
            AbortOnDropHandle::new(tokio::spawn(wait(meetings, tunnel, keys, peer, head_start)))
        });
        let met = waiting.await;
        self.waiting = None;
        match met {
            Ok(connection) => {
                self.was_met = true;
                connection
            }
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn wait(
    meetings: Arc<Meetings>,
    tunnel: Tunnel,
    keys: KeyPair,
    peer: PublicKey,
    head_start: Option<watch::Receiver<Udp>>,
) -> PeerConnection {
    if let Some(udp) = head_start {
        give_head_start(udp).await;
    }
    let mut tries = 0;
    loop {
        match meetings.meet(&tunnel, &keys, peer, TunnelRole::Responder).await {
            Ok(connection) => return connection,
            Err(error) => tracing::debug!("the recipient was not met at the tunnel: {error}"),
        }
        sleep(redial_pause(tries)).await;
        tries += 1;
    }
}

/// Lets UDP be tried first, where it leads anywhere.
pub(crate) async fn give_head_start(mut udp: watch::Receiver<Udp>) {
    tokio::select! {
        () = sleep(HEAD_START) => {}
        Ok(_) = udp.wait_for(|udp| *udp == Udp::Blocked) => {}
    }
}
