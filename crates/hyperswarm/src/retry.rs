//! When lost peers are tried again (hyperswarm/lib/{retry,bulk}-timer.js): four tiers, each a clock whose
//! tick releases those who waited through the whole tick before. `Peer::retry_tier` says who waits in which.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};
use secret_stream::PublicKey;

use crate::peer::Tier;

/// Wait of each tier, and the most that is added at random for the whole process. Without it, peers that lost
/// each other at one moment would dial each other at one moment.
const WAITS: [(Tier, Duration, Duration); 4] = [
    (Tier::Short, Duration::from_secs(1), Duration::from_millis(500)),
    (Tier::Medium, Duration::from_secs(5), Duration::from_secs(1)),
    (Tier::Long, Duration::from_secs(15), Duration::from_secs(2)),
    (Tier::Extra, Duration::from_secs(600), Duration::from_secs(120)),
];

/// The most that is added at random to each tier besides.
const JITTER: Duration = Duration::from_millis(500);

/// A tick's part of its tier's wait; a peer waits one to two ticks.
const TICK: f64 = 0.66;

/// All tiers.
#[derive(Debug)]
pub(crate) struct RetryTimers {
    tiers: Vec<(Tier, Clock)>,
}

#[derive(Debug)]
struct Clock {
    tick: Duration,
    /// When the clock was started, by the first to wait.
    started: Option<Instant>,
    /// The next tick, while anybody waits.
    next_tick: Option<Instant>,
    /// Released by the next tick.
    next: Vec<PublicKey>,
    /// Released by the tick after it.
    pending: Vec<PublicKey>,
}

impl RetryTimers {
    pub(crate) fn new(random: &mut impl Rng) -> Self {
        let tiers = WAITS.map(|(tier, wait, spread)| {
            let wait = wait + spread.mul_f64(random.random()) + JITTER.mul_f64(random.random());
            let tick = wait.mul_f64(TICK);
            let clock = Clock { tick, started: None, next_tick: None, next: Vec::new(), pending: Vec::new() };
            (tier, clock)
        });
        Self { tiers: tiers.into() }
    }

    /// Makes a peer wait.
    pub(crate) fn add(&mut self, now: Instant, tier: Tier, key: PublicKey) {
        if let Some((_, clock)) = self.tiers.iter_mut().find(|(of, _)| *of == tier) {
            clock.add(now, key);
        }
    }

    /// When to call [`Self::expired`] again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.tiers.iter().filter_map(|(_, clock)| clock.next_tick).min()
    }

    /// Those who waited long enough.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<PublicKey> {
        self.tiers.iter_mut().flat_map(|(_, clock)| clock.expired(now)).collect()
    }

    /// Forgets all that wait.
    pub(crate) fn clear(&mut self) {
        for (_, clock) in &mut self.tiers {
            clock.next.clear();
            clock.pending.clear();
            clock.next_tick = None;
        }
    }
}

impl Clock {
    fn add(&mut self, now: Instant, key: PublicKey) {
        self.pending.push(key);
        if self.next_tick.is_none() {
            let started = *self.started.get_or_insert(now);
            // It kept ticking while nobody waited.
            let into_tick = (now - started).as_nanos() % self.tick.as_nanos();
            let into_tick = Duration::from_nanos(u64::try_from(into_tick).unwrap_or(0));
            self.next_tick = Some(now + self.tick - into_tick);
        }
    }

    fn expired(&mut self, now: Instant) -> Vec<PublicKey> {
        let mut expired = Vec::new();
        while let Some(tick) = self.next_tick.filter(|tick| *tick <= now) {
            expired.append(&mut self.next);
            std::mem::swap(&mut self.next, &mut self.pending);
            self.next_tick = (!self.next.is_empty()).then(|| tick + self.tick);
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    /// Adds a peer `offset` after another, and measures how long it waits.
    fn wait(tier: Tier, offset: Duration, seed: u64) -> Duration {
        let mut timers = RetryTimers::new(&mut StdRng::seed_from_u64(seed));
        let start = Instant::now();
        timers.add(start, tier, [0; 32]);
        let added = start + offset;
        timers.expired(added);
        timers.add(added, tier, [1; 32]);
        loop {
            let now = timers.deadline().unwrap();
            if timers.expired(now).contains(&[1; 32]) {
                assert_eq!(timers.deadline(), None);
                return now - added;
            }
        }
    }

    #[test]
    fn one_to_two_ticks() {
        for (tier, base, spread) in WAITS {
            for seed in 0..20 {
                for offset in [0, 1, 300, 1000, 3456, 100_000, 1_000_000] {
                    let waited = wait(tier, Duration::from_millis(offset), seed);
                    let longest = (base + spread + JITTER).mul_f64(2.0 * TICK);
                    assert!(waited >= base.mul_f64(TICK), "{tier:?} {waited:?}");
                    assert!(waited <= longest, "{tier:?} {waited:?}");
                }
            }
        }
    }

    #[test]
    fn a_late_call_releases_everybody_once() {
        let mut timers = RetryTimers::new(&mut StdRng::seed_from_u64(2));
        let start = Instant::now();
        for (index, (tier, ..)) in WAITS.into_iter().enumerate() {
            timers.add(start, tier, [index as u8; 32]);
        }
        let later = start + Duration::from_secs(3600);
        let mut expired = timers.expired(later);
        expired.sort_unstable();
        assert_eq!(expired, [[0; 32], [1; 32], [2; 32], [3; 32]]);
        assert_eq!(timers.expired(later), Vec::<PublicKey>::new());
        assert_eq!(timers.deadline(), None);
    }

    #[test]
    fn cleared() {
        let mut timers = RetryTimers::new(&mut StdRng::seed_from_u64(3));
        timers.add(Instant::now(), Tier::Short, [1; 32]);
        timers.clear();
        assert_eq!(timers.deadline(), None);
    }
}
