//! What callers decide about connections, as client and as server.

use std::fmt;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use secret_stream::{KeyPair, PublicKey};

use super::payload::NoisePayload;

/// How to dial.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The keys to show the peer; the node's own if `None`.
    pub key_pair: Option<KeyPair>,
    /// Nodes to ask first.
    pub relay_addresses: Vec<SocketAddrV4>,
    /// Try the peer's addresses in the local network, and tell it ours. Default: true.
    pub local_connection: bool,
    /// If the server agrees, keep the socket of a punched hole for the next connection to it, until three
    /// seconds after the last one has ended. Default: false.
    pub reusable_socket: bool,
    /// A relay to use if no direct way opens soon, unless the server names another one. Both peers must be
    /// able to reach it.
    pub relay_through: Option<PublicKey>,
    /// The keys to show the relay; those for the peer if `None`.
    pub relay_keys: Option<KeyPair>,
    /// Use a direct way if one opens. Default: true; otherwise only a relay connects.
    pub direct: bool,
    /// How long it may take until the server answers, through whichever node; what comes then takes its time.
    /// Default: as long as there are nodes to ask.
    pub answer_limit: Option<Duration>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            key_pair: None,
            relay_addresses: Vec::new(),
            local_connection: true,
            reusable_socket: false,
            relay_through: None,
            relay_keys: None,
            direct: true,
            answer_limit: None,
        }
    }
}

/// What [`ServerOptions::firewall`] is told of a client.
#[derive(Clone, Debug)]
pub struct FirewallRequest {
    /// The key that the peer claims. Somebody else may replay its message, but can't complete the connection.
    pub remote_public_key: PublicKey,
    /// What the peer says of itself.
    pub payload: NoisePayload,
    /// Where the peer seems to be.
    pub address: SocketAddrV4,
}

/// Decides on a peer before it is answered: `true` refuses it without an answer. May take seconds.
pub type FirewallHook =
    Arc<dyn Fn(FirewallRequest) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Names the relay to use with a client if no direct way opens soon. Called for each client.
pub type RelayHook = Arc<dyn Fn() -> Option<PublicKey> + Send + Sync>;

/// How a server treats clients.
#[derive(Clone)]
pub struct ServerOptions {
    /// `None`: everybody is admitted.
    pub firewall: Option<FirewallHook>,
    /// Tell peers our addresses in the local network, so that those in it come directly. Default: true.
    pub share_local_address: bool,
    /// If a client agrees, keep the socket of a punched hole for its next connection, until three seconds
    /// after the last one has ended. Default: false.
    pub reusable_socket: bool,
    /// `None`: no relay, unless the client names one.
    pub relay_through: Option<RelayHook>,
    /// The keys to show the relay; those for clients if `None`.
    pub relay_keys: Option<KeyPair>,
    /// Use a direct way if one opens. Default: true; otherwise clients come through a relay, or ask this node
    /// itself.
    pub direct: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            firewall: None,
            share_local_address: true,
            reusable_socket: false,
            relay_through: None,
            relay_keys: None,
            direct: true,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("firewall", &self.firewall.is_some())
            .field("share_local_address", &self.share_local_address)
            .field("reusable_socket", &self.reusable_socket)
            .field("relay_through", &self.relay_through.is_some())
            .field("direct", &self.direct)
            .finish()
    }
}
