//! A disk that was full: the hub says so, keeps what it acknowledged, and goes on once there is room.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::support::{Caller, PATIENCE, start_in};

/// How long the hub may take to write again once there is room.
const RECOVERY: Duration = Duration::from_secs(2);
/// How often the disk is filled and freed.
const ROUNDS: usize = 20;
/// Names the folder of the small file system, in the process that has it.
const DISK: &str = "HUB_SMALL_DISK";

/// SQLite rolls a transaction back by itself where the disk is full; the hub used to go on in the belief that
/// it was still in one, and answered every change with 500 until it was restarted.
#[test]
fn a_disk_that_was_full_is_said_so_and_written_again_once_there_is_room() {
    if let Some(disk) = std::env::var_os(DISK) {
        return Runtime::new().expect("a runtime").block_on(fill_and_free(Path::new(&disk)));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    // The file system goes with the namespace, and that with the process.
    let script = "mount -t tmpfs -o size=96m hub-test \"$HUB_SMALL_DISK\" || exit 77; exec \"$@\"";
    let run = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", "full_disk::a_disk_that_was_full_is_said_so_and_written_again_once_there_is_room"])
        .arg("--nocapture")
        .env(DISK, dir.path())
        .output();
    match run {
        Ok(run) if run.status.success() => {
            let said = String::from_utf8_lossy(&run.stdout);
            assert!(said.contains("1 passed"), "{said}");
        }
        Ok(run)
            if run.status.code() == Some(77) || String::from_utf8_lossy(&run.stderr).contains("unshare") =>
        {
            eprintln!("skipped: only root can mount a small file system");
        }
        Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => eprintln!("skipped: no unshare: {error}"),
    }
}

async fn fill_and_free(disk: &Path) {
    let hub = start_in(disk, 0).await;
    let a = Caller::new(hub.local_addr(), "a");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let ballast = disk.join("ballast");
        fill(&ballast);
        let refusal = loop {
            match make_task(&a, 100_000).await {
                (201, answer) => acknowledged.push(answer["task"]["id"].as_i64().expect("an id")),
                refused => break refused,
            }
        };
        assert_eq!(refusal.0, 503, "{}", refusal.1);
        assert!(refusal.1["error"].as_str().is_some_and(|error| error.contains("full")), "{}", refusal.1);
        // What is there can still be read, and it is said what can't be done.
        let (status, health) = a.call(Method::GET, "/health", None).await;
        assert_eq!(status, 503, "{health}");
        assert!(health["reason"].as_str().is_some_and(|reason| reason.contains("full")), "{health}");
        a.get("/tasks?limit=1").await;

        std::fs::remove_file(&ballast).expect("removed");
        let freed = Instant::now();
        let id = timeout(PATIENCE, async {
            loop {
                if let (201, answer) = make_task(&a, 10).await {
                    break answer["task"]["id"].as_i64().expect("an id");
                }
            }
        })
        .await
        .expect("written in time");
        acknowledged.push(id);
        let took = freed.elapsed();
        eprintln!("round {round}: written again after {} ms", took.as_millis());
        assert!(took < RECOVERY, "round {round}: {took:?}");
        assert_eq!(a.get("/health").await["status"], "ok");
    }
    for id in &acknowledged {
        a.get(&format!("/tasks/{id}")).await;
    }
    hub.shutdown().await;
    let hub = start_in(disk, 0).await;
    let a = Caller::new(hub.local_addr(), "a");
    for id in &acknowledged {
        a.get(&format!("/tasks/{id}")).await;
    }
    hub.shutdown().await;
}

async fn make_task(caller: &Caller, bytes: usize) -> (u16, Value) {
    let body = json!({ "title": "t", "payload": { "x": "x".repeat(bytes) } });
    caller.call(Method::POST, "/tasks", Some(body)).await
}

/// Writes a file until nothing more fits.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).expect("made");
    for size in [1 << 20, 1 << 12, 1] {
        let zeros = vec![0; size];
        while file.write_all(&zeros).is_ok() {}
    }
}
