//! A set of keys that forgets the oldest where it is full.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use secret_stream::PublicKey;

/// Keys in a set. Keys cost nothing, so without a limit strangers could fill the memory.
const MAX_KEYS: usize = 1024;

/// Keys of peers that share one property, such as being banned. Clones are the same set: the server asks it
/// from a task of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: HashSet<PublicKey>,
    order: VecDeque<PublicKey>,
}

impl KeySet {
    pub(crate) fn insert(&self, key: PublicKey) {
        let mut inner = self.lock();
        if inner.keys.insert(key) {
            inner.order.push_back(key);
        }
        if inner.order.len() > MAX_KEYS
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
        let keys = KeySet::default();
        for number in 0..=MAX_KEYS {
            keys.insert(key(number));
            keys.insert(key(number));
            assert!(keys.contains(&key(number)));
        }
        assert!(!keys.contains(&key(0)));
        assert!(keys.contains(&key(1)));
        let inner = keys.lock();
        assert_eq!(inner.keys.len(), inner.order.len());
    }
}
