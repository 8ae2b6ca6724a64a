//! Peer-to-peer file transfer for agents.
