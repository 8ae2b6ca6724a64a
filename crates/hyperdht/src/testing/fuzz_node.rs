//! Fuzzing of the decoders and of a node: each function takes any bytes and panics where something is wrong.
//! The targets are in `fuzz/` at the top of the repository, and so is the corpus, which the tests here
//! replay.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::command;
use crate::connect::message::{Handshake, Holepunch};
use crate::connect::payload::NoisePayload;
use crate::connect::peer_address::PeerAddress;
use crate::connect::punch::HolepunchPayload;
use crate::crypto::hash;
use crate::id::node_id;
use crate::machine::{Machine, NodeEvent};
use crate::rpc::message::{Message, RequestMessage};
use crate::rpc::{Event, QuerySpec, Request, RpcConfig, Transmit, Via};
use crate::store::Now;
use crate::store::message::{Announce, LookupReply, MutableRecord, Peer, PluginRequest};

/// The most bytes that JavaScript sends for one that it receives, in answer to those who have proved nothing:
/// 1228 bytes to a LOOKUP of 43 (spec/dht.md §17). Rounded up.
const MOST_AMPLIFICATION: usize = 29;
/// Bytes of the ping by which a stranger with an id is asked back.
const PING_BACK: usize = 43;
/// Requests that one answer can set off: a query goes on, a swap or check follows, and those who named a dead
/// node are told.
const MOST_REQUESTS: usize = 64;
/// Entries that a node may hold, but for its table and store, after what a fuzzer can send in one run.
const MOST_HELD: usize = 8192;

/// All decoders of datagrams: what was decoded is encoded and decoded again, with the same result.
pub fn decoders(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        let again = match &message {
            Message::Request(request) => request.encode(),
            Message::Response(response) => response.encode(),
        };
        assert_eq!(Message::decode(&again), Ok(message));
    }
    let _ = (Announce::decode(data), LookupReply::decode(data), PluginRequest::decode(data));
    let _ = (MutableRecord::decode(data), MutableRecord::decode_put(data));
    let _ = (NoisePayload::decode(data), HolepunchPayload::decode(data));
    alike(data, Peer::decode, Peer::encode);
    alike(data, Handshake::decode, Handshake::encode);
    alike(data, Holepunch::decode, Holepunch::encode);
    alike(data, PeerAddress::decode, PeerAddress::encode);
}

fn alike<T: PartialEq + std::fmt::Debug, E>(
    data: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(value) = decode(data) {
        let again = decode(&encode(&value)).ok();
        assert_eq!(again.as_ref(), Some(&value), "what was written is read");
    }
}

/// A whole node that gets datagrams at any time and rate. The input is a list of steps: a byte that says what
/// happens, then a count and as many bytes, at most 255, to do it with.
pub fn node(data: &[u8]) {
    let mut driven = DrivenNode::new();
    let mut steps = Steps { rest: data };
    while let Some((kind, bytes)) = steps.next() {
        driven.step(kind, bytes);
    }
    driven.wait(Duration::from_secs(60));
}

/// The commands that store and pass on: the input is the value of a well-formed request, whose sender has a
/// token if the first byte is odd.
pub fn values(data: &[u8]) {
    let mut driven = DrivenNode::new();
    let mut steps = Steps { rest: data };
    while let Some((kind, value)) = steps.next() {
        driven.ask(kind, value);
    }
}

struct Steps<'a> {
    rest: &'a [u8],
}

impl<'a> Steps<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [kind, count, rest @ ..] = self.rest else { return None };
        let (bytes, rest) = rest.split_at(rest.len().min((*count).into()));
        self.rest = rest;
        Some((*kind, bytes))
    }
}

/// A persistent node with a few others in its table, and the fuzzer for a network.
struct DrivenNode {
    now: Instant,
    machine: Machine,
    /// Requests of the node that were not answered yet.
    asked: Vec<(Transmit, RequestMessage)>,
    /// By number of the source.
    tokens: [Option<[u8; 32]>; SOURCES],
}

const SOURCES: usize = 8;
const OWN: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(20, 1, 1, 1), 49737);

fn source(number: u8) -> SocketAddrV4 {
    let number = number % SOURCES as u8;
    // Two of them are on a private network, two in one network.
    let ip = match number {
        0 => [10, 0, 0, 9],
        1 => [127, 0, 0, 1],
        2 | 3 => [30, 1, 1, number],
        other => [40, other, 1, 1],
    };
    SocketAddrV4::new(ip.into(), 1000 + u16::from(number))
}

impl DrivenNode {
    fn new() -> Self {
        let now = Instant::now();
        let config = RpcConfig {
            ephemeral: Some(false),
            firewalled: false,
            known_host: Some(*OWN.ip()),
            defended: true,
            ..RpcConfig::default()
        };
        let mut machine = Machine::new(now, config, [1; 32], [2; 32]);
        machine.rpc.bind(now, OWN.port());
        machine.rpc.set_bootstrap(now, vec![source(4)]);
        machine.rpc.add_nodes((4..SOURCES as u8).map(source));
        let mut driven = Self { now, machine, asked: Vec::new(), tokens: [None; SOURCES] };
        driven.sent();
        driven
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let via = if kind & 0x80 == 0 { Via::Server } else { Via::Client };
        match kind % 8 {
            0 | 1 => self.datagram(via, source(kind >> 3), bytes),
            2 => self.answer(via, bytes),
            3 => self.ask(kind >> 3, bytes),
            4 => self.wait(Duration::from_millis(bytes.len() as u64 * u64::from(kind))),
            5 => {
                let spec = QuerySpec::find_node(hash(&[bytes]));
                self.machine.rpc.query(self.now, spec);
                self.sent();
            }
            6 => {
                let _ = self.machine.rpc.request(self.now, Request::ping(source(kind >> 3)));
                self.sent();
            }
            _ => self.ask_from(kind >> 3, None, bytes),
        }
    }

    fn datagram(&mut self, via: Via, from: SocketAddrV4, data: &[u8]) {
        self.machine.rpc.handle_datagram(self.now, via, from, data);
        let (answered, requests) = self.sent();
        let is_answer = matches!(Message::decode(data), Ok(Message::Response(_)));
        if is_answer {
            assert_eq!(answered, 0, "answers are not answered");
            assert!(requests <= MOST_REQUESTS, "{requests} requests after an answer");
        } else {
            let most = MOST_AMPLIFICATION * data.len() + PING_BACK;
            assert!(answered <= most, "{answered} bytes in answer to {}", data.len());
            // Whoever has an id is asked back; a hint is looked into.
            assert!(requests <= 2, "{requests} requests after a request");
        }
    }

    /// Answers a request of the node: which one, and flags and all that follows the address.
    fn answer(&mut self, via: Via, bytes: &[u8]) {
        let [which, flags, rest @ ..] = bytes else { return };
        if self.asked.is_empty() {
            return;
        }
        let (transmit, request) = self.asked.swap_remove(usize::from(*which) % self.asked.len());
        let mut response = vec![0x13, flags & 0x1f];
        response.extend(request.tid.to_le_bytes());
        response.extend(OWN.ip().octets());
        response.extend(OWN.port().to_le_bytes());
        if flags & 1 != 0 {
            response.extend(node_id(transmit.to));
        }
        response.extend(rest);
        self.datagram(via, transmit.to, &response);
    }

    /// A request for a command of the network with a target that fits its value.
    fn ask(&mut self, number: u8, value: &[u8]) {
        let token = self.tokens[usize::from(number) % SOURCES].filter(|_| number & 1 != 0);
        self.ask_from(number, token, value);
    }

    fn ask_from(&mut self, number: u8, token: Option<[u8; 32]>, bytes: &[u8]) {
        let [command, value @ ..] = bytes else { return };
        let command = u64::from(command % 12);
        let target = match command {
            command::IMMUTABLE_PUT => hash(&[value]),
            command::MUTABLE_PUT => hash(&[value.get(..32).unwrap_or(value)]),
            _ => [number % 4; 32],
        };
        let from = source(number);
        let request = RequestMessage {
            tid: number.into(),
            to: OWN,
            id: (number & 2 != 0).then(|| node_id(from)),
            token,
            internal: number & 0x10 != 0,
            command,
            target: (number & 4 == 0).then_some(target),
            value: (number & 8 == 0).then(|| Bytes::copy_from_slice(value)),
        };
        self.datagram(Via::Server, from, &request.encode());
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        // Each deadline is met, and none stays where it is.
        for _ in 0..100_000 {
            let Some(due) = self.machine.rpc.poll_timeout().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.machine.rpc.handle_timeout(self.now);
            self.sent();
        }
        assert!(self.machine.rpc.poll_timeout().is_none_or(|due| due > end), "a deadline does not pass");
        self.now = end;
    }

    /// Takes what is to be sent: bytes of answers, and how many requests.
    fn sent(&mut self) -> (usize, usize) {
        let now = Now { instant: self.now, unix_millis: 1_800_000_000_000 };
        while let Some(event) = self.machine.poll_event(now) {
            assert!(!matches!(event, NodeEvent::Rpc(Event::Request(_))), "it is answered or dropped");
        }
        let (mut answered, mut requests) = (0, 0);
        while let Some(transmit) = self.machine.rpc.poll_transmit() {
            assert_ne!(transmit.to.port(), 0);
            match Message::decode(&transmit.data).expect("what is sent is well formed") {
                Message::Request(request) if self.machine.rpc.has_asked(transmit.to, request.tid) => {
                    requests += 1;
                    self.asked.push((transmit, request));
                }
                Message::Request(_) => answered += transmit.data.len(),
                Message::Response(response) => {
                    answered += transmit.data.len();
                    let to = (0..SOURCES as u8).find(|number| source(*number) == transmit.to);
                    if let (Some(number), Some(token)) = (to, response.token) {
                        self.tokens[usize::from(number)] = Some(token);
                    }
                }
            }
        }
        let surplus = self.asked.len().saturating_sub(64);
        self.asked.drain(..surplus);
        assert!(self.machine.held() <= MOST_HELD, "{} entries are held", self.machine.held());
        (answered, requests)
    }
}

#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn decoders_survive_the_corpus() {
        replay(include_str!("../../../../fuzz/corpus/dht_decoders"), super::decoders);
    }

    #[test]
    fn a_node_survives_the_corpus() {
        replay(include_str!("../../../../fuzz/corpus/dht_node"), super::node);
    }

    #[test]
    fn values_of_the_corpus_are_stored_or_refused() {
        replay(include_str!("../../../../fuzz/corpus/dht_values"), super::values);
    }

    #[test]
    fn a_punch_of_the_corpus_ends() {
        replay(include_str!("../../../../fuzz/corpus/punch"), super::super::punch);
    }

    #[test]
    fn a_relay_survives_the_corpus() {
        replay(include_str!("../../../../fuzz/corpus/relay"), super::super::relay);
    }
}
