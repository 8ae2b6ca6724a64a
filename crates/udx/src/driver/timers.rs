//! One deadline for all streams.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Instant;

/// Deadlines by stream id. A stream has at most a few entries: later ones are added when an earlier one fires.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl TimerQueue {
    pub fn push(&mut self, at: Instant, id: u32) {
        self.heap.push(Reverse((at, id)));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a stream whose entry is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, id))| id)
    }
}
