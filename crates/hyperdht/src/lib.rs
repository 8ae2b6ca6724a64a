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
pub mod connect;
pub mod crypto;
pub mod encoding;
pub mod handle;
pub mod id;
pub mod limit;
pub mod router;
pub mod rpc;
pub mod store;

pub use id::Id;
