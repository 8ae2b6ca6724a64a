//! How long to wait for a node, learnt from how fast it answered (spec/dht.md §7).

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use crate::generations::Generations;

/// Addresses remembered in a generation, and for how long (JavaScript's values).
const MAX_ADDRESSES: usize = 65_536;
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// The shortest and the longest wait for a known node, in milliseconds.
const MIN: i64 = 300;
const MAX: i64 = 4000;
/// Waits for an unknown node by attempt, in milliseconds; the last one is for all further ones.
const UNKNOWN: [i64; 5] = [250, 500, 1000, 2000, 4000];
/// Up to this many milliseconds are added at random, so that requests sent together are not repeated
/// together.
const JITTER: i64 = 256;
/// After more sends than this, an answer tells nothing about the round trip: it may answer any of them.
const MAX_SENDS: u32 = 2;

/// Round trips by address.
#[derive(Debug)]
pub(super) struct AdaptiveTimeouts {
    known: Generations<SocketAddrV4, Estimate>,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Estimate {
    average: i64,
    variance: i64,
}

impl AdaptiveTimeouts {
    pub(super) fn new(now: Instant) -> Self {
        Self { known: Generations::new(now, MAX_ADDRESSES, MAX_AGE) }
    }

    /// A node answered `rtt` after the first of `sends`.
    pub(super) fn answered(&mut self, now: Instant, addr: SocketAddrV4, rtt: Duration, sends: u32) {
        if sends <= MAX_SENDS {
            self.learn(now, addr, i64::try_from(rtt.as_millis()).unwrap_or(MAX));
        }
    }

    /// How long to wait after the send with this number, the first being 1.
    pub(super) fn timeout(
        &mut self,
        now: Instant,
        addr: SocketAddrV4,
        attempt: u32,
        rng: &mut impl Rng,
    ) -> Duration {
        let millis = self.millis(now, addr, attempt, rng.random_range(0..JITTER));
        Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }

    fn learn(&mut self, now: Instant, addr: SocketAddrV4, rtt: i64) {
        let estimate = match self.known.get(now, &addr) {
            None => Estimate { average: rtt, variance: rtt >> 1 },
            Some(Estimate { average, variance }) => Estimate {
                variance: *variance + (((*average - rtt).abs() - *variance) >> 2),
                average: *average + ((rtt - *average) >> 3),
            },
        };
        self.known.insert(now, addr, estimate);
    }

    fn millis(&mut self, now: Instant, addr: SocketAddrV4, attempt: u32, jitter: i64) -> i64 {
        match self.known.get(now, &addr) {
            Some(Estimate { average, variance }) => {
                let wait = (*average + 2 * *variance).saturating_mul(attempt.into());
                wait.saturating_add(jitter).clamp(MIN, MAX)
            }
            None => {
                let attempt = usize::try_from(attempt).unwrap_or(usize::MAX);
                UNKNOWN.get(attempt.saturating_sub(1)).unwrap_or(&MAX) + jitter
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::trace;

    #[test]
    fn waits_are_those_of_the_trace() {
        let (now, addr) = (Instant::now(), SocketAddrV4::new([8, 8, 8, 8].into(), 1));
        let mut timeouts = AdaptiveTimeouts::new(now);
        for (i, step) in trace("adaptive-timeout")["steps"].as_array().unwrap().iter().enumerate() {
            if let Some(rtt) = step["put"].as_i64() {
                timeouts.learn(now, addr, rtt);
                let Estimate { average, variance } = *timeouts.known.get(now, &addr).unwrap();
                assert_eq!((&step["avg"], &step["variance"]), (&average.into(), &variance.into()), "{i}");
            } else {
                let attempt = u32::try_from(step["get"].as_u64().unwrap()).unwrap();
                assert_eq!(step["ms"], timeouts.millis(now, addr, attempt, 0), "step {i}");
            }
        }
    }

    #[test]
    fn an_answer_after_many_sends_says_nothing() {
        let (now, addr) = (Instant::now(), SocketAddrV4::new([8, 8, 8, 8].into(), 1));
        let mut timeouts = AdaptiveTimeouts::new(now);
        timeouts.answered(now, addr, Duration::from_secs(3), 3);
        assert!(timeouts.known.is_empty());
        timeouts.answered(now, addr, Duration::from_secs(3), 2);
        assert_eq!(timeouts.millis(now, addr, 1, 0), MAX);
    }
}
