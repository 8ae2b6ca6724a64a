//! A task service that answers what a test wants, and nodes that use it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ats_p2p::ats::Secret;
use ats_p2p::event::Event;
use ats_p2p::node::{Node, Options, WatchOptions};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;

use crate::{http, socket};

/// Far above what anything here takes, far below what a runner waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The key that the nodes send with every request.
pub(crate) const KEY: &str = "key-of-the-agent-b";

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// An answer: what is sent, and how often each piece of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer(Vec<(Vec<u8>, usize)>);

impl Answer {
    /// A success with this body.
    pub(crate) fn body(body: impl AsRef<[u8]>) -> Self {
        Self::with_head("200 OK", &[], body)
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::body(body.to_string())
    }

    pub(crate) fn with_head(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        Self(vec![(http::answer(status, headers, body), 1)])
    }

    /// A success whose body ends with the connection: each piece so many times.
    pub(crate) fn pieces(pieces: &[(&str, usize)]) -> Self {
        let mut all = vec![(http::head("200 OK", &[], ""), 1)];
        all.extend(pieces.iter().map(|(piece, times)| (piece.as_bytes().to_vec(), *times)));
        Self(all)
    }

    /// These very bytes.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![(bytes.into(), 1)])
    }
}

type Script = dyn Fn(&Request) -> Option<Answer> + Send + Sync;
/// An event connection after its upgrade.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A task service with a script.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    sockets: tokio::sync::Mutex<mpsc::UnboundedReceiver<Socket>>,
    serving: JoinHandle<()>,
}

impl Service {
    /// What the script does not answer is answered as by a service that holds nothing.
    pub(crate) async fn start(script: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (upgraded, sockets) = mpsc::unbounded_channel();
        let (log, script): (_, Arc<Script>) = (seen.clone(), Arc::new(script));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), log.clone(), upgraded.clone()));
            }
        });
        Self { address, seen, sockets: sockets.into(), serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next event connection, which the service has said nothing on yet.
    pub(crate) async fn socket(&self) -> Socket {
        let next = async { self.sockets.lock().await.recv().await.unwrap() };
        timeout(PATIENCE, next).await.expect("an event connection")
    }

    /// `METHOD /path` of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// How many requests with this method and path came so far.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.method == method && request.path == path).count()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Request>>>,
    upgraded: mpsc::UnboundedSender<Socket>,
) {
    let Some(arrived) = http::Request::read(&mut stream).await else { return };
    let request = Request {
        method: arrived.method.clone(),
        path: arrived.target.split('?').next().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&arrived.body).unwrap_or_default(),
    };
    seen.lock().unwrap().push(request.clone());
    let answer = script(&request);
    if let (None, Some(key)) = (&answer, arrived.header("sec-websocket-key")) {
        if let Some(socket) = socket::accept(stream, key).await {
            let _ = upgraded.send(socket);
        }
        return;
    }
    let nothing = || match request.path.as_str() {
        "/tasks" => Answer::json(&json!({ "tasks": [], "has_more": false })),
        _ => Answer::json(&json!({ "status": "ok" })),
    };
    for (piece, times) in answer.unwrap_or_else(nothing).0 {
        for _ in 0..times {
            // The client may have hung up on purpose.
            if stream.write_all(&piece).await.is_err() {
                return;
            }
        }
    }
    let _ = stream.shutdown().await;
}

/// An offer of `a` for `b` in a pending task.
pub(crate) fn offer(id: &str) -> Value {
    json!({
        "id": id, "type": "file_offer", "channel": "p2p-transfer", "status": "pending", "source_id": "a",
        "title": "File", "description": id,
        "payload": {
            "transfer_id": id, "filename": "f", "size": 1, "hash": "0".repeat(64),
            "sender_id": "a", "recipient_id": "b",
        },
    })
}

/// The node of `b`.
pub(crate) struct Agent {
    pub(crate) node: Node,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Agent {
    pub(crate) fn new(home: &Path, url: &str, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(home.to_owned());
        options.ats.url = Some(url.to_owned());
        options.ats.actor_id = Some("b".into());
        options.ats.api_key = Some(Secret::new(KEY));
        change(&mut options);
        let (sender, events) = mpsc::unbounded_channel();
        let node = Node::new(options, move |event| {
            let _ = sender.send(event);
        });
        Self { node: node.unwrap(), events }
    }

    pub(crate) fn watch(&self) {
        self.node.watch(WatchOptions::default()).unwrap();
    }

    /// Watches, with a subscription that is confirmed.
    pub(crate) async fn watch_confirmed(&self, service: &Service) -> Socket {
        self.watch();
        let mut socket = service.socket().await;
        crate::streams::confirm(&mut socket).await;
        socket
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("an event")
    }

    /// The next event that `wanted` makes something of. Nothing that is told may show the key.
    pub(crate) async fn event<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            let told = format!("{event:?}");
            assert!(!told.contains(KEY), "{told}");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    /// Waits for the offer with this id.
    pub(crate) async fn offered(&mut self, id: &str) {
        self.event(|event| match event {
            Event::File { transfer, .. } if transfer.transfer_id == id => Some(()),
            _ => None,
        })
        .await;
    }

    /// The next warning.
    pub(crate) async fn warning(&mut self) -> String {
        self.event(|event| match event {
            Event::Warning { message } => Some(message.clone()),
            _ => None,
        })
        .await
    }
}
