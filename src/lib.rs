//! Peer-to-peer file transfer for agents.

pub mod files;
pub mod wire;
