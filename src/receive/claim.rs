//! The claim on an offer: made, kept by renewing its lease, and given up.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ats::{AtsError, Client, Lost, Part, Renewal, Status, Task};
use crate::context::Context;
use crate::error::{Code, Error, Result, Step};
use crate::files;
use crate::limits::{CLOSE_LIMIT, GOODBYE, LAST_WORD};
use crate::offer::{self, inbox::OpenOffer};
use crate::remarks;
use crate::sync::{aborted, or_cancelled, tried_or_cancelled};

/// How long a claim lasts without renewal: short, so that a receiver that died frees the offer soon.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// How long a transfer that is over may take to tell its peer and to remove what it wrote.
const END_LIMIT: Duration = CLOSE_LIMIT.saturating_add(Duration::from_secs(1));

/// The claim on one offer.
pub(super) struct Claim<'a> {
    context: &'a Arc<Context>,
    open: &'a OpenOffer,
    /// The task service, waited for where it is away for a while.
    client: Client,
    cancel: &'a CancellationToken,
    held: bool,
}

impl<'a> Claim<'a> {
    /// The claim, not made yet, with the task service of this transfer. `cancel` ends what is waited for
    /// here.
    pub(super) fn new(
        context: &'a Arc<Context>,
        open: &'a OpenOffer,
        client: Client,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self { context, open, client, cancel, held: false }
    }

    /// Whether it was made.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Checks that nobody has the offer yet, another process of this actor included: its claim would be
    /// taken for ours.
    ///
    /// # Errors
    /// `ALREADY_CLAIMED`, `OFFER_EXPIRED`, or that of the service.
    pub(super) async fn check_pending(&self) -> Result<()> {
        match tried_or_cancelled(self.cancel, self.client.get(&self.open.task.id)).await? {
            Ok(task) if task.status == Status::Pending => Ok(()),
            Ok(task) if task.status == Status::InProgress => Err(self.taken()),
            Ok(task) => Err(self.expired(&format!("is {}", task.status))),
            Err(error) if error.is_not_found() => Err(self.expired("is gone")),
            Err(error) => Err(self.not_claimed(error)),
        }
    }

    /// Makes the claim.
    ///
    /// # Errors
    /// As [`Self::check_pending`].
    pub(super) async fn make(&mut self) -> Result<()> {
        let (client, open) = (self.client.clone(), self.open);
        self.make_by(client.claim(&open.task.id, LEASE), |_| true).await
    }

    /// Makes the claim of an offer that nobody has yet, another process of this actor included, and says
    /// `parts` on its task before; at a service that takes both at once.
    ///
    /// # Errors
    /// As [`Self::check_pending`].
    pub(super) async fn make_first(&mut self, parts: Vec<Part>) -> Result<()> {
        let (client, open, me) = (self.client.clone(), self.open, self.context.actor_id());
        let claim = client.claim_first(&open.task.id, LEASE, parts.clone());
        // What another process of this actor claimed reads as ours, but for what was said with it.
        self.make_by(claim, |task| task.has_said(me, &parts)).await
    }

    /// Makes the claim by a request; `is_ours` tells of a task that this actor holds where the request was
    /// refused.
    async fn make_by(
        &mut self,
        claim: impl Future<Output = std::result::Result<Task, AtsError>>,
        is_ours: impl Fn(&Task) -> bool,
    ) -> Result<()> {
        let context = self.context;
        let mut claim = pin!(claim);
        let answer = match or_cancelled(self.cancel, async { Ok((&mut claim).await) }).await {
            Ok(answer) => answer,
            // What was asked for may be granted all the same, and would have to be given back.
            Err(aborted) => {
                self.held = matches!(timeout(GOODBYE, claim).await, Ok(Ok(_)));
                return Err(aborted);
            }
        };
        match answer {
            Ok(task) if task.is_held_by(context.actor_id()) => {}
            Ok(_) => return Err(self.taken()),
            // A claim that was answered twice, or not at all, reads as ours all the same.
            Err(refused) => match context.client.get(&self.open.task.id).await {
                Ok(task) if task.is_held_by(context.actor_id()) && is_ours(&task) => {}
                Ok(task) if task.status == Status::InProgress => return Err(self.taken()),
                Ok(task) if refused.is_retryable() || task.status == Status::Pending => {
                    return Err(self.not_claimed(refused));
                }
                Ok(task) => return Err(self.expired(&format!("is {}", task.status))),
                Err(error) if error.is_not_found() => return Err(self.expired("is gone")),
                Err(_) if self.cancel.is_cancelled() => return Err(aborted()),
                Err(_) => return Err(self.not_claimed(refused)),
            },
        }
        self.held = true;
        Ok(())
    }

    /// Runs a transfer while the claim is renewed; ends it, by `stop`, when the task is no longer ours, and
    /// without a word to the peer where the service does not let this actor renew it.
    pub(super) async fn while_held<T>(
        &self,
        mut transfer: Pin<Box<impl Future<Output = Result<T>>>>,
        stop: &CancellationToken,
    ) -> Result<T> {
        let lost = tokio::select! {
            result = &mut transfer => return result,
            error = self.lost() => error,
        };
        // The peer that ended the task says why on the connection: its word is the better one.
        if let Ok(result) = timeout(LAST_WORD, &mut transfer).await {
            return result;
        }
        if lost.step == Some(Step::Service) {
            // A sender that is told nothing takes the connection for lost, and waits for who goes on.
            drop(transfer);
            stop.cancel();
            return Err(lost);
        }
        stop.cancel();
        match timeout(END_LIMIT, transfer).await {
            Ok(Ok(result)) => Ok(result),
            _ => Err(lost),
        }
    }

    /// Ends the claimed task of a transfer that came to nothing and can't be gone on with. `started`: bytes
    /// have come here.
    pub(super) async fn give_up(&self, error: &Error, started: bool, instance: &[u8; 16]) {
        let client = &self.context.client;
        let task_id = &self.open.task.id;
        // It has ended, or is another's now.
        if matches!(error.code, Code::Cancelled | Code::AlreadyClaimed) {
            return;
        }
        if let Ok(task) = client.get(task_id).await {
            let (me, transfer_id) = (self.context.actor_id(), &self.open.offer.transfer_id);
            let another = match started {
                false => offer::is_said_by_another(&task, me, transfer_id, instance),
                true => offer::is_last_said_by_another(&task, me, transfer_id, instance),
            };
            // Where another process of this actor took part, the bytes may be going there.
            if another {
                return;
            }
        }
        self.context.remarks.post(task_id, remarks::failed(&self.open.transfer(String::new()), error));
        if let Err(refused) = client.fail(task_id, error.code.public_reason()).await {
            tracing::debug!("task {task_id} could not be failed: {refused}");
        }
    }

    /// What a failure is: where a third party cancelled the task, that is the cause, and the sender's leaving
    /// only what came of it.
    pub(super) async fn cause(&self, error: Error) -> Error {
        if !matches!(error.code, Code::RemoteError | Code::PeerUnreachable) {
            return error;
        }
        self.context.cancelled_task(&self.open.task.id).await.map_or(error, |task| self.lost_to(&task))
    }

    /// The offer can't be accepted any more, because it `why`.
    pub(super) fn expired(&self, why: &str) -> Error {
        let message = format!("the offer of {} {why} and can't be accepted any more", self.name());
        Error::new(Code::OfferExpired, message)
    }

    /// Keeps the claim until the task turns out not to be ours any more.
    async fn lost(&self) -> Error {
        let (context, task_id) = (self.context, &self.open.task.id);
        let mut renewal = Renewal::start(&context.client, task_id.clone(), LEASE);
        let events = context.events(&self.open.task.channel);
        let mut listener = events.listen_for_transfer();
        loop {
            tokio::select! {
                lost = renewal.lost() => return match lost {
                    Lost::Taken(task) => self.lost_to(&task),
                    Lost::Refused(error) if error.is_not_found() => self.ended("is gone"),
                    Lost::Refused(error) => error.into(),
                },
                // What is pending was told of before the claim, or lapsed, and is claimed anew.
                _ = listener.changed_so_that(task_id, |task| {
                    task.status != Status::Pending && !task.is_held_by(context.actor_id())
                }) => {}
            }
            let read = context.client.get(task_id).await;
            listener.seen();
            match read {
                Ok(task) if task.is_held_by(context.actor_id()) || task.status == Status::Pending => {}
                Ok(task) => return self.lost_to(&task),
                Err(_) => {}
            }
        }
    }

    fn lost_to(&self, task: &Task) -> Error {
        // Completed, but not by us: another process of this actor was first.
        if matches!(task.status, Status::InProgress | Status::Completed) {
            return self.taken();
        }
        self.ended(&format!("was {}", task.status))
    }

    /// Nothing comes of the claimed task any more: it `is` something else.
    fn ended(&self, is: &str) -> Error {
        Error::new(Code::Cancelled, format!("the task of {} {is}", self.name()))
    }

    /// The service kept the claim from being made.
    pub(super) fn not_claimed(&self, error: AtsError) -> Error {
        self.while_unclaimed(error.into())
    }

    /// An error before the claim, by which the offer is not lost.
    pub(super) fn while_unclaimed(&self, error: Error) -> Error {
        match self.held {
            true => error,
            false => error.while_doing(format_args!(
                "the offer of {} could not be claimed, and still stands",
                self.name()
            )),
        }
    }

    fn taken(&self) -> Error {
        Error::new(Code::AlreadyClaimed, format!("somebody else accepted {} first", self.name()))
    }

    fn name(&self) -> String {
        files::display(&self.open.offer.name)
    }
}
