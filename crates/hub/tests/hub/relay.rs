//! The relay beside the hub, and whom it serves.

use std::convert::Infallible;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hub::{Hub, HubConfig, RelayAccess};
use hyperdht::Dht;
use hyperdht::connect::{ConnectError, ConnectOptions, ConnectionPath, Server, ServerOptions};
use reqwest::Method;
use secret_stream::{KeyPair, PublicKey};
use serde_json::{Value, json};

use crate::support::Caller;

/// A hub with a DHT at any ports.
async fn start(dir: &tempfile::TempDir, relay: RelayAccess) -> Hub {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = HubConfig { listen, dht_port: 0, relay, ..HubConfig::new(dir.path().join("hub")) };
    Hub::start(config).await.expect("a hub")
}

async fn agent(hub: &Hub) -> Dht {
    let bootstrap = hub.bootstrap().iter().map(|node| node.parse().expect("a node")).collect();
    let host = Ipv4Addr::LOCALHOST.into();
    let config =
        hyperdht::Config { port: 0, host, stays_firewalled: true, ..hyperdht::Config::private(bootstrap) };
    Dht::new(config).await.expect("a node")
}

/// Dials through the hub's relay alone, as the owner of `keys`; the server's key stands nowhere.
async fn dial(hub: &Hub, relay: PublicKey, keys: &KeyPair) -> Result<ConnectionPath, ConnectError> {
    let (home, client) = (agent(hub).await, agent(hub).await);
    let relay_through = Some(Arc::new(move || Some(relay)) as _);
    let options = ServerOptions { relay_through, direct: false, ..ServerOptions::default() };
    let mut server = home.listen(KeyPair::generate(), options).await.expect("a server");
    let options = ConnectOptions { key_pair: Some(keys.clone()), direct: false, ..ConnectOptions::default() };
    let connecting = client.connect(server.public_key(), options);
    let result = tokio::select! {
        result = connecting => result.map(|connection| connection.path()),
        never = hold_one(&mut server) => match never {},
    };
    home.destroy().await;
    client.destroy().await;
    result
}

/// Holds the connection that comes, until this is dropped.
async fn hold_one(server: &mut Server) -> Infallible {
    let _connection = server.accept().await;
    pending().await
}

fn p2p(keys: &KeyPair) -> Value {
    json!({ "version": 2, "key": hex::encode(keys.public_key()) })
}

#[tokio::test]
async fn the_relay_serves_the_peers_of_open_tasks() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = start(&dir, RelayAccess::Tasks).await;
    let relay = hub.relay().expect("a relay");
    let a = Caller::new(hub.local_addr(), "a");
    assert_eq!(a.get("/health").await["p2p"]["relay"], hex::encode(relay));

    let (offers, answers, stranger) = (KeyPair::generate(), KeyPair::generate(), KeyPair::generate());
    let task = a.make_task(json!({ "title": "offer", "payload": { "p2p": p2p(&offers) } })).await;
    let said = json!({ "transfer_id": "t", "p2p": p2p(&answers) }).to_string();
    let message = json!({ "parts": [{ "type": "data", "content": said }] });
    a.post(&format!("/tasks/{task}/messages"), message).await;
    let (by_offer, by_message) = tokio::join!(dial(&hub, relay, &offers), dial(&hub, relay, &answers));
    assert_eq!((by_offer, by_message), (Ok(ConnectionPath::Relayed), Ok(ConnectionPath::Relayed)));

    // Whom the relay does not serve waits fifteen seconds, so both wait together.
    a.post(&format!("/tasks/{task}/cancel"), json!({})).await;
    let (by_offer, by_nothing) = tokio::join!(dial(&hub, relay, &offers), dial(&hub, relay, &stranger));
    assert_eq!(by_offer, Err(ConnectError::RelayAborted), "the task is over");
    assert_eq!(by_nothing, Err(ConnectError::RelayAborted));
    hub.shutdown().await;
}

#[tokio::test]
async fn the_relay_serves_the_keys_on_its_allowlist() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = start(&dir, RelayAccess::Tasks).await;
    let (relay, keys) = (hub.relay().expect("a relay"), KeyPair::generate());
    let a = Caller::new(hub.local_addr(), "a");
    let request = json!({ "key": hex::encode(keys.public_key()) });
    assert_eq!(a.post("/p2p/guests", request.clone()).await["expires_in_ms"], 600_000);
    assert_eq!(dial(&hub, relay, &keys).await, Ok(ConnectionPath::Relayed));
    for wrong in [json!({}), json!({ "key": "ab" }), json!({ "key": "xy".repeat(32) })] {
        assert_eq!(a.call(Method::POST, "/p2p/guests", Some(wrong)).await.0, 400);
    }
    hub.shutdown().await;

    let hub = start(&dir, RelayAccess::Off).await;
    let a = Caller::new(hub.local_addr(), "a");
    assert_eq!(a.call(Method::POST, "/p2p/guests", Some(request)).await.0, 404);
    hub.shutdown().await;
}

#[tokio::test]
async fn the_relay_keeps_its_key_and_may_be_open_or_off() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = start(&dir, RelayAccess::Open).await;
    let relay = hub.relay().expect("a relay");
    assert_eq!(dial(&hub, relay, &KeyPair::generate()).await, Ok(ConnectionPath::Relayed));
    hub.shutdown().await;

    let hub = start(&dir, RelayAccess::Off).await;
    assert_eq!(hub.relay(), None);
    let health = Caller::new(hub.local_addr(), "a").get("/health").await;
    assert_eq!(health["p2p"].get("relay"), None);
    hub.shutdown().await;

    let hub = start(&dir, RelayAccess::Tasks).await;
    assert_eq!(hub.relay(), Some(relay));
    hub.shutdown().await;
}
