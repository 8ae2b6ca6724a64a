//! One outgoing transfer: from the file on disk to the recipient's word that it has it.
//!
//! # Layout
//! - `claim`: the offer's task: who claimed it, what became of it, and whether its completion is believed
//! - `delivery`: handing over the bytes; `direct` to a peer of ours, on a key; `topic` to an original
//!
//! Whether the topic is announced before the offer is decided here, in `drive`; see `connection::Topic`.

mod claim;
mod delivery;
mod direct;
mod topic;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::identity::IdentityKey;
use protocol::statement::Role;
use secret_stream::KeyPair;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::claim::{Claimant, OfferTask};
use self::delivery::Delivery;
use crate::ats::{Events, NewTask, Task, TaskId};
use crate::connection::{ConnectionInfo, OFFERED, PeerConnection, PooledConnection, Rendezvous, Topic};
use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::event::{Direction, Event, PeerIdentity, Transfer};
use crate::files::{self, SafeName, Source};
use crate::limits::CLEAN_UP;
use crate::offer::{self, Attributes, Expiry, Features, Offer, P2p};
use crate::places::HeldPlace;
use crate::progress::Progress;
use crate::pump::Control;
use crate::sync::{blocking, or_cancelled};
use crate::transfer::TransferEvents;
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
    /// Who has it.
    pub peer: PeerIdentity,
    /// The connection that they went by; none if the recipient had them already.
    pub connection: Option<ConnectionInfo>,
}

/// Sends a file.
pub(crate) async fn run(context: Arc<Context>, request: SendRequest) -> Result<Sent> {
    let transfer_id = uuid::Uuid::new_v4().to_string();
    let cancel = request.cancel.clone();
    let source = open(&request, &cancel).await?;
    let place =
        or_cancelled(&cancel, async { Ok(context.sending.enter(&request.recipient_id).await) }).await?;
    let limit = request.timeout.unwrap_or(context.options.timeout);
    let channel = request.channel.clone().unwrap_or_else(|| context.settings.channel.clone());
    let mut outgoing = OutgoingTransfer {
        transfer: Transfer {
            direction: Direction::Send,
            transfer_id: transfer_id.clone(),
            task_id: None,
            file_name: SafeName::from_offered(source.name()).as_str().to_owned(),
            original_name: files::display(source.name()),
            size: source.size(),
            hash: String::new(),
            peer_id: request.recipient_id.clone(),
            peer: PeerIdentity::UNKNOWN,
        },
        events: context.events(&channel),
        context: context.clone(),
        request,
        source,
        limit,
        channel,
        key: None,
        claimed: false,
        place,
    };
    let result = outgoing.drive().await;
    let transfer = outgoing.transfer.clone();
    match result {
        Ok(sent) => {
            context.emit(Event::TransferComplete { transfer, file_path: None });
            Ok(sent)
        }
        Err(error) => {
            let task_id = transfer.task_id.as_ref().map(TaskId::to_string);
            let error = error.of(&transfer_id, task_id.as_deref());
            context.emit(Event::TransferFailed { transfer, error: error.clone() });
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

struct OutgoingTransfer {
    context: Arc<Context>,
    request: SendRequest,
    source: Source,
    transfer: Transfer,
    events: Arc<Events>,
    limit: Duration,
    channel: String,
    /// What this side signs with.
    key: Option<IdentityKey>,
    claimed: bool,
    place: HeldPlace,
}

impl OutgoingTransfer {
    async fn drive(&mut self) -> Result<Sent> {
        let context = self.context.clone();
        let cancel = self.request.cancel.clone();
        self.place.set_working(true);
        // The file is read while a place on the network is found.
        let hashed = async {
            let (source, cancel) = (self.source.clone(), cancel.clone());
            blocking(move || source.hash(|_| {}, &cancel).map_err(Error::from)).await
        };
        let ready = async {
            let (dht, key) = (context.network.dht(&context.client), context.identity());
            tokio::try_join!(hashed, dht, key)
        };
        let (hash, dht, key) = or_cancelled(&cancel, ready).await?;
        (self.transfer.hash, self.key) = (hash, key);
        self.place.set_working(false);
        let topic = context.topic(&self.transfer.transfer_id);
        let (mut rendezvous, pooled) = match self.pooled().await {
            Some(PooledConnection { connection, end: mut rendezvous }) => {
                rendezvous.renew(topic);
                (rendezvous, Some(connection))
            }
            None => {
                let recipient = &self.transfer.peer_id;
                let takes_keys = !context.options.any_claimant
                    && (context.recent_peers.has(recipient) || context.judge().must_prove_itself(recipient));
                let topic = if takes_keys { Topic::Later(topic) } else { Topic::Now(topic) };
                let keys = KeyPair::generate();
                let open = Rendezvous::open(&dht, &context.network, &context.spawner, keys, topic);
                (or_cancelled(&cancel, open).await?, None)
            }
        };
        let (result, pooled) = match self.offer_and_deliver(&mut rendezvous, pooled).await {
            Ok((sent, connection)) => (Ok(sent), connection),
            Err(error) => (Err(error), None),
        };
        match pooled {
            Some(connection) => {
                let key = rendezvous.public_key();
                let pooled = PooledConnection { connection, end: rendezvous };
                context.outgoing.keep(&context.spawner, &self.transfer.peer_id, key, OFFERED, pooled);
            }
            None => rendezvous.close(),
        }
        result
    }

    /// A connection on which the recipient got a file before. Where another actor may claim the offer,
    /// nobody is taken for it.
    async fn pooled(&self) -> Option<PooledConnection<Rendezvous>> {
        match self.context.options.any_claimant {
            true => None,
            false => self.context.outgoing.take_latest(&self.transfer.peer_id).await,
        }
    }

    /// What may be used again comes back beside the result.
    async fn offer_and_deliver(
        &mut self,
        rendezvous: &mut Rendezvous,
        pooled: Option<PeerConnection>,
    ) -> Result<(Sent, Option<PeerConnection>)> {
        let (context, cancel) = (self.context.clone(), self.request.cancel.clone());
        // Listening begins before the offer, so that no claim can be missed.
        let mut listener = self.events.listen_for_transfer();
        let ours = self.p2p(rendezvous);
        let (task, offer) = self.post_unless_cancelled(&ours).await?;
        context.emit(Event::OfferSent {
            transfer: self.transfer.clone(),
            recipient_id: self.transfer.peer_id.clone(),
        });
        let (transfer, channel, source) = (self.transfer.clone(), self.channel.clone(), self.source.clone());
        let key = self.key.take();
        let reader = OfferTask {
            context: &context,
            id: &task.id,
            channel: &channel,
            offer: &offer,
            key: key.as_ref(),
            taker: Mutex::default(),
            transfer: &transfer,
            admission: rendezvous.admission(),
        };
        let claimed = or_cancelled(&cancel, reader.claimed(&mut listener, self.limit)).await?;
        self.claimed = true;
        let claimant = reader.claimant(&claimed)?;
        if let Claimant::Ours(_, peer) = &claimant {
            self.transfer.peer = *peer;
        }
        let progress = self.progress();
        self.place.watch(progress.sender().subscribe());
        let control = Control::new(progress.sender(), cancel, self.limit);
        let events = TransferEvents::new(&context, &self.transfer);
        let delivery = Delivery {
            context: &context,
            task: &reader,
            events: &events,
            source: &source,
            meta: &self.meta(),
            control: &control,
            limit: self.limit,
        };
        context.recent_peers.note(&transfer.peer_id, matches!(claimant, Claimant::Ours(..)));
        let delivered = match claimant {
            Claimant::Ours(theirs, _) => {
                delivery.direct(rendezvous, theirs, pooled, &mut listener, &ours).await
            }
            Claimant::Original => delivery.on_topic(rendezvous, &mut listener).await.map(|()| None),
        };
        drop(control);
        progress.finish().await;
        let connection = delivered?.filter(|_| !context.options.any_claimant);
        if !context.options.any_claimant {
            context.pin(&transfer.peer_id, reader.taker()).await;
        }
        let sent = Sent {
            transfer_id: transfer.transfer_id.clone(),
            task_id: task.id.to_value(),
            hash: transfer.hash.clone(),
            size: transfer.size,
            peer: self.transfer.peer,
            connection: events.connection(),
        };
        Ok((sent, connection))
    }

    /// Posts the offer. From then on the transfer has a task, also where it is cancelled meanwhile: what is
    /// on its way may arrive all the same, and has to be withdrawn.
    async fn post_unless_cancelled(&mut self, ours: &P2p) -> Result<(Task, Offer)> {
        let cancel = self.request.cancel.clone();
        let (posted, aborted) = {
            let mut post = pin!(self.post_offer(ours));
            let posted = or_cancelled(&cancel, async { Ok((&mut post).await) }).await;
            match posted {
                Ok(posted) => (posted?, None),
                Err(aborted) => match timeout(CLEAN_UP, post).await {
                    Ok(Ok(task)) => (task, Some(aborted)),
                    Ok(Err(_)) | Err(_) => return Err(aborted),
                },
            }
        };
        self.transfer.task_id = Some(posted.0.id.clone());
        aborted.map_or(Ok(posted), Err)
    }

    async fn post_offer(&self, ours: &P2p) -> Result<(Task, Offer)> {
        let client = &self.context.client;
        if !client.has_clock() {
            // Who reads the offer goes by the service's clock; any answer tells it.
            match client.health().await {
                Err(error) if error.is_retryable() => return Err(error.into()),
                _ => {}
            }
        }
        let expires_at = OffsetDateTime::from(client.clock()) + self.limit;
        let mut offer = Offer {
            transfer_id: self.transfer.transfer_id.clone(),
            name: self.source.name().to_owned(),
            size: self.transfer.size,
            hash: self.transfer.hash.clone(),
            sender_id: self.context.actor_id().to_owned(),
            recipient_id: Some(self.transfer.peer_id.clone()),
            expires_at: Expiry::new(expires_at),
            attributes: Attributes::default(),
            p2p: None,
            flaw: None,
        };
        let ours = self.context.judge().sign(self.key.as_ref(), Role::Sender, "", &offer, ours.clone());
        offer.p2p = Some(ours);
        let task = NewTask {
            title: format!(
                "File for {}: {} ({} bytes)",
                files::display(&self.transfer.peer_id),
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
        Ok((client.create(&task, &offer.transfer_id).await?, offer))
    }

    /// How the recipient reaches this side.
    fn p2p(&self, rendezvous: &Rendezvous) -> P2p {
        P2p {
            key: rendezvous.public_key(),
            nodes: rendezvous.relay_addresses().into_iter().collect(),
            instance: rand::random(),
            seq: self.context.next_seq(),
            features: Features::ours(),
            service: None,
            proof: None,
        }
    }

    /// Leaves the task in a state that says what became of the transfer.
    async fn clean_up(&self, error: &Error) {
        let Some(task_id) = &self.transfer.task_id else { return };
        if matches!(error.code, Code::Rejected | Code::Cancelled) {
            return;
        }
        let client = &self.context.client;
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
            resume: false,
        }
    }

    fn progress(&mut self) -> Progress {
        let (context, transfer, total) = (self.context.clone(), self.transfer.clone(), self.transfer.size);
        let told = self.request.progress.take();
        Progress::start(move |bytes| {
            if let Some(told) = &told {
                told(bytes, total);
            }
            context.emit(Event::TransferProgress { transfer: transfer.clone(), bytes });
        })
    }
}
