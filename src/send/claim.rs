//! The task of an offer, as its sender reads it: who claimed it, how that peer dials, and what became of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::handover::Handover;
use protocol::identity::IdentityKey;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ats::{AtsError, Listener, Part, Status, Task, TaskId};
use crate::connection::Admission;
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::{PeerIdentity, Transfer};
use crate::files;
use crate::offer::{Offer, P2p, is_sha256_hex};
use crate::sync::lock;

/// Values looked at in one list of a completed task's outputs.
const MAX_OUTPUTS: usize = 16;

/// Who claimed an offer.
pub(super) enum Claimant {
    /// A peer of ours, which dials with this key, and who that is.
    Ours(Box<P2p>, PeerIdentity),
    /// A peer of the original's kind, met on the topic.
    Original,
}

/// What a claimed task turned into.
pub(super) enum TaskChange {
    /// The claimant has said something newer of how it dials.
    Key(P2p),
    /// It was completed with these outputs.
    Completed(Vec<Value>),
    /// It is over.
    Ended(Error),
}

/// Who took an offer: until the claim lapses, whoever it was at first, and nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Taker {
    /// Nobody yet.
    #[default]
    Nobody,
    /// A peer of the original's kind.
    Original,
    /// A peer of ours, with this identity or none, and what those before say for it.
    Ours(Option<[u8; 32]>, Vec<Handover>),
}

/// Reads the task of one offer.
pub(super) struct OfferTask<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) id: &'a TaskId,
    /// The channel that the offer is on.
    pub(super) channel: &'a str,
    /// What is offered, and names this side's part in the transfer.
    pub(super) offer: &'a Offer,
    /// What this side signs with.
    pub(super) key: Option<&'a IdentityKey>,
    /// Who took the offer.
    pub(super) taker: Mutex<Taker>,
    /// The transfer; its peer is the recipient.
    pub(super) transfer: &'a Transfer,
    /// Who knocks at the door may stand in the task by now.
    pub(super) admission: Arc<Admission>,
}

impl<'a> OfferTask<'a> {
    /// Of an offer that another process made: it is only read, and nothing is signed.
    pub(super) fn of_other(
        context: &'a Arc<Context>,
        channel: &'a str,
        id: &'a TaskId,
        offer: &'a Offer,
        transfer: &'a Transfer,
    ) -> Self {
        Self {
            context,
            id,
            channel,
            offer,
            key: None,
            taker: Mutex::default(),
            transfer,
            admission: Arc::default(),
        }
    }

    /// Waits until the offer is claimed or already completed, and says by whom.
    ///
    /// # Errors
    /// `OFFER_EXPIRED` if nobody claims it within `limit`; what ended it otherwise. Within: those of
    /// [`Self::claimant`].
    pub(super) async fn claimed(&self, listener: &mut Listener, limit: Duration) -> Result<Result<Claimant>> {
        let mut read_at = Instant::now();
        let deadline = read_at + limit;
        loop {
            let told = tokio::select! {
                // What happens to an offer that stays pending is no answer to it.
                told = listener.changed_so_that(self.id, |task| task.status != Status::Pending) => told,
                () = self.admission.knocked_after(read_at) => None,
                () = sleep_until(deadline) => None,
            };
            // A peer of ours speaks before it claims: what events told of it saves a request.
            if let Some(task) = told.filter(|task| task.status == Status::InProgress)
                && let Ok(claimant @ Claimant::Ours(..)) = self.claimant(&task)
            {
                listener.seen();
                return Ok(Ok(claimant));
            }
            // Read once more when the time is over: no event is certain to come.
            let is_last = Instant::now() >= deadline;
            let read = match is_last {
                false => self.context.client.get(self.id).await,
                // What happened while the service was away counts.
                true => self.context.client.patient(limit, CancellationToken::new()).get(self.id).await,
            };
            read_at = Instant::now();
            let last_error = match read {
                Ok(task) => match task.status.clone() {
                    Status::Pending => None,
                    Status::InProgress => {
                        listener.seen();
                        return Ok(self.claimant(&task));
                    }
                    // It was claimed in between; what that means is seen when it is read again.
                    Status::Completed => {
                        listener.unsee();
                        return Ok(self.claimant(&task));
                    }
                    // Its time was over while the service was away.
                    Status::Cancelled if is_last => return Err(self.unclaimed(limit)),
                    status => return Err(self.ended_unclaimed(&task, status)),
                },
                Err(error) if error.is_retryable() => Some(error),
                Err(error) => return Err(self.unknown(error)),
            };
            listener.seen();
            if is_last {
                return Err(last_error.map_or_else(|| self.unclaimed(limit), |error| self.unknown(error)));
            }
        }
    }

    /// Waits until the claimed task says something new.
    pub(super) async fn change(&self, listener: &mut Listener, known: Option<&P2p>) -> TaskChange {
        let mut last_read = Instant::now();
        loop {
            tokio::select! {
                () = listener.changed(self.id) => {}
                () = self.admission.knocked_after(last_read) => {}
            }
            last_read = Instant::now();
            let read = self.context.client.get(self.id).await;
            listener.seen();
            let Ok(task) = read else { continue };
            match task.status.clone() {
                // The lease lapsed: the recipient may come back and claim it anew.
                Status::Pending => *lock(&self.taker) = Taker::Nobody,
                Status::InProgress => match self.newer(&task, known) {
                    Ok(Some(p2p)) => return TaskChange::Key(p2p),
                    Ok(None) => {}
                    Err(error) => return TaskChange::Ended(error),
                },
                Status::Completed => {
                    return match self.check_completer(&task) {
                        Ok(()) => TaskChange::Completed(task.outputs),
                        Err(error) => TaskChange::Ended(error),
                    };
                }
                status => return TaskChange::Ended(self.ended_by(&task, status)),
            }
        }
    }

    /// Waits until the task is over before any byte was sent.
    pub(super) async fn over(&self, listener: &mut Listener) -> Result<()> {
        loop {
            match self.change(listener, None).await {
                TaskChange::Ended(error) => return Err(error),
                TaskChange::Completed(outputs) => return self.check_outputs(&outputs),
                TaskChange::Key(_) => {}
            }
        }
    }

    /// Reads who holds the claimed task, and refuses whom it is not for.
    ///
    /// # Errors
    /// `WRONG_CLAIMANT`, or `IDENTITY` where the recipient is not who it says, or another one than is known.
    pub(super) fn claimant(&self, task: &Task) -> Result<Claimant> {
        let claimant = self.check_claimant(task)?;
        let said = self.context.judge().claimant(task, claimant, self.offer, &self.instance())?;
        let (taker, claimant) = match said {
            Some((p2p, peer)) => {
                (Taker::Ours(p2p.identity(), p2p.handover.clone()), Claimant::Ours(Box::new(p2p), peer))
            }
            None => (Taker::Original, Claimant::Original),
        };
        *lock(&self.taker) = taker;
        Ok(claimant)
    }

    /// What became of a task that has ended: who has the file.
    ///
    /// # Errors
    /// Why nobody has it, or nobody is known to.
    pub(super) fn end(&self, task: &Task) -> Result<PeerIdentity> {
        if task.status != Status::Completed {
            return Err(self.ended_unclaimed(task, task.status.clone()));
        }
        match self.claimant(task)? {
            Claimant::Ours(known, peer) => self.check_completion(&task.outputs, &known).map(|()| peer),
            Claimant::Original => self.check_outputs(&task.outputs).map(|()| PeerIdentity::UNKNOWN),
        }
    }

    /// What the claimant, who was `known` as this, says of itself by now.
    fn newer(&self, task: &Task, known: Option<&P2p>) -> Result<Option<P2p>> {
        let claimant = self.check_claimant(task)?;
        let is_new = *lock(&self.taker) == Taker::Nobody;
        match known {
            None => Ok(None),
            Some(known) if is_new => Ok(match self.claimant(task)? {
                Claimant::Ours(p2p, _) => Some(*p2p).filter(|p2p| p2p != known),
                Claimant::Original => None,
            }),
            Some(known) => {
                let judge = self.context.judge();
                Ok(judge.newer_claimant(task, claimant, self.offer, &self.instance(), known))
            }
        }
    }

    /// The identity of whoever took the offer, and what those before say for it.
    pub(super) fn taker(&self) -> (Option<[u8; 32]>, Vec<Handover>) {
        match &*lock(&self.taker) {
            Taker::Ours(identity, handover) => (*identity, handover.clone()),
            Taker::Nobody | Taker::Original => (None, Vec::new()),
        }
    }

    /// What this side says of itself, as it stands on the task, signed.
    pub(super) fn word(&self, p2p: P2p) -> Part {
        super::word(self.context, self.key, self.id, self.offer, p2p)
    }

    /// Names this side's part in the transfer.
    fn instance(&self) -> [u8; 16] {
        self.offer.p2p.as_ref().map(|p2p| p2p.instance).unwrap_or_default()
    }

    /// Checks that a completed task says that the file arrived: by the hash of the file, whatever its name
    /// there, and by no other.
    ///
    /// # Errors
    /// `INTEGRITY`.
    pub(super) fn check_outputs(&self, outputs: &[Value]) -> Result<()> {
        let hashes = outputs.iter().flat_map(hashes_in).collect::<Vec<_>>();
        if hashes.iter().any(|hash| hash.eq_ignore_ascii_case(&self.transfer.hash)) {
            return Ok(());
        }
        let what =
            if hashes.is_empty() { "without the file's hash" } else { "with another hash than the file's" };
        Err(Error::new(
            Code::Integrity,
            format!(
                "{} completed the task of {} {what}: the file may not have arrived whole",
                self.recipient(),
                self.transfer.original_name
            ),
        ))
    }

    /// Judges a completion whose acknowledgement was not heard: it counts by the word of the peer that was
    /// admitted, and nobody else's.
    ///
    /// # Errors
    /// `IDENTITY`, `INTEGRITY`.
    pub(super) fn check_completion(&self, outputs: &[Value], known: &P2p) -> Result<()> {
        let judge = self.context.judge();
        if judge.is_completed_by(known, outputs, &self.id.to_string(), self.offer) {
            self.context.keep_receipt(self.id, self.offer, outputs.to_vec());
            return self.check_outputs(outputs);
        }
        Err(Error::new(
            Code::Identity,
            format!(
                "the task of {} was completed by somebody who is not the peer that took it",
                self.transfer.original_name
            ),
        ))
    }

    /// Keeps the receipt that the recipient gives with its acknowledgement, which may be anything.
    pub(super) fn keep_acknowledged(&self, acknowledgement: &[u8]) {
        if let Ok(output) = serde_json::from_slice(acknowledgement) {
            self.context.keep_receipt(self.id, self.offer, vec![output]);
        }
    }

    /// What a failure is: where a third party cancelled the task, that is the cause, and the peer's leaving
    /// only what came of it.
    pub(super) async fn cause(&self, error: Error) -> Error {
        if error.code != Code::RemoteError {
            return error;
        }
        let task = self.context.cancelled_task(self.id).await;
        task.map_or(error, |task| self.ended_by(&task, Status::Cancelled))
    }

    /// The recipient's id, fit to be shown.
    pub(super) fn recipient(&self) -> String {
        files::display(&self.transfer.peer_id)
    }

    /// Who holds a task, if the offer is for it.
    fn check_claimant<'t>(&self, task: &'t Task) -> Result<&'t str> {
        let claimant = task.assignee.as_ref().map_or("", |actor| actor.id.as_str());
        if claimant == self.transfer.peer_id || self.context.options.any_claimant {
            return Ok(claimant);
        }
        let claimant = files::display(claimant);
        let message = format!("{claimant} claimed the offer, which is for {}", self.recipient());
        Err(Error::new(Code::WrongClaimant, message))
    }

    fn check_completer(&self, task: &Task) -> Result<()> {
        match &task.assignee {
            Some(_) => self.check_claimant(task).map(drop),
            // A service need not remember who completed a task.
            None => Ok(()),
        }
    }

    fn unclaimed(&self, limit: Duration) -> Error {
        Error::new(
            Code::OfferExpired,
            format!(
                "{} did not accept {} within {} s; is it listening on channel {}?",
                self.recipient(),
                self.transfer.original_name,
                tenths(limit),
                files::display(self.channel),
            ),
        )
    }

    /// The service does not say what became of the offer.
    fn unknown(&self, error: AtsError) -> Error {
        let (recipient, name) = (self.recipient(), &self.transfer.original_name);
        Error::of_service(format_args!("whether {recipient} accepts {name} is not known"), error)
    }

    fn ended_unclaimed(&self, task: &Task, status: Status) -> Error {
        if status != Status::Rejected {
            return self.ended_by(task, status);
        }
        let why = task.reason.as_ref().map(|reason| format!(": {}", files::display(reason)));
        let (recipient, name) = (self.recipient(), &self.transfer.original_name);
        Error::new(Code::Rejected, format!("{recipient} rejected {name}{}", why.unwrap_or_default()))
    }

    /// Why a task that was claimed is over, from what it says.
    fn ended_by(&self, task: &Task, status: Status) -> Error {
        let why = task.reason.as_ref().map(|reason| format!(": {}", files::display(reason)));
        let code = match status {
            Status::Failed | Status::Rejected => Code::told_by_peer(task.reason.as_deref()),
            _ => Code::Cancelled,
        };
        let (recipient, name) = (self.recipient(), &self.transfer.original_name);
        let message =
            format!("the transfer of {name} to {recipient} was {status}{}", why.unwrap_or_default());
        Error::new(code, message)
    }
}

/// A time in seconds, as exact as anybody wants to read it.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// All that looks like the hash of a file in a completed task's outputs, whatever it is called there.
fn hashes_in(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) if is_sha256_hex(&text.to_ascii_lowercase()) => vec![text],
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| is_hash_name(name) || matches!(value, Value::Object(_) | Value::Array(_)))
            .flat_map(|(_, value)| hashes_in(value))
            .collect(),
        Value::Array(values) => values.iter().take(MAX_OUTPUTS).flat_map(hashes_in).collect(),
        _ => Vec::new(),
    }
}

fn is_hash_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("hash") || name.contains("sha256")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hash_is_found_under_the_names_that_it_goes_by() {
        let hash = "0".repeat(64);
        for output in [
            json!({ "hash": hash }),
            json!({ "verified": true, "fileHash": hash }),
            json!({ "file": { "sha256": hash } }),
            json!({ "type": "data", "content": { "verified": true, "SHA256": hash } }),
            json!(hash),
        ] {
            assert!(hashes_in(&output).contains(&hash.as_str()), "{output}");
        }
        for output in
            [json!({ "verified": true }), json!({ "hash": "0" }), json!({ "id": hash }), json!(null)]
        {
            assert!(hashes_in(&output).is_empty(), "{output}");
        }
    }
}
