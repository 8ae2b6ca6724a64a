//! How many bytes a second may move: over all transfers of a node, and over one.
//!
//! What moves asks before a few bytes more, and waits its turn. Where no limit is set, nothing is asked and
//! no clock is read.
//!
//! # Layout
//! - `schedule`: whose bytes are next, and when; without I/O
//! - here: waiting for that

mod schedule;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::schedule::{Passage, RateSchedule, Ticket};
use crate::sync::lock;

/// The least rate that may be asked for, bytes a second: of less a peer would say that nothing moves.
pub const MIN_RATE: u64 = 1024;

/// How many times a second bytes move at least at a limited rate, so that it is even and soon accurate.
const STEPS_A_SECOND: u64 = 20;

/// Steps that a peer may send ahead: those of half a second.
const STEPS_AHEAD: usize = 10;

/// Bytes that a peer may send ahead at least: a message.
const LEAST_AHEAD: usize = 64 * 1024;

/// A limit on bytes a second. All that move under it at the same time have equal parts of it: peers among
/// each other, and the transfers with one peer. What one of them does not use is the others'.
pub struct RateLimit {
    rate: u64,
    state: Mutex<RateState>,
}

#[derive(Debug)]
struct RateState {
    schedule: RateSchedule,
    waiting: HashMap<Ticket, Arc<Notify>>,
}

/// What one transfer may move: within one limit, or several.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Vec<Limited>);

/// A transfer with this peer under a limit.
#[derive(Clone, Debug)]
struct Limited {
    limit: Arc<RateLimit>,
    peer: Arc<str>,
}

/// A turn that is waited for, until it is dropped.
struct QueuedStep<'a> {
    limit: &'a RateLimit,
    ticket: Ticket,
    called: Arc<Notify>,
}

impl RateLimit {
    /// At most `rate` bytes a second, no fewer than [`MIN_RATE`].
    pub fn new(rate: u64) -> Arc<Self> {
        let rate = rate.max(MIN_RATE);
        let state = RateState { schedule: RateSchedule::new(rate), waiting: HashMap::new() };
        Arc::new(Self { rate, state: Mutex::new(state) })
    }

    /// Waits until so many bytes with this peer may move.
    async fn wait(&self, peer: &Arc<str>, bytes: u64) {
        let waiting = {
            let mut state = lock(&self.state);
            let ticket = state.schedule.ask(peer, bytes);
            // Mostly nobody else asks, and it is time.
            if state.schedule.poll(ticket, Instant::now()) == Passage::Now {
                return;
            }
            let called = Arc::new(Notify::new());
            state.waiting.insert(ticket, called.clone());
            QueuedStep { limit: self, ticket, called }
        };
        loop {
            let turn = lock(&self.state).schedule.poll(waiting.ticket, Instant::now());
            match turn {
                // Dropped, it calls the next.
                Passage::Now => return,
                Passage::At(time) => {
                    // One that comes later may be before it.
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = waiting.called.notified() => {}
                    }
                }
                Passage::Later => waiting.called.notified().await,
            }
        }
    }
}

impl Drop for QueuedStep<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.limit.state);
        state.schedule.leave(self.ticket);
        state.waiting.remove(&self.ticket);
        if let Some(next) = state.schedule.first().and_then(|first| state.waiting.get(&first)) {
            next.notify_one();
        }
    }
}

impl Throttle {
    /// What a transfer with `peer` may move under these limits.
    pub fn new(peer: &str, limits: impl IntoIterator<Item = Arc<RateLimit>>) -> Self {
        let peer: Arc<str> = peer.into();
        Self(limits.into_iter().map(|limit| Limited { limit, peer: peer.clone() }).collect())
    }

    /// Bytes that are worth moving at a time; `None` where there is no limit.
    pub(super) fn step(&self) -> Option<usize> {
        let steps = self.0.iter().map(|Limited { limit, .. }| limit.rate / STEPS_A_SECOND);
        steps.min().map(|step| usize::try_from(step).unwrap_or(usize::MAX))
    }

    /// Bytes that a peer may send ahead of what is taken here: those of some steps. More would be taken long
    /// after the peer has sent all, and waits for the last word; `None` where there is no limit.
    pub(super) fn ahead(&self) -> Option<u32> {
        let bytes = self.step()?.saturating_mul(STEPS_AHEAD).max(LEAST_AHEAD);
        Some(u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// Waits until so many bytes more may move, and says how long that took.
    pub(super) async fn pass(&self, bytes: u64) -> Duration {
        if self.0.is_empty() || bytes == 0 {
            return Duration::ZERO;
        }
        let asked = Instant::now();
        for Limited { limit, peer } in &self.0 {
            limit.wait(peer, bytes).await;
        }
        asked.elapsed()
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("rate", &self.rate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
