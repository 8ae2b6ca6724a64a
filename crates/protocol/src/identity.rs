//! Lasting keys, by which an actor is known again, and what they sign.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// The secret half of an actor's identity. It is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct IdentityKey(SigningKey);

/// An identity beside its signature over something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The public key.
    pub identity: [u8; 32],
    /// Ed25519.
    pub signature: [u8; 64],
}

impl IdentityKey {
    /// The key that is derived from this seed, as RFC 8032 derives it.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The identity as others see it.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Proof {
        Proof { identity: self.public_key(), signature: self.0.sign(message).to_bytes() }
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityKey").field(&hex::encode(self.public_key())).finish()
    }
}

impl Proof {
    /// Whether the identity signed this message. Keys of a small order, under which one signature fits many
    /// messages, sign nothing.
    pub fn is_of(&self, message: &[u8]) -> bool {
        VerifyingKey::from_bytes(&self.identity)
            .and_then(|key| key.verify_strict(message, &Signature::from_bytes(&self.signature)))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second test of RFC 8032, section 7.1.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let seed = hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = IdentityKey::from_seed(&seed.try_into().unwrap());
        let proof = key.sign(&[0x72]);
        assert_eq!(
            hex::encode(proof.identity),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert_eq!(
            hex::encode(proof.signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert!(proof.is_of(&[0x72]) && !proof.is_of(&[0x73]) && !proof.is_of(&[]));
    }

    #[test]
    fn a_key_under_which_everything_is_signed_signs_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!Proof { identity, signature }.is_of(b"anything"));
        assert!(!Proof { identity: [0xff; 32], signature }.is_of(b"anything"));
    }

    #[test]
    fn what_is_shown_of_a_key_is_public() {
        let key = IdentityKey::from_seed(&[0x42; 32]);
        let shown = format!("{key:?}");
        assert!(
            shown.contains(&hex::encode(key.public_key())) && !shown.contains(&"42".repeat(8)),
            "{shown}"
        );
    }
}
