//! Datagrams that belong to no stream, on their way to the application.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::proto::SocketId;

/// Datagrams kept for a slow application; later ones are dropped, as a full socket would.
const MAX_QUEUED: usize = 4096;

/// A datagram that is no live stream's packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The socket it arrived on.
    pub socket: SocketId,
    /// Who sent it; IPv4 in IPv6 form is turned back into IPv4.
    pub from: SocketAddr,
    /// Its bytes.
    pub data: Bytes,
}

/// Where an instance's raw datagrams come out, of all its sockets.
#[derive(Debug)]
pub struct Datagrams {
    queue: Queue,
}

/// The owner's end of [`Datagrams`].
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Mutex<QueueState>>);

#[derive(Debug, Default)]
struct QueueState {
    datagrams: Vec<Datagram>,
    waker: Option<Waker>,
    is_closed: bool,
}

impl Datagrams {
    pub(super) fn new() -> Self {
        Self { queue: Queue(Arc::default()) }
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// All datagrams that arrived since the last call, at least one. `None` once the instance is closed.
    pub async fn recv(&mut self) -> Option<Vec<Datagram>> {
        poll_fn(|cx| {
            let mut state = self.queue.lock();
            if !state.datagrams.is_empty() {
                return Poll::Ready(Some(std::mem::take(&mut state.datagrams)));
            }
            if state.is_closed {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.is_closed = true;
        state.datagrams.clear();
    }
}

impl Queue {
    /// Hands over a batch, and empties it.
    pub(super) fn push(&self, batch: &mut Vec<Datagram>) {
        if batch.is_empty() {
            return;
        }
        let mut state = self.lock();
        if !state.is_closed {
            let room = MAX_QUEUED.saturating_sub(state.datagrams.len());
            state.datagrams.extend(batch.drain(..).take(room));
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
        batch.clear();
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Nothing in here can be left half done by a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
