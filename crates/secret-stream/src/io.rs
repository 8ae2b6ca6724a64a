//! A transport over anything that reads and writes bytes, such as a TCP stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_util::io::poll_read_buf;

use crate::transport::{ChunkReader, ChunkWriter, Transport};

/// Bytes that may wait to be written before the writer has to wait. One large batch fits.
const HIGH_WATER: usize = 1024 * 1024;

/// Bytes asked of the reader at a time.
const READ_CHUNK: usize = 64 * 1024;

/// Makes a [`Transport`] of anything that is `AsyncRead + AsyncWrite`, such as a TCP stream.
///
/// Must be split inside a tokio runtime: a task writes what is queued, so that a write needs no further
/// polls.
pub struct Io<T>(pub T);

impl<T: AsyncRead + AsyncWrite + Send + 'static> Transport for Io<T> {
    type Reader = IoReader<T>;
    type Writer = IoWriter<T>;
    type Handle = ();

    fn handle(&self) {}

    fn split(self) -> (Self::Reader, Self::Writer) {
        let shared = Arc::new(IoShared {
            io: Mutex::new(Some(Box::pin(self.0))),
            state: Mutex::default(),
            filled: Notify::new(),
        });
        tokio::spawn(pump(shared.clone()));
        let guard = Arc::new(Guard { shared: shared.clone() });
        let reader = IoReader { buffer: BytesMut::new(), shared: shared.clone(), _guard: guard.clone() };
        (reader, IoWriter { shared, _guard: guard })
    }
}

/// The receiving half of [`Io`].
pub struct IoReader<T> {
    buffer: BytesMut,
    shared: Arc<IoShared<T>>,
    _guard: Arc<Guard<T>>,
}

/// The sending half of [`Io`].
pub struct IoWriter<T> {
    shared: Arc<IoShared<T>>,
    _guard: Arc<Guard<T>>,
}

/// Gives the stream up when both halves are gone, unless its end was written.
struct Guard<T> {
    shared: Arc<IoShared<T>>,
}

/// What the halves share with the task that writes.
struct IoShared<T> {
    /// `None` once destroyed: that closes it, whatever the halves still hold.
    io: Mutex<Option<Pin<Box<T>>>>,
    state: Mutex<IoState>,
    filled: Notify,
}

#[derive(Default)]
struct IoState {
    chunks: VecDeque<Bytes>,
    /// Bytes queued or being written.
    pending: usize,
    /// Those of them that have left: a chunk leaves bit by bit.
    left: usize,
    end: End,
    failed: Option<io::ErrorKind>,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum End {
    #[default]
    Open,
    Asked,
    Done,
    Destroyed,
}

impl<T> IoShared<T> {
    fn lock(&self) -> MutexGuard<'_, IoState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls what is below, or fails once it is destroyed.
    fn poll_io<R>(&self, poll: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match &mut *self.io.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(io) => poll(io.as_mut()),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn destroy(&self) {
        self.io.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = self.lock();
        state.end = End::Destroyed;
        state.chunks.clear();
        state.wake();
        drop(state);
        self.filled.notify_one();
    }
}

impl IoState {
    fn check(&self) -> io::Result<()> {
        match (self.failed, self.end) {
            (Some(kind), _) => Err(kind.into()),
            (None, End::Destroyed) => Err(io::ErrorKind::ConnectionAborted.into()),
            (None, _) => Ok(()),
        }
    }

    fn wake(&mut self) {
        for waker in [self.writer.take(), self.reader.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T: AsyncRead + Send + 'static> ChunkReader for IoReader<T> {
    fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.shared.lock().reader = Some(cx.waker().clone());
        self.buffer.reserve(READ_CHUNK);
        let buffer = &mut self.buffer;
        let read = std::task::ready!(self.shared.poll_io(|io| poll_read_buf(io, cx, buffer)))?;
        Poll::Ready(Ok((read > 0).then(|| self.buffer.split().freeze())))
    }

    fn destroy(&mut self) {
        self.shared.destroy();
    }
}

impl<T: AsyncWrite + Send + 'static> ChunkWriter for IoWriter<T> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.check()?;
        if state.pending < HIGH_WATER { Poll::Ready(Ok(())) } else { state.wait(cx) }
    }

    fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.check()?;
        if state.end != End::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.pending += chunk.len();
        state.chunks.push_back(chunk);
        drop(state);
        self.shared.filled.notify_one();
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.check()?;
        if state.pending == 0 { Poll::Ready(Ok(())) } else { state.wait(cx) }
    }

    fn pending(&self) -> usize {
        let state = self.shared.lock();
        state.pending - state.left
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.check()?;
        match state.end {
            End::Done => return Poll::Ready(Ok(())),
            End::Open => {
                state.end = End::Asked;
                self.shared.filled.notify_one();
            }
            End::Asked | End::Destroyed => {}
        }
        state.wait(cx)
    }

    fn destroy(&mut self) {
        self.shared.destroy();
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        if self.shared.lock().end == End::Open {
            self.shared.destroy();
        }
    }
}

async fn pump<T: AsyncWrite>(shared: Arc<IoShared<T>>) {
    loop {
        let (chunk, end) = {
            let mut state = shared.lock();
            (state.chunks.pop_front(), state.end)
        };
        let result = match (chunk, end) {
            (_, End::Done | End::Destroyed) => return,
            (Some(chunk), _) => {
                let result = tokio::select! {
                    result = write_all(&shared, &chunk) => result,
                    () = destroyed(&shared) => return,
                };
                let mut state = shared.lock();
                (state.pending, state.left) = (state.pending - chunk.len(), 0);
                result
            }
            (None, End::Asked) => {
                let result = poll_fn(|cx| shared.poll_io(|io| io.poll_shutdown(cx))).await;
                let mut state = shared.lock();
                if state.end == End::Asked {
                    state.end = End::Done;
                }
                result
            }
            (None, End::Open) => {
                shared.filled.notified().await;
                continue;
            }
        };
        let mut state = shared.lock();
        state.failed = result.err().map(|error| error.kind());
        state.wake();
        if state.failed.is_some() {
            // What the peer said before can still be read.
            state.chunks.clear();
            return;
        }
    }
}

async fn write_all<T: AsyncWrite>(shared: &IoShared<T>, mut chunk: &[u8]) -> io::Result<()> {
    while !chunk.is_empty() {
        let written = poll_fn(|cx| shared.poll_io(|io| io.poll_write(cx, chunk))).await?;
        chunk = chunk.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
        shared.lock().left += written;
    }
    poll_fn(|cx| shared.poll_io(|io| io.poll_flush(cx))).await
}

async fn destroyed<T>(shared: &IoShared<T>) {
    while shared.lock().end != End::Destroyed {
        shared.filled.notified().await;
    }
}
