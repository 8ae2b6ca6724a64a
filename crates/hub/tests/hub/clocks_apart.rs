//! Hubs on one database whose machines' clocks are hours apart, each in a process of its own that is given
//! another time than the system's: that of the database holds at all of them.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use hub::{HubKeys, PostgresUrl};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use crate::postgres::Server;
use crate::shared::{HubProcess, database_of, serve_if_started, watch_all};
use crate::support::{Caller, Listener, PATIENCE, rfc3339};

const TEST: &str = "clocks_apart::hubs_whose_clocks_are_hours_apart_agree_on_what_is_over";
/// How far the clocks of the hubs are from the system's, seconds.
const OFFSETS: [i64; 2] = [5 * 60 * 60, -3 * 60 * 60];
/// How far two times may be from each other that are taken for the same: far less than the offsets.
const CLOSE: Duration = Duration::from_secs(10 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Gives a program whose libraries it is loaded before a time of day `OFFSET` seconds from the system's.
const OTHER_TIME: &str = "
    #define _GNU_SOURCE
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>
    int clock_gettime(clockid_t clock, struct timespec *time) {
        int result = syscall(SYS_clock_gettime, clock, time);
        if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
            time->tv_sec += OFFSET;
        return result;
    }";

/// Has [`OTHER_TIME`] compiled; `None`, which is said, where no compiler is found or none would help.
fn other_time(dir: &Path, offset: i64) -> Option<OsString> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        eprintln!("skipped: a program here cannot be given another time");
        return None;
    }
    let (source, library) = (dir.join("time.c"), dir.join(format!("time{offset}.so")));
    std::fs::write(&source, OTHER_TIME).expect("written");
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", &format!("-DOFFSET=({offset})"), "-o"])
        .args([&library, &source])
        .status();
    let status = compiler.inspect_err(|error| eprintln!("skipped: no C compiler: {error}")).ok()?;
    assert!(status.success(), "{status}");
    Some(library.into())
}

/// How far a time is from that of the system, which is the database's, too.
fn distance(time: SystemTime) -> Duration {
    let now = SystemTime::now();
    now.duration_since(time).unwrap_or_else(|error| error.duration())
}

fn is_now(value: &Value) -> bool {
    let time = OffsetDateTime::parse(value.as_str().expect("a time"), &Rfc3339).expect("RFC 3339");
    distance(time.into()) < CLOSE
}

async fn next(listeners: &mut [Listener; 2], expected: (&str, i64)) {
    for listener in listeners {
        let (event, id) = listener.next_event().await;
        assert_eq!((event.as_str(), id), expected);
    }
}

/// Tasks that somebody makes at one hub, as both judge them.
async fn use_both(here: &Caller, there: &Caller, listeners: &mut [Listener; 2]) {
    let claim = async |caller: &Caller, id: i64| {
        caller.call(Method::POST, &format!("/tasks/{id}/claim"), Some(json!({}))).await.0
    };
    let offer = |expires_at: SystemTime| {
        let payload = json!({ "expires_at": rfc3339(expires_at) });
        here.make_task(json!({"title": "o", "type": "file_offer", "payload": payload}))
    };
    let held = here.make_task(json!({"title": "held"})).await;
    let path = format!("/tasks/{held}/claim");
    let task = here.post(&path, json!({"lease_duration": HOUR.as_millis()})).await["task"].clone();
    assert!(is_now(&task["created_at"]) && is_now(&task["updated_at"]), "{task}");
    let short = here.make_task(json!({"title": "short"})).await;
    here.post(&format!("/tasks/{short}/claim"), json!({"lease_duration": 300})).await;
    for expected in [("task.created", held), ("task.claimed", held)] {
        next(listeners, expected).await;
    }
    for expected in [("task.created", short), ("task.claimed", short), ("task.lease_expired", short)] {
        next(listeners, expected).await;
    }
    let lasting = offer(SystemTime::now() + HOUR).await;
    let brief = offer(SystemTime::now() + Duration::from_millis(300)).await;
    for expected in [("task.created", lasting), ("task.created", brief), ("task.cancelled", brief)] {
        next(listeners, expected).await;
    }
    // What is over at one is over at the other, and what is not is not.
    for caller in [here, there] {
        assert_eq!(claim(caller, held).await, if caller.actor == here.actor { 200 } else { 409 });
        assert_eq!(caller.get(&format!("/tasks/{lasting}")).await["task"]["status"], "pending");
    }
    // Who holds a claim renews it.
    next(listeners, ("task.updated", held)).await;
    assert_eq!(claim(there, short).await, 200);
    next(listeners, ("task.claimed", short)).await;
}

#[tokio::test]
async fn hubs_whose_clocks_are_hours_apart_agree_on_what_is_over() {
    serve_if_started().await;
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = database_of(&server).await;
    let mut hubs = Vec::new();
    for offset in OFFSETS {
        let Some(library) = other_time(dir.path(), offset) else { return };
        let folder = dir.path().join(offset.to_string());
        let hub = HubProcess::start(TEST, &folder, &url, &[("LD_PRELOAD", library)]);
        let apart = distance(hub.time);
        assert!(apart.abs_diff(Duration::from_secs(offset.unsigned_abs())) < CLOSE, "{apart:?}");
        hubs.push(hub);
    }
    let [a, b] = [Caller::new(hubs[0].address, "a"), Caller::new(hubs[1].address, "b")];
    let mut listeners = [watch_all(&a).await, watch_all(&b).await];
    use_both(&a, &b, &mut listeners).await;
    use_both(&b, &a, &mut listeners).await;

    let database = PostgresUrl::parse(&url).expect("a URL");
    let mut keys = HubKeys::open(&dir.path().join("keys"), Some(&database)).await.expect("keys");
    let lasting = keys.create("k", false, Some(HOUR)).await.expect("a key");
    let brief = keys.create("k", false, Some(Duration::from_millis(300))).await.expect("a key");
    keys.close().await.expect("closed");
    for (hub, caller) in hubs.iter().zip([&a, &b]) {
        let holder = |key: &str| Caller::new(hub.address, "k").with_key(key);
        let (lasting, brief) = (holder(lasting.expose()), holder(brief.expose()));
        let ended = async { while brief.call(Method::GET, "/tasks", None).await.0 != 401 {} };
        timeout(PATIENCE, ended).await.expect("over in time");
        assert_eq!(lasting.call(Method::GET, "/tasks", None).await.0, 200);
        for path in ["/health", "/health/live"] {
            let health = caller.get(path).await;
            assert!(is_now(&health["timestamp"]), "{health}");
        }
        let connected = caller.get("/page/connected").await;
        let since = Duration::from_millis(connected["actors"][0]["since"].as_u64().expect("a time"));
        assert!(distance(SystemTime::UNIX_EPOCH + since) < CLOSE, "{connected}");
    }
}
