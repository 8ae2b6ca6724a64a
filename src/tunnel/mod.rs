//! Meeting a peer at a hub's tunnel: a WebSocket of each, which the hub joins. Where nothing but HTTPS goes
//! out of a machine, this is its only way; `protocol::tunnel` has what is said there.
//!
//! # Layout
//! - `place`: where the tunnel is, and whether a peer may choose another one.
//! - `meeting`: opens the WebSocket, proves the key, waits for the peer and runs the handshake with it.
//! - `bytes`: a WebSocket as a stream of bytes.
//! - [`error`](TunnelError): what can be in the way.
//!
//! The hub sees keys, sizes and times: what passes through is the same encrypted stream as over UDP, between
//! the same keys.

mod bytes;
mod error;
mod meeting;
mod place;

pub(crate) use bytes::WebSocketBytes;
pub(crate) use error::TunnelError;
pub(crate) use meeting::{Met, TunnelLink, TunnelRole, meet, probe};
pub use place::TunnelChoice;
pub(crate) use place::{Tunnel, Tunnels};
