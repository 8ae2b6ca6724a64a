//! Connections to the service: used again, and ended with the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ats_p2p::ats::{AtsError, AtsEvent, Client, Events, NewTask, Policy, Subscription, TaskId};
use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::fake::{policy, settings};
use crate::http::Request;
use crate::socket;

const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a request.
enum Act {
    /// It is answered, and the connection kept.
    Answer(&'static str, Value),
    /// It is never answered.
    Stall,
    /// The connection ends.
    HangUp,
}

/// A service that keeps its connections for as long as its clients do, and counts them.
struct Keeper {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: watch::Receiver<usize>,
    /// The requests, as they arrive.
    requests: mpsc::UnboundedReceiver<String>,
    serving: JoinHandle<()>,
}

impl Keeper {
    async fn start(act: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (act, accepted) = (Arc::new(act), Arc::new(AtomicUsize::new(0)));
        let (count, open) = watch::channel(0);
        let (log, requests) = mpsc::unbounded_channel();
        let counted = accepted.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                count.send_modify(|open| *open += 1);
                let (act, count, log) = (act.clone(), count.clone(), log.clone());
                tokio::spawn(async move {
                    serve(stream, &*act, &log).await;
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, accepted, open, requests, serving }
    }

    fn client(&self, change: impl FnOnce(&mut Policy)) -> Client {
        let mut policy = policy();
        change(&mut policy);
        Client::with_policy(settings(&format!("http://{}", self.address)), policy).expect("a client")
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until so many connections are open.
    async fn has_open(&mut self, count: usize) {
        let reached = timeout(PATIENCE, self.open.wait_for(|open| *open == count)).await.map(drop);
        assert!(reached.is_ok(), "{} are open, not {count}", *self.open.borrow());
    }

    async fn request(&mut self) -> String {
        timeout(PATIENCE, self.requests.recv()).await.expect("a request in time").expect("a request")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves a connection until its client ends it.
async fn serve(mut stream: TcpStream, act: &impl Fn(&Request) -> Act, log: &mpsc::UnboundedSender<String>) {
    while let Some(request) = Request::read(&mut stream).await {
        let path = request.target.split('?').next().unwrap_or_default();
        let _ = log.send(format!("{} {path}", request.method));
        if let Some(key) = request.header("sec-websocket-key").map(str::to_owned) {
            let Some(mut socket) = socket::accept(stream, &key).await else { return };
            socket.next().await;
            let _ = socket.send(Message::text(json!({"type": "subscribed"}).to_string())).await;
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
            return;
        }
        match act(&request) {
            Act::Answer(status, body) => {
                let body = body.to_string();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::Stall => {
                let _ = stream.read_u8().await;
                return;
            }
            Act::HangUp => return,
        }
    }
}

fn id() -> TaskId {
    TaskId::from_text("7").expect("an id")
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let service = Keeper::start(|_| Act::Answer("200 OK", json!({"status": "ok"}))).await;
    let client = service.client(|_| {});
    for _ in 0..5 {
        client.health().await.expect("health");
    }
    assert_eq!(service.accepted(), 1);
}

#[tokio::test]
async fn a_closed_client_has_no_connection_and_makes_none() {
    let mut service = Keeper::start(|_| Act::Answer("200 OK", json!({"status": "ok"}))).await;
    let client = service.client(|_| {});
    let events = Events::start(&client, Subscription::default());
    let event = timeout(PATIENCE, events.listen().0.next()).await.expect("an event in time");
    assert!(matches!(event, AtsEvent::Connected), "{event:?}");
    for health in join_all((0..3).map(|_| client.health())).await {
        health.expect("health");
    }
    let accepted = service.accepted();
    service.has_open(accepted).await;
    client.close();
    events.end().await;
    service.has_open(0).await;
    assert!(matches!(client.clone().get(&id()).await, Err(AtsError::Closed)));
    let again = Events::start(&client, Subscription::default());
    let event = timeout(PATIENCE, again.listen().0.next()).await.expect("an event in time");
    assert!(matches!(event, AtsEvent::Disconnected { error: AtsError::Closed }), "{event:?}");
    assert_eq!(service.accepted(), accepted);
}

#[tokio::test]
async fn what_is_under_way_or_put_off_ends_when_the_client_is_closed() {
    let mut service = Keeper::start(|request| match request.target.as_str() {
        "/health" => Act::Stall,
        _ => Act::Answer("503 Service Unavailable", json!({})),
    })
    .await;
    let client = service.client(|policy| {
        policy.timeout = Duration::from_secs(3600);
        policy.first_pause = Duration::from_secs(3600);
        policy.longest_pause = Duration::from_secs(3600);
    });
    let task = id();
    let (asked, put_off, ()) = tokio::join!(client.health(), client.get(&task), async {
        for _ in 0..2 {
            service.request().await;
        }
        // The refusal has arrived once its connection waits for another request.
        client.close();
        service.has_open(0).await;
    });
    assert!(matches!(asked, Err(AtsError::Closed)), "{asked:?}");
    assert!(matches!(put_off, Err(AtsError::Closed | AtsError::Status { .. })), "{put_off:?}");
}

/// A connection that was kept may break with a request on it, and HTTP libraries like to send such a one
/// again by themselves.
#[tokio::test]
async fn a_create_that_was_read_on_a_kept_connection_is_looked_for_before_it_is_repeated() {
    let made = json!({
        "id": 7, "type": "file_offer", "channel": "c", "description": "transfer T-1", "source_id": "me",
    });
    let mut service = Keeper::start(move |request| match request.method.as_str() {
        "POST" => Act::HangUp,
        _ => Act::Answer("200 OK", json!({"tasks": [made]})),
    })
    .await;
    let client = service.client(|_| {});
    let new = NewTask {
        kind: "file_offer".into(),
        channel: "c".into(),
        description: Some("transfer T-1".into()),
        ..NewTask::default()
    };
    client.health().await.expect("health");
    assert_eq!(client.create(&new, "T-1").await.expect("found").id, id());
    for expected in ["GET /health", "POST /tasks", "GET /tasks"] {
        assert_eq!(service.request().await, expected);
    }
    assert!(service.requests.try_recv().is_err());
    // It went by the connection that was there.
    assert_eq!(service.accepted(), 2);
}
