//! Topics, discovery, retries and connections over the DHT.
//!
//! # Layout
//! - [`Swarm`], [`Discovery`]: what users hold; `config`: how both behave
//! - `driver`: the task that owns a swarm; `command`: what it is asked for
//! - `topics`, `topic`, `listener`, `connections`: what that task holds, some with tasks of their own
//! - `state`: the swarm as a state machine without I/O: whom to dial, keep and refuse
//! - `links`, `peers`, `peer`, `queue`, `retry`, `key_set`, `flushes`: what that machine is made of
//! - `firewall`: who may connect
//! - `relay`: when connections may go through a third peer

mod command;
mod config;
mod connections;
mod discovery;
mod driver;
mod firewall;
mod flushes;
mod key_set;
mod links;
mod listener;
mod peer;
mod peers;
mod queue;
mod relay;
mod retry;
mod state;
mod swarm;
mod topic;
mod topics;

pub use config::{JoinOptions, SwarmConfig};
pub use discovery::Discovery;
pub use firewall::{Firewall, Verdict};
pub use peer::PeerInfo;
pub use relay::RelayThrough;
pub use swarm::Swarm;

/// What peers meet for: 32 bytes, usually a hash.
pub type Topic = [u8; 32];
