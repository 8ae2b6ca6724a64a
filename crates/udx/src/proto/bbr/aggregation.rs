//! Acknowledgements that come in bulk: how many more come at a time than the delivery rate explains. The
//! window has to be larger by as many, or it would be used up while they are held back.

use crate::time::{Instant, MILLISECOND, Micros};

/// Rounds per slot of the two-slot maximum.
const SLOT_ROUNDS: u8 = 5;
/// Excess is trusted up to this much time's worth.
const MAX_TIME: Micros = 100 * MILLISECOND;
/// Acknowledged packets after which an epoch restarts.
const EPOCH_RESET: u64 = 1 << 20;

/// The excess of one stream's acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Aggregation {
    slots: [u64; 2],
    slot: usize,
    rounds: u8,
    epoch_at: Instant,
    epoch_acked: u64,
}

impl Aggregation {
    /// So many packets were acknowledged now, of which `bandwidth` per microsecond was to be expected.
    pub(super) fn on_acked(
        &mut self,
        now: Instant,
        acked: usize,
        bandwidth: f64,
        window: usize,
        is_round_start: bool,
    ) {
        if is_round_start {
            self.rounds += 1;
            if self.rounds >= SLOT_ROUNDS {
                self.rounds = 0;
                self.slot ^= 1;
                self.slots[self.slot] = 0;
            }
        }
        let acked = acked as u64;
        let mut expected = (bandwidth * (now - self.epoch_at) as f64) as u64;
        if self.epoch_acked <= expected || self.epoch_acked + acked >= EPOCH_RESET {
            self.restart(now);
            expected = 0;
        }
        self.epoch_acked += acked;
        let extra = (self.epoch_acked - expected).min(window as u64);
        let slot = &mut self.slots[self.slot];
        *slot = (*slot).max(extra);
    }

    /// Nothing was in flight until now.
    pub(super) fn restart(&mut self, now: Instant) {
        self.epoch_at = now;
        self.epoch_acked = 0;
    }

    /// Packets that came in excess of the rate lately.
    pub(super) fn extra(&self, bandwidth: f64) -> usize {
        let extra = self.slots[0].max(self.slots[1]) as usize;
        extra.min((bandwidth * MAX_TIME as f64) as usize)
    }
}
