//! Nodes of ours and of npm hyperdht in one network.

mod peer;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hyperdht::testnet::testnet;
use hyperdht::{AnnounceOptions, Bootstrap, Config, Dht, Error, Lookup, LookupAnswer};
use peer::Peer;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Longest that anything expected may take.
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: [u8; 32] = [0x70; 32];
const SEED: [u8; 32] = [0x5e; 32];

fn addr(node: &Dht) -> String {
    node.local_addr().unwrap().to_string()
}

async fn our_node(bootstrap: &Value, ephemeral: Option<bool>) -> Dht {
    let nodes = bootstrap.as_array().unwrap().iter();
    let nodes: Vec<Bootstrap> = nodes.map(|node| node.as_str().unwrap().parse().unwrap()).collect();
    let host = Ipv4Addr::LOCALHOST.into();
    let firewalled = ephemeral != Some(false);
    let config = Config { host, port: 0, ephemeral, firewalled, ..Config::private(nodes) };
    let node = Dht::new(config).await.unwrap();
    node.ready().await.unwrap();
    node
}

async fn all(mut lookup: Lookup) -> Vec<LookupAnswer> {
    let mut answers = Vec::new();
    while let Some(answer) = lookup.next().await {
        answers.push(answer);
    }
    lookup.finish().await.unwrap();
    answers
}

/// Everything a JavaScript peer does in a DHT, done in one of our nodes alone.
#[tokio::test]
async fn javascript_peers_live_on_nodes_of_ours() {
    let nodes = testnet(4).await.unwrap();
    let bootstrap = [addr(&nodes[0])];
    let mut peer = Peer::start();
    for i in 0..2 {
        let node = peer.run(json!({ "do": "node", "bootstrap": bootstrap })).await;
        assert_eq!(node["known"], 4, "node {i} knows all of ours");
        assert_eq!(node["host"], "127.0.0.1");
    }
    for node in &nodes {
        let pong = peer.run(json!({ "do": "ping", "to": addr(node) })).await;
        let SocketAddr::V4(addr) = node.local_addr().unwrap() else { panic!("IPv4") };
        assert_eq!(pong["id"], hex::encode(hyperdht::node_id(addr)));
    }
    let found = peer.run(json!({ "do": "findNode", "target": hex::encode([9; 32]) })).await;
    assert_eq!(found["closest"].as_array().unwrap().len(), 4);

    let topic = hex::encode(TOPIC);
    let relays = json!([{ "host": "127.0.0.1", "port": 1234 }]);
    let announce = json!({ "do": "announce", "topic": topic, "seed": hex::encode(SEED),
        "relays": relays, "bump": 1_700_000_000_000_u64 });
    let announced = peer.run(announce).await;
    assert_eq!(announced["closest"], 4);
    let lookup = json!({ "do": "lookup", "node": 1, "topic": topic });
    let answers = peer.run(lookup.clone()).await["answers"].clone();
    assert_eq!(answers.as_array().unwrap().len(), 4);
    for answer in answers.as_array().unwrap() {
        let peers = json!([{ "publicKey": announced["publicKey"], "relays": relays }]);
        assert_eq!(answer["peers"], peers);
        assert_eq!(answer["bump"], 1_700_000_000_000_u64);
    }
    peer.run(json!({ "do": "unannounce", "topic": topic, "seed": hex::encode(SEED) })).await;
    assert_eq!(peer.run(lookup).await["answers"], json!([]));

    let put = peer.run(json!({ "do": "immutablePut", "value": "some value" })).await;
    assert_eq!(put["stored"], 4);
    let get = json!({ "do": "immutableGet", "node": 1, "hash": put["hash"] });
    assert_eq!(peer.run(get).await["value"], "some value");

    for (seq, value) in [(0, "first"), (3, "second"), (4, "")] {
        let put = json!({ "do": "mutablePut", "seed": hex::encode(SEED), "seq": seq, "value": value });
        let put = peer.try_run(put).await;
        assert_eq!(put["error"], Value::Null);
        let get = json!({ "do": "mutableGet", "node": 1, "publicKey": put["publicKey"] });
        let got = peer.run(get).await;
        assert_eq!(got["seq"], seq);
        assert_eq!(got["value"], value);
    }
    // What is used again or too old leaves what is there; JavaScript does not say so.
    for seq in [4, 3] {
        let put = json!({ "do": "mutablePut", "seed": hex::encode(SEED), "seq": seq, "value": "other" });
        let put = peer.run(put).await;
        let get = json!({ "do": "mutableGet", "node": 1, "publicKey": put["publicKey"] });
        assert_eq!(peer.run(get).await["value"], "");
    }
    let largest = "y".repeat(1000);
    let put = peer.run(json!({ "do": "immutablePut", "value": largest })).await;
    let get = json!({ "do": "immutableGet", "node": 1, "hash": put["hash"] });
    assert_eq!(peer.run(get).await["value"], largest);
    peer.exit().await;
}

/// Ours announces and stores in a network of JavaScript nodes; each side finds what the other
/// announced.
#[tokio::test]
async fn our_node_lives_on_javascript_nodes() {
    let mut peer = Peer::start();
    let bootstrap = peer.run(json!({ "do": "testnet", "size": 5 })).await["bootstrap"].clone();
    peer.run(json!({ "do": "node", "bootstrap": bootstrap })).await;
    let ours = our_node(&bootstrap, None).await;
    assert_eq!(ours.nodes().await.len(), 4, "all but the first, which has no id");
    let found = ours.find_node([3; 32]).finish().await.unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(ours.packet_size_to(ours.nodes().await[0]).await, Some(1500), "they answer padded pings");

    let (topic, key_pair) = (hex::encode(TOPIC), KeyPair::generate());
    let announced = peer.run(json!({ "do": "announce", "topic": topic, "seed": hex::encode(SEED) })).await;
    let answers = all(ours.lookup(TOPIC, Vec::new())).await;
    assert_eq!(answers.len(), 4);
    let keys = |answer: &LookupAnswer| -> Vec<String> {
        answer.peers.iter().map(|peer| hex::encode(peer.public_key)).collect()
    };
    assert!(answers.iter().all(|answer| keys(answer) == [announced["publicKey"].as_str().unwrap()]));

    let relay = "127.0.0.1:4321".parse().unwrap();
    let options = AnnounceOptions { clear: true, bump: 1_700_000_000_000, ..Default::default() };
    let closest = ours.announce(TOPIC, &key_pair, &[relay], options).finish().await.unwrap();
    let lookup = json!({ "do": "lookup", "topic": topic });
    let answers = peer.run(lookup.clone()).await["answers"].clone();
    assert_eq!(answers.as_array().unwrap().len(), 4);
    for answer in answers.as_array().unwrap() {
        let mine = json!({ "publicKey": hex::encode(key_pair.public_key()),
            "relays": [{ "host": "127.0.0.1", "port": 4321 }] });
        assert!(answer["peers"].as_array().unwrap().contains(&mine));
        assert_eq!(answer["bump"], 1_700_000_000_000_u64);
    }
    ours.unannounce(TOPIC, &key_pair, closest).finish().await.unwrap();
    let answers = peer.run(lookup).await["answers"].clone();
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["peers"].as_array().unwrap().len(), 1);
    }

    let hash = ours.immutable_put("from Rust").await.unwrap();
    let get = json!({ "do": "immutableGet", "hash": hex::encode(hash) });
    assert_eq!(peer.run(get).await["value"], "from Rust");
    let put = peer.run(json!({ "do": "immutablePut", "value": "from JavaScript" })).await;
    let hash: [u8; 32] = hex::decode(put["hash"].as_str().unwrap()).unwrap().try_into().unwrap();
    assert_eq!(ours.immutable_get(hash).await.unwrap().unwrap(), "from JavaScript");

    ours.mutable_put(&key_pair, 5, "from Rust").await.unwrap();
    let get = json!({ "do": "mutableGet", "publicKey": hex::encode(key_pair.public_key()) });
    let got = peer.run(get).await;
    assert_eq!((&got["seq"], &got["value"]), (&json!(5), &json!("from Rust")));
    for (seq, value) in [(5, "another"), (4, "older")] {
        let refused = ours.mutable_put(&key_pair, seq, value).await;
        assert!(matches!(refused, Err(Error::TooFewNodes)), "seq {seq}: {refused:?}");
    }
    ours.mutable_put(&key_pair, 5, "from Rust").await.unwrap();
    let largest = "x".repeat(1000);
    let hash = ours.immutable_put(largest.clone()).await.unwrap();
    let get = json!({ "do": "immutableGet", "hash": hex::encode(hash) });
    assert_eq!(peer.run(get).await["value"], largest);
    assert!(matches!(ours.immutable_put("x".repeat(1001)).await, Err(Error::ValueTooLarge(1001))));
    let put = json!({ "do": "mutablePut", "seed": hex::encode(SEED), "seq": 7, "value": "other" });
    let key = peer.run(put).await["publicKey"].clone();
    let key: [u8; 32] = hex::decode(key.as_str().unwrap()).unwrap().try_into().unwrap();
    let record = ours.mutable_get(&key, 6).await.unwrap().unwrap();
    assert_eq!((record.seq, &record.value[..]), (7, &b"other"[..]));

    ours.destroy().await;
    peer.exit().await;
}

/// A persistent node of ours enters the tables of JavaScript nodes and stores for them.
#[tokio::test]
async fn javascript_nodes_take_ours_in() {
    let mut peer = Peer::start();
    let bootstrap = peer.run(json!({ "do": "testnet", "size": 3 })).await["bootstrap"].clone();
    let ours = our_node(&bootstrap, Some(false)).await;
    assert_eq!(ours.remote_address().map(SocketAddr::V4), ours.local_addr());

    let joined = peer.run(json!({ "do": "node", "bootstrap": bootstrap })).await;
    assert_eq!(joined["known"], 3, "two of theirs and ours");
    let announce = json!({ "do": "announce", "topic": hex::encode(TOPIC), "seed": hex::encode(SEED) });
    assert_eq!(peer.run(announce).await["closest"], 3);
    let lookup = json!({ "do": "lookup", "topic": hex::encode(TOPIC) });
    let answers = peer.run(lookup).await["answers"].clone();
    let ours_answered = |answer: &Value| answer["from"] == ours.local_addr().unwrap().port();
    assert!(answers.as_array().unwrap().iter().any(ours_answered));
    peer.exit().await;
}

/// A persistent JavaScript node enters the tables of ours.
#[tokio::test]
async fn our_nodes_take_a_javascript_node_in() {
    let nodes = testnet(3).await.unwrap();
    let mut peer = Peer::start();
    let options =
        json!({ "do": "node", "bootstrap": [addr(&nodes[0])], "ephemeral": false, "firewalled": false });
    let joined = peer.run(options).await;
    assert_eq!((&joined["ephemeral"], &joined["known"]), (&json!(false), &json!(3)));
    for node in &nodes {
        node.network().wait_for(|network| network.nodes == 3).await.unwrap();
    }
    peer.exit().await;
}

/// Who answers a JavaScript node, the second of `peer`, that looks for a server.
async fn finds(peer: &mut Peer, public_key: &Value) -> Vec<u16> {
    let found = peer.run(json!({ "do": "findPeer", "node": 1, "publicKey": public_key })).await;
    found["from"].as_array().unwrap().iter().map(|port| port.as_u64().unwrap() as u16).collect()
}

/// A JavaScript server that suspends or closes takes back what our nodes hold of it.
///
/// If its own node is persistent, that node still answers for it when it is asked, on a network of
/// JavaScript nodes too: it keeps the record of its server while that is suspended
/// (hyperdht/lib/persistent.js onfindpeer).
#[tokio::test]
async fn our_nodes_forget_a_javascript_server_that_suspends_or_closes() {
    for is_persistent in [false, true] {
        let nodes = testnet(4).await.unwrap();
        let mut peer = Peer::start();
        let mut own_port = 0;
        for _ in 0..2 {
            let node = json!({ "do": "node", "bootstrap": [addr(&nodes[0])],
                "ephemeral": !is_persistent, "firewalled": !is_persistent });
            let joined = peer.run(node).await;
            if own_port == 0 {
                own_port = u16::try_from(joined["port"].as_u64().unwrap()).unwrap();
            }
        }
        let public_key = peer.run(json!({ "do": "serve" })).await["publicKey"].clone();
        let ours: Vec<u16> = nodes.iter().map(|node| node.local_addr().unwrap().port()).collect();
        let is_ours = |port: &u16| ours.contains(port);
        assert!(finds(&mut peer, &public_key).await.iter().any(is_ours));

        let expected = if is_persistent { vec![own_port] } else { Vec::new() };
        peer.run(json!({ "do": "suspendServer" })).await;
        assert_eq!(finds(&mut peer, &public_key).await, expected);
        peer.run(json!({ "do": "resumeServer" })).await;
        let found_again = async { while !finds(&mut peer, &public_key).await.iter().any(is_ours) {} };
        timeout(PATIENCE, found_again).await.expect("it is announced again");
        peer.run(json!({ "do": "closeServer" })).await;
        assert_eq!(finds(&mut peer, &public_key).await, [] as [u16; 0]);
        peer.exit().await;
    }
}

/// The network and the peers of upstream's test of that option. There the peers may not be ready when they
/// connect, and then they fail now and then, on networks of JavaScript nodes too: a client that learns
/// meanwhile that everybody reaches it asks the server to punch to it and names no address; the server then
/// ends a connection that the client has just opened through their local network.
#[tokio::test]
async fn javascript_peers_without_keep_alive_connect_on_a_network_of_both_kinds() {
    for _ in 0..3 {
        let nodes = testnet(32).await.unwrap();
        let mut peer = Peer::start();
        let theirs = peer.run(json!({ "do": "testnet", "size": 4, "bootstrap": [addr(&nodes[0])] })).await;
        for _ in 0..2 {
            let bootstrap = &theirs["bootstrap"];
            peer.run(json!({ "do": "node", "bootstrap": bootstrap, "connectionKeepAlive": false })).await;
        }
        let public_key = peer.run(json!({ "do": "serve" })).await["publicKey"].clone();
        let dial = json!({ "do": "dial", "node": 1, "publicKey": public_key, "message": "hello" });
        assert_eq!(peer.run(dial).await["echo"], "hello");
        peer.exit().await;
    }
}

/// An address of this machine other than 127.0.0.1, if it has one. Nothing is sent.
fn own_address() -> Ipv4Addr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()) {
        Ok(SocketAddr::V4(addr)) if !addr.ip().is_unspecified() => *addr.ip(),
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// As a hub does it that listens on all addresses: the nodes are known by one address of the
/// machine, and peers on the same machine come by another.
#[tokio::test]
async fn peers_reach_nodes_that_listen_on_all_addresses() {
    let known = own_address();
    let mut nodes: Vec<Dht> = Vec::new();
    for _ in 0..4 {
        let ports = nodes.iter().map(|node| node.local_addr().unwrap().port());
        let bootstrap = ports.map(|port| format!("{known}:{port}").parse().unwrap()).collect();
        let (known_host, ephemeral) = (Some(known), Some(false));
        let config =
            Config { port: 0, known_host, ephemeral, firewalled: false, ..Config::private(bootstrap) };
        let node = Dht::new(config).await.unwrap();
        node.ready().await.unwrap();
        nodes.push(node);
    }
    let port = nodes[0].local_addr().unwrap().port();
    let mut peer = Peer::start();
    let bootstrap = json!([format!("127.0.0.1:{port}")]);
    let node = json!({ "do": "node", "bootstrap": bootstrap, "host": "0.0.0.0" });
    assert!(peer.run(node).await["known"].as_u64().unwrap() >= 3);
    let announce = json!({ "do": "announce", "topic": hex::encode(TOPIC), "seed": hex::encode(SEED) });
    assert!(peer.run(announce).await["closest"].as_u64().unwrap() >= 3);
    let nodes: Vec<Bootstrap> = vec![format!("127.0.0.1:{port}").parse().unwrap()];
    let ours = Dht::new(Config { port: 0, ..Config::private(nodes) }).await.unwrap();
    let answers = all(ours.lookup(TOPIC, Vec::new())).await;
    assert!(answers.iter().any(|answer| answer.peers.len() == 1));
    peer.exit().await;
}
