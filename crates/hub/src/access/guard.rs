//! The keys in use: when each was used last, and the connections that stay open with one, which are cut soon
//! after it is revoked, be it by another process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::keys;
use crate::sql::Pool;
use crate::sync::lock;
use crate::task::By;
use crate::time::Millis;
use crate::writer::{Change, Writer};

/// How often the keys of open connections are looked at: how long one may stay open after its key is revoked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is kept when keys were used.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// The keys in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyGuard(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// For each key with open connections: how many, and what ends them.
    connections: HashMap<i64, (usize, CancellationToken)>,
    /// When each key was used, where that has not been kept yet.
    used: HashMap<i64, Millis>,
}

/// One open connection of a key; counts as such until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldKey {
    guard: KeyGuard,
    id: i64,
    over: CancellationToken,
}

impl KeyGuard {
    /// Notes that a key was used.
    pub(crate) fn used(&self, id: i64, now: Millis) {
        self.inner().used.insert(id, now);
    }

    /// Adds an open connection of a key.
    pub(crate) fn hold(&self, id: i64) -> HeldKey {
        let mut inner = self.inner();
        let (count, over) = inner.connections.entry(id).or_default();
        *count += 1;
        HeldKey { guard: self.clone(), id, over: over.clone() }
    }

    /// Cuts connections whose key is over, and keeps when keys were used, until `stop`.
    pub(crate) async fn run(self, readers: Pool, writer: Writer, stop: CancellationToken) {
        let (mut look, mut keep) = (interval(LOOK_EVERY), interval(KEEP_EVERY));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => self.look(&readers).await,
                _ = keep.tick() => self.keep_uses(&writer).await,
                () = stop.cancelled() => break,
            }
        }
        self.keep_uses(&writer).await;
    }

    async fn look(&self, readers: &Pool) {
        let ids: Vec<i64> = self.inner().connections.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let over = async { keys::over(&mut readers.acquire().await?, &ids, readers.now()).await };
        match over.await {
            Ok(over) => self.cut(&over),
            Err(error) => tracing::warn!("the keys of open connections cannot be looked at: {error}"),
        }
    }

    /// Nobody waits for it, and what is lost of it is a few seconds.
    async fn keep_uses(&self, writer: &Writer) {
        let uses: Vec<(i64, Millis)> = self.inner().used.drain().collect();
        if uses.is_empty() {
            return;
        }
        if let Err(refusal) = writer.change(Change::NoteUses { uses }, By::hub()).await {
            tracing::warn!("when keys were used cannot be kept: {}", refusal.message);
        }
    }

    fn cut(&self, ids: &[i64]) {
        let mut inner = self.inner();
        for id in ids {
            if let Some((_, over)) = inner.connections.remove(id) {
                tracing::info!("key {id} is over: its connections end");
                over.cancel();
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

impl HeldKey {
    /// Cancelled when the key is over.
    pub(crate) fn over(&self) -> &CancellationToken {
        &self.over
    }
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        let mut inner = self.guard.inner();
        if self.over.is_cancelled() {
            return;
        }
        if let Some((count, _)) = inner.connections.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                inner.connections.remove(&self.id);
            }
        }
    }
}
