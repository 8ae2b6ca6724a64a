//! Streams as their user sees them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::command::{Command, StreamCommand};
use super::shared::Shared;
use super::{Instance, Socket};
use crate::error::Error;
use crate::proto::{Remote, SocketId, Stats};

/// Bytes the reader takes over at once; taken bytes no longer count against the receive window.
const TAKE: usize = 256 * 1024;

/// Most bytes that one write through [`AsyncWrite`] copies.
const MAX_COPY: usize = 64 * 1024;

/// Called for each packet that arrives for a stream on a socket it was never connected through, which is any while
/// it is unconnected. Runs on the owner task, and must not block.
pub type Firewall = Box<dyn FnMut(SocketId, SocketAddr) -> Verdict + Send>;

/// What a [`Firewall`] makes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As if it had never arrived.
    Refuse,
    /// Its data is kept; it is acknowledged once the stream is connected.
    Accept,
    /// Accepts it, and connects the stream to where it came from, as the peer's stream `remote_id`.
    Connect {
        /// The stream's id at the peer.
        remote_id: u32,
    },
}

/// How to make a stream.
#[derive(Default)]
pub struct StreamOptions {
    /// The id that packets to it carry; a random free one if `None`.
    pub id: Option<u32>,
    /// Judges packets before the stream is connected, or from other sockets. `None` refuses them all.
    pub firewall: Option<Firewall>,
    /// Number of the first packet sent.
    pub seq: u32,
    /// Number of the first packet expected.
    pub ack: u32,
    /// Hand up bytes in whole frames of a 3-byte little-endian length and so many bytes, where the stream is made of
    /// them. Nothing else depends on it.
    pub framed: bool,
}

impl std::fmt::Debug for StreamOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamOptions").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A reliable stream. [`AsyncWrite::poll_shutdown`] ends our direction; dropping the stream without it, or before
/// both halves are gone, destroys it for the peer too. After it, what was written is delivered in the background.
#[derive(Debug)]
pub struct Stream {
    reader: ReadHalf,
    writer: WriteHalf,
}

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub struct ReadHalf {
    handle: StreamHandle,
    /// Taken over from the shared queue.
    taken: VecDeque<Bytes>,
    _guard: Arc<Guard>,
}

/// The writing half of a [`Stream`].
#[derive(Debug)]
pub struct WriteHalf {
    handle: StreamHandle,
    _guard: Arc<Guard>,
}

/// Control over a stream from anywhere; does not keep it open.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
}

/// Drops the stream when both halves are gone.
#[derive(Debug)]
struct Guard {
    shared: Arc<Shared>,
    _instance: Arc<Instance>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.command(Command::Stream(self.shared.clone(), StreamCommand::Drop));
    }
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, instance: Arc<Instance>) -> Self {
        let guard = Arc::new(Guard { shared: shared.clone(), _instance: instance });
        let handle = StreamHandle { shared };
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

impl StreamHandle {
    /// The id that packets to the stream carry.
    pub fn id(&self) -> u32 {
        self.shared.id
    }

    /// Names the other end. What the stream received so far is acknowledged; nothing else is sent by this.
    ///
    /// # Errors
    /// [`Error::AlreadyConnected`], [`Error::InvalidAddress`], or why the stream is closed.
    pub fn connect(&self, socket: &Socket, remote_id: u32, to: SocketAddr) -> Result<(), Error> {
        let remote = remote(socket, remote_id, to)?;
        let mut state = self.shared.lock();
        check_open(state.closed)?;
        if state.is_connected {
            return Err(Error::AlreadyConnected);
        }
        state.is_connected = true;
        state.remote = Some(to);
        drop(state);
        self.command(StreamCommand::Connect(remote));
        Ok(())
    }

    /// Moves the stream to another path: what was not yet sent goes there; packets on their way keep the old one,
    /// also when repeated. [`Self::remote_changed`] tells when all of those are acknowledged.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::InvalidAddress`], or why the stream is closed.
    pub fn change_remote(&self, socket: &Socket, remote_id: u32, to: SocketAddr) -> Result<(), Error> {
        let remote = remote(socket, remote_id, to)?;
        let mut state = self.shared.lock();
        check_open(state.closed)?;
        if !state.is_connected {
            return Err(Error::NotConnected);
        }
        state.remote = Some(to);
        drop(state);
        self.command(StreamCommand::ChangeRemote(remote));
        Ok(())
    }

    /// How many changes of the remote have completed, once that is more than `seen`.
    ///
    /// # Errors
    /// Why the stream is closed.
    pub async fn remote_changed(&self, seen: u64) -> Result<u64, Error> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.remote_changes > seen {
                return Poll::Ready(Ok(state.remote_changes));
            }
            if let Err(error) = check_open(state.closed) {
                return Poll::Ready(Err(error));
            }
            state.watchers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Sends a heartbeat whenever the stream was idle for this long, which keeps NAT mappings open. `None`, the
    /// start, for never. A peer's silence is no error.
    pub fn set_keepalive(&self, interval: Option<Duration>) {
        let interval = interval.map(|interval| u64::try_from(interval.as_micros()).unwrap_or(u64::MAX));
        self.command(StreamCommand::Keepalive(interval));
    }

    /// Where packets go now, once connected.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.shared.lock().remote
    }

    /// Whether the stream was connected, by its user or its firewall.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().is_connected
    }

    /// Counters and estimates, as of the last packets.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats
    }

    /// Sends one unordered message: it may be lost, and must fit one packet.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::MessageTooLarge`], or why the stream is closed.
    pub fn send_message(&self, message: Bytes) -> Result<(), Error> {
        let state = self.shared.lock();
        check_open(state.closed)?;
        if !state.is_connected {
            return Err(Error::NotConnected);
        }
        if message.len() > crate::proto::SAFE_MESSAGE {
            return Err(Error::MessageTooLarge);
        }
        drop(state);
        self.command(StreamCommand::Message(message));
        Ok(())
    }

    /// From now on, sends what arrives for this stream on to the peer of `destination`, a stream of the same instance,
    /// with nothing changed but the stream id: the two peers then talk to each other, without knowing it. It ends with
    /// either stream.
    pub fn relay_to(&self, destination: &StreamHandle) {
        self.command(StreamCommand::RelayTo(destination.shared.clone()));
    }

    /// Gives the stream up at once, and tells the peer. Unread data is still readable, unsent data is dropped.
    pub fn destroy(&self) {
        self.command(StreamCommand::Destroy);
    }

    /// Waits until the stream is closed: both sides ended it and know so, or it failed.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn closed(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            match state.closed {
                Some(result) => Poll::Ready(result),
                None => {
                    state.watchers.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn command(&self, command: StreamCommand) {
        self.shared.command(Command::Stream(self.shared.clone(), command));
    }
}

impl ReadHalf {
    /// Control over the stream.
    pub fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    /// The next bytes in order, as they lie in the receive buffer; `None` after the peer's END. Bytes kept for long
    /// should be copied, for they hold on to more memory than their own.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(chunk) = self.taken.pop_front() {
            return Poll::Ready(Ok(Some(chunk)));
        }
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let mut bytes = 0;
        while bytes < TAKE
            && let Some(chunk) = state.received.pop_front()
        {
            bytes += chunk.len();
            self.taken.push_back(chunk);
        }
        state.received_bytes -= bytes;
        if let Some(chunk) = self.taken.pop_front() {
            let must_notify = state.wants_window;
            drop(state);
            if must_notify {
                shared.notify();
            }
            return Poll::Ready(Ok(Some(chunk)));
        }
        if state.is_ended {
            return Poll::Ready(Ok(None));
        }
        if let Some(result) = state.closed {
            return Poll::Ready(result.map(|()| None).map_err(io::Error::from));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// As [`Self::poll_read_chunk`], to await.
    ///
    /// # Errors
    /// Why the stream failed, after all data that came before.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// The next unordered message. `None` once the stream is closed.
    pub async fn recv_message(&mut self) -> Option<Bytes> {
        poll_fn(|cx| {
            let mut state = self.handle.shared.lock();
            if let Some(message) = state.messages.pop_front() {
                return Poll::Ready(Some(message));
            }
            if state.closed.is_some() {
                return Poll::Ready(None);
            }
            state.message_reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl WriteHalf {
    /// Control over the stream.
    pub fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    /// Ready when there is room for another chunk of any size.
    pub fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.handle.shared.lock();
        if state.closed.is_some() || state.is_end_written {
            return Poll::Ready(Err(state.error().unwrap_or(Error::WriteAfterEnd).into()));
        }
        if state.is_writable() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Queues a chunk, which is not copied before datagrams are made of it. Always takes it whole: await
    /// [`Self::poll_write_ready`] before.
    ///
    /// # Errors
    /// [`Error::WriteAfterEnd`], or why the stream is closed.
    pub fn write_chunk(&mut self, data: Bytes) -> io::Result<()> {
        let mut state = self.handle.shared.lock();
        if state.closed.is_some() || state.is_end_written {
            return Err(state.error().unwrap_or(Error::WriteAfterEnd).into());
        }
        if !data.is_empty() {
            state.queued_bytes += data.len();
            state.queued.push_back(data);
            drop(state);
            self.handle.shared.notify();
        }
        Ok(())
    }

    /// Ends our direction after what was written; the peer can still send. Later calls do nothing.
    ///
    /// # Errors
    /// Why the stream failed.
    pub fn end(&mut self) -> io::Result<()> {
        let mut state = self.handle.shared.lock();
        if let Some(error) = state.error() {
            return Err(error.into());
        }
        if !state.is_end_written && state.closed.is_none() {
            state.is_end_written = true;
            drop(state);
            self.handle.shared.notify();
        }
        Ok(())
    }

    /// Waits until the peer has acknowledged everything written so far.
    ///
    /// # Errors
    /// Why the stream failed before.
    pub async fn flushed(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut state = self.handle.shared.lock();
            if let Some(error) = state.error() {
                return Poll::Ready(Err(error.into()));
            }
            if state.queued_bytes + state.unacked == 0 {
                return Poll::Ready(Ok(()));
            }
            state.watchers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut has_read = false;
        while buf.remaining() > 0 {
            let mut chunk = match this.poll_read_chunk(cx) {
                Poll::Ready(Ok(Some(chunk))) => chunk,
                _ if has_read => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            let n = chunk.len().min(buf.remaining());
            buf.put_slice(&chunk[..n]);
            chunk.advance(n);
            if !chunk.is_empty() {
                this.taken.push_front(chunk);
            }
            has_read = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_ready(cx))?;
        let n = buf.len().min(MAX_COPY);
        this.write_chunk(Bytes::copy_from_slice(&buf[..n]))?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().end())
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

fn remote(socket: &Socket, id: u32, address: SocketAddr) -> Result<Remote, Error> {
    let is_mapped = match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_some(),
    };
    if address.port() == 0 || (socket.local_addr().is_ipv4() && !is_mapped) {
        return Err(Error::InvalidAddress);
    }
    Ok(Remote { socket: socket.id(), address, id })
}

fn check_open(closed: Option<Result<(), Error>>) -> Result<(), Error> {
    match closed {
        None => Ok(()),
        Some(Ok(())) => Err(Error::Cancelled),
        Some(Err(error)) => Err(error),
    }
}
