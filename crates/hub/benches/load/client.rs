//! A client that costs little beside what it measures: one connection, one request at a time.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection to the hub, as an actor.
pub(crate) struct Client {
    stream: TcpStream,
    actor: String,
    received: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(hub: SocketAddr, actor: &str) -> Self {
        Self::try_connect(hub, actor).await.expect("a connection")
    }

    pub(crate) async fn try_connect(hub: SocketAddr, actor: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(hub).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, actor: actor.into(), received: Vec::new() })
    }

    /// Sends a request; gives the status and the body.
    pub(crate) async fn try_call(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<(u16, Vec<u8>)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Actor-Type: agent\r\nX-Actor-ID: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.actor,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        loop {
            if let Some((status, body)) = parse(&self.received) {
                return Ok((status, body.to_vec()));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// [`Client::try_call`], whose answer must be JSON and well.
    pub(crate) async fn json(&mut self, method: &str, path: &str, body: &str) -> Value {
        let (status, body) = self.try_call(method, path, body).await.expect("an answer");
        assert!((200..300).contains(&status), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }
}

/// The status and the body of an answer, once it is whole.
fn parse(received: &[u8]) -> Option<(u16, &[u8])> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).expect("a head of text").to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().expect("a status");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.expect("a length").trim().parse().expect("a number");
    let body = received.get(end + 4..end + 4 + length)?;
    Some((status, body))
}
