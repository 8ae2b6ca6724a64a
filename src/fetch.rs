//! Getting the bytes of an accepted offer: by its sender's key, or on a topic where an original sends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyperdht::Dht;
use hyperdht::connect::{ConnectOptions, Link};
use hyperswarm::{JoinOptions, Swarm, SwarmConfig};
use secret_stream::{KeyPair, SecretStream};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::event::{Event, Transfer};
use crate::files::{self, Partial, Target};
use crate::idle::{self, Idle, Line};
use crate::lookups::Lookups;
use crate::node::{Inner, lock, or_cancelled};
use crate::offer::{self, P2p, Said};
use crate::pump::{Control, PumpError, Reception, Stream};
use crate::receive::new_partial;
use crate::record::RecordId;
use crate::watch::OpenOffer;
use crate::wire::Meta;

/// Pauses before redials; the last one repeats.
const REDIAL: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// How long one dial may take before another is begun, with what is known by then.
const DIAL_LIMIT: Duration = Duration::from_secs(20);

/// A dial that failed after this long went a way on which nothing came back; others fail sooner.
const DEAD_WAY: Duration = Duration::from_secs(10);

/// How long a receiver only dials on a topic before it also announces itself there: an incoming
/// duplicate can make a JavaScript sender drop the connection that already carries bytes.
const CLIENT_ONLY: Duration = Duration::from_secs(10);

/// How long an idle connection may take to bring the next file's metadata: a sender that heard of no event
/// reads the claim after 5 s. Past it another connection is dialled.
const REUSE_LIMIT: Duration = Duration::from_secs(8);

/// Connections on a topic that are listened to at once, so that a silent one blocks nobody.
pub(crate) const MAX_CANDIDATES: usize = 8;

/// How long a candidate may be silent before it gives way to another one that waits: strangers in numbers
/// must not hold all places.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(5);

/// How long, after the only candidate failed, another one may still come.
pub(crate) const SECOND_CHANCE: Duration = Duration::from_secs(15);

type BeforeAck<'a> = Box<dyn Fn(&Path) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send + Sync + 'a>;

/// What a fetch needs of its transfer.
pub(crate) struct Fetch<'a> {
    pub(crate) node: &'a Arc<Inner>,
    pub(crate) open: &'a OpenOffer,
    pub(crate) target: &'a Target,
    pub(crate) id: &'a RecordId,
    pub(crate) transfer: &'a Transfer,
    pub(crate) control: &'a Control,
    /// Whether the start was told: redials begin nothing new.
    pub(crate) started: &'a AtomicBool,
    /// The connection in use, or the last one.
    pub(crate) link: &'a Mutex<Option<Link>>,
    /// Runs between the file being in its place and the sender being told.
    pub(crate) before_ack: BeforeAck<'a>,
}

/// How one connection failed to deliver.
enum Setback {
    /// It was lost: another one may do better.
    Lost(Error),
    /// This peer will not deliver.
    Final(Error),
}

impl Setback {
    fn into_error(self) -> Error {
        let (Self::Lost(error) | Self::Final(error)) = self;
        error
    }

    /// Until when another peer may come on the topic.
    fn wait_for_another(&self, limit: Duration) -> Instant {
        match self {
            Self::Lost(_) => Instant::now() + limit,
            Self::Final(_) => Instant::now() + SECOND_CHANCE.min(limit),
        }
    }
}

impl Fetch<'_> {
    /// Dials the sender's key until the file has come over, or nothing was heard for `timeout`; waits for it
    /// on `line` first, which is a connection that the two have, made with the same key pair.
    pub(crate) async fn by_key(
        &self,
        dht: &Dht,
        key_pair: KeyPair,
        line: Option<Line>,
        partial: Partial,
    ) -> Result<PathBuf> {
        let limit = self.node.options.timeout;
        let mut sender = self.sender()?;
        let mut partial = Some(partial);
        if let Some(Line { stream, link, peer_key }) = line {
            let fresh = self.fresh(partial.take()).await?;
            match self.over(dht, stream, &link, REUSE_LIMIT.min(limit), fresh).await {
                Ok((path, stream)) => {
                    self.keep(key_pair, stream.map(|stream| Line { stream, link, peer_key }));
                    return Ok(path);
                }
                Err(Setback::Final(error)) => return Err(error),
                // An idle connection may have gone without a word: another one is dialled.
                Err(Setback::Lost(_)) => {}
            }
        }
        let mut deadline = Instant::now() + limit;
        let mut last: Option<(FailedStep, String)> = None;
        let mut pauses = REDIAL.into_iter();
        let relay = self.node.network.relay();
        let mut direct = true;
        loop {
            let options = ConnectOptions {
                key_pair: Some(key_pair.clone()),
                relay_through: relay,
                direct,
                relay_addresses: sender.nodes.iter().copied().filter(|node| may_ask(dht, *node)).collect(),
                ..Default::default()
            };
            let until = deadline.min(Instant::now() + DIAL_LIMIT);
            let began = Instant::now();
            match self.or_cancelled(timeout_at(until, dht.connect(sender.key, options))).await? {
                Ok(Ok(connection)) => {
                    let fresh = self.fresh(partial.take()).await?;
                    self.begin_again();
                    let Line { stream, link, peer_key } = connection.into();
                    match self.over(dht, stream, &link, limit, fresh).await {
                        Ok((path, stream)) => {
                            self.keep(key_pair, stream.map(|stream| Line { stream, link, peer_key }));
                            return Ok(path);
                        }
                        Err(Setback::Final(error)) => return Err(error),
                        Err(Setback::Lost(error)) => last = Some((FailedStep::Transfer, error.message)),
                    }
                    if self.has_moved() {
                        deadline = Instant::now() + limit;
                        pauses = REDIAL.into_iter();
                    }
                }
                Ok(Err(error)) => {
                    last = Some((error.into(), error.to_string()));
                    // A direct way that seemed open may lead nowhere, and then the relay had no turn.
                    direct = !direct || relay.is_none() || began.elapsed() < DEAD_WAY;
                }
                Err(_) => {}
            }
            if self.waited_for_resume().await? {
                deadline = Instant::now() + limit;
                pauses = REDIAL.into_iter();
            }
            let pause = jittered(pauses.next().unwrap_or(REDIAL[REDIAL.len() - 1]));
            if Instant::now() + pause >= deadline {
                return Err(self.unreachable(last));
            }
            self.or_cancelled(sleep(pause)).await?;
            if let Ok(task) = self.node.client.get(&self.open.task.id).await
                && let Said::Valid(newer) =
                    offer::said_by(&task, &self.open.offer.sender_id, &self.open.offer.transfer_id)
                && newer.seq > sender.seq
            {
                sender = newer;
            }
        }
    }

    /// Takes the file from whoever delivers it on the transfer's topic.
    pub(crate) async fn by_topic(&self, dht: Dht, key_pair: KeyPair, partial: Partial) -> Result<PathBuf> {
        let relay_through = self.node.network.relay_of_swarm(key_pair.clone());
        let swarm = Swarm::new(SwarmConfig { relay_through, ..SwarmConfig::new(dht, key_pair) });
        let result = self.on_swarm(&swarm, partial).await;
        swarm.destroy().await;
        result
    }

    async fn on_swarm(&self, swarm: &Swarm, partial: Partial) -> Result<PathBuf> {
        let topic = self.node.topic(&self.open.offer.transfer_id);
        let limit = self.node.options.timeout;
        let discovery = swarm.join(topic, JoinOptions { server: false, client: true, ..Default::default() });
        let mut lookups = Lookups::start();
        let mut announced = None;
        let announce_at = Instant::now() + CLIENT_ONLY;
        let mut deadline = Instant::now() + limit;
        let mut candidates = FuturesUnordered::new();
        // Oldest first; a token is cancelled when its candidate has ended, or to end it.
        let mut silent: VecDeque<(Instant, CancellationToken)> = VecDeque::new();
        let mut partial = Some(partial);
        let mut last: Option<Error> = None;
        loop {
            silent.retain(|(_, ended)| !ended.is_cancelled());
            let has_room = candidates.len() < MAX_CANDIDATES
                || silent.front().is_some_and(|(since, _)| since.elapsed() >= GIVES_WAY_AFTER);
            let next = self.or_cancelled(async {
                tokio::select! {
                    Some((connection, _)) = swarm.accept(), if has_room => {
                        Step::Connected(connection.link(), connection.stream)
                    }
                    Some(candidate) = candidates.next() => Step::Candidate(candidate),
                    () = lookups.due() => Step::LookUp,
                    () = sleep_until(announce_at), if announced.is_none() => Step::Announce,
                    () = sleep_until(deadline) => Step::Over,
                }
            });
            let next = match next.await {
                Ok(next) => next,
                Err(aborted) => {
                    part(&mut candidates).await;
                    return Err(aborted);
                }
            };
            match next {
                Step::Connected(link, stream) => {
                    if candidates.len() >= MAX_CANDIDATES
                        && let Some((_, oldest)) = silent.pop_front()
                    {
                        oldest.cancel();
                    }
                    let ended = CancellationToken::new();
                    silent.push_back((Instant::now(), ended.clone()));
                    candidates.push(self.candidate(link, stream, ended));
                }
                Step::Candidate(Err(setback)) => {
                    deadline = deadline.min(setback.wait_for_another(limit));
                    last = Some(setback.into_error());
                }
                Step::Candidate(Ok((link, incoming))) => {
                    let fresh = self.fresh(partial.take()).await?;
                    self.begin_again();
                    self.connected(link);
                    match self.body(incoming, false, fresh).await {
                        Ok((path, _)) => return Ok(path),
                        Err(Setback::Final(error)) if error.code == Code::Aborted || is_ours(&error) => {
                            return Err(error);
                        }
                        // The bytes took their time; the wait for another begins when they have ended.
                        Err(setback) => {
                            if self.has_moved() || matches!(setback, Setback::Final(_)) {
                                deadline = setback.wait_for_another(limit);
                            }
                            last = Some(setback.into_error());
                        }
                    }
                }
                Step::LookUp => discovery.look_up(),
                Step::Announce => {
                    let both = JoinOptions { server: true, client: true, ..Default::default() };
                    announced = Some(swarm.join(topic, both));
                }
                Step::Over => {
                    if self.waited_for_resume().await? {
                        deadline = Instant::now() + limit;
                        continue;
                    }
                    return Err(last.unwrap_or_else(|| self.unreachable(None)));
                }
            }
        }
    }

    /// Waits for a candidate's metadata, until it has to give way.
    async fn candidate(
        &self,
        link: Link,
        stream: SecretStream,
        ended: CancellationToken,
    ) -> Result<(Link, Reception<udx::Stream>), Setback> {
        let _ended = ended.clone().drop_guard();
        let mut incoming = Reception::new(stream.into(), self.meta());
        match ended.run_until_cancelled(incoming.meta(self.control)).await {
            Some(Ok(())) => Ok((link, incoming)),
            Some(Err(error)) => Err(self.setback(error)),
            None => Err(self.setback(PumpError::Closed)),
        }
    }

    /// Whether the node was suspended; it is not any more.
    async fn waited_for_resume(&self) -> Result<bool> {
        let was_suspended = self.node.network.is_suspended();
        self.or_cancelled(self.node.network.resumed()).await?;
        Ok(was_suspended)
    }

    fn connected(&self, link: Link) {
        let connection = Connection::of(&link);
        self.node.emit(Event::PeerConnected { transfer: self.transfer.clone(), connection });
        *lock(self.link) = Some(link);
    }

    /// Each connection begins with the first byte.
    fn begin_again(&self) {
        self.control.progress.send_if_modified(|moved| std::mem::take(moved) != 0);
    }

    fn has_moved(&self) -> bool {
        *self.control.progress.borrow() != 0
    }

    /// Takes the file from the peer at the other end, which has `limit` to begin. Gives the stream back if
    /// the sender may use it again.
    async fn over(
        &self,
        dht: &Dht,
        stream: Stream<udx::Stream>,
        link: &Link,
        limit: Duration,
        partial: Partial,
    ) -> Result<(PathBuf, Option<Stream<udx::Stream>>), Setback> {
        let may_reuse = self.open.offer.p2p.as_ref().is_some_and(|p2p| p2p.features.reuse);
        let mut incoming = Reception::new(stream, self.meta());
        let taken = async {
            match timeout(limit, incoming.meta(self.control)).await {
                Ok(Ok(())) => {
                    self.connected(link.clone());
                    self.body(incoming, may_reuse, partial).await
                }
                Ok(Err(error)) => Err(self.setback(error)),
                Err(_) => Err(self.setback(PumpError::Closed)),
            }
        };
        tokio::select! {
            taken = taken => taken,
            never = give_up_when_moved(dht, link) => match never {},
        }
    }

    /// Lets a connection of [`Self::by_key`] wait for the sender's next offer.
    fn keep(&self, key_pair: KeyPair, line: Option<Line>) {
        if let Some(line) = line {
            let key = line.peer_key;
            let idle = Idle { line, end: key_pair };
            self.node.incoming.keep(self.node, &self.open.offer.sender_id, key, idle::KEPT, idle);
        }
    }

    async fn body(
        &self,
        mut incoming: Reception<udx::Stream>,
        may_reuse: bool,
        partial: Partial,
    ) -> Result<(PathBuf, Option<Stream<udx::Stream>>), Setback> {
        if !self.started.swap(true, Ordering::Relaxed) {
            self.node.emit(Event::TransferStart { transfer: self.transfer.clone() });
        }
        let verified = match incoming.body(partial, self.control).await {
            Ok(verified) => verified,
            Err(error) => return Err(self.setback(error)),
        };
        let path = match verified.commit().await {
            Ok(path) => path,
            Err(error) => {
                incoming.refuse(&error).await;
                return Err(self.setback(error));
            }
        };
        (self.before_ack)(&path).await;
        let acknowledged = match may_reuse {
            true => incoming.ack_and_keep().await.map(Some),
            false => incoming.ack().await.map(|()| None),
        };
        // The file is in its place: a sender that is gone by now learns it from the task.
        let stream = acknowledged.unwrap_or_else(|error| {
            tracing::debug!("the sender of {} did not hear the acknowledgement: {error}", self.name());
            None
        });
        Ok((path, stream))
    }

    fn setback(&self, error: PumpError) -> Setback {
        if error.is_lost_connection() {
            Setback::Lost(self.error(error))
        } else {
            Setback::Final(self.error(error))
        }
    }

    fn error(&self, error: PumpError) -> Error {
        let peer = files::display(&self.open.offer.sender_id);
        Error::new(error.code(), format!("{} from {peer}: {error}", self.name()))
    }

    async fn fresh(&self, partial: Option<Partial>) -> Result<Partial> {
        match partial {
            Some(partial) => Ok(partial),
            None => new_partial(self.target, self.id, self.open.offer.size).await,
        }
    }

    fn sender(&self) -> Result<P2p> {
        self.open
            .offer
            .p2p
            .clone()
            .ok_or_else(|| Error::new(Code::InvalidOffer, "the offer does not say how to reach its sender"))
    }

    fn meta(&self) -> Meta {
        let offer = &self.open.offer;
        Meta {
            name: offer.name.clone(),
            size: offer.size,
            hash: offer.hash.clone(),
            transfer_id: Some(offer.transfer_id.clone()),
        }
    }

    fn unreachable(&self, last: Option<(FailedStep, String)>) -> Error {
        let (step, why) = match last {
            Some((step, why)) => (step, format!(" ({why})")),
            None => (FailedStep::Lookup, String::new()),
        };
        Error::new(
            Code::PeerUnreachable,
            format!(
                "no connection to {} for {} within {} s{why}; {}",
                files::display(&self.open.offer.sender_id),
                self.name(),
                self.node.options.timeout.as_secs_f64(),
                step.help(),
            ),
        )
        .in_step(step)
    }

    fn name(&self) -> String {
        files::display(&self.open.offer.name)
    }

    async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        or_cancelled(&self.control.cancel, async { Ok(future.await) }).await
    }
}

enum Step {
    Connected(Link, SecretStream),
    Candidate(Result<(Link, Reception<udx::Stream>), Setback>),
    LookUp,
    Announce,
    Over,
}

/// Ends a connection that does not live on after the network has changed, or this machine slept: its stream
/// would wait a while longer for a peer that is gone, or can't find us.
async fn give_up_when_moved(dht: &Dht, link: &Link) -> Infallible {
    let mut network = dht.network();
    let mut seen = network.borrow().changes;
    loop {
        let change = network.wait_for(|network| network.changes != seen).await;
        let Ok(changes) = change.map(|network| network.changes) else {
            return std::future::pending().await;
        };
        seen = changes;
        if !link.is_alive().await {
            link.destroy();
        }
    }
}

/// How long connections that are given up may take to tell their peers.
const PARTING: Duration = Duration::from_secs(3);

/// Lets connections that have noticed their cancellation say so before they go.
pub(crate) async fn part<F: Future>(connections: &mut FuturesUnordered<F>) {
    let _ = timeout(PARTING, async { while connections.next().await.is_some() {} }).await;
}

/// The pause give or take a quarter, so that those whom one cut has hit do not all come back at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.75..1.25))
}

/// Whether a node named by a peer may be asked: one on the public network sends nobody into a private one.
fn may_ask(dht: &Dht, node: SocketAddrV4) -> bool {
    let is_private = |ip: &Ipv4Addr| ip.is_private() || ip.is_loopback() || ip.is_link_local();
    !is_private(node.ip()) || dht.remote_address().is_none_or(|own| is_private(own.ip()))
}

/// Whether an error lies on this side, so that no other peer could do better.
fn is_ours(error: &Error) -> bool {
    matches!(error.code, Code::DiskFull | Code::NotWritable | Code::AlreadyExists | Code::State)
}
