//! In which phase a transfer is, how far, how fast, and how long yet: a state machine without I/O.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Phase, ProgressReport};

/// How far back the rate looks: long enough to be calm, short enough to follow a change.
const WINDOW: Duration = Duration::from_secs(4);

/// The time after which the rate means something: before it, it is what buffers take at once.
const KNOWN_AFTER: Duration = Duration::from_millis(500);

/// The course of one transfer.
#[derive(Debug)]
pub(super) struct Track {
    /// Bytes of the file.
    total: u64,
    phase: Option<Phase>,
    /// Bytes that the phase counts up to.
    goal: u64,
    meter: Meter,
    /// The most bytes that had moved at any time.
    moved: u64,
    /// What was told last: bytes and rate.
    told: (u64, Option<u64>),
}

/// Measures bytes a second over the last seconds.
#[derive(Debug)]
struct Meter {
    began: Instant,
    /// Times and counts, the newest last. The first is the last one before the window, where there is one.
    samples: VecDeque<(Instant, u64)>,
}

impl Track {
    pub(super) fn new(total: u64, now: Instant) -> Self {
        Self { total, phase: None, goal: total, meter: Meter::new(0, now), moved: 0, told: (0, None) }
    }

    /// Comes to a phase, which begins with `bytes`, and tells of that. Nothing where it has been left: none
    /// comes back but connecting, after a connection was lost, and what follows it. Who had to wait for its
    /// turn may have something to hash yet.
    pub(super) fn enter(&mut self, phase: Phase, bytes: u64, now: Instant) -> Option<ProgressReport> {
        let may = match self.phase {
            None => true,
            Some(Phase::Waiting) if phase == Phase::Hashing => true,
            Some(before) if phase == Phase::Connecting => before != Phase::Connecting,
            Some(before) => before < phase,
        };
        if !may {
            return None;
        }
        (self.phase, self.goal) = (Some(phase), self.total);
        self.meter = Meter::new(bytes, now);
        Some(self.report(phase, bytes, now))
    }

    /// Whether that is the phase.
    pub(super) fn is_in(&self, phase: Phase) -> bool {
        self.phase == Some(phase)
    }

    /// The phase counts to less than the whole file.
    pub(super) fn aim(&mut self, goal: u64) {
        self.goal = goal;
    }

    /// What is to be told of `bytes`, if there is news.
    pub(super) fn look(&mut self, bytes: u64, now: Instant) -> Option<ProgressReport> {
        let phase = self.phase.filter(|phase| phase.counts())?;
        self.meter.note(bytes, now);
        let before = self.told;
        let report = self.report(phase, bytes, now);
        (before != self.told).then_some(report)
    }

    /// Whether there may be news though nothing moves: the rate falls.
    pub(super) fn changes_alone(&self) -> bool {
        self.phase.is_some_and(Phase::counts) && self.told.1.is_some_and(|rate| rate > 0)
    }

    fn report(&mut self, phase: Phase, bytes: u64, now: Instant) -> ProgressReport {
        let rate = self.meter.rate(now).filter(|_| phase.counts());
        let bytes = match phase {
            Phase::Hashing | Phase::Transferring => bytes,
            Phase::Waiting | Phase::Connecting => 0,
            Phase::Verifying => self.total,
        };
        if matches!(phase, Phase::Transferring | Phase::Verifying) {
            self.moved = self.moved.max(bytes);
        }
        self.told = (bytes, rate);
        let eta = rate.filter(|rate| *rate > 0).map(|rate| {
            // No file is so large that this would not be exact enough.
            Duration::from_secs_f64(self.goal.saturating_sub(bytes) as f64 / rate as f64)
        });
        ProgressReport { phase, bytes, total: self.total, moved: self.moved, rate, eta }
    }
}

impl Meter {
    fn new(bytes: u64, now: Instant) -> Self {
        Self { began: now, samples: VecDeque::from([(now, bytes)]) }
    }

    /// Notes how many bytes there are now. Fewer than before begin anew.
    fn note(&mut self, bytes: u64, now: Instant) {
        if self.samples.back().is_some_and(|(_, before)| bytes < *before) {
            *self = Self::new(bytes, now);
            return;
        }
        self.samples.push_back((now, bytes));
        // Nothing changed between two of them.
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second; `None` where nothing can be said yet.
    fn rate(&self, now: Instant) -> Option<u64> {
        let span = (now - self.began).min(WINDOW);
        let ((_, from), (_, to)) = (self.samples.front()?, self.samples.back()?);
        (span >= KNOWN_AFTER).then(|| (to.saturating_sub(*from) as f64 / span.as_secs_f64()).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const TENTH: Duration = Duration::from_millis(100);

    /// A track in its transferring phase, which began at `from` bytes.
    fn transferring(total: u64, from: u64) -> (Track, Instant) {
        let now = Instant::now();
        let mut track = Track::new(total, now);
        assert_eq!(track.enter(Phase::Transferring, from, now).map(|report| report.bytes), Some(from));
        (track, now)
    }

    #[test]
    fn a_steady_rate_is_told_with_what_is_left() {
        let (mut track, start) = transferring(100 * MIB, 0);
        for tenths in 1..=50_u32 {
            let report = track.look(u64::from(tenths) * MIB, start + TENTH * tenths).unwrap();
            match tenths < 5 {
                true => assert_eq!((report.rate, report.eta), (None, None)),
                false => {
                    assert_eq!(report.rate, Some(10 * MIB));
                    let left = TENTH.as_secs_f64() * f64::from(100 - tenths);
                    assert!((report.eta.unwrap().as_secs_f64() - left).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn the_rate_follows_a_change_within_its_window_and_falls_to_nothing_in_a_stall() {
        let (mut track, start) = transferring(1 << 40, 0);
        let mut bytes = 0;
        let mut tenths = 0;
        let mut rate_after = |seconds: u32, step: u64, track: &mut Track| {
            let mut rate = None;
            for _ in 0..seconds * 10 {
                (bytes, tenths) = (bytes + step, tenths + 1);
                if let Some(report) = track.look(bytes, start + TENTH * tenths) {
                    rate = Some((report.rate.unwrap_or_default(), report.eta));
                }
            }
            rate.map(|(rate, eta)| (rate, eta.is_some()))
        };
        assert_eq!(rate_after(10, MIB, &mut track), Some((10 * MIB, true)));
        assert_eq!(rate_after(4, 3 * MIB, &mut track), Some((30 * MIB, true)));
        assert!(track.changes_alone());
        // The last news of a stall is that nothing moves; then there is none.
        assert_eq!(rate_after(5, 0, &mut track), Some((0, false)));
        assert!(!track.changes_alone());
        assert_eq!(rate_after(60, 0, &mut track), None);
        // A minute's silence does not count against what comes then.
        assert_eq!(rate_after(4, MIB, &mut track), Some((10 * MIB, true)));
    }

    #[test]
    fn what_was_here_before_is_no_speed() {
        let (mut track, start) = transferring(100 * MIB, 50 * MIB);
        let report = track.look(51 * MIB, start + TENTH * 10).unwrap();
        assert_eq!((report.bytes, report.rate), (51 * MIB, Some(MIB)));
        assert_eq!(report.eta, Some(Duration::from_secs(49)));
    }

    #[test]
    fn what_begins_anew_is_measured_anew_and_what_had_moved_is_not_taken_back() {
        let (mut track, start) = transferring(100 * MIB, 0);
        track.look(50 * MIB, start + TENTH * 10).unwrap();
        let report = track.look(MIB, start + TENTH * 11).unwrap();
        assert_eq!((report.bytes, report.moved, report.rate, report.eta), (MIB, 50 * MIB, None, None));
    }

    #[test]
    fn phases_come_once_but_for_a_connection_that_was_lost() {
        use Phase::{Connecting, Hashing, Transferring, Verifying, Waiting};
        let now = Instant::now();
        let mut track = Track::new(10, now);
        let mut enter =
            |phase, bytes| track.enter(phase, bytes, now).map(|report| (report.phase, report.bytes));
        assert_eq!(enter(Waiting, 0), Some((Waiting, 0)));
        assert_eq!(enter(Hashing, 0), Some((Hashing, 0)));
        assert_eq!(enter(Hashing, 7), None);
        assert_eq!(enter(Waiting, 7), Some((Waiting, 0)));
        assert_eq!(enter(Connecting, 7), Some((Connecting, 0)));
        assert_eq!((enter(Hashing, 7), enter(Waiting, 7), enter(Connecting, 7)), (None, None, None));
        assert_eq!(enter(Transferring, 7), Some((Transferring, 7)));
        assert_eq!(enter(Connecting, 7), Some((Connecting, 0)));
        assert_eq!(enter(Transferring, 5), Some((Transferring, 5)));
        assert_eq!(enter(Verifying, 5), Some((Verifying, 10)));
        assert_eq!((enter(Transferring, 5), enter(Verifying, 5)), (None, None));
        assert_eq!(enter(Connecting, 5), Some((Connecting, 0)));
    }

    #[test]
    fn only_phases_that_count_have_news_and_a_rate() {
        let now = Instant::now();
        let mut track = Track::new(10, now);
        assert_eq!(track.look(5, now), None);
        track.enter(Phase::Hashing, 0, now);
        track.aim(4);
        let later = now + Duration::from_secs(1);
        let report = track.look(2, later).unwrap();
        // As long as what is to be read takes, not the file.
        assert_eq!((report.rate, report.eta, report.moved), (Some(2), Some(Duration::from_secs(1)), 0));
        for phase in [Phase::Waiting, Phase::Connecting, Phase::Verifying] {
            track.enter(phase, 4, later);
            assert_eq!(track.look(8, later + WINDOW), None);
            assert!(!track.changes_alone());
        }
    }
}
