//! Starting, restarting and ending a hub.

use std::net::SocketAddr;

use ats_p2p::hub::{Error, Hub, HubConfig};
use reqwest::Method;
use serde_json::json;

use crate::support::{Caller, TestHub, start_in};

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
async fn a_hub_that_was_dropped_without_a_word_has_lost_nothing() {
    let hub = TestHub::start().await;
    let id = hub.caller("a").make_task(json!({"title": "t"})).await;
    let TestHub { hub, dir } = hub;
    drop(hub);
    // Its folder is free again once its last work is done.
    let hub = loop {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        match Hub::start(HubConfig { listen, data: dir.path().join("hub"), dht: false }).await {
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
    let error = Hub::start(HubConfig { listen, data, dht: false }).await.expect_err("in use");
    assert!(error.to_string().contains("--data"), "{error}");

    let dir = tempfile::tempdir().expect("a temporary folder");
    let listen = first.hub.local_addr();
    let data = dir.path().join("hub");
    let error = Hub::start(HubConfig { listen, data, dht: false }).await.expect_err("in use");
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
    assert_eq!(health.get("p2p"), None);
    assert_eq!(a.call(Method::POST, "/health", None).await.0, 405);
}
