//! What is remembered of clients, of which there may be any number.

use std::collections::HashMap;
use std::hash::Hash;

/// How many are remembered for certain.
pub(super) const MAX_REMEMBERED: usize = 8192;

/// What was noted by a key. Those that nobody asked for lately are forgotten first: what is looked up moves
/// to the newer of two maps, and when that is full, it takes the place of the older one.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { newer: HashMap::new(), older: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// What was noted, or else what `first` gives, which is noted now.
    pub(super) fn get_or_insert(&mut self, key: K, first: impl FnOnce() -> V) -> &mut V {
        if !self.newer.contains_key(&key) && self.newer.len() >= MAX_REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        let known = self.older.remove(&key);
        self.newer.entry(key).or_insert_with(|| known.unwrap_or_else(first))
    }

    /// What was noted.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.newer.get(key).or_else(|| self.older.get(key))
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.newer.remove(key);
        self.older.remove(key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }
}
