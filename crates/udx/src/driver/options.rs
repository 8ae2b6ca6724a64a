//! How streams are made.

use std::net::SocketAddr;

use crate::proto::SocketId;

/// Called for each packet that arrives for a stream on a socket it was never connected through, which is any
/// while it is unconnected. Runs on the owner task, and must not block.
pub type Firewall = Box<dyn FnMut(SocketId, SocketAddr) -> Verdict + Send>;

/// What a [`Firewall`] makes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As if it had never arrived.
    Refuse,
    /// Its data is kept; it is acknowledged once the stream is connected.
    Accept,
    /// Accepts it, and connects the stream to where it came from, as the peer's stream `remote_id`.
    Connect {
        /// The stream's id at the peer.
        remote_id: u32,
    },
    /// Accepts it, and moves the stream, which is connected elsewhere, to where it came from.
    Move {
        /// The stream's id at the peer there.
        remote_id: u32,
    },
}

/// How to make a stream.
#[derive(Default)]
pub struct StreamOptions {
    /// The id that packets to it carry; a random free one if `None`.
    pub id: Option<u32>,
    /// Judges packets before the stream is connected, or from other sockets. `None` refuses them all.
    pub firewall: Option<Firewall>,
    /// Number of the first packet sent.
    pub seq: u32,
    /// Number of the first packet expected.
    pub ack: u32,
    /// Hand up bytes in whole frames of a 3-byte little-endian length and so many bytes, where the stream is
    /// made of them. Nothing else depends on it.
    pub framed: bool,
}

impl std::fmt::Debug for StreamOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamOptions").field("id", &self.id).finish_non_exhaustive()
    }
}
