//! Peer-to-peer file transfer for agents.

pub mod ats;
pub mod error;
pub mod files;
pub mod pump;
pub mod wire;
