//! Swarms of ours on a DHT of our nodes alone.

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyperdht::{Config, Dht, connect::Connection, testnet};
use hyperswarm::{Firewall, JoinOptions, PeerInfo, Swarm, SwarmConfig, Topic, Verdict};
use secret_stream::{KeyPair, PublicKey};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

const TOPIC: Topic = [3; 32];

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
        let bootstrap = vec![testnet::bootstrap_of(&self.nodes[0]).unwrap()];
        let host = Ipv4Addr::LOCALHOST.into();
        Dht::new(Config { host, port: 0, ..Config::private(bootstrap) }).await.unwrap()
    }

    /// What a swarm on a node of its own needs.
    async fn config(&self, seed: u8) -> SwarmConfig {
        let keys = KeyPair::from_seed(&[seed; 32]);
        SwarmConfig { owns_dht: true, ..SwarmConfig::new(self.node().await, keys) }
    }

    async fn swarm(&self, seed: u8) -> Swarm {
        Swarm::new(self.config(seed).await)
    }

    /// How many are listed for a topic.
    async fn listed(&self, topic: Topic) -> usize {
        let mut lookup = self.nodes[1].lookup(topic, Vec::new());
        let mut keys = HashSet::new();
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

async fn accept(swarm: &Swarm) -> (Connection, PeerInfo) {
    timeout(PATIENCE, swarm.accept()).await.expect("a peer connects in time").unwrap()
}

/// Whether nobody connects for a moment.
async fn is_alone(swarm: &Swarm) -> bool {
    timeout(Duration::from_millis(500), swarm.accept()).await.is_err()
}

/// Waits for one connection between two swarms, and sends a message each way.
async fn meet(a: &Swarm, b: &Swarm) -> (Connection, Connection) {
    let ((mut at_a, a_info), (mut at_b, b_info)) = tokio::join!(accept(a), accept(b));
    assert_eq!((a_info.public_key, b_info.public_key), (b.public_key(), a.public_key()));
    at_a.stream.send(b"from a").await.unwrap();
    assert_eq!(at_b.stream.recv().await.unwrap().unwrap(), &b"from a"[..]);
    at_b.stream.send(b"from b").await.unwrap();
    assert_eq!(at_a.stream.recv().await.unwrap().unwrap(), &b"from b"[..]);
    (at_a, at_b)
}

#[tokio::test]
async fn server_and_client() {
    let net = Net::new().await;
    let (a, b) = (net.swarm(1).await, net.swarm(2).await);
    assert!(a.join(TOPIC, SERVER).flushed().await);
    assert_eq!(net.listed(TOPIC).await, 1);
    b.join(TOPIC, CLIENT);
    assert!(b.flush().await);
    let (mut at_a, mut at_b) = meet(&a, &b).await;
    at_a.stream.shutdown().await.unwrap();
    assert!(at_b.stream.recv().await.unwrap().is_none());
    at_b.stream.shutdown().await.unwrap();
    assert!(at_a.stream.recv().await.unwrap().is_none());
    a.destroy().await;
    assert_eq!(net.listed(TOPIC).await, 0);
    assert!(a.accept().await.is_none());
    assert!(!a.flush().await);
    assert!(!a.join(TOPIC, BOTH).flushed().await);
    b.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn both_and_both() {
    let net = Net::new().await;
    for (first, second) in [(1, 2), (2, 1)] {
        let (a, b) = (net.swarm(first).await, net.swarm(second).await);
        assert!(a.join(TOPIC, BOTH).flushed().await);
        assert!(b.join(TOPIC, BOTH).flushed().await);
        meet(&a, &b).await;
        a.destroy().await;
        b.destroy().await;
    }
    net.end().await;
}

/// Each hands up connections until both hold the ends of the same one.
#[tokio::test]
async fn two_that_dial_each_other_keep_one_connection() {
    let net = Net::new().await;
    for _ in 0..10 {
        let (a, b) = (net.swarm(1).await, net.swarm(2).await);
        a.listen().await.unwrap();
        b.listen().await.unwrap();
        a.join_peer(b.public_key());
        b.join_peer(a.public_key());
        let (mut at_a, mut at_b) = (accept(&a).await.0, accept(&b).await.0);
        while at_a.handshake_hash() != at_b.handshake_hash() {
            // The one that is not kept is replaced by the one that is.
            tokio::select! {
                (next, _) = accept(&a) => at_a = next,
                (next, _) = accept(&b) => at_b = next,
            }
        }
        at_a.stream.send(b"one").await.unwrap();
        assert_eq!(at_b.stream.recv().await.unwrap().unwrap(), &b"one"[..]);
        a.destroy().await;
        b.destroy().await;
    }
    net.end().await;
}

#[tokio::test]
async fn swarms_of_one_node() {
    let net = Net::new().await;
    let dht = net.node().await;
    let swarm = |seed| Swarm::new(SwarmConfig::new(dht.clone(), KeyPair::from_seed(&[seed; 32])));
    let (a, b) = (swarm(1), swarm(2));
    assert!(a.join(TOPIC, SERVER).flushed().await);
    b.join(TOPIC, CLIENT);
    let (mut at_a, mut at_b) = meet(&a, &b).await;
    // The node is not theirs, and what was accepted is its owner's.
    a.destroy().await;
    b.destroy().await;
    at_a.stream.send(b"still").await.unwrap();
    assert_eq!(at_b.stream.recv().await.unwrap().unwrap(), &b"still"[..]);
    dht.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn a_peer_joined_by_key_is_connected_again() {
    let net = Net::new().await;
    let (a, b) = (net.swarm(1).await, net.swarm(2).await);
    a.listen().await.unwrap();
    b.join_peer(a.public_key());
    for _ in 0..2 {
        let (at_a, mut at_b) = meet(&a, &b).await;
        drop(at_a);
        assert!(at_b.stream.recv().await.is_err());
    }
    b.leave_peer(a.public_key());
    a.destroy().await;
    b.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn leaving_a_topic_withdraws_the_announce() {
    let net = Net::new().await;
    let a = net.swarm(1).await;
    let (first, second) = (a.join(TOPIC, SERVER), a.join(TOPIC, BOTH));
    assert!(second.flushed().await);
    first.destroy().await;
    assert_eq!(net.listed(TOPIC).await, 1, "the other session goes on");
    second.update(CLIENT);
    assert!(second.flushed().await);
    assert_eq!(net.listed(TOPIC).await, 0, "nobody serves any more");
    second.update(SERVER);
    assert!(second.flushed().await);
    assert_eq!(net.listed(TOPIC).await, 1);
    second.destroy().await;
    assert_eq!(net.listed(TOPIC).await, 0);
    let again = a.join(TOPIC, SERVER);
    assert!(again.flushed().await);
    assert_eq!(net.listed(TOPIC).await, 1);
    a.leave(TOPIC).await;
    assert_eq!(net.listed(TOPIC).await, 0);
    assert!(!again.flushed().await);
    a.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn a_swarm_that_is_dropped_says_goodbye() {
    let net = Net::new().await;
    let dht = net.node().await;
    let swarm = Swarm::new(SwarmConfig::new(dht.clone(), KeyPair::from_seed(&[1; 32])));
    let discovery = swarm.join(TOPIC, SERVER);
    assert!(discovery.flushed().await);
    drop(swarm);
    let gone = async { while net.listed(TOPIC).await > 0 {} };
    timeout(PATIENCE, gone).await.expect("the announce is withdrawn");
    assert!(!discovery.flushed().await);
    dht.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn suspended_and_resumed() {
    let net = Net::new().await;
    let (a, b) = (net.swarm(1).await, net.swarm(2).await);
    assert!(a.join(TOPIC, SERVER).flushed().await);
    let lookups = b.join(TOPIC, CLIENT);
    let (_at_a, mut at_b) = meet(&a, &b).await;
    a.suspend().await;
    assert!(at_b.stream.recv().await.is_err(), "connections end");
    assert_eq!(net.listed(TOPIC).await, 0);
    drop(at_b);
    a.resume().await;
    let listed = async { while net.listed(TOPIC).await == 0 {} };
    timeout(PATIENCE, listed).await.expect("it is announced again");
    lookups.look_up();
    meet(&a, &b).await;
    a.destroy().await;
    b.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn the_firewall_judges_both_directions() {
    let net = Net::new().await;
    let b = net.swarm(2).await;
    let banned = b.public_key();
    let judge = move |key| if key == banned { Verdict::Ban } else { Verdict::Admit };
    let firewall: Firewall = Arc::new(move |key, _| Box::pin(async move { judge(key) }));
    let a = Swarm::new(SwarmConfig { firewall: Some(firewall), ..net.config(1).await });
    assert!(a.join(TOPIC, BOTH).flushed().await);
    assert!(b.join(TOPIC, SERVER).flushed().await);
    let discovery = a.join(TOPIC, BOTH);
    assert!(discovery.flushed().await);
    b.join_peer(a.public_key());
    assert!(is_alone(&a).await);
    assert!(is_alone(&b).await);
    a.destroy().await;
    b.destroy().await;
    net.end().await;
}

/// A firewall that decides when it is told what. The receiver is told whom it was asked about.
fn undecided() -> (Firewall, watch::Sender<Option<Verdict>>, mpsc::UnboundedReceiver<PublicKey>) {
    let (decide, decision) = watch::channel(None);
    let (asked, questions) = mpsc::unbounded_channel();
    let firewall: Firewall = Arc::new(move |key, _| {
        asked.send(key).unwrap();
        let mut decision = decision.clone();
        Box::pin(async move { decision.wait_for(Option::is_some).await.unwrap().unwrap() })
    });
    (firewall, decide, questions)
}

#[tokio::test]
async fn a_handshake_is_held_until_the_firewall_has_decided() {
    let net = Net::new().await;
    for (dialled_by_us, verdict) in [
        (false, Verdict::Admit),
        (false, Verdict::Refuse),
        (false, Verdict::Ban),
        (true, Verdict::Admit),
        (true, Verdict::Refuse),
    ] {
        let (firewall, decide, mut questions) = undecided();
        let a = Swarm::new(SwarmConfig { firewall: Some(firewall), ..net.config(1).await });
        let b = net.swarm(2).await;
        let (server, client) = if dialled_by_us { (&b, &a) } else { (&a, &b) };
        assert!(server.join(TOPIC, SERVER).flushed().await);
        client.join(TOPIC, CLIENT);
        assert_eq!(timeout(PATIENCE, questions.recv()).await.unwrap(), Some(b.public_key()));
        assert!(is_alone(&a).await && is_alone(&b).await, "nothing is decided");
        decide.send_replace(Some(verdict));
        match verdict {
            Verdict::Admit => drop(meet(&a, &b).await),
            Verdict::Refuse | Verdict::Ban => assert!(is_alone(&a).await && is_alone(&b).await),
        }
        a.destroy().await;
        b.destroy().await;
    }
    net.end().await;
}

#[tokio::test]
async fn a_firewall_that_panics_refuses() {
    let net = Net::new().await;
    let b = net.swarm(2).await;
    b.listen().await.unwrap();
    let asked = Arc::new(AtomicBool::new(false));
    let was_asked = asked.clone();
    let firewall: Firewall = Arc::new(move |_, _| {
        let is_first = !was_asked.swap(true, Ordering::Relaxed);
        Box::pin(async move { if is_first { panic!("the test wants it") } else { Verdict::Admit } })
    });
    let a = Swarm::new(SwarmConfig { firewall: Some(firewall), ..net.config(1).await });
    a.join_peer(b.public_key());
    // The next attempt is made.
    meet(&a, &b).await;
    a.destroy().await;
    b.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn those_found_while_dials_are_held_are_known_and_dialled_at_the_release() {
    let net = Net::new().await;
    let (b, c) = (net.swarm(2).await, net.swarm(3).await);
    for swarm in [&b, &c] {
        assert!(swarm.join(TOPIC, SERVER).flushed().await);
    }
    let a = net.swarm(1).await;
    a.hold();
    let discovery = a.join(TOPIC, SERVER);
    assert!(discovery.flushed().await);
    assert_eq!(discovery.found().await, [] as [PublicKey; 0], "a server looks for nobody");
    discovery.update(BOTH);
    assert!(discovery.flushed().await);
    let expected = HashSet::from([b.public_key(), c.public_key()]);
    assert_eq!(HashSet::from_iter(discovery.found().await), expected);
    assert!(is_alone(&b).await && is_alone(&c).await);

    a.release();
    for _ in 0..2 {
        let (connection, _) = accept(&a).await;
        let other = if connection.remote_public_key() == b.public_key() { &b } else { &c };
        assert!(connection.is_initiator());
        assert_eq!(accept(other).await.0.remote_public_key(), a.public_key());
    }
    a.leave(TOPIC).await;
    assert_eq!(discovery.found().await, [] as [PublicKey; 0]);
    for swarm in [&a, &b, &c] {
        swarm.destroy().await;
    }
    net.end().await;
}

#[tokio::test]
async fn who_dials_a_swarm_that_holds_its_dials_is_let_in() {
    let net = Net::new().await;
    let (a, b) = (net.swarm(1).await, net.swarm(2).await);
    a.hold();
    assert!(a.join(TOPIC, BOTH).flushed().await);
    b.join(TOPIC, CLIENT);
    meet(&a, &b).await;
    a.destroy().await;
    b.destroy().await;
    net.end().await;
}

#[tokio::test]
async fn a_limit_caps_those_who_are_dialled() {
    let net = Net::new().await;
    let mut servers = Vec::new();
    for seed in 10..14 {
        let server = net.swarm(seed).await;
        assert!(server.join(TOPIC, SERVER).flushed().await);
        servers.push(server);
    }
    let a = net.swarm(1).await;
    a.join(TOPIC, JoinOptions { limit: Some(2), ..CLIENT });
    assert!(a.flush().await);
    let (_first, _second) = (accept(&a).await, accept(&a).await);
    assert!(is_alone(&a).await);
    for swarm in servers.iter().chain([&a]) {
        swarm.destroy().await;
    }
    net.end().await;
}

#[tokio::test]
async fn more_connections_than_anybody_accepts_are_ended() {
    let net = Net::new().await;
    let dht = net.node().await;
    let a = net.swarm(1).await;
    a.listen().await.unwrap();
    let mut peers = Vec::new();
    for seed in 0..80u8 {
        let peer = Swarm::new(SwarmConfig::new(dht.clone(), KeyPair::from_seed(&[seed + 100; 32])));
        peer.join_peer(a.public_key());
        let (mut connection, _) = accept(&peer).await;
        peer.leave_peer(a.public_key());
        if seed >= 64 {
            assert!(connection.stream.recv().await.is_err(), "peer {seed}");
        }
        peers.push((peer, connection));
    }
    for _ in 0..64 {
        accept(&a).await;
    }
    assert!(is_alone(&a).await);
    for (peer, _) in peers {
        peer.destroy().await;
    }
    a.destroy().await;
    dht.destroy().await;
    net.end().await;
}
