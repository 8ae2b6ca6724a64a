//! What processes of this user have left: transfers that go on, and remains that are removed in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::record::{Open, RecordId, Records};
use super::{Acceptance, Failure, record_id, records};
use crate::ats::{Status, TaskId};
use crate::context::Context;
use crate::files::{Partial, SafeName};
use crate::offer::{Offer, inbox::OpenOffer};
use crate::private::LockFile;
use crate::sync::spawn_blocking;
use crate::troubles::InTrouble;

/// How long is waited before the service is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A transfer whose process died, which nobody else works on.
pub(super) struct Left {
    /// Names this side's part in it.
    pub(super) instance: [u8; 16],
    /// What the key pair is made of by which the sender knows this side.
    pub(super) seed: [u8; 32],
    pub(super) lock: LockFile,
}

/// Goes on with the transfers to this actor whose processes died, each to where it was accepted, if `admits`
/// would admit its offer today. Returns once they are found: from then on their tasks are not offered anew.
pub(crate) async fn take_up(
    context: &Arc<Context>,
    admits: impl Fn(&Context, &OpenOffer) -> bool + Send + Sync + Copy + 'static,
) {
    let Ok(records) = records(context) else { return };
    let (scope, actor_id) = (context.scope(), context.actor_id().to_owned());
    let find = move || {
        let unfinished = records.unfinished(&scope, &actor_id).into_iter();
        let free = unfinished.filter_map(|id| {
            let lock = records.lock(&id).ok()??;
            // Read once more: until the lock was free it was another's to change.
            Some((records.read_open(&id)?, id, lock))
        });
        free.collect::<Vec<_>>()
    };
    for (open, id, lock) in spawn_blocking(find).await.unwrap_or_default() {
        if let Some((instance, seed)) = open.keys()
            && let Some(task_id) = TaskId::from_value(&open.task_id)
            && context.inbox.begin(&task_id)
        {
            let left = Left { instance, seed, lock };
            context.spawn(go_on(context.clone(), id, open, task_id, left, admits));
        }
    }
}

/// Goes on with one transfer, once the service says that it can, and tries again where trouble of this
/// machine keeps it from that.
async fn go_on(
    context: Arc<Context>,
    id: RecordId,
    record: Open,
    task_id: TaskId,
    mut left: Left,
    admits: impl Fn(&Context, &OpenOffer) -> bool,
) {
    let cancel = context.cancel().clone();
    let (mut attempts, mut trouble): (u32, Option<InTrouble>) = (0, None);
    loop {
        match cancel.run_until_cancelled(state(&context, &id, &task_id)).await {
            Some(State::Open(open)) if admits(&context, &open) => {
                let target = record.place.target(open.safe_name());
                let acceptance =
                    Acceptance { destination: target.into(), max_rate: None, cancel: cancel.clone() };
                let (instance, seed) = (left.instance, left.seed);
                // Told by its events.
                let received = super::receive(&context, &open, &acceptance, Some(left), None).await;
                let Err(Failure { error, waits: true, .. }) = received else {
                    context.troubles.ease();
                    break;
                };
                attempts += 1;
                if trouble.as_ref().is_none_or(|trouble| !trouble.is(&error)) {
                    trouble = Some(context.enter_trouble(&error));
                }
                let lock = cancel.run_until_cancelled(lock_again(&context, &id, attempts)).await;
                let Some(Some(lock)) = lock else { break };
                left = Left { instance, seed, lock };
            }
            Some(State::Open(_) | State::Over) => {
                let context = context.clone();
                let _ = spawn_blocking(move || discard(&context, &id, &record, left.lock)).await;
                break;
            }
            Some(State::Unknown) | None => break,
        }
    }
    context.inbox.ended(&task_id, false);
}

/// Waits, and takes the lock of a transfer again; `None` where another process has it by then.
async fn lock_again(context: &Arc<Context>, id: &RecordId, mut attempts: u32) -> Option<LockFile> {
    loop {
        context.troubles.pause(attempts).await;
        attempts = attempts.saturating_add(1);
        let (context, id) = (context.clone(), id.clone());
        let locked = spawn_blocking(move || records(&context).ok().map(|records| records.lock(&id)));
        if let Ok(Some(Ok(lock))) = locked.await {
            return lock;
        }
    }
}

/// What has become of a transfer meanwhile.
enum State {
    /// Its task is this actor's yet, or anybody's to claim.
    Open(Box<OpenOffer>),
    /// Nothing comes of it any more.
    Over,
    /// The service does not say.
    Unknown,
}

async fn state(context: &Context, id: &RecordId, task_id: &TaskId) -> State {
    let task = loop {
        match context.client.get(task_id).await {
            Ok(task) => break task,
            Err(error) if error.is_not_found() => return State::Over,
            Err(error) if error.is_retryable() => sleep(PAUSE).await,
            Err(error) => {
                tracing::debug!("task {task_id} is not gone on with: {error}");
                return State::Unknown;
            }
        }
    };
    if task.status != Status::Pending && !task.is_held_by(context.actor_id()) {
        return State::Over;
    }
    match Offer::from_payload(&task.payload) {
        Ok(offer) => match context.judge().sender(&task, &offer) {
            Ok(peer) => {
                let open = Box::new(OpenOffer { task, offer, peer });
                if record_id(context, &open) == *id { State::Open(open) } else { State::Over }
            }
            Err(error) => {
                tracing::warn!("task {task_id} is not gone on with: {error}");
                State::Unknown
            }
        },
        Err(_) => State::Over,
    }
}

fn discard(context: &Context, id: &RecordId, open: &Open, _lock: LockFile) {
    if let Ok(records) = records(context) {
        Partial::discard(&open.place.target(SafeName::from_offered("")), id.short(), &records.sums(id));
        records.forget(id);
    }
}

/// Removes what earlier processes, or this one, have left of transfers to this actor of which nothing comes
/// any more. What may yet be gone on with stays, and what another process works on.
pub(crate) async fn sweep(context: &Arc<Context>) {
    let (home, scope) = (context.options.home.clone(), context.scope());
    let actor_id = context.actor_id().to_owned();
    let find = move || Records::existing(&home).map(|records| records.open_of(&scope, &actor_id));
    for (id, open) in spawn_blocking(find).await.ok().flatten().unwrap_or_default() {
        let Some(task_id) = TaskId::from_value(&open.task_id) else { continue };
        if !matches!(state(context, &id, &task_id).await, State::Over) {
            continue;
        }
        let context = context.clone();
        let remove = move || {
            let records = records(&context).ok()?;
            let lock = records.lock(&id).ok()??;
            // Until the lock was free it was another's to change.
            discard(&context, &id, &records.read_open(&id)?, lock);
            Some(())
        };
        let _ = spawn_blocking(remove).await;
    }
}

/// Removes what is remembered of transfers for longer than the owner wants, and what they have left beside
/// their targets. Blocks.
pub(crate) fn expire(context: &Context) {
    let Ok(records) = records(context) else { return };
    records.expire(context.options.max_partial_age, |id, open| {
        Partial::discard(&open.place.target(SafeName::from_offered("")), id.short(), &records.sums(id));
    });
}
