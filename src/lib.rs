//! Peer-to-peer file transfer for agents.

pub mod wire;
