//! What a server remembers of the handshakes it is in (spec/connect.md §7).

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::address::is_private;
use crate::crypto::hash;

/// Handshakes at once, the ended ones of the last [`CLEAR_WAIT`] included. Each may hold a
/// stream; a hundred new ones a second is more than a file-sharing node sees in a day.
const MAX_HANDSHAKES: usize = 1024;

/// Of these, the most that one public address may hold: many users share an address, none of
/// them needs more than a few connections.
const MAX_PER_HOST: usize = 64;

/// Copies of one message that wait for its answer: retries by a handful of nodes.
const MAX_WAITERS: usize = 16;

/// How long a handshake that ended is remembered (hyperdht/lib/server.js HANDSHAKE_CLEAR_WAIT),
/// so that retries on their way get the old answer and start nothing.
pub const CLEAR_WAIT: Duration = Duration::from_secs(10);

/// Names a handshake of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandshakeId {
    /// The lowest free number; it goes over the wire.
    pub index: usize,
    /// Tells it from earlier handshakes of the same number.
    serial: u64,
}

/// What to do about a first message.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<W> {
    /// It is new: read it, and tell by [`Handshakes::answer`] what came of it.
    New(HandshakeId),
    /// It was answered before: answer the same again.
    Known { waiter: W, answer: Bytes },
    /// Say nothing now: it waits for the answer, was refused, or is too much.
    Silence,
}

/// The handshakes of a server by message and by number, with whoever waits (`W`) for their
/// answers. Copies of a message, be they retries or sent through several nodes, are one
/// handshake.
#[derive(Debug)]
pub struct Handshakes<W> {
    slots: Vec<Option<Slot<W>>>,
    by_message: HashMap<[u8; 32], usize>,
    per_host: HashMap<Ipv4Addr, usize>,
    /// What ended, in order, with the time it is forgotten.
    ended: VecDeque<(Instant, HandshakeId)>,
    serial: u64,
}

#[derive(Debug)]
struct Slot<W> {
    message: [u8; 32],
    host: Ipv4Addr,
    serial: u64,
    state: State<W>,
    ended: bool,
}

#[derive(Debug)]
enum State<W> {
    Undecided(Vec<W>),
    Answered(Bytes),
    Refused,
}

impl<W: PartialEq> Default for Handshakes<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: PartialEq> Handshakes<W> {
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            by_message: HashMap::new(),
            per_host: HashMap::new(),
            ended: VecDeque::new(),
            serial: 0,
        }
    }

    /// A first message from a client said to be at `host`.
    pub fn arrive(&mut self, now: Instant, message: &[u8], host: Ipv4Addr, waiter: W) -> Arrival<W> {
        self.forget(now);
        let message = hash(&[message]);
        if let Some(slot) = self.by_message.get(&message).and_then(|at| self.slots.get_mut(*at)?.as_mut()) {
            return slot.state.join(waiter);
        }
        let held = self.per_host.get(&host).copied().unwrap_or(0);
        if self.by_message.len() >= MAX_HANDSHAKES || (held >= MAX_PER_HOST && !is_private(host)) {
            return Arrival::Silence;
        }
        let index = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        self.serial += 1;
        let state = State::Undecided(vec![waiter]);
        let slot = Some(Slot { message, host, serial: self.serial, state, ended: false });
        match self.slots.get_mut(index) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.by_message.insert(message, index);
        *self.per_host.entry(host).or_default() += 1;
        Arrival::New(HandshakeId { index, serial: self.serial })
    }

    /// Decides an undecided handshake: an answer, or silence for good. Who waited for it.
    pub fn answer(&mut self, id: HandshakeId, answer: Option<Bytes>) -> Vec<W> {
        let Some(slot) = self.get_mut(id) else { return Vec::new() };
        if !matches!(slot.state, State::Undecided(_)) {
            return Vec::new();
        }
        let refused = answer.is_none();
        let state = answer.map_or(State::Refused, State::Answered);
        match std::mem::replace(&mut slot.state, state) {
            State::Undecided(waiters) if !refused => waiters,
            _ => Vec::new(),
        }
    }

    /// The handshake has ended, well or not, and is forgotten after [`CLEAR_WAIT`].
    pub fn end(&mut self, now: Instant, id: HandshakeId) {
        if let Some(slot) = self.get_mut(id)
            && !slot.ended
        {
            slot.ended = true;
            self.ended.push_back((now + CLEAR_WAIT, id));
        }
    }

    /// Forgets at once a message that was nothing: it is not worth the memory.
    pub fn discard(&mut self, id: HandshakeId) {
        if self.get_mut(id).is_some() {
            self.remove(id.index);
        }
    }

    /// The handshake of a number, while it is not forgotten.
    pub fn by_index(&self, index: usize) -> Option<HandshakeId> {
        let slot = self.slots.get(index)?.as_ref()?;
        Some(HandshakeId { index, serial: slot.serial })
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, id)) = self.ended.pop_front_if(|(at, _)| *at <= now) {
            self.discard(id);
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

    fn get_mut(&mut self, id: HandshakeId) -> Option<&mut Slot<W>> {
        self.slots.get_mut(id.index)?.as_mut().filter(|slot| slot.serial == id.serial)
    }
}

impl<W: PartialEq> State<W> {
    fn join(&mut self, waiter: W) -> Arrival<W> {
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
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
    const ANSWER: Bytes = Bytes::from_static(b"answer");

    fn new(arrival: Arrival<u32>) -> HandshakeId {
        let Arrival::New(id) = arrival else { panic!("{arrival:?}") };
        id
    }

    #[test]
    fn copies_of_a_message_share_one_answer() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let id = new(handshakes.arrive(now, b"a", HOST, 1));
        assert_eq!(handshakes.arrive(now, b"a", HOST, 2), Arrival::Silence);
        assert_eq!(handshakes.arrive(now, b"a", HOST, 2), Arrival::Silence);
        assert_eq!(handshakes.answer(id, Some(ANSWER)), vec![1, 2]);
        let known = Arrival::Known { waiter: 3, answer: ANSWER };
        assert_eq!(handshakes.arrive(now, b"a", HOST, 3), known);
        assert_eq!(handshakes.answer(id, None), Vec::<u32>::new());
        assert_eq!(handshakes.by_message.len(), 1);
    }

    #[test]
    fn a_refused_message_meets_silence_ever_after() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let id = new(handshakes.arrive(now, b"a", HOST, 1));
        assert_eq!(handshakes.answer(id, None), Vec::<u32>::new());
        assert_eq!(handshakes.arrive(now, b"a", HOST, 2), Arrival::Silence);
    }

    #[test]
    fn the_lowest_free_number_is_taken_and_the_ended_are_forgotten_in_time() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let a = new(handshakes.arrive(now, b"a", HOST, 1));
        let b = new(handshakes.arrive(now, b"b", HOST, 1));
        assert_eq!((a.index, b.index), (0, 1));
        handshakes.answer(a, Some(ANSWER));
        handshakes.end(now, a);
        handshakes.end(now, a);
        let almost = now + CLEAR_WAIT - Duration::from_millis(1);
        let known = Arrival::Known { waiter: 1, answer: ANSWER };
        assert_eq!(handshakes.arrive(almost, b"a", HOST, 1), known);
        let c = new(handshakes.arrive(now + CLEAR_WAIT, b"c", HOST, 1));
        assert_eq!(c.index, 0);
        assert_ne!(c, a);
        assert_eq!(handshakes.by_index(0), Some(c));
        assert_eq!(handshakes.answer(a, Some(ANSWER)), Vec::<u32>::new());
        handshakes.end(now + CLEAR_WAIT, a);
        assert_eq!(handshakes.answer(c, Some(ANSWER)), vec![1]);
    }

    #[test]
    fn one_public_host_does_not_take_all_and_all_do_not_take_more_than_there_is() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let fill = |handshakes: &mut Handshakes<u32>, host: Ipv4Addr| {
            (0..2 * MAX_HANDSHAKES as u32)
                .filter(|i| {
                    let message = [i.to_le_bytes(), host.octets()].concat();
                    matches!(handshakes.arrive(now, &message, host, 0), Arrival::New(_))
                })
                .count()
        };
        assert_eq!(fill(&mut handshakes, HOST), MAX_PER_HOST);
        assert_eq!(fill(&mut handshakes, Ipv4Addr::LOCALHOST), MAX_HANDSHAKES - MAX_PER_HOST);
        assert_eq!(handshakes.by_message.len(), MAX_HANDSHAKES);
        for index in 0..MAX_HANDSHAKES {
            let id = handshakes.by_index(index).unwrap();
            handshakes.end(now, id);
        }
        assert_eq!(fill(&mut handshakes, Ipv4Addr::new(9, 9, 9, 9)), 0);
        new(handshakes.arrive(now + CLEAR_WAIT, b"later", HOST, 0));
        assert_eq!(handshakes.by_message.len(), 1);
        assert_eq!(handshakes.per_host.len(), 1);
    }

    #[test]
    fn waiters_of_one_message_are_bounded() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let id = new(handshakes.arrive(now, b"a", HOST, 0));
        for waiter in 1..100 {
            handshakes.arrive(now, b"a", HOST, waiter);
        }
        assert_eq!(handshakes.answer(id, Some(ANSWER)), (84..100).collect::<Vec<u32>>());
    }

    #[test]
    fn what_was_nothing_is_forgotten_at_once() {
        let now = Instant::now();
        let mut handshakes = Handshakes::new();
        let id = new(handshakes.arrive(now, b"a", HOST, 0));
        handshakes.discard(id);
        assert!(handshakes.by_message.is_empty());
        assert_eq!(handshakes.by_index(0), None);
    }
}
