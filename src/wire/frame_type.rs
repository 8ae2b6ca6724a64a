//! What a frame can be, and how long.

use std::fmt;

/// The longest META payload, in bytes: a name of 255 bytes needs far less, even escaped.
pub const MAX_META: usize = 64 * 1024;

/// The longest DATA payload, in bytes: the protocol's piece of a file.
pub const MAX_DATA: usize = 64 * 1024;

/// The longest reason in a NACK or ERROR, in bytes: a sentence for a person. An ACK's payload, which
/// means nothing, is held to the same.
pub const MAX_REASON: usize = 4 * 1024;

/// The longest RESUME payload, in bytes: one number as JSON, and room for keys that later versions add.
pub const MAX_RESUME: usize = 256;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// From the sender, first: name, size and hash as JSON.
    Meta = 0x01,
    /// From the sender: the next bytes of the file.
    Data = 0x02,
    /// From the sender: there are no more bytes.
    Done = 0x03,
    /// From the receiver: the file is verified and in its final place.
    Ack = 0x04,
    /// From the receiver: it does not take the file, with the reason as text. The transfer is over.
    Nack = 0x05,
    /// From either: it cannot go on, with the reason as text. The transfer is over.
    Error = 0x06,
    /// From the receiver, where META asked for it: from which byte on it wants the file, as JSON.
    Resume = 0x07,
}

impl fmt::Display for FrameType {
    /// The type's name in the protocol.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Meta => "META",
            Self::Data => "DATA",
            Self::Done => "DONE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Error => "ERROR",
            Self::Resume => "RESUME",
        })
    }
}

impl FrameType {
    /// The longest payload a frame of this type may have, in bytes.
    pub fn limit(self) -> usize {
        match self {
            Self::Meta => MAX_META,
            Self::Data => MAX_DATA,
            Self::Done => 0,
            Self::Ack | Self::Nack | Self::Error => MAX_REASON,
            Self::Resume => MAX_RESUME,
        }
    }

    /// The type that a header names.
    pub(super) fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Meta,
            0x02 => Self::Data,
            0x03 => Self::Done,
            0x04 => Self::Ack,
            0x05 => Self::Nack,
            0x06 => Self::Error,
            0x07 => Self::Resume,
            _ => return None,
        })
    }
}
