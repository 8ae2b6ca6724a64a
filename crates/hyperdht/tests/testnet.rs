//! Nodes of ours among themselves, over real sockets.

use std::time::Duration;

use hyperdht::testnet::{bootstrap_of, testnet};
use hyperdht::{AnnounceOptions, Config, Dht};
use secret_stream::KeyPair;

/// Nothing here should take longer, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("done in time")
}

async fn client(nodes: &[Dht]) -> Dht {
    let bootstrap = nodes.iter().map(|node| bootstrap_of(node).unwrap()).collect();
    let host = std::net::Ipv4Addr::LOCALHOST.into();
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
