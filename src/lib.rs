//! Peer-to-peer file transfer for agents: a task service signals, Hyperswarm carries the bytes.
//!
//! # Layout
//!
//! - [`node`] is one agent's end of all its transfers; [`send`] one outgoing, [`receive`] one incoming,
//!   [`watch`] the offers that come in. [`deliver`] and [`fetch`] bring the peers of a claimed offer together
//!   and hand the connection to [`pump`], which moves the bytes; [`idle`] keeps it for the next file.
//! - [`wire`] knows the frames, [`files`] the disk, [`ats`] the task service; none knows another.
//! - [`offer`], [`record`], [`event`] and [`error`] are what transfers say, remember, tell and fail with;
//!   [`connection`] is what they tell of their connections.
//! - [`doctor`] finds out why transfers would fail; [`log`] tells on stderr what happens inside.
//! - [`dht`] is a node of the DHT. The crate `hub`, a task service to run oneself, is shown to Node.js by
//!   [`binding`]; nothing else here knows it.
//! - [`binding`] shows all of it to Node.js; nothing else knows that it is there.

mod acquaintances;
pub mod ats;
#[cfg(feature = "binding")]
mod binding;
pub mod connection;
mod deliver;
pub mod dht;
pub mod doctor;
pub mod error;
pub mod event;
mod feed;
mod fetch;
pub mod files;
mod idle;
pub mod log;
mod lookups;
mod meter;
mod network;
pub mod node;
mod offer;
pub mod pump;
pub mod receive;
mod record;
pub mod send;
mod watch;
pub mod wire;
