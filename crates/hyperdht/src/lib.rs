//! The distributed hash table of the Hyperswarm network.
//!
//! # Layout
//! - `encoding`, `id`, `crypto`, `command`: what every message is made of
//! - `rpc`: the plain DHT as a state machine without I/O
//! - `store`: what this node keeps for others
//! - `router`: handshakes that pass through this node
//! - `connect`: how this node's own servers and clients connect
//! - `relay`: a third peer that passes a connection's packets on
//! - `machine`: all of these in one, without I/O; `callers`: who waits for what of it
//! - `node`: the task that drives it over `udx` sockets; `handle`, `instruction`: how other tasks speak to it
//! - `dht`: the public face of a node

mod address;
mod callers;
mod command;
mod config;
pub mod connect;
mod crypto;
mod dht;
mod encoding;
mod error;
mod generations;
mod handle;
mod id;
mod instruction;
mod limit;
mod lookup;
mod machine;
mod network;
mod network_interfaces;
mod node;
mod pool;
mod primary_address;
pub mod relay;
mod resolve;
mod router;
mod rpc;
mod store;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod testnet;
mod write;

pub use config::{Bootstrap, Config, DEFAULT_PORT, PUBLIC_BOOTSTRAP};
pub use dht::Dht;
pub use encoding::Malformed;
pub use error::Error;
pub use handle::Query;
pub use id::{Id, node_id};
pub use lookup::{AnnounceOptions, Lookup, LookupAnswer};
pub use network::Network;
pub use primary_address::primary_address;
pub use rpc::{Reply, RequestError, Token, Traffic, Via};
pub use store::message::{MutableRecord, Peer};
