//! The secret that all identities of a user are derived from, and its text on the disk.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use protocol::handover::Handover;
use protocol::identity::IdentityKey;
use protocol::scope::Scope;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The first line of a seed's text.
const HEADER: &str = "ats-p2p seed 1";

/// What is derived here, so that no key for something else is the same.
const DERIVATION: &str = "ats-p2p/identity/1";
const TRANSFER_DERIVATION: &str = "ats-p2p/transfer/1";

/// Bytes of the checksum: a slip of a few characters goes by unnoticed once in four thousand million times.
const CHECKSUM_LEN: usize = 4;

/// Seeds that are kept after others took their places, for the peers that have not met this user since.
const MAX_FORMER: usize = 3;

/// The secret that all identities of a user are derived from, and those before it. They are wiped from memory
/// when they are dropped.
#[derive(PartialEq)]
pub(super) struct Seed {
    secret: SeedBytes,
    /// The newest first.
    former: Vec<SeedBytes>,
}

#[derive(Clone, PartialEq)]
struct SeedBytes(Zeroizing<[u8; 32]>);

impl Seed {
    /// A new one, of the system's randomness.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        Ok(Self { secret: SeedBytes(secret), former: Vec::new() })
    }

    /// This one in place of `old`, whose identities hand over to those of this one.
    pub(super) fn after(self, old: Self) -> Self {
        let former = std::iter::once(old.secret).chain(old.former).take(MAX_FORMER).collect();
        Self { former, ..self }
    }

    /// Whether whoever has this one has all of `old`: it is the same, or stands in its place.
    pub(super) fn covers(&self, old: &Self) -> bool {
        self.all().any(|secret| *secret == old.secret)
    }

    /// Reads a seed's text; `None` where it is anything else, or a character of it is wrong.
    pub(super) fn from_text(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.trim().lines();
        if lines.next()?.trim_end() != HEADER {
            return None;
        }
        let mut secrets = lines.map(SeedBytes::from_line);
        let secret = secrets.next()??;
        let former = secrets.collect::<Option<Vec<_>>>()?;
        (former.len() <= MAX_FORMER).then_some(Self { secret, former })
    }

    /// The seed as text, for a file or for another machine.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(512));
        text.push_str(HEADER);
        text.push('\n');
        for secret in self.all() {
            text.push_str(&secret.to_line());
        }
        text
    }

    /// The identity of an actor: another one for each actor in each scope, so that nobody can tell that they
    /// are the same user's.
    pub(super) fn key(&self, scope: &Scope, actor: &str) -> IdentityKey {
        self.secret.key(scope, actor)
    }

    /// The word of the identities that the actor had before for the one that it has now.
    pub(super) fn handovers(&self, scope: &Scope, actor: &str, to: &[u8; 32]) -> Vec<Handover> {
        self.former.iter().map(|former| Handover::sign(&former.key(scope, actor), to)).collect()
    }

    /// Whether an identity is the actor's, or was before this seed took another's place.
    pub(super) fn has(&self, scope: &Scope, actor: &str, identity: &[u8; 32]) -> bool {
        self.all().any(|secret| secret.key(scope, actor).public_key() == *identity)
    }

    /// The random bytes of a transfer's id: of one that an idempotency key of the actor stands for. Whoever
    /// has not the seed can't guess them.
    pub(super) fn transfer_id(&self, scope: &Scope, actor: &str, key: &str, attempt: u32) -> [u8; 16] {
        let attempt = attempt.to_string();
        let derived = self.secret.derive(&[
            TRANSFER_DERIVATION,
            scope.url(),
            scope.organization(),
            scope.project(),
            actor,
            key,
            &attempt,
        ]);
        std::array::from_fn(|i| derived[i])
    }

    fn all(&self) -> impl Iterator<Item = &SeedBytes> {
        std::iter::once(&self.secret).chain(&self.former)
    }
}

impl SeedBytes {
    fn from_line(line: &str) -> Option<Self> {
        let (digits, checksum) = line.trim().split_once(' ')?;
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut *secret).ok()?;
        (checksum == checksum_of(&secret)).then_some(Self(secret))
    }

    fn to_line(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(hex::encode(self.0.as_slice()));
        Zeroizing::new(format!("{} {}\n", *digits, checksum_of(&self.0)))
    }

    fn key(&self, scope: &Scope, actor: &str) -> IdentityKey {
        let parts = [DERIVATION, scope.url(), scope.organization(), scope.project(), actor];
        IdentityKey::from_seed(&self.derive(&parts))
    }

    /// HMAC-SHA-256 of the parts, each behind its length.
    fn derive(&self, parts: &[&str]) -> Zeroizing<[u8; 32]> {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("a key of any length");
        for part in parts {
            mac.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").finish_non_exhaustive()
    }
}

fn checksum_of(seed: &[u8; 32]) -> String {
    let hash = Sha256::new().chain_update(HEADER).chain_update(seed).finalize();
    hex::encode(&hash[..CHECKSUM_LEN])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seed() -> Seed {
        Seed { secret: SeedBytes(Zeroizing::new(std::array::from_fn(|i| i as u8))), former: Vec::new() }
    }

    #[test]
    fn the_text_of_a_seed_is_the_same_for_ever() {
        let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        assert_eq!(*seed().to_text(), format!("ats-p2p seed 1\n{digits} 697208c1\n"));
        assert_eq!(Seed::from_text(seed().to_text().as_bytes()), Some(seed()));
        let carried = seed().to_text().replace('\n', "\r\n");
        assert_eq!(Seed::from_text(carried.as_bytes()), Some(seed()));
    }

    #[test]
    fn the_identities_of_a_seed_are_the_same_for_ever() {
        let identity = |url: &str, organization: &str, project: &str, actor: &str| {
            hex::encode(seed().key(&Scope::new(url, organization, project), actor).public_key())
        };
        let one = identity("https://ats.example.com", "default", "main", "agent-b");
        assert_eq!(one, "9e91b726284e507252e2b867704f941d763bdcf503db15bc5b6143111cab547f");
        assert_eq!(one, identity("https://ATS.example.com:443/", "default", "main", "agent-b"));
        for other in [
            identity("https://ats.example.org", "default", "main", "agent-b"),
            identity("https://ats.example.com", "defaultm", "ain", "agent-b"),
            identity("https://ats.example.com", "default", "main", "agent-c"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_transfer_of_a_key_is_the_same_for_ever_and_nobody_elses() {
        let id = |seed: &Seed, actor: &str, key: &str, attempt: u32| {
            hex::encode(seed.transfer_id(
                &Scope::new("https://ats.example.com", "o", "p"),
                actor,
                key,
                attempt,
            ))
        };
        let one = id(&seed(), "a", "k", 0);
        assert_eq!(one, id(&seed(), "a", "k", 0));
        assert_eq!(one, "0911a0c0d23d9fc71586e4067277330b");
        for other in [
            id(&Seed::random().unwrap(), "a", "k", 0),
            id(&seed(), "b", "k", 0),
            id(&seed(), "ak", "", 0),
            id(&seed(), "a", "k", 1),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn two_seeds_are_two_identities_and_show_nothing_of_themselves() {
        let (one, other) = (Seed::random().unwrap(), Seed::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(format!("{:?}", seed()), "Seed { .. }");
    }

    #[test]
    fn a_seed_that_takes_the_place_of_another_speaks_for_it_too() {
        let scope = Scope::new("https://ats.example.com", "o", "p");
        let rotated = |old: Seed| Seed::random().unwrap().after(old);
        let (old, other) = (seed(), Seed::random().unwrap());
        let new = rotated(seed());
        assert!(new.covers(&old) && new.covers(&new) && !old.covers(&new) && !new.covers(&other));
        assert_eq!(Seed::from_text(new.to_text().as_bytes()).as_ref(), Some(&new));
        let [from, to] = [&old, &new].map(|seed| seed.key(&scope, "b").public_key());
        let [handover] = new.handovers(&scope, "b", &to)[..] else { panic!("one") };
        assert!(handover.is_of(&from, &to));
        assert!(!new.handovers(&scope, "c", &to)[0].is_of(&from, &to), "another actor");
        let many = (0..5).fold(new, |seed, _| rotated(seed));
        assert_eq!(many.handovers(&scope, "b", &to).len(), MAX_FORMER);
        assert_eq!(Seed::from_text(many.to_text().as_bytes()).as_ref(), Some(&many));
        let surplus = format!("{}{}", *many.to_text(), *seed().secret.to_line());
        assert_eq!(Seed::from_text(surplus.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn a_slip_is_noticed(at in 0..90usize, to in "[0-9a-fA-F \n]") {
            let text = seed().to_text();
            let at = at % text.len();
            let mut slip = text.as_bytes().to_vec();
            slip[at] = to.as_bytes()[0];
            let read = Seed::from_text(&slip);
            prop_assert!(read.is_none() || read == Some(seed()));
            prop_assert!(Seed::from_text(&text.as_bytes()[..at]).is_none_or(|read| read == seed()));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Seed::from_text(&bytes);
        }
    }
}
