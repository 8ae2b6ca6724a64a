//! Limits how many requests are under way at once (spec/dht.md §7).

use std::time::Duration;

/// How long a slot counts; the window has four.
pub const SLOT: Duration = Duration::from_millis(750);
/// Sends in one slot, and half of those in all four, before requests have to wait.
pub const MAX_SENDS: usize = 80;

const SLOTS: usize = 4;

/// Sends not yet answered, by the slot of time they fell into.
#[derive(Clone, Debug)]
pub struct Window {
    max: usize,
    slots: [usize; SLOTS],
    current: usize,
    total: usize,
}

impl Window {
    pub fn new(max: usize) -> Self {
        Self { max, slots: [0; SLOTS], current: 0, total: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.total >= 2 * self.max || self.slots[self.current] >= self.max
    }

    pub fn sent(&mut self) {
        self.slots[self.current] += 1;
        self.total += 1;
    }

    /// A request was answered, or given up.
    pub fn settled(&mut self) {
        if self.slots[self.current] > 0 {
            self.slots[self.current] -= 1;
            self.total -= 1;
        }
    }

    /// A slot of time has passed: what was sent four slots ago no longer counts.
    pub fn drain(&mut self) {
        self.current = (self.current + 1) % SLOTS;
        self.total -= self.slots[self.current];
        self.slots[self.current] = 0;
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.max);
    }
}
