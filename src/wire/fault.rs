//! What a peer can do wrong.

use super::FrameType;

/// A peer's breach of the protocol or of the offer. It ends the connection it came on, and no other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The metadata is not what was offered.
    #[error("the {field} announced is not the one offered")]
    MetaDiffers {
        /// Which part of it: `name`, `size`, `hash` or `transfer id`.
        field: &'static str,
    },
    /// The metadata is not JSON of the right shape.
    #[error("the metadata can't be read: {0}")]
    BadMeta(&'static str),
    /// More bytes than offered.
    #[error("more bytes came than the {size} offered")]
    TooManyBytes {
        /// Bytes offered.
        size: u64,
    },
    /// The end came before all bytes that were offered.
    #[error("only {received} of the {size} bytes offered came")]
    TooFewBytes {
        /// Bytes received.
        received: u64,
        /// Bytes offered.
        size: u64,
    },
    /// The bytes are as many as offered, and not those offered.
    #[error("the SHA-256 of what came is {actual}, not the one offered")]
    HashDiffers {
        /// SHA-256 of the bytes received, lower-case hex.
        actual: String,
    },
    /// The receiver asked for the file in a way that makes no sense.
    #[error("the place to resume at can't be read, or is not within the {size} bytes of the file")]
    BadResume {
        /// Bytes of the file.
        size: u64,
    },
    /// A frame longer than its type allows.
    #[error("a frame of type {kind} and {len} bytes is longer than allowed")]
    TooLong {
        /// The frame's type.
        kind: FrameType,
        /// The length that its header claims, in bytes.
        len: u32,
    },
    /// A frame of no known type.
    #[error("a frame has the unknown type {0}")]
    UnknownType(u8),
    /// A frame that may not come now, or not from this side.
    #[error("a frame of type {kind} came out of order")]
    OutOfOrder {
        /// The frame's type.
        kind: FrameType,
    },
}

impl Fault {
    /// How it is answered: NACK where the file is not the one offered, ERROR where the protocol was broken.
    pub fn answer(&self) -> FrameType {
        if self.is_integrity() { FrameType::Nack } else { FrameType::Error }
    }

    /// Whether the peer kept to the protocol but sent something else than it offered.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::MetaDiffers { .. }
            | Self::BadMeta(_)
            | Self::TooManyBytes { .. }
            | Self::TooFewBytes { .. }
            | Self::HashDiffers { .. } => true,
            Self::BadResume { .. }
            | Self::TooLong { .. }
            | Self::UnknownType(_)
            | Self::OutOfOrder { .. } => false,
        }
    }
}
