//! Topics, keys and firewalls.

use std::{sync::Arc, time::Duration};

use hyperdht::{connect::Connection, testnet};
use hyperswarm::{Firewall, JoinOptions, PeerInfo, Swarm, SwarmConfig, Verdict};
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::peers::{BOTH, CLIENT, Node, PATIENCE, SERVER, node_of, npm_testnet, swarm_of};

const TOPIC: [u8; 32] = [7; 32];

/// A swarm of npm's on [`TOPIC`].
fn npm_swarm(bootstrap: &[String], seed: u8, options: JoinOptions) -> Node {
    let options = json!({
        "bootstrap": bootstrap,
        "seed": hex::encode([seed; 32]),
        "topic": hex::encode(TOPIC),
        "server": options.server,
        "client": options.client,
    });
    Node::start("swarm", &options)
}

fn key(seed: u8) -> [u8; 32] {
    KeyPair::from_seed(&[seed; 32]).public_key()
}

async fn accept(swarm: &Swarm) -> (Connection, PeerInfo) {
    timeout(PATIENCE, swarm.accept()).await.expect("a peer connects in time").unwrap()
}

/// Sends a message, and expects it back.
async fn echo(connection: &mut Connection) {
    connection.stream.send(b"are you there?").await.unwrap();
    let answer = timeout(PATIENCE, connection.stream.recv()).await.expect("the peer answers in time");
    assert_eq!(answer.unwrap().unwrap(), &b"are you there?"[..]);
}

/// Both see one connection, by the side that must have dialled.
async fn meet(swarm: &Swarm, node: &mut Node, we_dial: Option<bool>) -> Connection {
    let (mut connection, info) = accept(swarm).await;
    let seen: Value = node.event("connection").await;
    assert_eq!(seen["remotePublicKey"], hex::encode(swarm.public_key()));
    assert_eq!(info.public_key, connection.remote_public_key());
    if let Some(we_dial) = we_dial {
        assert_eq!(connection.is_initiator(), we_dial);
        assert_eq!(seen["isInitiator"], !we_dial);
        assert_eq!(info.topics, if we_dial { vec![TOPIC] } else { vec![] });
    }
    echo(&mut connection).await;
    connection
}

#[tokio::test]
async fn we_dial_an_npm_server() {
    let (_net, bootstrap) = npm_testnet().await;
    let mut node = npm_swarm(&bootstrap, 1, SERVER);
    node.event("joined").await;
    let swarm = swarm_of(&bootstrap, 2).await;
    swarm.join(TOPIC, CLIENT);
    assert!(swarm.flush().await);
    let mut connection = meet(&swarm, &mut node, Some(true)).await;
    connection.stream.shutdown().await.unwrap();
    assert!(connection.stream.recv().await.unwrap().is_none());
    node.event("close").await;
    swarm.destroy().await;
}

#[tokio::test]
async fn an_npm_client_dials_us() {
    let (_net, bootstrap) = npm_testnet().await;
    let swarm = swarm_of(&bootstrap, 2).await;
    assert!(swarm.join(TOPIC, SERVER).flushed().await);
    let mut node = npm_swarm(&bootstrap, 1, CLIENT);
    let connection = meet(&swarm, &mut node, Some(false)).await;
    drop(connection);
    node.event("close").await;
    swarm.destroy().await;
}

#[tokio::test]
async fn both_with_both_is_one_connection() {
    let (_net, bootstrap) = npm_testnet().await;
    for seeds in [(1, 2), (2, 1)] {
        let swarm = swarm_of(&bootstrap, seeds.0).await;
        let mut node = npm_swarm(&bootstrap, seeds.1, BOTH);
        swarm.join(TOPIC, BOTH);
        node.event("joined").await;
        swarm.join(TOPIC, BOTH);
        let mut connection = None;
        // Both may dial at once; the one that stays answers for seconds.
        loop {
            tokio::select! {
                (next, _) = accept(&swarm) => connection = Some(next),
                alive = alive(&mut connection) => if alive { break },
            }
        }
        swarm.destroy().await;
    }
}

/// Whether the connection is there after a second of use.
async fn alive(connection: &mut Option<Connection>) -> bool {
    let Some(of) = connection else { return std::future::pending().await };
    for _ in 0..10 {
        let lives = of.stream.send(b"still there?").await.is_ok()
            && of.stream.recv().await.is_ok_and(|message| message.is_some());
        if !lives {
            *connection = None;
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

#[tokio::test]
async fn by_key_in_both_directions() {
    let (_net, bootstrap) = npm_testnet().await;
    let swarm = swarm_of(&bootstrap, 2).await;
    swarm.listen().await.unwrap();
    let options = |seed: u8, peer: Option<[u8; 32]>| {
        json!({
            "bootstrap": bootstrap,
            "seed": hex::encode([seed; 32]),
            "peer": peer.map(hex::encode),
        })
    };
    let mut dialling = Node::start("swarm", &options(1, Some(swarm.public_key())));
    let (mut connection, _) = accept(&swarm).await;
    assert!(!connection.is_initiator());
    assert_eq!(connection.remote_public_key(), key(1));
    echo(&mut connection).await;
    dialling.event("connection").await;

    let mut listening = Node::start("swarm", &options(3, None));
    listening.event("joined").await;
    swarm.join_peer(key(3));
    let (mut connection, _) = accept(&swarm).await;
    assert!(connection.is_initiator());
    assert_eq!(connection.remote_public_key(), key(3));
    echo(&mut connection).await;

    // Kept connected: a connection that ends is replaced.
    connection.stream.destroy();
    drop(connection);
    let (mut connection, _) = accept(&swarm).await;
    echo(&mut connection).await;
    swarm.leave_peer(key(3));
    swarm.destroy().await;
}

#[tokio::test]
async fn firewalls_of_both() {
    let (_net, bootstrap) = npm_testnet().await;
    let refused = key(1);
    let judge = move |key| if key == refused { Verdict::Ban } else { Verdict::Admit };
    let swarm = Swarm::new(SwarmConfig {
        owns_dht: true,
        firewall: Some(Arc::new(move |key, _| Box::pin(async move { judge(key) }))),
        ..SwarmConfig::new(node_of(&bootstrap).await, KeyPair::from_seed(&[2; 32]))
    });
    assert!(swarm.join(TOPIC, BOTH).flushed().await);
    let _refused = npm_swarm(&bootstrap, 1, BOTH);
    let refusing = json!({
        "bootstrap": bootstrap,
        "seed": hex::encode([3; 32]),
        "topic": hex::encode(TOPIC),
        "server": true,
        "client": true,
        "refuse": true,
    });
    let mut refusing = Node::start("swarm", &refusing);
    refusing.event("joined").await;
    let mut welcome = npm_swarm(&bootstrap, 4, BOTH);
    welcome.event("joined").await;
    let discovery = swarm.join(TOPIC, BOTH);
    discovery.flushed().await;
    let (connection, _) = accept(&swarm).await;
    assert_eq!(connection.remote_public_key(), key(4));
    swarm.destroy().await;
}

/// Three seconds are what a receiver takes at most to learn whether its claim was taken.
#[tokio::test]
async fn npm_waits_for_a_firewall_that_takes_three_seconds() {
    let (_net, bootstrap) = npm_testnet().await;
    let slow: Firewall = Arc::new(|_, _| {
        Box::pin(async {
            sleep(Duration::from_secs(3)).await;
            Verdict::Admit
        })
    });
    let swarm = Swarm::new(SwarmConfig {
        owns_dht: true,
        firewall: Some(slow),
        ..SwarmConfig::new(node_of(&bootstrap).await, KeyPair::from_seed(&[2; 32]))
    });
    assert!(swarm.join(TOPIC, SERVER).flushed().await);
    let mut node = npm_swarm(&bootstrap, 1, CLIENT);
    meet(&swarm, &mut node, Some(false)).await;
    swarm.destroy().await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_met_again() {
    let (_net, bootstrap) = npm_testnet().await;
    let swarm = swarm_of(&bootstrap, 2).await;
    let discovery = swarm.join(TOPIC, CLIENT);
    let mut node = npm_swarm(&bootstrap, 1, SERVER);
    node.event("joined").await;
    discovery.flushed().await;
    discovery.look_up();
    let mut connection = meet(&swarm, &mut node, Some(true)).await;
    node.command(&json!({ "command": "destroy" })).await;
    node.event("destroyed").await;
    assert!(connection.stream.recv().await.is_err(), "npm ends its connections by destroying them");

    let mut node = npm_swarm(&bootstrap, 1, SERVER);
    node.event("joined").await;
    discovery.look_up();
    meet(&swarm, &mut node, Some(true)).await;
    swarm.destroy().await;
}

#[tokio::test]
async fn npm_meets_us_again_when_we_come_back() {
    let (_net, bootstrap) = npm_testnet().await;
    let mut node = npm_swarm(&bootstrap, 1, CLIENT);
    node.event("joined").await;
    for _ in 0..2 {
        let swarm = swarm_of(&bootstrap, 2).await;
        assert!(swarm.join(TOPIC, SERVER).flushed().await);
        node.command(&json!({ "command": "refresh" })).await;
        let connection = meet(&swarm, &mut node, Some(false)).await;
        swarm.destroy().await;
        node.event("close").await;
        drop(connection);
    }
}

#[tokio::test]
async fn npm_swarms_meet_on_a_dht_of_ours() {
    let nodes = testnet::testnet(4).await.unwrap();
    let bootstrap = vec![nodes[0].local_addr().unwrap().to_string()];
    let mut pair = Node::start("pair", &json!({ "bootstrap": bootstrap, "topic": hex::encode(TOPIC) }));
    assert_eq!(pair.event("met").await["messages"], json!(["from 1", "from 0"]));
    pair.event("destroyed").await;

    let mut node = npm_swarm(&bootstrap, 1, SERVER);
    node.event("joined").await;
    let swarm = swarm_of(&bootstrap, 2).await;
    swarm.join(TOPIC, CLIENT);
    meet(&swarm, &mut node, Some(true)).await;
    swarm.destroy().await;
    for node in nodes {
        node.destroy().await;
    }
}
