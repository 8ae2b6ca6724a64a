//! Nodes of ours among themselves, over real sockets.

use std::net::Ipv4Addr;
use std::time::Duration;

use hyperdht::testnet::{bootstrap_of, testnet};
use hyperdht::{AnnounceOptions, Config, Dht, Error, RequestError};
use secret_stream::KeyPair;

/// Nothing here should take longer, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("done in time")
}

async fn client(nodes: &[Dht]) -> Dht {
    let bootstrap = nodes.iter().map(|node| bootstrap_of(node).unwrap()).collect();
    let host = Ipv4Addr::LOCALHOST.into();
    Dht::new(Config { host, port: 0, ..Config::private(bootstrap) }).await.unwrap()
}

#[tokio::test]
async fn a_topic_is_announced_looked_up_and_withdrawn() {
    within(async {
        let nodes = testnet(4).await.unwrap();
        let (server, seeker) = (client(&nodes[..1]).await, client(&nodes).await);
        server.ready().await.unwrap();
        let (topic, key_pair) = ([7; 32], KeyPair::generate());
        let relay = "127.0.0.1:4000".parse().unwrap();

        let announce = server.announce(topic, &key_pair, &[relay], AnnounceOptions::default());
        let closest = announce.finish().await.unwrap();
        assert_eq!(closest.len(), 4);

        let mut lookup = seeker.lookup(topic, Vec::new());
        let mut answers = 0;
        while let Some(answer) = lookup.next().await {
            answers += 1;
            assert_eq!(answer.peers.len(), 1);
            assert_eq!(answer.peers[0].public_key, key_pair.public_key());
            assert_eq!(answer.peers[0].relay_addresses, [relay]);
        }
        assert_eq!(answers, 4);

        server.unannounce(topic, &key_pair, closest).finish().await.unwrap();
        assert_eq!(seeker.lookup(topic, Vec::new()).next().await, None);
        for node in nodes.iter().chain([&server, &seeker]) {
            node.destroy().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_size_of_packets_is_told_where_a_node_answers() {
    within(async {
        let nodes = testnet(2).await.unwrap();
        let client = client(&nodes[..1]).await;
        let node = nodes[1].local_addr().unwrap().to_string().parse().unwrap();
        assert_eq!(client.packet_size_to(node).await, Some(1500));
        nodes[1].destroy().await;
        assert_eq!(client.packet_size_to(node).await, None);
        for node in [&nodes[0], &client] {
            node.destroy().await;
        }
    })
    .await;
}

#[tokio::test]
async fn values_are_stored_and_found() {
    within(async {
        let nodes = testnet(4).await.unwrap();
        let client = client(&nodes[..1]).await;
        let hash = client.immutable_put("hello").await.unwrap();
        assert_eq!(client.immutable_get(hash).await.unwrap().unwrap(), "hello");
        assert_eq!(client.immutable_get([1; 32]).await.unwrap(), None);

        let key_pair = KeyPair::generate();
        let public_key = key_pair.public_key();
        client.mutable_put(&key_pair, 1, "one").await.unwrap();
        client.mutable_put(&key_pair, 2, "two").await.unwrap();
        client.mutable_put(&key_pair, 1, "one").await.unwrap_err();
        let record = client.mutable_get(&public_key, 0).await.unwrap().unwrap();
        assert_eq!((record.seq, &record.value[..]), (2, &b"two"[..]));
        assert!(client.mutable_get(&public_key, 3).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_suspended_node_comes_back_at_its_port() {
    within(async {
        let nodes = testnet(3).await.unwrap();
        let client = client(&nodes[..1]).await;
        client.ready().await.unwrap();
        let addr = client.local_addr();
        client.suspend().await;
        assert_eq!(client.local_addr(), None);
        assert!(matches!(client.find_node([1; 32]).finish().await, Err(RequestError::Suspended)));
        assert!(matches!(client.immutable_put("x").await, Err(Error::Suspended)));
        client.resume().await.unwrap();
        assert_eq!(client.local_addr(), addr);
        assert_eq!(client.find_node([1; 32]).finish().await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_node_ends_when_told_to_and_frees_its_port() {
    within(async {
        let node = Dht::bootstrapper(0, Ipv4Addr::LOCALHOST).await.unwrap();
        let addr = node.local_addr().unwrap();
        let taken = Dht::bootstrapper(addr.port(), Ipv4Addr::LOCALHOST).await;
        assert!(matches!(taken, Err(Error::Bind(_))));
        let waiting = client(std::slice::from_ref(&node)).await;
        node.destroy().await;
        assert!(matches!(node.find_node([1; 32]).finish().await, Err(RequestError::Destroyed)));
        assert!(matches!(node.immutable_put("x").await, Err(Error::Destroyed)));
        assert!(node.network().borrow().destroyed);
        node.destroy().await;
        Dht::bootstrapper(addr.port(), Ipv4Addr::LOCALHOST).await.unwrap();
        drop(waiting);
    })
    .await;
}

/// Whoever forgets to destroy a node leaves nothing behind.
#[tokio::test]
async fn a_node_ends_with_its_last_handle() {
    within(async {
        let node = Dht::bootstrapper(0, Ipv4Addr::LOCALHOST).await.unwrap();
        let (addr, mut network) = (node.local_addr().unwrap(), node.network());
        drop(node.clone());
        assert!(!network.borrow().destroyed);
        drop(node);
        // The task says so last, and then its end of the channel goes.
        while network.changed().await.is_ok() {}
        assert!(network.borrow().destroyed);
        Dht::bootstrapper(addr.port(), Ipv4Addr::LOCALHOST).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_node_finds_a_port_where_the_wished_one_is_taken() {
    within(async {
        let first = Dht::bootstrapper(0, Ipv4Addr::LOCALHOST).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let config = Config { host: Ipv4Addr::LOCALHOST.into(), port, ..Config::private(Vec::new()) };
        let second = Dht::new(config).await.unwrap().local_addr().unwrap().port();
        assert_ne!(second, port);
    })
    .await;
}

/// The name is looked up where nobody answers at the IP.
#[tokio::test]
async fn a_bootstrap_node_that_moved_is_found_by_name() {
    within(async {
        let nodes = testnet(2).await.unwrap();
        let port = nodes[0].local_addr().unwrap().port();
        let moved = format!("127.0.0.2@localhost:{port}").parse().unwrap();
        let host = Ipv4Addr::LOCALHOST.into();
        let config = Config { host, port: 0, ..Config::private(vec![moved]) };
        let client = Dht::new(config).await.unwrap();
        assert_eq!(client.find_node([1; 32]).finish().await.unwrap().len(), 2);
    })
    .await;
}
