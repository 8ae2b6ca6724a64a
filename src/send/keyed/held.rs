//! The key of a send, from its lock to its end.

use std::sync::{Arc, Mutex};

use super::record::{Ended, KeyLock, KeyRecord};
use super::{not_kept, reused};
use crate::error::{Code, Result};
use crate::send::Sent;
use crate::sync::{blocking, lock};

/// The key of one send, held until its end.
pub(in crate::send) struct HeldKey {
    key: Mutex<KeyLock>,
    /// What the record begins as, for this attempt.
    begun: KeyRecord,
}

impl HeldKey {
    pub(super) fn new(held: KeyLock, begun: KeyRecord) -> Self {
        Self { key: Mutex::new(held), begun }
    }

    /// Notes that this attempt begins: whoever waits for the key learns which transfer it is.
    ///
    /// # Errors
    /// `STATE` where it can't be written.
    pub(super) async fn begins(self: &Arc<Self>) -> Result<()> {
        self.write(self.begun.clone()).await
    }

    /// Notes which file is offered, before it is; refuses another one than was offered under the key before.
    ///
    /// # Errors
    /// `KEY_REUSED`; `STATE` where it can't be written.
    pub(in crate::send) async fn offers(self: &Arc<Self>, hash: &str) -> Result<()> {
        match &self.begun.hash {
            Some(before) if before != hash => Err(reused("another file")),
            _ => self.write(KeyRecord { hash: Some(hash.to_owned()), ..self.begun.clone() }).await,
        }
    }

    /// Notes how the transfer ended. What is not written down is found out by whoever sends next.
    pub(super) async fn ended(self: &Arc<Self>, result: &Result<Sent>) {
        let ended = match result {
            Err(error) if error.code == Code::KeyReused => return,
            Err(error) => Ended::Failed(error.clone()),
            Ok(sent) => Ended::Delivered {
                task_id: sent.task_id.clone(),
                identity: sent.peer.identity.map(hex::encode),
                resumed_from: sent.resumed_from,
            },
        };
        let offered = lock(&self.key).record.as_ref().and_then(|record| record.hash.clone());
        let hash = result.as_ref().map(|sent| sent.hash.clone()).ok().or(offered);
        let record = KeyRecord { hash, ended: Some(ended), ..self.begun.clone() };
        if let Err(error) = self.write(record).await {
            tracing::warn!("what came of an idempotency key could not be noted: {error}");
        }
    }

    async fn write(self: &Arc<Self>, record: KeyRecord) -> Result<()> {
        let this = self.clone();
        blocking(move || lock(&this.key).write(record).map_err(not_kept)).await
    }
}
