//! One incoming transfer: from the answer to an offer to the verified file in its place.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ats::{Lost, Part, Status, Task, TaskId};
use crate::error::{Code, Error, Result};
use crate::event::{Event, Transfer};
use crate::fetch::Fetch;
use crate::files::{self, Partial, Target};
use crate::meter::Meter;
use crate::node::{Inner, blocking, or_cancelled};
use crate::offer::P2p;
use crate::pump::Control;
use crate::record::{Done, RecordId, Records};
use crate::watch::{OpenOffer, transfer_of};

/// How long a claim lasts without renewal: short, so that a receiver that died frees the offer soon.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// How long a transfer whose task has ended may go on to hear from its peer why.
const LAST_WORD: Duration = Duration::from_secs(1);

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
                if error.code != Code::Cancelled
                    && let Err(refused) = node.client.fail(&open.task.id, error.code.public_reason()).await
                {
                    tracing::debug!("task {} could not be failed: {refused}", open.task.id);
                }
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
    for (id, done) in missed {
        report(node, &records, &id, done).await;
    }
}

/// Completes one task, trying again until the service takes it or says that it never will.
async fn report(node: &Inner, records: &Records, id: &RecordId, mut done: Done) {
    let Some(task_id) = TaskId::from_value(&done.task_id) else { return };
    let mut pause = REPORT_PAUSE.0;
    loop {
        let settled = match node.client.complete(&task_id, done.outputs.clone()).await {
            Ok(_) => true,
            Err(error) if error.is_retryable() => false,
            // The lease lapsed while nobody reported: claimed again, the task can be completed.
            Err(_) => match node.client.get(&task_id).await {
                Ok(task) if task.status == Status::Pending => {
                    node.client.claim(&task_id, LEASE).await.is_err()
                }
                Ok(_) => true,
                Err(error) => !error.is_retryable(),
            },
        };
        if settled {
            done.completed = true;
            let (records, id) = (records.clone(), id.clone());
            let _ = tokio::task::spawn_blocking(move || records.write(&id, &done)).await;
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(REPORT_PAUSE.1);
    }
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
}

impl Reception<'_> {
    async fn receive(&mut self, started: Instant) -> Result<Received> {
        let node = self.node;
        let _permit = or_cancelled(self.cancel, async { Ok(node.receiving.acquire().await) }).await?;
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
        if let Some(received) = self.arrived_before(&records).await {
            return Ok(received);
        }
        // Tried before the claim, so that a full disk costs nobody the offer.
        let partial = self.partial().await?;
        let dht = or_cancelled(self.cancel, node.network.dht(&node.client)).await?;
        let from_original = self.open.offer.p2p.is_none();
        let _turn = match from_original {
            true => {
                let turn = async { Ok(node.turn_with_original(&self.open.offer.sender_id).await) };
                Some(or_cancelled(self.cancel, turn).await?)
            }
            false => None,
        };
        let key_pair = KeyPair::generate();
        let p2p = P2p {
            key: key_pair.public_key(),
            nodes: Vec::new(),
            instance: self.instance,
            seq: node.next_seq(),
        };
        let p2p = (!from_original).then_some(p2p);
        if let Some(p2p) = &p2p {
            self.say_how_we_dial(p2p).await?;
        }
        self.claim().await?;
        let meter = self.meter();
        let control =
            Control { progress: meter.sender(), cancel: self.cancel.clone(), idle: node.options.timeout };
        let fetch = Fetch {
            node,
            open: self.open,
            target: self.target,
            id: &self.id,
            transfer: &self.transfer,
            control: &control,
            started: AtomicBool::new(false),
            before_ack: Box::new(|path| Box::pin(self.remember(&records, self.done(path, started, &p2p)))),
        };
        let fetched = match from_original {
            true => self.while_claimed(fetch.by_topic(dht, key_pair, partial)).await,
            false => self.while_claimed(fetch.by_key(&dht, key_pair, partial)).await,
        };
        drop(fetch);
        drop(control);
        meter.finish().await;
        let file_path = fetched?;
        self.complete(&records, self.done(&file_path, started, &p2p)).await
    }

    /// A file that is recorded as done and still there needs no bytes, only its task completed.
    async fn arrived_before(&self, records: &Records) -> Option<Received> {
        let (done, size) = blocking({
            let (records, id) = (records.clone(), self.id.clone());
            move || {
                let done = records.read(&id);
                let size =
                    done.as_ref().and_then(|done| Some(std::fs::metadata(&done.file_path).ok()?.len()));
                Ok((done, size))
            }
        })
        .await
        .ok()?;
        let done = done.filter(|_| size == Some(self.open.offer.size))?;
        let received = self.received(done.file_path.clone());
        report(self.node, records, &self.id, done).await;
        Some(received)
    }

    async fn partial(&self) -> Result<Partial> {
        let (target, id, size) = (self.target.clone(), self.id.short().to_owned(), self.open.offer.size);
        blocking(move || Partial::create(&target, &id, size).map_err(Error::from)).await
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

    async fn claim(&mut self) -> Result<()> {
        let node = self.node;
        match or_cancelled(self.cancel, async { Ok(node.client.claim(&self.open.task.id, LEASE).await) })
            .await?
        {
            Ok(task) if task.is_held_by(node.actor_id()) => {}
            Ok(_) => return Err(self.taken()),
            Err(refused) if refused.is_retryable() => return Err(refused.into()),
            // A claim that was answered twice reads as ours all the same.
            Err(refused) => match node.client.get(&self.open.task.id).await {
                Ok(task) if task.is_held_by(node.actor_id()) => {}
                Ok(task) if task.status == Status::InProgress => return Err(self.taken()),
                Ok(task) => {
                    return Err(Error::new(
                        Code::OfferExpired,
                        format!(
                            "the offer of {} is {} and can't be accepted any more",
                            self.name(),
                            task.status
                        ),
                    ));
                }
                Err(_) => return Err(refused.into()),
            },
        }
        self.claimed = true;
        Ok(())
    }

    fn taken(&self) -> Error {
        Error::new(Code::AlreadyClaimed, format!("somebody else accepted {} first", self.name()))
    }

    /// Runs a fetch while the claim is renewed; ends it when the task is no longer ours.
    async fn while_claimed(&self, fetch: impl Future<Output = Result<PathBuf>>) -> Result<PathBuf> {
        let mut fetch = pin!(fetch);
        let lost = tokio::select! {
            result = &mut fetch => return result,
            error = self.keep_claim() => error,
        };
        // The peer that ended the task says why on the connection: its word is the better one.
        match timeout(LAST_WORD, fetch).await {
            Ok(result) => result,
            Err(_) => Err(lost),
        }
    }

    /// Keeps the claim until the task turns out not to be ours any more.
    async fn keep_claim(&self) -> Error {
        let (node, task_id) = (self.node, &self.open.task.id);
        let mut renewal = node.client.keep_claimed(task_id.clone(), LEASE);
        let feed = node.feed(&self.open.task.channel);
        let mut listener = feed.listen();
        loop {
            tokio::select! {
                lost = renewal.lost() => return match lost {
                    Lost::Taken(task) => self.lost(&task),
                    Lost::Refused(error) => error.into(),
                },
                () = listener.changed(task_id) => {}
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
        if task.status == Status::InProgress {
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
                node.clone().tasks.spawn(async move {
                    tokio::select! {
                        () = node.cancel.cancelled() => {}
                        () = report(&node, &records, &id, done) => {}
                    }
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
        }
    }

    fn name(&self) -> String {
        files::display(&self.open.offer.name)
    }
}
