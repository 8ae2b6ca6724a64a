//! What the transfers of one node share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::handover::Handover;
use protocol::identity::IdentityKey;
use protocol::receipt::Receipt;
use protocol::scope::Scope;
use serde_json::Value;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ats::{self, Client, Events, Settings, Status, Subscription, Task, TaskId};
use crate::connection::{IncomingPool, Network, OutgoingPool, RecentPeers};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::files::{self, Arrivals, HashCache};
use crate::limits::CLEAN_UP;
use crate::offer;
use crate::offer::Offer;
use crate::offer::inbox::Inbox;
use crate::offer::judge::Judge;
use crate::options::{MAX_CONCURRENT, Options};
use crate::places::{PlaceLimits, Places};
use crate::pump::{RateLimit, Throttle};
use crate::receipts::Receipts;
use crate::remarks::Remarks;
use crate::running::RunningTransfers;
use crate::sync::{Spawner, blocking, lock, spawn_blocking};
use crate::troubles::{InTrouble, Troubles};
use crate::trust::Trust;
use crate::tunnel::Tunnels;

/// Files that are received beside those that move: each has a claim that is renewed, and may have a
/// connection, a partial file and a thread.
const MAX_RECEIVING_ASIDE: usize = 64;

/// Those of one sender.
const MAX_ASIDE_OF_ONE: usize = 16;

/// Files that are sent at once. Beside them so many offers may wait for their recipients: each is a task, an
/// open file and a key on the network. The rest wait before they are offered.
const SENDING: PlaceLimits = PlaceLimits { places: 64, aside: 192, aside_of_one: 16 };

/// Offers that are being declined at once; beyond, they are left to expire.
const MAX_DECLINING: usize = 64;

/// What the transfers of a node share: its place on the task service and on the network, its limits, its
/// connections, and its owner's ear.
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) network: Network,
    /// Who this node is to others, and whom it knows.
    pub(crate) trust: Arc<Trust>,
    /// What both ends of a transfer signed.
    pub(crate) receipts: Receipts,
    /// What the files were that were sent.
    pub(crate) hashes: HashCache,
    /// What the files were that came.
    pub(crate) arrivals: Arc<Arrivals>,
    /// What people read on tasks.
    pub(crate) remarks: Remarks,
    pub(crate) inbox: Inbox,
    /// The turn to receive, by the actor who sends.
    pub(crate) receiving: Arc<Places>,
    /// The turn to send, by the actor who receives.
    pub(crate) sending: Arc<Places>,
    pub(crate) declining: Arc<Semaphore>,
    /// How many bytes a second all transfers together may move.
    rate: Option<Arc<RateLimit>>,
    /// Connections that brought a file and may bring another.
    pub(crate) incoming: Arc<IncomingPool>,
    /// Connections that took a file away and may take another.
    pub(crate) outgoing: Arc<OutgoingPool>,
    /// Who took files lately.
    pub(crate) recent_peers: RecentPeers,
    /// The transfers that run, by their ids.
    pub(crate) running: RunningTransfers,
    /// What keeps this machine from receiving at present.
    pub(crate) troubles: Arc<Troubles>,
    pub(crate) spawner: Spawner,
    emit: Box<dyn Fn(Event) + Send + Sync>,
    channels: Mutex<HashMap<String, Channel>>,
    originals: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    last_seq: AtomicU64,
    /// The owner was told what is wrong with the seed.
    told_of_seed: AtomicBool,
    /// What earlier processes left behind was looked at.
    pub(crate) has_begun: AtomicBool,
}

/// A channel of the task service that is in use.
struct Channel {
    events: Arc<Events>,
    /// Somebody watches it, and tells the owner whether the service is reached.
    is_watched: bool,
}

impl Context {
    /// The context of a node that tells `emit` what happens. Warnings of the settings are told at once.
    pub(crate) fn new(options: Options, emit: impl Fn(Event) + Send + Sync + 'static) -> Result<Self> {
        let (settings, warnings) = Settings::load(options.ats.clone(), &ats::Environment::current());
        for warning in warnings {
            emit(Event::Warning { message: warning.to_string() });
        }
        let client = Client::new(settings.clone())?;
        let spawner = Spawner::default();
        let receiving = PlaceLimits {
            places: options.max_concurrent.clamp(1, MAX_CONCURRENT),
            aside: MAX_RECEIVING_ASIDE,
            aside_of_one: MAX_ASIDE_OF_ONE,
        };
        Ok(Self {
            network: Network::new(options.bootstrap.clone(), options.relay_through, options.tunnel.clone()),
            rate: options.max_rate.map(RateLimit::new),
            trust: Arc::new(trust(&options, &settings)),
            receipts: Receipts::new(&options.home, options.keep_receipts),
            hashes: match options.hash_cache {
                true => HashCache::new(&options.home),
                false => HashCache::off(),
            },
            arrivals: Arc::default(),
            remarks: Remarks::new(client.clone(), spawner.clone()),
            options,
            settings,
            client,
            inbox: Inbox::default(),
            receiving: Places::new(receiving, spawner.clone()),
            sending: Places::new(SENDING, spawner.clone()),
            declining: Arc::new(Semaphore::new(MAX_DECLINING)),
            incoming: Arc::default(),
            outgoing: Arc::default(),
            recent_peers: RecentPeers::default(),
            running: RunningTransfers::default(),
            troubles: Arc::default(),
            spawner,
            emit: Box::new(emit),
            channels: Mutex::default(),
            originals: Mutex::default(),
            last_seq: AtomicU64::new(0),
            told_of_seed: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
        })
    }

    /// Tells the owner.
    pub(crate) fn emit(&self, event: Event) {
        crate::log::event(&event);
        (self.emit)(event);
    }

    /// Who this node is on the task service.
    pub(crate) fn actor_id(&self) -> &str {
        &self.settings.actor.id
    }

    /// Judges who is behind what stands in tasks. It may read a small file of the disk.
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge::new(&self.trust, &self.options)
    }

    /// The tunnels that it may use; known once it has a place on the network.
    pub(crate) fn tunnels(&self) -> Tunnels {
        self.network.tunnels(&self.client)
    }

    /// The key that this node signs with.
    pub(crate) async fn identity(&self) -> Result<Option<IdentityKey>> {
        if let Some(key) = self.trust.identity_at_hand() {
            return Ok(Some(key));
        }
        let trust = self.trust.clone();
        let (identity, trouble) = blocking(move || Ok((trust.identity()?, trust.seed_trouble()))).await?;
        self.tell_of_seed(trouble);
        Ok(identity)
    }

    /// The same, on this thread: it may read and write small files.
    pub(crate) fn identity_now(&self) -> Result<Option<IdentityKey>> {
        let identity = self.trust.identity()?;
        self.tell_of_seed(self.trust.seed_trouble());
        Ok(identity)
    }

    /// Finds out whether it can be read who this node is, and whom it knows. Blocks.
    ///
    /// # Errors
    /// `STATE`.
    pub(crate) fn try_trust(&self) -> Result<()> {
        self.identity_now()?;
        self.trust.peers().map(drop)
    }

    fn tell_of_seed(&self, trouble: Option<String>) {
        if let Some(message) = trouble.filter(|_| !self.told_of_seed.swap(true, Ordering::Relaxed)) {
            self.emit(Event::Warning { message });
        }
    }

    /// Notes that a transfer with this peer was verified: the first one pins its identity, or one that the
    /// pinned one handed over to.
    pub(crate) async fn pin(&self, actor_id: &str, identity: Option<[u8; 32]>, handover: Vec<Handover>) {
        let Some(identity) = identity else { return };
        if self.trust.is_pinned(actor_id, &identity) {
            return;
        }
        let (trust, actor) = (self.trust.clone(), actor_id.to_owned());
        if let Err(error) = blocking(move || trust.pin(&actor, &identity, &handover)).await {
            // The file has arrived all the same.
            tracing::warn!("{error}");
        }
    }

    /// Notes that an offer waits because of `error`, and tells the owner if it is the first for that reason.
    pub(crate) fn enter_trouble(&self, error: &Error) -> InTrouble {
        let (trouble, message) = self.troubles.enter(error);
        if let Some(message) = message {
            self.emit(Event::Warning { message });
        }
        trouble
    }

    /// What a transfer with this actor may move, where it has itself a limit of so many bytes a second, or
    /// none.
    pub(crate) fn throttle(&self, actor_id: &str, max_rate: Option<u64>) -> Throttle {
        let own = max_rate.map(RateLimit::new);
        Throttle::new(actor_id, own.into_iter().chain(self.rate.clone()))
    }

    /// Is cancelled when the node is to end.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        self.spawner.cancel()
    }

    /// Runs something as a part of the node, which ends with it; `None` if it had to be stopped for that.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.spawner.spawn(future)
    }

    /// The events of offers on a channel, subscribed to now if this is the first use.
    pub(crate) fn events(&self, channel: &str) -> Arc<Events> {
        self.channel(channel, |channel| channel.events.clone())
    }

    /// Notes that a channel is watched. The first watch, and no other, tells the owner whether the service is
    /// reached: `true` says that this is it.
    pub(crate) fn is_first_watch(&self, channel: &str) -> bool {
        self.channel(channel, |channel| !std::mem::replace(&mut channel.is_watched, true))
    }

    fn channel<T>(&self, name: &str, see: impl FnOnce(&mut Channel) -> T) -> T {
        let mut channels = lock(&self.channels);
        see(channels.entry(name.to_owned()).or_insert_with(|| {
            let subscription = Subscription {
                channels: vec![name.to_owned()],
                task_types: vec![offer::TASK_TYPE.to_owned()],
                event_types: Vec::new(),
            };
            Channel { events: Arc::new(Events::start(&self.client, subscription)), is_watched: false }
        }))
    }

    /// Leaves the task service: ends all subscriptions, and every connection to it.
    pub(crate) async fn leave_service(&self) {
        let channels = std::mem::take(&mut *lock(&self.channels));
        self.client.close();
        for channel in channels.into_values() {
            channel.events.end().await;
        }
    }

    /// The turn to exchange bytes with an original: it may use one swarm for all its transfers, so they
    /// go one after another.
    pub(crate) async fn turn_with_original(&self, actor_id: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut originals = lock(&self.originals);
            originals.retain(|id, turn| Arc::strong_count(turn) > 1 || id == actor_id);
            originals.entry(actor_id.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Keeps the receipt of a transfer, if both ends have signed it, in the background.
    pub(crate) fn keep_receipt(&self, task_id: &TaskId, offer: &Offer, outputs: Vec<Value>) {
        let receipt = Receipt {
            scope: self.trust.scope().clone(),
            task_id: task_id.to_value(),
            payload: offer.to_payload(),
            outputs,
        };
        let (receipts, name) = (self.receipts.clone(), files::display(&offer.name));
        self.spawn(async move {
            let kept = spawn_blocking(move || receipts.keep(&receipt));
            if let Ok(Err(error)) = kept.await {
                tracing::warn!("the receipt of {name} can't be kept: {error}");
            }
        });
    }

    /// The service, organization and project as one word.
    pub(crate) fn scope(&self) -> String {
        let (url, organization, project) = self.settings.scope();
        format!("{url} {organization} {project}")
    }

    /// The time, Unix milliseconds.
    pub(crate) fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Unix milliseconds, never the same twice.
    pub(crate) fn next_seq(&self) -> u64 {
        let now = self.unix_millis();
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
}

/// Who a node with these options is to others, and whom it knows.
pub(crate) fn trust(options: &Options, settings: &Settings) -> Trust {
    let (url, organization, project) = settings.scope();
    let scope = Scope::new(url, organization, project);
    Trust::new(options.home.clone(), options.identity.clone(), scope, settings.actor.id.clone())
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("actor", &self.settings.actor.id).finish_non_exhaustive()
    }
}
