//! A proxy of the web, as companies and sandboxes have them: the only way out.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http::Request;

/// A proxy on 127.0.0.1 that sends whatever host it is asked for to one address. It ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

/// What it is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// `name:password` in base 64, without which nobody gets through.
    pub(crate) password: Option<&'static str>,
    /// What it answers instead of letting anybody through.
    pub(crate) refusal: Option<&'static str>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, target, manner.clone(), seen.clone()));
            }
        });
        Self { address, asked, serving }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first lines of what it was asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    target: SocketAddr,
    manner: Manner,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let request = Request::read(&mut stream).await?;
    asked.lock().expect("no panic").push(format!("{} {}", request.method, request.target));
    let is_known = match manner.password {
        Some(password) => request.header("proxy-authorization") == Some(&format!("Basic {password}")),
        None => true,
    };
    let refusal = match (is_known, manner.refusal) {
        (false, _) => Some("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"),
        (true, refusal) => refusal,
    };
    if let Some(refusal) = refusal {
        stream.write_all(refusal.as_bytes()).await.ok()?;
        return stream.shutdown().await.ok();
    }
    let mut beyond = TcpStream::connect(target).await.ok()?;
    if request.method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    } else {
        // An address as a whole becomes a path; what belongs to this hop stays here.
        let (_, rest) = request.target.split_once("://")?;
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
        let head: Vec<&str> = request.head.lines().skip(1).filter(|line| !line.is_empty()).collect();
        let head =
            head.into_iter().filter(|line| !line.starts_with("proxy-")).collect::<Vec<_>>().join("\r\n");
        let head = format!("{} {path} HTTP/1.1\r\nconnection: close\r\n{head}\r\n\r\n", request.method);
        beyond.write_all(head.as_bytes()).await.ok()?;
        beyond.write_all(&request.body).await.ok()?;
    }
    copy_bidirectional(&mut stream, &mut beyond).await.map(drop).ok()
}
