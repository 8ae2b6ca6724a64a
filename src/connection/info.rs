//! What is told of a connection to a peer, for whoever wonders why it is fast, slow or absent.

use std::net::SocketAddr;
use std::time::Duration;

use hyperdht::connect::Link;

/// How a connection came about, and how it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// `lan`, `direct`, `punched`, `relayed` or `tunnel`.
    pub path: &'static str,
    /// The smoothed round-trip time; unknown until something sent was acknowledged.
    pub rtt: Option<Duration>,
    /// How long connecting took: since the dial, or since the peer's first message to us.
    pub connect_time: Duration,
    /// Where the peer is, or the relay that passes its bytes on; of a tunnel the hub, or the proxy before it.
    pub remote_address: SocketAddr,
}

impl ConnectionInfo {
    /// What there is to say of a connection right now.
    pub(crate) fn of(link: &Link) -> Self {
        Self {
            path: link.path_name(),
            rtt: link.rtt(),
            connect_time: link.took(),
            remote_address: link.remote_addr(),
        }
    }
}
