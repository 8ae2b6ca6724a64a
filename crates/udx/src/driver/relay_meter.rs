//! How much a relay lets through.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::proto::packet::{Flags, Header};
use crate::time::{Instant, Micros, SECOND};

/// What a meter lets through at once after a pause: as much as its rate gives in this time.
const BURST: Micros = SECOND / 4;

/// And at least this, which is a few packets of both directions, in bytes.
const MIN_BURST: u64 = 64 * 1024;

/// Counts what is relayed and holds it to a rate: packets beyond are lost, which both ends answer by sending
/// less. Clones are the same meter, as for both directions of a pair.
#[derive(Debug, Clone)]
pub struct RelayMeter(Arc<Mutex<Metering>>);

#[derive(Debug)]
struct Metering {
    /// Bytes a second.
    rate: u64,
    /// Bytes that may pass now.
    allowance: u64,
    /// When the allowance was last added to.
    refreshed: Instant,
    /// Bytes that have passed.
    passed: u64,
}

impl RelayMeter {
    /// A meter that lets so many bytes pass a second; headers of UDX count, those below do not.
    pub fn new(bytes_per_second: u64) -> Self {
        Self(Arc::new(Mutex::new(Metering {
            rate: bytes_per_second,
            allowance: 0,
            refreshed: Instant::default(),
            passed: 0,
        })))
    }

    /// How many bytes have passed.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    /// Whether a packet of that length may pass now. One that ends a stream always may.
    pub(super) fn admits(&self, now: Instant, header: &Header, length: usize) -> bool {
        let length = length as u64;
        let mut meter = self.lock();
        let gained = u128::from(meter.rate) * u128::from(now - meter.refreshed) / u128::from(SECOND);
        if gained > 0 {
            let burst =
                (u128::from(meter.rate) * u128::from(BURST) / u128::from(SECOND)).max(MIN_BURST.into());
            let allowance = (u128::from(meter.allowance) + gained).min(burst);
            meter.allowance = u64::try_from(allowance).unwrap_or(u64::MAX);
            meter.refreshed = now;
        }
        if meter.allowance < length && !header.flags.intersects(Flags::DESTROY) {
            return false;
        }
        meter.allowance = meter.allowance.saturating_sub(length);
        meter.passed += length;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Metering> {
        // Nothing in here can be left half done by a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: Flags) -> Header {
        Header { flags, data_offset: 0, stream_id: 1, rwnd: 0, seq: 0, ack: 0 }
    }

    #[test]
    fn a_meter_holds_its_rate_over_time_and_a_burst_at_once() {
        let meter = RelayMeter::new(1_000_000);
        let mut passed = 0;
        for millisecond in 1..=2_000 {
            let now = Instant::from_micros(10 * SECOND + millisecond * 1_000);
            // Ten times what is allowed.
            passed += (0..10).filter(|_| meter.admits(now, &header(Flags::DATA), 1_000)).count();
        }
        assert!((2_000..=2_250).contains(&passed), "{passed} packets of 1,000 bytes in 2 s");
        assert_eq!(meter.passed(), passed as u64 * 1_000);
    }

    #[test]
    fn a_slow_meter_still_lets_whole_packets_through() {
        let meter = RelayMeter::new(1);
        assert!(!meter.admits(Instant::from_micros(SECOND), &header(Flags::DATA), 1_000));
        assert!(meter.admits(Instant::from_micros(1_000 * SECOND), &header(Flags::DATA), 1_000));
        assert!(!meter.admits(Instant::from_micros(1_000 * SECOND), &header(Flags::DATA), 1_000));
        assert!(meter.admits(Instant::from_micros(1_000 * SECOND), &header(Flags::DESTROY), 20));
    }
}
