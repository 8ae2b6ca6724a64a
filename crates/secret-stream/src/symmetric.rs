//! The cipher and the hashes of a Noise handshake under way.

use blake2::Digest;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use zeroize::Zeroizing;

use crate::Error;
use crate::hashing::{Blake2b512, HASH_LEN, hkdf};

/// Bytes that authentication adds to a ciphertext.
pub(crate) const TAG_LEN: usize = 16;

/// Noise's SymmetricState with BLAKE2b-512 and ChaCha20-Poly1305.
pub(crate) struct Symmetric {
    chaining_key: Zeroizing<[u8; HASH_LEN]>,
    hash: [u8; HASH_LEN],
    cipher: Option<Cipher>,
}

struct Cipher {
    key: Zeroizing<[u8; 32]>,
    /// Counts messages under this key; a handshake has a handful, so it cannot wrap.
    nonce: u64,
}

impl Symmetric {
    /// Starts from a protocol name of at most [`HASH_LEN`] bytes, padded with zeros.
    pub(crate) fn new(protocol_name: &str) -> Self {
        let mut hash = [0; HASH_LEN];
        hash[..protocol_name.len()].copy_from_slice(protocol_name.as_bytes());
        Self { chaining_key: Zeroizing::new(hash), hash, cipher: None }
    }

    pub(crate) fn hash(&self) -> &[u8; HASH_LEN] {
        &self.hash
    }

    /// Whether what is sent from here on is encrypted, and so longer by [`TAG_LEN`].
    pub(crate) fn has_key(&self) -> bool {
        self.cipher.is_some()
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Blake2b512::new().chain_update(self.hash).chain_update(data).finalize().into();
    }

    pub(crate) fn mix_key(&mut self, input: &[u8]) {
        let (chaining_key, key) = hkdf(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        self.cipher = Some(Cipher { key: first_half(&key), nonce: 0 });
    }

    /// Appends `plain` to `out`, encrypted if there is a key.
    pub(crate) fn encrypt_and_hash(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.extend_from_slice(plain);
        if let Some(cipher) = &mut self.cipher {
            let (aead, nonce) = cipher.next();
            let tag = aead
                .encrypt_inout_detached(&nonce.into(), &self.hash, (&mut out[start..]).into())
                .map_err(|_| Error::HandshakeLength)?;
            out.extend_from_slice(&tag);
        }
        let sent = &out[start..];
        self.hash = Blake2b512::new().chain_update(self.hash).chain_update(sent).finalize().into();
        Ok(())
    }

    pub(crate) fn decrypt_and_hash(&mut self, received: &[u8]) -> Result<Vec<u8>, Error> {
        let plain = match &mut self.cipher {
            None => received.to_vec(),
            Some(cipher) => {
                let (text, tag) = received.split_last_chunk::<TAG_LEN>().ok_or(Error::HandshakeLength)?;
                let (aead, nonce) = cipher.next();
                let mut plain = text.to_vec();
                aead.decrypt_inout_detached(
                    &nonce.into(),
                    &self.hash,
                    plain.as_mut_slice().into(),
                    tag.into(),
                )
                .map_err(|_| Error::HandshakeUnauthentic)?;
                plain
            }
        };
        self.mix_hash(received);
        Ok(plain)
    }

    /// The two transport keys: initiator to responder, responder to initiator.
    pub(crate) fn split(&self) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
        let (first, second) = hkdf(&self.chaining_key, &[]);
        (first_half(&first), first_half(&second))
    }
}

impl Cipher {
    fn next(&mut self) -> (ChaCha20Poly1305, [u8; 12]) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonce.to_le_bytes());
        self.nonce += 1;
        (ChaCha20Poly1305::new((&*self.key).into()), nonce)
    }
}

fn first_half(output: &[u8; HASH_LEN]) -> Zeroizing<[u8; 32]> {
    let mut half = Zeroizing::new([0; 32]);
    half.copy_from_slice(&output[..32]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{Case, bytes};

    /// Replays the traced operations of a whole handshake, checking every state on the way.
    fn replay(id: &str, protocol_name: &str) {
        let case = Case::load(id);
        let mut state = Symmetric::new(protocol_name);
        for (index, step) in case.value["trace"].as_array().unwrap().iter().enumerate() {
            match step["op"].as_str().unwrap() {
                "mixHash" => state.mix_hash(&bytes(&step["data"])),
                "mixKey" => state.mix_key(&bytes(&step["dh"])),
                "encryptAndHash" => {
                    let mut out = b"before".to_vec();
                    state.encrypt_and_hash(&bytes(&step["plain"]), &mut out).unwrap();
                    assert_eq!(out[6..], bytes(&step["out"]), "{id} step {index}");
                }
                "decryptAndHash" => {
                    let plain = state.decrypt_and_hash(&bytes(&step["in"])).unwrap();
                    assert_eq!(plain, bytes(&step["out"]), "{id} step {index}");
                }
                op => panic!("unknown operation {op}"),
            }
            if step["h"].is_string() {
                assert_eq!(state.hash.as_slice(), bytes(&step["h"]), "{id} step {index}");
            }
            if step["ck"].is_string() {
                assert_eq!(state.chaining_key.as_slice(), bytes(&step["ck"]), "{id} step {index}");
                let key = &state.cipher.as_ref().unwrap().key;
                assert_eq!(key.as_slice(), bytes(&step["k"]), "{id} step {index}");
            }
        }
        let (initiator_tx, initiator_rx) = state.split();
        assert_eq!(initiator_tx.as_slice(), case.hex("initiator_tx"));
        assert_eq!(initiator_rx.as_slice(), case.hex("initiator_rx"));
        assert_eq!(state.hash.as_slice(), case.hex("handshake_hash"));
    }

    #[test]
    fn traced_ik() {
        replay("noise-ik-raw", "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b");
    }

    #[test]
    fn traced_xx() {
        replay("noise-xx", "Noise_XX_Ed25519_ChaChaPoly_BLAKE2b");
    }
}
