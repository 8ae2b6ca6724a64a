//! The state of a node and its network, as its users see it.

use std::net::SocketAddrV4;

use crate::rpc::Via;

/// What a node knows of itself and its network at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first bootstrap query has ended.
    pub bootstrapped: bool,
    /// No known way in from outside: requests leave by the client socket.
    pub firewalled: bool,
    /// Not part of others' tables, and stores nothing.
    pub ephemeral: bool,
    /// Nodes in the routing table.
    pub nodes: usize,
    /// The address others see; port 0 when it differs from one to the other.
    pub seen_as: Option<SocketAddrV4>,
    /// Where this node is reached from outside, if it is.
    pub remote_address: Option<SocketAddrV4>,
    /// Requests are being answered at all.
    pub online: bool,
    /// Counts changes of the network: its health, the interfaces, wakeups after sleep. A server announces
    /// again when this changes.
    pub changes: u64,
    /// [`Dht::suspend`](crate::Dht::suspend) was called.
    pub suspended: bool,
    /// The node has ended.
    pub destroyed: bool,
}

impl Network {
    /// The socket that requests leave by: the server socket once it is reached from outside.
    pub(crate) fn via(&self) -> Via {
        if self.firewalled { Via::Client } else { Via::Server }
    }
}
