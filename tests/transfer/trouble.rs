//! A way to the hub on which one kind of call meets trouble.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How much later a slow answer comes.
const SLOW: Duration = Duration::from_millis(300);

/// A call of the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Call {
    Create,
    List,
    Read,
    Message,
    Claim,
    Complete,
    /// The event stream.
    Events,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Slow,
    /// It does not reach the service, and is answered with this status.
    Status(&'static str),
    /// It does not reach the service; a web page answers.
    Page,
    /// It reaches the service, and this is answered in its place.
    Json(&'static str),
    /// The connection ends before it reaches the service.
    CutBefore,
    /// It reaches the service; the connection ends after so many bytes of the answer.
    CutAfter(usize),
    Events(Tunes),
}

/// What becomes of events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tunes {
    /// No event stream comes about.
    Blocked,
    /// None is told.
    Silent,
    /// Each is told twice.
    Doubled,
    /// The stream ends with each.
    CutAtEach,
}

pub(crate) struct TroubledWay {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

struct Trouble {
    hub: SocketAddr,
    call: Call,
    fault: Fault,
    lasts: bool,
    is_over: AtomicBool,
}

impl TroubledWay {
    /// The first such call meets the fault; all do if it `lasts`.
    pub(crate) async fn start(hub: SocketAddr, call: Call, fault: Fault, lasts: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trouble = Arc::new(Trouble { hub, call, fault, lasts, is_over: AtomicBool::new(false) });
        let serving = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let trouble = trouble.clone();
                tokio::spawn(async move { trouble.serve(near).await });
            }
        });
        Self { address, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for TroubledWay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Trouble {
    /// Serves one request; the next one comes by another connection.
    async fn serve(&self, mut near: TcpStream) -> Option<()> {
        let (head, body) = read_request(&mut near).await?;
        let mut first = head.lines().next()?.split(' ');
        let (method, target) = (first.next()?, first.next()?);
        if target.starts_with("/ws") {
            return self.events(near, &head, target).await;
        }
        let is_meant = call_of(method, target) == Some(self.call)
            && (self.lasts || !self.is_over.swap(true, Ordering::Relaxed));
        let answer = match self.fault {
            _ if !is_meant => self.pass(&head, &body).await?,
            Fault::Slow => {
                tokio::time::sleep(SLOW).await;
                self.pass(&head, &body).await?
            }
            Fault::Status(status) => answer(status, "application/json", "{\"error\":\"trouble\"}"),
            Fault::Page => answer("200 OK", "text/html", "<!doctype html><title>Sign in</title>"),
            Fault::Json(text) => {
                self.pass(&head, &body).await?;
                answer("200 OK", "application/json", text)
            }
            Fault::CutBefore | Fault::Events(_) => return None,
            Fault::CutAfter(len) => {
                let mut answer = self.pass(&head, &body).await?;
                answer.truncate(len.min(answer.len().saturating_sub(1)));
                answer
            }
        };
        near.write_all(&answer).await.ok()?;
        near.shutdown().await.ok()
    }

    /// The hub's answer, behind which the connection ends.
    async fn pass(&self, head: &str, body: &[u8]) -> Option<Vec<u8>> {
        let mut far = TcpStream::connect(self.hub).await.ok()?;
        far.write_all(head.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).as_bytes()).await.ok()?;
        far.write_all(body).await.ok()?;
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.ok()?;
        Some(answer)
    }

    async fn events(&self, mut near: TcpStream, head: &str, target: &str) -> Option<()> {
        let tunes = match self.fault {
            Fault::Events(tunes) => Some(tunes),
            _ => None,
        };
        if tunes == Some(Tunes::Blocked) {
            near.write_all(&answer("403 Forbidden", "text/html", "<h1>No upgrades here</h1>")).await.ok()?;
            return near.shutdown().await.ok();
        }
        let key = header(head, "sec-websocket-key")?;
        let accept = derive_accept_key(key.as_bytes());
        let upgraded = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        near.write_all(upgraded.as_bytes()).await.ok()?;
        let near = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let (mut to_near, mut from_near) = near.split();
        let far = TcpStream::connect(self.hub).await.ok()?;
        let (far, _) =
            tokio_tungstenite::client_async(format!("ws://{}{target}", self.hub), far).await.ok()?;
        let (mut to_far, mut from_far) = far.split();
        loop {
            tokio::select! {
                message = from_near.next() => to_far.send(message?.ok()?).await.ok()?,
                message = from_far.next() => {
                    let message = message?.ok()?;
                    let is_event = message.to_text().is_ok_and(|text| text.contains("\"task."));
                    match tunes.filter(|_| is_event) {
                        Some(Tunes::Silent) => continue,
                        Some(Tunes::Doubled) => to_near.send(message.clone()).await.ok()?,
                        _ => {}
                    }
                    to_near.send(message).await.ok()?;
                    if is_event && tunes == Some(Tunes::CutAtEach) {
                        return None;
                    }
                }
            }
        }
    }
}

fn header<'h>(head: &'h str, wanted: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    })
}

fn call_of(method: &str, target: &str) -> Option<Call> {
    let path = target.split('?').next()?.strip_prefix("/tasks")?;
    let verb = path.rsplit('/').next().unwrap_or_default();
    match (method, path, verb) {
        ("POST", "", _) => Some(Call::Create),
        ("GET", "", _) => Some(Call::List),
        ("POST", _, "messages") => Some(Call::Message),
        ("POST", _, "claim") => Some(Call::Claim),
        ("POST", _, "complete") => Some(Call::Complete),
        ("GET", ..) => Some(Call::Read),
        _ => None,
    }
}

fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let retry = if status.starts_with("429") { "Retry-After: 1\r\n" } else { "" };
    let len = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{retry}Content-Length: {len}\r\n");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

async fn read_request(near: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    near.read_exact(&mut body).await.ok()?;
    Some((head, body))
}
