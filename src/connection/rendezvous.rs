//! Where the recipient of one transfer finds its sender: a key, and the transfer's topic.

use std::fmt;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyperdht::Dht;
use hyperdht::connect::{Server, ServerOptions};
use hyperswarm::{Discovery, JoinOptions, RelayThrough, Swarm, SwarmConfig};
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::network::Network;
use super::peer::PeerConnection;
use super::tunnel_end::TunnelEnd;
use super::udp::Udp;
use crate::error::{Error, Result};
use crate::limits::LEAVE_LIMIT;
use crate::offer::P2p;
use crate::pump::PumpError;
use crate::sync::Spawner;
use crate::tunnel::Tunnel;

/// How long an unknown key's handshake is held while the task is read: the dial may overtake the event.
const HOLD: Duration = Duration::from_secs(3);

/// The shortest time between two readings of the task for the sake of unknown keys.
const KNOCK_INTERVAL: Duration = Duration::from_secs(1);

/// How long an offer or a claim waits for its topic to be announced. Past it it is made all the same, and the
/// announcement goes on.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(10);

/// How long nothing moves on a connection before its peer is waited for at the tunnel too: it may have lost
/// what this side still holds for alive.
const SILENCE: Duration = Duration::from_secs(5);

/// When a transfer's topic is announced.
pub(crate) enum Topic {
    /// Before the offer: an original may look once, just after it.
    Now([u8; 32]),
    /// When it turns out to be needed, for a recipient that took a file by a key a moment ago. A connection
    /// that was kept needs none either: see [`Rendezvous::renew`].
    Later([u8; 32]),
}

/// The sender's side of a transfer on the network, from before the offer to the end.
pub(crate) struct Rendezvous {
    dht: Dht,
    spawner: Spawner,
    key_pair: KeyPair,
    server: Server,
    admission: Arc<Admission>,
    swarm: Option<Swarm>,
    topic: [u8; 32],
    /// For peers on the topic.
    relay: Option<RelayThrough>,
    tunnel: TunnelEnd,
}

/// Whose handshake the key's server answers; nobody's as it is made.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    admitted: watch::Sender<Admitted>,
    /// Somebody knocks whose key is not known yet: the task should be read now.
    knock: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Admitted {
    /// The peer.
    peer: Option<PublicKey>,
    /// Who is let in to be told that it came too late.
    latecomer: Option<PublicKey>,
}

impl Admitted {
    fn holds(&self, key: PublicKey) -> bool {
        self.peer == Some(key) || self.latecomer == Some(key)
    }
}

impl Rendezvous {
    /// Listens on the key, and announces the topic if it is to be found by now.
    pub(crate) async fn open(
        dht: &Dht,
        network: &Network,
        tunnel: Option<Tunnel>,
        spawner: &Spawner,
        key_pair: KeyPair,
        topic: Topic,
    ) -> Result<Self> {
        let udp = network.udp();
        let relay = network.relay();
        let topic_relay = network.relay_of_swarm(key_pair.clone());
        let admission = Arc::new(Admission::default());
        let keys = key_pair.clone();
        let listen = async {
            let gate = admission.clone();
            let options = ServerOptions {
                firewall: Some(Arc::new(move |request| {
                    let gate = gate.clone();
                    let key = request.remote_public_key;
                    Box::pin(async move { !gate.admits(key).await })
                })),
                relay_through: relay.map(|relay| Arc::new(move || Some(relay)) as _),
                ..Default::default()
            };
            let mut server = dht.listen_at_once(key_pair, options).await.map_err(Error::network)?;
            let mut udp = udp.clone();
            tokio::select! {
                () = server.announced() => {}
                _ = udp.wait_for(|udp| *udp == Udp::Blocked) => {}
            }
            Ok::<_, Error>(server)
        };
        let announce = async {
            let Topic::Now(topic) = topic else { return Ok(None) };
            let (swarm, discovery) = join(dht, topic, topic_relay.clone());
            announced(&discovery, udp.clone()).await;
            Ok(Some(swarm))
        };
        let (server, swarm) = tokio::try_join!(listen, announce)?;
        let (Topic::Now(topic) | Topic::Later(topic)) = topic;
        Ok(Self {
            dht: dht.clone(),
            spawner: spawner.clone(),
            tunnel: TunnelEnd::new(tunnel, network.meetings(), udp, keys.clone()),
            key_pair: keys,
            server,
            admission,
            swarm,
            topic,
            relay: topic_relay,
        })
    }

    /// Makes ready for another transfer with a peer that has just proven to be of ours: the key stays, and
    /// nobody is admitted yet. The topic is announced only when it turns out to be needed.
    pub(crate) fn renew(&mut self, topic: [u8; 32]) {
        self.topic = topic;
        self.admission.admitted.send_replace(Admitted::default());
        self.tunnel.expect(None);
        // Who came in for the transfer before has no part in this one.
        while let Some(Some(_)) = self.server.accept().now_or_never() {}
    }

    /// The key that a recipient of ours dials.
    pub(crate) fn public_key(&self) -> PublicKey {
        self.key_pair.public_key()
    }

    /// The key pair that is listened on.
    pub(crate) fn key_pair(&self) -> &KeyPair {
        &self.key_pair
    }

    /// DHT nodes that relay a handshake to it.
    pub(crate) fn relay_addresses(&self) -> Vec<SocketAddrV4> {
        self.server.relay_addresses()
    }

    /// Who may come in, and who waits before the door.
    pub(crate) fn admission(&self) -> Arc<Admission> {
        self.admission.clone()
    }

    /// Answers this peer's key from now on, and no other.
    pub(crate) fn admit(&mut self, peer: &P2p) {
        self.admission.admitted.send_replace(Admitted { peer: Some(peer.key), latecomer: None });
        self.tunnel.expect(Some(peer.key).filter(|_| peer.features.tunnel));
    }

    /// The next connection to the key, by whichever way; `None` once the network was left.
    pub(crate) async fn accept(&mut self) -> Option<PeerConnection> {
        tokio::select! {
            connection = self.server.accept() => {
                self.tunnel.leave();
                connection.map(PeerConnection::from)
            }
            connection = self.tunnel.accept() => Some(connection),
        }
    }

    /// The next connection that this peer makes, while it has one on which `progress` moves: by UDP, and
    /// where nothing moves by the tunnel as well. Who came too late is told so.
    pub(crate) async fn accept_from(
        &mut self,
        key: PublicKey,
        mut progress: watch::Receiver<u64>,
    ) -> PeerConnection {
        let mut silent_at = Instant::now() + SILENCE;
        let mut is_silent = false;
        loop {
            let connection = tokio::select! {
                connection = self.server.accept() => connection.map(PeerConnection::from),
                connection = self.tunnel.accept(), if is_silent => Some(connection),
                Ok(()) = progress.changed() => {
                    (silent_at, is_silent) = (Instant::now() + SILENCE, false);
                    continue;
                }
                () = sleep_until(silent_at), if !is_silent => {
                    is_silent = true;
                    continue;
                }
            };
            match connection {
                Some(connection) if connection.peer_key == key => return connection,
                Some(PeerConnection { stream, .. }) => {
                    self.spawner.spawn(stream.end_with(PumpError::Superseded));
                }
                // The server has ended, and with it the connection that is being served.
                None => std::future::pending().await,
            }
        }
    }

    /// The topic, and the swarm on it, joined now if it was not.
    pub(crate) fn swarm(&mut self) -> (&Swarm, [u8; 32]) {
        let swarm = self.swarm.get_or_insert_with(|| join(&self.dht, self.topic, self.relay.clone()).0);
        (swarm, self.topic)
    }

    /// Leaves the topic, in the background.
    pub(crate) fn leave_topic(&mut self) {
        if let Some(swarm) = self.swarm.take() {
            self.spawner.spawn(async move { timeout(LEAVE_LIMIT, swarm.destroy()).await });
        }
    }

    /// Stops listening and withdraws the announcements, in the background: that takes round trips that no
    /// transfer need wait for.
    pub(crate) fn close(mut self) {
        self.leave_topic();
        let spawner = self.spawner.clone();
        spawner.spawn(async move { timeout(LEAVE_LIMIT, self.server.close()).await });
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").field("admission", &self.admission).finish_non_exhaustive()
    }
}

impl Admission {
    /// Answers this key as well, of a process of the peer's actor that came too late: see
    /// [`Rendezvous::accept_from`].
    pub(crate) fn turn_away(&self, key: PublicKey) {
        self.admitted.send_modify(|admitted| admitted.latecomer = Some(key));
    }

    /// Waits until a key knocks that nobody has named yet: the task may name it by now. Comes back no sooner
    /// than some time after the task was read last.
    pub(crate) async fn knocked_after(&self, last_read: Instant) {
        self.knock.notified().await;
        sleep_until(last_read + KNOCK_INTERVAL).await;
    }

    /// Whether a handshake with this key goes on; waits a little for the claim that names it.
    async fn admits(&self, key: PublicKey) -> bool {
        let mut admitted = self.admitted.subscribe();
        if admitted.borrow_and_update().holds(key) {
            return true;
        }
        self.knock.notify_one();
        matches!(timeout(HOLD, admitted.wait_for(|admitted| admitted.holds(key))).await, Ok(Ok(_)))
    }
}

/// Waits on a topic, with a key of its own, so that what comes in there is never taken for the recipient's
/// own connection.
fn join(dht: &Dht, topic: [u8; 32], relay_through: Option<RelayThrough>) -> (Swarm, Discovery) {
    let config = SwarmConfig::new(dht.clone(), KeyPair::generate());
    let swarm = Swarm::new(SwarmConfig { relay_through, ..config });
    let discovery = swarm.join(topic, JoinOptions { server: true, client: false, ..Default::default() });
    (swarm, discovery)
}

/// Waits until nodes know that this side is on a topic, and whom they found there; not for ever, and not
/// where no node can be reached.
pub(crate) async fn announced(discovery: &Discovery, mut udp: watch::Receiver<Udp>) {
    let is_announced = tokio::select! {
        announced = timeout(ANNOUNCE_LIMIT, discovery.flushed()) => announced.is_ok(),
        _ = udp.wait_for(|udp| *udp == Udp::Blocked) => false,
    };
    if !is_announced {
        tracing::debug!("the topic is not announced yet");
    }
}
