//! What the two halves of a stream share: counters and a switch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Messages that a stream has carried, keep-alives included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub sent: u64,
    /// Messages received, as far as the owner has asked for them.
    pub received: u64,
}

/// What the two halves of a stream tell each other, and others.
#[derive(Default)]
pub(crate) struct Shared {
    swallow_empty: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Shared {
    /// Whether empty messages are the peer's keep-alives rather than content.
    pub(crate) fn swallows_empty(&self) -> bool {
        self.swallow_empty.load(Ordering::Relaxed)
    }

    pub(crate) fn set_swallow_empty(&self, swallow: bool) {
        self.swallow_empty.store(swallow, Ordering::Relaxed);
    }

    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }
}
