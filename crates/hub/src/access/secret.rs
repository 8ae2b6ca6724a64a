//! The secrets that a hub hands out: keys and invitations, and the sessions of its page. It keeps their
//! hashes alone. A plain SHA-256 is enough for that: each is 32 random bytes, so there is nothing to guess.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The random bytes of a secret.
const LENGTH: usize = 32;

/// What a secret is for, which its text begins with: so it is known by its looks, in a file as in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Key,
    Invitation,
    Session,
}

impl Purpose {
    fn prefix(self) -> &'static str {
        match self {
            Self::Key => "atsp2p_key_",
            Self::Invitation => "atsp2p_invitation_",
            Self::Session => "atsp2p_session_",
        }
    }
}

/// A secret in its text. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn generate(purpose: Purpose) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{}{}", purpose.prefix(), hex::encode(bytes))))
    }

    /// The text as one, if it has the form of one for this purpose.
    pub(crate) fn parse(text: &str, purpose: Purpose) -> Option<Self> {
        let digits = text.strip_prefix(purpose.prefix())?;
        let is_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        (digits.len() == 2 * LENGTH && is_hex).then(|| Self(text.to_owned()))
    }

    /// The text, to be shown this once to whom it is for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> Hash {
        Hash(hex::encode(Sha256::digest(&self.0)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The hash of a secret, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Hash(String);

impl Hash {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one that the database has. How long this takes does not say where they differ.
    pub(crate) fn is(&self, stored: &str) -> bool {
        bool::from(self.0.as_bytes().ct_eq(stored.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_for_its_purpose_alone_and_never_shown() {
        let key = Secret::generate(Purpose::Key).expect("random bytes");
        let other = Secret::generate(Purpose::Key).expect("random bytes");
        assert_ne!(key, other);
        assert_eq!(Secret::parse(key.expose(), Purpose::Key).as_ref(), Some(&key));
        assert_eq!(Secret::parse(key.expose(), Purpose::Invitation), None);
        assert_eq!(format!("{key:?}"), "(secret)");
        let text = key.expose();
        for wrong in [
            "",
            "atsp2p_key_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.to_uppercase(),
        ] {
            assert_eq!(Secret::parse(wrong, Purpose::Key), None, "{wrong}");
        }
    }

    #[test]
    fn a_hash_is_that_of_its_secret_alone() {
        let key = Secret::generate(Purpose::Key).expect("random bytes");
        let stored = key.hash().as_str().to_owned();
        assert!(key.hash().is(&stored) && !stored.contains(key.expose()));
        assert!(!Secret::generate(Purpose::Key).expect("random bytes").hash().is(&stored));
        assert!(!key.hash().is(""));
    }
}
