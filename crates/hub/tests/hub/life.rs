//! Starting, restarting and ending a hub.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use hub::{Error, Hub, HubConfig};
use hyperdht::{AnnounceOptions, Dht};
use reqwest::Method;
use secret_stream::KeyPair;
use serde_json::json;
use tokio::time::timeout;

use crate::database;
use crate::support::{Caller, PATIENCE, TestHub, config, rfc3339, start_in};

#[tokio::test]
async fn a_restart_keeps_everything_and_ends_what_ran_out() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let mut subscriber = a.subscribe(json!({"type": "subscribe"})).await;
    let short = a.make_task(json!({"title": "short", "payload": {"ü": [1, null]}})).await;
    let long = a.make_task(json!({"title": "long"})).await;
    b.post(&format!("/tasks/{short}/messages"), json!({"parts": [{"type": "text", "content": "m"}]})).await;
    b.post(&format!("/tasks/{long}/claim"), json!({"lease_duration": 60_000})).await;
    let before = b.post(&format!("/tasks/{short}/claim"), json!({"lease_duration": 1})).await;
    assert_eq!(before["task"]["status"], "in_progress");
    while subscriber.next_event().await.0 != "task.claimed" {}

    let hub = hub.restart().await;
    let a = hub.caller("a");
    let task = &a.get(&format!("/tasks/{short}")).await["task"];
    assert_eq!((&task["status"], &task["payload"]), (&json!("pending"), &json!({"ü": [1, null]})));
    assert_eq!(task["messages"][0]["parts"][0]["content"], "m");
    assert_eq!(a.get("/tasks?status=pending").await["count"], 1);
    let task = &a.get(&format!("/tasks/{long}")).await["task"];
    assert_eq!((&task["status"], &task["assignee_id"]), (&json!("in_progress"), &json!("b")));
    // Numbers are not used twice.
    assert_eq!(a.make_task(json!({"title": "next"})).await, long + 1);
    hub.hub.shutdown().await;
}

#[tokio::test]
async fn an_offer_that_expired_while_no_hub_was_running_has_been_ended_by_the_first_answer() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let in_an_hour = rfc3339(SystemTime::now() + Duration::from_secs(3600));
    for title in ["expired", "open"] {
        let payload = json!({ "expires_at": in_an_hour });
        a.make_task(json!({ "title": title, "type": "file_offer", "payload": payload })).await;
    }
    let TestHub { hub, dir } = hub;
    hub.shutdown().await;
    // As if the first had been made yesterday.
    let a_day_older = "UPDATE tasks SET created_at = created_at - 86400000, \
         updated_at = updated_at - 86400000, due = due - 86400000, \
         payload = '{\"expires_at\":\"2000-01-01T00:00:00Z\"}' \
         WHERE title = 'expired'";
    database::edit(dir.path(), a_day_older).await;
    let hub = start_in(dir.path(), 0).await;
    let a = Caller::new(hub.local_addr(), "a");
    assert_eq!(a.get("/tasks?status=cancelled").await["tasks"][0]["title"], "expired");
    assert_eq!(a.get("/tasks?status=pending").await["tasks"][0]["title"], "open");
    hub.shutdown().await;
}

#[tokio::test]
async fn the_open_tasks_of_a_database_of_version_1_end_in_time_too() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join("hub")).expect("a folder");
    let version_1 = concat!(
        include_str!("../../migrations/1.sql"),
        "INSERT INTO organizations (slug, name, created_at) VALUES ('default', 'd', 0);
         INSERT INTO projects (organization_id, slug, name, created_at) VALUES (1, 'main', 'm', 0);
         INSERT INTO tasks (project_id, title, type, channel, priority, status, lease_expires, payload,
             outputs, source_type, source_id, source_name, created_at, updated_at)
         VALUES (1, 'offer', 'file_offer', 'c', 5, 'pending', NULL,
                 '{\"expires_at\":\"2000-01-01T00:00:00Z\"}', '[]', 'agent', 'a', 'A', 0, 0),
             (1, 'claimed', 'file_offer', 'c', 5, 'in_progress', 1, '{}', '[]', 'agent', 'a', 'A', 0, 0),
             (1, 'work', 'file_offer', 'c', 5, 'pending', NULL, '{}', '[]', 'agent', 'a', 'A', 0, 0);
         UPDATE tasks SET created_at = unixepoch() * 1000, updated_at = unixepoch() * 1000;
         PRAGMA user_version = 1;"
    );
    database::edit(dir.path(), version_1).await;
    let hub = start_in(dir.path(), 0).await;
    let a = Caller::new(hub.local_addr(), "a");
    for (id, status) in [(1, "cancelled"), (2, "pending"), (3, "pending")] {
        assert_eq!(a.get(&format!("/tasks/{id}")).await["task"]["status"], status, "task {id}");
    }
    hub.shutdown().await;
    // The tables are those of this version now.
    start_in(dir.path(), 0).await.shutdown().await;
}

/// The writer used to find such a row, to see nothing to do, and to look again for ever.
#[tokio::test]
async fn a_row_with_a_lease_that_is_not_in_progress_holds_nothing_up() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    for title in ["ended", "pending"] {
        let id = a.make_task(json!({ "title": title })).await;
        b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    }
    let TestHub { hub, dir } = hub;
    hub.shutdown().await;
    let contradictory = "UPDATE tasks SET lease_expires = 1; \
         UPDATE tasks SET due = 1; \
         UPDATE tasks SET status = 'completed' WHERE title = 'ended'; \
         UPDATE tasks SET status = 'pending' WHERE title = 'pending'";
    database::edit(dir.path(), contradictory).await;
    let hub = timeout(PATIENCE, start_in(dir.path(), 0)).await.expect("a hub in time");
    let a = Caller::new(hub.local_addr(), "a");
    assert_eq!(a.get("/tasks?status=completed").await["tasks"][0]["title"], "ended");
    assert_eq!(a.get("/tasks?status=pending").await["tasks"][0]["title"], "pending");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_hub_that_was_dropped_without_a_word_has_lost_nothing() {
    let hub = TestHub::start().await;
    let id = hub.caller("a").make_task(json!({"title": "t"})).await;
    let TestHub { hub, dir } = hub;
    drop(hub);
    // Its folder is free again once its last work is done.
    let hub = loop {
        match Hub::start(config(dir.path(), 0).await).await {
            Ok(hub) => break hub,
            Err(Error::FolderInUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let caller = Caller::new(hub.local_addr(), "a");
    assert_eq!(caller.get(&format!("/tasks/{id}")).await["task"]["title"], "t");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_folder_or_an_address_in_use_is_said_so() {
    let first = TestHub::start().await;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let data = first.dir.path().join("hub");
    let error =
        Hub::start(HubConfig { listen, dht: false, ..HubConfig::new(data) }).await.expect_err("in use");
    assert!(error.to_string().contains("--data"), "{error}");

    let dir = tempfile::tempdir().expect("a temporary folder");
    let listen = first.hub.local_addr();
    let data = dir.path().join("hub");
    let error =
        Hub::start(HubConfig { listen, dht: false, ..HubConfig::new(data) }).await.expect_err("in use");
    assert!(error.to_string().contains("--listen"), "{error}");
    // The failed start holds on to nothing.
    start_in(dir.path(), 0).await.shutdown().await;
}

#[tokio::test]
async fn health_tells_that_it_is_well() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let health = a.get("/health").await;
    assert_eq!(health["status"], "ok");
    assert!(health["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{health}");
    assert_eq!(
        health["p2p"],
        json!({ "bootstrap": [], "tunnel": true, "version": env!("CARGO_PKG_VERSION") }),
        "it has no DHT"
    );
    assert_eq!(a.call(Method::POST, "/health", None).await.0, 405);
}

#[tokio::test]
async fn the_dht_beside_the_hub_works_and_keeps_its_ports() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = HubConfig { listen, dht_port: 0, ..HubConfig::new(dir.path().join("hub")) };
    let hub = Hub::start(config.clone()).await.expect("a hub");
    let bootstrap = hub.bootstrap();
    assert_eq!(bootstrap.len(), 4);
    let health = Caller::new(hub.local_addr(), "a").get("/health").await;
    assert_eq!(health["p2p"]["bootstrap"], json!(bootstrap));

    // Two agents that know nothing but the hub find each other.
    let key_pair = KeyPair::generate();
    let topic = [7; 32];
    let agent = |port| hyperdht::Config {
        port,
        host: Ipv4Addr::LOCALHOST.into(),
        ..hyperdht::Config::private(bootstrap.iter().map(|node| node.parse().expect("a node")).collect())
    };
    let one = Dht::new(agent(0)).await.expect("a node");
    let two = Dht::new(agent(0)).await.expect("a node");
    one.ready().await.expect("ready");
    two.ready().await.expect("ready");
    let announcing = one.announce(topic, &key_pair, &[], AnnounceOptions::default());
    announcing.finish().await.expect("announced");
    let mut lookup = two.lookup(topic, Vec::new());
    let mut found = 0;
    while let Some(answer) = lookup.next().await {
        found += answer.peers.iter().filter(|peer| peer.public_key == key_pair.public_key()).count();
    }
    assert!(found >= 3, "{found} nodes of four know the announcement");
    one.destroy().await;
    two.destroy().await;

    hub.shutdown().await;
    let hub = Hub::start(config).await.expect("a hub");
    assert_eq!(hub.bootstrap(), bootstrap);
    hub.shutdown().await;
}

#[tokio::test]
async fn dht_ports_that_are_taken_are_passed_over() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = HubConfig { listen, dht_port: port, ..HubConfig::new(dir.path().join("hub")) };
    let hub = Hub::start(config).await.expect("a hub");
    let ports: Vec<String> = hub.bootstrap();
    assert_eq!(ports.len(), 4);
    assert!(!ports.contains(&format!("127.0.0.1:{port}")), "{ports:?}");
    hub.shutdown().await;
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    for n in 0..50 {
        a.make_task(json!({"title": n.to_string()})).await;
    }
    b.post("/tasks/50/claim", json!({})).await;
    // The files as a kill at this moment would leave them.
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join("hub")).expect("a folder");
    for name in ["hub.sqlite", "hub.sqlite-wal"] {
        let (from, to) = (hub.dir.path().join("hub").join(name), dir.path().join("hub").join(name));
        std::fs::copy(from, to).expect("copied");
    }
    let second = start_in(dir.path(), 0).await;
    let caller = Caller::new(second.local_addr(), "a");
    assert_eq!(caller.get("/tasks?status=pending").await["count"], 49);
    assert_eq!(caller.get("/tasks/50").await["task"]["assignee_id"], "b");
    second.shutdown().await;
    hub.hub.shutdown().await;
}
