//! How much may be on its way to us: what the receive window starts from.
//!
//! The window says how much may arrive before we read, so at first it is what the socket's buffer holds.
//! On a long path most of a window is not in that buffer but on the way, and the buffer need only hold
//! what arrives between two looks at it. Twice of what the path was seen to carry is therefore added, so
//! that the window limits neither a sender that doubles its speed each round trip, nor one that has found
//! the path's.
//!
//! A stream that sends nothing cannot measure how long the path is. But at least one round trip passes
//! between telling the peer of a window and the first byte beyond that window; no more than one if the window
//! is what limits the peer.

use super::rtt::WindowedMin;
use crate::time::{Instant, MILLISECOND, Micros};

/// Most bytes a window grows to: twice 1 Gbit/s over 100 ms, and what the buffer holds besides.
pub(super) const MAX_WINDOW: u32 = 32 << 20;

/// Shortest time over which the rate is taken: batches of a shorter one say little.
const LEAST_INTERVAL: Micros = 10 * MILLISECOND;

/// Round trips up to this are processing, not distance: nothing of a window is on the way. Generous, as one
/// who only receives measures the round trip seldom.
const NEAR: Micros = 2 * MILLISECOND;

/// Room on the way is made for what the path was seen to carry, times this.
const GROWTH: f64 = 2.0;

/// The window of one stream.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    /// Bytes that the socket's buffer holds.
    buffer: u32,
    /// When the present interval began, and the bytes received until then and not waiting for the reader.
    since: Option<(Instant, u64, u64)>,
    /// When a window was told of, and the first byte beyond it.
    told: Option<(Instant, u64)>,
    /// Least time from then until that byte.
    turnaround: WindowedMin,
    /// Greatest rate at which bytes arrived and did not wait for the reader, in bytes per microsecond.
    rate: f64,
}

impl ReceiveWindow {
    pub(super) fn new(buffer: u32) -> Self {
        Self { buffer, since: None, told: None, turnaround: WindowedMin::default(), rate: 0.0 }
    }

    /// Another socket, or another bound.
    pub(super) fn set_buffer(&mut self, bytes: u32) {
        self.buffer = bytes;
    }

    /// The path changed: its length is not known any more.
    pub(super) fn forget_path(&mut self) {
        self.told = None;
        self.turnaround = WindowedMin::default();
    }

    /// The peer is told that it may send `window` bytes more than the `received` that arrived.
    pub(super) fn on_told(&mut self, now: Instant, received: u64, window: u32) {
        if window > 0 {
            self.told.get_or_insert((now, received + u64::from(window)));
        }
    }

    /// Something arrived: `received` bytes since the beginning, of which `taken` do not wait for the reader.
    pub(super) fn on_arrival(&mut self, now: Instant, received: u64, taken: u64, min_rtt: Option<Micros>) {
        if let Some((told_at, _)) = self.told.take_if(|(_, beyond)| received > *beyond) {
            self.turnaround.update(now, now - told_at);
        }
        let distance = self.distance(min_rtt);
        let Some((start, received_before, taken_before)) = self.since else {
            self.since = Some((now, received, taken));
            return;
        };
        let elapsed = now - start;
        if elapsed >= LEAST_INTERVAL.max(distance) {
            // What the reader takes at once when a missing packet comes has arrived before.
            let bytes = taken.saturating_sub(taken_before).min(received.saturating_sub(received_before));
            self.rate = self.rate.max(bytes as f64 / elapsed as f64);
            self.since = Some((now, received, taken));
        }
    }

    /// The window in bytes, before what waits for the reader is taken off.
    pub(super) fn bytes(&self, min_rtt: Option<Micros>) -> u32 {
        let distance = self.distance(min_rtt).saturating_sub(NEAR);
        // Casts of floats saturate.
        let on_the_way = (GROWTH * self.rate * distance as f64) as u32;
        self.buffer.saturating_add(on_the_way).min(MAX_WINDOW.max(self.buffer))
    }

    /// The round trip, as far as it is known.
    fn distance(&self, min_rtt: Option<Micros>) -> Micros {
        min_rtt.or(self.turnaround.get()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(window: &mut ReceiveWindow, rate: u64, time: Micros, rtt: Option<Micros>) {
        for at in (0..time).step_by(1000) {
            window.on_arrival(Instant::from_micros(at), at * rate, at * rate, rtt);
        }
    }

    #[test]
    fn on_a_short_path_it_is_the_buffer_however_fast() {
        let mut window = ReceiveWindow::new(200_000);
        arrivals(&mut window, 500, 1_000_000, Some(100));
        assert_eq!(window.bytes(Some(100)), 200_000);
        // A first round trip measured too long is mended by the next.
        assert_eq!(window.bytes(Some(2_000)), 200_000);
        assert!(window.bytes(Some(3_000)) > 200_000);
    }

    #[test]
    fn on_a_long_path_it_is_the_buffer_and_what_the_path_holds() {
        let mut window = ReceiveWindow::new(200_000);
        assert_eq!(window.bytes(Some(100_000)), 200_000);
        // 100 Mbit/s over 100 ms.
        arrivals(&mut window, 12, 1_000_000, Some(100_000));
        assert_eq!(window.bytes(Some(100_000)), 200_000 + 2 * 12 * 98_000);
        let mut window = ReceiveWindow::new(200_000);
        // 10 Gbit/s.
        arrivals(&mut window, 1250, 1_000_000, Some(100_000));
        assert_eq!(window.bytes(Some(100_000)), MAX_WINDOW);
    }

    #[test]
    fn without_a_round_trip_it_is_the_buffer() {
        let mut window = ReceiveWindow::new(200_000);
        arrivals(&mut window, 500, 1_000_000, None);
        assert_eq!(window.bytes(None), 200_000);
    }

    #[test]
    fn the_time_until_a_window_is_exceeded_tells_the_length_of_a_path() {
        let mut window = ReceiveWindow::new(200_000);
        window.on_told(Instant::from_micros(1_000), 0, 200_000);
        window.on_told(Instant::from_micros(2_000), 0, 200_000);
        arrivals(&mut window, 10, 1_000_000, None);
        // 200,001 bytes are there after 20.1 ms, of which the first passed before.
        assert_eq!(window.bytes(None), 200_000 + 2 * 10 * (21_000 - 1_000 - 2_000));
        // A measured round trip is better.
        assert_eq!(window.bytes(Some(5_000)), 200_000 + 2 * 10 * 3_000);
        window.forget_path();
        assert_eq!(window.bytes(None), 200_000);
    }
}
