//! Answers and events without end, against a node in a process of its own whose memory is measured.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use futures_util::SinkExt as _;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::sends::{Place, completing};
use crate::service::{Agent, Answer, PATIENCE, Service, offer};
use crate::streams::{confirm, created};

/// What a node may hold at most above what it held before, bytes.
const BOUND: u64 = 100 * 1024 * 1024;

/// Names the case that a child process runs.
const CASE: &str = "HOSTILE_AMOUNT";

/// Runs this test in a process of its own; `case` runs there alone, and its memory is measured.
fn measured(test: &str, case: impl AsyncFnOnce(Meter)) {
    if std::env::var_os(CASE).is_some() {
        Runtime::new().unwrap().block_on(case(Meter));
        return;
    }
    let name = format!("amounts::{test}");
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(CASE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && !said.contains("panicked"), "{said}");
}

/// Measures the memory of this process.
struct Meter;

impl Meter {
    /// Forgets what was held so far, and gives what is held now.
    fn begin(&self) -> u64 {
        // Linux alone can forget its highest mark, and alone is measured.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        held("VmRSS").unwrap_or(0)
    }

    fn end(&self, before: u64) {
        let most = held("VmHWM").unwrap_or(0);
        let more = most.saturating_sub(before);
        eprintln!("{} MB more than {} MB", more >> 20, before >> 20);
        assert!(more < BOUND, "{more} bytes more");
    }
}

fn held(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A node watches a service that lists so; the honest offer arrives.
async fn watched(meter: Meter, answer: Answer) {
    let home = tempfile::tempdir().unwrap();
    let service = Service::start(move |request| match request.path.as_str() {
        "/tasks" => Some(answer.clone()),
        _ => None,
    })
    .await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let before = meter.begin();
    let _socket = b.watch_confirmed(&service).await;
    b.offered("honest").await;
    meter.end(before);
    b.node.destroy().await;
}

#[test]
fn a_list_of_thirty_megabytes_costs_little() {
    measured("a_list_of_thirty_megabytes_costs_little", async |meter| {
        let honest = offer("honest").to_string();
        let bad = format!("{{\"id\":1,\"payload\":[{}0]}},", "[0],".repeat(10_000));
        watched(
            meter,
            Answer::pieces(&[("{\"tasks\":[", 1), (&honest, 1), (",", 1), (&bad, 700), ("7]}", 1)]),
        )
        .await;
    });
}

#[test]
fn one_task_of_gigabytes_costs_little() {
    measured("one_task_of_gigabytes_costs_little", async |meter| {
        let honest = offer("honest").to_string();
        let long = "x".repeat(1 << 20);
        let begin = format!("[{honest},{{\"id\":1,\"title\":\"");
        watched(meter, Answer::pieces(&[(&begin, 1), (&long, 2_000), ("\"}]", 1)])).await;
    });
}

#[test]
fn thousands_of_large_offers_cost_little() {
    measured("thousands_of_large_offers_cost_little", async |meter| {
        let mut body = String::from("[");
        for n in 0..3_000 {
            let mut task = offer(&format!("bad {n}"));
            task["payload"]["filename"] = json!("x".repeat(8_000));
            task["payload"]["more"] = json!(vec![[0]; 100]);
            body.push_str(&task.to_string());
            body.push(',');
        }
        body.push_str(&format!("{}]", offer("honest")));
        watched(meter, Answer::body(body)).await;
    });
}

#[test]
fn pings_without_end_cost_little() {
    measured("pings_without_end_cost_little", async |meter| {
        let home = tempfile::tempdir().unwrap();
        let service = Service::start(|_| None).await;
        let mut b = Agent::new(home.path(), &service.url(), |_| {});
        let mut socket = b.watch_confirmed(&service).await;
        let before = meter.begin();
        // Nobody reads the answers, and others are sent between so that the talk is no idle one.
        let ping = Message::Ping(vec![7; 125].into());
        let flood = async {
            loop {
                for _ in 0..500 {
                    if socket.feed(ping.clone()).await.is_err() {
                        return;
                    }
                }
                if socket.send(created(&offer("other"))).await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(Duration::from_secs(2), flood).await;
        meter.end(before);
        drop(socket);
        let mut socket = service.socket().await;
        confirm(&mut socket).await;
        socket.send(created(&offer("honest"))).await.unwrap();
        b.offered("honest").await;
        b.node.destroy().await;
    });
}

#[test]
fn large_events_that_nobody_reads_in_time_cost_little() {
    measured("large_events_that_nobody_reads_in_time_cost_little", async |meter| {
        let home = tempfile::tempdir().unwrap();
        let service = Service::start(|_| None).await;
        let mut b = Agent::new(home.path(), &service.url(), |_| {});
        let mut socket = b.watch_confirmed(&service).await;
        let before = meter.begin();
        let values = format!("[{}0]", "[0],".repeat(200_000));
        let mut task = offer("bad");
        task["more"] = json!("THE PLACE");
        let event = json!({ "type": "task.created", "data": { "task": task } }).to_string();
        let event = Message::text(event.replace("\"THE PLACE\"", &values));
        for _ in 0..100 {
            socket.send(event.clone()).await.unwrap();
        }
        socket.send(created(&offer("honest"))).await.unwrap();
        b.offered("honest").await;
        meter.end(before);
        b.node.destroy().await;
    });
}

#[test]
fn a_task_with_messages_without_end_costs_little() {
    measured("a_task_with_messages_without_end_costs_little", async |meter| {
        let place = Place::new().await;
        let message = format!("{{\"actor_id\":\"d\",\"parts\":[{{\"content\":[{}0]}}]}},", "[0],".repeat(50));
        let service = completing(move |task| {
            let rest = format!("null],{}", &task.to_string()[1..]);
            Answer::pieces(&[("{\"messages\":[", 1), (&message, 30_000), (&rest, 1)])
        })
        .await;
        let before = meter.begin();
        let sent = place.send_within(&service, PATIENCE).await;
        meter.end(before);
        assert!(sent.is_ok(), "{sent:?}");
        place.close().await;
    });
}

#[test]
fn an_answer_that_is_no_list_and_never_ends_costs_little() {
    measured("an_answer_that_is_no_list_and_never_ends_costs_little", async |meter| {
        let place = Place::new().await;
        let service =
            completing(|_| Answer::pieces(&[("{\"id\":7,\"title\":\"", 1), (&"x".repeat(1 << 20), 1_000)]))
                .await;
        let before = meter.begin();
        let error = place.send(&service).await.unwrap_err();
        meter.end(before);
        assert!(error.message.contains("too long"), "{error}");
        place.close().await;
    });
}

#[test]
fn what_is_compressed_costs_no_more_than_what_is_not() {
    measured("what_is_compressed_costs_no_more_than_what_is_not", async |meter| {
        let place = Place::new().await;
        // A megabyte on its way, two hundred once it is unpacked.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"{\"id\":7,\"title\":\"").unwrap();
        for _ in 0..200 {
            encoder.write_all(&[b'x'; 1 << 20]).unwrap();
        }
        let packed = encoder.finish().unwrap();
        let encoded = [("Content-Encoding", "gzip"), ("Content-Type", "application/json")];
        let service = completing(move |_| Answer::with_head("200 OK", &encoded, &packed)).await;
        let before = meter.begin();
        let error = place.send(&service).await.unwrap_err();
        meter.end(before);
        assert!(error.message.contains("too long"), "{error}");
        place.close().await;
    });
}

#[test]
fn the_meter_measures() {
    measured("the_meter_measures", async |meter| {
        let before = meter.begin();
        let much = vec![7_u8; 64 << 20];
        let most = held("VmHWM").unwrap_or(u64::MAX);
        assert!(most.saturating_sub(before) >= 60 << 20 || !cfg!(target_os = "linux"));
        drop(much);
    });
}
