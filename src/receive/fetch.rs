//! Getting the bytes of an accepted offer: what both ways of it share.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::context::Context;
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::files::{self, Partial, Target};
use crate::offer::inbox::OpenOffer;
use crate::pump::{Control, PumpError, Reception, Stream};
use crate::sync::{blocking, or_cancelled};
use crate::transfer::TransferEvents;
use crate::wire::Meta;

use super::record::RecordId;

/// Runs between the file being in its place and the sender being told.
type BeforeAck<'a> = Box<dyn Fn(&Path) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send + Sync + 'a>;

/// One fetch. [`Self::direct`] and [`Self::on_topic`] are its two ways.
pub(super) struct Fetch<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) open: &'a OpenOffer,
    pub(super) target: &'a Target,
    pub(super) id: &'a RecordId,
    pub(super) events: &'a TransferEvents,
    pub(super) control: &'a Control,
    pub(super) before_ack: BeforeAck<'a>,
}

/// How one connection failed to deliver.
pub(super) enum FetchError {
    /// It was lost: another one may do better.
    Lost(Error),
    /// This peer will not deliver.
    Final(Error),
}

impl FetchError {
    /// Whether it lies on this side, so that no other peer could do better.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Final(Error {
                code: Code::Aborted | Code::DiskFull | Code::NotWritable | Code::AlreadyExists | Code::State,
                ..
            })
        )
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        let (FetchError::Lost(error) | FetchError::Final(error)) = error;
        error
    }
}

/// Makes the file that a transfer's bytes go to until they are verified.
pub(super) async fn new_partial(target: &Target, id: &RecordId, size: u64) -> Result<Partial> {
    let (target, id) = (target.clone(), id.short().to_owned());
    blocking(move || Partial::create(&target, &id, size).map_err(Error::from)).await
}

impl Fetch<'_> {
    /// A peer on `stream`, whose metadata is due.
    pub(super) fn reception(&self, stream: Stream<udx::Stream>) -> Reception<udx::Stream> {
        let offer = &self.open.offer;
        let meta = Meta {
            name: offer.name.clone(),
            size: offer.size,
            hash: offer.hash.clone(),
            transfer_id: Some(offer.transfer_id.clone()),
        };
        Reception::new(stream, meta)
    }

    /// Takes the bytes of the file, which are due, and puts the file in its place. Gives the stream back if
    /// the sender may use it again.
    pub(super) async fn body(
        &self,
        mut reception: Reception<udx::Stream>,
        may_reuse: bool,
        partial: Partial,
    ) -> Result<(PathBuf, Option<Stream<udx::Stream>>), FetchError> {
        self.events.started();
        let verified = match reception.body(partial, self.control).await {
            Ok(verified) => verified,
            Err(error) => return Err(self.failed(error)),
        };
        let path = match verified.commit().await {
            Ok(path) => path,
            Err(error) => {
                reception.refuse(&error).await;
                return Err(self.failed(error));
            }
        };
        (self.before_ack)(&path).await;
        let acknowledged = match may_reuse {
            true => reception.ack_and_keep().await.map(Some),
            false => reception.ack().await.map(|()| None),
        };
        // The file is in its place: a sender that is gone by now learns it from the task.
        let stream = acknowledged.unwrap_or_else(|error| {
            tracing::debug!("the sender of {} did not hear the acknowledgement: {error}", self.name());
            None
        });
        Ok((path, stream))
    }

    /// The partial file at hand, or another one: each connection begins with the first byte.
    pub(super) async fn fresh(&self, partial: Option<Partial>) -> Result<Partial> {
        self.control.take_moved();
        match partial {
            Some(partial) => Ok(partial),
            None => new_partial(self.target, self.id, self.open.offer.size).await,
        }
    }

    /// Waits while the node is away from the network, and says whether it was.
    pub(super) async fn was_suspended(&self) -> Result<bool> {
        self.or_cancelled(self.context.network.resumed()).await
    }

    pub(super) async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        or_cancelled(&self.control.cancel, async { Ok(future.await) }).await
    }

    pub(super) fn failed(&self, error: PumpError) -> FetchError {
        let peer = files::display(&self.open.offer.sender_id);
        let told = Error::new(error.code(), format!("{} from {peer}: {error}", self.name()));
        if error.is_lost_connection() { FetchError::Lost(told) } else { FetchError::Final(told) }
    }

    pub(super) fn unreachable(&self, last: Option<(FailedStep, String)>) -> Error {
        let (step, why) = match last {
            Some((step, why)) => (step, format!(" ({why})")),
            None => (FailedStep::Lookup, String::new()),
        };
        Error::new(
            Code::PeerUnreachable,
            format!(
                "no connection to {} for {} within {} s{why}; {}",
                files::display(&self.open.offer.sender_id),
                self.name(),
                self.context.options.timeout.as_secs_f64(),
                step.help(),
            ),
        )
        .in_step(step)
    }

    fn name(&self) -> String {
        files::display(&self.open.offer.name)
    }
}
