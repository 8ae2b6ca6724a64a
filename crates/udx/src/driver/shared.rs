//! What a stream's user and the owner task share: queues in both directions, and who waits for them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use crate::error::Error;
use crate::proto::{SocketId, Stats};

/// Bytes that may be queued for writing beyond what fits the network at once, as libudx has it.
pub(super) const WRITE_SPARE: usize = 256 * 1024;

/// What a chunk counts for beside its bytes, so that small ones cannot fill the memory.
const CHUNK_COST: usize = 64;

/// Bytes of the receive window that a chunk takes while it waits for the reader.
pub(super) fn charge(chunk: &Bytes) -> usize {
    chunk.len() + CHUNK_COST
}

/// What the user and the owner of one stream share. Locked for moments only, and for a batch of packets at a
/// time.
#[derive(Debug)]
pub(super) struct Shared {
    pub id: u32,
    /// The owner was told that there is something new here, and has not looked yet.
    is_dirty: AtomicBool,
    state: Mutex<SharedState>,
}

/// The guarded part of [`Shared`].
#[derive(Debug)]
pub(super) struct SharedState {
    /// In order, not yet taken by the reader.
    pub received: VecDeque<Bytes>,
    pub received_bytes: usize,
    /// The peer's END follows `received`.
    pub is_ended: bool,
    /// The window is narrow: the owner wants to know when the reader took something.
    pub wants_window: bool,
    /// Nobody reads any more.
    pub is_discarding: bool,

    /// Written, not yet taken by the owner.
    pub queued: VecDeque<Bytes>,
    pub queued_bytes: usize,
    /// Taken by the owner, and not yet acknowledged.
    pub unacked: usize,
    /// Most bytes queued and unacknowledged before the writer has to wait.
    pub limit: usize,
    /// END follows `queued`.
    pub is_end_written: bool,

    pub messages: VecDeque<Bytes>,

    pub is_connected: bool,
    /// Where packets go, and by which socket.
    pub remote: Option<(SocketId, SocketAddr)>,
    pub stats: Stats,
    /// How the stream ended.
    pub closed: Option<Result<(), Error>>,

    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
    pub message_reader: Option<Waker>,
    /// Who waits for acknowledgement, for a change of the remote, or for the end.
    pub watchers: Vec<Waker>,
    /// Changes of the remote that completed.
    pub remote_changes: u64,
    /// A packet has come from where the stream was moved to last.
    pub is_heard: bool,
}

impl Shared {
    pub(super) fn new(id: u32) -> Arc<Self> {
        let state = SharedState {
            received: VecDeque::new(),
            received_bytes: 0,
            is_ended: false,
            wants_window: false,
            is_discarding: false,
            queued: VecDeque::new(),
            queued_bytes: 0,
            unacked: 0,
            limit: WRITE_SPARE,
            is_end_written: false,
            messages: VecDeque::new(),
            is_connected: false,
            remote: None,
            stats: Stats::default(),
            closed: None,
            reader: None,
            writer: None,
            message_reader: None,
            watchers: Vec::new(),
            remote_changes: 0,
            is_heard: false,
        };
        Arc::new(Self { id, is_dirty: AtomicBool::new(false), state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SharedState> {
        // Nothing in here can be left half done by a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something new here. True if the owner must be told, for it was not since it looked last.
    pub(super) fn set_dirty(&self) -> bool {
        !self.is_dirty.swap(true, Ordering::AcqRel)
    }

    /// The owner looks now.
    pub(super) fn clear_dirty(&self) {
        self.is_dirty.store(false, Ordering::Release);
    }
}

impl SharedState {
    /// Why reading or writing is over, if it failed.
    pub(super) fn error(&self) -> Option<Error> {
        match self.closed {
            Some(Err(error)) => Some(error),
            _ => None,
        }
    }

    pub(super) fn is_writable(&self) -> bool {
        self.queued_bytes + self.unacked < self.limit
    }

    /// Whether so much room became free that waking the writer is worth it: never so late that what is queued
    /// runs out while the network could take more.
    pub(super) fn should_wake_writer(&self) -> bool {
        let worth = (self.limit / 4).min(WRITE_SPARE / 2);
        self.writer.is_some() && self.queued_bytes + self.unacked <= self.limit - worth
    }

    /// Ends the stream for its user.
    pub(super) fn close(&mut self, result: Result<(), Error>) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(result);
        self.queued.clear();
        self.queued_bytes = 0;
        self.unacked = 0;
        self.wake_all();
    }

    pub(super) fn wake_watchers(&mut self) {
        self.watchers.drain(..).for_each(Waker::wake);
    }

    fn wake_all(&mut self) {
        for waker in [&mut self.reader, &mut self.writer, &mut self.message_reader] {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
        self.wake_watchers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_woken_before_what_is_queued_runs_out_however_much_is_on_its_way() {
        let shared = Shared::new(1);
        let mut state = shared.lock();
        state.writer = Some(Waker::noop().clone());
        let on_its_way = 10 << 20;
        state.limit = WRITE_SPARE + on_its_way;
        state.unacked = on_its_way;
        state.queued_bytes = WRITE_SPARE;
        assert!(!state.should_wake_writer());
        state.queued_bytes = WRITE_SPARE / 2;
        assert!(state.should_wake_writer());
    }
}
