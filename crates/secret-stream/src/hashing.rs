//! BLAKE2b as hyperdht and the Noise handshake use it.

use blake2::Blake2bMac;
use blake2::digest::consts::{U32, U64};
use blake2::digest::{Digest, FixedOutput, Update};
use hmac::{KeyInit, Mac, SimpleHmac};
use zeroize::Zeroizing;

/// Bytes of a BLAKE2b-512 hash, the hash of the Noise handshake.
pub(crate) const HASH_LEN: usize = 64;

pub(crate) type Blake2b512 = blake2::Blake2b<U64>;

/// BLAKE2b-256 of the concatenation of `parts` (libsodium's `crypto_generichash`).
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = blake2::Blake2b256::default();
    for part in parts {
        Digest::update(&mut state, part);
    }
    state.finalize().into()
}

/// BLAKE2b-256 of the concatenation of `parts`, keyed by `key` (1 to 64 bytes).
///
/// # Panics
/// If the key is empty or longer than 64 bytes.
pub fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    assert!(!key.is_empty() && key.len() <= 64, "a BLAKE2b key has 1 to 64 bytes");
    let mut state = Blake2bMac::<U32>::new_with_salt_and_personal(Some(key), &[], &[])
        .expect("the key length was just checked");
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

/// The constant of 32 bytes that separates uses of hashes: H(H(name) ‖ index) (hypercore-crypto `namespace`).
pub fn namespace(name: &str, index: u8) -> [u8; 32] {
    hash(&[&hash(&[name.as_bytes()]), &[index]])
}

/// Noise's HKDF with two outputs, over HMAC-BLAKE2b-512 (block of 128 bytes).
pub(crate) fn hkdf(
    chaining_key: &[u8; HASH_LEN],
    input: &[u8],
) -> (Zeroizing<[u8; HASH_LEN]>, Zeroizing<[u8; HASH_LEN]>) {
    let temporary = hmac(chaining_key, &[input]);
    let first = hmac(&temporary, &[&[1]]);
    let second = hmac(&temporary, &[&first[..], &[2]]);
    (first, second)
}

fn hmac(key: &[u8; HASH_LEN], parts: &[&[u8]]) -> Zeroizing<[u8; HASH_LEN]> {
    let mut state = SimpleHmac::<Blake2b512>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        Mac::update(&mut state, part);
    }
    Zeroizing::new(state.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{Case, bytes};

    #[test]
    fn namespaces() {
        let case = Case::load("ns-constants");
        for (name, index, key) in [
            ("hyperswarm/dht", 0, "PEER_HANDSHAKE"),
            ("hyperswarm/dht", 1, "PEER_HOLEPUNCH"),
            ("hyperswarm/dht", 4, "ANNOUNCE"),
            ("hyperswarm/dht", 5, "UNANNOUNCE"),
            ("hyperswarm/dht", 6, "MUTABLE_PUT"),
            ("hyperswarm/dht", 10, "PLUGIN"),
            ("hyperswarm/secret-stream", 0, "SS_INITIATOR"),
            ("hyperswarm/secret-stream", 1, "SS_RESPONDER"),
            ("hyperswarm/secret-stream", 2, "SS_SEND"),
        ] {
            assert_eq!(namespace(name, index).as_slice(), case.hex(key), "{key}");
        }
    }

    #[test]
    fn noise_hkdf() {
        let case = Case::load("noise-hkdf");
        let chaining_key: [u8; 64] = case.input("chaining_key").try_into().unwrap();
        let (first, second) = hkdf(&chaining_key, &case.input("ikm"));
        assert_eq!(first.as_slice(), case.hex("output1"));
        assert_eq!(second.as_slice(), case.hex("output2"));
    }

    #[test]
    fn keyed_by_host() {
        let case = Case::load("secure-payload-token");
        let host = case.text("host");
        let token = keyed_hash(&case.input("local_secret"), &[host.as_bytes()]);
        assert_eq!(token.as_slice(), bytes(&case.value["hex"]));
    }

    #[test]
    fn parts_are_concatenated() {
        assert_eq!(hash(&[b"ab", b"", b"c"]), hash(&[b"abc"]));
        assert_eq!(keyed_hash(&[7; 64], &[b"ab", b"c"]), keyed_hash(&[7; 64], &[b"abc"]));
    }
}
