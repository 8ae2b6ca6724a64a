//! Answers that no client should trust, to a node that sends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ats_p2p::error::{Code, Error};
use ats_p2p::send::{SendRequest, Sent};
use futures_util::StreamExt as _;
use hub::{Hub, HubConfig};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::service::{Agent, Answer, KEY, PATIENCE, Request, Service};

/// What the service answers to the reading of an offer that `c` has claimed and completed.
type Answering = dyn Fn(&Value) -> Answer + Send + Sync;

/// A network to send on, and a file.
pub(crate) struct Place {
    hub: Hub,
    dir: tempfile::TempDir,
    file: PathBuf,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = HubConfig::new(dir.path().join("hub"));
        (config.listen, config.dht_port) = ("127.0.0.1:0".parse().unwrap(), 0);
        let file = dir.path().join("f");
        std::fs::write(&file, b"content").unwrap();
        Self { hub: Hub::start(config).await.unwrap(), dir, file }
    }

    pub(crate) async fn close(self) {
        self.hub.shutdown().await;
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Sends the file to `c` by this service, which nobody takes for long.
    pub(crate) async fn send(&self, service: &Service) -> Result<Sent, Error> {
        self.send_within(service, Duration::from_secs(2)).await
    }

    /// Sends the file to `c` by this service; nothing may keep it waiting for longer than `limit`.
    pub(crate) async fn send_within(&self, service: &Service, limit: Duration) -> Result<Sent, Error> {
        let bootstrap = self.hub.bootstrap();
        let b = Agent::new(&self.home(), &service.url(), |options| options.bootstrap = Some(bootstrap));
        let request = SendRequest {
            source: self.file.clone().into(),
            recipient_id: "c".into(),
            channel: None,
            timeout: Some(limit),
            idempotency_key: None,
            metadata: None,
            max_rate: None,
            progress: None,
            cancel: CancellationToken::new(),
        };
        let sent = timeout(PATIENCE, b.node.send(request)).await.expect("a send ends");
        b.node.destroy().await;
        sent
    }
}

/// A service on which the offer is completed at once, and is answered so when it is read.
pub(crate) async fn completing(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Service {
    let posted = Arc::new(Mutex::new(Value::Null));
    Service::start(move |request: &Request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/tasks") => {
            let mut task = request.body.clone();
            task["id"] = json!(7);
            task["status"] = json!("pending");
            task["source_id"] = json!("b");
            *posted.lock().unwrap() = task.clone();
            Some(Answer::json(&json!({ "task": task })))
        }
        ("GET", "/tasks/7") => {
            let mut task = posted.lock().unwrap().clone();
            task["status"] = json!("completed");
            task["assignee_id"] = json!("c");
            task["outputs"] = json!([{ "hash": task["payload"]["hash"] }]);
            Some(answer(&task))
        }
        _ => None,
    })
    .await
}

/// The task with a raw text in the place of a field.
fn with_raw(task: &Value, field: &str, raw: &str) -> String {
    let mut task = task.clone();
    task[field] = json!("THE PLACE");
    json!({ "task": task }).to_string().replace("\"THE PLACE\"", raw)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_survives_what_others_wrote_on_its_task() {
    let place = Place::new().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let message = |parts: &str| format!("{{\"id\":1,\"actor_id\":\"d\",\"parts\":{parts}}}");
    let flood = message("[{\"type\":\"text\",\"content\":\"xxxxxxxxxxxxxxxx\"}]");
    let mut cases: Vec<(&str, String)> = Vec::new();
    for raw in [
        format!("[{}]", message(&deep)),
        format!("[{}]", message("[{\"type\":\"data\",\"content\":\"\\ud800\"}]")),
        format!("[{}]", message(&format!("[{{\"type\":\"data\",\"content\":{:?}}}]", "[".repeat(100_000)))),
        format!("[{}]", message(&format!("[{}0]", "[0],".repeat(200_000)))),
        format!("[{}{flood}]", format!("{flood},").repeat(50_000)),
        format!("[{}7]", "null,".repeat(100_000)),
        deep.clone(),
        format!("{:?}", deep),
        "[{\"parts\":]}]".into(),
        "7".into(),
    ] {
        cases.push(("messages", raw));
    }
    for field in ["title", "reason", "extra", "lease_expires", "source", "created_at"] {
        for raw in [deep.as_str(), "\"\\ud800\"", "1e999999", &format!("{:?}", "x".repeat(400_000))] {
            cases.push((field, raw.to_owned()));
        }
    }
    let sends = cases.into_iter().map(|(field, raw)| {
        let place = &place;
        async move {
            let shown: String = raw.chars().take(60).collect();
            let answer: Box<Answering> = Box::new(move |task| Answer::body(with_raw(task, field, &raw)));
            let service = completing(answer).await;
            let sent = place.send(&service).await;
            assert!(sent.is_ok(), "{field}: {shown}: {sent:?}");
        }
    });
    futures_util::stream::iter(sends).buffer_unordered(4).collect::<Vec<()>>().await;
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_ends_in_an_error_that_shows_no_key_whatever_its_task_reads_as() {
    let place = Place::new().await;
    let echo = json!({ "error": format!("Authorization: Bearer {KEY}") }).to_string();
    let failed = |reason: &str| json!({ "id": 7, "status": "failed", "assignee_id": "c", "reason": reason });
    let date = |date: &'static str| Answer::with_head("404 Gone", &[("Date", date)], "{}");
    let answers = vec![
        Answer::with_head("400 No", &[], &echo),
        Answer::with_head("403 No", &[("Content-Type", KEY)], KEY),
        Answer::with_head("301 Moved", &[("Location", KEY)], ""),
        Answer::body(KEY),
        Answer::body(format!("<html>{KEY}")),
        Answer::json(&failed(&format!("Bearer {KEY}\u{1b}[2J\u{202e}"))),
        Answer::json(&failed(&"x".repeat(100_000))),
        Answer::json(&json!({ "id": 7, "status": format!("{KEY}"), "assignee_id": "c" })),
        Answer::json(&json!({ "id": 7, "status": "in_progress", "assignee_id": KEY })),
        Answer::json(&json!({ "id": 7, "status": "completed", "assignee_id": "c", "outputs": [KEY] })),
        Answer::json(&json!({ "id": 7, "status": "cancelled" })),
        Answer::json(&json!({ "id": 8, "status": 5 })),
        Answer::json(&json!([{ "id": 7 }])),
        Answer::body("[".repeat(1_000_000)),
        Answer::body("{\"task\":".repeat(100_000)),
        Answer::body("null"),
        date("Fri, 31 Dec 9999 23:59:59 GMT"),
        date("Thu, 01 Jan 1970 00:00:00 GMT"),
        date("Sat, 29 Feb 2025 24:60:61 GMT"),
        Answer::raw(format!("HTTP/1.1 200 OK\r\nDate: {}\r\n\r\n{{}}", "9".repeat(9_000))),
    ];
    let sends = answers.into_iter().enumerate().map(|(n, answer)| {
        let place = &place;
        async move {
            let service = completing(move |_| answer.clone()).await;
            let error = place.send(&service).await.expect_err("no task reads so");
            let told = format!("{error:?} {error}");
            assert!(!told.contains(KEY) && !told.contains('\u{1b}') && told.len() < 5_000, "{n}: {told}");
            // What panicked would be told as this.
            assert_ne!(error.code, Code::State, "{n}: {told}");
        }
    });
    futures_util::stream::iter(sends).buffer_unordered(4).collect::<Vec<()>>().await;
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_date_of_the_service_ends_a_send_or_a_watch() {
    let place = Place::new().await;
    for date in [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT, Fri, 31 Dec 9999 23:59:59 GMT",
        "Sat, 01 Jan 0000 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 2099 23:59:59 GMT",
        "Tue, 19 Jan 2038 03:14:08 GMT",
        "Mon, 32 Foo 2026 99:99:99 GMT",
        "253402300799",
        "",
    ] {
        let dated = move |body: &Value| Answer::with_head("200 OK", &[("Date", date)], body.to_string());
        let service = completing(move |task| dated(task)).await;
        assert!(place.send(&service).await.is_ok(), "{date}");
        let offers = json!([crate::service::offer("honest")]);
        let service = Service::start(move |request| match request.path.as_str() {
            "/ws" => None,
            _ => Some(dated(&offers)),
        })
        .await;
        let mut b = Agent::new(&place.home(), &service.url(), |_| {});
        let _socket = b.watch_confirmed(&service).await;
        b.offered("honest").await;
        b.node.destroy().await;
    }
    place.close().await;
}
