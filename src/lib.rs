//! Peer-to-peer file transfer for agents.

pub mod error;
pub mod files;
pub mod wire;
