//! Carries out what the state machines of a punch decide, with sockets of the node.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::debug;

use super::client::{ClientPunch, PunchReply, Start};
use super::puncher::{Action, Failure, Outcome, RequestNumber, Setup, Slot};
use super::server::{ClientRound, ServerPunch};
use crate::address::is_near;
use crate::command;
use crate::connect::context::Context;
use crate::connect::message::{Holepunch, Mode};
use crate::connect::path::ConnectionPath;
use crate::connect::payload::{Firewall, RelayInfo};
use crate::connect::punch::{HolepunchPayload, SecurePayload};
use crate::connect::route::Route;
use crate::crypto::random;
use crate::handle::Handle;
use crate::id::Id;
use crate::pool::PoolSocket;
use crate::rpc::{self, Answer, Via};

/// The datagram that opens a NAT. Longer ones are messages of the DHT or of streams.
const PROBE: Bytes = Bytes::from_static(&[0]);
/// Hops of a probe that only has to open our own NAT.
const SHORT_TTL: u8 = 5;
/// How often the message is sent that we will not punch. It only saves the server a wait.
const GIVE_UP_ATTEMPTS: u32 = 2;

/// What a client starts from.
pub(crate) struct PunchPlan {
    /// Of the server's key.
    pub target: Id,
    /// The number the server gave the handshake.
    pub id: u64,
    pub node: SocketAddrV4,
    pub server: SocketAddrV4,
    pub relay: RelayInfo,
    pub firewall: Firewall,
    pub has_relay: bool,
    pub holepunch_secret: [u8; 32],
}

/// Punches to a server, and connects the route by the hole. Returns the socket of the hole, or nothing if
/// another way was taken.
pub(crate) async fn punch_to_server(
    context: &Context,
    route: &Route,
    plan: PunchPlan,
) -> Result<Option<PoolSocket>, Failure> {
    let secure = Arc::new(SecurePayload::new(plan.holepunch_secret, random()));
    let asker =
        Asker { handle: context.handle.clone(), secure: secure.clone(), target: plan.target, id: plan.id };
    let start =
        Start { node: plan.node, server: plan.server, relay: plan.relay, has_relay: plan.has_relay, secure };
    let mut machine = ClientPunch::new(setup(context, true, plan.firewall).await, start);
    let mut sockets = PunchSockets::new(context.handle.clone());
    let mut answer: Option<BoxFuture<'static, Option<PunchReply>>> = None;
    loop {
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Ask { by, relay, peer, payload } => {
                    answer = Some(asker.clone().ask(sockets.via(by), relay, peer, payload).boxed());
                }
                Action::GiveUp { relay, peer, payload } => asker.give_up(relay, peer, &payload),
                Action::Answer { .. } => {}
                other => sockets.act(other).await,
            }
        }
        match machine.outcome() {
            Some(Outcome::Open { by, to }) => {
                let to = SocketAddr::V4(to);
                // Without a NAT between, there was nothing to punch.
                let path = if is_near(to) { ConnectionPath::Local } else { ConnectionPath::Punched };
                let taken = sockets.get(by).is_some_and(|by| route.take(by.socket(), to, Some(path)));
                return Ok(if taken { sockets.take(by) } else { None });
            }
            Some(Outcome::Failed(failure)) => {
                debug!(?failure, "no hole to the server");
                return Err(failure);
            }
            None => {}
        }
        tokio::select! {
            biased;
            () = route.direct() => return Ok(None),
            reply = answered(&mut answer) => machine.handle_reply(Instant::now(), reply),
            event = sockets.next() => match event {
                SocketEvent::Pong { by, node, seen_as } => {
                    machine.handle_pong(Instant::now(), by, node, seen_as);
                }
                SocketEvent::Probe { by, from } => machine.handle_probe(by, from),
            },
            () = sleep_until(machine.poll_timeout()) => machine.handle_timeout(Instant::now()),
        }
    }
}

/// A request of a client to punch.
#[derive(Debug)]
pub(crate) struct PunchRequest {
    /// As it came, to be answered.
    pub incoming: rpc::Incoming,
    /// The client as the node between sees it.
    pub peer: SocketAddrV4,
    /// We are announced at that node.
    pub is_own_relay: bool,
    /// Still encrypted.
    pub payload: Vec<u8>,
}

/// A server's sockets for one client, opened before the client asks to punch.
pub(crate) struct Prepared {
    context: Context,
    machine: ServerPunch,
    sockets: PunchSockets,
    secure: Arc<SecurePayload>,
    requests: HashMap<RequestNumber, (rpc::Incoming, SocketAddrV4)>,
    next: u64,
    _permit: OwnedSemaphorePermit,
}

impl Prepared {
    /// Opens the socket that the client will be shown, and finds out what our NAT does to it. `permit` allows
    /// to hold sockets.
    pub(crate) async fn new(
        context: Context,
        permit: OwnedSemaphorePermit,
        firewall: Firewall,
        has_relay: bool,
        holepunch_secret: [u8; 32],
    ) -> Self {
        let secure = Arc::new(SecurePayload::new(holepunch_secret, random()));
        let setup = setup(&context, false, firewall).await;
        let machine = ServerPunch::new(Instant::now(), setup, secure.clone(), has_relay);
        let sockets = PunchSockets::new(context.handle.clone());
        let mut prepared =
            Self { context, machine, sockets, secure, requests: HashMap::new(), next: 0, _permit: permit };
        prepared.act().await;
        prepared
    }

    /// The socket that the client is shown; `None` if it could not be opened.
    pub(crate) fn via(&self) -> Option<Via> {
        self.sockets.via(Slot(0))
    }

    /// Answers the client and punches to it until it has come or the punch has failed. Returns the socket
    /// that it came by.
    pub(crate) async fn run(
        mut self,
        route: &Route,
        punches: &mut mpsc::Receiver<PunchRequest>,
    ) -> Result<Option<PoolSocket>, Failure> {
        loop {
            self.act().await;
            if let Some(Outcome::Failed(failure)) = self.machine.outcome() {
                debug!(?failure, "no hole to the client");
                return Err(failure);
            }
            tokio::select! {
                biased;
                () = route.direct() => {
                    let Some(arrival) = route.arrival() else { return Ok(None) };
                    let Some(by) = self.sockets.named(arrival.socket) else { return Ok(None) };
                    if !is_near(arrival.address) {
                        route.set_arrival_path(ConnectionPath::Punched);
                    }
                    return Ok(self.sockets.take(by));
                }
                Some(punch) = punches.recv() => self.handle_punch(punch),
                event = self.sockets.next() => match event {
                    SocketEvent::Pong { by, node, seen_as } => {
                        self.machine.handle_pong(Instant::now(), by, node, seen_as);
                    }
                    SocketEvent::Probe { by, from } => self.machine.handle_probe(by, from),
                },
                () = sleep_until(self.machine.poll_timeout()) => self.machine.handle_timeout(Instant::now()),
            }
        }
    }

    fn handle_punch(&mut self, punch: PunchRequest) {
        let Some(payload) = self.secure.open(&punch.payload) else { return };
        let number = RequestNumber(self.next);
        self.next += 1;
        let incoming = punch.incoming;
        let request = ClientRound {
            number,
            by: self.sockets.slot(incoming.via),
            seen_as: incoming.to,
            from: incoming.from,
            is_own_relay: punch.is_own_relay,
            peer: punch.peer,
            payload,
        };
        // A request that was not answered by now has been sent again.
        self.requests.retain(|RequestNumber(old), _| old + MAX_REQUESTS > number.0);
        self.requests.insert(number, (incoming, punch.peer));
        self.machine.handle_request(Instant::now(), request);
    }

    async fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Answer { to, by, payload } => {
                    if let Some((incoming, client)) = self.requests.remove(&to) {
                        let payload = self.secure.seal(&payload, random());
                        let message =
                            Holepunch { mode: Mode::FromServer, id: 0, payload, peer_address: Some(client) };
                        let default = self.context.handle.network().via();
                        let via = Some(by.and_then(|by| self.sockets.via(by)).unwrap_or(default));
                        let to = incoming.from;
                        let answer = Answer::Relay { value: message.encode().into(), to, via };
                        self.context.handle.answer(incoming, answer);
                    }
                }
                Action::Ask { .. } | Action::GiveUp { .. } => {}
                other => self.sockets.act(other).await,
            }
        }
    }
}

/// Requests of one client that are kept until they are answered.
const MAX_REQUESTS: u64 = 8;

/// Speaks to the server through nodes.
#[derive(Clone)]
struct Asker {
    handle: Handle,
    secure: Arc<SecurePayload>,
    target: Id,
    id: u64,
}

impl Asker {
    async fn ask(
        self,
        via: Option<Via>,
        relay: SocketAddrV4,
        peer: SocketAddrV4,
        payload: HolepunchPayload,
    ) -> Option<PunchReply> {
        let request = self.request(relay, peer, &payload).via(via?);
        let reply = self.handle.request(request).await.ok()?;
        let message = Holepunch::decode(reply.value.as_ref()?).ok()?;
        if message.mode != Mode::Reply {
            return None;
        }
        let peer = message.peer_address?;
        Some(PunchReply {
            seen_as: reply.to,
            from: reply.from,
            peer,
            payload: self.secure.open(&message.payload),
        })
    }

    fn give_up(&self, relay: SocketAddrV4, peer: SocketAddrV4, payload: &HolepunchPayload) {
        let request = self.request(relay, peer, payload).attempts(GIVE_UP_ATTEMPTS);
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.request(request).await });
    }

    fn request(&self, relay: SocketAddrV4, peer: SocketAddrV4, payload: &HolepunchPayload) -> rpc::Request {
        let payload = self.secure.seal(payload, random());
        let message = Holepunch { mode: Mode::FromClient, id: self.id, payload, peer_address: Some(peer) };
        rpc::Request::user(command::PEER_HOLEPUNCH, self.target, relay).value(message.encode())
    }
}

/// What happened at the sockets.
enum SocketEvent {
    Pong { by: Slot, node: SocketAddrV4, seen_as: Option<SocketAddrV4> },
    Probe { by: Slot, from: SocketAddrV4 },
}

/// The open sockets of one punch.
struct PunchSockets {
    handle: Handle,
    open: Vec<(Slot, PoolSocket)>,
    pings: FuturesUnordered<BoxFuture<'static, SocketEvent>>,
}

impl PunchSockets {
    fn new(handle: Handle) -> Self {
        Self { handle, open: Vec::new(), pings: FuturesUnordered::new() }
    }

    fn get(&self, slot: Slot) -> Option<&PoolSocket> {
        // They are opened in the order of their numbers.
        let at = self.open.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        self.open.get(at).map(|(_, socket)| socket)
    }

    fn via(&self, slot: Slot) -> Option<Via> {
        self.get(slot).map(PoolSocket::via)
    }

    fn slot(&self, via: Via) -> Option<Slot> {
        self.open.iter().find(|(_, socket)| socket.via() == via).map(|(slot, _)| *slot)
    }

    fn named(&self, socket: udx::SocketId) -> Option<Slot> {
        self.open.iter().find(|(_, open)| open.socket().id() == socket).map(|(slot, _)| *slot)
    }

    fn take(&mut self, slot: Slot) -> Option<PoolSocket> {
        let at = self.open.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        Some(self.open.remove(at).1)
    }

    /// Carries out the actions that concern the sockets alone.
    async fn act(&mut self, action: Action) {
        match action {
            Action::Open(slot) => match self.handle.open_socket().await {
                Ok(socket) => self.open.push((slot, socket)),
                // Nothing can be sent by it; the other sockets may do.
                Err(error) => debug!(%error, "no socket to punch with"),
            },
            Action::Close(slot) => self.open.retain(|(open, _)| *open != slot),
            Action::Ping { by, to } => {
                let (handle, via) = (self.handle.clone(), self.via(by));
                let ping = async move {
                    let ping = rpc::Request::ping(to).attempts(1).via(via?);
                    Some(handle.request(ping).await.ok()?.to)
                };
                self.pings.push(ping.map(move |seen_as| SocketEvent::Pong { by, node: to, seen_as }).boxed());
            }
            Action::Probe { by, to, is_short } => {
                if let Some(socket) = self.get(by) {
                    match is_short {
                        true => socket.socket().send_ttl(PROBE, to.into(), SHORT_TTL),
                        false => socket.socket().send(PROBE, to.into()),
                    }
                }
            }
            Action::Ask { .. } | Action::GiveUp { .. } | Action::Answer { .. } => {}
        }
    }

    async fn next(&mut self) -> SocketEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<SocketEvent> {
        for (slot, socket) in &mut self.open {
            if let Poll::Ready(Some(from)) = socket.poll_probe(cx) {
                return Poll::Ready(SocketEvent::Probe { by: *slot, from });
            }
        }
        match self.pings.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            _ => Poll::Pending,
        }
    }
}

async fn setup(context: &Context, is_initiator: bool, remote_firewall: Firewall) -> Setup {
    Setup {
        is_initiator,
        nodes: context.handle.nodes().await,
        remote_firewall,
        throttle: context.shared.throttle.clone(),
        rng: StdRng::from_seed(random()),
    }
}

async fn answered(answer: &mut Option<BoxFuture<'static, Option<PunchReply>>>) -> Option<PunchReply> {
    match answer {
        Some(waiting) => {
            let reply = waiting.await;
            *answer = None;
            reply
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
