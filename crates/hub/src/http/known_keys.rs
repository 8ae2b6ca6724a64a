//! Whose the keys are that were shown lately, so that a request is counted as its actor's before anything is
//! asked of the database for it. What this knows lets nobody in.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard};

use super::connections::Payer;
use super::recent::Recent;
use crate::access::secret::{Hash, Secret};
use crate::sync::lock;

/// The keys that were shown lately and held.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys {
    /// Another one at each start, so that nobody chooses an id that counts as somebody else's.
    hasher: RandomState,
    actors: Mutex<Recent<Hash, Payer>>,
}

impl KnownKeys {
    /// What an actor counts as.
    pub(super) fn payer(&self, actor: &str) -> Payer {
        Payer::Actor(self.hasher.hash_one(actor))
    }

    /// What the holder of a key counts as, where the key is known.
    pub(super) fn holder(&self, key: &Secret) -> Option<Payer> {
        self.actors().get(&key.hash()).copied()
    }

    /// Notes that a key was shown which speaks for this actor.
    pub(super) fn learn(&self, key: &Secret, actor: &str) {
        self.actors().get_or_insert(key.hash(), || self.payer(actor));
    }

    /// Notes that a key holds no longer.
    pub(super) fn forget(&self, key: &Secret) {
        self.actors().remove(&key.hash());
    }

    fn actors(&self) -> MutexGuard<'_, Recent<Hash, Payer>> {
        lock(&self.actors)
    }
}
