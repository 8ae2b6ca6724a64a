//! What Node.js sees: one class for a node, one for a hub. Plain objects in, plain objects out; `index.js`
//! makes an `EventEmitter` and functions of them.

mod error;
#[cfg(feature = "hub")]
mod hub;
mod node;
mod options;
