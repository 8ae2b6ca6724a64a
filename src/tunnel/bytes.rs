//! A WebSocket as a stream of bytes: binary messages in order, whose ends mean nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

/// How long a hub may be silent before the connection counts as dead: it sends pings every 20 s.
pub(super) const SILENCE: Duration = Duration::from_secs(45);

/// The longest message that is sent, in bytes: half of what the encrypted stream gives at a time, and a
/// quarter of what a hub takes.
const MESSAGE: usize = 64 * 1024;

/// The WebSocket below a tunnel's stream.
pub(super) type TunnelSocket = WebSocketStream<TokioIo<Upgraded>>;

/// The bytes that one end of a tunnel sends to the other.
pub(crate) struct WebSocketBytes {
    socket: TunnelSocket,
    /// What came and was not read yet.
    received: Bytes,
    /// When the hub has been silent for too long, while its word was waited for.
    dead_at: Pin<Box<Sleep>>,
    /// The other end has ended in good order.
    has_ended: bool,
    /// This end has.
    is_closing: bool,
}

impl WebSocketBytes {
    /// From now on all is the other end's.
    pub(crate) fn new(socket: TunnelSocket) -> Self {
        let dead_at = Box::pin(sleep(SILENCE));
        Self { socket, received: Bytes::new(), dead_at, has_ended: false, is_closing: false }
    }

    /// Waits until there is something to read; false at the end.
    fn poll_filled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.received.is_empty() && !self.has_ended {
            let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(cx) else {
                ready!(self.dead_at.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            };
            match message {
                Some(Ok(Message::Binary(bytes))) => self.received = bytes,
                Some(Ok(Message::Close(frame))) => match frame {
                    Some(frame) if frame.code == CloseCode::Normal => self.has_ended = true,
                    _ => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                },
                Some(Ok(_)) => {}
                Some(Err(WsError::ConnectionClosed)) => self.has_ended = true,
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
            self.dead_at.as_mut().reset(Instant::now() + SILENCE);
        }
        Poll::Ready(Ok(!self.received.is_empty()))
    }
}

impl AsyncRead for WebSocketBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if ready!(self.poll_filled(cx))? {
            let len = self.received.len().min(buffer.remaining());
            buffer.put_slice(self.received.get(..len).unwrap_or_default());
            self.received.advance(len);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocketBytes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(to_io)?;
        let message = buffer.get(..MESSAGE).unwrap_or(buffer);
        socket.start_send(Message::Binary(Bytes::copy_from_slice(message))).map_err(to_io)?;
        Poll::Ready(Ok(message.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(to_io)
    }

    /// Says that all was sent. The other direction goes on until the other end says so too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closing {
            let mut socket = Pin::new(&mut self.socket);
            ready!(socket.as_mut().poll_ready(cx)).map_err(to_io)?;
            let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
            socket.start_send(Message::Close(Some(frame))).map_err(to_io)?;
            self.is_closing = true;
        }
        self.poll_flush(cx)
    }
}

fn to_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::ConnectionClosed | WsError::AlreadyClosed => io::ErrorKind::NotConnected.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
