//! Limits on how much strangers can make this node do in a second.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::address::is_private;

/// Networks that are counted one by one; all others share one allowance. 4096 entries of 24 bytes are a tenth
/// of a megabyte.
const MAX_NETWORKS: usize = 4096;

/// Below this number, entries are kept without checking whether they are still needed.
const FEW_NETWORKS: usize = 64;

/// An allowance for each /24 network of sources, refilled at a steady rate up to a burst.
///
/// Private sources are not limited: they are the user's own network, and on a private network all peers may
/// share one address.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// The time in which a source earns one event.
    interval: Duration,
    burst: u32,
    networks: HashMap<[u8; 3], Bucket>,
    /// At this number of networks, those with a full allowance are forgotten.
    clear_at: usize,
    others: Bucket,
}

/// The events that were spent, as the time that it takes to earn them back.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When the allowance is full again.
    full_at: Option<Instant>,
}

impl RateLimit {
    /// `per_second` events, at least one, and `burst` at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            burst,
            networks: HashMap::new(),
            clear_at: FEW_NETWORKS,
            others: Bucket { full_at: None },
        }
    }

    /// Whether one more event of `source` may happen now; it is counted if so.
    pub(crate) fn allow(&mut self, now: Instant, source: Ipv4Addr) -> bool {
        if is_private(source) {
            return true;
        }
        let [a, b, c, _] = source.octets();
        let network = [a, b, c];
        if self.networks.len() >= self.clear_at && !self.networks.contains_key(&network) {
            self.networks.retain(|_, bucket| bucket.full_at.is_some_and(|full| full > now));
            // Looks again only when twice as many have come.
            self.clear_at = (2 * self.networks.len()).clamp(FEW_NETWORKS, MAX_NETWORKS);
        }
        let bucket = if self.networks.len() < MAX_NETWORKS || self.networks.contains_key(&network) {
            self.networks.entry(network).or_insert(Bucket { full_at: None })
        } else {
            &mut self.others
        };
        bucket.spend(now, self.interval, self.burst)
    }

    /// Networks that are counted one by one.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        self.networks.len()
    }
}

impl Bucket {
    fn spend(&mut self, now: Instant, interval: Duration, burst: u32) -> bool {
        let from = self.full_at.map_or(now, |full| full.max(now));
        let full_at = from + interval;
        let allowed = full_at.saturating_duration_since(now) <= interval * burst;
        if allowed {
            self.full_at = Some(full_at);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut limit = RateLimit::new(10, 5);
        let start = Instant::now();
        let passed = (0..20).filter(|_| limit.allow(start, PUBLIC)).count();
        assert_eq!(passed, 5);
        let later = start + Duration::from_millis(200);
        let passed = (0..20).filter(|_| limit.allow(later, PUBLIC)).count();
        assert_eq!(passed, 2);
    }

    #[test]
    fn a_network_shares_its_allowance_and_others_have_their_own() {
        let mut limit = RateLimit::new(1, 1);
        let now = Instant::now();
        assert!(limit.allow(now, PUBLIC));
        assert!(!limit.allow(now, Ipv4Addr::new(8, 8, 8, 9)));
        assert!(limit.allow(now, Ipv4Addr::new(8, 8, 9, 8)));
    }

    #[test]
    fn private_sources_are_not_limited() {
        let mut limit = RateLimit::new(1, 1);
        let now = Instant::now();
        assert!((0..100).all(|_| limit.allow(now, Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn memory_is_bounded_whatever_the_sources() {
        let mut limit = RateLimit::new(1, 1);
        let now = Instant::now();
        for i in 0..3 * MAX_NETWORKS as u32 {
            limit.allow(now, Ipv4Addr::from(0x0800_0000 + (i << 8)));
        }
        assert!(limit.networks.len() <= MAX_NETWORKS);
        let later = now + Duration::from_secs(2);
        assert!(limit.allow(later, Ipv4Addr::new(9, 9, 9, 9)));
        assert_eq!(limit.networks.len(), 1);
    }

    #[test]
    fn networks_that_ask_no_more_are_forgotten() {
        let mut limit = RateLimit::new(1, 1);
        let start = Instant::now();
        for i in 0..100_000 {
            let now = start + Duration::from_millis(100) * i;
            limit.allow(now, Ipv4Addr::from(0x0800_0000 + (i << 8)));
            assert!(limit.networks.len() <= FEW_NETWORKS);
        }
    }
}
