//! Both sides of a punch, whose peers and nodes say anything: panics where something is wrong. Fuzzing runs
//! it.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::client::{ClientPunch, PunchReply, Start};
use super::puncher::{Action, BIRTHDAY_SOCKETS, Outcome, RequestNumber, Setup, Slot};
use super::server::{ClientRound, ServerPunch};
use super::throttle::Throttle;
use crate::connect::payload::{Firewall, RelayInfo};
use crate::connect::punch::{HolepunchPayload, SecurePayload};
use crate::rpc::filter::is_host;

/// Actions that one thing which happens may set off: 256 sockets are opened, and a probe leaves by each.
const MOST_ACTIONS: usize = 3 * BIRTHDAY_SOCKETS;
/// Nodes that both sides know.
const NODES: u8 = 8;
/// Longer than any punch goes on by itself: a client that tries later each time waits for 20 s at most.
const LONG: Duration = Duration::from_secs(600);

/// A client and a server, each with a peer that says what the input does: a byte that says to whom what
/// happens, and up to 255 bytes, after their count, to do it with.
pub fn punch(data: &[u8]) {
    let [settings, rest @ ..] = data else { return };
    let mut driven = DrivenPunch::new(*settings);
    let mut rest = rest;
    while let [kind, count, more @ ..] = rest {
        let (bytes, behind) = more.split_at(more.len().min((*count).into()));
        rest = behind;
        driven.step(*kind, bytes);
    }
    driven.end();
}

/// What is to be seen of one side from outside.
#[derive(Default)]
struct DrivenSide {
    open: HashSet<Slot>,
    pings: Vec<(Slot, SocketAddrV4)>,
    outcome: Option<Outcome>,
}

struct DrivenPunch {
    now: Instant,
    secure: Arc<SecurePayload>,
    client: ClientPunch,
    server: ServerPunch,
    /// The client's and the server's.
    sides: [DrivenSide; 2],
    is_asked: bool,
}

fn node(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(8, 8, number % NODES, 1), 49737)
}

fn peer(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(5, 5, 5, number & 3), 1000 + u16::from(number))
}

impl DrivenPunch {
    fn new(settings: u8) -> Self {
        let now = Instant::now();
        let secure = Arc::new(SecurePayload::new([1; 32], [2; 32]));
        let setup = |is_initiator| Setup {
            is_initiator,
            nodes: (0..settings % (NODES + 1)).map(node).collect(),
            remote_firewall: Firewall::from_uint(u64::from(settings >> 4) % 4),
            throttle: Throttle::default(),
            rng: StdRng::seed_from_u64(settings.into()),
        };
        let has_relay = settings & 0x80 != 0;
        let relay = RelayInfo { relay: node(1), peer: peer(1) };
        let start = Start { node: node(0), server: peer(0), relay, has_relay, secure: secure.clone() };
        let mut driven = Self {
            now,
            client: ClientPunch::new(setup(true), start),
            server: ServerPunch::new(now, setup(false), secure.clone(), has_relay),
            secure,
            sides: [DrivenSide::default(), DrivenSide::default()],
            is_asked: false,
        };
        driven.act();
        driven
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let byte = |index: usize| bytes.get(index).copied().unwrap_or_default();
        let to_client = kind & 0x80 == 0;
        match kind % 4 {
            0 => {
                let payload = HolepunchPayload::decode(bytes.get(3..).unwrap_or_default()).ok();
                self.round(to_client, kind, [byte(0), byte(1), byte(2)], payload);
            }
            1 => self.pong(to_client, byte(0).into(), (byte(1) & 1 == 0).then(|| peer(byte(2)))),
            2 => {
                let (by, from) = (Slot(byte(0).into()), peer(byte(1)));
                if to_client {
                    self.client.handle_probe(by, from);
                } else {
                    self.server.handle_probe(by, from);
                }
            }
            _ => self.wait(Duration::from_millis(u64::from(byte(0)) * u64::from(byte(1)))),
        }
        self.act();
    }

    /// What the other side says, with the right token if the kind says so.
    fn round(
        &mut self,
        to_client: bool,
        kind: u8,
        [from, seen, number]: [u8; 3],
        payload: Option<HolepunchPayload>,
    ) {
        let token = |host: SocketAddrV4| (kind & 4 != 0).then(|| self.secure.token(*host.ip()));
        if to_client {
            let payload = payload.map(|said| {
                let remote_token = token(peer(0)).or(said.remote_token);
                HolepunchPayload { remote_token, ..said }
            });
            if std::mem::take(&mut self.is_asked) {
                let reply = PunchReply { seen_as: peer(seen), from: node(from), peer: peer(number), payload };
                self.client.handle_reply(self.now, (kind & 8 == 0).then_some(reply));
            }
        } else if let Some(said) = payload {
            let peer_address = peer(from);
            let remote_token = token(peer_address).or(said.remote_token);
            let round = ClientRound {
                number: RequestNumber(number.into()),
                by: (kind & 16 != 0).then_some(Slot(0)),
                seen_as: peer(seen),
                from: node(from),
                is_own_relay: kind & 32 != 0,
                peer: peer_address,
                payload: HolepunchPayload { remote_token, ..said },
            };
            self.server.handle_request(self.now, round);
        }
    }

    fn pong(&mut self, to_client: bool, which: usize, seen_as: Option<SocketAddrV4>) {
        let pings = &mut self.sides[usize::from(!to_client)].pings;
        if pings.is_empty() {
            return;
        }
        let (by, node) = pings.swap_remove(which % pings.len());
        if to_client {
            self.client.handle_pong(self.now, by, node, seen_as);
        } else {
            self.server.handle_pong(self.now, by, node, seen_as);
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        // Each deadline is met, and none stays where it is.
        for _ in 0..100_000 {
            let due = [self.client.poll_timeout(), self.server.poll_timeout()];
            let running = self.sides.iter().zip(due).filter(|(side, _)| side.outcome.is_none());
            let next = running.filter_map(|(_, due)| due).filter(|due| *due <= end).min();
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.act();
        }
        self.now = end;
    }

    /// Does what both want, and looks at it.
    fn act(&mut self) {
        let mut actions = [Vec::new(), Vec::new()];
        actions[0].extend(std::iter::from_fn(|| self.client.poll_action()));
        actions[1].extend(std::iter::from_fn(|| self.server.poll_action()));
        for (side, actions) in self.sides.iter_mut().zip(actions) {
            assert!(actions.len() <= MOST_ACTIONS, "{} actions at once", actions.len());
            for action in actions {
                match action {
                    Action::Open(slot) => assert!(side.open.insert(slot), "a socket is opened once"),
                    Action::Close(slot) => assert!(side.open.remove(&slot), "an open socket is closed"),
                    Action::Ping { by, to } => side.pings.push((by, to)),
                    Action::Probe { to, .. } => assert!(is_host(to), "only hosts get a probe"),
                    Action::Ask { .. } => {
                        assert!(!std::mem::replace(&mut self.is_asked, true), "one question at a time");
                    }
                    Action::GiveUp { .. } | Action::Answer { .. } => {}
                }
            }
            assert!(side.open.len() <= BIRTHDAY_SOCKETS, "{} sockets", side.open.len());
        }
        let outcomes = [self.client.outcome(), self.server.outcome()];
        for (side, outcome) in self.sides.iter_mut().zip(outcomes) {
            assert!(side.outcome.is_none() || side.outcome == outcome, "an outcome is final");
            side.outcome = outcome;
        }
    }

    /// With nobody left to answer, both come to an end.
    fn end(&mut self) {
        for _ in 0..100 {
            for to_client in [true, false] {
                while !self.sides[usize::from(!to_client)].pings.is_empty() {
                    self.pong(to_client, 0, None);
                    self.act();
                }
            }
            if std::mem::take(&mut self.is_asked) {
                self.client.handle_reply(self.now, None);
                self.act();
            }
            self.wait(LONG);
        }
        assert!(self.sides.iter().all(|side| side.outcome.is_some()), "a punch ends");
    }
}
