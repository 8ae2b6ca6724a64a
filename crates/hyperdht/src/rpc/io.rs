//! Requests under way: sent, repeated, matched with their answers (spec/dht.md §7).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::id::Id;
use crate::rpc::adaptive::AdaptiveTimeouts;
use crate::rpc::message::{RequestMessage, ResponseMessage};
use crate::rpc::token::Tokens;
use crate::rpc::window::{self, Window};
use crate::rpc::{Reply, Request, RequestError, RequestId, Transmit, Via};

/// Requests at once, waiting ones included. Far more than the window lets out, and so much less than the 65
/// 536 tids that a free one is found at once and guessing one is hard.
const MAX_REQUESTS: usize = 4096;

/// Drains that are made up for after a pause; more would only change the tokens' secrets again.
const MAX_DRAINS: u32 = 64;

/// A request under way.
#[derive(Debug)]
struct InFlight<O> {
    owner: O,
    request: Request,
    via: Via,
    tid: u16,
    data: Bytes,
    sent: u32,
    sent_first: Instant,
    deadline: Option<Instant>,
}

/// What a passed deadline means.
#[derive(Debug)]
pub(super) enum Expiry<O> {
    /// The first attempt was not answered in time; the request was sent again.
    Late(RequestId, O),
    /// No attempt was answered.
    Dead(RequestId, SocketAddrV4, O),
}

/// What a node has asked of others since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent, each counted once.
    pub requests: u64,
    /// Requests sent again.
    pub repeats: u64,
    /// Requests that were answered.
    pub responses: u64,
    /// Requests given up.
    pub timeouts: u64,
}

/// All requests under way.
pub(super) struct Io<O> {
    pub tokens: Tokens,
    pub rng: StdRng,
    pub traffic: Traffic,
    requests: HashMap<RequestId, InFlight<O>>,
    by_tid: HashMap<u16, RequestId>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    /// Requests that the window holds back, in order.
    waiting: VecDeque<RequestId>,
    window: Window,
    adaptive: Option<AdaptiveTimeouts>,
    drained: Instant,
    next_id: u64,
    transmits: VecDeque<Transmit>,
}

impl<O: Copy> Io<O> {
    /// `adaptive`: wait for each node as long as it is known to take.
    pub(super) fn new(now: Instant, mut rng: StdRng, adaptive: bool) -> Self {
        Self {
            tokens: Tokens::new(&mut rng),
            rng,
            traffic: Traffic::default(),
            requests: HashMap::new(),
            by_tid: HashMap::new(),
            deadlines: BTreeSet::new(),
            waiting: VecDeque::new(),
            window: Window::new(window::MAX_SENDS),
            adaptive: adaptive.then(|| AdaptiveTimeouts::new(now)),
            drained: now,
            next_id: 0,
            transmits: VecDeque::new(),
        }
    }

    /// Requests without an answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn has_asked(&self, to: SocketAddrV4, tid: u16) -> bool {
        let request = self.by_tid.get(&tid).and_then(|id| self.requests.get(id));
        request.is_some_and(|request| request.request.to == to)
    }

    /// Sends a request, or lets it wait for room in the window. `id` goes into the message.
    pub(super) fn start(
        &mut self,
        now: Instant,
        request: Request,
        via: Via,
        id: Option<Id>,
        owner: O,
    ) -> Result<RequestId, RequestError> {
        if self.requests.len() >= MAX_REQUESTS {
            return Err(RequestError::Busy);
        }
        let tid = loop {
            let tid = self.rng.random();
            if !self.by_tid.contains_key(&tid) {
                break tid;
            }
        };
        let message = RequestMessage {
            tid,
            to: request.to,
            id,
            token: request.token,
            internal: request.internal,
            command: request.command,
            target: request.target,
            value: request.value.clone(),
        };
        self.next_id += 1;
        let key = RequestId(self.next_id);
        let data = message.encode().into();
        let in_flight = InFlight { owner, request, via, tid, data, sent: 0, sent_first: now, deadline: None };
        self.by_tid.insert(tid, key);
        self.requests.insert(key, in_flight);
        self.send_or_wait(now, key);
        Ok(key)
    }

    /// Ends a request without telling its owner.
    pub(super) fn cancel(&mut self, id: RequestId) {
        self.take(id);
    }

    /// The request that a response answers, if it is one of ours and the response comes from the node that
    /// was asked.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        via: Via,
        from: SocketAddrV4,
        id: Option<Id>,
        response: ResponseMessage,
    ) -> Option<(RequestId, O, Reply)> {
        let key = *self.by_tid.get(&response.tid)?;
        if self.requests.get(&key)?.request.to != from {
            return None;
        }
        let request = self.take(key)?;
        self.traffic.responses += 1;
        self.send_waiting(now);
        let reply = Reply {
            from,
            id,
            to: response.to,
            via,
            token: response.token,
            closer: response.closer,
            error: response.error,
            value: response.value,
            rtt: now.saturating_duration_since(request.sent_first),
        };
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.answered(now, from, reply.rtt, request.sent);
        }
        Some((key, request.owner, reply))
    }

    /// Drains the window and takes the next deadline that has passed. To be called until there is none.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Expiry<O>> {
        self.drain(now);
        loop {
            let &(deadline, key) = self.deadlines.first()?;
            if deadline > now {
                return None;
            }
            self.deadlines.pop_first();
            let request = self.requests.get_mut(&key)?;
            request.deadline = None;
            if request.sent >= request.request.attempts {
                self.traffic.timeouts += 1;
                return self.take(key).map(|request| Expiry::Dead(key, request.request.to, request.owner));
            }
            let (first, owner) = (request.sent == 1, request.owner);
            self.send_or_wait(now, key);
            if first {
                return Some(Expiry::Late(key, owner));
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        let drain = (!self.waiting.is_empty()).then(|| self.drained + window::SLOT);
        [deadline, drain].into_iter().flatten().min()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub(super) fn transmit(&mut self, transmit: Transmit) {
        self.transmits.push_back(transmit);
    }

    /// Ends every request; the caller tells their owners.
    pub(super) fn clear(&mut self) -> Vec<(RequestId, O)> {
        self.by_tid.clear();
        self.deadlines.clear();
        self.waiting.clear();
        self.transmits.clear();
        self.window.clear();
        self.requests.drain().map(|(id, request)| (id, request.owner)).collect()
    }

    fn take(&mut self, id: RequestId) -> Option<InFlight<O>> {
        let request = self.requests.remove(&id)?;
        self.by_tid.remove(&request.tid);
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.window.settled();
        Some(request)
    }

    fn drain(&mut self, now: Instant) {
        let slots = now.saturating_duration_since(self.drained).as_millis() / window::SLOT.as_millis();
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        if slots == 0 {
            return;
        }
        self.drained += window::SLOT * slots;
        for _ in 0..slots.min(MAX_DRAINS) {
            self.window.drain();
            self.tokens.drain();
        }
        self.send_waiting(now);
    }

    /// Sends waiting requests as long as the window has room. Each answer makes room, so that a near node is
    /// not asked at the pace of the drains.
    fn send_waiting(&mut self, now: Instant) {
        while !self.window.is_full()
            && let Some(key) = self.waiting.pop_front()
        {
            self.send(now, key);
        }
    }

    fn send_or_wait(&mut self, now: Instant, key: RequestId) {
        self.drain(now);
        if self.window.is_full() {
            self.waiting.push_back(key);
        } else {
            self.send(now, key);
        }
    }

    /// Does nothing for a request that ended while it waited.
    fn send(&mut self, now: Instant, key: RequestId) {
        let Some(request) = self.requests.get_mut(&key) else { return };
        if request.sent == 0 {
            request.sent_first = now;
            self.traffic.requests += 1;
        } else {
            self.traffic.repeats += 1;
        }
        request.sent += 1;
        let to = request.request.to;
        let deadline = now
            + match &mut self.adaptive {
                Some(adaptive) => adaptive.timeout(now, to, request.sent, &mut self.rng),
                None => Request::TIMEOUT,
            };
        request.deadline = Some(deadline);
        self.deadlines.insert((deadline, key));
        self.window.sent();
        let (via, data, is_whole) = (request.via, request.data.clone(), request.request.is_whole);
        self.transmits.push_back(Transmit { via, to, data, is_whole });
    }
}
