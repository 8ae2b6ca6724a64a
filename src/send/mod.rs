//! One outgoing transfer: from the file on disk to the recipient's word that it has it.
//!
//! # Layout
//! - `claim`: the offer's task: who claimed it, what became of it, and whether its completion is believed
//! - `record`: the offer on disk, until its end was seen; `open_offers`: taking up an earlier process's
//! - `keyed`: a send under an idempotency key, of which one delivery comes however often it is asked for
//! - `shared_file`: a file that several are sent
//! - `delivery`: handing over the bytes; `direct` to a peer of ours, on a key; `topic` to an original
//!
//! Whether the topic is announced before the offer is decided here, in `drive`; see `connection::Topic`.

mod claim;
mod delivery;
mod direct;
mod keyed;
mod open_offers;
mod record;
mod shared_file;
mod topic;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyperdht::Dht;
use protocol::identity::IdentityKey;
use protocol::statement::Role;
use secret_stream::{KeyPair, PublicKey};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::claim::{Claimant, OfferTask};
use self::delivery::Delivery;
use self::keyed::HeldKey;
use self::record::{EndedRecord, OfferRecord, OfferRecords, OpenRecord};
use crate::ats::{Client, Events, NewTask, Part, Status, Task, TaskId};
use crate::connection::{ConnectionInfo, OFFERED, PeerConnection, PooledConnection, Rendezvous, Topic};
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::{Direction, Event, PeerIdentity, Phase, ProgressListener, Transfer};
use crate::files::{self, JsonPath, SafeName, Source, TreeOptions, TreeSize};
use crate::limits::{GOODBYE, clean_up};
use crate::offer::{self, Attributes, Expiry, Features, Metadata, Nodes, Offer, P2p, Tree};
use crate::places::HeldPlace;
use crate::remarks;
use crate::running::RunningGuard;
use crate::sync::{aborted, blocking, or_cancelled, tried_or_cancelled};
use crate::transfer::TransferEvents;
use crate::wire::Meta;

pub use self::open_offers::ResumedOffer;
pub(crate) use self::open_offers::{forget, resume_all, withdraw_expired};
pub use self::shared_file::SharedFile;

/// The priority of an offer, the service's default: 1 to 10.
const PRIORITY: u8 = 5;

/// What to send, and to whom.
#[derive(Clone)]
pub struct SendRequest {
    /// The file, or its bytes.
    pub source: SendSource,
    /// The actor it is for.
    pub recipient_id: String,
    /// The channel; without, the configured one.
    pub channel: Option<String>,
    /// How long each wait for the other side lasts; without, the node's.
    pub timeout: Option<Duration>,
    /// Makes this the same as every other send with this key: one delivery comes of all.
    pub idempotency_key: Option<String>,
    /// What is said of the file besides.
    pub metadata: Option<Metadata>,
    /// How many bytes a second may go, beside the node's limit.
    pub max_rate: Option<u64>,
    /// Told how far it is, as the events are.
    pub progress: Option<ProgressListener>,
    /// Ends the transfer.
    pub cancel: CancellationToken,
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum SendSource {
    /// What is on the disk: a file, a folder, or several of them as one folder that is made up.
    Paths {
        /// Where they are, one at least.
        paths: Vec<PathBuf>,
        /// What it is to be called; `None` for the last part of the path, or a name made of that of several.
        name: Option<String>,
        /// Of each folder: what is left out, by patterns as in a `.gitignore`.
        exclude: Vec<String>,
        /// Of each folder: whether its own `.gitignore` files count.
        gitignore: bool,
    },
    /// Something that is open already.
    Open(Source),
    /// The same, where others are sent it too.
    Shared(SharedFile),
}

impl SendSource {
    /// What it was before it was opened for several.
    fn origin(&self) -> &Self {
        match self {
            Self::Shared(file) => file.origin(),
            Self::Paths { .. } | Self::Open(_) => self,
        }
    }
}

impl From<PathBuf> for SendSource {
    fn from(path: PathBuf) -> Self {
        Self::Paths { paths: vec![path], name: None, exclude: Vec::new(), gitignore: false }
    }
}

/// A file that was delivered.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The transfer's id.
    pub transfer_id: String,
    /// The task's id, as the service gave it.
    pub task_id: Value,
    /// SHA-256 of what was sent, lower-case hex.
    pub hash: String,
    /// Bytes.
    pub size: u64,
    /// Who has it.
    pub peer: PeerIdentity,
    /// The byte of the file that was the first to go: 0, unless earlier processes had sent some; the size, if
    /// the recipient had all of them already.
    pub resumed_from: u64,
    /// The connection that they went by; none if the recipient had them already.
    pub connection: Option<ConnectionInfo>,
    /// It was delivered by an earlier send with the same idempotency key.
    pub replayed: bool,
    /// The offer on disk: it goes once whoever asked for this is told, and has dropped it.
    #[expect(dead_code, reason = "it is dropped")]
    record: Option<Arc<EndedRecord>>,
}

/// The task of an offer that an earlier process made, and what stands there.
type FoundTask = (TaskId, Offer);

/// An offer of an earlier process that this one goes on with.
struct TakenUp {
    open: OpenRecord,
    record: OfferRecord,
}

/// Sends a file.
pub(crate) async fn run(context: Arc<Context>, request: SendRequest) -> Result<Sent> {
    let source = open(&context, &request).await?;
    match request.idempotency_key.clone() {
        Some(key) => Box::pin(keyed::run(context, request, source, key)).await,
        None => run_once_more(context, request, source).await,
    }
}

/// Sends an open file; and once more where what was remembered of it proves wrong, which nobody but its
/// recipient has seen.
async fn run_once_more(context: Arc<Context>, request: SendRequest, source: Source) -> Result<Sent> {
    let new_id = || uuid::Uuid::new_v4().to_string();
    let sent = run_offer(context.clone(), request.clone(), source.clone(), new_id(), None, None).await;
    match sent {
        Err(error) if error.code == Code::SourceChanged && source.is_misremembered() => {
            context.emit(Event::Warning { message: format!("{}; it is offered anew", error.message) });
            let source = request.source.origin().clone();
            let request = SendRequest { source, ..request };
            let source = open(&context, &request).await?;
            run_offer(context, request, source, new_id(), None, None).await
        }
        sent => sent,
    }
}

/// Sends an open file by an offer that is made now, or was made by an earlier process.
async fn run_offer(
    context: Arc<Context>,
    mut request: SendRequest,
    source: Source,
    transfer_id: String,
    taken_up: Option<TakenUp>,
    idempotency: Option<Arc<HeldKey>>,
) -> Result<Sent> {
    let running = context.running.begin(&transfer_id, None, &request.cancel);
    let transfer = Transfer {
        direction: Direction::Send,
        transfer_id: transfer_id.clone(),
        task_id: None,
        file_name: SafeName::from_offered(source.local_name()).as_str().to_owned(),
        original_name: files::display(source.name()),
        size: source.size(),
        hash: taken_up.as_ref().map(|taken_up| taken_up.record.hash.clone()).unwrap_or_default(),
        metadata: request.metadata.clone(),
        tree: source.tree(),
        peer_id: request.recipient_id.clone(),
        peer: PeerIdentity::UNKNOWN,
    };
    let told = Arc::new(TransferEvents::new(&context, &transfer, request.progress.take()));
    // Until it is its turn, no byte of it is.
    told.enter(Phase::Hashing);
    let cancel = request.cancel.clone();
    let turn = or_cancelled(&cancel, async { Ok(context.sending.enter(&request.recipient_id).await) });
    let place = match turn.await {
        Ok(place) => place,
        Err(error) => {
            told.end_progress();
            let error = error.of(&transfer_id, None);
            context.emit(Event::TransferFailed { transfer, error: error.clone() });
            return Err(error);
        }
    };
    let limit = request.timeout.unwrap_or(context.options.timeout);
    let channel = request.channel.clone().unwrap_or_else(|| context.settings.channel.clone());
    let is_taken_up = taken_up.is_some();
    let mut outgoing = OutgoingTransfer {
        transfer,
        told,
        events: context.events(&channel),
        context: context.clone(),
        running,
        request,
        source,
        limit,
        channel,
        key: None,
        claimed: false,
        place,
        is_taken_up,
        found: None,
        idempotency,
        record: taken_up.map(|TakenUp { open, record }| (open, record)),
    };
    let result = outgoing.drive().await;
    if result.is_ok() && outgoing.told.has_started() {
        // The task can be faster than the peer.
        outgoing.told.enter(Phase::Verifying);
    }
    outgoing.told.end_progress();
    let transfer = outgoing.transfer.clone();
    match result {
        Ok(sent) => {
            context.emit(Event::TransferComplete { transfer, file_path: None });
            let record = outgoing.record.take().map(|(open, _)| Arc::new(open.ended()));
            Ok(Sent { record, ..sent })
        }
        Err(error) => {
            let task_id = transfer.task_id.as_ref().map(TaskId::to_string);
            let error = error.of(&transfer_id, task_id.as_deref());
            context.emit(Event::TransferFailed { transfer, error: error.clone() });
            let is_told = timeout(clean_up(error.code), outgoing.clean_up(&error)).await.unwrap_or(false);
            outgoing.settle(is_told);
            Err(error)
        }
    }
}

/// Which parts of a folder are sent.
fn tree_options(context: &Context, source: &SendSource) -> TreeOptions {
    let (exclude, gitignore) = match source.origin() {
        SendSource::Paths { exclude, gitignore, .. } => (exclude.clone(), *gitignore),
        SendSource::Open(_) | SendSource::Shared(_) => Default::default(),
    };
    TreeOptions { exclude, gitignore, plain: !context.options.preserve }
}

/// Opens what is to be sent to several, so that it is read once to be hashed.
pub(crate) async fn open_shared(
    context: &Context,
    source: SendSource,
    cancel: &CancellationToken,
) -> Result<SharedFile> {
    let open = open_source(context, &source, cancel).await?;
    Ok(SharedFile::new(open, source))
}

async fn open(context: &Context, request: &SendRequest) -> Result<Source> {
    if request.recipient_id.is_empty() {
        return Err(Error::new(
            Code::InvalidArgument,
            "recipientId is empty: name the agent that the file is for",
        ));
    }
    open_source(context, &request.source, &request.cancel).await
}

async fn open_source(context: &Context, source: &SendSource, cancel: &CancellationToken) -> Result<Source> {
    let options = tree_options(context, source);
    let (paths, name) = match source {
        SendSource::Paths { paths, name, .. } => (paths.clone(), name.clone()),
        SendSource::Open(source) => return Ok(source.clone()),
        SendSource::Shared(file) => return Ok(file.source().clone()),
    };
    let ended = cancel.clone();
    let open = move || Source::open_paths(&paths, name.as_deref(), &options, &ended);
    or_cancelled(cancel, blocking(move || open().map_err(Error::from))).await
}

struct OutgoingTransfer {
    context: Arc<Context>,
    request: SendRequest,
    source: Source,
    transfer: Transfer,
    /// What its owner is told of it.
    told: Arc<TransferEvents>,
    events: Arc<Events>,
    limit: Duration,
    channel: String,
    /// What this side signs with.
    key: Option<IdentityKey>,
    claimed: bool,
    place: HeldPlace,
    /// An earlier process made the offer.
    is_taken_up: bool,
    /// The task that it made, and what stands there.
    found: Option<FoundTask>,
    /// The idempotency key that it is sent under.
    idempotency: Option<Arc<HeldKey>>,
    /// The offer on disk, as long as its end was not seen.
    record: Option<(OpenRecord, OfferRecord)>,
    running: RunningGuard,
}

impl OutgoingTransfer {
    async fn drive(&mut self) -> Result<Sent> {
        let context = self.context.clone();
        let cancel = self.request.cancel.clone();
        self.place.set_working(true);
        if self.is_taken_up {
            or_cancelled(&cancel, self.find_task()).await?;
        }
        let mut opened = None;
        let ready = or_cancelled(&cancel, self.make_ready(&mut opened)).await;
        let (dht, key) = match ready {
            Ok((hash, dht, key)) => {
                self.transfer.hash = hash;
                (dht, key)
            }
            Err(error) => {
                opened.into_iter().for_each(Rendezvous::close);
                return Err(error);
            }
        };
        self.key = key;
        self.place.set_working(false);
        let kept = if self.is_taken_up || opened.is_some() { None } else { self.pooled().await };
        let (mut rendezvous, pooled) = match (opened, kept) {
            (None, Some(PooledConnection { connection, end: mut rendezvous })) => {
                rendezvous.renew(context.topic(&self.transfer.transfer_id));
                (rendezvous, Some(connection))
            }
            (Some(rendezvous), _) => (rendezvous, None),
            (None, None) => (or_cancelled(&cancel, self.rendezvous(&dht)).await?, None),
        };
        let (result, pooled) = match self.offer_and_deliver(&mut rendezvous, pooled).await {
            Ok((sent, connection)) => (Ok(sent), connection),
            Err(error) => (Err(error), None),
        };
        match pooled {
            Some(connection) => {
                let key = rendezvous.public_key();
                let pooled = PooledConnection { connection, end: rendezvous };
                context.outgoing.keep(&context.spawner, &self.transfer.peer_id, key, OFFERED, pooled);
            }
            None => rendezvous.close(),
        }
        result
    }

    /// Reads the file while a place on the network is found, and, unless a connection is up that may serve,
    /// the recipient's way to it is `opened`.
    async fn make_ready(
        &self,
        opened: &mut Option<Rendezvous>,
    ) -> Result<(String, Dht, Option<IdentityKey>)> {
        let context = &self.context;
        let place = async {
            let dht = context.network.dht(&context.client).await?;
            if self.is_taken_up || !self.may_use_pooled() {
                *opened = Some(self.rendezvous(&dht).await?);
            }
            Ok(dht)
        };
        let hash = async {
            match (&self.record, &self.found) {
                (Some((_, record)), Some(found)) => {
                    open_offers::while_there(context, record, found, self.hashed()).await
                }
                _ => self.hashed().await,
            }
        };
        let (hash, dht, key) = tokio::try_join!(hash, place, context.identity())?;
        if let Some((_, record)) = self.record.as_ref().filter(|(_, record)| record.hash != hash) {
            return Err(open_offers::changed(record));
        }
        if let Some(key) = &self.idempotency {
            key.offers(&hash).await?;
        }
        Ok((hash, dht, key))
    }

    /// What the file is.
    async fn hashed(&self) -> Result<String> {
        let (source, told, hashes) = (self.source.clone(), self.told.clone(), self.context.hashes.clone());
        let (size, cancel) = (source.size(), self.request.cancel.clone());
        let shared = match &self.request.source {
            SendSource::Shared(file) => Some(file.clone()),
            SendSource::Paths { .. } | SendSource::Open(_) => None,
        };
        let _turn = match &shared {
            Some(file) => Some(file.turn(|bytes| self.told.hashed(bytes, size)).await),
            None => None,
        };
        let reader = shared.clone();
        let progress = move |bytes| {
            told.hashed(bytes, size);
            if let Some(file) = &reader {
                file.hashed(bytes);
            }
        };
        let hashed = blocking(move || Ok(source.hash_once(&hashes, progress, &cancel)?)).await?;
        self.told.update(&Transfer { hash: hashed.clone(), ..self.transfer.clone() });
        self.told.enter(Phase::Waiting);
        Ok(hashed)
    }

    /// Where the recipient finds this side.
    async fn rendezvous(&self, dht: &Dht) -> Result<Rendezvous> {
        let (context, recipient) = (&self.context, &self.transfer.peer_id);
        let takes_keys = self.claimed
            || !context.options.any_claimant
                && (context.recent_peers.has(recipient) || context.judge().must_prove_itself(recipient));
        let topic = context.topic(&self.transfer.transfer_id);
        let topic = if takes_keys { Topic::Later(topic) } else { Topic::Now(topic) };
        let known = self.record.as_ref().map(|(_, record)| record.key_pair());
        let keys = known.unwrap_or_else(KeyPair::generate);
        let tunnel = context.tunnels().own().cloned();
        Rendezvous::open(dht, &context.network, tunnel, &context.spawner, keys, topic).await
    }

    /// Whether a connection seems to be up on which the recipient got a file before.
    fn may_use_pooled(&self) -> bool {
        !self.context.options.any_claimant && self.context.outgoing.has(&self.transfer.peer_id)
    }

    /// A connection on which the recipient got a file before. Where another actor may claim the offer,
    /// nobody is taken for it.
    async fn pooled(&self) -> Option<PooledConnection<Rendezvous>> {
        match self.context.options.any_claimant {
            true => None,
            false => self.context.outgoing.take_latest(&self.transfer.peer_id).await,
        }
    }

    /// What may be used again comes back beside the result.
    async fn offer_and_deliver(
        &mut self,
        rendezvous: &mut Rendezvous,
        pooled: Option<PeerConnection>,
    ) -> Result<(Sent, Option<PeerConnection>)> {
        let (context, cancel) = (self.context.clone(), self.request.cancel.clone());
        // Listening begins before the offer, so that no claim can be missed.
        let mut listener = self.events.listen_for_transfer();
        let ours = self.p2p(rendezvous);
        let (task_id, offer, limit) = match self.found.take() {
            Some((task_id, offer)) => {
                let limit = self.call(&task_id, &offer, &ours).await?;
                listener.unsee();
                (task_id, offer, limit)
            }
            None => {
                let offer = or_cancelled(&cancel, self.offer(&ours)).await?;
                let made = Instant::now();
                self.remember(&offer, rendezvous).await;
                let task_id = self.post_unless_cancelled(&offer).await?.id;
                context.emit(Event::OfferSent {
                    transfer: self.transfer.clone(),
                    recipient_id: self.transfer.peer_id.clone(),
                });
                // It ends when it says so, however long the service was away.
                (task_id, offer, self.limit.saturating_sub(made.elapsed()))
            }
        };
        let (transfer, channel, source) = (self.transfer.clone(), self.channel.clone(), self.source.clone());
        let key = self.key.take();
        let reader = OfferTask {
            context: &context,
            id: &task_id,
            channel: &channel,
            offer: &offer,
            key: key.as_ref(),
            taker: Mutex::default(),
            transfer: &transfer,
            admission: rendezvous.admission(),
        };
        let claimant = or_cancelled(&cancel, reader.claimed(&mut listener, limit)).await?;
        self.claimed = true;
        let claimant = claimant?;
        if let Claimant::Ours(_, peer) = &claimant {
            self.transfer.peer = *peer;
            self.told.update(&self.transfer);
        }
        let events = self.told.clone();
        events.enter(Phase::Connecting);
        self.place.watch(events.bytes().subscribe());
        let control = events.control(cancel, self.limit, self.request.max_rate);
        let delivery = Delivery {
            context: &context,
            task: &reader,
            events: &events,
            source: &source,
            meta: &self.meta(),
            control: &control,
            limit: self.limit,
        };
        context.recent_peers.note(&transfer.peer_id, matches!(claimant, Claimant::Ours(..)));
        let delivered = match claimant {
            Claimant::Ours(theirs, _) => {
                delivery.direct(rendezvous, *theirs, pooled, &mut listener, &ours).await
            }
            Claimant::Original => delivery.to_original(rendezvous, &mut listener).await.map(|()| None),
        };
        let connection = delivered?.filter(|_| !context.options.any_claimant);
        if !context.options.any_claimant {
            let (identity, handover) = reader.taker();
            context.pin(&transfer.peer_id, identity, handover).await;
        }
        let sent = Sent {
            transfer_id: transfer.transfer_id.clone(),
            task_id: task_id.to_value(),
            hash: transfer.hash.clone(),
            size: transfer.size,
            peer: self.transfer.peer,
            resumed_from: events.resumed_from(),
            connection: events.connection(),
            replayed: false,
            record: None,
        };
        Ok((sent, connection))
    }

    /// Posts the offer. From then on the transfer has a task, also where it is cancelled meanwhile: what is
    /// on its way may arrive all the same, and has to be withdrawn.
    async fn post_unless_cancelled(&mut self, offer: &Offer) -> Result<Task> {
        let cancel = self.request.cancel.clone();
        let (posted, aborted) = {
            let mut post = pin!(self.post(offer));
            let posted = or_cancelled(&cancel, async { Ok((&mut post).await) }).await;
            match posted {
                // It gave up with its caller.
                Ok(Err(_)) if cancel.is_cancelled() => return Err(aborted()),
                Ok(posted) => (posted?, None),
                Err(aborted) => match timeout(GOODBYE, post).await {
                    Ok(Ok(task)) => (task, Some(aborted)),
                    Ok(Err(_)) | Err(_) => return Err(aborted),
                },
            }
        };
        self.transfer.task_id = Some(posted.id.clone());
        self.told.update(&self.transfer);
        self.running.has_task(&posted.id);
        aborted.map_or(Ok(posted), Err)
    }

    /// What is offered.
    async fn offer(&self, ours: &P2p) -> Result<Offer> {
        let client = &self.context.client;
        if !client.has_clock() {
            // Who reads the offer goes by the service's clock; any answer tells it.
            match client.health().await {
                Err(error) if error.is_retryable() => return Err(error.into()),
                _ => {}
            }
        }
        let expires_at = OffsetDateTime::from(client.clock()) + self.limit;
        let mut offer = Offer {
            transfer_id: self.transfer.transfer_id.clone(),
            name: self.source.name().to_owned(),
            size: self.transfer.size,
            hash: self.transfer.hash.clone(),
            sender_id: self.context.actor_id().to_owned(),
            recipient_id: Some(self.transfer.peer_id.clone()),
            expires_at: Expiry::new(expires_at),
            attributes: self.attributes(),
            p2p: None,
            flaw: None,
        };
        let ours = self.context.judge().sign(self.key.as_ref(), Role::Sender, "", &offer, ours.clone());
        offer.p2p = Some(ours);
        Ok(offer)
    }

    /// What is said of the file beside its content.
    fn attributes(&self) -> Attributes {
        let of_file = match self.context.options.preserve {
            true => Attributes::new(self.source.mode(), self.source.mtime()),
            false => Attributes::default(),
        };
        let tree = self.source.tree().map(|TreeSize { entries, bytes }| Tree {
            format: Tree::PAX.to_owned(),
            entries,
            bytes,
        });
        Attributes { metadata: self.transfer.metadata.clone(), tree, ..of_file }
    }

    async fn post(&self, offer: &Offer) -> Result<Task> {
        let task = NewTask {
            title: format!(
                "File for {}: {} ({} bytes)",
                files::display(&self.transfer.peer_id),
                self.transfer.original_name,
                offer.size
            ),
            kind: offer::TASK_TYPE.to_owned(),
            channel: self.channel.clone(),
            priority: Some(PRIORITY),
            description: Some(format!(
                "{} offers a file, peer to peer. Transfer {}",
                files::display(&offer.sender_id),
                offer.transfer_id
            )),
            payload: Some(offer.to_payload()),
        };
        // Its recipient needs some of the offer's time, too.
        let client = self.patient(self.limit / 2);
        client.create(&task, &offer.transfer_id).await.map_err(|error| {
            let (name, recipient) = (&self.transfer.original_name, files::display(&self.transfer.peer_id));
            Error::of_service(format_args!("{name} could not be offered to {recipient}"), error)
        })
    }

    /// The task service, waited for where it is away for a while.
    fn patient(&self, limit: Duration) -> Client {
        self.context.client.patient(limit, self.request.cancel.clone())
    }

    /// How the recipient reaches this side.
    fn p2p(&self, rendezvous: &Rendezvous) -> P2p {
        let instance = self.record.as_ref().map_or_else(rand::random, |(_, record)| record.instance);
        let nodes = rendezvous.relay_addresses().into_iter().collect();
        P2p { nodes, ..said(&self.context, rendezvous.public_key(), instance) }
    }

    /// Finds the task of an offer that an earlier process made.
    async fn find_task(&mut self) -> Result<()> {
        let Some((_, record)) = &self.record else { return Err(gone()) };
        let (task, offer) = open_offers::find_own(&self.context, record).await?.ok_or_else(gone)?;
        self.claimed = task.status == Status::InProgress;
        self.running.has_task(&task.id);
        self.transfer.task_id = Some(task.id.clone());
        self.told.update(&self.transfer);
        // The same bytes may be at hand under another name by now.
        self.source = self.source.clone().named(&offer.name);
        self.found = Some((task.id, offer));
        Ok(())
    }

    /// Says on the task that the sender is there again, and how it is reached now; gives how long an answer
    /// is waited for.
    async fn call(&self, task_id: &TaskId, offer: &Offer, ours: &P2p) -> Result<Duration> {
        let word = word(&self.context, self.key.as_ref(), task_id, offer, ours.clone());
        let client = self.patient(self.limit);
        let posted = client.add_message(task_id, vec![word]);
        match tried_or_cancelled(&self.request.cancel, posted).await? {
            Err(error) if error.is_retryable() => {
                let recipient = files::display(&self.transfer.peer_id);
                let doing = format_args!("{recipient} could not be called on the task of the offer");
                return Err(Error::of_service(doing, error));
            }
            // A task that has ended takes no messages; how it ended is read next.
            Err(error) => tracing::debug!("the recipient of task {task_id} could not be called: {error}"),
            Ok(_) => {}
        }
        let transfer = self.transfer.clone();
        self.context.emit(Event::OfferResumed { recipient_id: transfer.peer_id.clone(), transfer });
        let now = OffsetDateTime::from(self.context.client.clock()).unix_timestamp();
        let ends = offer.expires_at.as_ref().map_or(now, |end| end.at().unix_timestamp());
        let left = u64::try_from(ends.saturating_sub(now)).unwrap_or(0);
        Ok(self.limit.min(Duration::from_secs(left)))
    }

    /// Remembers the offer on disk, before it is made: whoever starts next can take it up or withdraw it.
    /// Where that fails it is sent all the same.
    async fn remember(&mut self, offer: &Offer, rendezvous: &Rendezvous) {
        let record = OfferRecord {
            scope: self.context.scope(),
            actor_id: self.context.actor_id().to_owned(),
            channel: self.channel.clone(),
            transfer_id: offer.transfer_id.clone(),
            recipient_id: self.transfer.peer_id.clone(),
            file_path: self.source.path().map(Path::to_owned),
            file_paths: self.source.several_paths().iter().cloned().map(JsonPath).collect(),
            file_name: Some(offer.name.clone()),
            tree: self.source.tree().map(|size| (tree_options(&self.context, &self.request.source), size)),
            size: offer.size,
            hash: offer.hash.clone(),
            metadata: offer.attributes.metadata.as_ref().map(|metadata| metadata.as_str().to_owned()),
            max_rate: self.request.max_rate,
            expires_at: offer.expires_at.as_ref().map_or(0, |end| end.at().unix_timestamp()),
            timeout_ms: u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX),
            instance: offer.p2p.as_ref().map(|p2p| p2p.instance).unwrap_or_default(),
            seed: *rendezvous.key_pair().seed(),
            is_over: false,
        };
        let records = OfferRecords::new(&self.context.options.home);
        let written = blocking(move || {
            let open =
                records.write(&record).map_err(|error| Error::new(Code::NotWritable, error.to_string()))?;
            Ok((open, record))
        });
        match written.await {
            Ok(record) => self.record = Some(record),
            Err(error) => {
                let name = &self.transfer.file_name;
                tracing::warn!("the offer of {name} would not go on if this process died: {error}");
            }
        }
    }

    /// Forgets the offer, whose end `is_told` to the service; otherwise the next start tells it.
    fn settle(&mut self, is_told: bool) {
        let Some((mut open, mut record)) = self.record.take() else { return };
        if is_told {
            open.forget();
            return;
        }
        if self.is_taken_up && self.transfer.task_id.is_none() {
            // The service was away: the offer may be taken up later.
            return;
        }
        record.is_over = true;
        if let Err(error) = open.rewrite(&record) {
            tracing::debug!("the record of an offer could not be changed: {error}");
        }
    }

    /// Leaves the task in a state that says what became of the transfer; `false` if the service could not be
    /// told.
    async fn clean_up(&self, error: &Error) -> bool {
        let Some(task_id) = &self.transfer.task_id else {
            // One may have been made all the same, where the service did not say.
            return !matches!(error.code, Code::AtsUnreachable | Code::AtsError | Code::Aborted);
        };
        if matches!(error.code, Code::Rejected | Code::Cancelled) {
            return true;
        }
        let client = &self.context.client;
        self.context.remarks.post(task_id, remarks::failed(&self.transfer, error));
        let reason = error.code.public_reason();
        // Refusals are no news: the other side may have ended the task first, or claimed it just now.
        let told = if self.claimed {
            client.fail(task_id, reason).await
        } else {
            match client.cancel(task_id).await {
                Err(_) => client.reject(task_id, reason).await,
                cancelled => cancelled,
            }
        };
        told.map_or_else(|refusal| !refusal.is_retryable(), |_| true)
    }

    fn meta(&self) -> Meta {
        Meta {
            name: self.source.name().to_owned(),
            size: self.transfer.size,
            hash: self.transfer.hash.clone(),
            transfer_id: Some(self.transfer.transfer_id.clone()),
            resume: false,
        }
    }
}

/// What a sender says of itself now that is dialled by this key, apart from the nodes that know the way.
fn said(context: &Context, key: PublicKey, instance: [u8; 16]) -> P2p {
    let tunnels = context.tunnels();
    P2p {
        key,
        nodes: Nodes::default(),
        instance,
        seq: context.next_seq(),
        features: Features::ours(tunnels.own().is_some()),
        service: None,
        tunnel: tunnels.named(),
        proof: None,
        handover: Vec::new(),
    }
}

/// The same as it stands on the task of the offer, signed.
fn word(context: &Context, key: Option<&IdentityKey>, task_id: &TaskId, offer: &Offer, ours: P2p) -> Part {
    let ours = context.judge().sign(key, Role::Sender, &task_id.to_string(), offer, ours);
    Part::data(&ours.to_message(&offer.transfer_id))
}

fn gone() -> Error {
    Error::new(Code::UnknownTransfer, "the task service does not know the offer any more")
}
