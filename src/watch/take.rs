//! Taking the offers of a watch that saves every file.

use std::sync::Arc;

use tokio::time::sleep;

use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::files::{self, Target};
use crate::offer::inbox::OpenOffer;
use crate::receive::{self, Acceptance, Failure, LEASE, ReceiveTurn};
use crate::sync::blocking;
use crate::troubles::InTrouble;

/// What the sender of a file is told whose name is taken where nothing is to be replaced or renamed.
const NAME_TAKEN: &str = "the recipient has another file of this name and keeps it";

/// Takes an offer into a folder when it is its turn. What keeps this machine from that for a while is no
/// answer to it: it waits as long as it stands.
pub(crate) fn take_all(context: &Arc<Context>, handle: u64, target: Target) {
    let context = context.clone();
    context.clone().spawn(async move {
        let (mut attempts, mut trouble): (u32, Option<InTrouble>) = (0, None);
        while let Some((open, over)) = context.inbox.waiting(handle) {
            // Until it is its turn it may be withdrawn, and gives way like any unanswered offer.
            let tried = async {
                if attempts > 0 {
                    context.troubles.pause(attempts).await;
                    passed(&context, &open, &target).await?;
                }
                Ok(ReceiveTurn::wait(&context, &open).await)
            };
            let tried: Result<ReceiveTurn> = tokio::select! {
                tried = tried => tried,
                () = over.cancelled() => return,
                () = context.cancel().cancelled() => return,
            };
            attempts += 1;
            let kept = match tried {
                Ok(turn) => take(&context, handle, &target, turn).await,
                Err(error) => Some(error),
            };
            let Some(error) = kept else { return };
            if trouble.as_ref().is_none_or(|trouble| !trouble.is(&error)) {
                trouble = Some(context.enter_trouble(&error));
            }
        }
    });
}

/// Takes an offer now. Returns what kept this machine from that, if the offer still stands here.
async fn take(context: &Arc<Context>, handle: u64, target: &Target, turn: ReceiveTurn) -> Option<Error> {
    let open = context.inbox.take(handle).ok()?;
    let (task, declinable) = (open.task.id.clone(), open.offer.recipient_id.is_some());
    let actor = open.actor().to_owned();
    let acceptance = Acceptance {
        destination: target.clone().into(),
        max_rate: None,
        cancel: context.cancel().child_token(),
    };
    let Failure { error, claimed, waits } =
        receive::run(context.clone(), handle, open, acceptance, Some(turn)).await.err()?;
    match error.code {
        // It comes back when the claim has run out, if it does. Until then the trouble is known.
        _ if claimed && waits => {
            let trouble = context.enter_trouble(&error);
            let until = context.cancel().clone();
            context.spawn(async move {
                until.run_until_cancelled(sleep(LEASE)).await;
                drop(trouble);
            });
        }
        _ if claimed => {}
        Code::Aborted | Code::AlreadyClaimed | Code::OfferExpired => {}
        // It still stands, and is found again once the service is back.
        Code::AtsUnreachable | Code::AtsError | Code::AtsProtocol => {
            context.inbox.ended(&task, false);
            context.inbox.leave(&actor);
        }
        code if code.is_of_this_machine() && waits => return Some(error),
        code => {
            // Nobody is asked who could answer better: the sender is told now rather than left waiting.
            context.inbox.declined(&task);
            if declinable {
                let reason = match code {
                    Code::AlreadyExists | Code::NotAFile => NAME_TAKEN,
                    code => code.public_reason(),
                };
                let _ = context.client.reject(&task, reason).await;
            }
        }
    }
    None
}

/// Looks whether trouble of this machine has passed, as far as its disk tells; the service is not asked for
/// that. Whether an offer is stale by now is seen when it is taken.
async fn passed(context: &Arc<Context>, open: &OpenOffer, target: &Target) -> Result<()> {
    if open.is_stale(context.client.clock(), context.options.max_offer_age) {
        return Ok(());
    }
    let (context, folder) = (context.clone(), target.folder().to_owned());
    blocking(move || {
        receive::try_records(&context)?;
        files::prepare_folder(&folder)?;
        Ok(())
    })
    .await
}
