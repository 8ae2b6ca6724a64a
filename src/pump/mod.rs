//! Moves one file over one encrypted stream, in either direction.
//!
//! A thread of its own reads and hashes, or hashes and writes; it and the stream exchange large batches
//! through short queues, so that a slow disk holds the peer back and a slow peer the disk, and memory
//! stays at a few MiB a transfer whatever the file's size.
//!
//! # Layout
//! - `send`: one file to one peer; `reader` is the thread that reads the file
//! - `receive`: one candidate connection of an incoming file; `writer` is the thread that writes the file
//! - `intake`: where received bytes go, to the disk or to a reader
//! - `pace`: whether the file still moves, in either direction
//! - `throttle`: how many bytes a second may move
//! - `budget`: how much memory each transfer may take, so that all of them together stay bounded
//! - `stream`: what carries one file after another, and the longest message that a peer may have us hold
//! - `close`: the last word to a peer, and the end of the stream
//! - `error`: how a run can end

mod budget;
mod close;
mod error;
mod intake;
mod pace;
mod reader;
mod receive;
mod send;
mod stream;
mod throttle;
mod writer;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::PumpError;
pub use intake::{Intake, Outlet, OutletReader};
pub use receive::{Interrupted, Reception, Verified};
pub use send::send;
pub use stream::{MAX_MESSAGE, Stream};
pub use throttle::{MIN_RATE, RateLimit, Throttle};

/// What a transfer and those who watch over it say to each other.
#[derive(Clone, Debug)]
pub struct Control {
    /// Bytes of the file that have moved: accepted by the stream, or received. Where a run goes on with bytes
    /// of an earlier one, those count from its beginning.
    pub progress: watch::Sender<u64>,
    /// Ends the run with [`PumpError::Cancelled`]; the peer is told.
    pub cancel: CancellationToken,
    /// How long nothing of the file may move, or next to nothing (`pace` has the floor), before the run ends
    /// with [`PumpError::Stalled`].
    pub idle: Duration,
    /// How many bytes a second may move.
    throttle: Throttle,
    /// The byte from which on the run moves the file; [`NOT_YET`] until that is known.
    begun: Arc<AtomicU64>,
    on_begin: Hook<u64>,
    on_sent: Hook<()>,
}

/// Who is told of a moment of each run.
#[derive(Clone)]
struct Hook<T>(Option<Arc<dyn Fn(T) + Send + Sync>>);

/// No byte of a file.
const NOT_YET: u64 = u64::MAX;

impl Control {
    /// What watches over one transfer, on one connection after another.
    pub fn new(progress: watch::Sender<u64>, cancel: CancellationToken, idle: Duration) -> Self {
        let begun = Arc::new(AtomicU64::new(NOT_YET));
        let (throttle, on_begin, on_sent) = (Throttle::default(), Hook(None), Hook(None));
        Self { progress, cancel, idle, throttle, begun, on_begin, on_sent }
    }

    /// Has each run move no more than this lets pass.
    pub fn throttled(mut self, throttle: Throttle) -> Self {
        self.throttle = throttle;
        self
    }

    /// Has `told` called by each run before it moves the file, with the byte from which on it will.
    pub(crate) fn on_begin(mut self, told: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.on_begin = Hook(Some(Arc::new(told)));
        self
    }

    /// Has `told` called by each run that sends, once its peer has all bytes of the file. It may be called
    /// twice.
    pub(crate) fn on_sent(mut self, told: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_sent = Hook(Some(Arc::new(move |()| told())));
        self
    }

    /// Whether bytes of the file have moved since this was asked last.
    pub(crate) fn take_moved(&self) -> bool {
        self.begun.swap(NOT_YET, Ordering::Relaxed) < *self.progress.borrow()
    }

    /// A run moves the file from this byte on.
    fn begin(&self, offset: u64) {
        self.begun.store(offset, Ordering::Relaxed);
        self.progress.send_if_modified(|progress| std::mem::replace(progress, offset) != offset);
        self.on_begin.call(offset);
    }

    /// The peer has all bytes of the file.
    fn sent(&self) {
        self.on_sent.call(());
    }
}

impl<T> Hook<T> {
    fn call(&self, with: T) {
        if let Self(Some(told)) = self {
            told(with);
        }
    }
}

impl<T> fmt::Debug for Hook<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").finish_non_exhaustive()
    }
}
