//! Streams as their user sees them.

mod halves;
mod handle;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::command::StreamCommand;
use super::shared::Shared;
use super::{Instance, Socket};
use crate::error::Error;
use crate::proto::Stats;
pub use halves::{ReadHalf, WriteHalf};
pub use handle::StreamHandle;

/// A reliable stream. [`AsyncWrite::poll_shutdown`] ends our direction; dropping the stream without it, or
/// before both halves are gone, destroys it for the peer too. After it, what was written is delivered in the
/// background.
#[derive(Debug)]
pub struct Stream {
    reader: ReadHalf,
    writer: WriteHalf,
}

/// Drops the stream when both halves are gone.
#[derive(Debug)]
pub(super) struct Guard {
    handle: StreamHandle,
    _instance: Arc<Instance>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.handle.command(StreamCommand::Drop);
    }
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, instance: Arc<Instance>) -> Self {
        let handle = StreamHandle { shared, commands: instance.commands.clone() };
        let guard = Arc::new(Guard { handle: handle.clone(), _instance: instance });
        Self {
            reader: ReadHalf { handle: handle.clone(), taken: VecDeque::new(), _guard: guard.clone() },
            writer: WriteHalf { handle, _guard: guard },
        }
    }

    /// The id that packets to it carry.
    pub fn id(&self) -> u32 {
        self.reader.handle.id()
    }

    /// Control over the stream from elsewhere.
    pub fn handle(&self) -> StreamHandle {
        self.reader.handle.clone()
    }

    /// See [`StreamHandle::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(&self, socket: &Socket, remote_id: u32, to: SocketAddr) -> Result<(), Error> {
        self.reader.handle.connect(socket, remote_id, to)
    }

    /// See [`StreamHandle::change_remote`].
    ///
    /// # Errors
    /// As there.
    pub fn change_remote(&self, socket: &Socket, remote_id: u32, to: SocketAddr) -> Result<(), Error> {
        self.reader.handle.change_remote(socket, remote_id, to)
    }

    /// See [`StreamHandle::set_keepalive`].
    pub fn set_keepalive(&self, interval: Option<Duration>) {
        self.reader.handle.set_keepalive(interval);
    }

    /// See [`StreamHandle::remote_addr`].
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.reader.handle.remote_addr()
    }

    /// See [`StreamHandle::stats`].
    pub fn stats(&self) -> Stats {
        self.reader.handle.stats()
    }

    /// See [`StreamHandle::send_message`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_message(&self, message: Bytes) -> Result<(), Error> {
        self.reader.handle.send_message(message)
    }

    /// The next unordered message. `None` once the stream is closed.
    pub async fn recv_message(&mut self) -> Option<Bytes> {
        self.reader.recv_message().await
    }

    /// See [`ReadHalf::poll_read_chunk`].
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.reader.poll_read_chunk(cx)
    }

    /// See [`ReadHalf::read_chunk`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.reader.read_chunk().await
    }

    /// See [`WriteHalf::poll_write_ready`].
    pub fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_write_ready(cx)
    }

    /// See [`WriteHalf::write_chunk`].
    ///
    /// # Errors
    /// As there.
    pub fn write_chunk(&mut self, data: Bytes) -> io::Result<()> {
        self.writer.write_chunk(data)
    }

    /// See [`WriteHalf::end`].
    ///
    /// # Errors
    /// As there.
    pub fn end(&mut self) -> io::Result<()> {
        self.writer.end()
    }

    /// See [`WriteHalf::flushed`].
    ///
    /// # Errors
    /// As there.
    pub async fn flushed(&mut self) -> io::Result<()> {
        self.writer.flushed().await
    }

    /// See [`StreamHandle::closed`].
    ///
    /// # Errors
    /// As there.
    pub async fn closed(&mut self) -> Result<(), Error> {
        self.reader.handle.closed().await
    }

    /// See [`StreamHandle::destroy`].
    pub fn destroy(&self) {
        self.reader.handle.destroy();
    }

    /// Both directions apart. The stream lives until both halves are dropped.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.reader, self.writer)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(cx)
    }
}
