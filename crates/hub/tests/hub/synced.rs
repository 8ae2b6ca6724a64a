//! The order of system calls: no answer and no event leaves the hub before its change is synced.

use std::collections::HashMap;

use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::Caller;
use crate::traced::{TracedHub, serve_if_traced};

const TEST: &str = "synced::nothing_is_answered_or_told_before_it_is_on_the_disk";
const OPTIONS: [&str; 4] = ["-s", "64", "-e", "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg"];

#[test]
fn nothing_is_answered_or_told_before_it_is_on_the_disk() {
    if serve_if_traced() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let trace = dir.path().join("trace");
    let Some((hub, address)) = TracedHub::start(TEST, dir.path(), &trace, &OPTIONS) else { return };
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
    let seen = check(&String::from_utf8_lossy(&hub.end()));
    assert_eq!((seen.answers, seen.events), (40, 40));
    assert!(seen.syncs >= 40, "{} syncs", seen.syncs);
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
