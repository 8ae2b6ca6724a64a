//! Round-trip time and the retransmission timeout (spec §7).

use crate::time::{Instant, MILLISECOND, Micros, SECOND};

/// RTO before any sample, and its least value.
pub(super) const MIN_RTO: Micros = SECOND;
/// Greatest RTO; the first sample is capped at it too.
pub(super) const MAX_RTO: Micros = 30 * SECOND;
/// A later sample above this and far above the mean is an outlier, and is cut.
const OUTLIER: Micros = 5 * SECOND;
/// How long the smallest sample counts as the path's own delay.
const MIN_WINDOW: Micros = 300 * SECOND;

/// Smoothed round-trip time of one path.
#[derive(Debug, Clone)]
pub(super) struct Rtt {
    smoothed: Option<Micros>,
    variation: Micros,
    min: WindowedMin,
}

impl Rtt {
    pub(super) fn new() -> Self {
        Self { smoothed: None, variation: 0, min: WindowedMin::default() }
    }

    /// Takes the time between a packet's only transmission and its acknowledgement.
    pub(super) fn sample(&mut self, now: Instant, rtt: Micros) {
        let rtt = rtt.max(1);
        self.min.update(now, rtt);
        match self.smoothed {
            None => {
                let rtt = rtt.min(MAX_RTO);
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                let usual = smoothed + 5 * self.variation;
                let rtt = if rtt > OUTLIER && rtt > usual { usual.min(MAX_RTO) } else { rtt };
                self.variation = (3 * self.variation + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((7 * smoothed + rtt) / 8);
            }
        }
    }

    /// The smoothed round-trip time, once there is a sample.
    pub(super) fn smoothed(&self) -> Option<Micros> {
        self.smoothed
    }

    /// The least sample of the last minutes.
    pub(super) fn min(&self) -> Option<Micros> {
        self.min.get()
    }

    pub(super) fn rto(&self) -> Micros {
        match self.smoothed {
            None => MIN_RTO,
            Some(smoothed) => (smoothed + 4 * self.variation).clamp(MIN_RTO, MAX_RTO),
        }
    }
}

/// The least value of a sliding window, by the three-slot estimate that Linux and libudx use: the best value
/// and two later runners-up, so that memory is constant.
#[derive(Debug, Clone)]
pub(super) struct WindowedMin {
    window: Micros,
    slots: Option<[(Instant, Micros); 3]>,
}

impl Default for WindowedMin {
    fn default() -> Self {
        Self::new(MIN_WINDOW)
    }
}

impl WindowedMin {
    fn new(window: Micros) -> Self {
        Self { window, slots: None }
    }

    pub(super) fn get(&self) -> Option<Micros> {
        self.slots.map(|slots| slots[0].1)
    }

    pub(super) fn update(&mut self, now: Instant, value: Micros) {
        let new = (now, value);
        let Some(mut slots) = self.slots else {
            self.slots = Some([new; 3]);
            return;
        };
        if value <= slots[0].1 || now - slots[2].0 > self.window {
            slots = [new; 3];
        } else if value <= slots[1].1 {
            slots = [slots[0], new, new];
        } else if value <= slots[2].1 {
            slots[2] = new;
        }
        let age = now - slots[0].0;
        if age > self.window {
            slots = [slots[1], slots[2], new];
            if now - slots[0].0 > self.window {
                slots = [slots[1], slots[2], new];
            }
        } else if slots[1].0 == slots[0].0 && age > self.window / 4 {
            slots = [slots[0], new, new];
        } else if slots[2].0 == slots[1].0 && age > self.window / 2 {
            slots[2] = new;
        }
        self.slots = Some(slots);
    }
}

/// Time after the last new packet at which the tail is probed. libudx measures in whole milliseconds, so that
/// its round trips are at least one; acknowledgements of ours may be two late (spec §16).
pub(super) fn tail_probe_timeout(smoothed: Option<Micros>, outstanding: usize) -> Micros {
    const FLOOR: Micros = 4 * MILLISECOND;
    match smoothed {
        None => SECOND,
        Some(rtt) => {
            let slack = if outstanding == 1 { 2 * MILLISECOND } else { 0 };
            (2 * rtt + slack).max(FLOOR)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rto_follows_the_integer_formulas() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.rto(), SECOND);
        rtt.sample(Instant::default(), 400_000);
        assert_eq!((rtt.smoothed(), rtt.variation), (Some(400_000), 200_000));
        assert_eq!(rtt.rto(), 1_200_000);
        rtt.sample(Instant::default(), 800_000);
        assert_eq!((rtt.smoothed(), rtt.variation), (Some(450_000), 250_000));
    }

    #[test]
    fn outliers_are_cut() {
        let mut rtt = Rtt::new();
        rtt.sample(Instant::default(), 100 * SECOND);
        assert_eq!(rtt.smoothed(), Some(MAX_RTO));
        let mut rtt = Rtt::new();
        rtt.sample(Instant::default(), 100_000);
        rtt.sample(Instant::default(), 60 * SECOND);
        assert_eq!(rtt.smoothed(), Some((7 * 100_000 + 350_000) / 8));
    }

    #[test]
    fn the_minimum_is_forgotten_after_its_window() {
        let mut min = WindowedMin::new(100);
        let at = Instant::from_micros;
        min.update(at(0), 5);
        min.update(at(60), 9);
        assert_eq!(min.get(), Some(5));
        min.update(at(101), 12);
        assert_eq!(min.get(), Some(9));
        min.update(at(400), 20);
        assert_eq!(min.get(), Some(20));
    }
}
