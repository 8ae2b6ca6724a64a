//! One outgoing transfer: from the file on disk to the recipient's word that it has it.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyperdht::connect::Link;
use secret_stream::KeyPair;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::ats::{NewTask, Status, Task, TaskId};
use crate::connection::Connection;
use crate::deliver::{Admission, Delivery, Rendezvous, Topic, ended_by};
use crate::error::{Code, Error, Result};
use crate::event::{Direction, Event, Transfer};
use crate::feed::{Feed, Listener};
use crate::files::{self, SafeName, Source};
use crate::idle::{self, Idle, Line};
use crate::meter::Meter;
use crate::node::{Inner, blocking, lock, or_cancelled};
use crate::offer::{self, Features, Offer, P2p, Said};
use crate::pump::Control;
use crate::receive::CLEAN_UP;
use crate::wire::Meta;

/// The priority of an offer, the service's default: 1 to 10.
const PRIORITY: u8 = 5;

/// What to send, and to whom.
pub struct SendRequest {
    /// The file.
    pub file_path: PathBuf,
    /// The actor it is for.
    pub recipient_id: String,
    /// The channel; without, the configured one.
    pub channel: Option<String>,
    /// How long each wait for the other side lasts; without, the node's.
    pub timeout: Option<Duration>,
    /// Told the bytes that the recipient has taken, and how many there are, at most ten times a second.
    pub progress: Option<Box<dyn Fn(u64, u64) + Send + Sync>>,
    /// Ends the transfer.
    pub cancel: CancellationToken,
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
    /// The connection that they went by; none if the recipient had them already.
    pub connection: Option<Connection>,
}

/// Who claimed an offer.
pub(crate) enum Claimant {
    /// A peer of ours, which dials with this key.
    Ours(P2p),
    /// A peer of the original's kind, met on the topic.
    Original,
}

/// Sends a file.
pub(crate) async fn run(node: Arc<Inner>, request: SendRequest) -> Result<Sent> {
    let transfer_id = uuid::Uuid::new_v4().to_string();
    let cancel = request.cancel.clone();
    let source = open(&request, &cancel).await?;
    let _permit = or_cancelled(&cancel, async { Ok(node.sending.acquire().await) }).await?;
    let limit = request.timeout.unwrap_or(node.options.timeout);
    let channel = request.channel.clone().unwrap_or_else(|| node.settings.channel.clone());
    let mut outgoing = Outgoing {
        transfer: Transfer {
            direction: Direction::Send,
            transfer_id: transfer_id.clone(),
            task_id: None,
            file_name: SafeName::from_offered(source.name()).as_str().to_owned(),
            original_name: files::display(source.name()),
            size: source.size(),
            hash: String::new(),
            peer_id: request.recipient_id.clone(),
        },
        feed: node.feed(&channel),
        node: node.clone(),
        request,
        source,
        limit,
        channel,
        claimed: false,
    };
    let result = outgoing.drive().await;
    let transfer = outgoing.transfer.clone();
    match result {
        Ok(sent) => {
            node.emit(Event::TransferComplete { transfer, file_path: None });
            Ok(sent)
        }
        Err(error) => {
            let task_id = transfer.task_id.as_ref().map(TaskId::to_string);
            let error = error.of(&transfer_id, task_id.as_deref());
            node.emit(Event::TransferFailed { transfer, error: error.clone() });
            let _ = timeout(CLEAN_UP, outgoing.clean_up(&error)).await;
            Err(error)
        }
    }
}

async fn open(request: &SendRequest, cancel: &CancellationToken) -> Result<Source> {
    if request.recipient_id.is_empty() {
        return Err(Error::new(
            Code::InvalidArgument,
            "recipientId is empty: name the agent that the file is for",
        ));
    }
    let path = request.file_path.clone();
    or_cancelled(cancel, blocking(move || Source::open(&path).map_err(Error::from))).await
}

struct Outgoing {
    node: Arc<Inner>,
    request: SendRequest,
    source: Source,
    transfer: Transfer,
    feed: Arc<Feed>,
    limit: Duration,
    channel: String,
    claimed: bool,
}

impl Outgoing {
    async fn drive(&mut self) -> Result<Sent> {
        let node = self.node.clone();
        let cancel = self.request.cancel.clone();
        // The file is read while a place on the network is found.
        let hashed = async {
            let (source, cancel) = (self.source.clone(), cancel.clone());
            blocking(move || source.hash(|_| {}, &cancel).map_err(Error::from)).await
        };
        let (hash, dht) =
            or_cancelled(&cancel, async { tokio::try_join!(hashed, node.network.dht(&node.client)) }).await?;
        self.transfer.hash = hash.clone();
        let topic = node.topic(&self.transfer.transfer_id);
        let (mut rendezvous, line) = match self.idle().await {
            Some(Idle { line, end: mut rendezvous }) => {
                rendezvous.renew(topic);
                (rendezvous, Some(line))
            }
            None => {
                let is_known =
                    !node.options.any_claimant && node.acquaintances.has(&self.request.recipient_id);
                let topic = if is_known { Topic::Later(topic) } else { Topic::Now(topic) };
                let open = Rendezvous::open(&dht, &node.network, KeyPair::generate(), topic);
                (or_cancelled(&cancel, open).await?, None)
            }
        };
        let result = self.offer_and_deliver(&mut rendezvous, line).await;
        let (sent, line) = match result {
            Ok((sent, line)) => (Ok(sent), line),
            Err(error) => (Err(error), None),
        };
        match line {
            Some(line) => {
                let key = rendezvous.public_key();
                let idle = Idle { line, end: rendezvous };
                node.outgoing.keep(&node, &self.request.recipient_id, key, idle::OFFERED, idle);
            }
            None => rendezvous.close(&node),
        }
        sent
    }

    /// A connection on which the recipient got a file before. Where another actor may claim the offer,
    /// nobody is taken for it.
    async fn idle(&self) -> Option<Idle<Rendezvous>> {
        match self.node.options.any_claimant {
            true => None,
            false => self.node.outgoing.take_latest(&self.request.recipient_id).await,
        }
    }

    /// What may be used again comes back beside the result.
    async fn offer_and_deliver(
        &mut self,
        rendezvous: &mut Rendezvous,
        line: Option<Line>,
    ) -> Result<(Sent, Option<Line>)> {
        let cancel = self.request.cancel.clone();
        // Listening begins before the offer, so that no claim can be missed.
        let mut listener = self.feed.listen();
        let posted = {
            let mut post = pin!(self.post_offer(rendezvous));
            match or_cancelled(&cancel, &mut post).await {
                // What is on its way may arrive all the same, and would have to be withdrawn.
                Err(aborted) if cancel.is_cancelled() => match timeout(CLEAN_UP, post).await {
                    Ok(Ok(task)) => Ok((task, Some(aborted))),
                    _ => Err(aborted),
                },
                posted => posted.map(|task| (task, None)),
            }
        };
        let (task, aborted) = posted?;
        self.transfer.task_id = Some(task.id.clone());
        if let Some(aborted) = aborted {
            return Err(aborted);
        }
        self.node.emit(Event::OfferSent {
            transfer: self.transfer.clone(),
            recipient_id: self.request.recipient_id.clone(),
        });
        let admission = rendezvous.admission();
        let claimant = or_cancelled(&cancel, self.claimed(&task, &mut listener, &admission)).await?;
        let (source, meta) = (self.source.clone(), self.meta());
        let meter = self.meter();
        let control = Control { progress: meter.sender(), cancel, idle: self.limit };
        let link: Mutex<Option<Link>> = Mutex::default();
        let delivery = Delivery {
            node: &self.node,
            transfer: &self.transfer,
            task_id: &task.id,
            admission,
            recipient_id: &self.request.recipient_id,
            any_claimant: self.node.options.any_claimant,
            source: &source,
            meta: &meta,
            control: &control,
            limit: self.limit,
            link: &link,
        };
        let is_ours = matches!(claimant, Claimant::Ours(_));
        self.node.acquaintances.note(&self.request.recipient_id, is_ours);
        let delivered = match claimant {
            Claimant::Ours(p2p) => delivery.by_key(rendezvous, p2p, line, &mut listener).await,
            Claimant::Original => delivery.by_topic(rendezvous, &mut listener).await.map(|()| None),
        };
        drop(control);
        meter.finish().await;
        let line = delivered?.filter(|_| !self.node.options.any_claimant);
        let sent = Sent {
            transfer_id: self.transfer.transfer_id.clone(),
            task_id: task.id.to_value(),
            hash: self.transfer.hash.clone(),
            size: self.transfer.size,
            connection: lock(&link).as_ref().map(Connection::of),
        };
        Ok((sent, line))
    }

    async fn post_offer(&self, rendezvous: &Rendezvous) -> Result<Task> {
        if !self.node.client.has_clock() {
            // Who reads the offer goes by the service's clock; any answer tells it.
            match self.node.client.health().await {
                Err(error) if error.is_retryable() => return Err(error.into()),
                _ => {}
            }
        }
        let expires_at = OffsetDateTime::from(self.node.client.clock()) + self.limit;
        let offer = Offer {
            transfer_id: self.transfer.transfer_id.clone(),
            name: self.source.name().to_owned(),
            size: self.transfer.size,
            hash: self.transfer.hash.clone(),
            sender_id: self.node.actor_id().to_owned(),
            recipient_id: Some(self.request.recipient_id.clone()),
            expires_at: Some(expires_at),
            p2p: Some(P2p {
                key: rendezvous.public_key(),
                nodes: rendezvous.relay_addresses(),
                instance: rand::random(),
                seq: self.node.next_seq(),
                features: Features::OURS,
            }),
        };
        let task = NewTask {
            title: format!(
                "File for {}: {} ({} bytes)",
                files::display(&self.request.recipient_id),
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
        Ok(self.node.client.create(&task, &offer.transfer_id).await?)
    }

    /// Waits until the recipient claims the offer, and reads how it wants the bytes.
    async fn claimed(
        &mut self,
        task: &Task,
        listener: &mut Listener,
        admission: &Admission,
    ) -> Result<Claimant> {
        let mut read_at = Instant::now();
        let deadline = read_at + self.limit;
        loop {
            tokio::select! {
                // What happens to an offer that stays pending is no answer to it.
                () = listener.changed_so_that(&task.id, |task| task.status != Status::Pending) => {}
                () = admission.knocked_after(read_at) => {}
                () = sleep_until(deadline) => {}
            }
            // Read once more when the time is over: no event is certain to come.
            let is_last = Instant::now() >= deadline;
            let read = self.node.client.get(&task.id).await;
            read_at = Instant::now();
            let last_error = match read {
                Ok(now) => match now.status.clone() {
                    Status::Pending => None,
                    Status::InProgress => {
                        listener.seen();
                        self.claimed = true;
                        return self.claimant(&now);
                    }
                    // It was claimed in between; what that means is seen when it is read again.
                    Status::Completed => {
                        listener.unsee();
                        self.claimed = true;
                        return self.claimant(&now);
                    }
                    status => return Err(self.ended_unclaimed(&now, status)),
                },
                Err(error) if error.is_retryable() => Some(error),
                Err(error) => return Err(error.into()),
            };
            listener.seen();
            if is_last {
                return Err(match last_error {
                    Some(error) => error.into(),
                    None => self.unclaimed(),
                });
            }
        }
    }

    fn unclaimed(&self) -> Error {
        Error::new(
            Code::OfferExpired,
            format!(
                "{} did not accept {} within {} s; is it listening on channel {}?",
                files::display(&self.request.recipient_id),
                self.transfer.original_name,
                self.limit.as_secs_f64(),
                files::display(&self.channel),
            ),
        )
    }

    fn claimant(&self, task: &Task) -> Result<Claimant> {
        claimant(task, &self.request.recipient_id, &self.transfer.transfer_id, self.node.options.any_claimant)
    }

    fn ended_unclaimed(&self, task: &Task, status: Status) -> Error {
        let (recipient, name) = (files::display(&self.request.recipient_id), &self.transfer.original_name);
        match status {
            Status::Rejected => {
                let why = task.reason.as_ref().map(|reason| format!(": {}", files::display(reason)));
                Error::new(Code::Rejected, format!("{recipient} rejected {name}{}", why.unwrap_or_default()))
            }
            status => ended_by(task, status, &self.request.recipient_id, name),
        }
    }

    /// Leaves the task in a state that says what became of the transfer.
    async fn clean_up(&self, error: &Error) {
        let Some(task_id) = &self.transfer.task_id else { return };
        if matches!(error.code, Code::Rejected | Code::Cancelled) {
            return;
        }
        let client = &self.node.client;
        let reason = error.code.public_reason();
        // Refusals are no news: the other side may have ended the task first, or claimed it just now.
        if self.claimed {
            let _ = client.fail(task_id, reason).await;
        } else if client.cancel(task_id).await.is_err() {
            let _ = client.reject(task_id, reason).await;
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            name: self.source.name().to_owned(),
            size: self.transfer.size,
            hash: self.transfer.hash.clone(),
            transfer_id: Some(self.transfer.transfer_id.clone()),
        }
    }

    fn meter(&mut self) -> Meter {
        let (node, transfer, total) = (self.node.clone(), self.transfer.clone(), self.transfer.size);
        let progress = self.request.progress.take();
        Meter::start(move |bytes| {
            if let Some(progress) = &progress {
                progress(bytes, total);
            }
            node.emit(Event::TransferProgress { transfer: transfer.clone(), bytes });
        })
    }
}

/// Reads who holds a claimed offer, and refuses whom it is not for.
pub(crate) fn claimant(
    task: &Task,
    recipient_id: &str,
    transfer_id: &str,
    any_claimant: bool,
) -> Result<Claimant> {
    let claimant = check_claimant(task, recipient_id, any_claimant)?;
    match offer::said_by(task, claimant, transfer_id) {
        Said::Valid(p2p) => Ok(Claimant::Ours(p2p)),
        Said::Nothing => Ok(Claimant::Original),
        Said::Malformed => Err(Error::new(
            Code::Identity,
            format!("what {} says of its connection can't be read", files::display(claimant)),
        )),
    }
}

/// Who holds a task, if the offer is for it.
pub(crate) fn check_claimant<'a>(task: &'a Task, recipient_id: &str, any_claimant: bool) -> Result<&'a str> {
    let claimant = task.assignee.as_ref().map_or("", |actor| actor.id.as_str());
    if claimant == recipient_id || any_claimant {
        return Ok(claimant);
    }
    Err(Error::new(
        Code::WrongClaimant,
        format!(
            "{} claimed the offer, which is for {}",
            files::display(claimant),
            files::display(recipient_id)
        ),
    ))
}
