//! What can go wrong at this node.

use std::io;

use crate::rpc::RequestError;

/// Why a call of [`crate::Dht`] failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be bound.
    #[error("cannot bind a socket: {0}")]
    Bind(#[from] io::Error),
    /// A bootstrap node that is neither `host:port` nor `ip@host:port`.
    #[error("not a bootstrap node (host:port or ip@host:port): {0:?}")]
    InvalidBootstrap(String),
    /// No node took what was to be stored.
    #[error("too few nodes responded")]
    TooFewNodes,
    /// A value no node would store.
    #[error("a value of {0} bytes is too large to store")]
    ValueTooLarge(usize),
    /// The node is suspended.
    #[error("the node is suspended")]
    Suspended,
    /// The node has ended.
    #[error("the node is destroyed")]
    Destroyed,
    /// More goes on at once than a node can keep apart.
    #[error("too many requests wait already")]
    Busy,
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TimedOut => Self::TooFewNodes,
            RequestError::Suspended => Self::Suspended,
            RequestError::Destroyed => Self::Destroyed,
            RequestError::Busy => Self::Busy,
        }
    }
}
