//! Getting a file from a sender of ours: by dialling its key, until the file is here.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use hyperdht::Dht;
use hyperdht::connect::{ConnectOptions, Link};
use secret_stream::KeyPair;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::fetch::{Fetch, FetchError};
use crate::ats::Listener;
use crate::connection::{KEPT, PeerConnection, PooledConnection};
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::offer::P2p;
use crate::pump::PumpError;
use crate::reconnect::{ANSWER_LIMIT, Action, Reconnect};

/// How long an idle connection may take to bring the next file's metadata: a sender that heard of no event
/// reads the claim after 5 s. Past it another connection is dialled.
const REUSE_LIMIT: Duration = Duration::from_secs(8);

/// How one dial ended.
enum Dialled {
    Connected(Box<PeerConnection>),
    /// It came to nothing, in this step, for this reason.
    Failed(FailedStep, String),
    /// It took too long.
    Late,
    /// The sender is elsewhere now.
    Moved(P2p),
}

/// The dials of one transfer.
struct Dialler<'a> {
    dht: &'a Dht,
    key_pair: KeyPair,
    /// Where the sender is, as it said last.
    sender: P2p,
    machine: Reconnect,
    /// What the last dial or connection came to.
    last: Option<(FailedStep, String)>,
}

impl Fetch<'_> {
    /// Dials the sender's key until the file has come over, or nothing was heard for `timeout`; waits for it
    /// on `pooled` first, which is a connection that the two have, made with the same key pair.
    pub(super) async fn direct(
        &self,
        dht: &Dht,
        key_pair: KeyPair,
        pooled: Option<PeerConnection>,
    ) -> Result<PathBuf> {
        let mut sender = self.sender()?;
        let events = self.context.events(&self.open.task.channel);
        let mut listener = events.listen_for_transfer();
        if let Some(pooled) = pooled {
            let limit = REUSE_LIMIT.min(self.context.options.timeout);
            match self.over(dht, &key_pair, pooled, limit, &mut sender, &mut listener).await {
                // An idle connection may have gone without a word: another one is dialled.
                Err(FetchError::Lost(_)) => {}
                done => return done.map_err(Error::from),
            }
        }
        let (limit, relay) = (self.context.options.timeout, self.context.network.relay());
        let machine = Reconnect::dialing(limit, relay.is_some(), Instant::now());
        let mut dialler = Dialler { dht, key_pair, sender, machine, last: None };
        loop {
            let connection = self.dialled(&mut dialler, &mut listener).await?;
            self.control.take_moved();
            dialler.machine.connected();
            let Dialler { key_pair, sender, .. } = &mut dialler;
            let said = sender.seq;
            match self.over(dht, key_pair, connection, limit, sender, &mut listener).await {
                Err(FetchError::Lost(error)) => dialler.last = Some((FailedStep::Transfer, error.message)),
                done => return done.map_err(Error::from),
            }
            dialler.machine.lost(self.control.take_moved(), rand::random(), Instant::now());
            if dialler.sender.seq != said {
                dialler.machine.wake(Instant::now());
            }
            self.follow(&mut dialler).await?;
        }
    }

    /// The next connection that a dial brings about.
    async fn dialled(&self, dialler: &mut Dialler<'_>, listener: &mut Listener) -> Result<PeerConnection> {
        loop {
            match dialler.machine.poll(Instant::now()) {
                Action::Dial { direct, until } => match self.dial(dialler, direct, until, listener).await? {
                    Dialled::Connected(connection) => return Ok(*connection),
                    Dialled::Moved(newer) => {
                        dialler.sender = newer;
                        dialler.machine.dial_failed(rand::random(), Instant::now());
                        dialler.machine.wake(Instant::now());
                        continue;
                    }
                    Dialled::Failed(step, why) => dialler.last = Some((step, why)),
                    Dialled::Late => {}
                },
                Action::Wait(until) => {
                    if self.is_called(dialler.dht, listener, until).await? {
                        dialler.machine.wake(Instant::now());
                    }
                    self.read_sender(dialler).await?;
                    continue;
                }
                Action::GiveUp | Action::DialFound | Action::LookUp => {
                    if !self.follow(dialler).await? {
                        return Err(self.unreachable(dialler.last.take()));
                    }
                    continue;
                }
            }
            tracing::debug!("a dial came to nothing: {:?}", dialler.last);
            dialler.machine.dial_failed(rand::random(), Instant::now());
            self.follow(dialler).await?;
        }
    }

    async fn dial(
        &self,
        dialler: &Dialler<'_>,
        direct: bool,
        until: Instant,
        listener: &mut Listener,
    ) -> Result<Dialled> {
        let (dht, sender) = (dialler.dht, &dialler.sender);
        let options = ConnectOptions {
            key_pair: Some(dialler.key_pair.clone()),
            relay_through: self.context.network.relay(),
            direct,
            answer_limit: Some(ANSWER_LIMIT),
            relay_addresses: sender.nodes.addresses().filter(|node| may_ask(dht, *node)).collect(),
            ..Default::default()
        };
        let dial = async {
            let dialled = tokio::select! {
                dialled = timeout_at(until, dht.connect(sender.key, options)) => match dialled {
                    Ok(Ok(connection)) => Dialled::Connected(Box::new(connection.into())),
                    Ok(Err(error)) => Dialled::Failed(error.into(), error.to_string()),
                    Err(_) => Dialled::Late,
                },
                newer = self.newer_sender(sender, listener) => Dialled::Moved(newer?),
            };
            Ok(dialled)
        };
        self.or_cancelled(dial).await?
    }

    /// Waits for a sign that a dial may succeed now; `false` if none comes until then.
    async fn is_called(&self, dht: &Dht, listener: &mut Listener, until: Instant) -> Result<bool> {
        let mut network = dht.network();
        let changes = network.borrow_and_update().changes;
        let called = async {
            tokio::select! {
                () = listener.called(&self.open.task.id) => true,
                Ok(_) = network.wait_for(|network| network.changes != changes) => true,
                () = sleep_until(until) => false,
            }
        };
        self.or_cancelled(called).await
    }

    /// Waits until the sender says on the task that it is elsewhere, or there anew.
    async fn newer_sender(&self, known: &P2p, listener: &mut Listener) -> Result<P2p> {
        loop {
            listener.called(&self.open.task.id).await;
            if let Some(newer) = self.said_since(known).await? {
                return Ok(newer);
            }
        }
    }

    async fn read_sender(&self, dialler: &mut Dialler<'_>) -> Result<()> {
        if let Some(newer) = self.or_cancelled(self.said_since(&dialler.sender)).await?? {
            dialler.sender = newer;
        }
        Ok(())
    }

    /// What the sender says of itself on the task, if that is newer than what is known.
    ///
    /// # Errors
    /// `ALREADY_CLAIMED` where another process of this actor, which knows nothing of this one, has spoken
    /// later before anything came here: the sender goes by the latest word.
    async fn said_since(&self, known: &P2p) -> Result<Option<P2p>> {
        let Ok(task) = self.context.client.get(&self.open.task.id).await else { return Ok(None) };
        let (judge, offer, me) = (self.context.judge(), &self.open.offer, self.context.actor_id());
        let is_outbid = |ours: &P2p| judge.newer_claimant(&task, me, offer, &ours.instance, ours).is_some();
        if !self.events.has_started() && self.ours.is_some_and(is_outbid) {
            return Err(self.taken());
        }
        Ok(judge.newer_sender(&task, offer, known))
    }

    /// Waits while this node is away from the network, and dials at once when it is back; says whether it
    /// was.
    async fn follow(&self, dialler: &mut Dialler<'_>) -> Result<bool> {
        let was_suspended = self.was_suspended().await?;
        if was_suspended {
            dialler.machine.begin_anew(Instant::now());
            dialler.machine.wake(Instant::now());
        }
        Ok(was_suspended)
    }

    /// Takes the file from the peer at the other end, which has `limit` to begin; lets the connection wait
    /// for the sender's next offer, if the sender may use it again. `sender` follows what it says of itself.
    async fn over(
        &self,
        dht: &Dht,
        key_pair: &KeyPair,
        connection: PeerConnection,
        limit: Duration,
        sender: &mut P2p,
        listener: &mut Listener,
    ) -> Result<PathBuf, FetchError> {
        let PeerConnection { stream, link, peer_key } = connection;
        let may_reuse = self.open.offer.p2p.as_ref().is_some_and(|p2p| p2p.features.reuse);
        let mut reception = self.reception(stream);
        let taken = async {
            match timeout(limit, reception.meta(self.control)).await {
                Ok(Ok(())) => {
                    self.events.connected(&link);
                    self.body(reception, may_reuse).await
                }
                Ok(Err(error)) => Err(self.failed(error)),
                Err(_) => Err(self.failed(PumpError::Closed)),
            }
        };
        let (path, stream) = tokio::select! {
            taken = taken => taken?,
            never = give_up_when_moved(dht, &link) => match never {},
            never = self.give_up_when_called(&link, sender, listener) => match never {},
        };
        if let Some(stream) = stream {
            let connection = PeerConnection { stream, link, peer_key };
            let pooled = PooledConnection { connection, end: key_pair.clone() };
            let (spawner, sender_id) = (&self.context.spawner, &self.open.offer.sender_id);
            self.context.incoming.keep(spawner, sender_id, peer_key, KEPT, pooled);
        }
        Ok(path)
    }

    /// Ends a connection once the sender speaks anew on the task: it does so when it has started again, or
    /// has come back to the network, and of the connections before it knows nothing then.
    async fn give_up_when_called(
        &self,
        link: &Link,
        sender: &mut P2p,
        listener: &mut Listener,
    ) -> Infallible {
        loop {
            // Whatever others say: who is connected was admitted.
            if let Ok(newer) = self.newer_sender(sender, listener).await {
                *sender = newer;
                link.destroy();
            }
        }
    }

    fn sender(&self) -> Result<P2p> {
        self.open
            .offer
            .p2p
            .clone()
            .ok_or_else(|| Error::new(Code::InvalidOffer, "the offer does not say how to reach its sender"))
    }
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

/// Whether a node named by a peer may be asked: one on the public network sends nobody into a private one.
fn may_ask(dht: &Dht, node: SocketAddrV4) -> bool {
    let is_private = |ip: &Ipv4Addr| ip.is_private() || ip.is_loopback() || ip.is_link_local();
    !is_private(node.ip()) || dht.remote_address().is_none_or(|own| is_private(own.ip()))
}
