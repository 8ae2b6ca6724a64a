//! A send under an idempotency key: however often it is asked for, one delivery comes of it.
//!
//! What is known of a key is a record on disk, locked by whoever sends under it. It says which transfer the
//! key stands for before that is offered, and how it ended before anybody is told. A process that dies in
//! between leaves the rest to the next one with the same key: what was offered is gone on with, or was
//! delivered already; and where nothing of that is at hand, the task service tells, by the transfer's id.
//!
//! That id is derived from the key under this user's seed: it is the same whenever it is derived, and nobody
//! else can guess it. A transfer that failed is over. Asked for once more, the key stands for another
//! attempt, with an id of its own, once it is certain that the one before was not delivered.

mod held;
mod record;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(super) use self::held::HeldKey;
use self::record::{Ended, KeyLock, KeyRecord, KeyRecords};
use super::claim::OfferTask;
use super::open_offers::{self, Aftermath};
use super::record::{FoundOffer, OfferRecords};
use super::{SendRequest, Sent, TakenUp, run_offer};
use crate::ats::{Status, Task, TaskId};
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::{Direction, Event, PeerIdentity, Transfer};
use crate::files::{self, SafeName, Source};
use crate::offer::{self, Metadata, Offer};
use crate::sync::{blocking, or_cancelled};
use crate::trust::Standing;

/// How often it is looked whether another has done with the key.
const POLL: Duration = Duration::from_millis(100);

/// What became of a transfer that the key stood for before.
enum Before {
    /// The recipient has the file.
    Delivered(Sent),
    /// It can be gone on with.
    Open(TakenUp),
    /// Nothing was ever offered.
    Nothing,
    /// It is over, and came to nothing.
    Over,
}

/// One send under a key.
struct KeyedSend {
    context: Arc<Context>,
    key: String,
    source: Source,
    recipient_id: String,
    channel: String,
    metadata: Option<Metadata>,
    cancel: CancellationToken,
    /// The owner was told which transfer it is that was begun before.
    is_told: bool,
    /// It is this one, and its end was not told.
    told: Option<Transfer>,
}

/// What comes of a send under a key.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Settled {
    /// The recipient has the file already.
    Delivered(Sent),
    /// It is sent now, by a new offer or one that was made before.
    Sends(KeyLock, KeyRecord, Option<TakenUp>),
}

/// Sends an open file under a key, unless it was sent.
pub(super) async fn run(
    context: Arc<Context>,
    request: SendRequest,
    source: Source,
    key: String,
) -> Result<Sent> {
    let cancel = request.cancel.clone();
    let mut keyed = KeyedSend {
        context: context.clone(),
        key,
        source: source.clone(),
        recipient_id: request.recipient_id.clone(),
        channel: request.channel.clone().unwrap_or_else(|| context.settings.channel.clone()),
        metadata: request.metadata.clone(),
        cancel: cancel.clone(),
        is_told: false,
        told: None,
    };
    let (held, begun, taken_up) = match keyed.settle().await {
        Ok(Settled::Delivered(sent)) => return Ok(sent),
        Ok(Settled::Sends(held, begun, taken_up)) => (held, begun, taken_up),
        Err(error) => return Err(keyed.failed(error)),
    };
    let transfer_id = begun.transfer_id.clone();
    let held = Arc::new(HeldKey::new(held, begun));
    held.begins().await?;
    let result = run_offer(context, request, source, transfer_id, taken_up, Some(held.clone())).await;
    held.ended(&result).await;
    result
}

impl KeyedSend {
    /// Takes the key, and finds out what it stands for.
    async fn settle(&mut self) -> Result<Settled> {
        let cancel = self.cancel.clone();
        let (held, waited_for) = or_cancelled(&cancel, self.hold()).await?;
        let found = match held.record.clone() {
            Some(record) => Some(record),
            None => or_cancelled(&cancel, self.made_elsewhere()).await?,
        };
        let Some(record) = found else {
            return Ok(Settled::Sends(held, self.attempt(0).await?, None));
        };
        self.check(&record)?;
        match &record.ended {
            // Of whoever waited for a transfer, its failure is the answer, unless it was called off.
            Some(Ended::Failed(error))
                if error.code != Code::Aborted && waited_for.as_ref() == Some(&record.transfer_id) =>
            {
                return Err(error.clone());
            }
            Some(Ended::Delivered { .. }) => {
                self.check_hash(&record).await?;
                return self.replay(&record).map(Settled::Delivered);
            }
            _ => {}
        }
        let (begun, taken_up) = match or_cancelled(&cancel, self.before(&record)).await? {
            Before::Delivered(sent) => {
                Arc::new(HeldKey::new(held, record)).ended(&Ok(sent.clone())).await;
                return Ok(Settled::Delivered(sent));
            }
            Before::Open(taken_up) => (KeyRecord { ended: None, ..record }, Some(taken_up)),
            // The file need not be the one that another process has only looked at.
            Before::Nothing => {
                let (size, hash) = (self.source.size(), record.offered_hash().cloned());
                (KeyRecord { size, hash, ended: None, ..record }, None)
            }
            Before::Over => {
                let next = self.attempt(record.attempt.saturating_add(1)).await?;
                (KeyRecord { hash: record.offered_hash().cloned(), ..next }, None)
            }
        };
        Ok(Settled::Sends(held, begun, taken_up))
    }

    /// Tells the failure of a transfer that the owner was told of.
    fn failed(&mut self, error: Error) -> Error {
        let Some(transfer) = self.told.take() else { return error };
        let task_id = transfer.task_id.as_ref().map(TaskId::to_string);
        let error = error.of(&transfer.transfer_id, task_id.as_deref());
        self.context.emit(Event::TransferFailed { transfer, error: error.clone() });
        error
    }

    /// Takes the key, once nobody else sends under it; and says for which transfer that waited.
    async fn hold(&mut self) -> Result<(KeyLock, Option<String>)> {
        let records = KeyRecords::new(&self.context.options.home);
        let name = self.name();
        let mut waited_for = None;
        loop {
            let (records, name) = (records.clone(), name.clone());
            let (held, busy) = blocking(move || {
                let held = records.try_lock(&name).map_err(not_kept)?;
                let busy = if held.is_none() { records.peek(&name) } else { None };
                // One in eight looks after the others.
                if held.is_some() && name.starts_with(['0', '1']) {
                    records.sweep();
                }
                Ok((held, busy))
            })
            .await?;
            if let Some(held) = held {
                return Ok((held, waited_for));
            }
            if let Some(record) = busy.filter(|record| record.ended.is_none()) {
                self.check(&record)?;
                self.tell(&record, None);
                waited_for = Some(record.transfer_id);
            }
            sleep(POLL).await;
        }
    }

    /// What the records of a key go by: everything that it holds within.
    fn name(&self) -> String {
        let mut hasher = Sha256::new();
        let scope = self.context.scope();
        for part in [scope.as_str(), self.context.actor_id(), &self.key] {
            hasher.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hasher.update(part);
        }
        hex::encode(hasher.finalize())
    }

    /// The record of an attempt that begins now.
    async fn attempt(&self, attempt: u32) -> Result<KeyRecord> {
        let (trust, key) = (self.context.trust.clone(), self.key.clone());
        let transfer_id = blocking(move || trust.transfer_id(&key, attempt)).await?;
        Ok(KeyRecord {
            attempt,
            transfer_id: transfer_id.to_string(),
            recipient_id: self.recipient_id.clone(),
            channel: self.channel.clone(),
            size: self.source.size(),
            hash: None,
            metadata: self.metadata.as_ref().map(|metadata| metadata.as_str().to_owned()),
            ended: None,
        })
    }

    /// The transfer of a key that this home has forgotten, or never knew, and the service has not.
    async fn made_elsewhere(&self) -> Result<Option<KeyRecord>> {
        let mut found = None;
        for attempt in 0.. {
            let begun = self.attempt(attempt).await?;
            let is_own = |task: &Task| self.is_own(task);
            let Some(task) = offer::find_made(&self.context.client, &begun.transfer_id, is_own).await? else {
                break;
            };
            let offer = Offer::from_payload(&task.payload).map_err(|_| reused("another transfer"))?;
            let recipient_id = offer.recipient_id.unwrap_or_default();
            let (channel, size, hash) = (task.channel, offer.size, Some(offer.hash));
            let metadata = offer.attributes.metadata.map(|metadata| metadata.as_str().to_owned());
            found = Some(KeyRecord { recipient_id, channel, size, hash, metadata, ..begun });
            // Behind one that came to nothing there may be another.
            if matches!(task.status, Status::Pending | Status::InProgress | Status::Completed) {
                break;
            }
        }
        Ok(found)
    }

    fn is_own(&self, task: &Task) -> bool {
        task.source.as_ref().is_none_or(|source| source.id == self.context.actor_id())
    }

    /// Whether it is the same send, as far as is known without reading the file.
    fn check(&self, record: &KeyRecord) -> Result<()> {
        if record.recipient_id != self.recipient_id {
            return Err(reused("another recipient"));
        }
        if record.channel != self.channel {
            return Err(reused("another channel"));
        }
        let is_same = match (&record.metadata(), &self.metadata) {
            (Some(before), Some(now)) => before.is_same(now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !is_same {
            return Err(reused("other metadata"));
        }
        if record.offered_hash().is_some() && record.size != self.source.size() {
            return Err(reused("another file"));
        }
        Ok(())
    }

    /// Whether the file is the one that was offered.
    async fn check_hash(&self, record: &KeyRecord) -> Result<()> {
        let (source, cancel, hashes) =
            (self.source.clone(), self.cancel.clone(), self.context.hashes.clone());
        let hash = blocking(move || Ok(source.hash_once(&hashes, |_| {}, &cancel)?)).await?;
        match record.offered_hash().is_none_or(|before| *before == hash) {
            true => Ok(()),
            false => Err(reused("another file")),
        }
    }

    /// The result of a transfer that was delivered.
    fn replay(&mut self, record: &KeyRecord) -> Result<Sent> {
        let Some(Ended::Delivered { task_id, identity, resumed_from }) = &record.ended else {
            return Err(Error::new(Code::State, "the transfer is not over"));
        };
        let mut bytes = [0; 32];
        let identity = identity.as_ref().filter(|text| hex::decode_to_slice(text, &mut bytes).is_ok());
        let peer = match identity {
            Some(_) => PeerIdentity { identity: Some(bytes), standing: Standing::Known },
            None => PeerIdentity::UNKNOWN,
        };
        let task = TaskId::from_value(task_id);
        self.tell(record, task.clone());
        let transfer = Transfer { task_id: task, peer, ..self.transfer(record) };
        self.told = None;
        self.context.emit(Event::TransferComplete { transfer, file_path: None });
        Ok(Sent {
            transfer_id: record.transfer_id.clone(),
            task_id: task_id.clone(),
            hash: record.hash.clone().unwrap_or_default(),
            size: record.size,
            peer,
            resumed_from: *resumed_from,
            connection: None,
            replayed: true,
            record: None,
        })
    }

    /// What became of the transfer that the key stands for, whose process is gone, or which failed. What is
    /// still open there and cannot be gone on with is withdrawn.
    async fn before(&mut self, record: &KeyRecord) -> Result<Before> {
        let (open, offered) = loop {
            let records = OfferRecords::new(&self.context.options.home);
            let transfer_id = record.transfer_id.clone();
            match blocking(move || Ok(records.find(&transfer_id))).await? {
                FoundOffer::Free(open, offered) => break (open, *offered),
                // Another process goes on with it, or withdraws it.
                FoundOffer::Busy => {
                    self.tell(record, None);
                    sleep(POLL).await;
                }
                FoundOffer::Nothing => return self.by_task(record).await,
            }
        };
        let known = KeyRecord { hash: Some(offered.hash.clone()), size: offered.size, ..record.clone() };
        self.check(&known)?;
        let found = open_offers::find_own(&self.context, &offered).await;
        let read = self.check_hash(&known);
        match &found {
            Ok(Some((task, offer))) if matches!(task.status, Status::Pending | Status::InProgress) => {
                let found = (task.id.clone(), offer.clone());
                open_offers::while_there(&self.context, &offered, &found, read).await?;
            }
            Ok(_) | Err(_) => read.await?,
        }
        if found?.is_none() {
            // It was about to be offered.
            open.forget();
            return Ok(Before::Nothing);
        }
        match open_offers::aftermath(&self.context, &offered).await {
            Aftermath::Open => Ok(Before::Open(TakenUp { open, record: offered })),
            Aftermath::Expired => {
                open_offers::withdraw(&self.context, open, offered).await;
                self.by_task(&known).await
            }
            Aftermath::Ended(ended) => {
                let (task, _) = &*ended;
                if task.status != Status::Completed {
                    open.forget();
                    return Ok(Before::Over);
                }
                // Which tells of it from its beginning to its end.
                (self.is_told, self.told) = (true, None);
                let sent = open_offers::tell_end(&self.context, open, &offered, *ended).await?;
                Ok(Before::Delivered(sent))
            }
        }
    }

    /// The same, by what the service knows of it.
    async fn by_task(&mut self, record: &KeyRecord) -> Result<Before> {
        let Some(hash) = &record.hash else { return Ok(Before::Nothing) };
        let client = &self.context.client;
        let found = offer::find(client, &record.channel, &record.transfer_id).await?;
        let Some(mut task) = found.filter(|task| self.is_own(task)) else { return Ok(Before::Nothing) };
        let offer = Offer::from_payload(&task.payload).map_err(|_| reused("another transfer"))?;
        if offer.hash != *hash {
            return Err(reused("another file"));
        }
        let refused = match task.status {
            Status::Pending => client.cancel(&task.id).await.err(),
            Status::InProgress => client.fail(&task.id, Code::Aborted.public_reason()).await.err(),
            _ => None,
        };
        if let Some(error) = refused {
            // Refused, because the other side was faster.
            if error.is_retryable() {
                return Err(error.into());
            }
            task = client.get(&task.id).await?;
        }
        // A list tells no messages, by which its claimant is known.
        if matches!(task.status, Status::Pending | Status::InProgress | Status::Completed) {
            task = client.get(&task.id).await?;
        }
        match task.status {
            Status::Completed => {}
            Status::Pending | Status::InProgress => {
                let message = "what was offered under this idempotency key before cannot be withdrawn yet";
                return Err(Error::new(Code::AtsError, message));
            }
            _ => return Ok(Before::Over),
        }
        self.check_hash(record).await?;
        let transfer = Transfer { task_id: Some(task.id.clone()), ..self.transfer(record) };
        let reader = OfferTask::of_other(&self.context, &record.channel, &task.id, &offer, &transfer);
        let peer = reader.end(&task)?;
        let delivered = Ended::Delivered {
            task_id: task.id.to_value(),
            identity: peer.identity.map(hex::encode),
            resumed_from: record.size,
        };
        Ok(Before::Delivered(self.replay(&KeyRecord { ended: Some(delivered), ..record.clone() })?))
    }

    /// Tells the owner, once, which transfer it is that was begun before.
    fn tell(&mut self, record: &KeyRecord, task_id: Option<TaskId>) {
        if !std::mem::replace(&mut self.is_told, true) {
            let transfer = Transfer { task_id, ..self.transfer(record) };
            self.told = Some(transfer.clone());
            self.context.emit(Event::OfferResumed { recipient_id: record.recipient_id.clone(), transfer });
        }
    }

    fn transfer(&self, record: &KeyRecord) -> Transfer {
        Transfer {
            direction: Direction::Send,
            transfer_id: record.transfer_id.clone(),
            task_id: None,
            file_name: SafeName::from_offered(self.source.local_name()).as_str().to_owned(),
            original_name: files::display(self.source.name()),
            size: record.size,
            hash: record.hash.clone().unwrap_or_default(),
            metadata: record.metadata(),
            tree: self.source.tree(),
            peer_id: record.recipient_id.clone(),
            peer: PeerIdentity::UNKNOWN,
        }
    }
}

fn reused(what: &str) -> Error {
    let message = format!("this idempotency key stands for {what}: use another key for another send");
    Error::new(Code::KeyReused, message)
}

fn not_kept(error: std::io::Error) -> Error {
    Error::new(Code::State, format!("what the idempotency key stands for cannot be kept: {error}"))
}
