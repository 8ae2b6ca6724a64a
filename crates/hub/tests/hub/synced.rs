//! The order of system calls: no answer and no event leaves the hub before its change is synced.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::{Caller, start_in};

/// Names the folder of the hub, in the process that is traced.
const TRACED: &str = "HUB_TRACED";
const TEST: &str = "synced::nothing_is_answered_or_told_before_it_is_on_the_disk";

#[test]
fn nothing_is_answered_or_told_before_it_is_on_the_disk() {
    if let Some(folder) = std::env::var_os(TRACED) {
        return Runtime::new().expect("a runtime").block_on(serve(Path::new(&folder)));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let trace = dir.path().join("trace");
    let Some(mut hub) = start_traced(dir.path(), &trace) else { return };
    let mut output = BufReader::new(hub.stdout.take().expect("its output"));
    let address = loop {
        let mut line = String::new();
        if output.read_line(&mut line).expect("a line") == 0 {
            eprintln!("skipped: this process cannot be traced here");
            return;
        }
        // The test runner's own words stand before it, on the same line.
        if let Some((_, address)) = line.split_once("address ") {
            break address.trim().parse().expect("an address");
        }
    };
    Runtime::new().expect("a runtime").block_on(async {
        let a = Caller::new(address, "a");
        let mut listener = a.subscribe(json!({"type": "subscribe"})).await;
        // One at a time: what is written for the next change is not what the last one waits for.
        for _ in 0..20 {
            let id = a.make_task(json!({"title": "t"})).await;
            listener.next_event().await;
            a.post(&format!("/tasks/{id}/claim"), json!({})).await;
            listener.next_event().await;
        }
    });
    // It ends when its input does.
    drop(hub.stdin.take());
    output.read_to_end(&mut Vec::new()).expect("its end");
    assert!(hub.wait().expect("ended").success());
    let trace = std::fs::read(trace).expect("a trace");
    let seen = check(&String::from_utf8_lossy(&trace));
    assert_eq!((seen.answers, seen.events), (40, 40));
    assert!(seen.syncs >= 40, "{} syncs", seen.syncs);
}

/// Runs this test's hub under strace; none where there is no strace.
fn start_traced(folder: &Path, trace: &Path) -> Option<Child> {
    let hub = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-s",
            "64",
            "-e",
            "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg",
            "-o",
        ])
        .arg(trace)
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", TEST, "--nocapture"])
        .env(TRACED, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    hub.inspect_err(|error| eprintln!("skipped: no strace: {error}")).ok()
}

async fn serve(folder: &Path) {
    let hub = start_in(folder, 0).await;
    println!("address {}", hub.local_addr());
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    input.await.expect("a thread").expect("the end of the input");
    hub.shutdown().await;
}

/// What was found in a trace.
#[derive(Default)]
struct Seen {
    answers: usize,
    events: usize,
    syncs: usize,
}

/// Goes through the calls in the order in which they began or, if they sync, ended: whenever a change is
/// answered or told, all that was written to the write-ahead log before must have been synced.
fn check(trace: &str) -> Seen {
    let mut seen = Seen::default();
    let mut is_unsynced = false;
    // By process: the call that has begun.
    let mut begun: HashMap<&str, &str> = HashMap::new();
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let is_end = !call.ends_with("<unfinished ...>");
        let (is_begin, call) = match call.starts_with("<...") {
            true => (false, begun.remove(process).unwrap_or_default()),
            false => (true, call),
        };
        if !is_end {
            begun.insert(process, call);
        }
        let is_log = call.contains("hub.sqlite-wal>");
        let is_sync = call.starts_with("fsync(") || call.starts_with("fdatasync(");
        if is_log && is_sync && is_end {
            is_unsynced = false;
            seen.syncs += 1;
        } else if is_log && !is_sync && is_begin {
            is_unsynced = true;
        } else if is_begin && !is_sync {
            let is_answer = call.contains("HTTP/1.1 201") || call.contains("HTTP/1.1 200 OK");
            let is_event = call.contains("\\\"actor_name\\\":");
            assert!(!(is_unsynced && (is_answer || is_event)), "not synced before: {line}");
            seen.answers += usize::from(is_answer);
            seen.events += usize::from(is_event);
        }
    }
    seen
}
