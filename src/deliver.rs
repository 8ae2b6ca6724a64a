//! Handing the bytes of a claimed offer to its claimant: on a key of its own, or on the topic.

use std::fmt;
use std::future::Future;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hyperdht::Dht;
use hyperdht::connect::{Connection, Link, Server, ServerOptions};
use hyperswarm::{Discovery, JoinOptions, RelayThrough, Swarm, SwarmConfig};
use secret_stream::{KeyPair, PublicKey};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::ats::{Status, Task, TaskId};
use crate::connection;
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::event::{Event, Transfer};
use crate::feed::Listener;
use crate::fetch::{MAX_CANDIDATES, SECOND_CHANCE, part};
use crate::files::{self, Source};
use crate::idle::Line;
use crate::lookups::Lookups;
use crate::network::Network;
use crate::node::{Inner, lock, or_cancelled};
use crate::offer::{P2p, is_sha256_hex};
use crate::pump::{self, Control, PumpError};
use crate::receive::LAST_WORD;
use crate::send::{Claimant, check_claimant, claimant};
use crate::wire::Meta;

/// How long an unknown key's handshake is held while the task is read: the dial may overtake the event.
const HOLD: Duration = Duration::from_secs(3);

/// The shortest time between two readings of the task for the sake of unknown keys.
const KNOCK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the present connection must be silent before another process of the recipient may take over.
const SILENCE: Duration = Duration::from_secs(12);

/// How long the network may take to withdraw what was announced: nothing depends on it.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// How long the offer waits for its topic to be announced. Past it the offer is made all the same:
/// peers of ours need no topic, and the announcement goes on.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(10);

/// How long after the claim our sender waits to be dialled on a topic before it dials too: an incoming
/// duplicate can make a JavaScript peer drop the connection that already carries bytes.
const SERVER_ONLY: Duration = Duration::from_secs(5);

/// When a transfer's topic is announced.
pub(crate) enum Topic {
    /// Before the offer.
    Now([u8; 32]),
    /// When it turns out to be needed.
    Later([u8; 32]),
}

/// Where the recipient finds the sender: a key, and the transfer's topic.
pub(crate) struct Rendezvous {
    dht: Dht,
    public_key: PublicKey,
    server: Server,
    admission: Arc<Admission>,
    swarm: Option<Swarm>,
    topic: [u8; 32],
    /// For peers on the topic.
    relay: Option<RelayThrough>,
}

/// Whose handshake the key's server answers.
#[derive(Debug)]
pub(crate) struct Admission {
    admitted: watch::Sender<Option<PublicKey>>,
    /// Somebody knocks whose key is not known yet: the task should be read now.
    knock: Notify,
}

impl Rendezvous {
    /// Listens on the key, and announces the topic if it is to be found by now.
    pub(crate) async fn open(dht: &Dht, network: &Network, key_pair: KeyPair, topic: Topic) -> Result<Self> {
        let relay = network.relay();
        let topic_relay = network.relay_of_swarm(key_pair.clone());
        let admission = Arc::new(Admission { admitted: watch::Sender::new(None), knock: Notify::new() });
        let public_key = key_pair.public_key();
        let listen = async {
            let gate = admission.clone();
            let options = ServerOptions {
                firewall: Some(Arc::new(move |request| {
                    let gate = gate.clone();
                    let key = request.remote_public_key;
                    Box::pin(async move { !gate.admits(key).await })
                })),
                relay_through: relay.map(|relay| Arc::new(move || Some(relay)) as _),
                ..Default::default()
            };
            dht.listen(key_pair, options).await.map_err(Error::network)
        };
        let announce = async {
            let Topic::Now(topic) = topic else { return Ok(None) };
            let (swarm, discovery) = join(dht, topic, topic_relay.clone());
            if timeout(ANNOUNCE_LIMIT, discovery.flushed()).await.is_err() {
                tracing::debug!("the topic is not announced yet");
            }
            Ok(Some(swarm))
        };
        let (server, swarm) = tokio::try_join!(listen, announce)?;
        let (Topic::Now(topic) | Topic::Later(topic)) = topic;
        Ok(Self { dht: dht.clone(), public_key, server, admission, swarm, topic, relay: topic_relay })
    }

    /// Makes ready for another transfer with a peer that has just proven to be of ours: the key stays, and
    /// nobody is admitted yet. The topic is announced only when it turns out to be needed.
    pub(crate) fn renew(&mut self, topic: [u8; 32]) {
        self.topic = topic;
        self.admission.admitted.send_replace(None);
        // Who came in for the transfer before has no part in this one.
        while let Some(Some(_)) = self.server.accept().now_or_never() {}
    }

    /// The key that a recipient of ours dials.
    pub(crate) fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// DHT nodes that relay a handshake to it.
    pub(crate) fn relay_addresses(&self) -> Vec<SocketAddrV4> {
        self.server.relay_addresses()
    }

    /// Who may come in, and who waits before the door.
    pub(crate) fn admission(&self) -> Arc<Admission> {
        self.admission.clone()
    }

    /// Stops listening and withdraws the announcements, in the background: that takes round trips that no
    /// transfer need wait for.
    pub(crate) fn close(mut self, node: &Inner) {
        self.leave_topic(node);
        node.spawn(async move { timeout(LEAVE_LIMIT, self.server.close()).await });
    }

    fn admit(&self, key: PublicKey) {
        self.admission.admitted.send_replace(Some(key));
    }

    /// The swarm on the topic, joined now if it was not.
    fn take_swarm(&mut self) -> Swarm {
        self.swarm.take().unwrap_or_else(|| join(&self.dht, self.topic, self.relay.clone()).0)
    }

    fn leave_topic(&mut self, node: &Inner) {
        if let Some(swarm) = self.swarm.take() {
            node.spawn(async move { timeout(LEAVE_LIMIT, swarm.destroy()).await });
        }
    }
}

/// Waits on a topic, with a key of its own, so that what comes in there is never taken for the recipient's own
/// connection.
fn join(dht: &Dht, topic: [u8; 32], relay_through: Option<RelayThrough>) -> (Swarm, Discovery) {
    let config = SwarmConfig::new(dht.clone(), KeyPair::generate());
    let swarm = Swarm::new(SwarmConfig { relay_through, ..config });
    let discovery = swarm.join(topic, JoinOptions { server: true, client: false, ..Default::default() });
    (swarm, discovery)
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").field("admission", &self.admission).finish_non_exhaustive()
    }
}

impl Admission {
    /// Waits until a key knocks that nobody has named yet: the task may name it by now. Comes back no sooner
    /// than some time after the task was read last.
    pub(crate) async fn knocked_after(&self, last_read: Instant) {
        self.knock.notified().await;
        sleep_until(last_read + KNOCK_INTERVAL).await;
    }

    /// Whether a handshake with this key goes on; waits a little for the claim that names it.
    async fn admits(&self, key: PublicKey) -> bool {
        let mut admitted = self.admitted.subscribe();
        if *admitted.borrow_and_update() == Some(key) {
            return true;
        }
        self.knock.notify_one();
        matches!(timeout(HOLD, admitted.wait_for(|admitted| *admitted == Some(key))).await, Ok(Ok(_)))
    }
}

/// One delivery.
pub(crate) struct Delivery<'a> {
    pub(crate) node: &'a Arc<Inner>,
    pub(crate) transfer: &'a Transfer,
    pub(crate) task_id: &'a TaskId,
    pub(crate) admission: Arc<Admission>,
    pub(crate) recipient_id: &'a str,
    pub(crate) any_claimant: bool,
    pub(crate) source: &'a Source,
    pub(crate) meta: &'a Meta,
    pub(crate) control: &'a Control,
    pub(crate) limit: Duration,
    /// The connection in use, or the last one.
    pub(crate) link: &'a Mutex<Option<Link>>,
}

/// What a claimed task turned into.
enum Turn {
    /// The claimant dials with another key now.
    Key(P2p),
    /// It was completed with these outputs.
    Completed(Vec<Value>),
    /// It is over.
    Ended(Error),
}

impl Delivery<'_> {
    /// Hands the file to the recipient that dials with the key it named, or has dialled: on `line`, if it
    /// named the key of that one. Gives the connection back if the recipient may use it again.
    pub(crate) async fn by_key(
        &self,
        rendezvous: &mut Rendezvous,
        p2p: P2p,
        line: Option<Line>,
        listener: &mut Listener,
    ) -> Result<Option<Line>> {
        rendezvous.leave_topic(self.node);
        rendezvous.admit(p2p.key);
        let mut next = line.filter(|line| line.peer_key == p2p.key).map(Box::new);
        let mut known = p2p;
        let mut deadline = Instant::now() + self.limit;
        let mut started = false;
        let mut last = None;
        loop {
            let step = match next.take() {
                Some(line) => KeyStep::Connected(Some(line)),
                None => {
                    let step = self.or_cancelled(async {
                        tokio::select! {
                            connection = rendezvous.server.accept() => {
                                KeyStep::Connected(connection.map(|connection| Box::new(connection.into())))
                            }
                            turn = self.turn(listener, Some(&known)) => KeyStep::Turn(turn),
                            () = sleep_until(deadline) => KeyStep::Over,
                        }
                    });
                    step.await?
                }
            };
            let Line { stream, link, peer_key } = match step {
                KeyStep::Connected(Some(line)) => *line,
                KeyStep::Connected(None) => {
                    return Err(Error::new(Code::Network, "the peer network was left"));
                }
                KeyStep::Turn(Turn::Key(p2p)) => {
                    rendezvous.admit(p2p.key);
                    known = p2p;
                    continue;
                }
                KeyStep::Turn(Turn::Completed(outputs)) => {
                    return self.confirmed(&outputs, &known).map(|()| None);
                }
                KeyStep::Turn(Turn::Ended(error)) => return Err(error),
                KeyStep::Over => {
                    if self.waited_for_resume().await? {
                        deadline = Instant::now() + self.limit;
                        continue;
                    }
                    let announced = !rendezvous.relay_addresses().is_empty();
                    let step = match last {
                        Some(_) => FailedStep::Transfer,
                        None if announced => FailedStep::Handshake,
                        None => FailedStep::Network,
                    };
                    return Err(self.unreachable(last, step));
                }
            };
            if peer_key != known.key {
                continue;
            }
            self.connected(&link);
            if !std::mem::replace(&mut started, true) {
                self.node.emit(Event::TransferStart { transfer: self.transfer.clone() });
            }
            self.control.progress.send_if_modified(|moved| std::mem::take(moved) != 0);
            let sent = pump::send(stream, self.source, self.meta, self.control);
            tokio::select! {
                outcome = sent => match outcome {
                    Ok(stream) if known.features.reuse => return Ok(Some(Line { stream, link, peer_key })),
                    Ok(stream) => {
                        stream.end().await;
                        return Ok(None);
                    }
                    Err(error) if error.is_lost_connection() => last = Some(error.to_string()),
                    Err(error) => return Err(self.verdict(self.error(&error)).await),
                },
                over = self.ended(listener, &known) => match over {
                    Over::Settled(result) => return result.map(|()| None),
                    // It says where it is now; what hung until then is given up.
                    Over::Superseded(p2p) => {
                        rendezvous.admit(p2p.key);
                        known = p2p;
                        deadline = Instant::now() + self.limit;
                        continue;
                    }
                },
                // The recipient alone dials, and dials again only when it has lost what it had.
                newer = accept_from(&mut rendezvous.server, known.key) => next = Some(Box::new(newer.into())),
            }
            if *self.control.progress.borrow() != 0 {
                deadline = Instant::now() + self.limit;
            }
        }
    }

    /// Hands the file to whoever comes on the topic, until the claimant's task says that it has it.
    pub(crate) async fn by_topic(&self, rendezvous: &mut Rendezvous, listener: &mut Listener) -> Result<()> {
        let swarm = rendezvous.take_swarm();
        let turn = self.or_cancelled(async {
            tokio::select! {
                turn = self.node.turn_with_original(self.recipient_id) => Ok(turn),
                over = self.over(listener) => Err(over),
            }
        });
        let result = match turn.await {
            Ok(Ok(_turn)) => self.on_swarm(&swarm, rendezvous.topic, listener).await,
            Ok(Err(over)) => over,
            Err(aborted) => Err(aborted),
        };
        rendezvous.swarm = Some(swarm);
        result
    }

    async fn on_swarm(&self, swarm: &Swarm, topic: [u8; 32], listener: &mut Listener) -> Result<()> {
        let mut lookups = Lookups::start();
        let mut discovery: Option<Discovery> = None;
        let dial_at = Instant::now() + SERVER_ONLY;
        let mut deadline = Instant::now() + self.limit;
        let mut candidates = FuturesUnordered::new();
        let mut started = false;
        let mut acknowledged = false;
        let mut last: Option<Error> = None;
        loop {
            let step = self.or_cancelled(async {
                tokio::select! {
                    Some((connection, _)) = swarm.accept(), if candidates.len() < MAX_CANDIDATES => {
                        Step::Connected(Box::new(connection))
                    }
                    Some(outcome) = candidates.next() => Step::Candidate(outcome),
                    turn = self.turn(listener, None) => Step::Turn(turn),
                    () = lookups.due(), if discovery.is_some() => Step::LookUp,
                    () = sleep_until(dial_at), if discovery.is_none() => Step::Dial,
                    () = sleep_until(deadline) => Step::Over,
                }
            });
            let step = match step.await {
                Ok(step) => step,
                Err(aborted) => {
                    part(&mut candidates).await;
                    return Err(aborted);
                }
            };
            match step {
                Step::Connected(connection) => {
                    let link = connection.link();
                    self.connected(&link);
                    if !std::mem::replace(&mut started, true) {
                        self.node.emit(Event::TransferStart { transfer: self.transfer.clone() });
                    }
                    let sent = pump::send(connection.stream.into(), self.source, self.meta, self.control);
                    candidates.push(async move { sent.await.map(|stream| Box::new((stream, link))) });
                }
                // Anybody on the topic can say that it has the file; the task says who really does.
                Step::Candidate(Ok(delivered)) => {
                    let (stream, link) = *delivered;
                    stream.end().await;
                    *lock(self.link) = Some(link);
                    acknowledged = true;
                    deadline = Instant::now() + self.limit;
                }
                Step::Candidate(Err(error)) => {
                    let ours = matches!(error, PumpError::Source(_) | PumpError::Cancelled);
                    if ours {
                        return Err(self.error(&error));
                    }
                    last = Some(self.error(&error));
                    if error.is_lost_connection() {
                        if self.control.progress.send_if_modified(|moved| std::mem::take(moved) != 0) {
                            deadline = Instant::now() + self.limit;
                        }
                    } else if candidates.is_empty() && !acknowledged {
                        deadline = deadline.min(Instant::now() + SECOND_CHANCE);
                    }
                }
                Step::Turn(Turn::Completed(outputs)) => return self.completed(&outputs),
                Step::Turn(Turn::Ended(error)) if error.code == Code::Cancelled => return Err(error),
                Step::Turn(Turn::Ended(error)) => {
                    // The peer that ended the task says why on its connection: that is the better word.
                    let word = async {
                        while let Some(outcome) = candidates.next().await {
                            if let Err(error @ (PumpError::Nack(_) | PumpError::Remote(_))) = outcome {
                                return Some(self.error(&error));
                            }
                        }
                        None
                    };
                    let word = timeout(LAST_WORD, word).await.ok().flatten();
                    let before = last.filter(|last| last.code != Code::PeerUnreachable);
                    return Err(match error.code {
                        Code::RemoteError => word.or(before).unwrap_or(error),
                        _ => error,
                    });
                }
                Step::Turn(Turn::Key(_)) => {}
                Step::LookUp => {
                    if let Some(discovery) = &discovery {
                        discovery.look_up();
                    }
                }
                Step::Dial => {
                    let both = JoinOptions { server: true, client: true, ..Default::default() };
                    discovery = Some(swarm.join(topic, both));
                    lookups = Lookups::start();
                }
                Step::Over => {
                    // Candidates end by themselves when no byte moves.
                    if self.waited_for_resume().await? || !candidates.is_empty() {
                        deadline = Instant::now() + self.limit;
                        continue;
                    }
                    return Err(last.unwrap_or_else(|| match acknowledged {
                        true => self.unconfirmed(),
                        false => self.unreachable(None, FailedStep::Lookup),
                    }));
                }
            }
        }
    }

    /// Whether the node was suspended; it is not any more.
    async fn waited_for_resume(&self) -> Result<bool> {
        let was_suspended = self.node.network.is_suspended();
        self.or_cancelled(self.node.network.resumed()).await?;
        Ok(was_suspended)
    }

    fn connected(&self, link: &Link) {
        let connection = connection::Connection::of(link);
        self.node.emit(Event::PeerConnected { transfer: self.transfer.clone(), connection });
        *lock(self.link) = Some(link.clone());
    }

    /// Waits until the claimed task says something new.
    async fn turn(&self, listener: &mut Listener, known: Option<&P2p>) -> Turn {
        let mut last_read = Instant::now();
        loop {
            tokio::select! {
                () = listener.changed(self.task_id) => {}
                () = self.admission.knocked_after(last_read) => {}
            }
            last_read = Instant::now();
            let read = self.node.client.get(self.task_id).await;
            listener.seen();
            let Ok(task) = read else { continue };
            match task.status.clone() {
                // The lease lapsed: the recipient may come back and claim it anew.
                Status::Pending => {}
                Status::InProgress => {
                    match claimant(&task, self.recipient_id, &self.transfer.transfer_id, self.any_claimant) {
                        Ok(Claimant::Ours(p2p)) if known.is_some_and(|known| p2p.seq > known.seq) => {
                            return Turn::Key(p2p);
                        }
                        Ok(_) => {}
                        Err(error) => return Turn::Ended(error),
                    }
                }
                Status::Completed => match self.check_assignee(&task) {
                    Ok(()) => return Turn::Completed(task.outputs),
                    Err(error) => return Turn::Ended(error),
                },
                status => return Turn::Ended(self.ended_by(&task, status)),
            }
        }
    }

    /// Waits, while bytes flow, until the task is over, and a little longer for the peer's own last word; or
    /// until bytes flow no more and another process of the recipient says that it is there.
    async fn ended(&self, listener: &mut Listener, known: &P2p) -> Over {
        let mut successor: Option<P2p> = None;
        let mut progress = self.control.progress.subscribe();
        let mut silent_at = Instant::now() + SILENCE;
        loop {
            let latest = successor.as_ref().unwrap_or(known);
            let turn = tokio::select! {
                turn = self.turn(listener, Some(latest)) => turn,
                Ok(()) = progress.changed() => {
                    silent_at = Instant::now() + SILENCE;
                    continue;
                }
                () = sleep_until(silent_at), if successor.is_some() => {
                    return Over::Superseded(successor.unwrap_or_else(|| known.clone()));
                }
            };
            match turn {
                Turn::Ended(error) => {
                    if error.code != Code::Cancelled {
                        sleep(LAST_WORD).await;
                    }
                    return Over::Settled(Err(error));
                }
                Turn::Completed(outputs) => {
                    sleep(LAST_WORD).await;
                    return Over::Settled(self.confirmed(&outputs, latest).or_else(|error| {
                        // Whoever came later may have been passed over.
                        self.confirmed(&outputs, known).map_err(|_| error)
                    }));
                }
                Turn::Key(p2p) => successor = Some(p2p),
            }
        }
    }

    /// Waits until the task is over before any byte was sent.
    async fn over(&self, listener: &mut Listener) -> Result<()> {
        loop {
            match self.turn(listener, None).await {
                Turn::Ended(error) => return Err(error),
                Turn::Completed(outputs) => return self.completed(&outputs),
                Turn::Key(_) => {}
            }
        }
    }

    /// What a failure is: where a third party cancelled the task, that is the cause, and the peer's leaving
    /// only what came of it.
    async fn verdict(&self, error: Error) -> Error {
        if error.code != Code::RemoteError {
            return error;
        }
        let task = self.node.cancelled_task(self.task_id).await;
        task.map_or(error, |task| self.ended_by(&task, Status::Cancelled))
    }

    fn check_assignee(&self, task: &Task) -> Result<()> {
        match &task.assignee {
            Some(_) => check_claimant(task, self.recipient_id, self.any_claimant).map(drop),
            // A service need not remember who completed a task.
            None => Ok(()),
        }
    }

    /// Judges a completion whose ACK was not heard, by the peer that dials with the known key.
    fn confirmed(&self, outputs: &[Value], known: &P2p) -> Result<()> {
        if carries_key(outputs, known) { self.completed(outputs) } else { Err(self.completed_unheard()) }
    }

    fn completed(&self, outputs: &[Value]) -> Result<()> {
        let hashes = outputs.iter().flat_map(hashes_in).collect::<Vec<_>>();
        if hashes.is_empty() || hashes.iter().any(|hash| hash.eq_ignore_ascii_case(&self.meta.hash)) {
            return Ok(());
        }
        Err(Error::new(
            Code::Integrity,
            format!(
                "{} completed the task of {} with another hash than that of the file",
                files::display(self.recipient_id),
                self.transfer.original_name
            ),
        ))
    }

    fn ended_by(&self, task: &Task, status: Status) -> Error {
        ended_by(task, status, self.recipient_id, &self.transfer.original_name)
    }

    fn error(&self, error: &PumpError) -> Error {
        let peer = files::display(self.recipient_id);
        Error::new(error.code(), format!("{} to {peer}: {error}", self.transfer.original_name))
    }

    fn unreachable(&self, last: Option<String>, step: FailedStep) -> Error {
        let why = last.map(|last| format!(" ({last})")).unwrap_or_default();
        Error::new(
            Code::PeerUnreachable,
            format!(
                "{} accepted {} but no connection came about within {} s{why}; {}",
                files::display(self.recipient_id),
                self.transfer.original_name,
                self.limit.as_secs_f64(),
                step.help(),
            ),
        )
        .in_step(step)
    }

    fn unconfirmed(&self) -> Error {
        Error::new(
            Code::Stalled,
            format!(
                "{} was taken, but {} never confirmed it on its task",
                self.transfer.original_name,
                files::display(self.recipient_id)
            ),
        )
    }

    fn completed_unheard(&self) -> Error {
        Error::new(
            Code::Identity,
            format!(
                "the task of {} was completed by somebody who is not the peer that took it",
                self.transfer.original_name
            ),
        )
    }

    async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        or_cancelled(&self.control.cancel, async { Ok(future.await) }).await
    }
}

/// How a wait beside flowing bytes ends.
enum Over {
    /// The transfer is over.
    Settled(Result<()>),
    /// The claimant dials with another key now, and nothing moves on the one before.
    Superseded(P2p),
}

/// What comes next while the recipient is awaited on the key.
enum KeyStep {
    Connected(Option<Box<Line>>),
    Turn(Turn),
    Over,
}

/// What comes next on the topic.
enum Step {
    Connected(Box<Connection>),
    Candidate(Result<Box<(pump::Stream<udx::Stream>, Link)>, PumpError>),
    Turn(Turn),
    LookUp,
    Dial,
    Over,
}

/// Why a task that was claimed is over, from what it says.
pub(crate) fn ended_by(task: &Task, status: Status, recipient_id: &str, name: &str) -> Error {
    let why = task.reason.as_ref().map(|reason| format!(": {}", files::display(reason))).unwrap_or_default();
    let code = match status {
        Status::Failed | Status::Rejected => Code::told_by_peer(task.reason.as_deref()),
        _ => Code::Cancelled,
    };
    Error::new(code, format!("the transfer of {name} to {} was {status}{why}", files::display(recipient_id)))
}

/// The next connection that this key makes.
async fn accept_from(server: &mut Server, key: PublicKey) -> Connection {
    loop {
        match server.accept().await {
            Some(connection) if connection.remote_public_key() == key => return connection,
            Some(_) => {}
            // The server has ended, and with it the connection that is being served.
            None => std::future::pending().await,
        }
    }
}

/// Whether a completion was made by the peer that dialled with this key.
fn carries_key(outputs: &[Value], known: &P2p) -> bool {
    outputs
        .iter()
        .filter_map(|output| output.get("p2p").and_then(P2p::from_value))
        .any(|p2p| p2p.key == known.key)
}

/// All that looks like the hash of a file in a completed task's outputs, whatever it is called there.
fn hashes_in(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) if is_sha256_hex(&text.to_ascii_lowercase()) => vec![text],
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| name.to_ascii_lowercase().contains("hash") || name.contains("sha256"))
            .flat_map(|(_, value)| hashes_in(value))
            .collect(),
        Value::Array(values) => values.iter().take(16).flat_map(hashes_in).collect(),
        _ => Vec::new(),
    }
}
