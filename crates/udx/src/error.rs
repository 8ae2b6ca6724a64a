//! Everything that can go wrong with a stream, in one table.

use std::io;

/// Why a stream operation failed. The comment names the code libudx gives for the same cause (spec §14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Seven retransmission timeouts in a row without progress (ETIMEDOUT).
    #[error("the peer stopped answering")]
    TimedOut,
    /// The peer destroyed the stream (ECONNRESET).
    #[error("the peer destroyed the stream")]
    ConnectionReset,
    /// The stream was destroyed on this side, or its instance was closed (ECANCELED).
    #[error("the stream was destroyed")]
    Cancelled,
    /// The operation needs a connected stream (ENOTCONN).
    #[error("the stream is not connected")]
    NotConnected,
    /// The stream is connected already (EISCONN).
    #[error("the stream is connected already")]
    AlreadyConnected,
    /// The end of the stream was written before (EPIPE).
    #[error("the stream was ended for writing")]
    WriteAfterEnd,
    /// No packet can be sent to this address, or not from this socket (EINVAL).
    #[error("the address cannot be reached from this socket")]
    InvalidAddress,
    /// Another live stream of the instance has this id.
    #[error("the stream id is in use")]
    IdInUse,
    /// An unordered message larger than one packet (EMSGSIZE).
    #[error("the message does not fit into one packet")]
    MessageTooLarge,
    /// The instance was closed.
    #[error("the UDX instance is closed")]
    Closed,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::TimedOut => io::ErrorKind::TimedOut,
            Error::ConnectionReset => io::ErrorKind::ConnectionReset,
            Error::Cancelled | Error::Closed => io::ErrorKind::ConnectionAborted,
            Error::NotConnected => io::ErrorKind::NotConnected,
            Error::WriteAfterEnd => io::ErrorKind::BrokenPipe,
            Error::AlreadyConnected => io::ErrorKind::AlreadyExists,
            Error::InvalidAddress | Error::MessageTooLarge => io::ErrorKind::InvalidInput,
            Error::IdInUse => io::ErrorKind::AddrInUse,
        };
        Self::new(kind, error)
    }
}
