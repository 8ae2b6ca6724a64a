use std::collections::{HashSet, VecDeque};

use secret_stream::PublicKey;

/// Keys remembered as refused; beyond it the oldest is forgotten, and will be judged anew. Keys cost nothing.
const MAX_BANS: usize = 1024;

/// Peers that are refused without asking again.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    keys: HashSet<PublicKey>,
    order: VecDeque<PublicKey>,
}

impl Bans {
    pub fn insert(&mut self, key: PublicKey) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_BANS
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
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
        let mut bans = Bans::default();
        for number in 0..=MAX_BANS {
            bans.insert(key(number));
            bans.insert(key(number));
            assert!(bans.contains(&key(number)));
        }
        assert!(!bans.contains(&key(0)));
        assert!(bans.contains(&key(1)));
        assert_eq!(bans.keys.len(), bans.order.len());
    }
}
