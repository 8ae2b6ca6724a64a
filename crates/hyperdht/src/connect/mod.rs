//! How peers connect: what they tell each other, and who dials whom (spec/connect.md).
//!
//! # Layout
//! - `payload`, `message`, `punch`, `peer_address`: codecs
//! - `noise`: the handshake with its typed payloads
//! - `path`: which way a client goes; `client`: goes it
//! - `handshakes`: what a server remembers; `incoming`: one client's way to it; `server`: all
//! - `holepunch`: how two peers behind NATs open them for each other
//! - `reuse`: holes that are used again
//! - `announcer`: keeps a server findable; `local`: addresses that lead to this host
//! - `route`: the first way that opens connects a stream; `ways`: those under way, a relay among them
//! - `connection`, `error`: what comes of it

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, join_all};
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::Semaphore;

pub mod error;
pub mod message;
pub mod noise;
pub mod payload;
pub mod peer_address;
pub mod punch;

pub(crate) mod announcer;
mod client;
mod connection;
mod handshakes;
mod holepunch;
mod incoming;
mod local;
mod path;
mod reuse;
mod route;
mod server;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod vectors;
mod ways;

pub use client::ConnectOptions;
pub(crate) use client::connect_directly;
pub use connection::{Connection, ConnectionPath, Link};
pub use error::{ConnectError, ListenError};
pub use peer_address::PeerAddress;
pub use server::{FirewallHook, FirewallRequest, RelayHook, Server, ServerOptions};

use crate::Dht;
use crate::handle::Handle;
use crate::store::Generations;
use holepunch::Throttle;
use local::LocalAddresses;
use reuse::Holes;
use server::Control;

/// Clients that sockets are held for at once, until they have come or ten seconds have passed.
/// Each socket is a file of the process, which may have a thousand, and costs a few pings.
const MAX_PUNCHES: usize = 128;
/// Peers whose relays are remembered, so that connecting again needs no query.
const MAX_KNOWN_RELAYS: usize = 512;
/// How long: after a day, another query costs little.
const KNOWN_RELAYS_AGE: Duration = Duration::from_secs(24 * 60 * 60);

impl Dht {
    /// Starts a server that peers reach by the public key of `keys`. Returns once it was
    /// announced, or once that has failed; it is tried again for as long as the server lives.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn listen(&self, keys: KeyPair, options: ServerOptions) -> Result<Server, ListenError> {
        Server::listen(self.context(), keys, options).await
    }

    /// Connects to the server of a public key. Dropping the future gives up.
    ///
    /// # Errors
    /// [`ConnectError`], after ten to twenty seconds at the latest in most cases.
    pub async fn connect(
        &self,
        peer: impl Into<PeerAddress>,
        options: ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        // Boxed: it is large, and callers hold it inside futures of their own.
        Box::pin(client::connect(&self.context(), self.key_pair(), peer.into(), options)).await
    }
}

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
    local_addresses: LocalAddresses,
    /// How often many probes are sent.
    throttle: Throttle,
    /// Those that lead to peers.
    holes: Holes,
    /// For servers' sockets to punch with.
    punches: Arc<Semaphore>,
    /// Of all connections that may still be open.
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
    /// Closes all servers: their announces are taken back.
    pub async fn close(&self) {
        let servers = self.servers();
        join_all(servers.iter().map(Control::close)).await;
    }

    /// Makes all servers take their announces back and answer nobody, and ends all connections.
    pub async fn suspend(&self) {
        let servers = self.servers();
        join_all(servers.iter().map(Control::suspend)).await;
        for stream in lock(&self.streams).drain(..) {
            stream.destroy();
        }
    }

    /// Lets all servers be found again.
    pub async fn resume(&self) {
        let servers = self.servers();
        join_all(servers.iter().map(Control::resume)).await;
    }

    fn add(&self, server: Control) {
        let mut servers = lock(&self.servers);
        servers.retain(|server| !server.is_closed());
        servers.push(server);
    }

    fn add_stream(&self, stream: udx::StreamHandle) {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.closed().now_or_never().is_none());
        streams.push(stream);
    }

    fn servers(&self) -> Vec<Control> {
        lock(&self.servers).clone()
    }

    fn known_relays(&self, peer: &PublicKey) -> Vec<SocketAddrV4> {
        lock(&self.relays).get(Instant::now(), peer).cloned().unwrap_or_default()
    }

    fn remember_relays(&self, peer: PublicKey, relays: Vec<SocketAddrV4>) {
        lock(&self.relays).insert(Instant::now(), peer, relays);
    }
}

/// No code panics while it holds one of these locks; if some did, what it left is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fresh randomness for keys and nonces.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
