//! Where the recipient of one transfer finds its sender: a key, and the transfer's topic.

use std::fmt;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyperdht::Dht;
use hyperdht::connect::{Connection, Server, ServerOptions};
use hyperswarm::{Discovery, JoinOptions, RelayThrough, Swarm, SwarmConfig};
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::network::Network;
use crate::error::{Error, Result};
use crate::limits::LEAVE_LIMIT;
use crate::pump::{self, PumpError};
use crate::sync::Spawner;

/// How long an unknown key's handshake is held while the task is read: the dial may overtake the event.
const HOLD: Duration = Duration::from_secs(3);

/// The shortest time between two readings of the task for the sake of unknown keys.
const KNOCK_INTERVAL: Duration = Duration::from_secs(1);

/// How long an offer or a claim waits for its topic to be announced. Past it it is made all the same, and the
/// announcement goes on.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(10);

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
        spawner: &Spawner,
        key_pair: KeyPair,
        topic: Topic,
    ) -> Result<Self> {
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
            dht.listen(key_pair, options).await.map_err(Error::network)
        };
        let announce = async {
            let Topic::Now(topic) = topic else { return Ok(None) };
            let (swarm, discovery) = join(dht, topic, topic_relay.clone());
            announced(&discovery).await;
            Ok(Some(swarm))
        };
        let (server, swarm) = tokio::try_join!(listen, announce)?;
        let (Topic::Now(topic) | Topic::Later(topic)) = topic;
        Ok(Self {
            dht: dht.clone(),
            spawner: spawner.clone(),
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

    /// Answers this key from now on, and no other.
    pub(crate) fn admit(&self, key: PublicKey) {
        self.admission.admitted.send_replace(Admitted { peer: Some(key), latecomer: None });
    }

    /// The next connection to the key; `None` once the network was left.
    pub(crate) async fn accept(&mut self) -> Option<Connection> {
        self.server.accept().await
    }

    /// The next connection that this peer makes. Who came too late is told so.
    pub(crate) async fn accept_from(&mut self, key: PublicKey) -> Connection {
        loop {
            match self.server.accept().await {
                Some(connection) if connection.remote_public_key() == key => return connection,
                Some(connection) => {
                    let stream = pump::Stream::from(connection.stream);
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

/// Waits until nodes know that this side is on a topic, and whom they found there; not for ever.
pub(crate) async fn announced(discovery: &Discovery) {
    if timeout(ANNOUNCE_LIMIT, discovery.flushed()).await.is_err() {
        tracing::debug!("the topic is not announced yet");
    }
}
