//! The distributed hash table of the Hyperswarm network.
//!
//! # Layout
//! - `encoding`, `id`, `crypto`, `command`: what every message is made of
//! - `rpc`: the plain DHT as a state machine without I/O
//! - `store`: what this node keeps for others
//! - `router`: handshakes that pass through this node
//! - `connect`: how this node's own servers and clients connect
//! - `node`: the task that owns all of these and drives them over `udx` sockets

pub mod address;
pub mod command;
mod config;
pub mod connect;
pub mod crypto;
mod dht;
pub mod encoding;
mod error;
pub mod handle;
pub mod id;
pub mod limit;
mod node;
mod resolve;
pub mod router;
pub mod rpc;
pub mod store;
mod surroundings;
pub mod testnet;

#[cfg(test)]
mod vectors;

pub use config::{Bootstrap, Config, DEFAULT_PORT, PUBLIC_BOOTSTRAP};
pub use dht::{AnnounceOptions, Dht, Lookup, LookupAnswer};
pub use error::Error;
pub use handle::{Network, Query};
pub use id::Id;
