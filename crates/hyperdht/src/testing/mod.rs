//! Nodes without sockets, for tests, measurements and fuzzing: many of them in one process under virtual
//! time, or one that takes any bytes. The state machines are those of real nodes. The library that is shipped
//! does not contain this module: it exists in the crate's own tests, and with the feature `testing`.
//!
//! # Layout
//! - `network`: hosts, packets and their time
//! - `churn`: a network whose nodes come and go, in which the crate's own lookups and servers run
//! - `fuzz_node`, `fuzz_relay`: what the targets in `fuzz/` run; `punch` is with the holes that it punches
//! - `vectors`: the golden bytes of `tests/vectors`

mod churn;
mod fuzz_node;
mod fuzz_relay;
pub(crate) mod network;
#[cfg(test)]
pub(crate) mod vectors;

pub use crate::connect::fuzzing::punch;
pub use churn::{Census, ChurnConfig, ChurningNetwork, Listening, Visitor};
pub use fuzz_node::{decoders, node, values};
pub use fuzz_relay::relay;
