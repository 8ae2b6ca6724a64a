//! Delivery rate samples (spec §9): how fast the path carried packets between two acknowledgements.

use crate::time::{Instant, Micros};

/// What was known when a packet left; stored with it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SendSnapshot {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    is_app_limited: bool,
}

/// Counts deliveries of one stream, in packets.
#[derive(Debug, Default)]
pub(super) struct RateSampler {
    delivered: u64,
    delivered_at: Instant,
    /// Send time of the packet that ended the last sample, where the next one's send phase begins.
    first_sent_at: Instant,
    /// While not zero: the delivery count up to which samples say less than the path could do.
    app_limited_until: u64,
    /// The latest-sent packet of the acknowledgement being processed.
    latest: Option<(Instant, SendSnapshot)>,
}

/// What one acknowledgement tells of the path's speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RateSample {
    /// Packets delivered during `interval`.
    pub delivered: u64,
    pub interval: Micros,
    /// Delivery count when the sampled packet was sent: tells rounds apart.
    pub prior_delivered: u64,
    pub is_app_limited: bool,
}

impl RateSampler {
    /// Packets delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    /// To be stored with a packet that leaves now; `is_idle` if none is in flight before it.
    pub(super) fn on_sent(&mut self, now: Instant, is_idle: bool) -> SendSnapshot {
        if is_idle {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        SendSnapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            is_app_limited: self.is_app_limited(),
        }
    }

    /// The application has less to send than the window would take.
    pub(super) fn on_app_limited(&mut self, in_flight: usize) {
        self.app_limited_until = (self.delivered + in_flight as u64).max(1);
    }

    pub(super) fn on_acked(&mut self, now: Instant, sent_at: Instant, snapshot: SendSnapshot) {
        self.delivered += 1;
        self.delivered_at = now;
        if self.latest.is_none_or(|(latest, _)| sent_at >= latest) {
            self.latest = Some((sent_at, snapshot));
        }
    }

    /// Ends an acknowledgement. `None` if it delivered nothing or spans too little time to be trusted.
    pub(super) fn finish(&mut self, now: Instant, min_rtt: Option<Micros>) -> Option<RateSample> {
        if self.app_limited_until != 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let (sent_at, snapshot) = self.latest.take()?;
        self.first_sent_at = sent_at;
        let send_interval = sent_at - snapshot.first_sent_at;
        let ack_interval = now - snapshot.delivered_at;
        let interval = send_interval.max(ack_interval);
        if interval == 0 || min_rtt.is_some_and(|min| interval < min) {
            return None;
        }
        Some(RateSample {
            delivered: self.delivered - snapshot.delivered,
            interval,
            prior_delivered: snapshot.delivered,
            is_app_limited: snapshot.is_app_limited,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_packets_in_a_round_trip() {
        let at = Instant::from_micros;
        let mut sampler = RateSampler::default();
        let snapshots: Vec<_> = (0..10).map(|i| sampler.on_sent(at(100), i == 0)).collect();
        for snapshot in &snapshots {
            sampler.on_acked(at(1100), at(100), *snapshot);
        }
        let sample = sampler.finish(at(1100), Some(1000)).unwrap();
        assert_eq!((sample.delivered, sample.interval, sample.prior_delivered), (10, 1000, 0));
        assert!(!sample.is_app_limited);
        assert_eq!(sampler.finish(at(1100), None), None);
    }

    #[test]
    fn app_limited_samples_are_marked_until_delivered() {
        let at = Instant::from_micros;
        let mut sampler = RateSampler::default();
        let first = sampler.on_sent(at(0), true);
        sampler.on_app_limited(1);
        let second = sampler.on_sent(at(1), false);
        sampler.on_acked(at(100), at(0), first);
        assert!(!sampler.finish(at(100), None).unwrap().is_app_limited);
        sampler.on_acked(at(101), at(1), second);
        assert!(sampler.finish(at(101), None).unwrap().is_app_limited);
        assert!(!sampler.is_app_limited());
    }
}
