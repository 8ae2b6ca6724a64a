//! What this node keeps for others (spec/dht.md §10, §11).

mod forwards;
mod generations;

pub use forwards::{Forward, Forwards};
pub use generations::Generations;
