//! How nodes behave towards each other, on a simulated network.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::command;
use crate::id::{Id, distance, node_id};
use crate::rpc::message::{Message, RequestMessage, ResponseMessage};
use crate::rpc::{Event, K, QueryId, QuerySpec, Reply, Request, RequestError, RequestId, RpcConfig, Via};
use crate::testing::network::{CLIENT_PORT, Nat, SERVER_PORT, SimulatedNetwork};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

impl SimulatedNetwork {
    /// A network of `size` persistent nodes.
    fn of(size: usize) -> Self {
        let mut network = Self::new(Instant::now(), [3; 32]);
        for _ in 0..size {
            network.persistent();
        }
        network.run(Duration::from_secs(10));
        network
    }

    fn addr(&self, host: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.hosts[host].ip, SERVER_PORT)
    }

    fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// A host that was not alive is again, and finds out how much time has passed.
    fn revive(&mut self, host: usize) {
        self.hosts[host].alive = true;
        self.settle(host);
    }

    fn query(&mut self, host: usize, spec: QuerySpec) -> QueryId {
        let id = self.hosts[host].machine.rpc.query(self.now, spec);
        self.settle(host);
        id
    }

    fn request(&mut self, host: usize, request: Request) -> RequestId {
        let id = self.hosts[host].machine.rpc.request(self.now, request).unwrap();
        self.settle(host);
        id
    }

    /// Runs until the query ends: its closest replies, and the replies it had.
    fn finish(&mut self, host: usize, id: QueryId) -> (Vec<Reply>, usize) {
        for _ in 0..240 {
            self.run(SECOND / 2);
            let events = &self.hosts[host].events;
            let done = events.iter().find_map(|event| match event {
                Event::QueryDone { id: done, result } if *done == id => Some(result.clone().unwrap()),
                _ => None,
            });
            if let Some(closest) = done {
                let mine = |event: &&Event| matches!(event, Event::QueryReply { id: of, .. } if *of == id);
                return (closest, events.iter().filter(mine).count());
            }
        }
        panic!("the query ends");
    }

    fn answer(&self, host: usize, request: RequestId) -> Option<Result<Reply, RequestError>> {
        self.hosts[host].events.iter().find_map(|event| match event {
            Event::Response { id, result } if *id == request => Some(result.clone()),
            _ => None,
        })
    }

    fn saw(&self, host: usize, event: &Event) -> bool {
        self.hosts[host].events.contains(event)
    }

    /// The living persistent nodes closest to a target.
    fn closest(&self, target: &Id, count: usize) -> Vec<Id> {
        let living = self.hosts.iter().filter(|host| host.alive);
        let mut ids: Vec<Id> = living.filter_map(|host| host.machine.rpc.id().copied()).collect();
        ids.sort_unstable_by_key(|id| distance(target, id));
        ids.truncate(count);
        ids
    }
}

#[test]
fn a_network_forms_and_finds_the_closest_nodes() {
    let mut network = SimulatedNetwork::of(60);
    network.run(10 * MINUTE);
    for (i, host) in network.hosts.iter().enumerate() {
        assert!(host.machine.rpc.is_bootstrapped() && host.machine.rpc.id().is_some(), "{i}");
        assert_eq!(host.machine.rpc.remote_address(), Some(network.addr(i)));
        assert!(host.machine.rpc.node_count() >= K, "{i} knows {}", host.machine.rpc.node_count());
    }
    let seeker = network.adaptive(Nat::Consistent { opened: HashSet::new() });
    network.run(5 * SECOND);
    for i in 0..10 {
        let target = [i * 25; 32];
        let query = network.query(seeker, QuerySpec::find_node(target));
        let (closest, _) = network.finish(seeker, query);
        let found: Vec<Id> = closest.iter().map(|reply| reply.id.unwrap()).collect();
        assert_eq!(found, network.closest(&target, K));
    }
}

#[test]
fn queries_find_the_closest_nodes_though_much_is_lost_and_some_are_dead() {
    let mut network = SimulatedNetwork::of(40);
    network.loss = 0.2;
    for dead in [3, 11, 17, 25] {
        network.hosts[dead].alive = false;
    }
    let mut hits = 0;
    for i in 0..5 {
        let target = [i * 50; 32];
        let query = network.query(1, QuerySpec::find_node(target));
        let (closest, _) = network.finish(1, query);
        let found: Vec<Id> = closest.iter().map(|reply| reply.id.unwrap()).collect();
        assert_eq!(found.len(), K);
        // Those whose answers got lost are left out where twenty others have answered, and the querying one
        // always.
        let wanted = network.closest(&target, K + 2);
        hits += found.iter().filter(|id| wanted.contains(id)).count();
    }
    assert!(hits >= 5 * (K - 3), "{hits} of the {} closest were found", 5 * K);
}

#[test]
fn what_is_stored_is_found_from_elsewhere() {
    let mut network = SimulatedNetwork::of(30);
    let value = b"some value".to_vec();
    let target = crate::crypto::hash(&[&value]);
    let query = network.query(4, QuerySpec::user(command::IMMUTABLE_GET, target));
    let (closest, _) = network.finish(4, query);
    assert_eq!(closest.len(), K);
    for reply in closest {
        let request = Request::user(command::IMMUTABLE_PUT, target, reply.from);
        network.request(4, request.token(reply.token.unwrap()).value(value.clone()));
    }
    network.run(SECOND);
    let query = network.query(9, QuerySpec::user(command::IMMUTABLE_GET, target));
    let (closest, _) = network.finish(9, query);
    let found = closest.iter().filter(|reply| reply.value.as_deref() == Some(&value[..])).count();
    // The two nodes don't ask themselves.
    assert!(found >= K - 2, "{found} have it");
}

#[test]
fn a_token_is_good_for_its_asker_alone_and_not_for_long() {
    let mut network = SimulatedNetwork::of(3);
    let target = [5; 32];
    let lookup = network.request(1, Request::user(command::LOOKUP, target, network.addr(0)));
    network.run(SECOND);
    let token = network.answer(1, lookup).unwrap().unwrap().token.unwrap();
    let probe = Request::user(command::LOOKUP, target, network.addr(0)).token(token);
    let own = network.request(1, probe.clone());
    let stolen = network.request(2, probe.clone());
    network.run(SECOND);
    assert_eq!(network.answer(1, own).unwrap().unwrap().error, 0);
    let refused = network.answer(2, stolen).unwrap().unwrap();
    assert_eq!(refused.error, command::INVALID_TOKEN);
    assert!(refused.token.is_some_and(|fresh| fresh != token));
    network.run(15 * SECOND);
    let late = network.request(1, probe);
    network.run(SECOND);
    assert_eq!(network.answer(1, late).unwrap().unwrap().error, command::INVALID_TOKEN);
}

#[test]
fn a_dead_node_is_forgotten_by_all() {
    let mut network = SimulatedNetwork::of(12);
    let dead = network.addr(7);
    network.hosts[7].alive = false;
    network.run(15 * MINUTE);
    for (i, host) in network.hosts.iter().enumerate().filter(|(i, _)| *i != 7) {
        assert!(host.machine.rpc.table.get(&node_id(dead)).is_none(), "{i} still knows it");
        assert_eq!(host.machine.rpc.node_count(), 10, "{i} knows the others");
    }
}

#[test]
fn an_idle_node_is_quiet() {
    let mut network = SimulatedNetwork::of(30);
    network.run(10 * MINUTE);
    let before: u64 = network.hosts.iter().map(|host| host.sent).sum();
    network.run(60 * MINUTE);
    let after: u64 = network.hosts.iter().map(|host| host.sent).sum();
    let per_minute = (after - before) / 30 / 60;
    // Pings to five nodes every 40 s, a refresh every five minutes, and answers to as many.
    assert!(per_minute < 40, "{per_minute} datagrams a minute");
}

#[test]
fn a_node_without_nat_turns_persistent_after_twenty_minutes() {
    let mut network = SimulatedNetwork::of(10);
    let node = network.adaptive(Nat::None);
    network.run(MINUTE);
    assert!(network.saw(node, &Event::Ready));
    // The quick check has found it open, which alone makes nobody persistent.
    assert!(
        network.hosts[node].machine.rpc.is_ephemeral() && !network.hosts[node].machine.rpc.is_firewalled()
    );
    network.run(21 * MINUTE);
    assert!(network.saw(node, &Event::Persistent));
    let addr = network.addr(node);
    assert_eq!(network.hosts[node].machine.rpc.remote_address(), Some(addr));
    assert_eq!(network.hosts[node].machine.rpc.id(), Some(&node_id(addr)));
    network.run(10 * MINUTE);
    let known = network.hosts.iter().filter(|host| host.machine.rpc.table.get(&node_id(addr)).is_some());
    assert_eq!(known.count(), 10, "the others have taken it in");
}

#[test]
fn a_node_behind_a_nat_stays_ephemeral_and_knows_its_address() {
    let mut network = SimulatedNetwork::of(10);
    let consistent = network.adaptive(Nat::Consistent { opened: HashSet::new() });
    let random = network.adaptive(Nat::Random { ports: HashMap::new() });
    network.run(150 * MINUTE);
    for node in [consistent, random] {
        let host = &network.hosts[node];
        assert!(host.machine.rpc.is_ephemeral() && host.machine.rpc.is_firewalled());
        assert_eq!(host.machine.rpc.remote_address(), None);
        assert!(host.machine.rpc.node_count() >= 10);
    }
    let seen_as = network.hosts[consistent].machine.rpc.seen_as().unwrap();
    assert_eq!(seen_as, SocketAddrV4::new(network.hosts[consistent].ip, CLIENT_PORT));
    let seen_as = network.hosts[random].machine.rpc.seen_as().unwrap();
    assert_eq!(seen_as, SocketAddrV4::new(network.hosts[random].ip, 0));
}

#[test]
fn a_node_for_others_looks_again_whether_they_reach_it() {
    let mut network = SimulatedNetwork::of(10);
    let config =
        RpcConfig { ephemeral: Some(false), firewalled: true, defended: true, ..RpcConfig::default() };
    let closed = || Nat::Consistent { opened: HashSet::new() };
    let nodes = [network.add(config.clone(), closed()), network.add(config, closed())];
    let is_persistent =
        |network: &SimulatedNetwork, node: usize| !network.hosts[node].machine.rpc.is_ephemeral();
    network.run(10 * MINUTE);
    assert!(!nodes.iter().any(|node| is_persistent(&network, *node)));
    // Somebody opens its port.
    network.hosts[nodes[0]].nat = Nat::None;
    network.run(11 * MINUTE);
    assert!(is_persistent(&network, nodes[0]) && network.saw(nodes[0], &Event::Persistent));
    assert!(!is_persistent(&network, nodes[1]));
    network.hosts[nodes[1]].nat = Nat::None;
    network.run(61 * MINUTE);
    assert!(is_persistent(&network, nodes[1]));
}

#[test]
fn after_sleep_an_adaptive_node_starts_over() {
    let mut network = SimulatedNetwork::of(10);
    let node = network.adaptive(Nat::None);
    network.run(25 * MINUTE);
    assert!(network.saw(node, &Event::Persistent));
    network.hosts[node].alive = false;
    network.run(10 * MINUTE);
    network.revive(node);
    network.run(MINUTE);
    assert!(network.saw(node, &Event::Wakeup) && network.saw(node, &Event::Ephemeral));
    assert!(network.hosts[node].machine.rpc.is_ephemeral());
    assert_eq!(network.hosts[node].machine.rpc.node_count(), 10);
    network.run(61 * MINUTE);
    assert!(!network.hosts[node].machine.rpc.is_ephemeral());
}

#[test]
fn the_network_going_and_coming_is_noticed() {
    let mut network = SimulatedNetwork::of(10);
    network.run(MINUTE);
    let nodes: Vec<_> = (1..10).map(|i| network.addr(i)).collect();
    for host in &mut network.hosts[1..] {
        host.alive = false;
    }
    for _ in 0..6 {
        network.query(0, QuerySpec::find_node([9; 32]).nodes(nodes.clone()));
        network.run(10 * SECOND);
    }
    assert!(!network.hosts[0].machine.rpc.is_online());
    assert!(network.saw(0, &Event::NetworkUpdate));
    for host in 1..network.hosts.len() {
        network.revive(host);
    }
    for _ in 0..6 {
        network.query(0, QuerySpec::find_node([9; 32]).nodes(nodes.clone()));
        network.run(10 * SECOND);
    }
    assert!(network.hosts[0].machine.rpc.is_online());
}

#[test]
fn a_ping_is_given_up_after_four_seconds_and_a_querys_request_after_six() {
    let mut network = SimulatedNetwork::of(2);
    let nobody = SocketAddrV4::new([30, 1, 1, 1].into(), 1);
    let ping = network.request(0, Request::ping(nobody));
    network.run(4 * SECOND - Duration::from_millis(1));
    assert_eq!(network.answer(0, ping), None);
    network.run(Duration::from_millis(1));
    assert_eq!(network.answer(0, ping), Some(Err(RequestError::TimedOut)));

    let query = QuerySpec { only_nodes: true, ..QuerySpec::find_node([1; 32]).nodes(vec![nobody]) };
    let query = network.query(0, query);
    network.run(6 * SECOND - Duration::from_millis(1));
    let done = Event::QueryDone { id: query, result: Ok(Vec::new()) };
    assert!(!network.saw(0, &done));
    network.run(Duration::from_millis(1));
    assert!(network.saw(0, &done));
}

#[test]
fn a_flood_of_requests_leaves_in_portions() {
    let mut network = SimulatedNetwork::of(2);
    network.run(10 * SECOND);
    let before = network.hosts[0].sent;
    let to = network.addr(1);
    let pings: Vec<_> = (0..300).map(|_| network.request(0, Request::ping(to))).collect();
    assert!(network.hosts[0].sent - before <= 80, "the rest waits for room");
    // Answers make room: the pace is that of the round trips.
    network.run(SECOND);
    for ping in pings {
        assert!(matches!(network.answer(0, ping), Some(Ok(_))));
    }
    assert!(network.hosts[0].sent - before < 310, "none was sent twice");
}

#[test]
fn the_window_bounds_what_is_unanswered() {
    let mut network = SimulatedNetwork::of(2);
    network.run(10 * SECOND);
    let before = network.hosts[0].sent;
    let nobody = SocketAddrV4::new([30, 1, 1, 1].into(), 1);
    for _ in 0..300 {
        network.request(0, Request::ping(nobody));
    }
    network.run(2 * SECOND);
    assert!(network.hosts[0].sent - before <= 160, "two portions in the time of a window");
}

#[test]
fn an_answer_counts_only_from_whom_was_asked() {
    let mut network = SimulatedNetwork::of(2);
    let (asked, other) = (network.addr(1), SocketAddrV4::new([66, 6, 6, 6].into(), 6));
    let request = Request::ping(SocketAddrV4::new([30, 1, 1, 1].into(), 1)).attempts(1);
    let id = network.request(0, request);
    let forged = |tid| ResponseMessage {
        tid,
        to: asked,
        id: None,
        token: None,
        closer: Vec::new(),
        error: 0,
        value: None,
    };
    // Whoever does not see the request can guess its tid, but not be whom it went to.
    for tid in 0..=u16::MAX {
        let data = forged(tid).encode();
        network.hosts[0].machine.rpc.handle_datagram(network.now, Via::Server, other, &data);
    }
    network.run(2 * SECOND);
    assert_eq!(network.answer(0, id), Some(Err(RequestError::TimedOut)));
}

#[test]
fn a_forged_request_puts_nobody_into_the_table() {
    let mut network = SimulatedNetwork::of(2);
    let before = network.hosts[0].machine.rpc.node_count();
    for i in 1..=200 {
        let from = SocketAddrV4::new([40, i, 1, 1].into(), 1);
        let to = network.addr(0);
        let (id, token, target, value) = (Some(node_id(from)), None, None, None);
        let ping = RequestMessage { tid: 1, to, id, token, internal: true, command: 0, target, value };
        network.inject(from, to, ping.encode());
    }
    network.run(MINUTE);
    assert_eq!(network.hosts[0].machine.rpc.node_count(), before);
}

#[test]
fn a_liar_leads_a_query_nowhere_for_long() {
    let mut network = SimulatedNetwork::of(2);
    let liar = SocketAddrV4::new([50, 1, 1, 1].into(), 1);
    let target = [1; 32];
    let id = network.query(0, QuerySpec::find_node(target).nodes(vec![liar]));
    let mut visits = 0;
    // Each node it names is itself, and names nodes nearer still.
    for round in 0..2000 {
        network.run(SECOND / 20);
        let due = network.wire.drain().collect::<Vec<_>>();
        for Reverse(packet) in due {
            let to_liar = packet.to.ip().octets()[0] >= 50;
            let Ok(Message::Request(request)) = Message::decode(&packet.data) else { continue };
            if !to_liar {
                continue;
            }
            visits += 1;
            let mut made_up: Vec<_> = (0..60u32)
                .map(|i| {
                    let [b, c, d, e] = (round * 60 + i + 1).to_be_bytes();
                    SocketAddrV4::new([50 + b, c, d, e].into(), 7)
                })
                .collect();
            made_up.sort_unstable_by_key(|addr| distance(&target, &node_id(*addr)));
            made_up.truncate(20);
            let response = ResponseMessage {
                tid: request.tid,
                to: packet.from,
                id: Some(node_id(packet.to)),
                token: None,
                closer: made_up,
                error: 0,
                value: None,
            };
            let now = network.now;
            network.hosts[0].machine.rpc.handle_datagram(now, Via::Server, packet.to, &response.encode());
            network.settle(0);
        }
        let done = |event: &Event| matches!(event, Event::QueryDone { id: done, .. } if *done == id);
        if network.hosts[0].events.iter().any(done) {
            assert!(visits < 600, "{visits} requests");
            return;
        }
    }
    panic!("the query ends");
}

#[test]
fn a_suspended_node_fails_what_was_under_way_and_comes_back() {
    let mut network = SimulatedNetwork::of(5);
    let ping = network.request(1, Request::ping(SocketAddrV4::new([30, 1, 1, 1].into(), 1)));
    let query = network.query(1, QuerySpec::find_node([4; 32]));
    network.hosts[1].machine.rpc.suspend();
    network.settle(1);
    assert_eq!(network.answer(1, ping), Some(Err(RequestError::Suspended)));
    let suspended = Event::QueryDone { id: query, result: Err(RequestError::Suspended) };
    assert!(network.saw(1, &suspended));
    assert_eq!(network.hosts[1].machine.rpc.poll_timeout(), None);
    let late = network.query(1, QuerySpec::find_node([4; 32]));
    assert!(network.saw(1, &Event::QueryDone { id: late, result: Err(RequestError::Suspended) }));

    let now = network.now;
    network.hosts[1].machine.rpc.bind(now, SERVER_PORT);
    network.settle(1);
    let query = network.query(1, QuerySpec::find_node([4; 32]));
    assert_eq!(network.finish(1, query).0.len(), 4);
    assert!(network.now - network.start < 5 * MINUTE);
}

/// Bytes that look like messages often enough to get past the decoder.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let request =
        (any::<u16>(), any::<bool>(), 0u64..12, any::<Option<Id>>(), any::<Option<Id>>(), any::<bool>());
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..120));
    let request = (request, value).prop_map(|((tid, internal, command, target, token, own), value)| {
        let from = SocketAddrV4::new([66, 6, 6, 6].into(), 6);
        let message = RequestMessage {
            tid,
            to: from,
            id: own.then(|| node_id(from)),
            token,
            internal,
            command,
            target,
            value: value.map(Into::into),
        };
        message.encode()
    });
    prop_oneof![request, proptest::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_arrives_nothing_panics_and_memory_is_bounded(
        datagrams in proptest::collection::vec(datagrams(), 0..200),
    ) {
        let mut network = SimulatedNetwork::of(2);
        network.query(0, QuerySpec::find_node([1; 32]));
        let (from, to) = (SocketAddrV4::new([66, 6, 6, 6].into(), 6), network.addr(0));
        for data in datagrams {
            network.inject(from, to, data);
        }
        network.run(20 * SECOND);
        prop_assert!(network.hosts[0].machine.rpc.io.in_flight() < 100);
        prop_assert!(network.hosts[0].machine.rpc.delayed_pings.next().is_none());
    }
}
