//! What the tests share.

pub mod node;
pub mod pattern;
pub mod proxy;
