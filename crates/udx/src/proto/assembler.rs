//! The receiving side: packets by number in, bytes in order out (spec §6).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// A packet is treated as lost if it is further ahead than packets of so many bytes would fill the room: half
/// of the smallest full packet, so that no sender that heeds the window comes near it.
const LEAST_PACKET: usize = 640;

/// What became of a sequenced packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The one expected, with nothing behind it waiting.
    Next,
    /// Filled a hole: packets behind it were delivered too.
    Filled,
    /// Ahead of one that is missing.
    Ahead,
    /// Seen before.
    Duplicate,
    /// No room: as if it had been lost.
    Refused,
}

/// How many bytes may be held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// In order and not yet taken.
    pub in_order: usize,
    /// So many more while packets are missing.
    pub ahead: usize,
}

/// Number space, reorder store and in-order queue of one stream.
#[derive(Debug)]
pub(super) struct Assembler {
    /// Next packet number expected, unwrapped to 64 bits.
    next: u64,
    /// Packets ahead of `next`.
    ahead: BTreeMap<u64, Bytes>,
    /// Runs of `ahead`, ascending, ends exclusive: the SACK blocks.
    runs: Vec<(u64, u64)>,
    /// Payload bytes in `ahead`.
    ahead_bytes: usize,
    /// Number after the peer's END packet.
    end: Option<u64>,
    /// In order, not yet taken by the owner.
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
}

impl Assembler {
    /// Expects `first` as the number of the peer's first packet.
    pub(super) fn new(first: u32) -> Self {
        // One lap ahead, so that numbers before the first stay positive.
        let next = (1 << 32) + u64::from(first);
        Self {
            next,
            ahead: BTreeMap::new(),
            runs: Vec::new(),
            ahead_bytes: 0,
            end: None,
            ready: VecDeque::new(),
            ready_bytes: 0,
        }
    }

    /// The number to acknowledge with.
    pub(super) fn ack(&self) -> u32 {
        self.next as u32
    }

    /// Next number expected, unwrapped.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The unwrapped form of a number from the wire: the one nearest to what is expected.
    pub(super) fn unwrap(&self, seq: u32) -> u64 {
        super::seq::unwrap(seq, self.next)
    }

    /// Whether packets are missing.
    pub(super) fn has_holes(&self) -> bool {
        !self.runs.is_empty()
    }

    /// At most `max` SACK blocks, lowest first. Of more, the lowest few and the highest: a sender never
    /// forgets a block, and the highest are those it was not yet told of.
    pub(super) fn sacks(&self, max: usize) -> impl Iterator<Item = (u64, u64)> {
        let skipped = self.runs.len().saturating_sub(max);
        let low = if skipped > 0 { max / 8 } else { 0 };
        let (low, rest) = self.runs.split_at(low);
        low.iter().chain(rest.iter().skip(skipped)).copied()
    }

    /// Bytes out of order.
    pub(super) fn ahead(&self) -> usize {
        self.ahead_bytes
    }

    /// Bytes in order and not yet taken.
    pub(super) fn ready(&self) -> usize {
        self.ready_bytes
    }

    /// Whether the peer's END and all before it arrived.
    pub(super) fn is_ended(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Takes the next bytes in order.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let data = self.ready.pop_front()?;
        self.ready_bytes -= data.len();
        Some(data)
    }

    /// Takes a sequenced packet. `payload` is called only if its bytes are needed. The packet expected next
    /// is always taken, whatever is held ahead of it; otherwise the stream would stop for good.
    pub(super) fn insert(
        &mut self,
        seq: u64,
        is_end: bool,
        len: usize,
        room: Room,
        payload: impl FnOnce() -> Bytes,
    ) -> Arrival {
        if seq < self.next || self.ahead.contains_key(&seq) {
            return Arrival::Duplicate;
        }
        let (held, room) = if seq == self.next {
            (self.ready_bytes, room.in_order)
        } else {
            (self.ready_bytes + self.ahead_bytes, room.in_order + room.ahead)
        };
        if seq - self.next >= (room / LEAST_PACKET).max(1) as u64 || (len > 0 && held + len > room) {
            return Arrival::Refused;
        }
        if is_end && self.end.is_none() {
            self.end = Some(seq + 1);
        }
        if seq > self.next {
            let payload = payload();
            self.ahead_bytes += payload.len();
            self.ahead.insert(seq, payload);
            self.add_run(seq);
            return Arrival::Ahead;
        }
        self.deliver(payload());
        let Some(&(start, end)) = self.runs.first() else { return Arrival::Next };
        if start != self.next {
            // A hole before the first run remains: the peer learns of it from the next ACK.
            return Arrival::Filled;
        }
        self.runs.remove(0);
        while self.next < end {
            let Some(payload) = self.ahead.remove(&self.next) else { break };
            self.ahead_bytes -= payload.len();
            self.deliver(payload);
        }
        Arrival::Filled
    }

    fn deliver(&mut self, payload: Bytes) {
        let is_after_end = self.end.is_some_and(|end| self.next >= end);
        self.next += 1;
        // Data after END is acknowledged and dropped; empty packets only take a number.
        if !is_after_end && !payload.is_empty() {
            self.ready_bytes += payload.len();
            self.ready.push_back(payload);
        }
    }

    fn add_run(&mut self, seq: u64) {
        let at = self.runs.partition_point(|&(_, end)| end < seq);
        match self.runs.get_mut(at) {
            Some(run) if run.1 == seq => {
                run.1 += 1;
                let end = run.1;
                if let Some(&(start, next_end)) = self.runs.get(at + 1)
                    && start == end
                {
                    self.runs.remove(at + 1);
                    self.runs[at].1 = next_end;
                }
            }
            Some(run) if run.0 == seq + 1 => run.0 = seq,
            _ => self.runs.insert(at, (seq, seq + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(a: &mut Assembler, seq: u32, data: &'static [u8], end: bool) -> Arrival {
        let seq = a.unwrap(seq);
        a.insert(seq, end, data.len(), Room { in_order: 1 << 20, ahead: 0 }, || Bytes::from_static(data))
    }

    fn read(a: &mut Assembler) -> Vec<u8> {
        std::iter::from_fn(|| a.pop()).flatten().collect()
    }

    #[test]
    fn holes_and_runs() {
        let mut a = Assembler::new(u32::MAX);
        assert_eq!(insert(&mut a, u32::MAX, b"a", false), Arrival::Next);
        assert_eq!(insert(&mut a, 1, b"c", false), Arrival::Ahead);
        assert_eq!(insert(&mut a, 3, b"e", false), Arrival::Ahead);
        assert_eq!(insert(&mut a, 2, b"d", false), Arrival::Ahead);
        assert_eq!(insert(&mut a, 2, b"d", false), Arrival::Duplicate);
        let base = a.next();
        assert_eq!(a.sacks(9).collect::<Vec<_>>(), [(base + 1, base + 4)]);
        assert_eq!(insert(&mut a, 5, b"g", true), Arrival::Ahead);
        assert_eq!(insert(&mut a, 0, b"b", false), Arrival::Filled);
        assert_eq!(read(&mut a), b"abcde");
        assert!(!a.is_ended());
        assert_eq!(insert(&mut a, 4, b"f", false), Arrival::Filled);
        assert_eq!(read(&mut a), b"fg");
        assert!(a.is_ended());
        assert_eq!((a.ack(), a.ready() + a.ahead()), (6, 0));
        assert_eq!(insert(&mut a, 6, b"late", false), Arrival::Next);
        assert_eq!(read(&mut a), b"");
    }

    #[test]
    fn of_many_blocks_the_lowest_and_the_newest_are_told() {
        let mut a = Assembler::new(0);
        let base = a.next();
        for seq in (1..200).step_by(2) {
            insert(&mut a, seq, b"x", false);
        }
        let sacks: Vec<_> = a.sacks(8).map(|(start, _)| start - base).collect();
        assert_eq!(sacks, [1, 187, 189, 191, 193, 195, 197, 199]);
        assert_eq!(a.sacks(100).count(), 100);
    }

    #[test]
    fn memory_is_bounded() {
        let mut a = Assembler::new(0);
        assert_eq!(insert(&mut a, 9000, b"x", false), Arrival::Refused);
        let far = a.unwrap(1);
        let room = Room { in_order: 500, ahead: 500 };
        assert_eq!(a.insert(far, false, 1001, room, || unreachable!()), Arrival::Refused);
    }

    #[test]
    fn what_is_ahead_does_not_keep_out_what_is_missed() {
        let mut a = Assembler::new(0);
        let next = a.next();
        let packet = || Bytes::from(vec![0; 1000]);
        let room = Room { in_order: 1000, ahead: 1000 };
        assert_eq!(a.insert(next + 1, false, 1000, room, packet), Arrival::Ahead);
        assert_eq!(a.insert(next + 2, false, 1000, room, packet), Arrival::Ahead);
        assert_eq!(a.insert(next + 3, false, 1000, room, packet), Arrival::Refused);
        assert_eq!(a.insert(next, false, 1000, room, packet), Arrival::Filled);
        assert_eq!((a.ready(), a.ahead()), (3000, 0));
        // What is in order has its bound too.
        assert_eq!(a.insert(next + 3, false, 1000, room, packet), Arrival::Refused);
    }
}
