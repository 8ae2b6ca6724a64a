//! Offers that an earlier process of this agent made and did not see the end of.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::claim::OfferTask;
use super::record::{OfferRecord, OfferRecords, OpenRecord};
use super::{FoundTask, SendRequest, SendSource, Sent, TakenUp, open, run_offer, said, word};
use crate::ats::{Status, Task};
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::{Direction, Event, PeerIdentity, Transfer};
use crate::files::{self, SafeName, TreeOptions};
use crate::limits::CLEAN_UP;
use crate::offer::{self, Offer};
use crate::signs_of_life;
use crate::sync::{cancelled_by, joined, spawn_blocking};

/// What became of an offer that was taken up again.
#[derive(Debug)]
pub struct ResumedOffer {
    /// The transfer's id.
    pub transfer_id: String,
    /// The name of the file, safe to print.
    pub file_name: String,
    /// Whom the file is for.
    pub recipient_id: String,
    /// What came of it.
    pub result: Result<Sent>,
}

/// What became of the task of an offer while nobody went on with it.
pub(super) enum Aftermath {
    /// Nothing yet, and there is time.
    Open,
    /// It is past its time, or its end was told.
    Expired,
    /// It has ended, and nobody was told.
    Ended(Box<(Task, Offer)>),
}

/// Takes up every offer of this agent that no process goes on with, and waits for all their ends. Those whose
/// time is over are withdrawn; of those that have ended since it is told how. `cancel` ends the transfers.
pub(crate) async fn resume_all(context: &Arc<Context>, cancel: &CancellationToken) -> Vec<ResumedOffer> {
    let offers = left_behind(context, |_| true).await.into_iter().map(|(open, record)| async {
        let aftermath = cancel.run_until_cancelled(aftermath(context, &record)).await?;
        let (transfer_id, recipient_id) = (record.transfer_id.clone(), record.recipient_id.clone());
        let file_name = told(&record).file_name;
        let result = match aftermath {
            Aftermath::Expired => {
                withdraw(context, open, record).await;
                return None;
            }
            Aftermath::Ended(ended) => tell_end(context, open, &record, *ended).await,
            Aftermath::Open => {
                let transfer = context.cancel().child_token();
                let taking_up = resume(context.clone(), open, record, transfer.clone());
                let run = cancelled_by(cancel.clone(), transfer, taking_up);
                joined(context.spawn(run)).await
            }
        };
        Some(ResumedOffer { transfer_id, file_name, recipient_id, result })
    });
    join_all(offers).await.into_iter().flatten().collect()
}

/// Withdraws the offers of this agent whose time is over and that no process goes on with. Those that have
/// ended are left for a while to whoever takes them up, and tells.
pub(crate) async fn withdraw_expired(context: &Arc<Context>) {
    let now = now(context);
    let kept = i64::try_from(context.options.max_partial_age.as_secs()).unwrap_or(i64::MAX);
    for (open, record) in left_behind(context, move |record| record.is_over_at(now)).await {
        match aftermath(context, &record).await {
            Aftermath::Expired => withdraw(context, open, record).await,
            Aftermath::Ended(_) if record.is_over_at(now.saturating_sub(kept)) => open.forget(),
            Aftermath::Ended(_) | Aftermath::Open => {}
        }
    }
}

/// How an offer stands. One that the recipient has claimed waits for its sender, whatever the time.
pub(super) async fn aftermath(context: &Context, record: &OfferRecord) -> Aftermath {
    let found = find_own(context, record).await;
    let is_expired = record.is_over_at(now(context));
    match found {
        _ if record.is_over => Aftermath::Expired,
        Ok(Some((task, _))) if task.status == Status::InProgress => Aftermath::Open,
        Ok(Some((task, offer))) if task.status != Status::Pending => {
            Aftermath::Ended(Box::new((task, offer)))
        }
        _ if is_expired => Aftermath::Expired,
        // What is wrong with it, or with the service, is told when it is gone on with.
        _ => Aftermath::Open,
    }
}

/// Reads what an earlier process has offered, and tells its recipient meanwhile that the sender is there: to
/// read it can take longer than it is waited for.
pub(super) async fn while_there<T>(
    context: &Context,
    record: &OfferRecord,
    (task_id, offer): &FoundTask,
    read: impl Future<Output = Result<T>>,
) -> Result<T> {
    let speak = async {
        let key = context.identity().await?;
        // Through which nodes it is reached is told once it lets the recipient in.
        let ours = || said(context, record.key_pair().public_key(), record.instance);
        let word = || word(context, key.as_ref(), task_id, offer, ours());
        let timeout = Duration::from_millis(record.timeout_ms);
        Ok::<Infallible, Error>(signs_of_life::show(&context.client, task_id, timeout, word).await)
    };
    tokio::select! {
        read = read => read,
        spoken = speak => match spoken? {},
    }
}

/// Tells how the transfer of a task ended that nobody went on with. The file may be gone by now.
pub(super) async fn tell_end(
    context: &Arc<Context>,
    open: OpenRecord,
    record: &OfferRecord,
    (task, offer): (Task, Offer),
) -> Result<Sent> {
    let mut transfer = Transfer { task_id: Some(task.id.clone()), ..told(record) };
    let recipient_id = record.recipient_id.clone();
    context.emit(Event::OfferResumed { transfer: transfer.clone(), recipient_id });
    // A list tells no messages, by which its claimant is known.
    let task = context.client.get(&task.id).await.unwrap_or(task);
    let reader = OfferTask::of_other(context, &record.channel, &task.id, &offer, &transfer);
    let (ended, (identity, handover)) = (reader.end(&task), reader.taker());
    match ended {
        Ok(peer) => {
            context.pin(&record.recipient_id, identity, handover).await;
            transfer.peer = peer;
            context.emit(Event::TransferComplete { transfer, file_path: None });
            Ok(Sent {
                transfer_id: record.transfer_id.clone(),
                task_id: task.id.to_value(),
                hash: record.hash.clone(),
                size: record.size,
                peer,
                resumed_from: record.size,
                connection: None,
                replayed: false,
                record: Some(Arc::new(open.ended())),
            })
        }
        Err(error) => {
            let error = error.of(&record.transfer_id, Some(&task.id.to_string()));
            context.emit(Event::TransferFailed { transfer, error: error.clone() });
            open.forget();
            Err(error)
        }
    }
}

/// Forgets the offer of a transfer that was ended.
pub(crate) async fn forget(context: &Arc<Context>, transfer_id: &str) {
    let transfer_id = transfer_id.to_owned();
    let left = left_behind(context, move |record| record.transfer_id == transfer_id).await;
    left.into_iter().for_each(|(open, _)| open.forget());
}

async fn left_behind(
    context: &Arc<Context>,
    wanted: impl Fn(&OfferRecord) -> bool + Send + 'static,
) -> Vec<(OpenRecord, OfferRecord)> {
    let records = OfferRecords::new(&context.options.home);
    let (scope, actor) = (context.scope(), context.actor_id().to_owned());
    let is_mine = move |record: &OfferRecord| record.scope == scope && record.actor_id == actor;
    let found = move || records.left_behind(|record| is_mine(record) && wanted(record));
    spawn_blocking(found).await.unwrap_or_default()
}

/// The service's time, Unix seconds.
fn now(context: &Context) -> i64 {
    OffsetDateTime::from(context.client.clock()).unix_timestamp()
}

/// Goes on with one offer.
async fn resume(
    context: Arc<Context>,
    open_record: OpenRecord,
    record: OfferRecord,
    cancel: CancellationToken,
) -> Result<Sent> {
    let transfer_id = record.transfer_id.clone();
    let paths = record.paths();
    if paths.is_empty() {
        let name = files::display(&record.file_name());
        let message = format!("{name} went with the process that had its bytes in memory: offer it anew");
        let error = Error::new(Code::SourceChanged, message).of(&transfer_id, None);
        return Err(give_up(&context, open_record, record, error).await);
    }
    let (TreeOptions { exclude, gitignore, .. }, _) = record.tree.clone().unwrap_or_default();
    let name = record.file_name.as_deref().map(|_| record.local_name());
    let request = SendRequest {
        source: SendSource::Paths { paths, name, exclude, gitignore },
        recipient_id: record.recipient_id.clone(),
        channel: Some(record.channel.clone()),
        timeout: Some(Duration::from_millis(record.timeout_ms)),
        idempotency_key: None,
        metadata: record.metadata(),
        max_rate: record.max_rate,
        progress: None,
        cancel,
    };
    let source = open(&context, &request).await.and_then(|source| match source.size() == record.size {
        true => Ok(source),
        false => Err(changed(&record)),
    });
    match source {
        Ok(source) => {
            let taken_up = TakenUp { open: open_record, record };
            run_offer(context, request, source, transfer_id, Some(taken_up), None).await
        }
        Err(error) => {
            let error = error.of(&transfer_id, None);
            Err(give_up(&context, open_record, record, error).await)
        }
    }
}

/// Tells that an offer can't be gone on with, and withdraws it.
async fn give_up(context: &Arc<Context>, open: OpenRecord, record: OfferRecord, error: Error) -> Error {
    context.emit(Event::TransferFailed { transfer: told(&record), error: error.clone() });
    withdraw(context, open, record).await;
    error
}

/// What is told of a file that is not what it was when it was offered.
pub(super) fn changed(record: &OfferRecord) -> Error {
    let path = record.shown();
    Error::new(Code::SourceChanged, format!("{path} is not what it was when it was offered: offer it anew"))
}

fn told(record: &OfferRecord) -> Transfer {
    let name = record.file_name();
    Transfer {
        direction: Direction::Send,
        transfer_id: record.transfer_id.clone(),
        task_id: None,
        file_name: SafeName::from_offered(&record.local_name()).as_str().to_owned(),
        original_name: files::display(&name),
        size: record.size,
        hash: record.hash.clone(),
        metadata: record.metadata(),
        tree: record.tree.as_ref().map(|(_, size)| *size),
        peer_id: record.recipient_id.clone(),
        peer: PeerIdentity::UNKNOWN,
    }
}

/// Ends the task of an offer that nobody goes on with, and forgets it. While the service is away the record
/// stays: the next start tries again.
pub(super) async fn withdraw(context: &Arc<Context>, open: OpenRecord, record: OfferRecord) {
    let ended = timeout(CLEAN_UP, async {
        let Some((task, _)) = find_own(context, &record).await? else { return Ok(()) };
        let refused = match task.status {
            Status::Pending => context.client.cancel(&task.id).await,
            Status::InProgress => context.client.fail(&task.id, Code::Aborted.public_reason()).await,
            _ => return Ok(()),
        };
        // Refused, because the other side was faster.
        refused.map(drop).or_else(|error| if error.is_retryable() { Err(Error::from(error)) } else { Ok(()) })
    });
    match ended.await {
        Ok(Ok(())) => open.forget(),
        // What the task says is another's: there is nothing to withdraw.
        Ok(Err(error)) if error.code == Code::Identity => open.forget(),
        Ok(Err(error)) => tracing::debug!("an offer of an earlier process could not be withdrawn: {error}"),
        Err(_) => tracing::debug!("an offer of an earlier process could not be withdrawn in time"),
    }
}

/// The task of an offer of this agent and what it offers, as far as it still says the same.
///
/// # Errors
/// Those of the service; `IDENTITY` if it says something else.
pub(super) async fn find_own(context: &Context, record: &OfferRecord) -> Result<Option<(Task, Offer)>> {
    let Some(task) = offer::find(&context.client, &record.channel, &record.transfer_id).await? else {
        return Ok(None);
    };
    let is_mine = task.source.as_ref().is_none_or(|source| source.id == record.actor_id);
    let says_the_same = |offer: &Offer| {
        (&offer.transfer_id, &offer.hash, offer.size) == (&record.transfer_id, &record.hash, record.size)
            && offer.recipient_id.as_ref() == Some(&record.recipient_id)
            && offer.p2p.as_ref().is_some_and(|p2p| p2p.instance == record.instance)
    };
    match Offer::from_payload(&task.payload).ok().filter(says_the_same) {
        Some(offer) if is_mine => Ok(Some((task, offer))),
        _ => {
            let path = record.shown();
            let message = format!("the task that offered {path} says something else by now: offer it anew");
            Err(Error::new(Code::Identity, message))
        }
    }
}
