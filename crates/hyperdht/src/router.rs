//! Passes handshakes and punches between clients and servers (spec/dht.md §13).
//!
//! A node keeps no state for what it passes on: each step is the same request with another value, and the
//! answer of the last step goes straight to the client.

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::address::is_private;
use crate::command;
use crate::connect::message::{Handshake, Holepunch, Mode};
use crate::generations::Generations;
use crate::id::Id;
use crate::limit::RateLimit;
use crate::rpc::filter::may_use;
use crate::rpc::{Answer, Incoming};
use crate::store::Forwards;

/// Messages that are passed on for one network, in a second and at once. A connection takes two to ten.
const RELAYS_PER_SECOND: u32 = 50;
const RELAY_BURST: u32 = 500;

/// How many peers on private addresses are remembered, and for how long: much longer than a handshake and its
/// punching take.
const MAX_NEIGHBOURS: usize = 4096;
const NEIGHBOUR_AGE: Duration = Duration::from_secs(10 * 60);

/// Decides what happens to PEER_HANDSHAKE and PEER_HOLEPUNCH requests at this node.
#[derive(Debug)]
pub(crate) struct Router {
    /// Targets of the servers of this node.
    servers: HashSet<Id>,
    limit: RateLimit,
    /// Private addresses that have sent a request here. Peers outside their network may answer them through
    /// us, but may name no other private address.
    neighbours: Generations<SocketAddrV4, ()>,
}

/// A request for a server of this node, which answers it later.
#[derive(Clone, Debug)]
pub(crate) struct ServerRequest {
    /// Names the server.
    pub target: Id,
    pub incoming: Incoming,
    pub message: ServerMessage,
}

/// What a [`ServerRequest`] brings.
#[derive(Clone, Debug)]
pub(crate) enum ServerMessage {
    Handshake(Handshake),
    Holepunch(Holepunch),
}

/// What is to be done about a request.
#[derive(Clone, Debug)]
pub(crate) enum Routed {
    /// Answer it.
    Answer(Answer),
    /// Hand it to a server of this node.
    ToServer(ServerRequest),
}

impl Router {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            servers: HashSet::new(),
            limit: RateLimit::new(RELAYS_PER_SECOND, RELAY_BURST),
            neighbours: Generations::new(now, MAX_NEIGHBOURS, NEIGHBOUR_AGE),
        }
    }

    /// Gives requests for the server at `target` out from now on. False if there is such a server already.
    pub(crate) fn insert_server(&mut self, target: Id) -> bool {
        self.servers.insert(target)
    }

    /// Treats requests for the server at `target` like any other from now on.
    pub(crate) fn remove_server(&mut self, target: &Id) {
        self.servers.remove(target);
    }

    /// Decides about a request with one of the two commands. `None` means no answer.
    pub(crate) fn on_request(
        &mut self,
        now: Instant,
        incoming: &Incoming,
        forwards: &mut Forwards,
    ) -> Option<Routed> {
        let target = incoming.target?;
        let value = incoming.value.as_ref()?;
        if !self.limit.allow(now, *incoming.from.ip()) {
            return None;
        }
        if is_private(*incoming.from.ip()) {
            self.neighbours.insert(now, incoming.from, ());
        }
        let relay = forwards.get(now, &target).map(|forward| forward.relay);
        match incoming.command {
            command::PEER_HANDSHAKE => {
                let message = Handshake::decode(value).ok()?;
                if message.noise.is_empty() {
                    return None;
                }
                if self.servers.contains(&target) {
                    return Some(to_server(target, incoming, ServerMessage::Handshake(message)));
                }
                self.pass_handshake(now, incoming, message, relay).map(Routed::Answer)
            }
            command::PEER_HOLEPUNCH => {
                let message = Holepunch::decode(value).ok()?;
                if message.mode == Mode::FromRelay {
                    let message = ServerMessage::Holepunch(message);
                    return self.servers.contains(&target).then(|| to_server(target, incoming, message));
                }
                self.pass_holepunch(now, incoming, message, relay).map(Routed::Answer)
            }
            _ => None,
        }
    }

    /// Number of entries in all collections.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        self.servers.len() + self.neighbours.len() + self.limit.held()
    }

    /// Passes a handshake on; its server is not of this node.
    fn pass_handshake(
        &mut self,
        now: Instant,
        incoming: &Incoming,
        message: Handshake,
        relay: Option<SocketAddrV4>,
    ) -> Option<Answer> {
        match message.mode {
            Mode::FromClient => {
                let to = match (message.relay_address, relay) {
                    (Some(named), _) => self.allowed(now, incoming, named)?,
                    (None, Some(relay)) => relay,
                    (None, None) => return Some(Answer::closer()),
                };
                let passed = Handshake {
                    peer_address: Some(incoming.from),
                    ..Handshake::new(Mode::FromRelay, message.noise)
                };
                Some(relayed(passed.encode(), to))
            }
            Mode::FromRelay => {
                let passed =
                    Handshake { mode: Mode::FromSecondRelay, relay_address: Some(incoming.from), ..message };
                Some(relayed(passed.encode(), relay?))
            }
            Mode::FromServer => {
                let to = self.allowed(now, incoming, message.peer_address?)?;
                let reply = Handshake {
                    peer_address: Some(incoming.from),
                    ..Handshake::new(Mode::Reply, message.noise)
                };
                Some(reply_to(reply.encode(), to))
            }
            Mode::FromSecondRelay | Mode::Reply => None,
        }
    }

    /// Passes a punch on.
    fn pass_holepunch(
        &mut self,
        now: Instant,
        incoming: &Incoming,
        message: Holepunch,
        relay: Option<SocketAddrV4>,
    ) -> Option<Answer> {
        match message.mode {
            Mode::FromClient => {
                let to = match message.peer_address {
                    Some(named) => self.allowed(now, incoming, named)?,
                    None => relay?,
                };
                let passed =
                    Holepunch { mode: Mode::FromRelay, peer_address: Some(incoming.from), ..message };
                Some(relayed(passed.encode(), to))
            }
            Mode::FromServer => {
                let to = self.allowed(now, incoming, message.peer_address?)?;
                let reply = Holepunch { mode: Mode::Reply, peer_address: Some(incoming.from), ..message };
                Some(reply_to(reply.encode(), to))
            }
            Mode::FromRelay | Mode::FromSecondRelay | Mode::Reply => None,
        }
    }

    /// `to`, if the sender may send us there.
    fn allowed(&mut self, now: Instant, incoming: &Incoming, to: SocketAddrV4) -> Option<SocketAddrV4> {
        let allowed = may_use(to, *incoming.from.ip()) || self.neighbours.get(now, &to).is_some();
        allowed.then_some(to)
    }
}

fn to_server(target: Id, incoming: &Incoming, message: ServerMessage) -> Routed {
    Routed::ToServer(ServerRequest { target, incoming: incoming.clone(), message })
}

fn relayed(value: Vec<u8>, to: SocketAddrV4) -> Answer {
    Answer::Relay { value: value.into(), to, via: None }
}

fn reply_to(value: Vec<u8>, to: SocketAddrV4) -> Answer {
    Answer::Reply { value: Some(value.into()), to: Some(to), via: None, token: false, closer: false }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::rpc::Via;
    use crate::store::Forward;

    const TARGET: Id = [7; 32];

    fn addr(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    struct TestRouter {
        now: Instant,
        router: Router,
        forwards: Forwards,
    }

    impl TestRouter {
        fn new() -> Self {
            let now = Instant::now();
            Self { now, router: Router::new(now), forwards: Forwards::new(now) }
        }

        fn knowing(relay: &str) -> Self {
            let mut node = Self::new();
            let forward = Forward { relay: addr(relay), record: Bytes::new() };
            node.forwards.insert(node.now, TARGET, forward);
            node
        }

        fn ask(&mut self, command: u64, from: &str, value: Vec<u8>) -> Option<Routed> {
            let incoming = Incoming {
                via: Via::Server,
                from: addr(from),
                to: addr("1.1.1.1:1"),
                tid: 5,
                id: None,
                token: None,
                command,
                target: Some(TARGET),
                value: Some(value.into()),
            };
            self.router.on_request(self.now, &incoming, &mut self.forwards)
        }

        fn handshake(&mut self, from: &str, message: &Handshake) -> Option<Answer> {
            answer(self.ask(command::PEER_HANDSHAKE, from, message.encode()))
        }

        fn holepunch(&mut self, from: &str, message: &Holepunch) -> Option<Answer> {
            answer(self.ask(command::PEER_HOLEPUNCH, from, message.encode()))
        }
    }

    fn answer(routed: Option<Routed>) -> Option<Answer> {
        routed.map(|routed| match routed {
            Routed::Answer(answer) => answer,
            Routed::ToServer(request) => panic!("{request:?} is for a server"),
        })
    }

    fn handshake(mode: Mode, peer: Option<&str>, relay: Option<&str>) -> Handshake {
        let noise = vec![1, 2, 3];
        Handshake { mode, noise, peer_address: peer.map(addr), relay_address: relay.map(addr) }
    }

    fn holepunch(mode: Mode, peer: Option<&str>) -> Holepunch {
        Holepunch { mode, id: 4, payload: vec![9], peer_address: peer.map(addr) }
    }

    #[test]
    fn a_client_that_nobody_knows_the_server_for_is_helped_on() {
        let answer = TestRouter::new().handshake("8.8.8.8:1", &handshake(Mode::FromClient, None, None));
        assert_eq!(answer, Some(Answer::closer()));
    }

    #[test]
    fn a_handshake_goes_to_the_announcer_and_its_answer_to_the_client() {
        let mut node = TestRouter::knowing("9.9.9.9:9");
        assert_eq!(
            node.handshake("8.8.8.8:1", &handshake(Mode::FromClient, Some("6.6.6.6:6"), None)),
            Some(relayed(handshake(Mode::FromRelay, Some("8.8.8.8:1"), None).encode(), addr("9.9.9.9:9")))
        );
        assert_eq!(
            node.handshake("9.9.9.9:9", &handshake(Mode::FromServer, Some("8.8.8.8:1"), None)),
            Some(reply_to(handshake(Mode::Reply, Some("9.9.9.9:9"), None).encode(), addr("8.8.8.8:1")))
        );
    }

    #[test]
    fn a_handshake_of_another_relay_goes_on_with_its_address() {
        let mut node = TestRouter::knowing("9.9.9.9:9");
        assert_eq!(
            node.handshake("5.5.5.5:5", &handshake(Mode::FromRelay, Some("8.8.8.8:1"), None)),
            Some(relayed(
                handshake(Mode::FromSecondRelay, Some("8.8.8.8:1"), Some("5.5.5.5:5")).encode(),
                addr("9.9.9.9:9")
            ))
        );
        let unknown = TestRouter::new().handshake("5.5.5.5:5", &handshake(Mode::FromRelay, None, None));
        assert_eq!(unknown, None);
    }

    #[test]
    fn a_relay_the_client_names_is_taken_before_the_known_one() {
        let answer = TestRouter::knowing("9.9.9.9:9")
            .handshake("8.8.8.8:1", &handshake(Mode::FromClient, None, Some("4.4.4.4:4")));
        let passed = handshake(Mode::FromRelay, Some("8.8.8.8:1"), None).encode();
        assert_eq!(answer, Some(relayed(passed, addr("4.4.4.4:4"))));
    }

    #[test]
    fn punches_pass_both_ways_with_and_without_an_announce() {
        let passed = holepunch(Mode::FromRelay, Some("8.8.8.8:1")).encode();
        assert_eq!(
            TestRouter::new().holepunch("8.8.8.8:1", &holepunch(Mode::FromClient, Some("9.9.9.9:9"))),
            Some(relayed(passed.clone(), addr("9.9.9.9:9")))
        );
        assert_eq!(
            TestRouter::knowing("9.9.9.9:9").holepunch("8.8.8.8:1", &holepunch(Mode::FromClient, None)),
            Some(relayed(passed, addr("9.9.9.9:9")))
        );
        assert_eq!(
            TestRouter::new().holepunch("9.9.9.9:9", &holepunch(Mode::FromServer, Some("8.8.8.8:1"))),
            Some(reply_to(holepunch(Mode::Reply, Some("9.9.9.9:9")).encode(), addr("8.8.8.8:1")))
        );
    }

    #[test]
    fn nobody_outside_reaches_into_a_private_network_unless_the_peer_there_asked() {
        let mut node = TestRouter::knowing("9.9.9.9:9");
        let to_neighbour = handshake(Mode::FromServer, Some("192.168.0.7:7"), None);
        assert_eq!(node.handshake("9.9.9.9:9", &to_neighbour), None);
        assert!(node.handshake("192.168.0.7:7", &handshake(Mode::FromClient, None, None)).is_some());
        assert!(node.handshake("9.9.9.9:9", &to_neighbour).is_some());
    }

    #[test]
    fn requests_for_a_server_here_go_to_it() {
        let mut node = TestRouter::new();
        assert!(node.router.insert_server(TARGET));
        assert!(!node.router.insert_server(TARGET));
        let message = handshake(Mode::FromClient, None, None);
        let Some(Routed::ToServer(request)) =
            node.ask(command::PEER_HANDSHAKE, "8.8.8.8:1", message.encode())
        else {
            panic!("it is for the server")
        };
        assert_eq!(request.target, TARGET);
        assert!(matches!(request.message, ServerMessage::Handshake(taken) if taken == message));
        let punch = holepunch(Mode::FromRelay, None);
        let routed = node.ask(command::PEER_HOLEPUNCH, "8.8.8.8:1", punch.encode());
        assert!(matches!(routed, Some(Routed::ToServer(_))));
        node.router.remove_server(&TARGET);
        assert_eq!(node.handshake("8.8.8.8:1", &message), Some(Answer::closer()));
        assert_eq!(node.holepunch("8.8.8.8:1", &punch), None);
    }

    #[test]
    fn a_flood_of_one_network_is_cut() {
        let mut node = TestRouter::knowing("9.9.9.9:9");
        let message = handshake(Mode::FromClient, None, None);
        let passed = (0..2000).filter(|_| node.handshake("8.8.8.8:1", &message).is_some()).count();
        assert_eq!(passed, RELAY_BURST as usize);
        assert!(node.handshake("7.7.7.7:1", &message).is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(
            command in 0u64..3, value in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            TestRouter::knowing("9.9.9.9:9").ask(command, "8.8.8.8:1", value);
        }
    }
}
