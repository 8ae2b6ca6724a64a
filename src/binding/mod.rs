//! What Node.js sees: one class for a node, one for a hub, one for a node of the DHT. Plain objects in, plain objects out; `index.js`
//! makes an `EventEmitter` and functions of them.

mod dht;
mod doctor;
mod error;
#[cfg(feature = "hub")]
mod hub;
mod node;
mod options;
