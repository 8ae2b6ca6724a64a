//! The path of a connection's bytes.

use std::net::SocketAddrV4;

use crate::address::is_near;
use crate::rpc::Via;

/// The path of a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPath {
    /// The client asked the server itself, without a node between.
    Direct,
    /// One side is reachable by anybody.
    Open,
    /// Both are in one network, or on one host.
    Local,
    /// Through a hole that both punched in their NATs.
    Punched,
    /// Through a third peer, which can't read what it passes on.
    Relayed,
}

impl ConnectionPath {
    /// The path to a peer at `to` that was asked without a node between, by the socket `via`.
    pub(crate) fn without_node(via: Via, to: SocketAddrV4) -> Self {
        // Sockets of the pool are those that punched a hole.
        let is_punched = matches!(via, Via::Pool(_)) && !is_near(to.into());
        if is_punched { Self::Punched } else { Self::Direct }
    }
}
