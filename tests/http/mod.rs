//! HTTP as far as a service of the tests' own speaks it: one request a connection.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A request as it arrived.
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path, with its query.
    pub(crate) target: String,
    /// A character a byte, whatever that stands for.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Reads a head and as much body as it announces; `None` where the client hangs up before.
    pub(crate) async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head: String = head.iter().map(|&byte| char::from(byte)).collect();
        let mut first = head.lines().next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let mut request = Self { method, target, head, body: Vec::new() };
        if let Some(length) = request.header("content-length") {
            request.body = vec![0; length.parse().ok()?];
            stream.read_exact(&mut request.body).await.ok()?;
        }
        Some(request)
    }

    /// A header by its name, whatever its case.
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }
}

/// An answer, behind which the connection ends.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = head(status, headers, &format!("Content-Length: {}\r\n", body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// The head of one; `length` is its header, if the body does not end with the connection.
pub(crate) fn head(status: &str, headers: &[(&str, &str)], length: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n").into_bytes()
}
