//! What the streams of an instance may hold for their readers, all together: many readers that stop must not
//! take a whole window's memory each. What is free is divided among the streams that receive, so that one
//! alone has its full window however long its path.

use crate::time::{Instant, Micros, SECOND};

/// A stream that received nothing for so long does not count among those that receive.
const PERIOD: Micros = SECOND;

/// What each stream may hold at least, in bytes: it goes on once its own reader does, whatever others hold.
const LEAST: usize = 64 << 10;

/// The memory of an instance.
#[derive(Debug)]
pub(super) struct Memory {
    bytes: usize,
    held: usize,
    /// Number and beginning of the present period.
    period: u64,
    began: Instant,
    /// Streams that received in this period, and in the one before.
    receiving: usize,
    received_before: usize,
}

/// A stream's part in it.
#[derive(Debug, Default)]
pub(super) struct MemoryShare {
    held: usize,
    /// When it last received; 0 for never.
    period: u64,
}

impl Memory {
    /// So many bytes in all.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, held: 0, period: 1, began: Instant::default(), receiving: 0, received_before: 0 }
    }

    /// A stream received something.
    pub(super) fn on_received(&mut self, now: Instant, part: &mut MemoryShare) {
        let elapsed = now - self.began;
        if elapsed >= PERIOD {
            self.received_before = if elapsed < 2 * PERIOD { self.receiving } else { 0 };
            self.receiving = 0;
            self.period += 1;
            self.began = now;
        }
        if part.period != self.period {
            part.period = self.period;
            self.receiving += 1;
        }
    }

    /// A stream holds so many bytes. Gives how many it may hold from now on.
    pub(super) fn share(&mut self, part: &mut MemoryShare, held: usize) -> u32 {
        self.held = self.held - part.held + held;
        part.held = held;
        let free = self.bytes.saturating_sub(self.held);
        let streams = self.receiving.max(self.received_before).max(1);
        u32::try_from((held + free / streams).max(LEAST)).unwrap_or(u32::MAX)
    }

    /// A stream is over.
    pub(super) fn leave(&mut self, part: &MemoryShare) {
        self.held -= part.held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::from_micros(second * SECOND)
    }

    #[test]
    fn one_that_receives_alone_may_have_all() {
        let mut memory = Memory::new(1_000_000);
        let (mut one, mut two) = (MemoryShare::default(), MemoryShare::default());
        memory.on_received(at(1), &mut one);
        memory.on_received(at(1), &mut two);
        assert_eq!(memory.share(&mut one, 0), 500_000);
        for second in 2..4 {
            memory.on_received(at(second), &mut one);
        }
        assert_eq!(memory.share(&mut one, 100_000), 1_000_000);
        memory.leave(&one);
        assert_eq!(memory.share(&mut two, 0), 1_000_000);
    }

    #[test]
    fn many_that_are_not_read_hold_little_more_than_there_is() {
        const STREAMS: usize = 100;
        let mut memory = Memory::new(10_000_000);
        let mut parts: Vec<MemoryShare> = (0..STREAMS).map(|_| MemoryShare::default()).collect();
        // Each takes all that it may, time and again.
        for second in 0..20 {
            for part in &mut parts {
                memory.on_received(at(second), part);
                let share = memory.share(part, part.held) as usize;
                memory.share(part, share);
            }
        }
        assert!((9_000_000..10_000_000 + STREAMS * LEAST).contains(&memory.held), "{}", memory.held);
        // The one whose reader goes on, goes on.
        assert_eq!(memory.share(&mut parts[0], 0), LEAST as u32);
    }
}
