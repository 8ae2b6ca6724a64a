//! One deadline for all streams.

use std::collections::BTreeSet;

use crate::time::Instant;

/// The next deadline of each stream that has one, by stream id.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    deadlines: BTreeSet<(Instant, u32)>,
}

impl TimerQueue {
    /// Replaces a stream's deadline, which was `old`.
    pub(super) fn set(&mut self, id: u32, old: &mut Option<Instant>, new: Option<Instant>) {
        if *old == new {
            return;
        }
        if let Some(at) = old.take() {
            self.deadlines.remove(&(at, id));
        }
        if let Some(at) = new {
            self.deadlines.insert((at, id));
        }
        *old = new;
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes a stream whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.deadlines.pop_first().map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_one_deadline() {
        let at = Instant::from_micros;
        let mut queue = TimerQueue::default();
        let mut timer = None;
        queue.set(1, &mut timer, Some(at(9)));
        queue.set(1, &mut timer, Some(at(5)));
        queue.set(2, &mut None, Some(at(7)));
        assert_eq!(queue.next(), Some(at(5)));
        assert_eq!(queue.pop_due(at(4)), None);
        assert_eq!(queue.pop_due(at(9)), Some(1));
        assert_eq!(queue.pop_due(at(9)), Some(2));
        assert_eq!(queue.pop_due(at(9)), None);
    }
}
