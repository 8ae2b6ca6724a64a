//! Getting a file from a sender of ours: by dialling its key, until the file is here.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use hyperdht::Dht;
use hyperdht::connect::ConnectOptions;
use secret_stream::{KeyPair, Transport};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::fetch::{Fetch, FetchError};
use super::race::{TunnelWay, UdpDial, UdpRedial, race};
use crate::ats::Listener;
use crate::connection::{KEPT, PeerConnection, PeerLink, PeerStream, PooledConnection};
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::event::Phase;
use crate::offer::P2p;
use crate::pump::{PumpError, Stream};
use crate::reconnect::{ANSWER_LIMIT, Action, Reconnect};

/// How long an idle connection may take to bring the next file's metadata: a sender that heard of no event
/// reads the claim after 5 s. Past it another connection is dialled.
const REUSE_LIMIT: Duration = Duration::from_secs(8);

/// How one dial ended.
enum Dialled {
    /// By this; and what UDP comes to may take over.
    Connected(Box<PeerConnection>, Option<UdpDial>),
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
    takeover: Takeover,
}

/// By what the sender is reached, while a connection with it is in use.
struct Way<'a> {
    dht: &'a Dht,
    key_pair: &'a KeyPair,
    /// What it says of itself.
    sender: &'a mut P2p,
    takeover: &'a mut Takeover,
}

/// What goes on beside a connection through the tunnel: UDP may open a better one.
#[derive(Default)]
struct Takeover {
    later: Option<UdpDial>,
    next: Option<Box<PeerConnection>>,
}

impl Dialler<'_> {
    /// The sender has spoken anew, and is there: it may have much to read before it lets this side in.
    fn heard(&mut self) {
        let now = Instant::now();
        self.machine.begin_anew(now);
        self.machine.wake(now);
    }
}

impl Takeover {
    /// Ends the connection once a better one is there, which goes on where that was. `redial` tries for one
    /// where none is under way.
    async fn wait(&mut self, link: &PeerLink, mut redial: UdpRedial) -> Infallible {
        if matches!(link, PeerLink::Udp(_)) {
            return std::future::pending().await;
        }
        let connection = loop {
            let failed = match &mut self.later {
                Some(later) => match later.connected().await {
                    Ok(connection) => break connection,
                    Err((step, why)) => {
                        tracing::debug!("UDP does not take over from the tunnel: {why}");
                        Some(step)
                    }
                },
                None => None,
            };
            self.later = None;
            self.later = Some(redial.begin(failed).await);
        };
        self.later = None;
        self.next = Some(Box::new(connection));
        link.destroy();
        std::future::pending().await
    }

    /// Whether a connection is there, or on its way.
    fn is_near(&self) -> bool {
        self.next.is_some() || self.later.is_some()
    }
}

impl Fetch<'_> {
    /// Dials the sender's key until the file has come over, or nothing was heard for `timeout`; waits for it
    /// on `pooled` first, which is a connection that the two have, made with the same key pair.
    pub(super) async fn direct(
        &self,
        dht: &Dht,
        key_pair: KeyPair,
        pooled: Option<PeerConnection>,
    ) -> Result<Option<PathBuf>> {
        let mut sender = self.sender()?;
        let events = self.context.events(&self.open.task.channel);
        let mut listener = events.listen_for_transfer();
        if let Some(pooled) = pooled {
            let limit = REUSE_LIMIT.min(self.context.options.timeout);
            let takeover = &mut Takeover::default();
            let way = Way { dht, key_pair: &key_pair, sender: &mut sender, takeover };
            match self.over(way, pooled, limit, &mut listener).await {
                // An idle connection may have gone without a word: another one is dialled.
                Err(FetchError::Lost(_)) => self.events.enter(Phase::Connecting),
                done => return done.map_err(Error::from),
            }
        }
        let (limit, relay) = (self.context.options.timeout, self.context.network.relay());
        let machine = Reconnect::dialing(limit, relay.is_some(), Instant::now());
        let mut dialler =
            Dialler { dht, key_pair, sender, machine, last: None, takeover: Takeover::default() };
        loop {
            let connection = self.dialled(&mut dialler, &mut listener).await?;
            self.control.take_moved();
            dialler.machine.connected();
            let Dialler { key_pair, sender, takeover, .. } = &mut dialler;
            let said = sender.seq;
            let way = Way { dht, key_pair, sender, takeover };
            match self.over(way, connection, limit, &mut listener).await {
                Err(FetchError::Lost(error)) => dialler.last = Some((FailedStep::Transfer, error.message)),
                done => return done.map_err(Error::from),
            }
            self.events.enter(Phase::Connecting);
            dialler.machine.lost(self.control.take_moved(), rand::random(), Instant::now());
            if dialler.sender.seq != said {
                dialler.heard();
            } else if dialler.takeover.is_near() {
                dialler.machine.wake(Instant::now());
            }
            self.follow(&mut dialler).await?;
        }
    }

    /// The next connection that a dial brings about.
    async fn dialled(&self, dialler: &mut Dialler<'_>, listener: &mut Listener) -> Result<PeerConnection> {
        if let Some(next) = dialler.takeover.next.take() {
            return Ok(*next);
        }
        loop {
            match dialler.machine.poll(Instant::now()) {
                Action::Dial { direct, until } => match self.dial(dialler, direct, until, listener).await? {
                    Dialled::Connected(connection, later) => {
                        dialler.takeover.later = later;
                        return Ok(*connection);
                    }
                    Dialled::Moved(newer) => {
                        dialler.sender = newer;
                        dialler.machine.dial_failed(rand::random(), Instant::now());
                        dialler.heard();
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
        dialler: &mut Dialler<'_>,
        direct: bool,
        until: Instant,
        listener: &mut Listener,
    ) -> Result<Dialled> {
        let (dht, sender, keys) = (dialler.dht, &dialler.sender, &dialler.key_pair);
        let options = ConnectOptions { direct, ..self.udp_options(dht, keys, sender) };
        // What is still on its way from the dial before may yet arrive.
        let under_way = dialler.takeover.later.take().filter(|dial| dial.is_to(sender.key));
        let udp = under_way.unwrap_or_else(|| UdpDial::begin(dht, sender.key, options));
        let tunnel = self.tunnel_way(sender, keys);
        let dial = async {
            tokio::select! {
                won = timeout_at(until, race(udp, tunnel, sender.key)) => Ok(match won {
                    Ok(Ok((connection, later))) => Dialled::Connected(Box::new(connection), later),
                    Ok(Err((step, why))) => Dialled::Failed(step, why),
                    Err(_) => Dialled::Late,
                }),
                newer = self.newer_sender(sender, listener) => newer.map(Dialled::Moved),
            }
        };
        self.or_cancelled(dial).await?
    }

    fn udp_options(&self, dht: &Dht, keys: &KeyPair, sender: &P2p) -> ConnectOptions {
        ConnectOptions {
            key_pair: Some(keys.clone()),
            relay_through: self.context.network.relay(),
            answer_limit: Some(ANSWER_LIMIT),
            relay_addresses: sender.nodes.addresses().filter(|node| may_ask(dht, *node)).collect(),
            ..Default::default()
        }
    }

    /// The way by the tunnel, if this node goes where the sender can be met.
    fn tunnel_way(&self, sender: &P2p, keys: &KeyPair) -> Option<TunnelWay> {
        let tunnel = self.context.tunnels().of_peer(sender.tunnel.as_deref())?.clone();
        let network = &self.context.network;
        let (keys, udp, meetings) = (keys.clone(), network.udp(), network.meetings());
        sender.features.tunnel.then_some(TunnelWay { meetings, tunnel, keys, udp })
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
            dialler.heard();
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
        Way { dht, key_pair, sender, takeover }: Way<'_>,
        connection: PeerConnection,
        limit: Duration,
        listener: &mut Listener,
    ) -> Result<Option<PathBuf>, FetchError> {
        let PeerConnection { stream, link, peer_key } = connection;
        let options = self.udp_options(dht, key_pair, sender);
        let redial = UdpRedial::new(dht, peer_key, options, self.context.network.udp());
        let may_reuse = self.open.offer.p2p.as_ref().is_some_and(|p2p| p2p.features.reuse);
        let taken = async {
            Ok(match stream {
                PeerStream::Udp(stream) => {
                    let (path, kept) = self.take_from_stream(stream, &link, limit, may_reuse).await?;
                    (path, kept.map(PeerStream::from))
                }
                PeerStream::Tunnel(stream) => {
                    let (path, kept) = self.take_from_stream(stream, &link, limit, may_reuse).await?;
                    (path, kept.map(PeerStream::from))
                }
            })
        };
        let (path, stream) = tokio::select! {
            taken = taken => taken?,
            never = give_up_when_moved(dht, &link) => match never {},
            never = self.give_up_when_called(&link, sender, listener) => match never {},
            never = takeover.wait(&link, redial) => match never {},
        };
        if let Some(stream) = stream {
            let connection = PeerConnection { stream, link, peer_key };
            let pooled = PooledConnection { connection, end: key_pair.clone() };
            let (spawner, sender_id) = (&self.context.spawner, &self.open.offer.sender_id);
            self.context.incoming.keep(spawner, sender_id, peer_key, KEPT, pooled);
        }
        Ok(path)
    }

    /// Takes the file from one stream, on which the sender has `limit` to begin.
    async fn take_from_stream<T: Transport>(
        &self,
        stream: Stream<T>,
        link: &PeerLink,
        limit: Duration,
        may_reuse: bool,
    ) -> Result<(Option<PathBuf>, Option<Stream<T>>), FetchError> {
        let mut reception = self.reception(stream);
        match timeout(limit, reception.meta(self.control)).await {
            Ok(Ok(())) => {
                self.events.connected(link);
                self.body(reception, may_reuse).await
            }
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => Err(self.failed(PumpError::Closed)),
        }
    }

    /// Ends a connection once the sender speaks anew on the task: it does so when it has started again, or
    /// has come back to the network, and of the connections before it knows nothing then.
    async fn give_up_when_called(
        &self,
        link: &PeerLink,
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
async fn give_up_when_moved(dht: &Dht, link: &PeerLink) -> Infallible {
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
