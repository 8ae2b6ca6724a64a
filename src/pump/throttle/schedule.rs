//! Whose bytes are next under a limit, and when: a state machine without I/O.
//!
//! Of those who ask, whoever's peer has had the fewest bytes is next (start-time fair queueing: each request
//! begins where the one before it of the same peer ended, counted in bytes, and never before what was let
//! pass last). The requests of one peer come in the order in which they were asked, so that its transfers,
//! each of which asks for one step at a time, have equal parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How much of the time in which nothing moved is made up for, at full speed: what timers and the scheduler
/// are late by, and no more.
const CREDIT: Duration = Duration::from_millis(50);

/// A request, by what is let pass before it: bytes of its peer, then those who came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket {
    start: u64,
    number: u64,
}

/// What a request is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Its bytes may move. It is no request any more.
    Now,
    /// It is the first, and has to wait until then.
    At(Instant),
    /// Others are before it.
    Later,
}

/// The requests under one limit.
#[derive(Debug)]
pub(super) struct RateSchedule {
    /// Bytes a second.
    rate: u64,
    /// When what was let pass last is through; `None` before anything was.
    through: Option<Instant>,
    /// Where the last one that was let pass began.
    passed: u64,
    last_number: u64,
    /// Bytes of each request.
    requests: BTreeMap<Ticket, u64>,
    /// Of each peer where its last request ends: of those that are not left behind.
    ends: HashMap<Arc<str>, u64>,
}

impl RateSchedule {
    pub(super) fn new(rate: u64) -> Self {
        let (requests, ends) = (BTreeMap::new(), HashMap::new());
        Self { rate, through: None, passed: 0, last_number: 0, requests, ends }
    }

    /// Asks for bytes with a peer.
    pub(super) fn ask(&mut self, peer: &Arc<str>, bytes: u64) -> Ticket {
        let start = self.ends.get(peer).copied().unwrap_or_default().max(self.passed);
        self.ends.insert(peer.clone(), start.saturating_add(bytes));
        self.last_number += 1;
        let ticket = Ticket { start, number: self.last_number };
        self.requests.insert(ticket, bytes);
        ticket
    }

    /// What a request is to do now.
    pub(super) fn poll(&mut self, ticket: Ticket, now: Instant) -> Passage {
        if self.first().is_some_and(|first| first != ticket) {
            return Passage::Later;
        }
        if let Some(time) = self.through.filter(|through| *through > now) {
            return Passage::At(time);
        }
        let bytes = self.requests.remove(&ticket).unwrap_or_default();
        self.passed = self.passed.max(ticket.start);
        // A peer that is not before the others has the same turn as one that nothing is known of.
        let passed = self.passed;
        self.ends.retain(|_, end| *end > passed);
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let begins = self.through.map_or(now, |through| through.max(earliest));
        self.through = Some(begins + Duration::from_secs_f64(bytes as f64 / self.rate as f64));
        Passage::Now
    }

    /// Forgets a request.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.requests.remove(&ticket);
    }

    /// The request that is next.
    pub(super) fn first(&self) -> Option<Ticket> {
        self.requests.first_key_value().map(|(ticket, _)| *ticket)
    }
}
