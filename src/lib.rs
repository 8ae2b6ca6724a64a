//! Peer-to-peer file transfer for agents.

pub mod ats;
pub mod error;
pub mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod pump;
pub mod wire;
