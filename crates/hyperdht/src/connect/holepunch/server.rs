//! The server's side of a punch: answers to the client's rounds (spec/connect.md §8). No I/O.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::is_equal;
use super::puncher::{Action, Failure, Outcome, Puncher, RequestNumber, Setup, Slot};
use crate::connect::payload::{Firewall, error};
use crate::connect::punch::{HolepunchPayload, SecurePayload};

/// How long a client has to begin punching (hyperdht/lib/server.js HANDSHAKE_INITIAL_TIMEOUT).
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client has that was told to try later, while its connection is relayed.
const LATER_PATIENCE: Duration = Duration::from_secs(120);
/// Requests that wait until our NAT is known. They are copies of one; the latest are answered.
const MAX_WAITING: usize = 4;

/// A client's round, decrypted.
#[derive(Clone, Debug)]
pub(super) struct ClientRound {
    pub number: RequestNumber,
    /// The socket of this punch that it came on, if it was one.
    pub by: Option<Slot>,
    /// That socket as the node sees it.
    pub seen_as: SocketAddrV4,
    /// The node.
    pub from: SocketAddrV4,
    /// We are announced at the node, and chose it ourselves.
    pub is_own_relay: bool,
    /// The client as the node sees it.
    pub peer: SocketAddrV4,
    pub payload: HolepunchPayload,
}

/// One server's way through the NATs. It ends when the client comes.
pub(super) struct ServerPunch {
    puncher: Puncher,
    secure: Arc<SecurePayload>,
    has_relay: bool,
    round: u64,
    is_remote_punching: bool,
    waiting: VecDeque<ClientRound>,
    /// Until the client begins.
    deadline: Option<Instant>,
}

impl ServerPunch {
    /// `has_relay`: the connection uses a relay in the meantime, or may do so.
    pub(super) fn new(now: Instant, setup: Setup, secure: Arc<SecurePayload>, has_relay: bool) -> Self {
        Self {
            puncher: Puncher::new(setup),
            secure,
            has_relay,
            round: 0,
            is_remote_punching: false,
            waiting: VecDeque::new(),
            deadline: Some(now + if has_relay { LATER_PATIENCE } else { CLIENT_PATIENCE }),
        }
    }

    /// A round of the client's.
    pub(super) fn handle_request(&mut self, now: Instant, request: ClientRound) {
        if self.puncher.outcome().is_some() {
            return;
        }
        let payload = &request.payload;
        if payload.error != error::NONE {
            self.waiting.push_back(request);
            return self.abort(error::ABORTED, Failure::RemoteAborted);
        }
        if request.by == Some(self.puncher.slot()) {
            self.puncher.add_sample(request.seen_as, request.from);
        }
        // The token was passed back by a node that we chose, and only a client at that host was told it.
        let token = self.secure.token(*request.peer.ip());
        let echoed = request.is_own_relay && payload.remote_token.is_some_and(|t| is_equal(&t, &token));
        if payload.round >= self.round {
            self.round = payload.round;
            self.is_remote_punching = payload.punching;
            let verified = echoed.then(|| *request.peer.ip());
            self.puncher.update_remote(*request.peer.ip(), request.peer, payload, verified);
        }
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(request);
        self.advance(now);
    }

    /// The end of an [`Action::Ping`].
    pub(super) fn handle_pong(
        &mut self,
        now: Instant,
        by: Slot,
        node: SocketAddrV4,
        seen_as: Option<SocketAddrV4>,
    ) {
        self.puncher.handle_pong(by, node, seen_as);
        self.advance(now);
    }

    /// A probe came.
    pub(super) fn handle_probe(&mut self, by: Slot, from: SocketAddrV4) {
        self.puncher.handle_probe(by, from);
    }

    /// To be called when [`ServerPunch::poll_timeout`] has passed; earlier is harmless.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.puncher.fail(Failure::TimedOut);
        }
        self.puncher.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.puncher.poll_timeout()).min()
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.puncher.poll_action()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.puncher.outcome()
    }

    /// Answers the waiting requests once the state of our NAT is known.
    fn advance(&mut self, now: Instant) {
        if self.waiting.is_empty() || self.puncher.outcome().is_some() || !self.puncher.is_analyzed() {
            return;
        }
        while !self.is_remote_punching && self.puncher.is_unstable() {
            if !self.puncher.reopen() {
                return self.abort(error::ABORTED, Failure::DoubleRandom);
            }
            if !self.puncher.is_analyzed() {
                return;
            }
        }
        while let Some(request) = self.waiting.pop_front() {
            self.answer(now, &request);
        }
    }

    fn answer(&mut self, now: Instant, request: &ClientRound) {
        let payload = &request.payload;
        let nat = self.puncher.nat();
        let is_us = |to| nat.is_consistent() && nat.addresses().is_some_and(|own| own.contains(&to));
        // The client has opened its NAT for us, so one probe may be enough.
        if payload.remote_address.is_some_and(is_us) {
            self.puncher.probe(request.peer, false);
        }
        let mut error = error::NONE;
        if self.is_remote_punching && !self.puncher.is_punching() {
            // From here on the punch ends with its probes. A client that tries later keeps its deadline.
            self.deadline = self.deadline.filter(|_| self.has_relay);
            let random = self.puncher.is_random().then(|| self.puncher.try_random(now));
            match random {
                Some(None) if self.has_relay => error = error::TRY_LATER,
                Some(None) => return self.abort_request(request, error::TRY_LATER, Failure::TryLater),
                random => {
                    if !self.puncher.punch(now, random.flatten()) {
                        return self.abort_request(request, error::ABORTED, Failure::NotPunching);
                    }
                }
            }
        }
        // The client is told this of our NAT, so it must not change any more.
        if self.puncher.nat().firewall() != Firewall::Unknown {
            self.puncher.freeze();
        }
        let nat = self.puncher.nat();
        let answer = HolepunchPayload {
            error,
            firewall: nat.firewall(),
            round: self.round,
            connected: false,
            punching: self.puncher.is_punching(),
            addresses: nat.addresses().map(<[_]>::to_vec),
            remote_address: None,
            token: request.is_own_relay.then(|| self.secure.token(*request.peer.ip())),
            remote_token: payload.token,
        };
        let by = Some(self.puncher.slot());
        self.puncher.push(Action::Answer { to: request.number, by, payload: answer });
    }

    fn abort_request(&mut self, request: &ClientRound, error: u64, failure: Failure) {
        self.waiting.push_back(request.clone());
        self.abort(error, failure);
    }

    /// Tells the client, and ends.
    fn abort(&mut self, error: u64, failure: Failure) {
        let payload = HolepunchPayload { error, ..HolepunchPayload::abort(self.round) };
        for request in std::mem::take(&mut self.waiting) {
            let (to, payload) = (request.number, payload.clone());
            self.puncher.push(Action::Answer { to, by: None, payload });
        }
        self.puncher.fail(failure);
    }
}
