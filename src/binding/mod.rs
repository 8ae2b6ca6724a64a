//! What Node.js sees: one class each for a node, a hub, a node of the DHT, and what the doctor finds. Plain
//! objects in, plain objects out; `index.js` makes an `EventEmitter` and functions of them.
//!
//! # Layout
//! - `node`, `hub`, `hub_keys`, `join`, `dht`, `doctor`, `service`, `settings`, `trust`, `verify`: the
//!   classes and functions
//! - `options`: what JavaScript gives; `shapes`: what it is given, every field name of events and results
//! - `error`: how an error becomes a rejection; `cancel`: calls that end by a signal
//! - `spool`: what is kept of a stream that is sent; `outlet`: what a reader takes of one that is received
//! - `environment`: what ends with the thread that started it

mod cancel;
mod dht;
// A function, unlike a class, is exported by nothing in a test build, and would be dead there.
#[cfg(not(test))]
mod doctor;
mod environment;
mod error;
#[cfg(feature = "hub")]
mod hub;
#[cfg(all(feature = "hub", not(test)))]
mod hub_keys;
#[cfg(not(test))]
mod join;
mod node;
mod options;
mod outlet;
#[cfg(not(test))]
mod service;
#[cfg(not(test))]
mod settings;
mod shapes;
mod spool;
#[cfg(not(test))]
mod trust;
#[cfg(not(test))]
mod verify;

/// Small files and the hub make many small values, on several threads at once, which wait for each other in
/// the allocator of musl. Elsewhere that of the system is as fast, and holds a fifth of the memory. Not in
/// builds for tests, which may bring an allocator that counts.
#[cfg(all(target_env = "musl", not(debug_assertions)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
