//! How many tasks a second the hub makes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hub::Hub;
use serde_json::json;

use crate::client::Client;
use crate::figures::Times;
use crate::{Plan, disk};

pub(crate) async fn run(plan: &Plan) {
    let dir = tempfile::tempdir_in(&plan.data).expect("a temporary folder");
    let mut syncs = disk::sync_times(dir.path());
    let hub = Hub::start(plan.hub(dir.path())).await.expect("a hub");
    let before = total(&hub).await;
    let until = Instant::now() + plan.time;
    let makers: Vec<_> =
        (0..plan.connections).map(|n| tokio::spawn(make_tasks(hub.local_addr(), n, until))).collect();
    let started = Instant::now();
    let mut times = Times::default();
    for maker in makers {
        times.extend(maker.await.expect("a maker"));
    }
    let rate = times.count() as f64 / started.elapsed().as_secs_f64();
    println!(
        "creates: {rate:.0} a second over {} connections, {}; one sync of the disk: {}",
        plan.connections,
        times.summary(),
        syncs.summary()
    );
    // Each that was answered is there.
    assert_eq!(total(&hub).await - before, i64::try_from(times.count()).expect("a number"));
    hub.shutdown().await;
}

/// How many tasks the hub has.
async fn total(hub: &Hub) -> i64 {
    let stats = Client::connect(hub.local_addr(), "reader").await.json("GET", "/tasks/stats", "").await;
    stats["stats"]["total"].as_i64().expect("a number")
}

/// Makes one offer after the other.
async fn make_tasks(hub: SocketAddr, n: usize, until: Instant) -> Times {
    let actor = format!("agent-{n}");
    let mut client = Client::connect(hub, &actor).await;
    let mut times = Times::default();
    for count in 0.. {
        let started = Instant::now();
        if started >= until {
            break;
        }
        client.json("POST", "/tasks", &offer(&actor, n, count)).await;
        times.add(started.elapsed());
    }
    times
}

/// An offer as one of ours makes it.
pub(crate) fn offer(actor: &str, n: usize, count: u64) -> String {
    let key = format!("{n:032x}{count:032x}");
    let expires_at = time::OffsetDateTime::now_utc() + Duration::from_secs(3600);
    let expires_at = expires_at.format(&time::format_description::well_known::Rfc3339).expect("a time");
    json!({
        "title": format!("file {count} of {actor}"),
        "type": "file_offer",
        "channel": "p2p-transfer",
        "payload": {
            "transfer_id": format!("{n:08x}-0000-4000-8000-{count:012x}"),
            "filename": format!("data-{count}.csv"),
            "size": 1_000_000,
            "hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sender_id": actor,
            "recipient_id": "b",
            "expires_at": expires_at,
            "p2p": { "version": 2, "key": key, "nodes": ["127.0.0.1:49737"], "instance": "0".repeat(32) },
        },
    })
    .to_string()
}
