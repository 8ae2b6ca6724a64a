//! Tests of a whole node and of networks of them.

mod exchanges;
mod simulated;
