//! A network between a hub and its database that loses everything without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hub::Hub;
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::postgres::Server;
use crate::shared::{database_of, start, watch_all};
use crate::support::Caller;
use crate::valve::Valve;

/// Far above what a hub needs to notice, or to come back.
const BOUND: Duration = Duration::from_secs(60);

/// What a hub says of itself once it says that.
async fn until_health(hub: &Hub, what: impl Fn(u16, &str) -> bool) -> Duration {
    let caller = Caller::new(hub.local_addr(), "h");
    let began = Instant::now();
    let said = async {
        loop {
            let (status, health) = caller.call(Method::GET, "/health", None).await;
            if what(status, health["status"].as_str().unwrap_or_default()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(BOUND, said).await.expect("said in time");
    began.elapsed()
}

#[tokio::test]
async fn a_hub_notices_that_its_database_is_gone_without_a_word_and_comes_back_by_itself() {
    let Some(server) = Server::start() else { return };
    let valve = Valve::start(server.address()).await;
    let url = database_of(&server).await;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let by_valve = format!("postgres://hub@{}/shared", valve.address);
    let apart = start(&dir.path().join("apart"), &by_valve).await.expect("a hub");
    let other = start(&dir.path().join("other"), &url).await.expect("a hub");
    let (a, b) = (Caller::new(apart.local_addr(), "a"), Caller::new(other.local_addr(), "b"));
    let (mut at_apart, mut at_other) = (watch_all(&a).await, watch_all(&b).await);
    // All connections that read are in use when it happens, at every point of that.
    let is_over = Arc::new(AtomicBool::new(false));
    let readers = (0..16).map(|_| {
        let (caller, is_over) = (Caller::new(apart.local_addr(), "r"), is_over.clone());
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let request = caller.http.get(format!("{}/tasks", caller.base)).header("x-actor-id", "r");
                let _ = request.send().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for _ in 0..3 {
        let id = a.make_task(json!({"title": "before"})).await;
        for listener in [&mut at_apart, &mut at_other] {
            assert_eq!(listener.next_event().await, ("task.created".into(), id));
        }
        valve.shut();
        let noticed = until_health(&apart, |status, _| status == 503).await;
        let refused = until_health(&apart, |_, status| status == "cannot write").await;
        let (status, said) = a.call(Method::POST, "/tasks", Some(json!({"title": "t"}))).await;
        assert_eq!(status, 503, "{said}");
        let told = b.make_task(json!({"title": "meanwhile"})).await;
        assert_eq!(at_other.next_event().await, ("task.created".into(), told));
        valve.open();
        let back = until_health(&apart, |status, _| status == 200).await;
        eprintln!("noticed after {noticed:?}, refused {refused:?} later; back {back:?} after the network");
        // Who watches there is told what it missed.
        let event = timeout(BOUND, at_apart.next_event()).await.expect("told in time");
        assert_eq!(event, ("task.created".into(), told));
        // Not one connection is missing for good.
        let reads = join_all((0..32).map(|_| a.call(Method::GET, "/tasks", None))).await;
        assert!(reads.iter().all(|(status, _)| *status == 200), "{reads:?}");
    }
    is_over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("ended");
    }
    apart.shutdown().await;
    other.shutdown().await;
}
