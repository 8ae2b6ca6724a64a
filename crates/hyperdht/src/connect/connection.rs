//! A stream to a peer, encrypted and proven.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use secret_stream::{PublicKey, SecretStream};
use tokio::time::sleep;

use super::path::ConnectionPath;
use super::route::Route;
use crate::address::is_near;

/// What is known of a connection, for callers that have given its stream away. Cheap to clone; does not keep
/// the connection open.
#[derive(Clone, Debug)]
pub struct Link {
    route: Route,
    /// Where the peer was at first.
    remote_addr: SocketAddr,
    took: Duration,
}

/// A connection to a peer that has proven its key.
pub struct Connection {
    /// Its messages.
    pub stream: SecretStream<udx::Stream>,
    link: Link,
}

/// An empty message is sent after this time without another one (hyperdht/index.js connectionKeepAlive): it
/// keeps NATs open and shows when a peer has vanished.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a peer may take to answer a question before it counts as gone: a few round trips of the slowest
/// path, with one packet lost.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// Time between those questions.
const ASK_EVERY: Duration = Duration::from_millis(500);

impl Connection {
    /// The connection of a stream that runs on `route`, made `took` after the dial or the peer's first
    /// message. `None` if the stream is not connected.
    pub(crate) fn new(mut stream: SecretStream<udx::Stream>, route: Route, took: Duration) -> Option<Self> {
        stream.set_keep_alive(Some(KEEP_ALIVE));
        let remote_addr = route.stream().remote_addr()?;
        Some(Self { stream, link: Link { route, remote_addr, took } })
    }

    /// The peer's key.
    pub fn remote_public_key(&self) -> PublicKey {
        self.stream.remote_public_key()
    }

    /// Our key.
    pub fn public_key(&self) -> PublicKey {
        self.stream.public_key()
    }

    /// Whether this side dialled.
    pub fn is_initiator(&self) -> bool {
        self.stream.is_initiator()
    }

    /// The same 64 bytes on both sides, and on no other connection.
    pub fn handshake_hash(&self) -> [u8; 64] {
        *self.stream.handshake_hash()
    }

    /// The address that the bytes go to now: the peer's, or the relay's.
    pub fn remote_addr(&self) -> SocketAddr {
        self.link.remote_addr()
    }

    /// The way that the bytes go now.
    pub fn path(&self) -> ConnectionPath {
        self.link.path()
    }

    /// What is known of the connection, for after the stream was given away.
    pub fn link(&self) -> Link {
        self.link.clone()
    }
}

impl Link {
    /// The way that the bytes go now.
    pub fn path(&self) -> ConnectionPath {
        self.route.path().unwrap_or(match is_near(self.remote_addr()) {
            true => ConnectionPath::Local,
            false => ConnectionPath::Open,
        })
    }

    /// The path in one word for people: `lan`, `direct`, `punched` or `relayed`. A peer at a private address
    /// is `lan`, however it was found.
    pub fn path_name(&self) -> &'static str {
        match self.path() {
            ConnectionPath::Local => "lan",
            ConnectionPath::Direct | ConnectionPath::Open if is_near(self.remote_addr()) => "lan",
            ConnectionPath::Direct | ConnectionPath::Open => "direct",
            ConnectionPath::Punched => "punched",
            ConnectionPath::Relayed => "relayed",
        }
    }

    /// Waits until the bytes do not go through a relay any more.
    pub async fn direct(&self) {
        self.route.direct().await;
    }

    /// The address that the bytes go to now: the peer's, or the relay's.
    pub fn remote_addr(&self) -> SocketAddr {
        self.route.stream().remote_addr().unwrap_or(self.remote_addr)
    }

    /// The smoothed round-trip time, once something sent was acknowledged.
    pub fn rtt(&self) -> Option<Duration> {
        self.route.stream().stats().rtt.map(Duration::from_micros)
    }

    /// Most bytes of an IP packet that leaves here for the peer in one piece, as far as the system knows: of
    /// its own link, and of what routers reported; 0 before anything was sent.
    pub fn first_hop_mtu(&self) -> u16 {
        self.route.stream().stats().first_hop
    }

    /// Asks the peer for a sign of life; false if nothing comes from it within three seconds. For when the
    /// network has changed or the machine slept.
    pub async fn is_alive(&self) -> bool {
        let heard = self.route.stream().stats().packets_received;
        self.route.stream().set_keepalive(Some(ASK_EVERY));
        sleep(ANSWER_WAIT).await;
        self.route.stream().set_keepalive(None);
        self.route.stream().stats().packets_received != heard
    }

    /// Ends the connection at once.
    pub fn destroy(&self) {
        self.route.stream().destroy();
    }

    /// How long it took to connect, since the dial or the peer's first message.
    pub fn took(&self) -> Duration {
        self.took
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("is_initiator", &self.is_initiator())
            .field("remote_addr", &self.remote_addr())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
