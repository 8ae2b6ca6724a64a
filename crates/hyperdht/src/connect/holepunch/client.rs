//! The client's rounds of a punch: one to learn what both NATs do, one to begin (spec/connect.md §8). No I/O.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::puncher::{Action, Failure, Outcome, Puncher, Setup, Slot};
use super::throttle::RandomPunch;
use crate::connect::payload::{Firewall, RelayInfo, error};
use crate::connect::punch::{HolepunchPayload, SecurePayload};

/// How long a server may take that does not know its NAT yet (hyperdht/lib/connect.js).
const REMOTE_PATIENCE: Duration = Duration::from_secs(1);
/// The shortest wait until random punches are tried again; the longest is twice that.
const TRY_LATER: Duration = Duration::from_secs(10);

/// What the client knows at the start.
pub(super) struct Start {
    /// The node that passed the handshake on.
    pub node: SocketAddrV4,
    /// The server as that node sees it.
    pub server: SocketAddrV4,
    /// The node that passes the first round on, and the server as that node sees it.
    pub relay: RelayInfo,
    /// The connection uses a relay in the meantime, or may do so: there is time to try later.
    pub has_relay: bool,
    /// Makes the tokens.
    pub secure: Arc<SecurePayload>,
}

/// What the server answered to an [`Action::Ask`].
#[derive(Clone, Debug)]
pub(super) struct PunchReply {
    /// The client's socket as the node sees it.
    pub seen_as: SocketAddrV4,
    /// The node.
    pub from: SocketAddrV4,
    /// The server as the node sees it.
    pub peer: SocketAddrV4,
    /// `None` if it does not decrypt.
    pub payload: Option<HolepunchPayload>,
}

/// One client's way through the NATs.
pub(super) struct ClientPunch {
    puncher: Puncher,
    start: Start,
    round: u64,
    /// The server's token and address, from its last answer in the first round.
    server_token: Option<[u8; 32]>,
    server_seen_as: Option<SocketAddrV4>,
    may_probe_again: bool,
    has_reopened: bool,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Asking(Question),
    /// The server does not know its NAT yet.
    Pausing(Instant),
    /// Our own NAT is not known yet.
    Analyzing,
    /// Too many random punches for now.
    TryingLater(Instant),
    Punching,
}

#[derive(Debug)]
enum Question {
    /// What do you know of your NAT?
    Probe,
    /// I shall punch later.
    Delay { token: [u8; 32] },
    /// I punch if you do.
    Punch { token: Option<[u8; 32]>, random: Option<RandomPunch> },
}

impl ClientPunch {
    pub(super) fn new(setup: Setup, start: Start) -> Self {
        let mut client = Self {
            puncher: Puncher::new(setup),
            start,
            round: 0,
            server_token: None,
            server_seen_as: None,
            may_probe_again: true,
            has_reopened: false,
            step: Step::Analyzing,
        };
        client.ask_for_nat();
        client
    }

    /// The end of an [`Action::Ask`]; `None` if no answer came.
    pub(super) fn handle_reply(&mut self, now: Instant, reply: Option<PunchReply>) {
        if self.puncher.outcome().is_some() || !matches!(self.step, Step::Asking(_)) {
            return;
        }
        let Step::Asking(question) = std::mem::replace(&mut self.step, Step::Analyzing) else { return };
        let Some(reply) = reply else { return self.puncher.fail(Failure::NoAnswer) };
        let Some(payload) = reply.payload else { return self.puncher.fail(Failure::Invalid) };
        match payload.error {
            error::NONE => {}
            error::TRY_LATER if self.start.has_relay && matches!(question, Question::Punch { .. }) => {
                return self.try_later(now);
            }
            error::TRY_LATER => return self.puncher.fail(Failure::TryLater),
            _ => return self.puncher.fail(Failure::RemoteAborted),
        }
        // A peer that sends our token back receives at the address that the token was sent to.
        let echoed = match &question {
            Question::Delay { token } | Question::Punch { token: Some(token), .. } => {
                payload.remote_token.is_some_and(|echo| is_equal(&echo, token))
            }
            _ => false,
        };
        let host = *self.start.server.ip();
        self.puncher.update_remote(host, reply.peer, &payload, echoed.then_some(host));
        match question {
            Question::Probe => {
                self.server_token = payload.token;
                self.server_seen_as = Some(reply.peer);
                self.puncher.add_sample(reply.seen_as, reply.from);
                if self.puncher.remote_firewall() == Firewall::Unknown {
                    self.step = Step::Pausing(now + REMOTE_PATIENCE);
                } else {
                    self.advance(now);
                }
            }
            Question::Delay { .. } => self.try_later(now),
            Question::Punch { random, .. } => {
                self.step = Step::Punching;
                if !payload.punching || !self.puncher.punch(now, random) {
                    self.puncher.fail(Failure::NotPunching);
                }
            }
        }
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

    /// To be called when [`ClientPunch::poll_timeout`] has passed; earlier is harmless.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.step {
            Step::Pausing(until) if until <= now => {
                self.step = Step::Analyzing;
                self.advance(now);
            }
            Step::TryingLater(until) if until <= now => self.begin(now, true),
            _ => self.puncher.handle_timeout(now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Pausing(until) | Step::TryingLater(until) => Some(until),
            _ => self.puncher.poll_timeout(),
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.puncher.poll_action()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.puncher.outcome()
    }

    /// The first round. A short probe opens our NAT for the address where the server seems to be. If the
    /// server is there and knows it, its probe comes before its answer.
    fn ask_for_nat(&mut self) {
        self.puncher.probe(self.start.server, true);
        let payload = HolepunchPayload { remote_address: Some(self.start.server), ..self.payload() };
        self.ask(Question::Probe, self.start.relay, payload);
    }

    fn advance(&mut self, now: Instant) {
        if !matches!(self.step, Step::Analyzing)
            || self.puncher.outcome().is_some()
            || !self.puncher.is_analyzed()
        {
            return;
        }
        while self.puncher.is_unstable() && self.puncher.reopen() {
            self.has_reopened = true;
            // Where no node is known that could be asked, nothing more becomes known.
            if !self.puncher.is_analyzed() {
                return;
            }
        }
        let has_improved = std::mem::take(&mut self.has_reopened) && self.puncher.nat().is_consistent();
        let is_remote_unknown = self.puncher.remote_firewall() == Firewall::Unknown;
        let asks_again = self.may_probe_again && (is_remote_unknown || self.server_token.is_none());
        if has_improved || asks_again {
            self.may_probe_again = false;
            self.ask_for_nat();
        } else if is_remote_unknown || self.puncher.nat().firewall() == Firewall::Unknown {
            self.give_up(Failure::UnknownNat);
        } else if self.puncher.is_double_random() {
            self.give_up(Failure::DoubleRandom);
        } else {
            // If both sides chose the same node, the server wants to be reached at the address that this node
            // sees last: it may have taken a fresh socket.
            if let Some(seen_as) = self.server_seen_as
                && self.start.relay.relay == self.start.node
                && seen_as != self.start.server
            {
                self.start.server = seen_as;
                self.puncher.probe(seen_as, true);
            }
            self.begin(now, false);
        }
    }

    /// The second round. `delayed`: it was delayed before.
    fn begin(&mut self, now: Instant, delayed: bool) {
        self.puncher.freeze();
        let token = self.start.secure.token(*self.start.server.ip());
        let payload = HolepunchPayload { remote_token: self.server_token, ..self.payload() };
        let direct = RelayInfo { relay: self.start.node, peer: self.start.server };
        let random = if self.puncher.is_random() {
            match self.puncher.try_random(now) {
                Some(random) => Some(random),
                None if !self.start.has_relay => return self.give_up(Failure::TryLater),
                None if delayed => return self.try_later(now),
                None => {
                    let payload = HolepunchPayload { token: Some(token), ..payload };
                    return self.ask(Question::Delay { token }, direct, payload);
                }
            }
        } else {
            None
        };
        // The delay has shown both addresses, and the server's own node stays reachable longest.
        let (token, way) = if delayed { (None, self.start.relay) } else { (Some(token), direct) };
        let payload = HolepunchPayload { punching: true, token, ..payload };
        self.ask(Question::Punch { token, random }, way, payload);
    }

    fn try_later(&mut self, now: Instant) {
        let wait = TRY_LATER.mul_f64(1.0 + self.puncher.rng().random::<f64>());
        self.step = Step::TryingLater(now + wait);
    }

    /// Tells the server, and ends.
    fn give_up(&mut self, failure: Failure) {
        let payload = HolepunchPayload::abort(self.round);
        let RelayInfo { relay, peer } = self.start.relay;
        self.puncher.push(Action::GiveUp { relay, peer, payload });
        self.puncher.fail(failure);
    }

    fn ask(&mut self, question: Question, way: RelayInfo, payload: HolepunchPayload) {
        self.round += 1;
        let RelayInfo { relay, peer } = way;
        self.puncher.push(Action::Ask { by: self.puncher.slot(), relay, peer, payload });
        self.step = Step::Asking(question);
    }

    /// The payload that both rounds have.
    fn payload(&self) -> HolepunchPayload {
        let nat = self.puncher.nat();
        HolepunchPayload {
            firewall: nat.firewall(),
            round: self.round,
            addresses: nat.addresses().map(<[_]>::to_vec),
            ..HolepunchPayload::default()
        }
    }
}

/// Compares in constant time.
pub(super) fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
