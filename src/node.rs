//! One node: its settings, its place on the task service and the network, and its transfers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::ats::{ActorRef, Status, Task};
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::Event;
use crate::files::{self, Existing, SafeName, Target};
use crate::limits::GOODBYE;
use crate::offer::{self, Offer, inbox};
pub use crate::options::{DEFAULT_MAX_OFFER_AGE, DEFAULT_TIMEOUT, Options};
use crate::receive::{self, Acceptance, Received};
use crate::send::{self, ResumedOffer, SendRequest, SendSource, Sent, SharedFile};
use crate::sync::{aborted, cancelled_by, joined};
use crate::trust::Trust;
use crate::verify::{self, ReceiptPlace, VerifiedReceipt};
use crate::watch;
pub use crate::watch::WatchOptions;

/// How long `destroy` waits for transfers to tell their peers and the service that they were cancelled: a
/// little more than each of them takes for that. Then it stops them.
const FAREWELL: Duration = GOODBYE.saturating_add(Duration::from_millis(200));

/// How long what was stopped in the middle may take to go away.
const HALT: Duration = Duration::from_secs(1);

/// What the task service knows of a transfer.
#[derive(Clone, Debug)]
pub struct TransferStatus {
    /// The task that offers the file.
    pub task: Task,
    /// What it offers; none where its payload can't be read.
    pub offer: Option<OfferSummary>,
    /// What it failed with, as far as the task tells; none where it may come to something, or did.
    pub failure: Option<Code>,
}

/// What an offer says. All text is foreign; the file's name is escaped.
#[derive(Clone, Debug)]
pub struct OfferSummary {
    /// The transfer's id.
    pub transfer_id: String,
    /// The name as it was offered, escaped for printing.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub hash: String,
    /// Who the sender says it is.
    pub sender_id: String,
    /// For whom the file is; without, for whoever claims it.
    pub recipient_id: Option<String>,
    /// When the offer ends, RFC 3339; without, it says nothing of that.
    pub expires_at: Option<String>,
}

/// An agent's end of all its transfers. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Node(Arc<Context>);

impl Node {
    /// A node that tells `emit` what happens. Touches neither the task service nor the network; `emit`
    /// must not block.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for settings that no request could be made with.
    pub fn new(options: Options, emit: impl Fn(Event) + Send + Sync + 'static) -> Result<Self> {
        Ok(Self(Arc::new(Context::new(options, emit)?)))
    }

    /// Who this node is to others, and whom it knows. Touches no disk until it is asked.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.0.trust
    }

    /// Offers a file and sends it to whom it is for. Resolves when the recipient has it, whole and
    /// verified.
    pub async fn send(&self, mut request: SendRequest) -> Result<Sent> {
        let context = self.alive()?;
        self.begin();
        let transfer = context.cancel().child_token();
        let caller = std::mem::replace(&mut request.cancel, transfer.clone());
        // As a task of its own the transfer can say good-bye even when nobody waits for it any more.
        joined(context.spawn(cancelled_by(caller, transfer, send::run(context.clone(), request)))).await
    }

    /// Opens a file that is to be sent to several, so that it is read once to be hashed.
    ///
    /// # Errors
    /// Those of a send for its file; `DESTROYED`; `ABORTED`.
    pub async fn open(&self, source: SendSource, cancel: &CancellationToken) -> Result<SharedFile> {
        let context = self.alive()?;
        send::open_shared(context, source, cancel).await
    }

    /// Goes on with the offers that earlier processes of this agent made and did not see the end of. Resolves
    /// with what became of each, those that ended meanwhile included; those whose time was over are
    /// withdrawn and not among them. `cancel` ends those that go on.
    ///
    /// # Errors
    /// `DESTROYED`; `ABORTED` where it was cancelled, once all have ended.
    pub async fn resume_offers(&self, cancel: CancellationToken) -> Result<Vec<ResumedOffer>> {
        let resumed = send::resume_all(self.alive()?, &cancel).await;
        if cancel.is_cancelled() { Err(aborted()) } else { Ok(resumed) }
    }

    /// Ends a transfer, by its own id or its task's: here if it runs in this process, else by its task, where
    /// that is this agent's to end. Gives what the service knows of it then; a transfer that was over before
    /// stays as it is.
    ///
    /// # Errors
    /// `UNKNOWN_TRANSFER`, `NOT_ALLOWED`, or those of the service.
    pub async fn cancel(&self, id: &str) -> Result<TransferStatus> {
        let context = self.alive()?;
        if context.running.cancel(id).await {
            return self.status(id).await;
        }
        let found = self.status(id).await?;
        let (task, me) = (&found.task, context.actor_id());
        let is_ours = |actor: &Option<ActorRef>| actor.as_ref().is_some_and(|actor| actor.id == me);
        let is_mine = is_ours(&task.source);
        match task.status {
            Status::Pending if is_mine => drop(context.client.cancel(&task.id).await?),
            Status::InProgress if is_mine || is_ours(&task.assignee) => {
                context.client.fail(&task.id, Code::Cancelled.public_reason()).await?;
            }
            Status::Pending | Status::InProgress => {
                return Err(Error::new(
                    Code::NotAllowed,
                    format!("transfer {} is not {}'s to end", files::display(id), files::display(me)),
                ));
            }
            _ => {}
        }
        if let Some(offer) = &found.offer {
            send::forget(context, &offer.transfer_id).await;
        }
        self.status(&task.id.to_string()).await
    }

    /// Watches a channel for offers. A folder to save in is made, and tried, before this returns.
    ///
    /// # Errors
    /// Those of the folder; `DESTROYED`.
    pub fn watch(&self, options: WatchOptions) -> Result<()> {
        watch::start(self.alive()?, options)?;
        self.begin();
        Ok(())
    }

    /// Takes an offered file. Resolves when it is in its place, whole and verified.
    pub async fn accept(&self, offer: u64, mut acceptance: Acceptance) -> Result<Received> {
        let context = self.alive()?;
        let open = context.inbox.take(offer)?;
        let transfer = context.cancel().child_token();
        let caller = std::mem::replace(&mut acceptance.cancel, transfer.clone());
        let reception = receive::run(context.clone(), offer, open, acceptance, None);
        let reception = async { reception.await.map_err(|failure| failure.error) };
        joined(context.spawn(cancelled_by(caller, transfer, reception))).await
    }

    /// Takes an offered file into a folder without being waited for, as a watch does that saves all: when it
    /// is its turn, and unless it was withdrawn by then. What becomes of it is told by events.
    ///
    /// # Errors
    /// `ALREADY_ANSWERED`; `DESTROYED`.
    pub fn take(&self, offer: u64, dir: PathBuf, existing: Existing) -> Result<()> {
        let context = self.alive()?;
        let name = context.inbox.name_of(offer)?;
        watch::take_all(context, offer, Target::InFolder { dir, name, existing });
        Ok(())
    }

    /// The ids of the transfers that run here, or wait for their turn to.
    pub fn running(&self) -> Vec<String> {
        self.0.running.ids()
    }

    /// Whether an offer still waits for its answer.
    pub fn is_open(&self, offer: u64) -> bool {
        self.0.inbox.is_open(offer)
    }

    /// The channel that is used where none is named.
    pub fn channel(&self) -> &str {
        &self.0.settings.channel
    }

    /// The public key of this node's identity; `None` where it was told to have none. The first use makes the
    /// seed.
    ///
    /// # Errors
    /// `STATE` for a seed that can't be used.
    pub fn public_key(&self) -> Result<Option<[u8; 32]>> {
        Ok(self.0.identity_now()?.map(|key| key.public_key()))
    }

    /// The name under which an open offer's file is saved in a folder.
    pub fn safe_name(&self, offer: u64) -> Result<SafeName> {
        self.alive()?.inbox.name_of(offer)
    }

    /// Whether an open offer offers a folder.
    pub fn is_of_folder(&self, offer: u64) -> Result<bool> {
        self.alive()?.inbox.is_of_folder(offer)
    }

    /// Declines an offered file. Where the offer names no recipient it is only left alone.
    pub async fn reject(&self, offer: u64, reason: Option<&str>) -> Result<()> {
        let context = self.alive()?;
        let open = context.inbox.take(offer)?;
        if open.offer.recipient_id.is_some() {
            let reason = reason.unwrap_or("declined by the recipient");
            if let Err(error) = context.client.reject(&open.task.id, reason).await {
                if error.is_retryable() {
                    context.inbox.put_back(offer, open);
                    return Err(error.into());
                }
                // Refused, because the offer is over: it was withdrawn, or taken by another process.
                let over = match context.client.get(&open.task.id).await {
                    Ok(task) => task.status != Status::Pending,
                    Err(error) => error.is_not_found(),
                };
                context.inbox.ended(&open.task.id, false);
                return Err(if over { inbox::answered() } else { error.into() });
            }
        }
        context.inbox.declined(&open.task.id);
        Ok(())
    }

    /// What the task service knows of a transfer, by its own id or its task's.
    pub async fn status(&self, id: &str) -> Result<TransferStatus> {
        let context = self.alive()?;
        let channel = &context.settings.channel;
        let task = offer::find(&context.client, channel, id).await?.ok_or_else(|| {
            Error::new(
                Code::UnknownTransfer,
                format!(
                    "no transfer {} on channel {} of {}; check the id and the settings",
                    files::display(id),
                    files::display(&context.settings.channel),
                    files::display(&context.settings.url)
                ),
            )
        })?;
        let offer = Offer::from_payload(&task.payload).ok();
        let failure = offer::failure(&task, offer.as_ref(), context.client.clock().into());
        let offer = offer.map(|offer| OfferSummary {
            transfer_id: offer.transfer_id,
            file_name: files::display(&offer.name),
            size: offer.size,
            hash: offer.hash,
            sender_id: offer.sender_id,
            recipient_id: offer.recipient_id,
            expires_at: offer.expires_at.map(|end| end.as_str().to_owned()),
        });
        Ok(TransferStatus { task, offer, failure })
    }

    /// Checks what both ends of a transfer signed, and `file` against it.
    ///
    /// # Errors
    /// `NO_RECEIPT` where there is nothing that both have signed; `IDENTITY` where it is not what was signed,
    /// or not by an identity that is known; `INTEGRITY` where the file is another one; those of the service
    /// and of the file.
    pub async fn verify(&self, receipt: ReceiptPlace, file: Option<PathBuf>) -> Result<VerifiedReceipt> {
        verify::run(self.alive()?, receipt, file).await
    }

    /// Leaves the peer network until [`Node::resume`]: connections end, sockets are closed. Transfers under
    /// way wait, and their claims are kept.
    pub async fn suspend(&self) -> Result<()> {
        self.alive()?.network.suspend().await;
        Ok(())
    }

    /// Comes back to the peer network. Transfers that wait connect again, and go on where they were.
    pub async fn resume(&self) -> Result<()> {
        self.alive()?.network.resume().await
    }

    /// Cancels every transfer, leaves the service and the network. Afterwards nothing of the node runs.
    pub async fn destroy(&self) {
        let context = &self.0;
        context.spawner.shut_down(FAREWELL, HALT).await;
        tokio::join!(context.leave_service(), context.network.close());
    }

    /// Withdraws and removes, once, what earlier processes left behind and nobody waits for any more.
    fn begin(&self) {
        if !self.0.has_begun.swap(true, Ordering::Relaxed) {
            let context = self.0.clone();
            self.0.spawn(async move {
                let swept = async {
                    tokio::join!(send::withdraw_expired(&context), receive::sweep(&context));
                };
                context.cancel().run_until_cancelled(swept).await
            });
        }
    }

    fn alive(&self) -> Result<&Arc<Context>> {
        if self.0.cancel().is_cancelled() {
            return Err(Error::new(Code::Destroyed, "the node was destroyed; create another one"));
        }
        Ok(&self.0)
    }
}
