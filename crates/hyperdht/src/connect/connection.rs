//! A stream to a peer, encrypted and proven.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use secret_stream::{PublicKey, SecretStream};
use tokio::time::sleep;

use super::path::ConnectionPath;
use super::route::Route;
use crate::address::is_near;

/// What is known of a connection, also once its stream is in other hands. Cheap to clone; keeps
/// nothing open.
#[derive(Clone, Debug)]
pub struct Link {
    route: Route,
    /// Where the peer was at first.
    remote_addr: SocketAddr,
    took: Duration,
}

/// A connection to a peer whose key is proven: what it sent first has verified.
pub struct Connection {
    /// Its messages.
    pub stream: SecretStream<udx::Stream>,
    link: Link,
}

/// A message of no bytes is sent when nothing else was for this long (hyperdht/index.js
/// connectionKeepAlive): NATs stay open, and a vanished peer is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a peer that is asked may take to answer, before it counts as gone: a few round trips
/// of the slowest path, with a loss among them.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// Time between those questions.
const ASK_EVERY: Duration = Duration::from_millis(500);

impl Connection {
    /// The connection whose stream has taken this route, `took` after the dial or the peer's
    /// first message; `None` if it has taken none.
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

    /// Where the peer is now, or whoever relays to it.
    pub fn remote_addr(&self) -> SocketAddr {
        self.link.remote_addr()
    }

    /// The way that the bytes go now.
    pub fn path(&self) -> ConnectionPath {
        self.link.path()
    }

    /// What is known of the connection, for when its stream is used up.
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

    /// The same in one word for people: `lan`, `direct`, `punched` or `relayed`. Who is reached
    /// at a private address is near, however it was found.
    pub fn path_name(&self) -> &'static str {
        match self.path() {
            ConnectionPath::Local => "lan",
            ConnectionPath::Direct | ConnectionPath::Open if is_near(self.remote_addr()) => "lan",
            ConnectionPath::Direct | ConnectionPath::Open => "direct",
            ConnectionPath::Punched => "punched",
            ConnectionPath::Relayed => "relayed",
        }
    }

    /// Waits until the bytes go no more through a relay.
    pub async fn direct(&self) {
        self.route.direct().await;
    }

    /// Where the peer is now, or whoever relays to it.
    pub fn remote_addr(&self) -> SocketAddr {
        self.route.stream().remote_addr().unwrap_or(self.remote_addr)
    }

    /// The smoothed round-trip time, once something sent was acknowledged.
    pub fn rtt(&self) -> Option<Duration> {
        self.route.stream().stats().rtt.map(Duration::from_micros)
    }

    /// Asks the peer for a sign of life; false if none of any kind comes within three seconds.
    /// For when there is reason to doubt: the network has changed, or the machine slept.
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

    /// How long connecting took: since the dial, or since the peer's first message.
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
