//! What a server remembers of the handshakes it is in (spec/connect.md §7).

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::address::is_private;
use crate::crypto::hash;

/// Handshakes at once, including those that ended less than [`CLEAR_WAIT`] ago. Each may hold a stream; a
/// hundred new ones a second is more than a file-sharing node sees in a day.
const MAX_HANDSHAKES: usize = 1024;

/// Handshakes at once from one public address: many users may share it, and none needs more than a few
/// connections.
const MAX_PER_HOST: usize = 64;

/// Copies of one message that wait for its answer: a handful of nodes each send it again.
const MAX_WAITERS: usize = 16;

/// How long a handshake is remembered after its end (hyperdht/lib/server.js HANDSHAKE_CLEAR_WAIT): a copy of
/// its message that arrives late gets the old answer and starts nothing.
pub(super) const CLEAR_WAIT: Duration = Duration::from_secs(10);

/// Names a handshake of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct HandshakeId {
    /// The lowest free number; it goes over the wire.
    pub index: usize,
    /// Distinguishes it from earlier handshakes of the same number.
    serial: u64,
}

/// What is known of a first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<W, A> {
    /// Nothing. If it can be read, [`Handshakes::insert`] it.
    New(W),
    /// It was answered before: answer the same again.
    Known { waiter: W, answer: A },
    /// Say nothing now: it waits for the answer, or was refused.
    Silence,
}

/// A handshake that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inserted {
    pub id: HandshakeId,
    /// The handshake that was forgotten to make room. A flood shortens the time that others have to complete
    /// a handshake, and does not keep them out.
    pub evicted: Option<HandshakeId>,
}

/// The handshakes of a server, found by message and by number. `W` is whoever waits for an answer, `A` the
/// answer. All copies of a message are one handshake, whether they were sent again or through several nodes.
#[derive(Debug)]
pub(super) struct Handshakes<W, A> {
    slots: Vec<Option<HandshakeEntry<W, A>>>,
    by_message: HashMap<[u8; 32], usize>,
    per_host: HashMap<Ipv4Addr, usize>,
    /// Ended handshakes in order, each with the time when it is forgotten.
    ended: VecDeque<(Instant, HandshakeId)>,
    serial: u64,
}

#[derive(Debug)]
struct HandshakeEntry<W, A> {
    message: [u8; 32],
    host: Ipv4Addr,
    serial: u64,
    state: HandshakeState<W, A>,
    ended: bool,
}

#[derive(Debug)]
enum HandshakeState<W, A> {
    Undecided(Vec<W>),
    Answered(A),
    Refused,
}

impl<W: PartialEq, A: Clone> Default for Handshakes<W, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: PartialEq, A: Clone> Handshakes<W, A> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            by_message: HashMap::new(),
            per_host: HashMap::new(),
            ended: VecDeque::new(),
            serial: 0,
        }
    }

    /// Forgets all handshakes. Their ids name none of the later ones.
    pub(super) fn clear(&mut self) {
        *self = Self { serial: self.serial, ..Self::new() };
    }

    /// Looks a first message up, and adds the one who waits for its answer.
    pub(super) fn arrive(&mut self, now: Instant, message: &[u8], waiter: W) -> Arrival<W, A> {
        self.forget(now);
        let known = self.by_message.get(&hash(&[message]));
        match known.and_then(|index| self.slots.get_mut(*index)?.as_mut()) {
            Some(slot) => slot.state.join(waiter),
            None => Arrival::New(waiter),
        }
    }

    /// Adds the handshake of a new message from a client at `host`. Call [`Handshakes::answer`] and
    /// [`Handshakes::end`] for it later. `None` if the host has too many.
    pub(super) fn insert(&mut self, message: &[u8], host: Ipv4Addr, waiter: W) -> Option<Inserted> {
        let held = self.per_host.get(&host).copied().unwrap_or(0);
        if held >= MAX_PER_HOST && !is_private(host) {
            return None;
        }
        let evicted = self.make_room();
        let message = hash(&[message]);
        let index = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        self.serial += 1;
        let state = HandshakeState::Undecided(vec![waiter]);
        let slot = Some(HandshakeEntry { message, host, serial: self.serial, state, ended: false });
        match self.slots.get_mut(index) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.by_message.insert(message, index);
        *self.per_host.entry(host).or_default() += 1;
        Some(Inserted { id: HandshakeId { index, serial: self.serial }, evicted })
    }

    /// Decides a handshake: an answer, or silence for good. Returns those who wait for the answer.
    pub(super) fn answer(&mut self, id: HandshakeId, answer: Option<A>) -> Vec<W> {
        let Some(slot) = self.get_mut(id) else { return Vec::new() };
        if !matches!(slot.state, HandshakeState::Undecided(_)) {
            return Vec::new();
        }
        let refused = answer.is_none();
        let state = answer.map_or(HandshakeState::Refused, HandshakeState::Answered);
        match std::mem::replace(&mut slot.state, state) {
            HandshakeState::Undecided(waiters) if !refused => waiters,
            _ => Vec::new(),
        }
    }

    /// The handshake has ended, successfully or not. It is forgotten after [`CLEAR_WAIT`].
    pub(super) fn end(&mut self, now: Instant, id: HandshakeId) {
        if let Some(slot) = self.get_mut(id)
            && !slot.ended
        {
            slot.ended = true;
            self.ended.push_back((now + CLEAR_WAIT, id));
        }
    }

    /// The handshake of a number, while it is not forgotten.
    pub(super) fn by_index(&self, index: usize) -> Option<HandshakeId> {
        let slot = self.slots.get(index)?.as_ref()?;
        Some(HandshakeId { index, serial: slot.serial })
    }

    /// Removes a handshake if the limit is reached: one that has ended, or else the oldest.
    fn make_room(&mut self) -> Option<HandshakeId> {
        if self.by_message.len() < MAX_HANDSHAKES {
            return None;
        }
        while let Some((_, id)) = self.ended.pop_front() {
            if self.get_mut(id).is_some() {
                self.remove(id.index);
                return Some(id);
            }
        }
        let serials = self.slots.iter().map(|slot| slot.as_ref().map(|slot| slot.serial));
        let ids =
            serials.enumerate().filter_map(|(index, serial)| Some(HandshakeId { index, serial: serial? }));
        let oldest = ids.min_by_key(|id| id.serial)?;
        self.remove(oldest.index);
        Some(oldest)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, id)) = self.ended.pop_front_if(|(at, _)| *at <= now) {
            if self.get_mut(id).is_some() {
                self.remove(id.index);
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index).and_then(Option::take) else { return };
        self.by_message.remove(&slot.message);
        if let Some(held) = self.per_host.get_mut(&slot.host) {
            *held -= 1;
            if *held == 0 {
                self.per_host.remove(&slot.host);
            }
        }
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
    }

    fn get_mut(&mut self, id: HandshakeId) -> Option<&mut HandshakeEntry<W, A>> {
        self.slots.get_mut(id.index)?.as_mut().filter(|slot| slot.serial == id.serial)
    }
}

impl<W: PartialEq, A: Clone> HandshakeState<W, A> {
    fn join(&mut self, waiter: W) -> Arrival<W, A> {
        match self {
            Self::Undecided(waiters) => {
                if !waiters.contains(&waiter) {
                    // The oldest has likely given up.
                    if waiters.len() >= MAX_WAITERS {
                        waiters.remove(0);
                    }
                    waiters.push(waiter);
                }
                Arrival::Silence
            }
            Self::Answered(answer) => Arrival::Known { waiter, answer: answer.clone() },
            Self::Refused => Arrival::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
    const ANSWER: Bytes = Bytes::from_static(b"answer");

    /// Lets a message arrive that is not known.
    fn add(handshakes: &mut Handshakes<u32, Bytes>, now: Instant, message: &[u8]) -> HandshakeId {
        let Arrival::New(waiter) = handshakes.arrive(now, message, 1) else { panic!("known") };
        handshakes.insert(message, HOST, waiter).unwrap().id
    }

    /// Adds that many different messages; how many were taken.
    fn flood(handshakes: &mut Handshakes<u32, Bytes>, now: Instant, host: Ipv4Addr, count: usize) -> usize {
        let mut send = |i: &u32| {
            let message = [i.to_le_bytes(), host.octets()].concat();
            matches!(handshakes.arrive(now, &message, 0), Arrival::New(_))
                && handshakes.insert(&message, host, 0).is_some()
        };
        (0..count as u32).filter(&mut send).count()
    }

    #[test]
    fn copies_of_a_message_share_one_answer() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let id = add(&mut handshakes, now, b"a");
        assert_eq!(handshakes.arrive(now, b"a", 2), Arrival::Silence);
        assert_eq!(handshakes.arrive(now, b"a", 2), Arrival::Silence);
        assert_eq!(handshakes.answer(id, Some(ANSWER)), vec![1, 2]);
        let known = Arrival::Known { waiter: 3, answer: ANSWER };
        assert_eq!(handshakes.arrive(now, b"a", 3), known);
        assert_eq!(handshakes.answer(id, None), Vec::<u32>::new());
    }

    #[test]
    fn a_refused_message_meets_silence_ever_after() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let id = add(&mut handshakes, now, b"a");
        assert_eq!(handshakes.answer(id, None), Vec::<u32>::new());
        assert_eq!(handshakes.arrive(now, b"a", 2), Arrival::Silence);
    }

    #[test]
    fn the_lowest_free_number_is_taken_and_the_ended_are_forgotten_in_time() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let a = add(&mut handshakes, now, b"a");
        let b = add(&mut handshakes, now, b"b");
        assert_eq!((a.index, b.index), (0, 1));
        handshakes.answer(a, Some(ANSWER));
        handshakes.end(now, a);
        handshakes.end(now, a);
        let almost = now + CLEAR_WAIT - Duration::from_millis(1);
        let known = Arrival::Known { waiter: 1, answer: ANSWER };
        assert_eq!(handshakes.arrive(almost, b"a", 1), known);
        let c = add(&mut handshakes, now + CLEAR_WAIT, b"c");
        assert_eq!(c.index, 0);
        assert_ne!(c, a);
        assert_eq!(handshakes.by_index(0), Some(c));
        assert_eq!(handshakes.answer(a, Some(ANSWER)), Vec::<u32>::new());
        handshakes.end(now + CLEAR_WAIT, a);
        assert_eq!(handshakes.answer(c, Some(ANSWER)), vec![1]);
    }

    #[test]
    fn one_public_host_takes_its_share_alone() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        assert_eq!(flood(&mut handshakes, now, HOST, MAX_HANDSHAKES), MAX_PER_HOST);
        for index in 0..MAX_PER_HOST {
            let id = handshakes.by_index(index).unwrap();
            handshakes.end(now, id);
        }
        assert_eq!(flood(&mut handshakes, now, HOST, MAX_HANDSHAKES), 0);
        assert_eq!(flood(&mut handshakes, now + CLEAR_WAIT, HOST, MAX_HANDSHAKES), MAX_PER_HOST);
        assert_eq!(handshakes.per_host.len(), 1);
    }

    #[test]
    fn the_oldest_makes_room_when_there_is_none_and_before_it_one_that_has_ended() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let host = Ipv4Addr::LOCALHOST;
        assert_eq!(flood(&mut handshakes, now, host, MAX_HANDSHAKES), MAX_HANDSHAKES);
        let (first, seventh) = (handshakes.by_index(0).unwrap(), handshakes.by_index(7).unwrap());
        handshakes.end(now, seventh);
        assert_eq!(handshakes.insert(b"a", host, 0).unwrap().evicted, Some(seventh));
        assert_eq!(handshakes.insert(b"b", host, 0).unwrap().evicted, Some(first));
        assert_eq!(flood(&mut handshakes, now, Ipv4Addr::new(10, 0, 0, 1), 3000), 3000);
        assert_eq!(handshakes.by_message.len(), MAX_HANDSHAKES);
        assert_eq!(handshakes.slots.len(), MAX_HANDSHAKES);
        assert_eq!(handshakes.per_host.len(), 1);
    }

    #[test]
    fn what_was_cleared_is_not_mistaken_for_what_comes_after() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let before = add(&mut handshakes, now, b"a");
        handshakes.clear();
        let after = add(&mut handshakes, now, b"a");
        assert_eq!(before.index, after.index);
        assert_eq!(handshakes.answer(before, Some(ANSWER)), Vec::<u32>::new());
        assert_eq!(handshakes.answer(after, Some(ANSWER)), vec![1]);
    }

    #[test]
    fn waiters_of_one_message_are_bounded() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let id = add(&mut handshakes, now, b"a");
        for waiter in 2..100 {
            handshakes.arrive(now, b"a", waiter);
        }
        assert_eq!(handshakes.answer(id, Some(ANSWER)), (84..100).collect::<Vec<u32>>());
    }
}
