//! How peers connect: what they tell each other, and who dials whom (spec/connect.md).
//!
//! # Layout
//! - `payload`, `message`, `punch`, `peer_address`: codecs
//! - `noise`: the handshake with its typed payloads
//! - `path`: which way a client goes
//! - `handshakes`: what a server remembers
//! - `error`: why a connection did not come about

pub mod error;
pub mod handshakes;
pub mod message;
pub mod noise;
pub mod path;
pub mod payload;
pub mod peer_address;
pub mod punch;
#[cfg(test)]
pub(crate) mod vectors;
