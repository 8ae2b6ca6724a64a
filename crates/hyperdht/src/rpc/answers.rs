//! Answers what others ask of the plain DHT, and passes on the rest (spec/dht.md §3).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::command::internal::{DELAYED_PING, DOWN_HINT, FIND_NODE, PING, PING_NAT};
use crate::command::{INVALID_TOKEN, UNKNOWN_COMMAND};
use crate::encoding::Reader;
use crate::id::node_id;
use crate::rpc::message::{RequestMessage, ResponseMessage};
use crate::rpc::{Answer, Event, Incoming, K, Rpc, Transmit, Via};

/// Requests of one network that are answered, in a second and at once. A busy node of a large network sends a
/// few; whoever sends more uses us against somebody.
pub(super) const PER_SECOND: u32 = 100;
pub(super) const BURST: u32 = 1000;

/// The longest delay of a DELAYED_PING, in milliseconds.
const MAX_PING_DELAY: u32 = 10_000;
/// Delayed answers kept at once; a further ping gets no answer.
const MAX_DELAYED_PINGS: usize = 256;

/// Answers that wait for their time.
#[derive(Debug, Default)]
pub(super) struct DelayedPings {
    pings: BTreeMap<(Instant, u64), Incoming>,
    next: u64,
}

impl DelayedPings {
    pub(super) fn next(&self) -> Option<Instant> {
        self.pings.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn clear(&mut self) {
        self.pings.clear();
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.pings.len()
    }

    fn push(&mut self, at: Instant, ping: Incoming) {
        if self.pings.len() < MAX_DELAYED_PINGS {
            self.next += 1;
            self.pings.insert((at, self.next), ping);
        }
    }

    fn pop(&mut self, now: Instant) -> Option<Incoming> {
        let first = self.pings.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// A response without its address.
#[derive(Default)]
struct Response {
    error: u64,
    value: Option<Bytes>,
    token: bool,
    closer: bool,
}

impl Rpc {
    /// Answers a request that came as [`Event::Request`].
    pub(crate) fn answer(&mut self, incoming: &Incoming, answer: Answer) {
        if !self.bound {
            return;
        }
        match answer {
            Answer::Reply { value, to, via, token, closer } => {
                let (to, via) = (to.unwrap_or(incoming.from), via.unwrap_or(incoming.via));
                self.respond(incoming, via, to, Response { value, token, closer, error: 0 });
            }
            Answer::Error(error) => self.respond_error(incoming, error),
            Answer::Relay { value, to, via } => {
                let via = via.unwrap_or(incoming.via);
                let request = RequestMessage {
                    tid: incoming.tid,
                    to,
                    id: self.id_on(via),
                    token: None,
                    internal: false,
                    command: incoming.command,
                    target: incoming.target,
                    value: Some(value),
                };
                self.io.transmit(Transmit { via, to, data: request.encode().into(), is_whole: false });
            }
        }
    }

    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        via: Via,
        from: SocketAddrV4,
        request: RequestMessage,
    ) {
        if !self.limit.allow(now, *from.ip()) {
            return;
        }
        let RequestMessage { tid, to, id, token, internal, command, target, value } = request;
        let id = id.filter(|id| *id == node_id(from));
        let incoming = Incoming { via, from, to, tid, id, token, command, target, value };
        if token.is_some_and(|token| !self.io.tokens.is_valid(&token, *from.ip())) {
            let response = Response { error: INVALID_TOKEN, token: true, closer: true, value: None };
            return self.respond(&incoming, via, from, response);
        }
        if let Some(id) = id {
            self.meet(now, id, from);
        }
        if internal {
            self.handle_internal(now, incoming);
        } else {
            self.events.push_back(Event::Request(incoming));
        }
    }

    pub(super) fn send_delayed_pings(&mut self, now: Instant) {
        while let Some(ping) = self.delayed_pings.pop(now) {
            self.answer(&ping, Answer::bare(None));
        }
    }

    /// A request that lacks a part that its command needs gets no answer.
    fn handle_internal(&mut self, now: Instant, incoming: Incoming) {
        let value = incoming.value.as_deref();
        match incoming.command {
            PING => self.answer(&incoming, Answer::bare(None)),
            PING_NAT => {
                let port = value.and_then(|value| Reader::new(value).u16().ok());
                if let Some(port) = port.filter(|port| *port != 0) {
                    let to = SocketAddrV4::new(*incoming.from.ip(), port);
                    self.respond(&incoming, incoming.via, to, Response::default());
                }
            }
            FIND_NODE if incoming.target.is_some() => self.answer(&incoming, Answer::closer()),
            FIND_NODE => {}
            DOWN_HINT => {
                if let Some(down) = value.and_then(|value| Reader::new(value).addr4().ok()) {
                    self.handle_down_hint(now, down);
                    self.answer(&incoming, Answer::bare(None));
                }
            }
            DELAYED_PING => {
                let delay = value.and_then(|value| Reader::new(value).u32().ok());
                if let Some(delay) = delay.filter(|delay| *delay <= MAX_PING_DELAY) {
                    self.delayed_pings.push(now + Duration::from_millis(delay.into()), incoming);
                }
            }
            _ => self.respond_error(&incoming, UNKNOWN_COMMAND),
        }
    }

    fn respond_error(&mut self, incoming: &Incoming, error: u64) {
        let response = Response { error, closer: true, ..Response::default() };
        self.respond(incoming, incoming.via, incoming.from, response);
    }

    fn respond(&mut self, incoming: &Incoming, via: Via, to: SocketAddrV4, response: Response) {
        let closer = match &incoming.target {
            Some(target) if response.closer => self.closest(target, K),
            _ => Vec::new(),
        };
        let message = ResponseMessage {
            tid: incoming.tid,
            to,
            id: self.id_on(via),
            token: response.token.then(|| self.io.tokens.make(*to.ip())),
            closer,
            error: response.error,
            value: response.value,
        };
        self.io.transmit(Transmit { via, to, data: message.encode().into(), is_whole: false });
    }
}
