//! Everything that can go wrong, in one table.

use std::io;

/// Everything that can go wrong between two ends of a secret stream.
///
/// Each is fatal to the handshake or the stream that it happened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A public key is not a canonical encoding of a point of the prime-order subgroup of edwards25519.
    #[error("public key is not a valid point")]
    InvalidPoint,
    /// A handshake message is too short or too long for its place in the pattern.
    #[error("handshake message has a wrong length")]
    HandshakeLength,
    /// A handshake message did not decrypt: other keys, another prologue, or tampering.
    #[error("handshake message does not authenticate")]
    HandshakeUnauthentic,
    /// `write` or `read` was called when the pattern asks for the other, or after an earlier failure.
    #[error("handshake is not in a state for this step")]
    HandshakeOutOfTurn,
    /// The first frame is not the header that the peer of this handshake sends.
    #[error("invalid header received")]
    InvalidHeader,
    /// A frame is shorter than the smallest or longer than the largest that is accepted at its place.
    #[error("frame of {length} bytes received where {min} to {max} are accepted")]
    FrameLength {
        /// Bytes announced by the length prefix.
        length: usize,
        /// Smallest accepted, in bytes.
        min: usize,
        /// Largest accepted, in bytes.
        max: usize,
    },
    /// A message did not decrypt: it was tampered with, or is out of order.
    #[error("message does not authenticate")]
    Unauthentic,
    /// A message to send exceeds [`crate::MAX_MESSAGE`].
    #[error("message of {length} bytes is longer than {max}")]
    MessageTooLong {
        /// Bytes of the message.
        length: usize,
        /// Largest that can be sent, in bytes.
        max: usize,
    },
    /// The bytes ended inside a frame, or before the peer's header.
    #[error("stream ended inside a frame")]
    Truncated,
    /// The stream failed or was destroyed earlier.
    #[error("stream is closed")]
    Closed,
    /// The transport below failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::Closed => Self::new(io::ErrorKind::NotConnected, error),
            Error::Truncated => Self::new(io::ErrorKind::UnexpectedEof, error),
            Error::MessageTooLong { .. } => Self::new(io::ErrorKind::InvalidInput, error),
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}
