//! Reliable streams over UDP: the UDX transport of the Hyperswarm network, on the wire as npm `udx-native`
//! 1.21.3 speaks it.
//!
//! # Layout
//! - [`proto`]: the packet codec and the stream state machine; no sockets, no clock, no runtime.
//! - the rest: a tokio driver. A [`Udx`] instance owns [`Socket`]s, which carry [`Stream`]s and raw
//!   [`Datagrams`].

mod driver;
mod error;
pub mod proto;
mod time;

pub use driver::{
    Config, Datagram, Datagrams, Firewall, ReadHalf, RelayMeter, Socket, Stream, StreamHandle, StreamOptions,
    Udx, Verdict, WriteHalf,
};
pub use error::Error;
pub use proto::{SocketId, Stats};
pub use time::{Instant, Micros};
