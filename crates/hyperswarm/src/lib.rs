//! Topics, discovery, retries and connections over the DHT.
//!
//! # Layout
//! - [`Swarm`], [`Discovery`]: what users hold
//! - `driver`, `topic`, `listener`: the tasks behind them
//! - `state`: the swarm as a state machine without I/O: whom to dial, keep and refuse
//! - `relay`: when connections may go through a third peer
//! - `firewall`: who may connect
//! - `peer`, `queue`, `retry`, `bans`: what is known of peers, and when each is dialled

mod bans;
mod discovery;
mod driver;
mod firewall;
mod listener;
mod peer;
mod queue;
mod relay;
mod retry;
mod state;
mod swarm;
mod topic;

pub use discovery::{Discovery, JoinOptions};
pub use firewall::{Firewall, Verdict};
pub use relay::RelayThrough;
pub use swarm::{PeerInfo, Swarm, SwarmConfig};

/// What peers meet for: 32 bytes, usually a hash.
pub type Topic = [u8; 32];
