//! A stream to a peer, encrypted and proven.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secret_stream::{PublicKey, SecretStream};

use crate::address::is_private;

/// How a connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPath {
    /// The client asked the server itself, without a node between.
    Direct,
    /// One side is reachable by anybody.
    Open,
    /// Both are in one network, or on one host.
    Local,
}

/// A connection to a peer whose key is proven: what it sent first has verified.
pub struct Connection {
    /// Its messages.
    pub stream: SecretStream<udx::Stream>,
    remote_addr: SocketAddr,
    path: ConnectionPath,
}

/// A message of no bytes is sent when nothing else was for this long (hyperdht/index.js
/// connectionKeepAlive): NATs stay open, and a vanished peer is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

impl Connection {
    /// `remote_addr` is where the peer was reached; `path` what led there, or `None` if the
    /// peer came by itself.
    pub(crate) fn new(
        mut stream: SecretStream<udx::Stream>,
        remote_addr: SocketAddr,
        path: Option<ConnectionPath>,
    ) -> Self {
        stream.set_keep_alive(Some(KEEP_ALIVE));
        let is_local = matches!(remote_addr.ip(), IpAddr::V4(ip) if is_private(ip));
        let path = path.unwrap_or(if is_local { ConnectionPath::Local } else { ConnectionPath::Open });
        Self { stream, remote_addr, path }
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

    /// Where the peer was when the connection came about.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote_addr
    }

    /// How the connection came about.
    pub fn path(&self) -> ConnectionPath {
        self.path
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("is_initiator", &self.is_initiator())
            .field("remote_addr", &self.remote_addr)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
