//! Which way the bytes of a connection go.

use std::net::SocketAddrV4;

use crate::address::is_near;
use crate::rpc::Via;

/// Which way a connection goes.
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
    /// Through a third peer, which passes on what it can't read.
    Relayed,
}

impl ConnectionPath {
    /// The path to a peer at `to` that was asked without a node between, by the socket `via`.
    pub(crate) fn without_node(via: Via, to: SocketAddrV4) -> Self {
        // Only a socket that punched a hole is of the pool.
        let is_punched = matches!(via, Via::Pool(_)) && !is_near(to.into());
        if is_punched { Self::Punched } else { Self::Direct }
    }
}
