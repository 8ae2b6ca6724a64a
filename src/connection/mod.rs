//! Connections to peers.
//!
//! # Layout
//! - [`network`](Network): the node's place on the Hyperswarm network
//! - `rendezvous`: where the recipient of one transfer finds its sender, and whose handshake is answered
//!   there
//! - `pool`: connections kept for the next file
//! - `recent_peers`: who took a file by a key a moment ago, and so needs no topic
//! - `candidates`: several connections of which one carries the file
//! - [`info`](ConnectionInfo): what is told of a connection

mod candidates;
mod info;
mod network;
mod pool;
mod recent_peers;
mod rendezvous;

pub(crate) use candidates::close_all;
pub use info::ConnectionInfo;
pub(crate) use network::bootstrap_config;
pub use network::{Network, RelayChoice};
pub(crate) use pool::{IncomingPool, KEPT, OFFERED, OutgoingPool, PeerConnection, PooledConnection};
pub(crate) use recent_peers::RecentPeers;
pub(crate) use rendezvous::{Admission, Rendezvous, Topic, announced};
