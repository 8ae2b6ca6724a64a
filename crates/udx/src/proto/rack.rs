//! Loss detection by time: what was sent before a delivered packet and did not arrive is lost (spec §7).

use crate::time::{Instant, Micros};

/// Reference point and reordering of one stream.
#[derive(Debug, Default)]
pub(super) struct Rack {
    /// Send time and following number of the delivered packet that left last.
    reference: Option<(Instant, u64)>,
    /// Round trip of the last delivery.
    rtt: Micros,
    has_reordering: bool,
}

impl Rack {
    /// A packet was newly delivered.
    pub(super) fn on_acked(
        &mut self,
        now: Instant,
        seq: u64,
        sent_at: Instant,
        is_retransmitted: bool,
        min: Option<Micros>,
    ) {
        let rtt = now - sent_at;
        if is_retransmitted && min.is_some_and(|min| rtt < min) {
            // The acknowledgement must be of an earlier transmission.
            return;
        }
        self.rtt = rtt;
        let mark = (sent_at, seq + 1);
        if self.reference.is_none_or(|reference| mark > reference) {
            self.reference = Some(mark);
        }
    }

    /// A packet that was sent once arrived after a later one.
    pub(super) fn on_reordering(&mut self) {
        self.has_reordering = true;
    }

    /// How long after the reference's round trip a packet is still waited for.
    pub(super) fn reordering_window(
        &self,
        min: Option<Micros>,
        smoothed: Option<Micros>,
        must_hurry: bool,
    ) -> Micros {
        if !self.has_reordering && must_hurry {
            return 0;
        }
        (min.unwrap_or(0) / 4).min(smoothed.unwrap_or(0))
    }

    /// Whether a packet left before the reference packet.
    pub(super) fn is_before_reference(&self, seq: u64, sent_at: Instant) -> bool {
        self.reference.is_some_and(|reference| (sent_at, seq + 1) < reference)
    }

    /// Send time of the reference packet.
    pub(super) fn reference_time(&self) -> Option<Instant> {
        self.reference.map(|(sent_at, _)| sent_at)
    }

    /// When a packet sent at `sent_at` counts as lost.
    pub(super) fn deadline(&self, sent_at: Instant, window: Micros) -> Instant {
        sent_at + self.rtt + window
    }
}
