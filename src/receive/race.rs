//! One dial by every way that there may be: over UDP, and a little later at the tunnel. The first that opens
//! carries; what UDP opens later takes over.

use std::sync::Arc;
use std::time::Duration;

use hyperdht::Dht;
use hyperdht::connect::{ConnectError, ConnectOptions, Connection};
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::connection::{Meetings, PeerConnection, Udp, give_head_start};
use crate::error::Step;
use crate::tunnel::{Tunnel, TunnelRole};

/// The pause before UDP is tried again while the tunnel carries, in milliseconds, and how often it is
/// doubled: up to a minute.
const FIRST_PAUSE_MS: u64 = 500;
const DOUBLED: u32 = 7;

/// A dial over UDP that goes on by itself, and ends when this is dropped.
pub(super) struct UdpDial {
    peer: PublicKey,
    dial: AbortOnDropHandle<Result<Connection, ConnectError>>,
}

/// The way by the tunnel.
pub(super) struct TunnelWay {
    pub(super) meetings: Arc<Meetings>,
    pub(super) tunnel: Tunnel,
    pub(super) keys: KeyPair,
    /// Where UDP leads nowhere, nothing is waited for.
    pub(super) udp: watch::Receiver<Udp>,
}

/// Why no way opened: the last step of it, and what it came to.
pub(super) type DialFailure = (Step, String);

impl UdpDial {
    pub(super) fn begin(dht: &Dht, peer: PublicKey, options: ConnectOptions) -> Self {
        let dht = dht.clone();
        let dial = tokio::spawn(async move { dht.connect(peer, options).await });
        Self { peer, dial: AbortOnDropHandle::new(dial) }
    }

    /// Whether it is this peer that is dialled.
    pub(super) fn is_to(&self, peer: PublicKey) -> bool {
        self.peer == peer
    }

    /// What it comes to. May be cancelled, and called again until it has returned.
    pub(super) async fn connected(&mut self) -> Result<PeerConnection, DialFailure> {
        match (&mut self.dial).await {
            Ok(Ok(connection)) => Ok(connection.into()),
            Ok(Err(error)) => {
                let text = error.to_string();
                Err((error.into(), text))
            }
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Dials a peer over UDP again and again, while the tunnel carries: it may be that UDP leads somewhere only
/// now, or that the peer was not to be found yet.
pub(super) struct UdpRedial {
    dht: Dht,
    peer: PublicKey,
    options: ConnectOptions,
    udp: watch::Receiver<Udp>,
    /// How often it has dialled.
    done: u32,
}

impl UdpRedial {
    pub(super) fn new(
        dht: &Dht,
        peer: PublicKey,
        options: ConnectOptions,
        udp: watch::Receiver<Udp>,
    ) -> Self {
        Self { dht: dht.clone(), peer, options, udp, done: 0 }
    }

    /// Begins the next dial when there is something to hope for; the one before it failed in this step, if
    /// there was one.
    pub(super) async fn begin(&mut self, failed: Option<Step>) -> UdpDial {
        let mut network = self.dht.network();
        let changes = network.borrow_and_update().changes;
        sleep(Duration::from_millis(FIRST_PAUSE_MS << self.done.min(DOUBLED))).await;
        // What NATs do not let through now they will not let through later.
        if failed == Some(Step::Punch) {
            let _ = network.wait_for(|network| network.changes != changes).await;
        }
        let _ = self.udp.wait_for(|udp| *udp == Udp::Works).await;
        self.done += 1;
        UdpDial::begin(&self.dht, self.peer, self.options.clone())
    }
}

/// The first connection to the peer that opens. If that is one by the tunnel, the dial over UDP goes on, and
/// comes back beside it.
pub(super) async fn race(
    mut udp: UdpDial,
    tunnel: Option<TunnelWay>,
    peer: PublicKey,
) -> Result<(PeerConnection, Option<UdpDial>), DialFailure> {
    let Some(tunnel) = tunnel else {
        return udp.connected().await.map(|connection| (connection, None));
    };
    let udp_failed = CancellationToken::new();
    let mut met = std::pin::pin!(by_tunnel(tunnel, peer, udp_failed.clone()));
    let (mut of_udp, mut of_tunnel) = (None, None);
    loop {
        tokio::select! {
            connected = udp.connected(), if of_udp.is_none() => match connected {
                Ok(connection) => return Ok((connection, None)),
                Err((_, why)) => {
                    udp_failed.cancel();
                    of_udp = Some(why);
                }
            },
            met = &mut met, if of_tunnel.is_none() => match met {
                Ok(connection) => return Ok((connection, of_udp.is_none().then_some(udp))),
                Err(why) => of_tunnel = Some(why),
            },
        }
        if let (Some(of_udp), Some(of_tunnel)) = (&of_udp, &of_tunnel) {
            return Err((Step::Tunnel, format!("{of_udp}; {of_tunnel}")));
        }
    }
}

async fn by_tunnel(
    way: TunnelWay,
    peer: PublicKey,
    udp_failed: CancellationToken,
) -> Result<PeerConnection, String> {
    let TunnelWay { meetings, tunnel, keys, udp } = way;
    udp_failed.run_until_cancelled(give_head_start(udp)).await;
    let met = meetings.meet(&tunnel, &keys, peer, TunnelRole::Initiator).await;
    met.map_err(|error| error.to_string())
}
