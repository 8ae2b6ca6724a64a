//! Punching holes: how two peers behind NATs open them for each other (spec/connect.md §8).
//!
//! # Layout
//! - `nat`: what the NAT before a socket does
//! - `puncher`: the sockets and the probes, as a state machine without I/O
//! - `client`, `server`: the rounds that lead there, likewise
//! - `throttle`: how often many probes are sent
//! - `driver`: does what the state machines decide
//! - `fuzzing`: what the target `punch` in `fuzz/` runs

mod client;
mod driver;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzzing;
mod nat;
mod puncher;
mod server;
#[cfg(test)]
mod tests;
pub(super) mod throttle;

pub(super) use driver::{Prepared, PunchPlan, PunchRequest, punch_to_server};
pub(super) use puncher::Failure;
