//! Blind relaying: a third peer passes a stream's packets on, which it can't read (spec/connect.md §9).
//!
//! # Layout
//! - `frame`, `mux`: Protomux, the channels of one stream; no I/O
//! - `message`: what relay and clients tell each other on their channel
//! - `link`: a client's place at a relay
//! - `pairings`: who waits for whom at a relay; no I/O; `server`: a relay

pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod mux;

pub(crate) mod link;
pub(crate) mod pairings;
mod server;

pub use pairings::RelayLimits;
pub use server::{AdmitHook, Relay, RelayLoad, RelayOptions};

/// Longest frame taken from a relay or its client, in bytes: those of the protocol have less than a hundred,
/// and a batch of them need not be longer.
const MAX_FRAME: usize = 64 * 1024;
