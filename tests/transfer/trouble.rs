//! A way to the hub on which one kind of call meets trouble.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http::{Request, answer};
use crate::socket;

/// How much later a slow answer comes.
const SLOW: Duration = Duration::from_millis(300);

const JSON: (&str, &str) = ("Content-Type", "application/json");
const HTML: (&str, &str) = ("Content-Type", "text/html");
/// When to try again, as a 429 says it.
const RETRY: (&str, &str) = ("Retry-After", "1");

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
        let request = Request::read(&mut near).await?;
        if request.target.starts_with("/ws") {
            return self.events(near, &request).await;
        }
        let is_meant = call_of(&request.method, &request.target) == Some(self.call)
            && (self.lasts || !self.is_over.swap(true, Ordering::Relaxed));
        let answer = match self.fault {
            _ if !is_meant => self.pass(&request).await?,
            Fault::Slow => {
                tokio::time::sleep(SLOW).await;
                self.pass(&request).await?
            }
            Fault::Status(status) => {
                let headers: &[_] = if status.starts_with("429") { &[JSON, RETRY] } else { &[JSON] };
                answer(status, headers, "{\"error\":\"trouble\"}")
            }
            Fault::Page => answer("200 OK", &[HTML], "<!doctype html><title>Sign in</title>"),
            Fault::Json(text) => {
                self.pass(&request).await?;
                answer("200 OK", &[JSON], text)
            }
            Fault::CutBefore | Fault::Events(_) => return None,
            Fault::CutAfter(len) => {
                let mut answer = self.pass(&request).await?;
                answer.truncate(len.min(answer.len().saturating_sub(1)));
                answer
            }
        };
        near.write_all(&answer).await.ok()?;
        near.shutdown().await.ok()
    }

    /// The hub's answer, behind which the connection ends.
    async fn pass(&self, Request { head, body, .. }: &Request) -> Option<Vec<u8>> {
        let mut far = TcpStream::connect(self.hub).await.ok()?;
        let head = head.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        let head: Vec<u8> = head.chars().filter_map(|byte| u8::try_from(byte).ok()).collect();
        far.write_all(&head).await.ok()?;
        far.write_all(body).await.ok()?;
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.ok()?;
        Some(answer)
    }

    async fn events(&self, mut near: TcpStream, request: &Request) -> Option<()> {
        let tunes = match self.fault {
            Fault::Events(tunes) => Some(tunes),
            _ => None,
        };
        if tunes == Some(Tunes::Blocked) {
            near.write_all(&answer("403 Forbidden", &[HTML], "<h1>No upgrades here</h1>")).await.ok()?;
            return near.shutdown().await.ok();
        }
        let near = socket::accept(near, request.header("sec-websocket-key")?).await?;
        let (mut to_near, mut from_near) = near.split();
        let far = TcpStream::connect(self.hub).await.ok()?;
        let url = format!("ws://{}{}", self.hub, request.target);
        let (far, _) = tokio_tungstenite::client_async(url, far).await.ok()?;
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
