//! Listening: a server that peers reach by its public key.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::Instant;

use bytes::Bytes;
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::announcer::{Announcer, Order, Relays};
use super::connection::Connection;
use super::context::Context;
use super::control::Control;
use super::error::ListenError;
use super::handshakes::{Arrival, HandshakeId, Handshakes};
use super::holepunch::PunchRequest;
use super::incoming::IncomingClient;
use super::message::{Handshake, Holepunch, Mode};
use super::noise::Responder;
use super::options::ServerOptions;
use super::service::{Decision, Service};
use super::waiter::{HandshakeAnswer, Waiter};
use crate::crypto::hash;
use crate::id::Id;
use crate::router::{ServerMessage, ServerRequest};
use crate::rpc;
use crate::store::message::Peer;

/// Requests that wait for the server's task; beyond, they are dropped and sent again.
const MAX_QUEUED_REQUESTS: usize = 256;
/// Connections that wait to be accepted. Further ones wait in their own tasks, whose number is limited.
const MAX_QUEUED_CONNECTIONS: usize = 16;
/// Punch requests that wait for a handshake's task.
const MAX_QUEUED_PUNCHES: usize = 4;
/// Number of latest announces whose nodes count as our own (hyperdht/lib/announcer.js isRelay).
const RELAY_CYCLES: usize = 3;
/// Orders that wait for the announcer, which does nothing but follow them.
const MAX_QUEUED_ORDERS: usize = 4;

/// A server, found by its key for as long as this value lives. Dropping it closes it.
#[derive(Debug)]
pub struct Server {
    public_key: PublicKey,
    connections: mpsc::Receiver<Connection>,
    relays: watch::Receiver<Relays>,
    control: Control,
    /// `None` once it has ended.
    first_announce: Option<oneshot::Receiver<()>>,
    _closing: DropGuard,
}

impl Server {
    /// Starts a server, which announces itself from now on.
    pub(crate) async fn listen(
        context: Context,
        keys: KeyPair,
        options: ServerOptions,
    ) -> Result<Self, ListenError> {
        let public_key = keys.public_key();
        let target = hash(&[&public_key]);
        let requests = register(&context, target, public_key).await?;

        let (accepted, connections) = mpsc::channel(MAX_QUEUED_CONNECTIONS);
        let (relays_sender, relays) = watch::channel(Relays::default());
        let (control, orders) = Control::new();
        let (announcer_orders, announcer_receiver) = mpsc::channel(MAX_QUEUED_ORDERS);
        let (announced, first_announce) = oneshot::channel();
        let announcer = Announcer::new(context.handle.clone(), keys.clone(), target, relays_sender);
        tokio::spawn(announcer.run(announcer_receiver, announced));

        let (decisions_sender, decisions) = mpsc::unbounded_channel();
        let task = ServerTask {
            target,
            service: Service {
                context: context.clone(),
                keys,
                options,
                decisions: decisions_sender,
                accepted,
            },
            relays: relays.clone(),
            own_relays: VecDeque::new(),
            handshakes: Handshakes::new(),
            suspended: false,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            announcer: announcer_orders,
        };
        tokio::spawn(task.run(requests, orders, decisions, control.closing(), control.running()));
        context.shared.add(control.clone());
        let _closing = control.closing().drop_guard();
        let first_announce = Some(first_announce);
        Ok(Self { public_key, connections, relays, control, first_announce, _closing })
    }

    /// Waits until the first announce has ended, whether it succeeded or not. May be cancelled, and called
    /// again.
    pub async fn announced(&mut self) {
        if let Some(first) = &mut self.first_announce {
            let _ = first.await;
            self.first_announce = None;
        }
    }

    /// The key that peers connect to.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The nodes that clients ask first, at most three.
    pub fn relay_addresses(&self) -> Vec<SocketAddrV4> {
        self.relays.borrow().addresses.clone()
    }

    /// The next peer that connected. `None` once the server is closed.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }

    /// Announces the server again now.
    pub async fn refresh(&self) {
        self.control.refresh().await;
    }

    /// Withdraws the announces and ends the connections that are not established yet.
    pub async fn close(&self) {
        self.control.close().await;
    }
}

/// Makes the node hand over requests for the server.
async fn register(
    context: &Context,
    target: Id,
    public_key: PublicKey,
) -> Result<mpsc::Receiver<ServerRequest>, ListenError> {
    let (sender, requests) = mpsc::channel(MAX_QUEUED_REQUESTS);
    let record = Bytes::from(Peer { public_key, relay_addresses: Vec::new() }.encode());
    match context.handle.add_server(target, record, sender).await {
        Some(true) => Ok(requests),
        Some(false) => Err(ListenError::KeyPairAlreadyUsed),
        None => Err(ListenError::Destroyed),
    }
}

/// The state of a server, on the task that owns it.
struct ServerTask {
    target: Id,
    service: Service,
    relays: watch::Receiver<Relays>,
    /// The nodes of the last announces, the latest first.
    own_relays: VecDeque<Vec<SocketAddrV4>>,
    handshakes: Handshakes<Waiter, HandshakeAnswer>,
    suspended: bool,
    running: HashMap<task::Id, RunningHandshake>,
    tasks: JoinSet<()>,
    announcer: mpsc::Sender<Order>,
}

/// A handshake that has a task.
struct RunningHandshake {
    id: HandshakeId,
    punches: mpsc::Sender<PunchRequest>,
    task: AbortHandle,
}

impl ServerTask {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<ServerRequest>,
        mut orders: mpsc::Receiver<Order>,
        mut decisions: mpsc::UnboundedReceiver<Decision>,
        closing: CancellationToken,
        _closed: DropGuard,
    ) {
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                // The node is gone when it drops the sender.
                request = requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => break,
                },
                Some(order) = orders.recv() => self.on_order(order).await,
                Some(decision) = decisions.recv() => self.on_decision(decision),
                Some(ended) = self.tasks.join_next_with_id() => {
                    // A decision that it made before it ended still counts.
                    while let Ok(decision) = decisions.try_recv() {
                        self.on_decision(decision);
                    }
                    self.on_ended(ended);
                }
            }
        }
        self.close().await;
    }

    async fn close(mut self) {
        self.tasks.shutdown().await;
        self.service.context.handle.remove_server(self.target);
        let (done, unannounced) = oneshot::channel();
        if self.announcer.send(Order::Close(done)).await.is_ok() {
            let _ = unannounced.await;
        }
    }

    async fn on_order(&mut self, order: Order) {
        match &order {
            Order::Suspend(_) => {
                self.suspended = true;
                self.tasks.shutdown().await;
                self.running.clear();
                self.handshakes.clear();
            }
            Order::Resume => self.suspended = false,
            Order::Refresh | Order::Close(_) => {}
        }
        let _ = self.announcer.send(order).await;
    }

    fn on_request(&mut self, request: ServerRequest) {
        if self.suspended {
            return;
        }
        match request.message {
            ServerMessage::Handshake(message) => self.on_handshake(request.incoming, message),
            ServerMessage::Holepunch(message) => self.on_holepunch(request.incoming, message),
        }
    }

    fn on_handshake(&mut self, incoming: rpc::Incoming, message: Handshake) {
        let Some(waiter) = Waiter::new(incoming, &message) else { return };
        let waiter = match self.handshakes.arrive(Instant::now(), &message.noise, waiter) {
            Arrival::New(waiter) => waiter,
            Arrival::Known { waiter, answer } => return self.answer(waiter, &answer),
            Arrival::Silence => return,
        };
        let Ok((responder, payload)) = Responder::receive(self.service.keys.clone(), &message.noise) else {
            return;
        };
        let (request, client, direct) = (waiter.incoming.clone(), waiter.client(), waiter.is_direct());
        let Some(inserted) = self.handshakes.insert(&message.noise, *client.ip(), waiter) else { return };
        if let Some(evicted) = inserted.evicted
            && let Some(running) = self.running.values().find(|running| running.id == evicted)
        {
            running.task.abort();
        }
        self.start(inserted.id, IncomingClient::new(request, client, direct, responder, payload));
    }

    fn start(&mut self, id: HandshakeId, client: IncomingClient) {
        let (punches, punch_requests) = mpsc::channel(MAX_QUEUED_PUNCHES);
        self.note_relays();
        let relays = self.relays.borrow().clone();
        let task = self.tasks.spawn(client.serve(self.service.clone(), id, relays, punch_requests));
        self.running.insert(task.id(), RunningHandshake { id, punches, task });
    }

    /// Remembers the nodes of the last announces: clients still ask through them.
    fn note_relays(&mut self) {
        if self.relays.has_changed().unwrap_or(false) {
            let relays = self.relays.borrow_and_update();
            self.own_relays.push_front(relays.relays.iter().map(|relay| relay.relay).collect());
            self.own_relays.truncate(RELAY_CYCLES);
        }
    }

    fn on_decision(&mut self, decision: Decision) {
        let Some(answer) = decision.answer else {
            self.handshakes.answer(decision.id, None);
            return;
        };
        let answer = HandshakeAnswer { noise: answer, via: decision.via };
        for waiter in self.handshakes.answer(decision.id, Some(answer.clone())) {
            self.answer(waiter, &answer);
        }
    }

    fn on_ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let task = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        if let Some(running) = self.running.remove(&task) {
            // It was decided already, unless the firewall hook panicked.
            self.handshakes.answer(running.id, None);
            self.handshakes.end(Instant::now(), running.id);
        }
    }

    fn on_holepunch(&mut self, incoming: rpc::Incoming, message: Holepunch) {
        self.note_relays();
        let (Mode::FromRelay, Some(peer)) = (message.mode, message.peer_address) else { return };
        let id = usize::try_from(message.id).ok().and_then(|index| self.handshakes.by_index(index));
        let running = self.running.values().find(|running| Some(running.id) == id);
        if let Some(running) = running {
            let is_own_relay = self.own_relays.iter().flatten().any(|relay| *relay == incoming.from);
            let punch = PunchRequest { incoming, peer, is_own_relay, payload: message.payload };
            let _ = running.punches.try_send(punch);
        }
    }

    fn answer(&self, waiter: Waiter, answer: &HandshakeAnswer) {
        let (incoming, answer) = waiter.answered(answer);
        self.service.context.handle.answer(incoming, answer);
    }
}
