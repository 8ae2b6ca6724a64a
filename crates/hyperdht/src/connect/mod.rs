//! How peers connect: what they tell each other, and who dials whom (spec/connect.md).
//!
//! # Layout
//! - `payload`, `message`, `punch`, `peer_address`: codecs
//! - `noise`: the handshake with its typed payloads
//! - `options`: what callers decide; `context`: what servers and clients of a node share
//! - `search`: how a client finds the server; `plan`: how it is to reach it; `client`: the whole way
//! - `handshakes`: what a server remembers; `waiter`: who waits for an answer
//! - `incoming`: one client's way to a server; `meeting`: how they meet once it is answered
//! - `server`: all of it; `service`: what its handshakes share; `control`: what the node does to it
//! - `holepunch`: how two peers behind NATs open them for each other
//! - `socket_reuse`: holes that are used again
//! - `announcer`: keeps a server findable; `local`: addresses that lead to this host
//! - `route`: the first way that opens connects a stream; `race`: those under way, a relay among them
//! - `connection`, `path`, `error`: what comes of it

mod error;
pub(crate) mod message;
mod noise;
pub mod payload;
pub(crate) mod peer_address;
pub(crate) mod punch;

pub(crate) mod announcer;
pub(crate) mod client;
mod connection;
pub(crate) mod context;
mod control;
mod handshakes;
mod holepunch;
mod incoming;
mod local;
mod meeting;
mod options;
mod path;
mod plan;
mod race;
mod route;
mod search;
mod server;
mod service;
mod socket_reuse;
#[cfg(test)]
mod tests;
mod waiter;

#[cfg(any(test, feature = "testing"))]
pub(crate) use holepunch::fuzzing;

pub use connection::{Connection, Link};
pub use error::{ConnectError, ListenError};
pub use options::{ConnectOptions, FirewallHook, FirewallRequest, RelayHook, ServerOptions};
pub use path::ConnectionPath;
pub use peer_address::PeerAddress;
pub use server::Server;
