//! The DHTs of hubs on one database.

use std::path::Path;
use std::time::Duration;

use hub::{Hub, HubConfig, PostgresUrl};
use hyperdht::{Config, Dht};
use serde_json::Value;
use tokio::time::timeout;

use crate::postgres::Server;
use crate::shared::database_of;
use crate::support::{Caller, PATIENCE};

/// A hub with a DHT.
async fn start(folder: &Path, url: &str) -> Hub {
    let database = Some(PostgresUrl::parse(url).expect("a URL"));
    let listen = ([127, 0, 0, 1], 0).into();
    let config = HubConfig { listen, dht_port: 0, database, ..HubConfig::new(folder) };
    Hub::start(config).await.expect("a hub")
}

/// Where a hub says that the nodes are.
async fn named(hub: &Hub) -> Vec<String> {
    let health = Caller::new(hub.local_addr(), "a").get("/health").await;
    let nodes = health["p2p"]["bootstrap"].as_array().expect("nodes");
    nodes.iter().map(|node| node.as_str().expect("text").to_owned()).collect()
}

/// Waits until it names these.
async fn until_named(hub: &Hub, nodes: &[Vec<String>]) {
    let mut expected = nodes.concat();
    expected.sort();
    let named = async {
        loop {
            let mut now = named(hub).await;
            now.sort();
            if now == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(3 * PATIENCE, named).await.expect("named in time");
}

/// Somebody on the network of these nodes.
async fn somebody(nodes: &[String]) -> Dht {
    let nodes = nodes.iter().map(|node| node.parse().expect("an address")).collect();
    Dht::new(Config::private(nodes)).await.expect("a node")
}

/// Waits until what somebody at the nodes of one hub leaves there is found by somebody at those of another.
async fn until_one_network(here: &[String], there: &[String]) {
    let found = async {
        loop {
            let (one, other) = (somebody(here).await, somebody(there).await);
            let id = one.immutable_put(format!("from {here:?}")).await.expect("put");
            let found = other.immutable_get(id).await.expect("asked");
            one.destroy().await;
            other.destroy().await;
            if found.is_some() {
                return;
            }
        }
    };
    timeout(3 * PATIENCE, found).await.expect("found in time");
}

#[tokio::test]
async fn the_agents_of_hubs_on_one_database_find_each_other() {
    let Some(server) = Server::start() else { return };
    let url = database_of(&server).await;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = |name: &str| dir.path().join(name);
    // Two at once, so that neither knows of the other when it begins, and one later.
    let (one, two) = (folder("one"), folder("two"));
    let (one, two) = tokio::join!(start(&one, &url), start(&two, &url));
    let (of_one, of_two) = (one.bootstrap(), two.bootstrap());
    assert!(of_one.len() == 4 && of_one.iter().all(|node| !of_two.contains(node)));
    until_named(&one, &[of_one.clone(), of_two.clone()]).await;
    until_named(&two, &[of_one.clone(), of_two.clone()]).await;
    until_one_network(&of_one, &of_two).await;
    until_one_network(&of_two, &of_one).await;
    let three = start(&folder("three"), &url).await;
    let of_three = three.bootstrap();
    until_named(&three, &[of_one.clone(), of_two.clone(), of_three.clone()]).await;
    until_one_network(&of_three, &of_one).await;
    until_one_network(&of_two, &of_three).await;
    // Those that end say so.
    three.shutdown().await;
    two.shutdown().await;
    until_named(&one, &[of_one]).await;
    one.shutdown().await;
}

#[tokio::test]
async fn what_is_no_address_or_was_said_long_ago_names_nobody() {
    let Some(server) = Server::start() else { return };
    let url = database_of(&server).await;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = start(&dir.path().join("hub"), &url).await;
    let own = hub.bootstrap();
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("connected");
    for (id, age, nodes) in [
        ("a", 0, "no JSON".to_owned()),
        ("b", 0, Value::from(vec!["\u{1b}[2J:1", "a b:1", &"x".repeat(300)]).to_string()),
        // From the loopback address no other one is reached.
        ("c", 0, Value::from(vec!["192.0.2.1:1", "name.example:1"]).to_string()),
        // That one was killed.
        ("d", 21_000, Value::from(vec!["127.0.0.1:8"]).to_string()),
        ("e", -600_000, Value::from(vec!["127.0.0.1:9"]).to_string()),
    ] {
        sqlx::query("INSERT INTO hubs VALUES ($1, $2, (EXTRACT(EPOCH FROM now()) * 1000)::BIGINT - $3)")
            .bind(id)
            .bind(nodes)
            .bind(age)
            .execute(&mut connection)
            .await
            .expect("written");
    }
    until_named(&hub, &[own.clone(), vec!["127.0.0.1:9".to_owned()]]).await;
    hub.shutdown().await;
}
