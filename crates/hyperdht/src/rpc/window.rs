//! Limits how many requests are under way at once (spec/dht.md §7).

use std::time::Duration;

/// The length of a slot; the window has four.
pub(super) const SLOT: Duration = Duration::from_millis(750);
/// Requests wait when one slot has this many sends, or all four together have twice as many.
pub(super) const MAX_SENDS: usize = 80;

const SLOTS: usize = 4;

/// Sends not yet answered, by the slot of time they fell into.
#[derive(Clone, Debug)]
pub(super) struct Window {
    max: usize,
    slots: [usize; SLOTS],
    current: usize,
    total: usize,
}

impl Window {
    pub(super) fn new(max: usize) -> Self {
        Self { max, slots: [0; SLOTS], current: 0, total: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.total >= 2 * self.max || self.slots[self.current] >= self.max
    }

    pub(super) fn sent(&mut self) {
        self.slots[self.current] += 1;
        self.total += 1;
    }

    /// A request was answered, or given up.
    pub(super) fn settled(&mut self) {
        if self.slots[self.current] > 0 {
            self.slots[self.current] -= 1;
            self.total -= 1;
        }
    }

    /// A slot has passed: what was sent four slots ago does not count any more.
    pub(super) fn drain(&mut self) {
        self.current = (self.current + 1) % SLOTS;
        self.total -= self.slots[self.current];
        self.slots[self.current] = 0;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::trace;

    #[test]
    fn it_fills_and_drains_as_in_the_trace() {
        let mut window = Window::new(3);
        for (i, step) in trace("congestion")["steps"].as_array().unwrap().iter().enumerate() {
            match step["op"].as_str().unwrap() {
                "send" => window.sent(),
                "recv" => window.settled(),
                _ => window.drain(),
            }
            let slots: Vec<_> =
                step["window"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            assert_eq!(window.slots.map(|n| n as u64).to_vec(), slots, "step {i}");
            assert_eq!(window.total as u64, step["total"].as_u64().unwrap(), "step {i}");
            assert_eq!(window.current as u64, step["slot"].as_u64().unwrap(), "step {i}");
            assert_eq!(window.is_full(), step["full"].as_bool().unwrap(), "step {i}");
        }
    }
}
