//! Keys that the relay serves for a while although no task names them: those of doctors that wait to be
//! reached from another machine.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use protocol::RELAY_ALLOWLIST_TIME;
use secret_stream::PublicKey;

use crate::sync::lock;

/// Keys at once; the one that was added first makes room.
const MAX_KEYS: usize = 64;

/// The keys and when each is dropped, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct RelayAllowlist(Mutex<VecDeque<(PublicKey, Instant)>>);

impl RelayAllowlist {
    /// Adds a key for [`RELAY_ALLOWLIST_TIME`]; the time of one that is on the list begins anew.
    pub(crate) fn add(&self, now: Instant, key: PublicKey) {
        let mut keys = lock(&self.0);
        keys.retain(|(listed, until)| *until > now && *listed != key);
        if keys.len() >= MAX_KEYS {
            keys.pop_front();
        }
        keys.push_back((key, now + RELAY_ALLOWLIST_TIME));
    }

    /// Whether the key is on the list.
    pub(crate) fn contains(&self, now: Instant, key: &PublicKey) -> bool {
        let keys = lock(&self.0);
        keys.iter().any(|(listed, until)| listed == key && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_for_a_while_and_the_first_makes_room() {
        let (allowlist, now) = (RelayAllowlist::default(), Instant::now());
        allowlist.add(now, [1; 32]);
        assert!(allowlist.contains(now, &[1; 32]) && !allowlist.contains(now, &[2; 32]));
        assert!(!allowlist.contains(now + RELAY_ALLOWLIST_TIME, &[1; 32]));
        allowlist.add(now + RELAY_ALLOWLIST_TIME / 2, [1; 32]);
        assert!(allowlist.contains(now + RELAY_ALLOWLIST_TIME, &[1; 32]));
        for key in 2..=64 {
            allowlist.add(now, [key; 32]);
        }
        assert!(allowlist.contains(now, &[1; 32]));
        allowlist.add(now, [65; 32]);
        assert!(!allowlist.contains(now, &[1; 32]));
        assert!(allowlist.contains(now, &[2; 32]) && allowlist.contains(now, &[65; 32]));
    }
}
