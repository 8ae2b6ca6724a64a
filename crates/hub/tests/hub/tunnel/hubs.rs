//! Where the tunnel is, as a hub says: alone, and where several share a database.

use std::time::Duration;

use hub::{PostgresUrl, TunnelAccess};
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{End, hub_for, task_of};
use crate::postgres::Server;
use crate::shared::database_of;
use crate::support::{PATIENCE, TestHub};

/// What a hub says of its network to a caller here.
async fn named(hub: &TestHub) -> Value {
    network_of(hub.caller("a").get("/health").await)
}

/// The network that a hub's health names, without the hub's version.
fn network_of(health: Value) -> Value {
    let mut p2p = health["p2p"].clone();
    p2p.as_object_mut().map(|p2p| p2p.remove("version"));
    p2p
}

#[tokio::test]
async fn a_hub_names_its_tunnel_to_who_may_use_it() {
    let elsewhere = |hub: &TestHub| hub.caller("a").elsewhere();
    let hub = TestHub::start().await;
    assert_eq!(named(&hub).await, json!({ "bootstrap": [], "tunnel": true }));
    assert_eq!(elsewhere(&hub).get("/health").await.get("p2p"), None);
    let hub = hub_for(TunnelAccess::Open).await;
    assert_eq!(network_of(elsewhere(&hub).get("/health").await), json!({ "tunnel": true }));
    let hub = hub_for(TunnelAccess::Off).await;
    assert_eq!(named(&hub).await, json!({ "bootstrap": [] }));
    let hub = TestHub::start_with(|config| {
        config.tunnel_url = hub::parse_public_url("https://hub-1.example/");
    })
    .await;
    assert_eq!(named(&hub).await, json!({ "bootstrap": [], "tunnel": "https://hub-1.example" }));
    // By that name it may be called, and is in what is signed.
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    task_of(&hub.caller("a"), &[&a, &b]).await;
    let address = hub.hub.local_addr();
    let mut one = End::open(address, &a, b.public_key()).await;
    one.prove(&a, a.public_key(), b.public_key(), "hub-1.example").await;
    let other = End::enter(address, &b, a.public_key()).await;
    tokio::join!(one.joined(), other.joined());
}

#[tokio::test]
async fn peers_of_two_hubs_on_one_database_meet_at_one_of_them() {
    let Some(server) = Server::start() else { return };
    let url = database_of(&server).await;
    let database = || Some(PostgresUrl::parse(&url).expect("a URL"));
    let one = TestHub::start_with(|config| config.database = database()).await;
    let two = TestHub::start_with(|config| {
        config.database = database();
        config.tunnel_url = hub::parse_public_url("https://hub-2.example");
    })
    .await;
    let without = TestHub::start_with(|config| {
        config.database = database();
        config.tunnel = TunnelAccess::Off;
    })
    .await;
    let of_one = one.hub.urls().first().expect("a URL").clone();
    let of_two = "https://hub-2.example".to_owned();
    let mut all = vec![of_one.clone(), of_two.clone()];
    all.sort();
    let are_named = async {
        for (hub, own) in [(&one, of_one), (&two, of_two)] {
            while named(hub).await != json!({ "bootstrap": [], "tunnel": own, "tunnels": all }) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    timeout(3 * PATIENCE, are_named).await.expect("named in time");
    assert_eq!(named(&without).await, json!({ "bootstrap": [] }));

    // The task is made at one, its message at the other, and both peers come to the first.
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let task = task_of(&one.caller("a"), &[&a]).await;
    let address = one.hub.local_addr();
    let waits = End::enter(address, &a, b.public_key()).await;
    let comes = End::enter(address, &b, a.public_key()).await;
    super::name_in(&two.caller("b"), task, &b).await;
    tokio::join!(waits.joined(), comes.joined());
    for hub in [one, two, without] {
        hub.hub.shutdown().await;
    }
}
