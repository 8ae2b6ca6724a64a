//! Peers to dial: the most urgent first, in random order among equals.

use rand::{Rng, RngExt};
use secret_stream::PublicKey;

use crate::peer::Priority;

/// The priorities, the most urgent first.
const ORDER: [Priority; 4] = [Priority::VeryHigh, Priority::High, Priority::Normal, Priority::Low];

/// The queue. Callers add no peer that is in it already.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    by_priority: [Vec<PublicKey>; ORDER.len()],
}

impl Queue {
    pub(crate) fn push(&mut self, key: PublicKey, priority: Priority) {
        let keys = ORDER.iter().zip(&mut self.by_priority).find(|(order, _)| **order == priority);
        if let Some((_, keys)) = keys {
            keys.push(key);
        }
    }

    /// Takes one of the most urgent.
    pub(crate) fn pop(&mut self, random: &mut impl Rng) -> Option<PublicKey> {
        let keys = self.by_priority.iter_mut().find(|keys| !keys.is_empty())?;
        let index = random.random_range(0..keys.len());
        Some(keys.swap_remove(index))
    }

    /// Takes one of the least urgent.
    pub(crate) fn pop_last(&mut self, random: &mut impl Rng) -> Option<PublicKey> {
        let keys = self.by_priority.iter_mut().rev().find(|keys| !keys.is_empty())?;
        let index = random.random_range(0..keys.len());
        Some(keys.swap_remove(index))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_priority.iter().all(Vec::is_empty)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.by_priority.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn urgent_first_and_shuffled_within() {
        let mut random = StdRng::seed_from_u64(1);
        let mut orders = HashSet::new();
        for _ in 0..100 {
            let mut queue = Queue::default();
            for (index, priority) in ORDER.into_iter().enumerate().rev() {
                for number in 0..3 {
                    queue.push([index as u8 * 10 + number; 32], priority);
                }
            }
            assert_eq!(queue.iter().count(), 12);
            let popped: Vec<u8> = std::iter::from_fn(|| queue.pop(&mut random)).map(|key| key[0]).collect();
            assert!(queue.is_empty());
            let groups: Vec<u8> = popped.iter().map(|key| key / 10).collect();
            assert_eq!(groups, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
            orders.insert(popped);

            queue.push([1; 32], Priority::Low);
            queue.push([2; 32], Priority::VeryHigh);
            assert_eq!(queue.pop_last(&mut random), Some([1; 32]));
            assert_eq!(queue.pop_last(&mut random), Some([2; 32]));
        }
        assert!(orders.len() > 50);
    }
}
