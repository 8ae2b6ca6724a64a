//! One node: its settings, its place on the task service and the network, and its transfers.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acquaintances::Acquaintances;
use crate::ats::{self, Client, Settings, Status, Task, TaskId};
use crate::error::{Code, Error, Result};
use crate::event::Event;
use crate::feed::Feed;
use crate::files::{self, SafeName};
use crate::idle;
use crate::network::{Network, RelayChoice};
use crate::offer::{self, Offer};
use crate::receive::{self, Acceptance, CLEAN_UP, Received};
use crate::record::Records;
use crate::send::{self, SendRequest, Sent};
use crate::watch::{self, Desk, Watch};

/// How long a wait for the other side lasts unless the caller says otherwise: to be claimed, to be
/// connected, to move a byte. The original's default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// How old an offer without an expiry of its own may be: originals give up after two minutes, and a task
/// that nobody cleaned up is no offer.
pub const DEFAULT_MAX_OFFER_AGE: Duration = Duration::from_secs(600);

/// Files that are received at once, each with a connection, a partial file and a thread; the rest wait.
const MAX_RECEIVING: usize = 16;

/// Files that are sent at once; the rest wait before they are offered.
const MAX_SENDING: usize = 64;

/// Offers that are being declined at once; beyond, they are left to expire.
const MAX_DECLINING: usize = 64;

/// How long `destroy` waits for transfers to tell their peers and the service that they were cancelled:
/// a little more than each of them takes at most.
const FAREWELL: Duration = Duration::from_secs(8);

/// How long what was stopped in the middle may take to go away.
const HALT: Duration = Duration::from_secs(1);

/// How a node is set up. `Default` gives the documented defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings of the task service that the caller gave, above environment and files.
    pub ats: ats::Overrides,
    /// The only actors to receive from; without, anybody.
    pub allowed_peers: Option<Vec<String>>,
    /// The largest file to receive, bytes; without, any.
    pub max_file_size: Option<u64>,
    /// See [`DEFAULT_TIMEOUT`].
    pub timeout: Duration,
    /// See [`DEFAULT_MAX_OFFER_AGE`].
    pub max_offer_age: Duration,
    /// What stands before the transfer id where a topic is derived from it.
    pub topic_prefix: String,
    /// DHT nodes to join the network through, `host:port` each; without, what the service's health names,
    /// else the public ones.
    pub bootstrap: Option<Vec<String>>,
    /// The relay that connections go through where no direct way opens.
    pub relay_through: RelayChoice,
    /// Whether a send is content with another claimant than the recipient.
    pub any_claimant: bool,
    /// Where this user's state lives.
    pub home: PathBuf,
}

impl Options {
    /// The defaults, with state in `home`.
    pub fn new(home: PathBuf) -> Self {
        Self {
            ats: ats::Overrides::default(),
            allowed_peers: None,
            max_file_size: None,
            timeout: DEFAULT_TIMEOUT,
            max_offer_age: DEFAULT_MAX_OFFER_AGE,
            topic_prefix: String::new(),
            bootstrap: None,
            relay_through: RelayChoice::default(),
            any_claimant: false,
            home,
        }
    }
}

/// What a watch is to do with offers.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// The channel; without, the configured one.
    pub channel: Option<String>,
    /// Take every file into this folder; without, ask by a `file` event.
    pub save_dir: Option<PathBuf>,
}

/// An agent's end of all its transfers. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

/// What the transfers of a node share.
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) network: Network,
    pub(crate) desk: Desk,
    pub(crate) receiving: Semaphore,
    pub(crate) sending: Semaphore,
    pub(crate) declining: Arc<Semaphore>,
    /// Connections that brought a file and may bring another.
    pub(crate) incoming: Arc<idle::Incoming>,
    /// Connections that took a file away and may take another.
    pub(crate) outgoing: Arc<idle::Outgoing>,
    /// Who took files lately.
    pub(crate) acquaintances: Acquaintances,
    /// Ends everything in good order.
    pub(crate) cancel: CancellationToken,
    /// Ends what did not end by that.
    halt: CancellationToken,
    tasks: TaskTracker,
    emit: Box<dyn Fn(Event) + Send + Sync>,
    feeds: Mutex<HashMap<String, Arc<Feed>>>,
    originals: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    last_seq: AtomicU64,
}

impl Node {
    /// A node that tells `emit` what happens. Touches neither the task service nor the network; `emit`
    /// must not block.
    pub fn new(options: Options, emit: impl Fn(Event) + Send + Sync + 'static) -> Result<Self> {
        let (settings, warnings) = Settings::load(options.ats.clone(), &ats::Environment::current());
        for warning in warnings {
            emit(Event::Warning { message: warning.to_string() });
        }
        let client = Client::new(settings.clone())?;
        Ok(Self(Arc::new(Inner {
            network: Network::new(options.bootstrap.clone(), options.relay_through),
            options,
            settings,
            client,
            desk: Desk::default(),
            receiving: Semaphore::new(MAX_RECEIVING),
            sending: Semaphore::new(MAX_SENDING),
            declining: Arc::new(Semaphore::new(MAX_DECLINING)),
            incoming: Arc::default(),
            outgoing: Arc::default(),
            acquaintances: Acquaintances::default(),
            cancel: CancellationToken::new(),
            halt: CancellationToken::new(),
            tasks: TaskTracker::new(),
            emit: Box::new(emit),
            feeds: Mutex::default(),
            originals: Mutex::default(),
            last_seq: AtomicU64::new(0),
        })))
    }

    /// Offers a file and sends it to whom it is for. Resolves when the recipient has it, whole and
    /// verified.
    pub async fn send(&self, mut request: SendRequest) -> Result<Sent> {
        let inner = self.alive()?;
        let transfer = inner.cancel.child_token();
        let caller = std::mem::replace(&mut request.cancel, transfer.clone());
        // As a task of its own the transfer can say good-bye even when nobody waits for it any more.
        joined(inner.spawn(cancelled_by(caller, transfer, send::run(inner.clone(), request)))).await
    }

    /// Watches a channel for offers. A folder to save in is made, and tried, before this returns.
    pub fn watch(&self, options: WatchOptions) -> Result<()> {
        let inner = self.alive()?;
        let save_dir = options.save_dir.as_deref().map(prepare_folder).transpose()?;
        let channel = options.channel.unwrap_or_else(|| inner.settings.channel.clone());
        inner.spawn(watch::run(inner.clone(), Watch { channel, save_dir }));
        Ok(())
    }

    /// Takes an offered file. Resolves when it is in its place, whole and verified.
    pub async fn accept(&self, offer: u64, mut acceptance: Acceptance) -> Result<Received> {
        let inner = self.alive()?;
        let open = inner.desk.take(offer)?;
        let transfer = inner.cancel.child_token();
        let caller = std::mem::replace(&mut acceptance.cancel, transfer.clone());
        let reception = receive::run(inner.clone(), offer, open, acceptance);
        let reception = async { reception.await.map_err(|failure| failure.error) };
        joined(inner.spawn(cancelled_by(caller, transfer, reception))).await
    }

    /// The name under which an open offer's file is saved in a folder.
    pub fn safe_name(&self, offer: u64) -> Result<SafeName> {
        self.alive()?.desk.name_of(offer)
    }

    /// Declines an offered file. Where the offer names no recipient it is only left alone.
    pub async fn reject(&self, offer: u64, reason: Option<&str>) -> Result<()> {
        let inner = self.alive()?;
        let open = inner.desk.take(offer)?;
        if open.offer.recipient_id.is_some() {
            let reason = reason.unwrap_or("declined by the recipient");
            if let Err(error) = inner.client.reject(&open.task.id, reason).await {
                if error.is_retryable() {
                    inner.desk.put_back(offer, open);
                    return Err(error.into());
                }
                // Refused, because the offer is over: it was withdrawn, or taken by another process.
                let over = match inner.client.get(&open.task.id).await {
                    Ok(task) => task.status != Status::Pending,
                    Err(error) => error.is_not_found(),
                };
                inner.desk.ended(&open.task.id, false);
                return Err(if over { watch::answered() } else { error.into() });
            }
        }
        inner.desk.declined(&open.task.id);
        Ok(())
    }

    /// What the task service knows of a transfer, by its own id or its task's.
    pub async fn status(&self, id: &str) -> Result<Value> {
        let inner = self.alive()?;
        let task = inner.find(id).await?.ok_or_else(|| {
            Error::new(
                Code::UnknownTransfer,
                format!(
                    "no transfer {} on channel {} of {}; check the id and the settings",
                    files::display(id),
                    files::display(&inner.settings.channel),
                    files::display(&inner.settings.url)
                ),
            )
        })?;
        Ok(describe(&task))
    }

    /// Leaves the peer network until [`Node::resume`]: connections end, sockets are closed. Transfers under
    /// way wait, and their claims are kept.
    pub async fn suspend(&self) -> Result<()> {
        self.alive()?.network.suspend().await;
        Ok(())
    }

    /// Comes back to the peer network. Transfers that wait connect again, each from its beginning.
    pub async fn resume(&self) -> Result<()> {
        self.alive()?.network.resume().await
    }

    /// Cancels every transfer, leaves the service and the network. Afterwards nothing of the node runs.
    pub async fn destroy(&self) {
        let inner = &self.0;
        inner.cancel.cancel();
        inner.tasks.close();
        let _ = timeout(FAREWELL, inner.tasks.wait()).await;
        inner.halt.cancel();
        let _ = timeout(HALT, inner.tasks.wait()).await;
        lock(&inner.feeds).clear();
        inner.network.close().await;
    }

    /// What its transfers share.
    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    fn alive(&self) -> Result<&Arc<Inner>> {
        if self.0.cancel.is_cancelled() {
            return Err(Error::new(Code::Destroyed, "the node was destroyed; create another one"));
        }
        Ok(&self.0)
    }
}

impl Inner {
    /// Tells the owner.
    pub(crate) fn emit(&self, event: Event) {
        crate::log::event(&event);
        (self.emit)(event);
    }

    /// Who this node is on the task service.
    pub(crate) fn actor_id(&self) -> &str {
        &self.settings.actor.id
    }

    /// Runs something as a part of the node, which ends with it; `None` if it had to be stopped for that.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let halt = self.halt.clone();
        self.tasks.spawn(async move { halt.run_until_cancelled(future).await })
    }

    /// The subscription to a channel, begun now if it is the first use.
    pub(crate) fn feed(&self, channel: &str) -> Arc<Feed> {
        lock(&self.feeds)
            .entry(channel.to_owned())
            .or_insert_with(|| Arc::new(Feed::start(&self.client, channel)))
            .clone()
    }

    /// The turn to exchange bytes with an original: it may use one swarm for all its transfers, so they
    /// go one after another.
    pub(crate) async fn turn_with_original(&self, actor_id: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut originals = lock(&self.originals);
            originals.retain(|id, turn| Arc::strong_count(turn) > 1 || id == actor_id);
            originals.entry(actor_id.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// This user's records.
    pub(crate) fn records(&self) -> Result<Records> {
        Records::open(&self.options.home).map_err(|error| {
            Error::new(
                Code::State,
                format!(
                    "{} cannot be used for this user's state: {error}",
                    files::display_path(&self.options.home)
                ),
            )
        })
    }

    /// The service, organization and project as one word.
    pub(crate) fn scope(&self) -> String {
        let (url, organization, project) = self.settings.scope();
        format!("{url} {organization} {project}")
    }

    /// Unix milliseconds, never the same twice.
    pub(crate) fn next_seq(&self) -> u64 {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let before = self.last_seq.fetch_max(now, Ordering::Relaxed);
        if before < now { now } else { self.last_seq.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// The topic that the peers of a transfer meet under, where one of them is an original.
    pub(crate) fn topic(&self, transfer_id: &str) -> [u8; 32] {
        offer::topic(&self.options.topic_prefix, transfer_id)
    }

    /// The task, if it was cancelled and the service says so soon.
    pub(crate) async fn cancelled_task(&self, id: &TaskId) -> Option<Task> {
        let task = timeout(CLEAN_UP, self.client.get(id)).await.ok()?.ok()?;
        (task.status == Status::Cancelled).then_some(task)
    }

    async fn find(&self, id: &str) -> Result<Option<Task>> {
        let is_it = |task: &Task| {
            task.kind == offer::TASK_TYPE
                && Offer::from_payload(&task.payload).is_ok_and(|offer| offer.transfer_id == id)
        };
        let query =
            ats::ListQuery { kind: Some(offer::TASK_TYPE.into()), limit: Some(100), ..Default::default() };
        let by_search = ats::ListQuery { search: Some(id.to_owned()), ..query.clone() };
        if let Some(task) = self.client.list(&by_search).await?.into_iter().find(is_it) {
            return Ok(Some(task));
        }
        if let Some(task_id) = TaskId::from_text(id) {
            match self.client.get(&task_id).await {
                Ok(task) if task.kind == offer::TASK_TYPE => return Ok(Some(task)),
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        // An original's offer need not carry its id where the service searches.
        let on_channel = ats::ListQuery { channel: Some(self.settings.channel.clone()), ..query };
        Ok(self.client.list(&on_channel).await?.into_iter().find(is_it))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("actor", &self.settings.actor.id).finish_non_exhaustive()
    }
}

async fn joined<T>(task: JoinHandle<Option<Result<T>>>) -> Result<T> {
    match task.await {
        Ok(Some(result)) => result,
        Ok(None) => Err(Error::new(Code::Aborted, "the transfer was cancelled here")),
        Err(_) => Err(Error::new(Code::State, "an internal task ended unexpectedly")),
    }
}

/// Runs a transfer, and cancels it when its caller does.
async fn cancelled_by<T>(
    caller: CancellationToken,
    transfer: CancellationToken,
    run: impl Future<Output = T>,
) -> T {
    let mut run = pin!(run);
    tokio::select! {
        result = &mut run => return result,
        () = caller.cancelled() => transfer.cancel(),
    }
    run.await
}

/// Runs what blocks on a thread where that is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::new(Code::State, "an internal task ended unexpectedly")))
}

/// Waits for `future` or the caller's cancellation, whichever is first.
pub(crate) async fn or_cancelled<T>(
    cancel: &CancellationToken,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::new(Code::Aborted, "the transfer was cancelled here")),
        result = future => result,
    }
}

/// Locks a mutex whose holders cannot leave its content half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare_folder(dir: &Path) -> Result<PathBuf> {
    files::prepare_folder(dir).map_err(Error::from)
}

fn describe(task: &Task) -> Value {
    let mut status = json!({
        "taskId": task.id.to_value(),
        "status": task.status.to_string(),
        "channel": task.channel,
        "claimedBy": task.assignee.as_ref().map(|actor| actor.id.clone()),
        "createdAt": task.created_at,
        "updatedAt": task.updated_at,
        "outputs": task.outputs,
    });
    if let Ok(offer) = Offer::from_payload(&task.payload) {
        status["transferId"] = json!(offer.transfer_id);
        status["fileName"] = json!(files::display(&offer.name));
        status["fileSize"] = json!(offer.size);
        status["fileHash"] = json!(offer.hash);
        status["senderId"] = json!(offer.sender_id);
        status["recipientId"] = json!(offer.recipient_id);
    }
    status
}
