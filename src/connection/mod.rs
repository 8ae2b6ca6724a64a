//! Connections to peers.
//!
//! # Layout
//! - [`network`](Network): the node's place on the Hyperswarm network
//! - `rendezvous`: where the recipient of one transfer finds its sender, and whose handshake is answered
//!   there
//! - `peer`: a connection with a peer of ours, by whichever way
//! - `presence`: whether the node is on the network
//! - `pool`: connections kept for the next file
//! - `recent_peers`: who took a file by a key a moment ago, and so needs no topic
//! - `candidates`: several connections of which one carries the file
//! - `udp`: whether UDP leads anywhere
//! - `meetings`: connections through tunnels, which are left together with the network
//! - `tunnel_end`: where a recipient that can be reached by nothing else finds its sender
//! - [`info`](ConnectionInfo): what is told of a connection

mod candidates;
mod info;
mod meetings;
mod network;
mod peer;
mod pool;
mod presence;
mod recent_peers;
mod rendezvous;
mod tunnel_end;
mod udp;

pub(crate) use candidates::close_all;
pub use info::ConnectionInfo;
pub(crate) use meetings::Meetings;
pub(crate) use network::bootstrap_config;
pub use network::{Network, RelayChoice};
pub(crate) use peer::{ORIGINALS_PACKET, PeerConnection, PeerLink, PeerStream};
pub(crate) use pool::{IncomingPool, KEPT, OFFERED, OutgoingPool, PooledConnection};
pub(crate) use recent_peers::RecentPeers;
pub(crate) use rendezvous::{Admission, Rendezvous, Topic, announced};
pub(crate) use tunnel_end::give_head_start;
pub(crate) use udp::Udp;
