//! How much of a round was lost: so much that a queue must be full, or so little that it may be chance.

/// Part of a round's packets that chance does not take on paths worth using, and least number of them.
const HEAVY: f64 = 0.05;
const HEAVY_PACKETS: u64 = 8;

/// Losses of the present round.
#[derive(Debug, Default)]
pub(super) struct RoundLoss {
    lost: u64,
    acked: u64,
}

impl RoundLoss {
    /// Counts what an acknowledgement brought. At the end of a round: whether it lost too much.
    pub(super) fn on_ack(&mut self, lost: usize, acked: usize, is_round_start: bool) -> bool {
        self.lost += lost as u64;
        self.acked += acked as u64;
        if !is_round_start {
            return false;
        }
        std::mem::take(self).is_heavy()
    }

    /// Whether too much was lost in the round so far.
    pub(super) fn is_heavy(&self) -> bool {
        self.lost >= HEAVY_PACKETS && self.lost as f64 > HEAVY * (self.lost + self.acked) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_told_from_chance() {
        let mut loss = RoundLoss::default();
        assert!(!loss.on_ack(30, 100, false));
        assert!(loss.on_ack(0, 100, true));
        // Counted anew.
        assert!(!loss.on_ack(0, 100, true));
        assert!(!loss.on_ack(10, 400, true));
        assert!(!loss.on_ack(7, 10, true));
    }
}
