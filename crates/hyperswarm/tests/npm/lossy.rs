//! 100 MB each way with npm hyperswarm, over a path that loses, repeats and reorders.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use hyperdht::connect::Connection;
use hyperswarm::{JoinOptions, Swarm, SwarmConfig};
use secret_stream::{HEADROOM, KeyPair, TAILROOM};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    peers::{self, CLIENT, Node, SERVER, node_of, npm_testnet},
    proxy::{Faults, Proxy},
};

const TOPIC: [u8; 32] = [8; 32];

const FAULTS: Faults = Faults { drop: 0.02, duplicate: 0.01, reorder: 0.02 };

/// Bytes each way.
const TOTAL: usize = 100 << 20;

const MESSAGE: usize = 64 << 10;

/// Bytes of UDP payload that a packet of the stream carries at most.
const PACKET: u64 = 1500;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(240);

/// Sends, and expects it all back.
async fn exchange(connection: Connection) {
    let (mut receiver, mut sender) = connection.stream.split();
    let sending = tokio::spawn(async move {
        for number in 0..TOTAL / MESSAGE {
            let mut buffer = BytesMut::zeroed(HEADROOM + MESSAGE + TAILROOM);
            let place = HEADROOM..HEADROOM + MESSAGE;
            buffer[place.clone()].copy_from_slice(&message(number));
            sender.send_in_place(buffer, std::slice::from_ref(&place)).await.unwrap();
        }
        sender.flush().await.unwrap();
        sender.shutdown().await.unwrap();
        sender
    });
    for number in 0..TOTAL / MESSAGE {
        let received = receiver.recv().await.unwrap().unwrap();
        assert!(received == message(number)[..], "message {number}");
    }
    assert!(receiver.recv().await.unwrap().is_none());
    sending.await.unwrap();
}

fn message(number: usize) -> Vec<u8> {
    let mut message = vec![number as u8; MESSAGE];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// A swarm of ours on a node of its own, and a proxy in front of that.
async fn behind_proxy(bootstrap: &[String]) -> (Swarm, u16, Proxy) {
    let dht = node_of(bootstrap).await;
    let port = dht.local_addr().unwrap().port();
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), FAULTS, 1).unwrap();
    let config = SwarmConfig { owns_dht: true, ..SwarmConfig::new(dht, KeyPair::from_seed(&[2; 32])) };
    (Swarm::new(config), port, proxy)
}

/// A swarm of npm's whose streams to us go through the proxy.
fn npm_swarm(bootstrap: &[String], options: JoinOptions, port: u16, proxy: &Proxy) -> Node {
    let options = json!({
        "bootstrap": bootstrap,
        "seed": hex::encode([1; 32]),
        "topic": hex::encode(TOPIC),
        "server": options.server,
        "client": options.client,
        "redirect": { "from": port, "to": proxy.address().port() },
    });
    Node::start("swarm", &options)
}

/// Moves the bytes over the next connection, and checks that they went through the proxy.
async fn exchange_with(swarm: &Swarm, ports: &[u64], proxy: &Proxy) {
    let (connection, _) = timeout(peers::PATIENCE, swarm.accept()).await.unwrap().unwrap();
    let peer = u64::from(connection.stream.transport().remote_addr().unwrap().port());
    assert!(!ports.contains(&peer), "what we send goes through the proxy");
    timeout(PATIENCE, exchange(connection)).await.expect("all is there in time");
    let (forwarded, dropped) = proxy.counts();
    let least = 2 * TOTAL as u64 / PACKET;
    assert!(forwarded > least, "{forwarded} of at least {least} packets came through the proxy");
    assert!(dropped > forwarded / 100, "{dropped} of {forwarded} were lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial() {
    let (_net, bootstrap) = npm_testnet().await;
    let (swarm, port, proxy) = behind_proxy(&bootstrap).await;
    let mut node = npm_swarm(&bootstrap, SERVER, port, &proxy);
    let ports = node.ports().await;
    node.event("joined").await;
    swarm.join(TOPIC, CLIENT);
    exchange_with(&swarm, &ports, &proxy).await;
    swarm.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_dials() {
    let (_net, bootstrap) = npm_testnet().await;
    let (swarm, port, proxy) = behind_proxy(&bootstrap).await;
    assert!(swarm.join(TOPIC, SERVER).flushed().await);
    let mut node = npm_swarm(&bootstrap, CLIENT, port, &proxy);
    let ports = node.ports().await;
    exchange_with(&swarm, &ports, &proxy).await;
    swarm.destroy().await;
}
