//! How much a relay lets through, and when.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::shared::Shared;
use crate::proto::packet::{Flags, Header};
use crate::time::{Instant, Micros, SECOND};

/// What a meter lets through at once after a pause: as much as its rate gives in this time. Short, so that a
/// sender that measures the path sees the rate and not the savings; long enough for a timer that is late.
const BURST: Micros = SECOND / 50;

/// And at least this, which is a few packets of both directions, in bytes.
const MIN_BURST: u64 = 64 * 1024;

/// What waits at a meter at most: as much as its rate gives in this time, and [`MIN_BURST`] at least. A
/// sender that probes for more by sending a quarter faster fills it in no round trip below 400 ms.
const PATIENCE: Micros = SECOND / 10;

/// Counts what is relayed and holds it to a rate: what comes sooner waits its turn, as at a router, and what
/// has no room there is lost, which both ends answer by sending less. Clones are the same meter, as for both
/// directions of a pair.
#[derive(Debug, Clone)]
pub struct RelayMeter(Arc<Mutex<Metering>>);

#[derive(Debug)]
struct Metering {
    /// Bytes a second.
    rate: u64,
    /// Bytes that may pass now; what may not wait can be let through in advance.
    allowance: i64,
    /// When the allowance was last added to.
    refreshed: Instant,
    /// Bytes that have passed.
    passed: u64,
    waiting: VecDeque<Waiting>,
    /// Their bytes.
    held: usize,
}

/// A packet that waits for its turn to be passed on.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) header: Header,
    pub(super) packet: Bytes,
    /// To whose peer it goes.
    pub(super) destination: Arc<Shared>,
}

impl RelayMeter {
    /// A meter that lets so many bytes pass a second; headers of UDX count, those below do not.
    pub fn new(bytes_per_second: u64) -> Self {
        Self(Arc::new(Mutex::new(Metering {
            rate: bytes_per_second,
            allowance: 0,
            refreshed: Instant::default(),
            passed: 0,
            waiting: VecDeque::new(),
            held: 0,
        })))
    }

    /// How many bytes have passed.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    /// Whether a packet of that length may pass now. What acknowledges others, or says that a stream is given
    /// up, goes before what waits.
    pub(super) fn admits(&self, now: Instant, header: &Header, length: usize) -> bool {
        let mut meter = self.lock();
        meter.refresh(now);
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let may_pass = match header.flags {
            flags if flags.intersects(Flags::DESTROY) => true,
            flags if flags.is_sequenced() || flags.intersects(Flags::MESSAGE) => {
                meter.waiting.is_empty() && meter.allowance >= length
            }
            _ => meter.allowance >= -meter.burst(),
        };
        if may_pass {
            meter.pay(length);
        }
        may_pass
    }

    /// Keeps a packet until it may pass, if there is room: its own, and `room` for those of all meters. Says
    /// whether there was.
    pub(super) fn hold(&self, waiting: Waiting, room: usize) -> bool {
        let mut meter = self.lock();
        let most = usize::try_from(meter.worth(PATIENCE)).unwrap_or(usize::MAX);
        let held = meter.held + waiting.packet.len();
        // Who has as much as is left for others waits for them to have less.
        let has_room = held <= most.min(room);
        if has_room {
            meter.held = held;
            meter.waiting.push_back(waiting);
        }
        has_room
    }

    /// The next packet whose turn has come.
    pub(super) fn next(&self, now: Instant) -> Option<Waiting> {
        let mut meter = self.lock();
        meter.refresh(now);
        let length = i64::try_from(meter.waiting.front()?.packet.len()).unwrap_or(i64::MAX);
        if meter.allowance < length {
            return None;
        }
        meter.pay(length);
        let waiting = meter.waiting.pop_front()?;
        meter.held -= waiting.packet.len();
        Some(waiting)
    }

    /// When the turn of the next packet comes; `None` where none waits.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let meter = self.lock();
        let length = i64::try_from(meter.waiting.front()?.packet.len()).unwrap_or(i64::MAX);
        let missing = u128::try_from(length.saturating_sub(meter.allowance)).unwrap_or_default();
        let pause = (missing * u128::from(SECOND)).div_ceil(u128::from(meter.rate.max(1)));
        Some(meter.refreshed + Micros::try_from(pause).unwrap_or(Micros::MAX / 2))
    }

    /// Whether both are the same meter.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lock(&self) -> MutexGuard<'_, Metering> {
        // Nothing in here can be left half done by a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metering {
    fn refresh(&mut self, now: Instant) {
        let gained = u128::from(self.rate) * u128::from(now - self.refreshed) / u128::from(SECOND);
        if gained > 0 {
            let gained = i64::try_from(gained).unwrap_or(i64::MAX);
            self.allowance = self.allowance.saturating_add(gained).min(self.burst());
            self.refreshed = now;
        }
    }

    fn pay(&mut self, length: i64) {
        self.allowance = self.allowance.saturating_sub(length);
        self.passed += length.unsigned_abs();
    }

    fn burst(&self) -> i64 {
        i64::try_from(self.worth(BURST)).unwrap_or(i64::MAX)
    }

    /// What the rate gives in a time, a few packets at least.
    fn worth(&self, time: Micros) -> u64 {
        let worth = u128::from(self.rate) * u128::from(time) / u128::from(SECOND);
        u64::try_from(worth).unwrap_or(u64::MAX).max(MIN_BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: Flags) -> Header {
        Header { flags, data_offset: 0, stream_id: 1, rwnd: 0, seq: 0, ack: 0 }
    }

    fn at(micros: Micros) -> Instant {
        Instant::from_micros(10 * SECOND + micros)
    }

    /// A packet of data that comes to a meter: it passes, waits or is lost.
    #[derive(Debug, PartialEq)]
    enum Fate {
        Passes,
        Waits,
        IsLost,
    }

    fn come(meter: &RelayMeter, now: Instant, length: usize) -> Fate {
        let header = header(Flags::DATA);
        if meter.admits(now, &header, length) {
            return Fate::Passes;
        }
        let packet = Bytes::from(vec![0; length]);
        let destination = Shared::new(1);
        match meter.hold(Waiting { header, packet, destination }, usize::MAX) {
            true => Fate::Waits,
            false => Fate::IsLost,
        }
    }

    #[test]
    fn a_meter_holds_its_rate_over_time_and_passes_on_what_waits() {
        let meter = RelayMeter::new(10_000_000);
        let (mut passed, mut lost) = (0, 0);
        for millisecond in 1..=2_000 {
            let now = at(millisecond * 1_000);
            while meter.next(now).is_some() {
                passed += 1;
            }
            // Twice what is allowed.
            for _ in 0..20 {
                match come(&meter, now, 1_000) {
                    Fate::Passes => passed += 1,
                    Fate::Waits => {}
                    Fate::IsLost => lost += 1,
                }
            }
        }
        assert!((20_000..=20_200).contains(&passed), "{passed} packets of 1,000 bytes in 2 s");
        assert_eq!(meter.passed(), passed * 1_000);
        // Of the rest a tenth of a second waits.
        let waiting = std::iter::from_fn(|| meter.next(at(3_600 * SECOND))).count() as u64;
        assert!(waiting <= 200, "what waits is no savings");
        assert_eq!(40_000 - passed - lost, 1_000);
    }

    #[test]
    fn packets_wait_in_their_order_and_until_their_turn() {
        let meter = RelayMeter::new(1_000_000);
        let now = at(0);
        while come(&meter, now, 1_024) == Fate::Passes {}
        assert_eq!(meter.passed(), MIN_BURST);
        assert_eq!(come(&meter, now, 500), Fate::Waits, "behind what came before");
        assert_eq!(meter.next_turn(), Some(at(1_024)));
        assert!(meter.next(at(1_023)).is_none());
        assert_eq!(meter.next(at(1_024)).unwrap().packet.len(), 1_024);
        assert_eq!(meter.next_turn(), Some(at(1_524)));
        assert_eq!(meter.next(at(1_600)).unwrap().packet.len(), 500);
        assert_eq!(meter.next_turn(), None);
    }

    #[test]
    fn what_acknowledges_goes_before_what_waits_and_is_paid_for_later() {
        let meter = RelayMeter::new(1_000_000);
        let now = at(0);
        while come(&meter, now, 1_024) == Fate::Passes {}
        let acks = (0..100_000).filter(|_| meter.admits(now, &header(Flags::SACK), 20)).count() as u64;
        assert!((MIN_BURST / 20..MIN_BURST / 20 + 2).contains(&acks), "no flood of them passes: {acks}");
        assert!(meter.admits(now, &header(Flags::DESTROY), 20));
        assert!(meter.next(at(60_000)).is_none());
        assert!(meter.next(at(67_000)).is_some());
    }

    #[test]
    fn what_waits_at_all_meters_is_bounded() {
        let meter = RelayMeter::new(u64::MAX);
        let waiting = |len| Waiting {
            header: header(Flags::DATA),
            packet: Bytes::from(vec![0; len]),
            destination: Shared::new(1),
        };
        assert!(meter.hold(waiting(600), 1_000));
        assert!(!meter.hold(waiting(600), 1_000) && meter.hold(waiting(400), 1_000));
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
