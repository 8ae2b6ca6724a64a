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
    /// How many bytes it passes on, either way together, before it cuts a connection.
    pub(crate) cuts_after: Option<u64>,
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
    match manner.cuts_after {
        None => copy_bidirectional(&mut stream, &mut beyond).await.map(drop).ok(),
        Some(limit) => pass_on(stream, beyond, limit).await,
    }
}

/// Passes bytes on until so many have gone either way together, then cuts.
async fn pass_on(stream: TcpStream, beyond: TcpStream, limit: u64) -> Option<()> {
    let left = Arc::new(Mutex::new(limit));
    let (from, to) = (stream.into_split(), beyond.into_split());
    tokio::select! {
        () = one_way(from.0, to.1, &left) => {}
        () = one_way(to.0, from.1, &left) => {}
    }
    Some(())
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    left: &Mutex<u64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count) = tokio::io::AsyncReadExt::read(&mut from, &mut buffer).await else { return };
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        let mut left = left.lock().expect("no panic");
        *left = left.saturating_sub(count as u64);
        if *left == 0 {
            return;
        }
    }
}
