//! Ed25519 key pairs: signatures, and the Diffie-Hellman of the handshake.

use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::Error;

/// An Ed25519 public key: the compressed point. Not checked until it is used.
pub type PublicKey = [u8; 32];

/// Bytes of the seed that a key pair is made from.
pub const SEED_LEN: usize = 32;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// An Ed25519 key pair (libsodium `crypto_sign`), which also serves Noise as its Diffie-Hellman key.
///
/// `Debug` shows the public key alone; the secret is wiped when dropped.
#[derive(Clone)]
pub struct KeyPair {
    signing: SigningKey,
}

impl KeyPair {
    /// A key pair from the randomness of the operating system.
    ///
    /// # Panics
    /// If the operating system gives no randomness; nothing can be done securely then.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        getrandom::fill(&mut *seed).expect("the operating system gives randomness");
        Self::from_seed(&seed)
    }

    /// The key pair of a seed; the same seed gives the same pair.
    pub fn from_seed(seed: &[u8; SEED_LEN]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.signing.verifying_key().to_bytes()
    }

    /// The seed, from which the pair can be made again. Secret.
    pub fn seed(&self) -> &[u8; SEED_LEN] {
        self.signing.as_bytes()
    }

    /// Signs `message` (plain Ed25519).
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.signing.sign(message).to_bytes()
    }

    /// Diffie-Hellman on the Edwards curve: the encoding of clamp(SHA-512(seed)\[..32\]) · `remote`.
    ///
    /// As libsodium's `crypto_scalarmult_ed25519_noclamp`, it refuses a `remote` that is not canonical,
    /// not on the curve, of small order, or outside the prime-order subgroup. Nothing else stands between
    /// a hostile key and the handshake: multiplying such a point would leak or fix the shared secret.
    pub(crate) fn dh(&self, remote: &PublicKey) -> Result<Zeroizing<[u8; 32]>, Error> {
        let point = decode_canonical(remote).ok_or(Error::InvalidPoint)?;
        if point.is_small_order() || !point.is_torsion_free() {
            return Err(Error::InvalidPoint);
        }
        let scalar = Zeroizing::new(self.signing.to_scalar_bytes());
        Ok(Zeroizing::new(point.mul_clamped(*scalar).compress().to_bytes()))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(")?;
        for byte in self.public_key() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Whether `signature` is `public_key`'s over `message`, as strictly as libsodium judges: small-order and
/// non-canonical keys, small-order R and non-canonical S are refused.
pub fn verify(public_key: &PublicKey, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    if decode_canonical(public_key).is_none() {
        return false;
    }
    VerifyingKey::from_bytes(public_key)
        .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
        .is_ok()
}

/// The point that `bytes` encode, if they are the one encoding that a conforming writer makes.
fn decode_canonical(bytes: &PublicKey) -> Option<curve25519_dalek::EdwardsPoint> {
    let compressed = CompressedEdwardsY(*bytes);
    compressed.decompress().filter(|point| point.compress() == compressed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{Case, bytes};

    fn pair(seed: Vec<u8>) -> KeyPair {
        KeyPair::from_seed(&seed.try_into().unwrap())
    }

    #[test]
    fn from_seed() {
        for id in [
            "keypair-client-static",
            "keypair-server-static",
            "keypair-client-ephemeral",
            "keypair-server-ephemeral",
        ] {
            let case = Case::load(id);
            let keys = pair(case.input("seed"));
            let secret = [keys.seed().as_slice(), &keys.public_key()].concat();
            assert_eq!(keys.public_key().as_slice(), case.hex("publicKey"), "{id}");
            assert_eq!(secret, case.hex("secretKey"), "{id}");
            assert_eq!(crate::hash(&[&keys.public_key()]).as_slice(), case.hex("target"), "{id}");
        }
    }

    #[test]
    fn dh_agrees() {
        let case = Case::load("dh-ed25519");
        let local = pair(case.input("local_seed"));
        let remote = pair(Case::load("keypair-server-static").input("seed"));
        let remote_public: PublicKey = case.input("remote_public").try_into().unwrap();
        assert_eq!(remote.public_key(), remote_public);
        let shared = bytes(&case.value["hex"]);
        assert_eq!(local.dh(&remote_public).unwrap().as_slice(), shared);
        assert_eq!(remote.dh(&local.public_key()).unwrap().as_slice(), shared);
    }

    #[test]
    fn dh_rejects_hostile_points() {
        let case = Case::load("dh-rejected-points");
        let local = pair(case.input("local_seed"));
        for (name, point) in case.value["hex"].as_object().unwrap() {
            let point: PublicKey = bytes(point).try_into().unwrap();
            assert!(matches!(local.dh(&point), Err(Error::InvalidPoint)), "{name}");
            assert!(!verify(&point, b"", &[0; 64]), "{name}");
        }
    }

    #[test]
    fn signatures() {
        let keys = KeyPair::generate();
        let signature = keys.sign(b"message");
        assert!(verify(&keys.public_key(), b"message", &signature));
        assert!(!verify(&keys.public_key(), b"massage", &signature));
        assert!(!verify(&KeyPair::generate().public_key(), b"message", &signature));
    }

    #[test]
    fn debug_hides_the_secret() {
        let text = format!("{:?}", KeyPair::from_seed(&[0xab; 32]));
        assert!(!text.contains("abab"), "{text}");
    }
}
