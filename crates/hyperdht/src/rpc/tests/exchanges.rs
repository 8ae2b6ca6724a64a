//! The exchanges of tests/vectors/dht.json: what a node sends when it is sent something.

use std::net::SocketAddrV4;
use std::time::Instant;

use serde_json::Value;

use crate::id::node_id;
use crate::machine::Machine;
use crate::rpc::message::{Message, ResponseMessage};
use crate::rpc::token::Tokens;
use crate::rpc::{RpcConfig, Transmit, Via};
use crate::store::Now;
use crate::store::message::{LookupReply, Peer};
use crate::testing::vectors::connect::unhex;
use crate::testing::vectors::{exchanges, text_addr, token_secrets};

/// Later than the bump in the exchanges.
const UNIX_MILLIS: u64 = 1_800_000_000_000;

/// A node as the driver has one, without sockets.
struct VectorNode {
    now: Instant,
    machine: Machine,
}

impl VectorNode {
    fn new(persistent: bool) -> Self {
        let now = Instant::now();
        let config = RpcConfig {
            ephemeral: Some(!persistent),
            firewalled: !persistent,
            known_host: persistent.then(|| [198, 51, 100, 1].into()),
            ..RpcConfig::default()
        };
        let mut machine = Machine::new(now, config, [1; 32], [2; 32]);
        let (previous, current) = token_secrets();
        machine.rpc.io.tokens = Tokens::with_secrets(previous, current);
        machine.rpc.bind(now, 49737);
        machine.rpc.set_bootstrap(now, Vec::new());
        assert_eq!(machine.rpc.id().is_some(), persistent);
        Self { now, machine }
    }

    fn sent(&mut self, via: Via, from: SocketAddrV4, request: &[u8]) -> Vec<Transmit> {
        self.machine.rpc.handle_datagram(self.now, via, from, request);
        let now = Now { instant: self.now, unix_millis: UNIX_MILLIS };
        while self.machine.poll_event(now).is_some() {}
        std::iter::from_fn(|| self.machine.rpc.poll_transmit()).collect()
    }
}

fn via(socket: &Value) -> Via {
    if socket == "client" { Via::Client } else { Via::Server }
}

/// The vectors name hosts of the ranges for documentation, to which we relay nothing; the same with hosts of
/// the public network.
fn with_real_hosts(exchange: &Value) -> Value {
    let mut text = exchange.to_string();
    for (documented, real) in [("203.0.113.7", "8.8.4.7"), ("192.0.2.77", "8.8.8.77")] {
        let hex = |host: &str| hex::encode(host.parse::<std::net::Ipv4Addr>().unwrap().octets());
        text = text.replace(&format!("\"{documented}:"), &format!("\"{real}:"));
        text = text.replace(&hex(documented), &hex(real));
    }
    serde_json::from_str(&text).unwrap()
}

fn response(bytes: &[u8]) -> ResponseMessage {
    match Message::decode(bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("not a response: {other:?}"),
    }
}

#[test]
fn a_node_answers_as_in_the_vectors() {
    let mut ephemeral = VectorNode::new(false);
    let mut persistent = VectorNode::new(true);
    let mut compared = 0;
    for exchange in exchanges() {
        let id = exchange["id"].as_str().unwrap();
        if id == "x-find-node" {
            let nodes = ["203.0.113.21:1001", "203.0.113.22:1002", "203.0.113.23:1003"];
            persistent.machine.rpc.add_nodes(nodes.map(|node| node.parse().unwrap()));
        }
        if id == "x-lookup-full" {
            continue;
        }
        let exchange = if id.starts_with("x-handshake") || id.starts_with("x-holepunch") {
            with_real_hosts(exchange)
        } else {
            exchange.clone()
        };
        let node = if exchange["node"] == "ephemeral" { &mut ephemeral } else { &mut persistent };
        let expected = exchange["sent"].as_array().unwrap();
        let arrival = match (id, exchange["node"].as_str()) {
            ("x-ping-client-socket", _) | (_, Some("ephemeral")) => Via::Client,
            _ => Via::Server,
        };
        let (from, request) = (text_addr(&exchange["from"]), unhex(&exchange["request"]));
        let mut sent = node.sent(arrival, from, &request);
        if id == "m-right-id" {
            // It is asked back before it is believed, unlike in JavaScript.
            let ping = sent.remove(0);
            let Ok(Message::Request(ping)) = Message::decode(&ping.data) else { panic!("a ping") };
            let before = node.machine.rpc.table.len();
            let pong = ResponseMessage {
                tid: ping.tid,
                to: "198.51.100.1:49737".parse().unwrap(),
                id: Some(node_id(from)),
                token: None,
                closer: Vec::new(),
                error: 0,
                value: None,
            };
            assert!(node.sent(Via::Server, from, &pong.encode()).is_empty());
            assert_eq!(node.machine.rpc.table.len(), before + 1);
        }

        assert_eq!(sent.len(), expected.len(), "{id}");
        for (sent, expected) in sent.iter().zip(expected) {
            assert_eq!(sent.via, via(&expected["socket"]), "{id}");
            assert_eq!(sent.to, text_addr(&expected["to"]), "{id}");
            let bytes = unhex(&expected["hex"]);
            if id == "x-lookup-stale-relays" {
                // Unlike JavaScript we take the new relay addresses; the order is drawn anew.
                let relays = |bytes: &[u8]| {
                    let value = response(bytes).value.unwrap();
                    let peers = LookupReply::decode(&value).unwrap().peers;
                    peers.iter().map(|peer| peer.relay_addresses.len()).sum::<usize>()
                };
                assert_eq!((relays(&bytes), relays(&sent.data)), (3, 2));
            } else if sent.data != bytes {
                // Records of a lookup come in an order that is drawn, closer nodes by distance.
                let normal = |bytes: &[u8]| {
                    let mut response = response(bytes);
                    response.closer.sort_unstable();
                    let mut value = response.value.take().unwrap_or_default().to_vec();
                    if id == "x-lookup-2" {
                        value.sort_unstable();
                    }
                    (response, value)
                };
                assert_eq!(normal(&sent.data), normal(&bytes), "{id}");
            }
            compared += 1;
        }
    }
    assert!(compared > 45, "{compared} datagrams were compared");
}

#[test]
fn a_full_lookup_reply_is_no_larger_than_that_of_javascript() {
    let exchange = exchanges().iter().find(|exchange| exchange["id"] == "x-lookup-full").unwrap();
    let mut node = VectorNode::new(true);
    let nodes = (0..40).map(|i| SocketAddrV4::new([203, 0, 113, 100 + i].into(), 2000 + u16::from(i)));
    node.machine.rpc.add_nodes(nodes);
    let request = unhex(&exchange["request"]);
    let Ok(Message::Request(message)) = Message::decode(&request) else { panic!("a request") };
    for i in 0..21 {
        let relay_addresses = vec!["203.0.113.7:49737".parse().unwrap(); 3];
        let peer = Peer { public_key: [i; 32], relay_addresses };
        let record = peer.encode().into();
        let source = [192, 0, 2, i].into();
        assert!(node.machine.store.records.add(node.now, message.target.unwrap(), [i; 32], record, source));
    }
    let sent = node.sent(Via::Server, text_addr(&exchange["from"]), &request);
    assert!(sent[0].data.len() as u64 <= exchange["replyLength"].as_u64().unwrap());
    let reply = response(&sent[0].data);
    assert_eq!(reply.closer.len(), 20);
    assert_eq!(LookupReply::decode(&reply.value.unwrap()).unwrap().peers.len(), 20);
}
