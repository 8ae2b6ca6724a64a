//! Handing the bytes of a claimed offer to its claimant: what both ways of it share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::claim::OfferTask;
use crate::ats::Listener;
use crate::connection::Rendezvous;
use crate::context::Context;
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::files::Source;
use crate::pump::{Control, PumpError};
use crate::remarks;
use crate::sync::or_cancelled;
use crate::transfer::TransferEvents;
use crate::wire::Meta;

/// One delivery. [`Self::direct`] and [`Self::on_topic`] are its two ways.
pub(super) struct Delivery<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) task: &'a OfferTask<'a>,
    pub(super) events: &'a TransferEvents,
    pub(super) source: &'a Source,
    pub(super) meta: &'a Meta,
    pub(super) control: &'a Control,
    /// How long each wait for the recipient lasts.
    pub(super) limit: Duration,
}

impl Delivery<'_> {
    /// Hands the file to an original; and says for it what people read, which it does not.
    pub(super) async fn to_original(
        &self,
        rendezvous: &mut Rendezvous,
        listener: &mut Listener,
    ) -> Result<()> {
        let (task, began) = (self.task, Instant::now());
        self.context.remarks.post(task.id, remarks::begins(task.transfer));
        self.on_topic(rendezvous, listener).await?;
        let (recipient, connection) = (&task.transfer.peer_id, self.events.connection());
        let remark = remarks::delivered(task.transfer, recipient, began.elapsed(), connection.as_ref());
        self.context.remarks.post(task.id, remark);
        Ok(())
    }

    pub(super) async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        or_cancelled(&self.control.cancel, async { Ok(future.await) }).await
    }

    /// Waits while the node is away from the network, and says whether it was.
    pub(super) async fn was_suspended(&self) -> Result<bool> {
        self.or_cancelled(self.context.network.resumed()).await
    }

    pub(super) fn error(&self, error: &PumpError) -> Error {
        let name = self.events.transfer().original_name;
        Error::new(error.code(), format!("{name} to {}: {error}", self.task.recipient()))
    }

    pub(super) fn unreachable(&self, last: Option<String>, step: FailedStep) -> Error {
        let why = last.map(|last| format!(" ({last})")).unwrap_or_default();
        Error::new(
            Code::PeerUnreachable,
            format!(
                "{} accepted {} but no connection came about within {} s{why}; {}",
                self.task.recipient(),
                self.events.transfer().original_name,
                self.limit.as_secs_f64(),
                step.help(),
            ),
        )
        .in_step(step)
    }
}
