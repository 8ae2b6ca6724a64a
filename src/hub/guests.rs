//! Keys that the relay serves for a while although no task names them: those of doctors that wait to be
//! reached from another machine.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use secret_stream::PublicKey;

/// How long a key stays; whoever stays longer asks again.
pub const STAY: Duration = Duration::from_secs(10 * 60);
/// Keys at once; the one that came first makes room.
const MAX_GUESTS: usize = 64;

/// The keys, the one that leaves first in front.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<VecDeque<(PublicKey, Instant)>>);

impl Guests {
    /// Lets a key in, or stay anew.
    pub(super) fn admit(&self, now: Instant, key: PublicKey) {
        let mut guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|(guest, until)| *until > now && *guest != key);
        if guests.len() >= MAX_GUESTS {
            guests.pop_front();
        }
        guests.push_back((key, now + STAY));
    }

    /// Whether the key is in.
    pub(super) fn has(&self, now: Instant, key: &PublicKey) -> bool {
        let guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guests.iter().any(|(guest, until)| guest == key && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_stays_for_a_while_and_the_first_makes_room() {
        let (guests, now) = (Guests::default(), Instant::now());
        guests.admit(now, [1; 32]);
        assert!(guests.has(now, &[1; 32]) && !guests.has(now, &[2; 32]));
        assert!(!guests.has(now + STAY, &[1; 32]));
        guests.admit(now + STAY / 2, [1; 32]);
        assert!(guests.has(now + STAY, &[1; 32]));
        for key in 2..=64 {
            guests.admit(now, [key; 32]);
        }
        assert!(guests.has(now, &[1; 32]));
        guests.admit(now, [65; 32]);
        assert!(!guests.has(now, &[1; 32]) && guests.has(now, &[2; 32]) && guests.has(now, &[65; 32]));
    }
}
