//! When acknowledgements leave (spec §16, "ACK thinning").

use crate::time::{Instant, MILLISECOND, Micros};

/// The first packets of a stream are acknowledged singly: the sender's window still grows from few packets.
const EAGER_PACKETS: u64 = 16;
/// One acknowledgement answers at least this many packets, if they come fast enough.
const PACKETS_PER_ACK: usize = 16;
/// A batch of no more packets than this is answered at once: a sender measuring its round trip keeps only
/// four in flight, and our delay would enter its measurement.
const SMALL_BATCH: usize = 4;
/// Longest that an acknowledgement waits for more packets.
const MAX_DELAY: Micros = MILLISECOND;

/// Decides when to acknowledge.
#[derive(Debug, Default)]
pub(super) struct AckSchedule {
    is_due: bool,
    /// Sequenced packets not yet acknowledged.
    pending: usize,
    /// Of those, the ones of this batch.
    batch: usize,
    total: u64,
    deadline: Option<Instant>,
    /// When the last heartbeat was answered.
    heartbeat_at: Option<Instant>,
}

impl AckSchedule {
    /// A sequenced packet arrived; `is_urgent` if its sender should know soon.
    pub(super) fn on_packet(&mut self, is_urgent: bool) {
        self.pending += 1;
        self.batch += 1;
        self.total += 1;
        self.is_due |= is_urgent || self.total <= EAGER_PACKETS;
    }

    /// A heartbeat arrived. Some peers send them without pause; one answer a millisecond serves them too.
    pub(super) fn on_heartbeat(&mut self, now: Instant) {
        match self.heartbeat_at {
            Some(last) if now - last < MAX_DELAY => {
                self.deadline.get_or_insert(last + MAX_DELAY);
            }
            _ => {
                self.heartbeat_at = Some(now);
                self.is_due = true;
            }
        }
    }

    /// An acknowledgement is owed now.
    pub(super) fn request(&mut self) {
        self.is_due = true;
    }

    /// The packets that were waiting have all been handled.
    pub(super) fn on_batch_end(&mut self, now: Instant) {
        if self.batch > 0 {
            if self.batch <= SMALL_BATCH || self.pending >= PACKETS_PER_ACK {
                self.is_due = true;
            } else if self.deadline.is_none() {
                self.deadline = Some(now + MAX_DELAY);
            }
        }
        self.batch = 0;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.is_due = true;
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_due { None } else { self.deadline }
    }

    /// An acknowledgement of everything left.
    pub(super) fn on_sent(&mut self) {
        self.is_due = false;
        self.pending = 0;
        self.deadline = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> AckSchedule {
        let mut ack = AckSchedule::default();
        for _ in 0..EAGER_PACKETS {
            ack.on_packet(false);
            assert!(ack.is_due());
            ack.on_sent();
        }
        ack.on_batch_end(Instant::default());
        ack.on_sent();
        ack
    }

    #[test]
    fn a_full_batch_is_answered_once() {
        let mut ack = settled();
        for _ in 0..40 {
            ack.on_packet(false);
        }
        assert!(!ack.is_due());
        ack.on_batch_end(Instant::default());
        assert!(ack.is_due());
    }

    #[test]
    fn a_middling_batch_waits_a_millisecond() {
        let mut ack = settled();
        for _ in 0..10 {
            ack.on_packet(false);
        }
        ack.on_batch_end(Instant::default());
        assert_eq!(ack.deadline(), Some(Instant::from_micros(1000)));
        ack.handle_timeout(Instant::from_micros(1000));
        assert!(ack.is_due());
    }

    #[test]
    fn a_storm_of_heartbeats_is_answered_once_a_millisecond() {
        let mut ack = AckSchedule::default();
        let mut answers = 0;
        for micros in 0..5000 {
            let now = Instant::from_micros(micros);
            ack.on_heartbeat(now);
            ack.handle_timeout(now);
            if ack.is_due() {
                answers += 1;
                ack.on_sent();
            }
        }
        assert!((5..=10).contains(&answers), "{answers} answers");
    }

    #[test]
    fn small_batches_and_urgent_packets_are_answered_at_once() {
        let mut ack = settled();
        ack.on_packet(false);
        ack.on_batch_end(Instant::default());
        assert!(ack.is_due());
        ack.on_sent();
        for i in 0..10 {
            ack.on_packet(i == 3);
        }
        assert!(ack.is_due());
    }
}
