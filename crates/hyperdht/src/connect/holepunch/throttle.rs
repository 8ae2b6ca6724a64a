//! Limits how often a node probes random ports.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// Random punches at once (hyperdht/index.js randomPunchLimit): each opens 256 sockets or fills the tables of
/// a router.
const LIMIT: u32 = 1;
/// Time between the end of one and the start of the next (hyperdht/index.js randomPunchInterval).
const INTERVAL: Duration = Duration::from_secs(20);

/// Shared by all punchers of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle(Arc<Mutex<ThrottleState>>);

#[derive(Debug, Default)]
struct ThrottleState {
    active: u32,
    last: Option<Instant>,
}

impl Throttle {
    /// The permission to punch at random, or none for now.
    pub(crate) fn start(&self, now: Instant) -> Option<RandomPunch> {
        let mut state = self.lock();
        let lately = state.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL);
        if state.active >= LIMIT || lately {
            return None;
        }
        state.active += 1;
        Some(RandomPunch { throttle: self.clone(), now, sent: false })
    }

    fn lock(&self) -> MutexGuard<'_, ThrottleState> {
        lock(&self.0)
    }
}

/// A random punch under way; dropping it is its end.
#[derive(Debug)]
pub(crate) struct RandomPunch {
    throttle: Throttle,
    now: Instant,
    sent: bool,
}

impl RandomPunch {
    /// Probes are being sent at this time.
    pub(crate) fn is_active(&mut self, now: Instant) {
        self.now = now;
        self.sent = true;
    }
}

impl Drop for RandomPunch {
    fn drop(&mut self) {
        let mut state = self.throttle.lock();
        state.active -= 1;
        // A punch that the peer refused before any probe was sent does not count.
        if self.sent {
            state.last = state.last.max(Some(self.now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_a_pause_after_each() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let mut punch = throttle.start(start).unwrap();
        assert!(throttle.start(start + INTERVAL * 2).is_none());
        let end = start + Duration::from_secs(30);
        punch.is_active(end);
        drop(punch);
        assert!(throttle.start(end + INTERVAL / 2).is_none());
        assert!(throttle.start(end + INTERVAL).is_some());
    }

    #[test]
    fn one_that_did_not_come_about_does_not_count() {
        let throttle = Throttle::default();
        let now = Instant::now();
        drop(throttle.start(now).unwrap());
        assert!(throttle.start(now).is_some());
    }
}
