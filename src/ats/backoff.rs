//! Pauses that double.

use std::time::Duration;

/// The share of each pause that chance decides, so that many clients that lost one service at one moment
/// do not come back at one moment.
const JITTER: f64 = 0.25;

/// The pauses between attempts: `first`, doubling to `longest`, each shortened by up to a quarter.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause; `chance` is a number from 0 up to 1.
    pub(super) fn pause(&mut self, chance: f64) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(self.longest);
        nominal.mul_f64(1.0 - JITTER * chance.clamp(0.0, 1.0))
    }

    /// Starts over with the first pause.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
        let pauses: Vec<u64> = (0..7).map(|_| backoff.pause(0.0).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.pause(1.0), Duration::from_millis(1500));
        assert_eq!(backoff.pause(0.5), Duration::from_millis(3500));
    }
}
