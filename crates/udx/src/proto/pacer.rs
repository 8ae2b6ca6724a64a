//! Spreads packets over time at the rate congestion control allows (spec §9 and §16).

use crate::time::{Instant, MILLISECOND, Micros};

/// What may be sent before anything is known of the path, in bytes.
const INITIAL_TOKENS: f64 = 25_000.0;
/// Credit that idle time can earn, in packets: a burst that fits the smallest receive buffers met in the
/// wild.
const IDLE_CREDIT: usize = 32;
/// Timers of the runtime fire this coarsely; credit for as long must not be lost, or they would limit the
/// rate.
const TICK: Micros = MILLISECOND;
/// A busy machine lets us run this late: credit for as long is kept too, up to so many packets, which the
/// smallest receive buffers hold as well (spec §16).
const DELAY: Micros = 10 * MILLISECOND;
const DELAYED: usize = 128;
/// Packets are released in bursts of this much time, so that one system call carries many.
const BURST: Micros = 250;
/// Most packets waited for to fill a burst: what one segmented send carries.
const MAX_BURST: usize = 32;

/// A token bucket in bytes.
#[derive(Debug, Clone)]
pub(super) struct Pacer {
    tokens: f64,
    updated: Option<Instant>,
}

impl Pacer {
    pub(super) fn new() -> Self {
        Self { tokens: INITIAL_TOKENS, updated: None }
    }

    /// Lets tokens grow to `now` at `rate` bytes per microsecond.
    pub(super) fn refill(&mut self, now: Instant, rate: f64, packet: usize) {
        let elapsed = self.updated.map_or(0, |updated| now - updated);
        self.updated = Some(now);
        if elapsed == 0 {
            return;
        }
        let cap = cap(rate, packet);
        if self.tokens < cap {
            self.tokens = (self.tokens + elapsed as f64 * rate).min(cap);
        }
    }

    /// Whether a packet may leave now. Any positive balance permits one.
    pub(super) fn has_tokens(&self) -> bool {
        self.tokens > 0.0
    }

    /// Whether enough gathered for a burst at `rate`, or for `wanted` bytes if that is less.
    pub(super) fn is_burst_ready(&self, rate: f64, packet: usize, wanted: usize) -> bool {
        self.tokens > 0.0 && self.tokens >= burst(rate, packet).min(wanted as f64)
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }

    /// How long until a burst is ready.
    pub(super) fn wait(&self, rate: f64, packet: usize) -> Micros {
        let missing = burst(rate, packet) - self.tokens;
        if missing <= 0.0 { 1 } else { (missing / rate).ceil().clamp(1.0, 1e9) as Micros }
    }
}

fn cap(rate: f64, packet: usize) -> f64 {
    let delayed = (rate * DELAY as f64).min((DELAYED * packet) as f64);
    ((IDLE_CREDIT * packet) as f64).max(rate * TICK as f64).max(delayed)
}

fn burst(rate: f64, packet: usize) -> f64 {
    (rate * BURST as f64).clamp(1.0, (MAX_BURST * packet) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_earns_a_bounded_burst() {
        let mut pacer = Pacer::new();
        pacer.refill(Instant::from_micros(0), 1.0, 1000);
        pacer.take(25_000);
        assert!(!pacer.has_tokens());
        pacer.refill(Instant::from_micros(1), 1.0, 1000);
        assert!(pacer.has_tokens());
        pacer.refill(Instant::from_micros(10_000_000), 1.0, 1000);
        assert!(pacer.tokens <= 32_000.0);
        assert!(pacer.is_burst_ready(1.0, 1000, 250));
    }

    #[test]
    fn a_busy_machine_does_not_lower_the_rate() {
        let mut pacer = Pacer::new();
        pacer.refill(Instant::from_micros(0), 12.5, 1500);
        let mut sent = 0;
        for turn in 1..=100 {
            pacer.refill(Instant::from_micros(turn * DELAY), 12.5, 1500);
            while pacer.has_tokens() {
                pacer.take(1500);
                sent += 1500;
            }
        }
        // 100 Mbit/s for a second, and what may be sent at first.
        assert!((12_500_000..12_600_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_millisecond_of_a_fast_rate_is_kept() {
        let mut pacer = Pacer::new();
        pacer.refill(Instant::from_micros(0), 1000.0, 1000);
        pacer.refill(Instant::from_micros(1000), 1000.0, 1000);
        assert!(pacer.tokens >= 1_000_000.0);
    }
}
