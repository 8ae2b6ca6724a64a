//! Hashes of the protocol: BLAKE2b-256, plain and keyed, and the namespaces made from it.

pub use secret_stream::{hash, keyed_hash};

/// What a signature or key of the DHT is bound to: hash(hash("hyperswarm/dht") ‖ command).
pub fn namespace(command: u8) -> [u8; 32] {
    secret_stream::namespace("hyperswarm/dht", command)
}
