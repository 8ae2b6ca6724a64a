//! The protocol without I/O: bytes and the time in, bytes and deadlines out.

mod ack;
mod assembler;
mod bbr;
mod congestion;
mod framing;
mod mtu;
mod outstanding;
mod pacer;
pub mod packet;
mod path;
mod rack;
mod rate;
mod rtt;
mod send_buffer;
mod seq;
mod stream;
mod window;

pub use framing::Framing;
pub use mtu::overhead;
pub use path::{PathLimit, SHORT_PATH};
pub use stream::{Limits, Remote, SocketId, Stats, StreamConfig, StreamMachine, Transmit};

/// Largest datagram that may be sent to anyone: libudx receives into a buffer of this size, and takes a
/// longer datagram, cut off, for a whole one (spec §14).
pub const MAX_DATAGRAM: usize = 2048;

/// Largest unordered message that fits every path, IPv6 or not.
pub const SAFE_MESSAGE: usize = 1200 - overhead(true);

/// Unordered messages kept for a slow application; later ones are dropped, as a network would.
pub(crate) const MAX_MESSAGES: usize = 256;

/// Payload bytes of the largest packet over IPv4.
pub(crate) const FULL_PAYLOAD: usize = 1500 - overhead(false);

/// The receive window that libudx always advertises, and the one assumed of a peer not yet heard of.
pub const LIBUDX_WINDOW: u32 = 4 << 20;
