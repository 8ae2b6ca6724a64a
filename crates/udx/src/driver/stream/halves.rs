//! The two directions of a stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Guard, StreamHandle};
use crate::driver::shared::charge;
use crate::error::Error;

/// Bytes the reader takes over at once; taken bytes no longer count against the receive window.
const TAKE: usize = 256 * 1024;

/// Most bytes that one write through [`AsyncWrite`] copies.
const MAX_COPY: usize = 64 * 1024;

/// The reading half of a [`Stream`](super::Stream).
#[derive(Debug)]
pub struct ReadHalf {
    pub(super) handle: StreamHandle,
    /// Taken over from the shared queue.
    pub(super) taken: VecDeque<Bytes>,
    pub(super) _guard: Arc<Guard>,
}

/// The writing half of a [`Stream`](super::Stream).
#[derive(Debug)]
pub struct WriteHalf {
    pub(super) handle: StreamHandle,
    pub(super) _guard: Arc<Guard>,
}

impl ReadHalf {
    /// Control over the stream.
    pub fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    /// The next bytes in order, as they lie in the receive buffer; `None` after the peer's END. Bytes kept
    /// for long should be copied, for they hold on to more memory than their own.
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
            bytes += charge(&chunk);
            self.taken.push_back(chunk);
        }
        state.received_bytes -= bytes;
        if let Some(chunk) = self.taken.pop_front() {
            let must_notify = state.wants_window;
            drop(state);
            if must_notify {
                self.handle.notify();
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
            self.handle.notify();
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
            self.handle.notify();
        }
        Ok(())
    }

    /// Bytes written that the peer has not acknowledged yet.
    pub fn pending(&self) -> usize {
        let state = self.handle.shared.lock();
        state.queued_bytes + state.unacked
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
