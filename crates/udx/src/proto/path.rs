//! A limit on what is in flight to one address, for paths so short that only the receiver's buffer is in the
//! way.
//!
//! A udx-native receiver takes one datagram a system call, and its socket holds as few as 184 full ones,
//! shared by all its streams; its receive window of 4 MiB says nothing of that. On a path without delay the
//! congestion window soon grows beyond that, and most of what is sent has to be sent again. Measured (spec
//! §16): 128 packets in flight keep such a receiver busy without any loss, 1024 cost it four fifths of its
//! speed.

use crate::time::{Instant, MILLISECOND, Micros};

/// Longest round trip on which the limit applies: loopback and local networks.
pub const SHORT_PATH: Micros = 2 * MILLISECOND;

/// Packets in flight at first: enough for the receiver, and less than the smallest buffer holds.
const INITIAL: f64 = 128.0;

/// Least limit: a burst.
const LEAST: f64 = 32.0;

/// What remains of the limit after losses, which on such a path mean that a buffer overflowed.
const BACKOFF: f64 = 0.75;

/// Losses this close to each other are one event.
const EVENT: Micros = 10 * MILLISECOND;

/// Deliveries per packet of the limit that raise it by one: full windows that went well.
const PATIENCE: f64 = 8.0;

/// The limit of one remote address.
#[derive(Debug, Clone)]
pub struct PathLimit {
    limit: f64,
    lowered_at: Option<Instant>,
}

impl Default for PathLimit {
    fn default() -> Self {
        Self { limit: INITIAL, lowered_at: None }
    }
}

impl PathLimit {
    /// Packets that may be in flight.
    pub fn packets(&self) -> usize {
        self.limit as usize
    }

    /// Packets were delivered while the limit was in the way.
    pub fn on_delivered(&mut self, packets: u64) {
        self.limit += packets as f64 / (self.limit * PATIENCE);
    }

    /// Packets were lost.
    pub fn on_lost(&mut self, now: Instant) {
        if self.lowered_at.is_none_or(|at| now - at >= EVENT) {
            self.lowered_at = Some(now);
            self.limit = (self.limit * BACKOFF).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_lower_it_once_an_event_and_success_raises_it_slowly() {
        let mut path = PathLimit::default();
        assert_eq!(path.packets(), 128);
        path.on_lost(Instant::from_micros(1));
        path.on_lost(Instant::from_micros(2));
        assert_eq!(path.packets(), 96);
        path.on_delivered(96 * 8);
        assert_eq!(path.packets(), 97);
        for event in 1..100 {
            path.on_lost(Instant::from_micros(event * 20_000));
        }
        assert_eq!(path.packets(), 32);
    }
}
