//! A service that does what a script says, byte for byte.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ats_p2p::ats::{Actor, Client, Policy, Secret, Settings, WebSettings};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::http::{self, Request};

/// What is done with one request.
pub(crate) enum Act {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Closes without a word.
    Close,
    /// Reads the request and never answers.
    Stall,
    /// Sends these bytes and then nothing more, leaving the connection open.
    SendAndStall(Vec<u8>),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `METHOD /path?query`.
    pub line: String,
    pub head: String,
    pub body: Value,
}

/// A service with a script: one act a connection, in order.
pub(crate) struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let acts: VecDeque<Act> = acts.into_iter().collect();
        let (acts, log) = (Arc::new(Mutex::new(acts)), seen.clone());
        let serving = tokio::spawn(async move {
            // A connection on which nothing is asked yet keeps no other one waiting.
            let mut visits = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (acts, log) = (acts.clone(), log.clone());
                visits.spawn(async move {
                    let Some(request) = read_request(&mut stream).await else { return };
                    let act = {
                        let mut acts = acts.lock().expect("unpoisoned");
                        log.lock().expect("unpoisoned").push(request);
                        acts.pop_front()
                    };
                    match act {
                        Some(Act::Send(bytes)) => {
                            // The client may have hung up on purpose.
                            let _ = stream.write_all(&bytes).await;
                            let _ = stream.shutdown().await;
                        }
                        Some(Act::Close) => {}
                        Some(Act::SendAndStall(bytes)) => {
                            let _ = stream.write_all(&bytes).await;
                            std::future::pending().await
                        }
                        Some(Act::Stall) | None => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, seen, serving }
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("unpoisoned").clone()
    }

    /// `METHOD /path` of the requests so far, without queries.
    pub(crate) fn lines(&self) -> Vec<String> {
        let path = |seen: Seen| seen.line.split('?').next().unwrap_or_default().to_owned();
        self.seen().into_iter().map(path).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.url())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        organization: None,
        project: None,
        channel: "c".into(),
        actor: Actor { kind: "agent".into(), id: "me".into(), name: "Käthe".into() },
        api_key: Some(Secret::new("hush-hush")),
        web: WebSettings::default(),
        insecure: false,
    }
}

/// A patience fit for tests.
pub(crate) fn policy() -> Policy {
    Policy {
        timeout: Duration::from_secs(2),
        // So that no connection ends for its age.
        longest_idle: Duration::from_secs(3600),
        attempts: 4,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        longest_retry_after: Duration::from_secs(2),
        first_reconnect: Duration::from_millis(10),
        longest_reconnect: Duration::from_millis(40),
    }
}

pub(crate) fn client(url: &str) -> Client {
    Client::with_policy(settings(url), policy()).expect("a client")
}

/// An answer with a body.
pub(crate) fn answer(status: &str, content_type: &str, body: &str) -> Act {
    Act::Send(http::answer(status, &[("Content-Type", content_type)], body))
}

pub(crate) fn json(body: Value) -> Act {
    answer("200 OK", "application/json", &body.to_string())
}

pub(crate) fn error(status: &str, message: &str) -> Act {
    answer(status, "application/json", &serde_json::json!({ "error": message }).to_string())
}

/// Reads a request.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let Request { method, target, head, body } = Request::read(stream).await?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Seen { line: format!("{method} {target}"), head, body })
}
