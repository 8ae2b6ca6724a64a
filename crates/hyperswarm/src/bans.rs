//! Peers that are to be remembered for one thing, a bounded number of them.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use secret_stream::PublicKey;

/// Keys remembered; beyond it the oldest is forgotten, and will be judged anew. Keys cost nothing.
const MAX_BANS: usize = 1024;

/// A set of peers that something is remembered of: that they are refused without asking again, or that a
/// relay is needed. Clones are the same set: the server asks while the swarm is busy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: HashSet<PublicKey>,
    order: VecDeque<PublicKey>,
}

impl Bans {
    pub(crate) fn insert(&self, key: PublicKey) {
        let mut inner = self.lock();
        if inner.keys.insert(key) {
            inner.order.push_back(key);
        }
        if inner.order.len() > MAX_BANS
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.keys.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, key: &PublicKey) -> bool {
        self.lock().keys.contains(key)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        let bans = Bans::default();
        for number in 0..=MAX_BANS {
            bans.insert(key(number));
            bans.insert(key(number));
            assert!(bans.contains(&key(number)));
        }
        assert!(!bans.contains(&key(0)));
        assert!(bans.contains(&key(1)));
        let inner = bans.lock();
        assert_eq!(inner.keys.len(), inner.order.len());
    }
}
