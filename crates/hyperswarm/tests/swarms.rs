//! Swarms of ours on a DHT of our nodes alone.

use std::time::Duration;

use hyperdht::{Config, Dht, testnet};
use hyperswarm::{JoinOptions, Swarm, SwarmConfig, Topic};
use secret_stream::KeyPair;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

const SERVER: JoinOptions = JoinOptions { server: true, client: false, limit: None };
const CLIENT: JoinOptions = JoinOptions { server: false, client: true, limit: None };
const BOTH: JoinOptions = JoinOptions { server: true, client: true, limit: None };

/// A network, kept for as long as it is needed.
struct Net {
    nodes: Vec<Dht>,
}

impl Net {
    async fn new() -> Self {
        Self { nodes: testnet::testnet(4).await.unwrap() }
    }

    async fn node(&self) -> Dht {
        let bootstrap = testnet::bootstrap_of(&self.nodes[0]).unwrap();
        let dht = Dht::new(Config {
            host: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 0,
            ..Config::private(vec![bootstrap])
        });
        dht.await.unwrap()
    }

    /// A swarm on a node of its own.
    async fn swarm(&self, seed: u8) -> Swarm {
        Swarm::new(SwarmConfig {
            owns_dht: true,
            ..SwarmConfig::new(self.node().await, KeyPair::from_seed(&[seed; 32]))
        })
    }

    /// Who is listed for a topic.
    async fn listed(&self, topic: Topic) -> usize {
        let mut lookup = self.nodes[1].lookup(topic, Vec::new());
        let mut keys = std::collections::HashSet::new();
        while let Some(answer) = lookup.next().await {
            keys.extend(answer.peers.iter().map(|peer| peer.public_key));
        }
        keys.len()
    }

    async fn end(self) {
        for node in self.nodes {
            node.destroy().await;
        }
    }
}

/// Waits for one connection between two swarms, and sends a message each way.
async fn meet(a: &Swarm, b: &Swarm) {
    let both = async { tokio::join!(a.accept(), b.accept()) };
    let (at_a, at_b) = timeout(PATIENCE, both).await.expect("they meet in time");
    let ((mut at_a, a_info), (mut at_b, b_info)) = (at_a.unwrap(), at_b.unwrap());
    assert_eq!((a_info.public_key, b_info.public_key), (b.public_key(), a.public_key()));
    at_a.stream.send(b"from a").await.unwrap();
    assert_eq!(at_b.stream.recv().await.unwrap().unwrap(), &b"from a"[..]);
    at_b.stream.send(b"from b").await.unwrap();
    assert_eq!(at_a.stream.recv().await.unwrap().unwrap(), &b"from b"[..]);
    at_a.stream.shutdown().await.unwrap();
    assert!(at_b.stream.recv().await.unwrap().is_none());
    at_b.stream.shutdown().await.unwrap();
    assert!(at_a.stream.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn server_and_client() {
    let net = Net::new().await;
    let (a, b) = (net.swarm(1).await, net.swarm(2).await);
    let topic = [1; 32];
    assert!(a.join(topic, SERVER).flushed().await);
    assert_eq!(net.listed(topic).await, 1);
    b.join(topic, CLIENT);
    meet(&a, &b).await;
    a.destroy().await;
    assert_eq!(net.listed(topic).await, 0);
    assert!(a.accept().await.is_none());
    b.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn both_and_both() {
    let net = Net::new().await;
    let topic = [2; 32];
    for (first, second) in [(1, 2), (2, 1)] {
        let (a, b) = (net.swarm(first).await, net.swarm(second).await);
        assert!(a.join(topic, BOTH).flushed().await);
        assert!(b.join(topic, BOTH).flushed().await);
        meet(&a, &b).await;
        a.destroy().await;
        b.destroy().await;
    }
    net.end().await;
}
