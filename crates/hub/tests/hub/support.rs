//! A hub of one's own, and plain ways to speak to it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use hub::{Hub, HubConfig, HubKeys};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::database;

/// How long anything on this machine may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A hub in a temporary folder.
pub(crate) struct TestHub {
    pub hub: Hub,
    pub dir: tempfile::TempDir,
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The hub's keys, as another process has them.
    pub(crate) async fn keys(&self) -> HubKeys {
        let database = database::of(self.dir.path()).await;
        HubKeys::open(&self.dir.path().join("hub"), database.as_ref()).await.expect("keys")
    }

    /// Makes a key for an actor.
    pub(crate) async fn key(&self, actor: &str, is_admin: bool) -> String {
        self.keys().await.create(actor, is_admin, None).await.expect("a key").expose().to_owned()
    }

    /// Makes a key for an actor that is over already: of its database's time a hub hears a moment after that
    /// was made.
    pub(crate) async fn key_that_is_over(&self, actor: &str) -> String {
        let mut keys = self.keys().await;
        let key = keys.create(actor, false, Some(Duration::ZERO)).await.expect("a key");
        let listed = keys.list().await.expect("keys").into_iter().find(|listed| listed.id == key.id);
        let end = listed.and_then(|listed| listed.expires_at).expect("an end");
        let over = async {
            while self.caller(actor).get("/health").await["timestamp"].as_str() < Some(end.as_str()) {}
        };
        timeout(PATIENCE, over).await.expect("the time passes");
        key.expose().to_owned()
    }

    /// A hub that is set up otherwise than usual.
    pub(crate) async fn start_with(set_up: impl FnOnce(&mut HubConfig)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut config = config(dir.path(), 0).await;
        set_up(&mut config);
        Self { hub: Hub::start(config).await.expect("a hub"), dir }
    }

    pub(crate) fn caller(&self, actor: &str) -> Caller {
        Caller::new(self.hub.local_addr(), actor)
    }

    /// Ends the hub and starts another with the same data, at another address: the one before may be taken.
    pub(crate) async fn restart(self) -> Self {
        self.hub.shutdown().await;
        Self { hub: start_in(self.dir.path(), 0).await, dir: self.dir }
    }
}

pub(crate) async fn start_in(dir: &Path, port: u16) -> Hub {
    Hub::start(config(dir, port).await).await.expect("a hub")
}

/// The hub whose data is in a folder.
pub(crate) async fn config(dir: &Path, port: u16) -> HubConfig {
    let listen = SocketAddr::from(([127, 0, 0, 1], port));
    let database = database::of(dir).await;
    HubConfig { listen, dht: false, database, ..HubConfig::new(dir.join("hub")) }
}

/// A time as offers carry it.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).expect("a time")
}

/// Somebody who speaks HTTP to a hub.
pub(crate) struct Caller {
    pub http: reqwest::Client,
    pub base: String,
    pub actor: String,
    pub key: Option<String>,
    /// What it sends besides.
    pub headers: Vec<(&'static str, String)>,
}

impl Caller {
    pub(crate) fn new(hub: SocketAddr, actor: &str) -> Self {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).timeout(PATIENCE);
        let http = http.build().expect("an HTTP client");
        let (base, actor) = (format!("http://{hub}"), actor.into());
        Self { http, base, actor, key: None, headers: Vec::new() }
    }

    /// One that shows a key.
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    /// One whose requests seem to come from another machine, by way of a proxy on this one.
    pub(crate) fn elsewhere(mut self) -> Self {
        self.headers.push(("x-forwarded-for", "203.0.113.9".into()));
        self
    }

    /// One whose requests came to that proxy over TLS.
    pub(crate) fn encrypted(mut self) -> Self {
        self.headers.push(("x-forwarded-proto", "https".into()));
        self
    }

    /// Sends a request; gives the status and the JSON of the answer.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in self.sent_headers() {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.bytes().await.expect("a body");
        let value = serde_json::from_slice(&body);
        (status, value.unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&body))))
    }

    fn sent_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = self.headers.clone();
        if !self.actor.is_empty() {
            headers.push(("x-actor-type", "agent".into()));
            headers.push(("x-actor-id", self.actor.clone()));
            headers.push(("x-actor-name", self.actor.to_uppercase()));
        }
        headers.extend(self.key.as_ref().map(|key| ("authorization", format!("Bearer {key}"))));
        headers
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, value) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{value}");
        value
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, value) = self.call(Method::POST, path, Some(body)).await;
        assert!(status == 200 || status == 201, "{status} {value}");
        value
    }

    /// Makes a task; gives its id.
    pub(crate) async fn make_task(&self, body: Value) -> i64 {
        self.post("/tasks", body).await["task"]["id"].as_i64().expect("an id")
    }

    /// Opens the WebSocket and sends a subscription.
    pub(crate) async fn subscribe(&self, subscription: Value) -> Listener {
        let mut listener = self.open().await;
        listener.send(subscription).await;
        assert_eq!(listener.next().await["type"], "subscribed");
        listener
    }

    pub(crate) async fn open(&self) -> Listener {
        let host = self.base.trim_start_matches("http://");
        let stream = TcpStream::connect(host).await.expect("a connection");
        let url = format!("ws://{host}/ws?actor_type=agent&actor_id={}", self.actor);
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in self.sent_headers() {
            request.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a WebSocket");
        let mut listener = Listener(socket);
        assert_eq!(listener.next().await, json!({"type": "connected"}));
        listener
    }
}

/// Somebody who listens to events.
pub(crate) struct Listener(pub WebSocketStream<TcpStream>);

impl Listener {
    pub(crate) async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// The next JSON message.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a message in time") {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// The next message; `None` once the connection is over.
    pub(crate) async fn try_next(&mut self) -> Option<Message> {
        self.0.next().await?.ok().filter(|message| !message.is_close())
    }

    /// The type of the next event and the id of its task.
    pub(crate) async fn next_event(&mut self) -> (String, i64) {
        let event = self.next().await;
        let id = event["data"]["task"]["id"].as_i64().expect("a task's id");
        (event["type"].as_str().expect("a type").to_owned(), id)
    }
}

/// Somebody who speaks to a hub byte by byte.
pub(crate) struct RawCaller(pub TcpStream);

impl RawCaller {
    pub(crate) async fn connect(hub: SocketAddr) -> Self {
        Self(TcpStream::connect(hub).await.expect("a connection"))
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("sent");
    }

    /// How an answer begins: the version and the status.
    pub(crate) async fn begin(&mut self) -> String {
        let mut begun = [0; 12];
        timeout(PATIENCE, self.0.read_exact(&mut begun)).await.expect("in time").expect("read");
        String::from_utf8_lossy(&begun).into_owned()
    }

    /// All that comes until the end of the connection, or of the patience.
    pub(crate) async fn rest(mut self) -> String {
        let mut answer = Vec::new();
        // A connection that was reset has said all that it had to say.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut answer)).await.expect("an end in time");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// The answer to a request that is sent as it stands, without the line that ends its head.
pub(crate) async fn ask(hub: SocketAddr, head: &str) -> String {
    let mut caller = RawCaller::connect(hub).await;
    caller.send(&format!("{head}\r\nConnection: close\r\n\r\n")).await;
    caller.rest().await
}
