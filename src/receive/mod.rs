//! One incoming transfer: from the answer to an offer to the verified file in its place.
//!
//! # Layout
//! - `claim`: the claim on the offer; its lease of 60 s is renewed by [`Renewal`](crate::ats::Renewal)
//! - `fetch`: getting the bytes; `direct` from a peer of ours, by its key; `topic` from an original
//! - `held`: what is offered and is here already
//! - `record`: what this user receives and has received, on disk; `left`: what goes on after its process died
//! - `report`: telling the service, at once or later

mod claim;
mod direct;
mod fetch;
mod held;
mod left;
mod race;
pub(crate) mod record;
mod report;
mod topic;

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::FutureExt as _;
use hyperdht::Dht;
use protocol::identity::IdentityKey;
use protocol::statement::Role;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::claim::Claim;
pub(crate) use self::claim::LEASE;
use self::fetch::{Fetch, PartialPlace};
use self::left::Left;
pub(crate) use self::left::{expire, sweep, take_up};
use self::record::{Done, Open, OpenPlace, RecordId, Records};
pub(crate) use self::report::report_missed;
use self::topic::TopicPresence;
use crate::ats::{Client, Part};
use crate::connection::{ConnectionInfo, PeerConnection, PooledConnection};
use crate::context::Context;
use crate::error::{Code, Error, Result, Step};
use crate::event::{Event, PeerIdentity, Phase};
use crate::files::{self, Preserved, SafeName, Sink, Source, Target};
use crate::limits::clean_up;
use crate::offer::inbox::OpenOffer;
use crate::offer::{Completion, Features, Nodes, Offer, P2p};
use crate::places::HeldPlace;
use crate::private::LockFile;
use crate::pump::{Intake, Outlet};
use crate::remarks;
use crate::signs_of_life;
use crate::sync::{aborted, blocking, lock, or_cancelled};
use crate::transfer::TransferEvents;
use crate::troubles::advised;

/// A file of up to so many bytes is made room for before it is known whether its offer still stands, where
/// the claim tells that too: it costs less than to ask.
const UNCHECKED: u64 = 1 << 20;

/// A file that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The transfer's id.
    pub transfer_id: String,
    /// The task's id, as the service gave it.
    pub task_id: Value,
    /// Where the file is; `None` where a reader has it.
    pub file_path: Option<PathBuf>,
    /// SHA-256 of what is there, lower-case hex.
    pub hash: String,
    /// Bytes.
    pub size: u64,
    /// Who sent it.
    pub peer: PeerIdentity,
    /// The byte of the file that was the first to come: 0, unless earlier processes had received some; the
    /// size, if the file was there already.
    pub resumed_from: u64,
    /// The connection that they came by; none if the file was there already.
    pub connection: Option<ConnectionInfo>,
}

/// Why a file did not arrive.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether the offer was claimed; if not, it still stands.
    pub(crate) claimed: bool,
    /// It is trouble of this machine, by which nothing was lost and of which nobody was told.
    pub(crate) waits: bool,
}

/// What the answer to an offer asks for.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// Where the file is to go.
    pub destination: AcceptInto,
    /// How many bytes a second may come, beside the node's limit.
    pub max_rate: Option<u64>,
    /// Ends the transfer.
    pub cancel: CancellationToken,
}

/// Where a file is to go that is accepted.
#[derive(Clone, Debug)]
pub enum AcceptInto {
    /// To the disk.
    Disk(Target),
    /// To a reader in this process, which has the other end of the outlet. It is taken once.
    Reader(Arc<Mutex<Option<Outlet>>>),
}

impl From<Target> for AcceptInto {
    fn from(target: Target) -> Self {
        Self::Disk(target)
    }
}

impl From<Outlet> for AcceptInto {
    fn from(outlet: Outlet) -> Self {
        Self::Reader(Arc::new(Mutex::new(Some(outlet))))
    }
}

impl AcceptInto {
    fn target(&self) -> Option<&Target> {
        match self {
            Self::Disk(target) => Some(target),
            Self::Reader(_) => None,
        }
    }
}

/// The turn of one transfer to be received.
#[derive(Debug)]
pub(crate) struct ReceiveTurn {
    place: HeldPlace,
    /// With an original.
    _turn: Option<OwnedMutexGuard<()>>,
}

impl ReceiveTurn {
    /// Waits for it.
    pub(crate) async fn wait(context: &Context, open: &OpenOffer) -> Self {
        // Who waits for an original must not keep others from receiving meanwhile.
        let turn = match open.offer.p2p {
            Some(_) => None,
            None => Some(context.turn_with_original(&open.offer.sender_id).await),
        };
        Self { place: context.receiving.enter(open.actor()).await, _turn: turn }
    }
}

/// Takes an offer, at once if it is its `turn`: claims it, fetches the file, puts it in its place, completes
/// the task.
pub(crate) async fn run(
    context: Arc<Context>,
    handle: u64,
    open: OpenOffer,
    acceptance: Acceptance,
    turn: Option<ReceiveTurn>,
) -> Result<Received, Failure> {
    let result = receive(&context, &open, &acceptance, None, turn).await;
    if result.as_ref().map_or_else(|failure| failure.claimed, |_| true) {
        // Room on the disk, open files, a place: others may have waited for it.
        context.troubles.ease();
    }
    if let Err(Failure { error, claimed, .. }) = &result {
        match *claimed || matches!(error.code, Code::AlreadyClaimed | Code::OfferExpired) {
            true => context.inbox.ended(&open.task.id, false),
            false => context.inbox.put_back(handle, open),
        }
    }
    result
}

/// Receives an offered file, or goes on with what a process that died has left of it.
async fn receive(
    context: &Arc<Context>,
    open: &OpenOffer,
    acceptance: &Acceptance,
    left: Option<Left>,
    turn: Option<ReceiveTurn>,
) -> Result<Received, Failure> {
    let _running = context.running.begin(&open.offer.transfer_id, Some(&open.task.id), &acceptance.cancel);
    let offered = || SafeName::from_offered(&open.offer.name).as_str().to_owned();
    let transfer = open.transfer(acceptance.destination.target().map_or_else(offered, Target::file_name));
    let (instance, key_pair) = match &left {
        Some(left) => (left.instance, KeyPair::from_seed(&left.seed)),
        None => (rand::random(), KeyPair::generate()),
    };
    // Whoever asked for a file is told what keeps it; what nobody has asked for here waits.
    let may_wait = left.is_some() || turn.is_some();
    let client = context.client.patient(context.options.timeout, acceptance.cancel.clone());
    let mut incoming = IncomingTransfer {
        context,
        open,
        client: client.clone(),
        destination: &acceptance.destination,
        cancel: &acceptance.cancel,
        max_rate: acceptance.max_rate,
        id: record_id(context, open),
        events: Arc::new(TransferEvents::new(context, &transfer, None)),
        claim: Claim::new(context, open, client.clone(), &acceptance.cancel),
        instance,
        key_pair,
        key: None,
        began: Instant::now(),
        is_left: left.is_some(),
        claims_first: left.is_none() && open.offer.p2p.is_some() && client.takes_messages(),
        has_some: false,
        hold: None,
        output: OnceLock::new(),
    };
    // Boxed, because what awaits it would be as large.
    let result = Box::pin(incoming.receive(left, turn)).await;
    incoming.events.end_progress();
    match result {
        Ok(received) => {
            context.inbox.ended(&open.task.id, true);
            let file_path = received.file_path.clone();
            context.emit(Event::TransferComplete { transfer, file_path });
            Ok(received)
        }
        Err(error) => {
            let error = error.of(&open.offer.transfer_id, Some(&open.task.id.to_string()));
            let can_go_on = incoming.can_go_on(&error);
            incoming.clear(can_go_on).await;
            let waits = may_wait && incoming.still_stands(&error);
            if !waits {
                context.emit(Event::TransferFailed { transfer, error: error.clone() });
            }
            let claimed = incoming.claim.is_held();
            // What can be gone on with is left to lapse: it can be claimed again then.
            if claimed && !can_go_on {
                let started = incoming.events.has_started();
                let given_up = incoming.claim.give_up(&error, started, &incoming.instance);
                let _ = timeout(clean_up(error.code), given_up).await;
            }
            Err(Failure { error, claimed, waits })
        }
    }
}

fn record_id(context: &Context, open: &OpenOffer) -> RecordId {
    let (url, organization, project) = context.settings.scope();
    let OpenOffer { task, offer, .. } = open;
    RecordId::of(&[
        url,
        organization,
        project,
        &task.id.to_string(),
        &offer.transfer_id,
        &offer.sender_id,
        &offer.size.to_string(),
        &offer.hash,
    ])
}

/// The right to receive this transfer, against other processes of this user.
fn lock_record(context: &Context, records: &Records, id: &RecordId) -> Result<LockFile> {
    let lock = records.lock(id).map_err(|error| unusable(context, &error))?;
    lock.ok_or_else(|| {
        Error::new(Code::AlreadyClaimed, "another process of this user is receiving this file already")
    })
}

/// A file that is recorded as done and still there needs no bytes, only its task completed.
fn arrived_before(
    records: &Records,
    id: &RecordId,
    open: &OpenOffer,
    events: &TransferEvents,
    cancel: &CancellationToken,
) -> Option<Done> {
    let done = records.read(id)?;
    let (path, offered) = (done.file_path.as_deref()?, &open.offer);
    // It may have been changed or replaced since.
    let (size, hash) = (offered.size, &offered.hash);
    let read = |bytes| events.hashed(bytes, size);
    let is_there = match open.tree() {
        Some(_) => files::is_folder_there(path, open.raw_name(), hash, size, read, cancel),
        None => {
            let source = Source::open(path).ok().filter(|source| source.size() == size);
            source.and_then(|source| source.hash(read, cancel).ok()).is_some_and(|there| there == *hash)
        }
    };
    is_there.then_some(done)
}

struct IncomingTransfer<'a> {
    context: &'a Arc<Context>,
    open: &'a OpenOffer,
    /// The task service, waited for where it is away for a while.
    client: Client,
    destination: &'a AcceptInto,
    cancel: &'a CancellationToken,
    max_rate: Option<u64>,
    id: RecordId,
    events: Arc<TransferEvents>,
    claim: Claim<'a>,
    /// Names this side's part in the transfer.
    instance: [u8; 16],
    /// What this side dials with, or made the connection with that is at hand.
    key_pair: KeyPair,
    /// What it signs with.
    key: Option<IdentityKey>,
    began: Instant,
    /// A process that died had begun it.
    is_left: bool,
    /// The claim itself says how this side dials, and is refused where anybody has the offer.
    claims_first: bool,
    /// Bytes of it were here before.
    has_some: bool,
    hold: Option<Hold>,
    /// What the task is completed with, once the file is here.
    output: OnceLock<Value>,
}

/// What a transfer holds on this disk.
struct Hold {
    records: Records,
    /// Keeps other processes of this user off.
    _lock: LockFile,
    /// `None` where nothing is written.
    place: Option<PartialPlace>,
}

/// How the bytes are to come.
enum Meeting {
    /// By the sender's key.
    Direct(Box<DirectMeeting>),
    /// On the topic, as an original sends.
    Topic(TopicPresence),
}

/// How this side meets a sender by its key.
struct DirectMeeting {
    /// A connection that is there already.
    pooled: Option<PeerConnection>,
    /// What it says of itself on the task.
    p2p: P2p,
}

impl IncomingTransfer<'_> {
    async fn receive(&mut self, left: Option<Left>, turn: Option<ReceiveTurn>) -> Result<Received> {
        let context = self.context;
        let turn = match turn {
            Some(turn) => turn,
            None => self.turn().await?,
        };
        let place = &turn.place;
        place.set_working(true);
        if !self.is_left && self.open.is_stale(context.client.clock(), context.options.max_offer_age) {
            return Err(self.claim.expired("has expired"));
        }
        // Who is known may have changed since the offer came.
        context.judge().sender_again(&self.open.task, &self.open.offer)?;
        self.key = context.identity().await?;
        // What a dead process held may be pending or not: the claim will tell.
        let is_small = self.open.offer.size <= UNCHECKED;
        let will_show = self.is_left || self.claims_first && is_small;
        let is_pending = async { if will_show { Ok(()) } else { self.claim.check_pending().await } };
        let (is_pending, hold) = tokio::join!(is_pending, self.take_hold(left.map(|left| left.lock)));
        let (hold, arrived) = hold?;
        let records = hold.records.clone();
        // What has come of it, if anything, is not lost by trouble that passes.
        self.has_some = hold.place.as_ref().is_some_and(|place| place.memory.exists());
        self.hold = Some(hold);
        if let Some(done) = arrived {
            self.events.enter(Phase::Waiting);
            self.claim.make().await?;
            self.pin_sender().await;
            return Ok(self.complete(&records, done).await);
        }
        is_pending?;
        if self.is_left {
            // It is ours already, or was.
            self.claim.make().await?;
        }
        let stop = self.cancel.child_token();
        if let Some(path) = self.while_there(self.present(&stop), &stop).await? {
            self.events.enter(Phase::Waiting);
            place.set_working(false);
            return self.take_present(&records, &path).await;
        }
        if let Some(Target::Exact { .. }) = self.destination.target() {
            // Where this process dies from here on, its partial file is found by that alone.
            self.note(false).await;
        }
        // Tried before the claim, so that a full disk costs nobody the offer.
        let dht = async {
            let dht = or_cancelled(self.cancel, context.network.dht(&self.client)).await;
            // Where the network is, a hub says.
            dht.map_err(|error| match error.step {
                Some(Step::Service) => self.claim.while_unclaimed(error),
                _ => error,
            })
        };
        let ready = async { tokio::try_join!(self.intake(&stop), dht) };
        let (sink, dht) = self.while_there(ready, &stop).await?;
        self.has_some = sink.written() > 0;
        self.events.enter(Phase::Waiting);
        place.set_working(false);
        let meeting = self.prepare(&dht).await?;
        let claimed = match self.claim.is_held() {
            true => Ok(()),
            false => self.claim.make().await,
        };
        if let Meeting::Topic(presence) = &meeting {
            presence.decide(claimed.is_ok());
            if claimed.is_ok() {
                context.remarks.post(&self.open.task.id, remarks::begins(&self.events.transfer()));
            }
        }
        let p2p = match &meeting {
            Meeting::Direct(direct) => Some(direct.p2p.clone()),
            Meeting::Topic(_) => None,
        };
        let path = match claimed {
            Ok(()) => self.fetch(&dht, meeting, &records, &p2p, sink, place).await?,
            Err(error) => {
                if let Meeting::Topic(presence) = meeting {
                    presence.leave(&self.context.spawner);
                }
                return Err(error);
            }
        };
        Ok(self.complete(&records, self.done(path.as_deref(), &p2p)).await)
    }

    /// Waits for the turn of this transfer.
    async fn turn(&self) -> Result<ReceiveTurn> {
        let turn = async { Ok(ReceiveTurn::wait(self.context, self.open).await) };
        let mut turn = pin!(or_cancelled(self.cancel, turn));
        match (&mut turn).now_or_never() {
            Some(turn) => turn,
            None => {
                self.events.enter(Phase::Waiting);
                turn.await
            }
        }
    }

    /// Keeps other processes of this user off this transfer, until it is over, and looks whether the file is
    /// here already.
    async fn take_hold(&self, lock: Option<LockFile>) -> Result<(Hold, Option<Done>)> {
        let records = records(self.context)?;
        let (id, open, cancel) = (self.id.clone(), self.open.clone(), self.cancel.clone());
        let events = self.events.clone();
        let context = self.context.clone();
        let is_written = self.destination.target().is_some();
        let (records, lock, arrived) = blocking(move || {
            let lock = match lock {
                Some(lock) => lock,
                None => lock_record(&context, &records, &id)?,
            };
            // What is here of it will be read.
            let has_some = is_written && (records.sums(&id).exists() || records.read(&id).is_some());
            events.enter(if has_some { Phase::Hashing } else { Phase::Waiting });
            let arrived = match is_written {
                true => arrived_before(&records, &id, &open, &events, &cancel),
                false => None,
            };
            Ok((records, lock, arrived))
        })
        .await?;
        let place = self.destination.target().map(|target| PartialPlace {
            target: target.clone(),
            id: self.id.clone(),
            size: self.open.offer.size,
            tree: self.open.tree(),
            preserved: self.preserved(),
            memory: records.sums(&self.id),
        });
        Ok((Hold { records, _lock: lock, place }, arrived))
    }

    /// Reads what is here of the file, which may take longer than a lease lasts, and than the sender waits:
    /// of a transfer that is claimed already the claim is renewed meanwhile, and its sender told that this
    /// side is there. `stop` ends the reading.
    async fn while_there<T>(
        &self,
        read: impl Future<Output = Result<T>>,
        stop: &CancellationToken,
    ) -> Result<T> {
        if !self.claim.is_held() {
            return read.await;
        }
        let whole = async {
            let read = tokio::select! {
                read = read => read,
                never = self.show_presence() => match never {},
            };
            // What was stopped may have found less than there is.
            if stop.is_cancelled() { Err(aborted()) } else { read }
        };
        self.claim.while_held(Box::pin(whole), stop).await
    }

    /// Says on the task, again and again, that this side is there; to an original, nothing.
    async fn show_presence(&self) -> Infallible {
        let OpenOffer { task, offer, .. } = self.open;
        if offer.p2p.is_none() {
            return std::future::pending().await;
        }
        let word = || Part::data(&self.introduction().to_message(&offer.transfer_id));
        signs_of_life::show(&self.client, &task.id, self.context.options.timeout, word).await
    }

    /// Where the file is already that is to be kept there. `stop` ends the reading.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `NOT_A_FILE` where something else has its place.
    async fn present(&self, stop: &CancellationToken) -> Result<Option<PathBuf>> {
        let Some(path) = self.destination.target().and_then(Target::kept) else { return Ok(None) };
        let Offer { hash, size, .. } = &self.open.offer;
        let (hash, size, events, cancel) = (hash.clone(), *size, self.events.clone(), stop.clone());
        let folder = self.open.tree().map(|_| self.open.raw_name().to_owned());
        blocking(move || {
            let read = |bytes| events.hashed(bytes, size);
            let present = match folder {
                // Something else in its place is refused where that is made ready.
                Some(name) => files::is_folder_there(&path, &name, &hash, size, read, &cancel),
                None => files::is_there(&path, &hash, size, read, &cancel)?,
            };
            Ok(present.then_some(path))
        })
        .await
    }

    /// Completes the task of a file that is here already: no byte need come.
    async fn take_present(&mut self, records: &Records, path: &Path) -> Result<Received> {
        let p2p = match self.open.offer.p2p {
            Some(_) => Some(self.introduce().await?),
            None => None,
        };
        if !self.claim.is_held() {
            self.claim.make().await?;
        }
        let done = self.done(Some(path), &p2p);
        report::remember(records, &self.id, done.clone(), &self.name()).await;
        Ok(self.complete(records, done).await)
    }

    /// What the file is to have of its source. An original has no way to tell.
    fn preserved(&self) -> Preserved {
        let Offer { attributes, p2p, .. } = &self.open.offer;
        match (p2p, self.context.options.preserve) {
            (None, _) => Preserved::default(),
            (Some(_), true) => Preserved::of_sent(attributes.mode, attributes.mtime),
            (Some(_), false) => Preserved::within_sent(attributes.mode),
        }
    }

    /// What the bytes go to: a file, with what stands of it, or a reader. `stop` ends the reading.
    async fn intake(&self, stop: &CancellationToken) -> Result<Intake> {
        if let AcceptInto::Reader(outlet) = self.destination {
            return lock(outlet).take().map(Into::into).ok_or_else(aborted);
        }
        match self.hold.as_ref().and_then(|hold| hold.place.as_ref()) {
            Some(place) => {
                let events = self.events.clone();
                let read = move |bytes, goal| events.hashed(bytes, goal);
                match place.open(read, stop).await? {
                    Sink::File(partial) => {
                        let (context, open, events) = (self.context, self.open, &self.events);
                        let filled = held::fill(context, open, &place.target, *partial, events, stop);
                        Ok(Sink::from(filled.await?).into())
                    }
                    folder @ Sink::Folder(_) => Ok(folder.into()),
                }
            }
            None => Err(Error::new(Code::State, "the transfer is not held")),
        }
    }

    /// Writes down what is under way, so that it goes on where this process dies; `failed` says that it is
    /// nobody's any more.
    async fn note(&self, failed: bool) {
        // A reader is gone with its process.
        let (Some(Hold { records, .. }), Some(target)) = (&self.hold, self.destination.target()) else {
            return;
        };
        let (records, id, target) = (records.clone(), self.id.clone(), target.clone());
        let (scope, actor_id) = (self.context.scope(), self.context.actor_id().to_owned());
        let (task_id, instance) = (self.open.task.id.to_value(), hex::encode(self.instance));
        let seed = hex::encode(self.key_pair.seed());
        let written = blocking(move || {
            let noted = OpenPlace::of(&target).and_then(|place| {
                records.write_open(&id, &Open { scope, actor_id, task_id, place, instance, seed, failed })
            });
            noted.map_err(|error| Error::new(Code::State, error.to_string()))
        });
        if let Err(error) = written.await {
            tracing::warn!("{} would not go on if this process died: {error}", self.name());
        }
    }

    /// Removes what has come of a transfer that came to nothing, unless it `can_go_on`.
    async fn clear(&self, can_go_on: bool) {
        if can_go_on && (self.is_left || self.has_some || self.events.has_started()) {
            // Whoever asked for it knows that it failed; what was asked for by a process that died still
            // stands.
            self.note(!self.is_left).await;
        } else if let Some(Hold { records, place: Some(place), .. }) = &self.hold {
            place.discard().await;
            report::forget(records, &self.id).await;
        }
    }

    /// Whether a transfer that came to nothing can be gone on with, now or once its claim has run out: its
    /// offer stands, and what has come of it is kept.
    fn can_go_on(&self, error: &Error) -> bool {
        let can_resume = self.open.offer.p2p.as_ref().is_some_and(|p2p| p2p.features.resume);
        match error.step {
            // The service may be back, or let this actor in again.
            Some(Step::Service) => true,
            // The sender may come back.
            _ if error.code == Code::PeerUnreachable => can_resume && self.events.has_started(),
            _ => self.still_stands(error),
        }
    }

    /// Whether a failure is trouble of this machine by which nothing was lost: the offer can be taken later.
    fn still_stands(&self, error: &Error) -> bool {
        let is_of_path = matches!(error.code, Code::AlreadyExists | Code::NotAFile | Code::InvalidArgument);
        let insists = self.destination.target().is_some_and(Target::insists_on_name);
        let will_pass = !(is_of_path && insists);
        error.code.is_of_this_machine() && will_pass && !self.events.has_started()
    }

    /// Makes ready to meet the sender, and says so where it reads it, before the claim; writes down what is
    /// under way.
    async fn prepare(&mut self, dht: &Dht) -> Result<Meeting> {
        let (context, offer) = (self.context, &self.open.offer);
        if offer.p2p.is_none() {
            let topic = context.topic(&offer.transfer_id);
            let presence = TopicPresence::begin(dht.clone(), &context.network, self.key_pair.clone(), topic);
            let presence = or_cancelled(self.cancel, async { Ok(presence.await) }).await?;
            self.note(false).await;
            return Ok(Meeting::Topic(presence));
        }
        let pooled = self.pooled().await.map(|PooledConnection { connection, end }| {
            self.key_pair = end;
            connection
        });
        let p2p = self.introduce().await?;
        Ok(Meeting::Direct(Box::new(DirectMeeting { pooled, p2p })))
    }

    /// How this side dials, as it says it on the task now.
    fn introduction(&self) -> P2p {
        let (context, offer) = (self.context, &self.open.offer);
        let sender = offer.p2p.as_ref().filter(|sender| sender.features.tunnel);
        let tunnels = context.tunnels();
        let meets_at_tunnel =
            sender.is_some_and(|sender| tunnels.of_peer(sender.tunnel.as_deref()).is_some());
        let p2p = P2p {
            key: self.key_pair.public_key(),
            nodes: Nodes::default(),
            instance: self.instance,
            seq: context.next_seq(),
            features: Features::ours(meets_at_tunnel),
            service: None,
            tunnel: None,
            proof: None,
            handover: Vec::new(),
        };
        self.sign(Role::Receiver, p2p)
    }

    /// Says on the task how this side dials, before the claim or with it; writes down what is under way.
    async fn introduce(&mut self) -> Result<P2p> {
        let (offer, p2p) = (&self.open.offer, self.introduction());
        // What people read goes along.
        let parts = vec![
            Part::data(&p2p.to_message(&offer.transfer_id)),
            Part::text(remarks::begins(&self.events.transfer())),
        ];
        if self.claims_first {
            self.note(false).await;
            self.claim.make_first(parts).await?;
            return Ok(p2p);
        }
        let post = async {
            let posted = self.client.add_message(&self.open.task.id, parts).await;
            posted.map_err(|error| self.claim.not_claimed(error))
        };
        let (posted, ()) = tokio::join!(or_cancelled(self.cancel, post), self.note(false));
        posted?;
        Ok(p2p)
    }

    /// Gets the file while the claim is kept; returns where it is.
    async fn fetch(
        &self,
        dht: &Dht,
        meeting: Meeting,
        records: &Records,
        p2p: &Option<P2p>,
        sink: Intake,
        held: &HeldPlace,
    ) -> Result<Option<PathBuf>> {
        let Some(Hold { place, .. }) = &self.hold else {
            return Err(Error::new(Code::State, "the transfer is not held"));
        };
        self.events.enter(Phase::Connecting);
        held.watch(self.events.bytes().subscribe());
        let stop = self.cancel.child_token();
        let limit = self.context.options.timeout;
        let control = self.events.control(stop.clone(), limit, self.max_rate);
        let name = self.name();
        let fetch = Fetch {
            context: self.context,
            open: self.open,
            ours: p2p.as_ref(),
            place: place.as_ref(),
            events: &self.events,
            control: &control,
            held,
            before_ack: Box::new(|path| {
                let done = self.done(path, p2p);
                // The sender has the receipt by this, whatever becomes of the task.
                let word = done.outputs.first().filter(|_| p2p.is_some()).map(Value::to_string);
                let remembered = report::remember(records, &self.id, done, &name);
                let path = path.map(Path::to_owned);
                // The sender's next offer may come as soon as it has the ACK.
                Box::pin(async move {
                    let placed = async {
                        if let Some(path) = &path {
                            held::remember(self.context, self.open, path).await;
                        }
                    };
                    tokio::join!(remembered, placed, self.pin_sender());
                    word.unwrap_or_default()
                })
            }),
            so_far: sink.into(),
        };
        let bytes = async {
            match meeting {
                Meeting::Direct(direct) => {
                    let (key_pair, pooled) = (self.key_pair.clone(), direct.pooled);
                    self.claim.while_held(Box::pin(fetch.direct(dht, key_pair, pooled)), &stop).await
                }
                Meeting::Topic(presence) => {
                    let fetched = Box::pin(fetch.on_topic(&presence));
                    let fetched = self.claim.while_held(fetched, &stop).await;
                    presence.leave(&self.context.spawner);
                    fetched
                }
            }
        };
        let fetched = tokio::select! {
            fetched = bytes => fetched,
            // Nothing has come that could be lost.
            () = held.given_up() => Err(fetch.given_up()),
        };
        match fetched {
            Ok(path) => Ok(path),
            Err(error) => Err(self.claim.cause(error).await),
        }
    }

    /// The idle connection that the offer names.
    async fn pooled(&self) -> Option<PooledConnection<KeyPair>> {
        let OpenOffer { task, offer, .. } = self.open;
        let p2p = offer.p2p.as_ref().filter(|p2p| p2p.features.reuse)?;
        self.context.incoming.take(&offer.sender_id, &p2p.key, &task.id).await
    }

    /// Notes that the file is what the sender offered: from now on it is known by its identity.
    async fn pin_sender(&self) {
        let OpenOffer { offer, peer, .. } = self.open;
        let handover = offer.p2p.as_ref().map(|p2p| p2p.handover.clone()).unwrap_or_default();
        self.context.pin(&offer.sender_id, peer.identity, handover).await;
    }

    /// The file is here whatever the service says: a completion that fails is made up for later.
    async fn complete(&self, records: &Records, done: Done) -> Received {
        let received = Received {
            transfer_id: self.open.offer.transfer_id.clone(),
            task_id: self.open.task.id.to_value(),
            file_path: done.file_path.clone(),
            hash: self.open.offer.hash.clone(),
            size: self.open.offer.size,
            peer: self.open.peer,
            resumed_from: self.events.resumed_from(),
            connection: self.events.connection(),
        };
        let OpenOffer { task, offer, .. } = self.open;
        self.context.keep_receipt(&task.id, offer, done.outputs.clone());
        let (me, took) = (self.context.actor_id(), self.began.elapsed());
        let remark = remarks::delivered(&self.events.transfer(), me, took, received.connection.as_ref());
        report::complete(self.context, records, &self.id, done, &self.name(), remark).await;
        received
    }

    fn done(&self, file_path: Option<&Path>, p2p: &Option<P2p>) -> Done {
        Done {
            scope: self.context.scope(),
            task_id: self.open.task.id.to_value(),
            transfer_id: self.open.offer.transfer_id.clone(),
            file_path: file_path.map(Path::to_owned),
            outputs: vec![self.output.get_or_init(|| self.new_output(p2p)).clone()],
        }
    }

    /// That the file is here since now.
    fn new_output(&self, p2p: &Option<P2p>) -> Value {
        let offer = &self.open.offer;
        let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut output = match p2p {
            Some(p2p) => {
                let completed_at = self.context.unix_millis();
                let p2p = self.sign(Role::Done { duration_ms, completed_at }, p2p.clone());
                Completion { duration_ms, completed_at, p2p }.to_output(offer, self.context.actor_id())
            }
            None => json!({
                "transfer_id": offer.transfer_id,
                "verified": true,
                "hash": offer.hash,
                "size": offer.size,
                "receiver_id": self.context.actor_id(),
                "duration_ms": duration_ms,
            }),
        };
        // For whoever looks at the task; no peer goes by it, so that it need not be signed.
        if let Some(connection) = self.events.connection() {
            output["path"] = json!(connection.path);
        }
        output
    }

    /// What this side says of itself on the task, signed.
    fn sign(&self, role: Role, p2p: P2p) -> P2p {
        let OpenOffer { task, offer, .. } = self.open;
        self.context.judge().sign(self.key.as_ref(), role, &task.id.to_string(), offer, p2p)
    }

    fn name(&self) -> String {
        files::display(&self.open.offer.name)
    }
}

/// This user's records.
fn records(context: &Context) -> Result<Records> {
    Records::open(&context.options.home).map_err(|error| unusable(context, &error))
}

/// Finds out whether this user's records can be kept. Blocks.
///
/// # Errors
/// `STATE`, which names the folder and what would help.
pub(crate) fn try_records(context: &Context) -> Result<()> {
    records(context)?.try_write().map_err(|error| unusable(context, &error))
}

/// What keeps this user's state from being kept.
fn unusable(context: &Context, error: &io::Error) -> Error {
    let home = files::display_path(&context.options.home);
    Error::new(Code::State, format!("{home} cannot be used for this user's state: {}", advised(error)))
}
