//! Hashes of the protocol: BLAKE2b-256, plain and keyed, and the namespaces made from it.

use blake2::digest::consts::U32;
use blake2::digest::{Digest, KeyInit, Mac};
use blake2::{Blake2b, Blake2bMac};

/// BLAKE2b-256 of the parts, one after the other.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2b::<U32>::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// BLAKE2b-256 with a key, of the parts one after the other.
pub fn keyed_hash(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2bMac::<U32>::new_from_slice(key).expect("BLAKE2b takes keys of up to 64 bytes");
    for part in parts {
        state.update(part);
    }
    state.finalize().into_bytes().into()
}

/// What a signature or key of the DHT is bound to: hash(hash("hyperswarm/dht") ‖ command).
pub fn namespace(command: u8) -> [u8; 32] {
    hash(&[&hash(&[b"hyperswarm/dht"]), &[command]])
}
