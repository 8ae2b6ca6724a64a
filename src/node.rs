//! One node: its settings, its place on the task service and the network, and its transfers.

use std::sync::Arc;
use std::time::Duration;

use crate::ats::{ListQuery, Status, Task, TaskId};
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::Event;
use crate::files::{self, SafeName};
use crate::offer::{self, Offer, inbox};
pub use crate::options::{DEFAULT_MAX_OFFER_AGE, DEFAULT_TIMEOUT, Options};
use crate::receive::{self, Acceptance, Received};
use crate::send::{self, SendRequest, Sent};
use crate::sync::{cancelled_by, joined};
use crate::trust::Trust;
use crate::watch;
pub use crate::watch::WatchOptions;

/// How long `destroy` waits for transfers to tell their peers and the service that they were cancelled:
/// a little more than each of them takes at most.
const FAREWELL: Duration = Duration::from_secs(10);

/// How long what was stopped in the middle may take to go away.
const HALT: Duration = Duration::from_secs(1);

/// Offers looked at to find the one of a transfer.
const LOOKED_AT: u32 = 100;

/// What the task service knows of a transfer.
#[derive(Clone, Debug)]
pub struct TransferStatus {
    /// The task that offers the file.
    pub task: Task,
    /// What it offers; none where its payload can't be read.
    pub offer: Option<OfferSummary>,
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
        let transfer = context.cancel().child_token();
        let caller = std::mem::replace(&mut request.cancel, transfer.clone());
        // As a task of its own the transfer can say good-bye even when nobody waits for it any more.
        joined(context.spawn(cancelled_by(caller, transfer, send::run(context.clone(), request)))).await
    }

    /// Watches a channel for offers. A folder to save in is made, and tried, before this returns.
    ///
    /// # Errors
    /// Those of the folder; `DESTROYED`.
    pub fn watch(&self, options: WatchOptions) -> Result<()> {
        watch::start(self.alive()?, options)
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

    /// The name under which an open offer's file is saved in a folder.
    pub fn safe_name(&self, offer: u64) -> Result<SafeName> {
        self.alive()?.inbox.name_of(offer)
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
        let task = find(context, id).await?.ok_or_else(|| {
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
        let offer = Offer::from_payload(&task.payload).ok().map(|offer| OfferSummary {
            transfer_id: offer.transfer_id,
            file_name: files::display(&offer.name),
            size: offer.size,
            hash: offer.hash,
            sender_id: offer.sender_id,
            recipient_id: offer.recipient_id,
        });
        Ok(TransferStatus { task, offer })
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
        context.unsubscribe();
        context.network.close().await;
    }

    fn alive(&self) -> Result<&Arc<Context>> {
        if self.0.cancel().is_cancelled() {
            return Err(Error::new(Code::Destroyed, "the node was destroyed; create another one"));
        }
        Ok(&self.0)
    }
}

/// The task of a transfer, by the transfer's id or its own.
async fn find(context: &Context, id: &str) -> Result<Option<Task>> {
    let is_it = |task: &Task| {
        task.kind == offer::TASK_TYPE
            && Offer::from_payload(&task.payload).is_ok_and(|offer| offer.transfer_id == id)
    };
    let query =
        ListQuery { kind: Some(offer::TASK_TYPE.into()), limit: Some(LOOKED_AT), ..Default::default() };
    let by_search = ListQuery { search: Some(id.to_owned()), ..query.clone() };
    let first = async |query| {
        let page = context.client.list_page(query, |task| is_it(&task).then_some(task)).await?;
        Ok::<_, Error>(page.tasks.into_iter().next())
    };
    if let Some(task) = first(&by_search).await? {
        return Ok(Some(task));
    }
    if let Some(task_id) = TaskId::from_text(id) {
        match context.client.get(&task_id).await {
            Ok(task) if task.kind == offer::TASK_TYPE => return Ok(Some(task)),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    // An original's offer need not carry its id where the service searches.
    let on_channel = ListQuery { channel: Some(context.settings.channel.clone()), ..query };
    first(&on_channel).await
}
