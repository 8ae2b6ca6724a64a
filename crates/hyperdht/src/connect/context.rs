//! What servers and clients of one node share.

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, join_all};
use secret_stream::PublicKey;
use tokio::sync::Semaphore;

use super::control::Control;
use super::holepunch::throttle::Throttle;
use super::local::LocalAddresses;
use super::socket_reuse::Holes;
use crate::generations::Generations;
use crate::handle::Handle;
use crate::sync::lock;

/// Clients for which sockets are held at once, each until it has come or ten seconds have passed. A socket is
/// an open file of the process, which may have a thousand, and costs a few pings.
const MAX_PUNCHES: usize = 128;
/// Peers whose relays are remembered, so that connecting again needs no query.
const MAX_KNOWN_RELAYS: usize = 512;
/// How long they are remembered: after a day, another query costs little.
const KNOWN_RELAYS_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What servers and clients of one node work with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub handle: Handle,
    pub shared: Arc<Shared>,
}

/// What servers and clients of one node share.
#[derive(Debug)]
pub(crate) struct Shared {
    servers: Mutex<Vec<Control>>,
    relays: Mutex<Generations<PublicKey, Vec<SocketAddrV4>>>,
    pub local_addresses: LocalAddresses,
    /// Limits how often this node probes random ports.
    pub throttle: Throttle,
    /// Open holes to peers.
    pub holes: Holes,
    /// Permits to hold sockets for a client, [`MAX_PUNCHES`] in all.
    pub punches: Arc<Semaphore>,
    /// The streams of all connections that may still be open.
    streams: Mutex<Vec<udx::StreamHandle>>,
}

impl Default for Shared {
    fn default() -> Self {
        let relays = Generations::new(Instant::now(), MAX_KNOWN_RELAYS, KNOWN_RELAYS_AGE);
        Self {
            servers: Mutex::default(),
            relays: Mutex::new(relays),
            local_addresses: LocalAddresses::default(),
            throttle: Throttle::default(),
            holes: Holes::default(),
            punches: Arc::new(Semaphore::new(MAX_PUNCHES)),
            streams: Mutex::default(),
        }
    }
}

impl Shared {
    /// Closes all servers and withdraws their announces.
    pub(crate) async fn close(&self) {
        let servers = self.servers();
        join_all(servers.iter().map(Control::close)).await;
    }

    /// Makes all servers withdraw their announces and stop answering, and ends all connections.
    pub(crate) async fn suspend(&self) {
        let servers = self.servers();
        join_all(servers.iter().map(Control::suspend)).await;
        for stream in lock(&self.streams).drain(..) {
            stream.destroy();
        }
    }

    /// Lets all servers be found again.
    pub(crate) async fn resume(&self) {
        let servers = self.servers();
        join_all(servers.iter().map(Control::resume)).await;
    }

    pub(crate) fn add(&self, server: Control) {
        let mut servers = lock(&self.servers);
        servers.retain(|server| !server.is_closed());
        servers.push(server);
    }

    pub(crate) fn add_stream(&self, stream: udx::StreamHandle) {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.closed().now_or_never().is_none());
        streams.push(stream);
    }

    fn servers(&self) -> Vec<Control> {
        lock(&self.servers).clone()
    }

    pub(crate) fn known_relays(&self, peer: &PublicKey) -> Vec<SocketAddrV4> {
        lock(&self.relays).get(Instant::now(), peer).cloned().unwrap_or_default()
    }

    pub(crate) fn remember_relays(&self, peer: PublicKey, relays: Vec<SocketAddrV4>) {
        lock(&self.relays).insert(Instant::now(), peer, relays);
    }
}
