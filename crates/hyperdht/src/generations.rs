//! A cache in two generations: bounded in size, and without a timer for each entry.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A map that keeps an entry for two thirds to four thirds of `max_age` after its last use, and at most `2 ·
/// max_size` entries. When the young generation is full or two thirds of the age have passed, it becomes the
/// old one and the old one is dropped (spec/dht.md §11).
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    max_size: usize,
    turn_every: Duration,
    turned: Instant,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    pub(crate) fn new(now: Instant, max_size: usize, max_age: Duration) -> Self {
        Self {
            max_size,
            turn_every: max_age * 2 / 3,
            turned: now,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, now: Instant, key: K, value: V) {
        self.expire(now);
        self.old.remove(&key);
        self.young.insert(key, value);
        if self.young.len() >= self.max_size {
            self.turn(now);
        }
    }

    /// The value; it becomes as young as a new one.
    pub(crate) fn get<Q>(&mut self, now: Instant, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.expire(now);
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.young.insert(key, value);
        }
        self.young.get_mut(key)
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn expire(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age >= self.turn_every * 2 {
            self.young.clear();
            self.turn(now);
        } else if age >= self.turn_every {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.turned = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(30);

    fn keys(map: &HashMap<&'static str, u32>) -> Vec<&'static str> {
        let mut keys: Vec<_> = map.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// The steps of the trace `xache`, without those of retained entries.
    #[test]
    fn generations_turn_as_in_the_trace() {
        let now = Instant::now();
        let mut cache = Generations::new(now, 2, AGE);
        cache.insert(now, "a", 1);
        assert_eq!((keys(&cache.young), keys(&cache.old)), (vec!["a"], vec![]));
        cache.insert(now, "b", 2);
        assert_eq!((keys(&cache.young), keys(&cache.old)), (vec![], vec!["a", "b"]));
        assert_eq!(cache.get(now, "a"), Some(&mut 1));
        assert_eq!((keys(&cache.young), keys(&cache.old)), (vec!["a"], vec!["b"]));
        cache.insert(now, "c", 3);
        assert_eq!((keys(&cache.young), keys(&cache.old)), (vec![], vec!["a", "c"]));
    }

    #[test]
    fn what_is_not_used_is_gone_after_four_thirds_of_the_age() {
        let start = Instant::now();
        let mut cache = Generations::new(start, 100, AGE);
        cache.insert(start, "used", 1);
        cache.insert(start, "unused", 2);
        let later = start + AGE * 2 / 3;
        assert!(cache.get(later, "used").is_some());
        let later = later + AGE * 2 / 3;
        assert!(cache.get(later, "used").is_some());
        assert!(cache.get(later, "unused").is_none());
        assert!(cache.get(later + AGE * 4 / 3, "used").is_none());
        assert!(cache.is_empty());
    }
}
