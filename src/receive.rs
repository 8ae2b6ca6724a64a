//! One incoming transfer: from the answer to an offer to the verified file in its place.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use hyperdht::connect::Link;
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ats::{Lost, Part, Renewal, Status, Task, TaskId};
use crate::connection::Connection;
use crate::error::{Code, Error, Result};
use crate::event::{Event, Transfer};
use crate::fetch::Fetch;
use crate::files::{self, Partial, Source, Target};
use crate::idle::Idle;
use crate::meter::Meter;
use crate::node::{Inner, blocking, lock, or_cancelled};
use crate::offer::{self, Features, P2p};
use crate::pump::Control;
use crate::record::{Done, RecordId, Records};
use crate::watch::{OpenOffer, is_stale, transfer_of};

/// How long a claim lasts without renewal: short, so that a receiver that died frees the offer soon.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// How long a transfer whose task has ended may go on to hear from its peer why.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(1);

/// How long a transfer that is over may take to tell its peer and to remove what it wrote.
const PARTING: Duration = Duration::from_secs(4);

/// How long the end of a task may take to be told to the service when a transfer fails, and how long an
/// answer that is on its way is waited for when it is cancelled.
pub(crate) const CLEAN_UP: Duration = Duration::from_secs(4);

/// Completions that are made up for at once.
const MAX_REPORTING: usize = 16;

/// First pause between attempts to report a completion that the service missed; doubles to the last.
const REPORT_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// A file that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The transfer's id.
    pub transfer_id: String,
    /// The task's id, as the service gave it.
    pub task_id: Value,
    /// Where the file is.
    pub file_path: PathBuf,
    /// SHA-256 of what is there, lower-case hex.
    pub hash: String,
    /// Bytes.
    pub size: u64,
    /// The connection that they came by; none if the file was there already.
    pub connection: Option<Connection>,
}

/// Why a file did not arrive.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether the offer was claimed; if not, it still stands.
    pub(crate) claimed: bool,
}

/// What the answer to an offer asks for.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// Where the file is to go.
    pub target: Target,
    /// Ends the transfer.
    pub cancel: CancellationToken,
}

/// Takes an offer: claims it, fetches the file, puts it in its place, completes the task.
pub(crate) async fn run(
    node: Arc<Inner>,
    handle: u64,
    open: OpenOffer,
    acceptance: Acceptance,
) -> Result<Received, Failure> {
    let transfer = transfer_of(&open, acceptance.target.file_name());
    let mut reception = Reception {
        node: &node,
        open: &open,
        target: &acceptance.target,
        cancel: &acceptance.cancel,
        id: record_id(&node, &open),
        transfer: transfer.clone(),
        instance: rand::random(),
        claimed: false,
        started: AtomicBool::new(false),
        link: Mutex::default(),
    };
    let started = Instant::now();
    let result = reception.receive(started).await;
    let claimed = reception.claimed;
    match result {
        Ok(received) => {
            node.desk.ended(&open.task.id, true);
            let file_path = Some(received.file_path.to_string_lossy().into_owned());
            node.emit(Event::TransferComplete { transfer, file_path });
            Ok(received)
        }
        Err(error) => {
            let error = error.of(&open.offer.transfer_id, Some(&open.task.id.to_string()));
            node.emit(Event::TransferFailed { transfer, error: error.clone() });
            if claimed {
                let _ = timeout(CLEAN_UP, reception.give_up(&error)).await;
                node.desk.ended(&open.task.id, false);
            } else if matches!(error.code, Code::AlreadyClaimed | Code::OfferExpired) {
                node.desk.ended(&open.task.id, false);
            } else {
                node.desk.put_back(handle, open.clone());
            }
            Err(Failure { error, claimed })
        }
    }
}

/// Completes the tasks of files that arrived earlier, and whose completion the service missed.
pub(crate) async fn report_missed(node: &Inner) {
    let scope = node.scope();
    let Ok(records) = node.records() else { return };
    let missed = {
        let records = records.clone();
        tokio::task::spawn_blocking(move || records.unreported(&scope)).await.unwrap_or_default()
    };
    // One that the service does not get done must not hold up the others.
    let reports = missed.into_iter().map(|(id, done)| report(node, records.clone(), id, done));
    futures_util::stream::iter(reports).buffer_unordered(MAX_REPORTING).collect::<()>().await;
}

/// Completes one task, trying again until the service takes it or says that it never will.
async fn report(node: &Inner, records: Records, id: RecordId, mut done: Done) {
    let Some(task_id) = TaskId::from_value(&done.task_id) else { return };
    let mut pause = REPORT_PAUSE.0;
    let mut claimed_again = false;
    loop {
        let settled = match node.client.complete(&task_id, done.outputs.clone()).await {
            Ok(_) => true,
            Err(error) if error.is_retryable() => false,
            // The lease lapsed while nobody reported: claimed again, the task can be completed.
            Err(_) => match node.client.get(&task_id).await {
                Ok(task) if task.status == Status::Pending => {
                    let is_taken = node.client.claim(&task_id, LEASE).await.is_err();
                    if !is_taken && !std::mem::replace(&mut claimed_again, true) {
                        continue;
                    }
                    is_taken
                }
                Ok(_) => true,
                Err(error) => !error.is_retryable(),
            },
        };
        if settled {
            done.completed = true;
            let _ = tokio::task::spawn_blocking(move || records.write(&id, &done)).await;
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(REPORT_PAUSE.1);
    }
}

/// Makes the file that a transfer's bytes go to until they are verified.
pub(crate) async fn new_partial(target: &Target, id: &RecordId, size: u64) -> Result<Partial> {
    let (target, id) = (target.clone(), id.short().to_owned());
    blocking(move || Partial::create(&target, &id, size).map_err(Error::from)).await
}

fn record_id(node: &Inner, open: &OpenOffer) -> RecordId {
    let (url, organization, project) = node.settings.scope();
    let OpenOffer { task, offer } = open;
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

struct Reception<'a> {
    node: &'a Arc<Inner>,
    open: &'a OpenOffer,
    target: &'a Target,
    cancel: &'a CancellationToken,
    id: RecordId,
    transfer: Transfer,
    instance: [u8; 16],
    claimed: bool,
    /// Whether bytes have come.
    started: AtomicBool,
    /// The connection that they come by.
    link: Mutex<Option<Link>>,
}

impl Reception<'_> {
    async fn receive(&mut self, started: Instant) -> Result<Received> {
        let node = self.node;
        let from_original = self.open.offer.p2p.is_none();
        // Who waits for an original must not keep others from receiving meanwhile.
        let _turn = match from_original {
            true => {
                let turn = async { Ok(node.turn_with_original(&self.open.offer.sender_id).await) };
                Some(or_cancelled(self.cancel, turn).await?)
            }
            false => None,
        };
        let _permit = or_cancelled(self.cancel, async { Ok(node.receiving.acquire().await) }).await?;
        if is_stale(node, self.open) {
            return Err(self.expired("has expired"));
        }
        let records = node.records()?;
        let lock = blocking({
            let (records, id) = (records.clone(), self.id.clone());
            move || records.lock(&id).map_err(|error| Error::new(Code::State, error.to_string()))
        });
        let Some(_lock) = lock.await? else {
            return Err(Error::new(
                Code::AlreadyClaimed,
                "another process of this user is receiving this file already",
            ));
        };
        if let Some(done) = self.arrived_before(&records).await {
            self.claim().await?;
            return self.complete(&records, done).await;
        }
        // Tried before the claim, so that a full disk costs nobody the offer.
        let (partial, ()) =
            tokio::try_join!(new_partial(self.target, &self.id, self.open.offer.size), self.check_pending())?;
        let dht = or_cancelled(self.cancel, node.network.dht(&node.client)).await?;
        let (key_pair, line) = match self.idle().await {
            Some(Idle { line, end: key_pair }) => (key_pair, Some(line)),
            None => (KeyPair::generate(), None),
        };
        let p2p = (!from_original).then(|| P2p {
            key: key_pair.public_key(),
            nodes: Vec::new(),
            instance: self.instance,
            seq: node.next_seq(),
            features: Features::OURS,
        });
        if let Some(p2p) = &p2p {
            self.say_how_we_dial(p2p).await?;
        }
        self.claim().await?;
        let meter = self.meter();
        let stop = self.cancel.child_token();
        let control = Control { progress: meter.sender(), cancel: stop.clone(), idle: node.options.timeout };
        let fetch = Fetch {
            node,
            open: self.open,
            target: self.target,
            id: &self.id,
            transfer: &self.transfer,
            control: &control,
            started: &self.started,
            link: &self.link,
            before_ack: Box::new(|path| Box::pin(self.remember(&records, self.done(path, started, &p2p)))),
        };
        let fetched = match from_original {
            true => self.while_claimed(fetch.by_topic(dht, key_pair, partial), &stop).await,
            false => self.while_claimed(fetch.by_key(&dht, key_pair, line, partial), &stop).await,
        };
        drop(fetch);
        drop(control);
        meter.finish().await;
        let file_path = match fetched {
            Ok(path) => path,
            Err(error) => return Err(self.verdict(error).await),
        };
        self.complete(&records, self.done(&file_path, started, &p2p)).await
    }

    /// The idle connection that the offer names.
    async fn idle(&self) -> Option<Idle<KeyPair>> {
        let OpenOffer { task, offer } = self.open;
        let p2p = offer.p2p.as_ref().filter(|p2p| p2p.features.reuse)?;
        self.node.incoming.take(&offer.sender_id, &p2p.key, &task.id).await
    }

    /// A file that is recorded as done and still there needs no bytes, only its task completed.
    async fn arrived_before(&self, records: &Records) -> Option<Done> {
        let (records, id, hash) = (records.clone(), self.id.clone(), self.open.offer.hash.clone());
        let cancel = self.cancel.clone();
        let found = blocking(move || {
            let Some(done) = records.read(&id) else { return Ok(None) };
            // It may have been changed or replaced since.
            let there = Source::open(&done.file_path).and_then(|source| source.hash(|_| {}, &cancel));
            Ok(there.is_ok_and(|there| there == hash).then_some(done))
        });
        found.await.ok().flatten()
    }

    fn meter(&self) -> Meter {
        let (node, transfer) = (self.node.clone(), self.transfer.clone());
        Meter::start(move |bytes| node.emit(Event::TransferProgress { transfer: transfer.clone(), bytes }))
    }

    async fn say_how_we_dial(&self, p2p: &P2p) -> Result<()> {
        let part = Part::data(&p2p.to_message(&self.open.offer.transfer_id));
        let post =
            async { self.node.client.add_message(&self.open.task.id, vec![part]).await.map_err(Error::from) };
        or_cancelled(self.cancel, post).await.map(drop)
    }

    /// Checks that nobody has the offer yet, another process of this actor included: its claim would be
    /// taken for ours.
    async fn check_pending(&self) -> Result<()> {
        let read = async { Ok(self.node.client.get(&self.open.task.id).await) };
        match or_cancelled(self.cancel, read).await? {
            Ok(task) if task.status == Status::Pending => Ok(()),
            Ok(task) if task.status == Status::InProgress => Err(self.taken()),
            Ok(task) => Err(self.expired(&format!("is {}", task.status))),
            Err(error) if error.is_not_found() => Err(self.expired("is gone")),
            Err(error) => Err(error.into()),
        }
    }

    async fn claim(&mut self) -> Result<()> {
        let node = self.node;
        let mut claim = pin!(node.client.claim(&self.open.task.id, LEASE));
        let answer = match or_cancelled(self.cancel, async { Ok((&mut claim).await) }).await {
            Ok(answer) => answer,
            // What was asked for may be granted all the same, and would have to be given back.
            Err(aborted) => {
                self.claimed = matches!(timeout(CLEAN_UP, claim).await, Ok(Ok(_)));
                return Err(aborted);
            }
        };
        match answer {
            Ok(task) if task.is_held_by(node.actor_id()) => {}
            Ok(_) => return Err(self.taken()),
            // A claim that was answered twice, or not at all, reads as ours all the same.
            Err(refused) => match node.client.get(&self.open.task.id).await {
                Ok(task) if task.is_held_by(node.actor_id()) => {}
                Ok(task) if task.status == Status::InProgress => return Err(self.taken()),
                Ok(_) if refused.is_retryable() => return Err(refused.into()),
                Ok(task) => return Err(self.expired(&format!("is {}", task.status))),
                Err(_) => return Err(refused.into()),
            },
        }
        self.claimed = true;
        Ok(())
    }

    /// Ends a claimed task that came to nothing.
    async fn give_up(&self, error: &Error) {
        let client = &self.node.client;
        let task_id = &self.open.task.id;
        if error.code == Code::Cancelled {
            return;
        }
        // Where another process of this actor took part, the bytes may be going there.
        if !self.started.load(Ordering::Relaxed)
            && let Ok(task) = client.get(task_id).await
            && offer::is_said_by_another(
                &task,
                self.node.actor_id(),
                &self.open.offer.transfer_id,
                &self.instance,
            )
        {
            return;
        }
        if let Err(refused) = client.fail(task_id, error.code.public_reason()).await {
            tracing::debug!("task {task_id} could not be failed: {refused}");
        }
    }

    /// What a failure is: where a third party cancelled the task, that is the cause, and the sender's leaving
    /// only what came of it.
    async fn verdict(&self, error: Error) -> Error {
        if !matches!(error.code, Code::RemoteError | Code::PeerUnreachable) {
            return error;
        }
        self.node.cancelled_task(&self.open.task.id).await.map_or(error, |task| self.lost(&task))
    }

    fn expired(&self, why: &str) -> Error {
        let message = format!("the offer of {} {why} and can't be accepted any more", self.name());
        Error::new(Code::OfferExpired, message)
    }

    fn taken(&self) -> Error {
        Error::new(Code::AlreadyClaimed, format!("somebody else accepted {} first", self.name()))
    }

    /// Runs a fetch while the claim is renewed; ends it, by `stop`, when the task is no longer ours.
    async fn while_claimed(
        &self,
        fetch: impl Future<Output = Result<PathBuf>>,
        stop: &CancellationToken,
    ) -> Result<PathBuf> {
        let mut fetch = pin!(fetch);
        let lost = tokio::select! {
            result = &mut fetch => return result,
            error = self.keep_claim() => error,
        };
        // The peer that ended the task says why on the connection: its word is the better one.
        if let Ok(result) = timeout(LAST_WORD, &mut fetch).await {
            return result;
        }
        stop.cancel();
        match timeout(PARTING, fetch).await {
            Ok(Ok(path)) => Ok(path),
            _ => Err(lost),
        }
    }

    /// Keeps the claim until the task turns out not to be ours any more.
    async fn keep_claim(&self) -> Error {
        let (node, task_id) = (self.node, &self.open.task.id);
        let mut renewal = Renewal::start(&node.client, task_id.clone(), LEASE);
        let feed = node.feed(&self.open.task.channel);
        let mut listener = feed.listen();
        loop {
            tokio::select! {
                lost = renewal.lost() => return match lost {
                    Lost::Taken(task) => self.lost(&task),
                    Lost::Refused(error) => error.into(),
                },
                () = listener.changed_so_that(task_id, |task| !task.is_held_by(node.actor_id())) => {}
            }
            let read = node.client.get(task_id).await;
            listener.seen();
            match read {
                Ok(task) if task.is_held_by(node.actor_id()) || task.status == Status::Pending => {}
                Ok(task) => return self.lost(&task),
                Err(_) => {}
            }
        }
    }

    fn lost(&self, task: &Task) -> Error {
        // Completed, but not by us: another process of this actor was first.
        if matches!(task.status, Status::InProgress | Status::Completed) {
            return self.taken();
        }
        Error::new(Code::Cancelled, format!("the task of {} was {}", self.name(), task.status))
    }

    async fn complete(&self, records: &Records, mut done: Done) -> Result<Received> {
        let node = self.node;
        let received = self.received(done.file_path.clone());
        // The file is here whatever the service says: a completion that fails is made up for later.
        match node.client.complete(&self.open.task.id, done.outputs.clone()).await {
            Ok(_) => {
                done.completed = true;
                self.remember(records, done).await;
            }
            Err(error) => {
                tracing::warn!("the task of {} could not be completed yet: {error}", self.name());
                let (node, records, id) = (node.clone(), records.clone(), self.id.clone());
                node.clone().spawn(async move {
                    let report = report(&node, records, id, done);
                    node.cancel.run_until_cancelled(report).await
                });
            }
        }
        Ok(received)
    }

    fn done(&self, file_path: &Path, started: Instant, p2p: &Option<P2p>) -> Done {
        let offer = &self.open.offer;
        let mut output = json!({
            "transfer_id": offer.transfer_id,
            "verified": true,
            "hash": offer.hash,
            "size": offer.size,
            "receiver_id": self.node.actor_id(),
            "duration_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        if let Some(p2p) = p2p {
            output["p2p"] = p2p.to_value();
        }
        Done {
            scope: self.node.scope(),
            task_id: self.open.task.id.to_value(),
            transfer_id: offer.transfer_id.clone(),
            file_path: file_path.to_owned(),
            outputs: vec![output],
            completed: false,
        }
    }

    async fn remember(&self, records: &Records, done: Done) {
        let (records, id) = (records.clone(), self.id.clone());
        let written = blocking(move || {
            records.write(&id, &done).map_err(|error| Error::new(Code::State, error.to_string()))
        });
        if let Err(error) = written.await {
            tracing::warn!("{} arrived, but could not be recorded: {error}", self.name());
        }
    }

    fn received(&self, file_path: PathBuf) -> Received {
        Received {
            transfer_id: self.open.offer.transfer_id.clone(),
            task_id: self.open.task.id.to_value(),
            file_path,
            hash: self.open.offer.hash.clone(),
            size: self.open.offer.size,
            connection: lock(&self.link).as_ref().map(Connection::of),
        }
    }

    fn name(&self) -> String {
        files::display(&self.open.offer.name)
    }
}
