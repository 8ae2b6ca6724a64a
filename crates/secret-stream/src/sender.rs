//! The sending half of a stream, and its keep-alive.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::Error;
use crate::message::{HEADROOM, LEAD, MAX_MESSAGE, Sealer, TAILROOM};
use crate::shared::{Shared, Traffic};
use crate::transport::ChunkWriter;

/// Bytes of memory taken at a time for copies of short messages, which share it.
const SCRATCH: usize = 16 * 1024;

/// The sending half of a [`SecretStream`](crate::SecretStream).
///
/// Every method can be cancelled (its future dropped): a message was then sent whole or not at all.
pub struct Sender<W: ChunkWriter> {
    writing: Arc<Writing<W>>,
    keep_alive: Option<KeepAlive>,
    shared: Arc<Shared>,
}

/// What others than the owner of a [`Sender`] may do to its stream. Does not keep the stream open.
pub struct Control<W: ChunkWriter> {
    writing: Weak<Writing<W>>,
    shared: Arc<Shared>,
}

struct Writing<W> {
    state: Mutex<SenderState<W>>,
}

struct SenderState<W> {
    sealer: Sealer,
    writer: W,
    scratch: BytesMut,
    last_write: Instant,
    ended: bool,
    /// Who waits for room. A keep-alive that looks for room must not replace this waker with its own.
    waiting: Option<Waker>,
    shared: Arc<Shared>,
}

/// The task that writes empty messages; ends with this.
struct KeepAlive(AbortHandle);

impl<W: ChunkWriter> Sender<W> {
    pub(crate) fn new(sealer: Sealer, writer: W, shared: Arc<Shared>) -> Self {
        let state = SenderState {
            sealer,
            writer,
            scratch: BytesMut::new(),
            last_write: Instant::now(),
            ended: false,
            waiting: None,
            shared: shared.clone(),
        };
        Self { writing: Arc::new(Writing { state: Mutex::new(state) }), keep_alive: None, shared }
    }

    /// Sends a copy of `message`, once there is room.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        poll_fn(|cx| {
            let mut state = self.writing.lock();
            ready!(state.poll_ready(cx))?;
            Poll::Ready(state.send(message))
        })
        .await
    }

    /// Sends the messages that stand in `buffer`, once there is room, encrypting them where they stand.
    ///
    /// Each of `messages` is one, with [`HEADROOM`] bytes in front and [`TAILROOM`] behind that will be
    /// overwritten; so prepared, they follow each other without a gap and fill `buffer`. Some hundred KiB at
    /// a time keep both ends busy.
    ///
    /// # Panics
    /// If `messages` do not fill `buffer` in this way.
    pub async fn send_in_place(&mut self, buffer: BytesMut, messages: &[Range<usize>]) -> Result<(), Error> {
        let mut end = 0;
        for message in messages {
            assert_eq!(message.start, end + HEADROOM, "messages stand at their places");
            assert!(message.start <= message.end, "messages have a length");
            if message.len() > MAX_MESSAGE {
                return Err(Error::MessageTooLong { length: message.len(), max: MAX_MESSAGE });
            }
            end = message.end + TAILROOM;
        }
        assert_eq!(end, buffer.len(), "messages fill the buffer");
        let mut buffer = Some(buffer);
        poll_fn(|cx| {
            let mut state = self.writing.lock();
            ready!(state.poll_ready(cx))?;
            let Some(mut buffer) = buffer.take() else { return Poll::Ready(Ok(())) };
            for message in messages {
                let mut sealed = buffer.split_to(HEADROOM + message.len() + TAILROOM);
                state.sealer.seal_in_place(&mut sealed)?;
                sealed.advance(LEAD);
                self.shared.count_sent();
                state.write(sealed.freeze())?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits until everything sent has left, or, where the transport knows, was acknowledged.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.writing.lock().writer.poll_flush(cx)).await.map_err(Error::Io)
    }

    /// Bytes of the encrypted stream that [`Self::flush`] would wait for.
    pub fn pending(&self) -> usize {
        self.writing.lock().writer.pending()
    }

    /// Ends this direction; what the peer still sends can be received.
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        poll_fn(|cx| {
            let mut state = self.writing.lock();
            state.ended = true;
            state.writer.poll_close(cx)
        })
        .await
        .map_err(Error::Io)
    }

    /// Ends both directions at once, telling the peer that it was no orderly end.
    pub fn destroy(&mut self) {
        self.writing.lock().destroy();
    }

    /// With an interval, sends an empty message whenever nothing was sent for so long, and takes empty
    /// messages that arrive for the peer's; without, does neither. Peers use 5 s.
    ///
    /// Must be called inside a tokio runtime.
    pub fn set_keep_alive(&mut self, interval: Option<Duration>) {
        self.shared.set_swallow_empty(interval.is_some());
        self.keep_alive = interval.map(|interval| {
            let task = tokio::spawn(keep_alive(Arc::downgrade(&self.writing), interval));
            KeepAlive(task.abort_handle())
        });
    }

    /// A handle that outlives the stream.
    pub fn control(&self) -> Control<W> {
        Control { writing: Arc::downgrade(&self.writing), shared: self.shared.clone() }
    }
}

impl<W: ChunkWriter> Control<W> {
    /// Sends an empty message if there is room, so that a dead path is noticed.
    pub fn send_keep_alive(&self) {
        if let Some(writing) = self.writing.upgrade() {
            writing.lock().send_keep_alive();
        }
    }

    /// Whether the sender still exists.
    pub fn is_open(&self) -> bool {
        self.writing.strong_count() > 0
    }

    /// As [`Sender::pending`]; nothing once the stream is gone.
    pub fn pending(&self) -> usize {
        self.writing.upgrade().map_or(0, |writing| writing.lock().writer.pending())
    }

    /// What the stream has carried so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.traffic()
    }

    /// Ends both directions at once, telling the peer that it was no orderly end.
    pub fn destroy(&self) {
        if let Some(writing) = self.writing.upgrade() {
            writing.lock().destroy();
        }
    }
}

impl<W: ChunkWriter> Clone for Control<W> {
    fn clone(&self) -> Self {
        Self { writing: self.writing.clone(), shared: self.shared.clone() }
    }
}

impl<W> Writing<W> {
    fn lock(&self) -> MutexGuard<'_, SenderState<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: ChunkWriter> SenderState<W> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let poll = self.writer.poll_ready(cx);
        self.waiting = poll.is_pending().then(|| cx.waker().clone());
        poll.map_err(Error::Io)
    }

    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let length = message.len() + HEADROOM + TAILROOM;
        if self.scratch.capacity() < length {
            self.scratch.reserve(length.max(SCRATCH));
        }
        self.sealer.seal(message, &mut self.scratch)?;
        self.shared.count_sent();
        let sealed = self.scratch.split().freeze();
        self.write(sealed)
    }

    fn write(&mut self, sealed: Bytes) -> Result<(), Error> {
        self.last_write = Instant::now();
        self.writer.write_chunk(sealed).map_err(Error::Io)
    }

    /// An empty message, unless others wait for room: then enough is under way. True if it was not needed or
    /// was sent, false once the stream can send no more.
    fn send_keep_alive(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let waker = self.waiting.clone();
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        match self.writer.poll_ready(&mut cx) {
            Poll::Pending => {
                self.last_write = Instant::now();
                true
            }
            Poll::Ready(Ok(())) => self.send(&[]).is_ok(),
            Poll::Ready(Err(_)) => false,
        }
    }

    fn destroy(&mut self) {
        self.ended = true;
        self.writer.destroy();
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_alive<W: ChunkWriter>(writing: Weak<Writing<W>>, interval: Duration) {
    loop {
        let deadline = {
            let Some(writing) = writing.upgrade() else { return };
            let mut state = writing.lock();
            if state.last_write.elapsed() >= interval && !state.send_keep_alive() {
                return;
            }
            state.last_write + interval
        };
        tokio::time::sleep_until(deadline).await;
    }
}
