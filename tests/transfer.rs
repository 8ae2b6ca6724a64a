//! Whole transfers, signalled by a hub on loopback, over its own DHT.
#![cfg(feature = "hub")]

#[path = "transfer/lab.rs"]
mod lab;
#[path = "transfer/whole.rs"]
mod whole;
