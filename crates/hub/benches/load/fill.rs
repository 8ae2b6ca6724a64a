//! How much memory the hub takes while it makes many tasks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hub::Hub;

use crate::Plan;
use crate::client::Client;
use crate::creates::offer;

/// How many times the memory is looked at, the tasks having grown by as many each time.
const LOOKS: u64 = 10;
/// How much more memory there may be at the end than when a tenth of the tasks was made, MiB; only `cargo
/// bench` is held to it.
const TARGET: f64 = 16.0;

pub(crate) async fn run(plan: &Plan) {
    let dir = tempfile::tempdir_in(&plan.data).expect("a temporary folder");
    let hub = Hub::start(plan.hub(dir.path())).await.expect("a hub");
    let Some(before) = resident() else {
        println!("fill: this system does not say how much memory a process takes");
        return hub.shutdown().await;
    };
    let started = Instant::now();
    let made = Arc::new(AtomicU64::new(0));
    let mut taken = Vec::new();
    for look in 1..=LOOKS {
        let until = plan.tasks * look / LOOKS;
        let makers: Vec<_> = (0..plan.connections)
            .map(|n| tokio::spawn(make_tasks(hub.local_addr(), n, made.clone(), until)))
            .collect();
        for maker in makers {
            maker.await.expect("a maker");
        }
        // Those that stopped had each begun one more than there should be.
        made.store(until, Ordering::Relaxed);
        taken.extend(resident());
    }
    let seconds = started.elapsed().as_secs_f64();
    let shown: Vec<String> = taken.iter().map(|mib| format!("{mib:.0}")).collect();
    println!(
        "fill: {} tasks in {seconds:.0} s; memory before: {before:.0} MiB, after each tenth: {} MiB",
        plan.tasks,
        shown.join(", ")
    );
    let grown = taken.last().zip(taken.first()).map_or(0.0, |(last, first)| last - first);
    if plan.tasks >= 100_000 {
        println!("fill: {grown:.0} MiB more at the end than after a tenth, {TARGET} at most are asked");
    }
    hub.shutdown().await;
}

async fn make_tasks(hub: SocketAddr, n: usize, made: Arc<AtomicU64>, until: u64) {
    let actor = format!("agent-{n}");
    let mut client = Client::connect(hub, &actor).await;
    loop {
        let count = made.fetch_add(1, Ordering::Relaxed);
        if count >= until {
            return;
        }
        client.json("POST", "/tasks", &offer(&actor, n, count)).await;
    }
}

/// How much memory this process takes, MiB.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
