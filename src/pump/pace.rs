//! Whether a file still moves: a state machine without I/O that both directions ask.
//!
//! A transfer has stalled when no byte has moved for as long as its peer may be waited for, or so few in that
//! time that somebody only holds its place. However slow a path is, one that carries [`FLOOR`] bytes in that
//! time has not stalled.

use std::{ops::Range, time::Duration};

use tokio::time::Instant;

/// Bytes that must move in each window, or what is left of the file where that is less. With the usual two
/// minutes this is 34 bytes a second, which any path carries over which people work.
const FLOOR: u64 = 4 * 1024;

/// The pace of one file over one connection.
///
/// Its windows begin anew with every [`FLOOR`] bytes. So a burst wins no time beyond one window.
#[derive(Debug)]
pub(super) struct Pace {
    window: Duration,
    /// Bytes of the file.
    size: u64,
    /// When the window began, and the bytes that had moved by then.
    since: Instant,
    from: u64,
}

impl Pace {
    /// The pace of the bytes `range` of a file up to its end, none of which has moved `now`. Each step has
    /// `window`.
    pub(super) fn new(window: Duration, range: Range<u64>, now: Instant) -> Self {
        Self { window, size: range.end, since: now, from: range.start }
    }

    /// Notes how much has moved in all. Less than was noted before is no harm and no progress.
    pub(super) fn moved(&mut self, bytes: u64, now: Instant) {
        let bytes = bytes.min(self.size);
        let needed = FLOOR.min(self.size.saturating_sub(self.from));
        if needed > 0 && bytes >= self.from.saturating_add(needed) {
            (self.from, self.since) = (bytes, now);
        }
    }

    /// Leaves a time out of account that was ours, not the peer's: the disk held us up so long.
    pub(super) fn held_up(&mut self, time: Duration) {
        self.since += time;
    }

    /// When the transfer has stalled, unless enough moves before.
    pub(super) fn deadline(&self) -> Instant {
        self.since + self.window
    }

    /// Whether it has.
    pub(super) fn has_stalled(&self, now: Instant) -> bool {
        now >= self.deadline()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_secs(120);
    const SIZE: u64 = 1 << 30;

    /// Seconds until a file stalls that moves `step` bytes every `pause`; `None` if it moves whole.
    fn stalls_after(size: u64, step: u64, pause: Duration) -> Option<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(WINDOW, 0..size, start);
        let (mut now, mut moved) = (start, 0);
        while moved < size {
            let next = now + pause;
            if pace.has_stalled(next) {
                return Some((pace.deadline() - start).as_secs());
            }
            now = next;
            moved += step;
            pace.moved(moved, now);
        }
        None
    }

    #[test]
    fn silence_stalls_after_a_window() {
        assert_eq!(stalls_after(SIZE, 0, SECOND), Some(120));
    }

    #[test]
    fn a_byte_now_and_then_holds_a_place_no_longer_than_silence() {
        assert_eq!(stalls_after(SIZE, 1, 3 * SECOND), Some(120));
        assert_eq!(stalls_after(SIZE, 34, SECOND), Some(120));
    }

    #[test]
    fn a_slow_file_that_moves_is_never_ended() {
        assert_eq!(stalls_after(10 << 20, 35, SECOND), None);
        assert_eq!(stalls_after(10 << 20, 64 * 1024, 119 * SECOND), None);
    }

    #[test]
    fn the_last_bytes_need_not_be_many() {
        assert_eq!(stalls_after(1, 1, 119 * SECOND), None);
        assert_eq!(stalls_after(FLOOR + 1, FLOOR, 119 * SECOND), None);
        assert_eq!(stalls_after(100, 1, 2 * SECOND), Some(120));
    }

    #[test]
    fn when_all_bytes_have_moved_their_end_is_due_within_a_window() {
        let start = Instant::now();
        let mut pace = Pace::new(WINDOW, 0..10, start);
        pace.moved(10, start + SECOND);
        for seconds in 2..121 {
            let now = start + SECOND * seconds;
            pace.moved(10 + u64::from(seconds), now);
            assert!(!pace.has_stalled(now));
        }
        assert!(pace.has_stalled(start + SECOND * 121));
    }

    #[test]
    fn what_was_here_before_counts_for_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(WINDOW, SIZE / 2..SIZE, start);
        pace.moved(SIZE / 2 + 1, start + SECOND);
        assert!(pace.has_stalled(start + WINDOW));
        pace.moved(SIZE / 2 + FLOOR, start + SECOND);
        assert!(!pace.has_stalled(start + WINDOW));
    }

    #[test]
    fn a_slow_disk_of_ours_is_not_the_peers_fault() {
        let start = Instant::now();
        let mut pace = Pace::new(WINDOW, 0..SIZE, start);
        pace.held_up(1000 * SECOND);
        assert!(!pace.has_stalled(start + 1119 * SECOND));
        assert!(pace.has_stalled(start + 1120 * SECOND));
    }

    #[test]
    fn bytes_that_are_counted_back_and_forth_move_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(WINDOW, 0..SIZE, start);
        pace.moved(64 * 1024, start + SECOND);
        for seconds in 2..121 {
            let bytes = if seconds % 2 == 0 { 0 } else { 64 * 1024 };
            pace.moved(bytes, start + SECOND * seconds);
        }
        assert!(pace.has_stalled(start + SECOND * 121));
    }

    proptest! {
        /// However bytes come: what brings the floor in every window goes on, and what goes on has brought
        /// the floor in each of them.
        #[test]
        fn what_goes_on_has_moved_the_floor(steps in prop::collection::vec((0..8192u64, 1..200u64), 1..200)) {
            let start = Instant::now();
            let mut pace = Pace::new(WINDOW, 0..SIZE, start);
            let (mut now, mut moved) = (start, 0);
            for (bytes, seconds) in steps {
                now += SECOND * u32::try_from(seconds).unwrap();
                if pace.has_stalled(now) {
                    prop_assert!(now - pace.since >= WINDOW && moved - pace.from < FLOOR);
                    return Ok(());
                }
                moved += bytes;
                pace.moved(moved, now);
            }
            let windows = (now - start).as_secs() / WINDOW.as_secs();
            prop_assert!(moved >= windows.saturating_sub(1) / 2 * FLOOR);
        }
    }
}
