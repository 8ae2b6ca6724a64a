//! Topics, discovery, retries and connections over the DHT.
//!
//! # Layout
//! - `peer`, `queue`, `retry`, `bans`: what is known of peers, and when each is dialled
//! - `state`: the swarm as a state machine without I/O

mod bans;
mod peer;
mod queue;
mod retry;
mod state;

/// What peers meet for: 32 bytes, usually a hash.
pub type Topic = [u8; 32];
