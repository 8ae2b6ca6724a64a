//! Getting the bytes of an accepted offer: what both ways of it share.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use secret_stream::Transport;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::event::Phase;
use crate::files::{self, OfferedTree, Partial, PartialTree, Preserved, Sink, Target, TreeSize};
use crate::offer::P2p;
use crate::offer::inbox::OpenOffer;
use crate::places::HeldPlace;
use crate::pump::{Control, Intake, Interrupted, PumpError, Reception, Stream};
use crate::sync::{aborted, blocking, lock, or_cancelled, spawn_blocking};
use crate::transfer::TransferEvents;
use crate::wire::Meta;

use super::record::RecordId;

/// Runs between the file being in its place and the sender being told, and says what it is told besides.
type BeforeAck<'a> =
    Box<dyn Fn(Option<&Path>) -> Pin<Box<dyn Future<Output = String> + Send + 'a>> + Send + Sync + 'a>;

/// One fetch. [`Self::direct`] and [`Self::on_topic`] are its two ways.
pub(super) struct Fetch<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) open: &'a OpenOffer,
    /// What this side says of itself on the task, if it says anything.
    pub(super) ours: Option<&'a P2p>,
    /// `None` where nothing is written.
    pub(super) place: Option<&'a PartialPlace>,
    pub(super) events: &'a TransferEvents,
    pub(super) control: &'a Control,
    pub(super) held: &'a HeldPlace,
    pub(super) before_ack: BeforeAck<'a>,
    pub(super) so_far: SoFar,
}

/// What has come of the file, between two connections and before the first.
pub(super) struct SoFar {
    sink: Mutex<Option<Intake>>,
    /// It turned out once that something else had come.
    was_spoilt: AtomicBool,
}

/// How one connection failed to deliver.
pub(super) enum FetchError {
    /// It was lost: another one may do better.
    Lost(Error),
    /// This peer will not deliver.
    Final(Error),
}

impl From<Intake> for SoFar {
    fn from(sink: Intake) -> Self {
        Self { sink: Mutex::new(Some(sink)), was_spoilt: AtomicBool::new(false) }
    }
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

/// Where a transfer's bytes go until they are verified, and what is remembered of them.
#[derive(Clone, Debug)]
pub(super) struct PartialPlace {
    pub(super) target: Target,
    pub(super) id: RecordId,
    pub(super) size: u64,
    /// What the folder holds, if it is one.
    pub(super) tree: Option<TreeSize>,
    /// What the file is to have of its source.
    pub(super) preserved: Preserved,
    /// Where it is remembered what has come.
    pub(super) memory: PathBuf,
}

impl PartialPlace {
    /// Makes the file or the folder, or goes on with what a process that died has left of it, as far as it
    /// stands. `read` is told the bytes of it that were read, and how many there are to read.
    pub(super) async fn open(
        &self,
        read: impl FnMut(u64, u64) + Send + 'static,
        cancel: &CancellationToken,
    ) -> Result<Sink> {
        let (place, cancel) = (self.clone(), cancel.clone());
        blocking(move || {
            let Self { target, id, size, tree, preserved, memory } = place;
            if let Some(holds) = tree {
                let offered = OfferedTree { size, holds, preserved };
                let tree = PartialTree::resume(&target, id.short(), offered, &memory, read, &cancel)?;
                return Ok(tree.into());
            }
            let mut partial = Partial::resume(&target, id.short(), size, &memory, read, &cancel)?;
            partial.preserve(preserved);
            Ok(partial.into())
        })
        .await
    }

    /// Removes what has come.
    pub(super) async fn discard(&self) {
        let Self { target, id, memory, .. } = self.clone();
        // To remove a large file can take the disk a while.
        let _ = spawn_blocking(move || Partial::discard(&target, id.short(), &memory)).await;
    }
}

impl Fetch<'_> {
    /// A peer on `stream`, whose metadata is due.
    pub(super) fn reception<T: Transport>(&self, stream: Stream<T>) -> Reception<T> {
        let offer = &self.open.offer;
        let meta = Meta {
            name: offer.name.clone(),
            size: offer.size,
            hash: offer.hash.clone(),
            transfer_id: Some(offer.transfer_id.clone()),
            resume: false,
        };
        Reception::new(stream, meta)
    }

    /// Takes the bytes of the file that are not here yet, which are due, and puts the file in its place.
    /// Gives the stream back if the sender may use it again.
    pub(super) async fn body<T: Transport>(
        &self,
        mut reception: Reception<T>,
        may_reuse: bool,
    ) -> Result<(Option<PathBuf>, Option<Stream<T>>), FetchError> {
        self.or_cancelled(self.held.begin()).await.map_err(FetchError::Final)?;
        let sink = self.take_sink().await.map_err(FetchError::Final)?;
        let verified = match reception.body(sink, self.control).await {
            Ok(verified) => verified,
            Err(interrupted) => return Err(self.interrupted(reception, interrupted).await),
        };
        self.held.set_working(true);
        self.events.enter(Phase::Verifying);
        let path = match verified.commit().await {
            Ok(path) => path,
            Err(error) => {
                reception.refuse(&error).await;
                return Err(self.failed(error));
            }
        };
        reception.say_with_ack((self.before_ack)(path.as_deref()).await);
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

    /// Keeps what has come for the next connection.
    async fn interrupted<T: Transport>(
        &self,
        reception: Reception<T>,
        Interrupted { error, sink }: Interrupted,
    ) -> FetchError {
        // What a reader has can't be called back.
        let is_final = sink.as_ref().is_some_and(Intake::is_final);
        if let Some(sink) = sink {
            *lock(&self.so_far.sink) = Some(sink);
        }
        if !matches!(error, PumpError::Spoilt(_)) {
            return self.failed(error);
        }
        // Dropped without a word, the connection is a lost one to the sender, which waits for the next.
        if !is_final && !self.so_far.was_spoilt.swap(true, Ordering::Relaxed) {
            tracing::debug!("{} comes once more from its first byte: {error}", self.name());
            return match self.give_up_so_far().await {
                Ok(()) => FetchError::Lost(self.told(&error)),
                Err(failed) => FetchError::Final(failed),
            };
        }
        reception.refuse(&error).await;
        self.failed(error)
    }

    /// Begins with the first byte again, whoever sent what has come so far.
    pub(super) async fn give_up_so_far(&self) -> Result<()> {
        let Some(mut sink) = lock(&self.so_far.sink).take() else { return Ok(()) };
        let cleared = blocking(move || Ok(sink.clear().map(|()| sink)?)).await?;
        *lock(&self.so_far.sink) = Some(cleared);
        Ok(())
    }

    /// What has come so far, or where there is nothing a file that is empty yet.
    async fn take_sink(&self) -> Result<Intake> {
        let sink = lock(&self.so_far.sink).take();
        match (sink, self.place) {
            (Some(sink), _) => Ok(sink),
            (None, Some(place)) => Ok(place.open(|_, _| {}, &self.control.cancel).await?.into()),
            (None, None) => Err(aborted()),
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
        let told = self.told(&error);
        if error.is_lost_connection() { FetchError::Lost(told) } else { FetchError::Final(told) }
    }

    fn told(&self, error: &PumpError) -> Error {
        let peer = files::display(&self.open.offer.sender_id);
        Error::new(error.code(), format!("{} from {peer}: {error}", self.name()))
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

    /// Another process of this actor has it.
    pub(super) fn taken(&self) -> Error {
        let message = format!("another process of this actor takes {}", self.name());
        Error::new(Code::AlreadyClaimed, message)
    }

    /// Others wait for their senders, and this one does not come.
    pub(super) fn given_up(&self) -> Error {
        Error::new(
            Code::PeerUnreachable,
            format!(
                "{} did not come for {} while many others waited to be received from; try again later",
                files::display(&self.open.offer.sender_id),
                self.name()
            ),
        )
        .in_step(FailedStep::Lookup)
    }

    fn name(&self) -> String {
        files::display(&self.open.offer.name)
    }
}
