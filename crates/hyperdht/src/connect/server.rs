//! Listening: a server that peers reach by its public key.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Context;
use super::announcer::{Announcer, Order, Relays};
use super::connection::Connection;
use super::error::ListenError;
use super::handshakes::{Arrival, HandshakeId, Handshakes};
use super::incoming::{Decision, Incoming, Punch, Service};
use super::message::{Handshake, Holepunch, Mode};
use super::noise::Responder;
use super::payload::NoisePayload;
use crate::crypto::hash;
use crate::id::Id;
use crate::router::{ServerMessage, ServerRequest};
use crate::rpc::filter::{is_host, may_use};
use crate::rpc::{self, Answer, Via};
use crate::store::message::Peer;

/// Requests that wait for the server's task; beyond, they are dropped and sent again.
const MAX_QUEUED_REQUESTS: usize = 256;
/// Connections that wait to be accepted; beyond, they wait in their own tasks, which the
/// limit of handshakes bounds.
const MAX_QUEUED_CONNECTIONS: usize = 16;
/// Punch requests that wait for a handshake's task.
const MAX_QUEUED_PUNCHES: usize = 4;
/// Announces whose nodes count as our own (hyperdht/lib/announcer.js isRelay).
const RELAY_CYCLES: usize = 3;
/// Orders that wait for a task which does nothing but follow them.
const MAX_QUEUED_ORDERS: usize = 4;

/// What a [`ServerOptions::firewall`] is asked.
#[derive(Clone, Debug)]
pub struct FirewallRequest {
    /// The key the peer claims. A message caught earlier may be played back by somebody else,
    /// who can't complete the connection.
    pub remote_public_key: PublicKey,
    /// What it says of itself.
    pub payload: NoisePayload,
    /// Where it is, as far as we know.
    pub address: SocketAddrV4,
}

/// Decides on a peer before it is answered: `true` refuses, and the peer hears nothing. It may
/// take seconds.
pub type FirewallHook =
    Arc<dyn Fn(FirewallRequest) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The relay to go through with a client where no direct way opens soon, if there is one. Asked
/// for each client.
pub type RelayHook = Arc<dyn Fn() -> Option<PublicKey> + Send + Sync>;

/// How a server treats those who connect.
#[derive(Clone)]
pub struct ServerOptions {
    /// `None`: everybody is welcome.
    pub firewall: Option<FirewallHook>,
    /// Tell peers our addresses in the local network, so that those in it come directly.
    /// Default: true.
    pub share_local_address: bool,
    /// Where a client wishes so too, keep the socket of a punched hole for its next connection,
    /// until three seconds after the last one has ended. Default: false.
    pub reusable_socket: bool,
    /// `None`: no relay, unless the client names one.
    pub relay_through: Option<RelayHook>,
    /// Who we are to the relay; to it as to clients if `None`.
    pub relay_keys: Option<KeyPair>,
    /// Go a direct way, if one opens. Default: true; otherwise clients come through a relay, or
    /// ask this node itself.
    pub direct: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            firewall: None,
            share_local_address: true,
            reusable_socket: false,
            relay_through: None,
            relay_keys: None,
            direct: true,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("firewall", &self.firewall.is_some())
            .field("share_local_address", &self.share_local_address)
            .field("reusable_socket", &self.reusable_socket)
            .field("relay_through", &self.relay_through.is_some())
            .field("direct", &self.direct)
            .finish()
    }
}

/// A server, found by its key for as long as this value lives. Dropping it closes it.
#[derive(Debug)]
pub struct Server {
    public_key: PublicKey,
    connections: mpsc::Receiver<Connection>,
    relays: watch::Receiver<Relays>,
    control: Control,
    _closing: DropGuard,
}

/// What the node does to its servers.
#[derive(Clone, Debug)]
pub(super) struct Control {
    orders: mpsc::Sender<Order>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Server {
    /// Starts a server and announces it, and returns when the first announce has ended,
    /// whether or not a node took it.
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
        let (orders, server_orders) = mpsc::channel(MAX_QUEUED_ORDERS);
        let (announcer_orders, announcer_receiver) = mpsc::channel(MAX_QUEUED_ORDERS);
        let control = Control { orders, closing: CancellationToken::new(), closed: CancellationToken::new() };
        let (announced, first_announce) = oneshot::channel();
        let announcer = Announcer::new(context.handle.clone(), keys.clone(), target, relays_sender);
        tokio::spawn(announcer.run(announcer_receiver, announced));

        let (decide, decisions) = mpsc::unbounded_channel();
        let task = Task {
            target,
            service: Service { context: context.clone(), keys, options, decide, accepted },
            relays: relays.clone(),
            own_relays: VecDeque::new(),
            handshakes: Handshakes::new(),
            suspended: false,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            announcer: announcer_orders,
        };
        tokio::spawn(task.run(
            requests,
            server_orders,
            decisions,
            control.closing.clone(),
            control.closed.clone().drop_guard(),
        ));
        context.shared.add(control.clone());
        let _closing = control.closing.clone().drop_guard();
        let server = Self { public_key, connections, relays, control, _closing };
        // If listening is given up meanwhile, `server` is dropped and closes itself.
        let _ = first_announce.await;
        Ok(server)
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
        let _ = self.control.orders.send(Order::Refresh).await;
    }

    /// Takes the announces back and ends the connections that are not established yet.
    pub async fn close(&self) {
        self.control.close().await;
    }
}

impl Control {
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.closed.cancelled().await;
    }

    /// Takes the announces back; those who ask meet silence.
    pub(super) async fn suspend(&self) {
        let (done, suspended) = oneshot::channel();
        if self.orders.send(Order::Suspend(done)).await.is_ok() {
            let _ = suspended.await;
        }
    }

    pub(super) async fn resume(&self) {
        let _ = self.orders.send(Order::Resume).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}

/// Makes the node hand over requests for the server.
async fn register(
    context: &Context,
    target: Id,
    public_key: PublicKey,
) -> Result<mpsc::Receiver<ServerRequest>, ListenError> {
    let (sender, requests) = mpsc::channel(MAX_QUEUED_REQUESTS);
    let (done, registered) = oneshot::channel();
    let record = Bytes::from(Peer { public_key, relay_addresses: Vec::new() }.encode());
    context.handle.with_router(move |router, forwards| {
        let is_new = router.insert_server(target, sender);
        if is_new {
            forwards.insert_own(target, record);
        }
        let _ = done.send(is_new);
    });
    match registered.await {
        Ok(true) => Ok(requests),
        Ok(false) => Err(ListenError::KeyPairAlreadyUsed),
        Err(_) => Err(ListenError::Destroyed),
    }
}

/// The state of a server, on the task that owns it.
struct Task {
    target: Id,
    service: Service,
    relays: watch::Receiver<Relays>,
    /// The nodes of the last announces, the latest first.
    own_relays: VecDeque<Vec<SocketAddrV4>>,
    handshakes: Handshakes<Asker, Answered>,
    suspended: bool,
    running: HashMap<task::Id, Running>,
    tasks: JoinSet<()>,
    announcer: mpsc::Sender<Order>,
}

/// A handshake that has a task.
struct Running {
    id: HandshakeId,
    punches: mpsc::Sender<Punch>,
    task: AbortHandle,
}

impl Task {
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
                    // What it decided before it ended counts, though it is noticed only now.
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
        let target = self.target;
        self.service.context.handle.with_router(move |router, forwards| {
            router.remove_server(&target);
            forwards.remove_own(&target);
        });
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
        let Some(asker) = Asker::new(incoming, &message) else { return };
        let asker = match self.handshakes.arrive(Instant::now(), &message.noise, asker) {
            Arrival::New(asker) => asker,
            Arrival::Known { waiter, answer } => return self.answer(waiter, &answer),
            Arrival::Silence => return,
        };
        let Ok((responder, payload)) = Responder::receive(self.service.keys.clone(), &message.noise) else {
            return;
        };
        let (request, client, direct) = (asker.incoming.clone(), asker.client(), asker.is_direct());
        let Some(inserted) = self.handshakes.insert(&message.noise, *client.ip(), asker) else { return };
        if let Some(evicted) = inserted.evicted
            && let Some(running) = self.running.values().find(|running| running.id == evicted)
        {
            running.task.abort();
        }
        self.start(inserted.id, Incoming::new(request, client, direct, responder, payload));
    }

    fn start(&mut self, id: HandshakeId, incoming: Incoming) {
        let (punches, punch_requests) = mpsc::channel(MAX_QUEUED_PUNCHES);
        self.note_relays();
        let relays = self.relays.borrow().clone();
        let task = self.tasks.spawn(incoming.serve(self.service.clone(), id, relays, punch_requests));
        self.running.insert(task.id(), Running { id, punches, task });
    }

    /// Remembers which nodes we were announced at, also lately: clients still ask through those.
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
        let answer = Answered { noise: answer, via: decision.via };
        for asker in self.handshakes.answer(decision.id, Some(answer.clone())) {
            self.answer(asker, &answer);
        }
    }

    fn on_ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let task = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        if let Some(running) = self.running.remove(&task) {
            // Decided already, unless the firewall hook panicked.
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
            let punch = Punch { incoming, peer, is_own_relay, payload: message.payload };
            let _ = running.punches.try_send(punch);
        }
    }

    fn answer(&self, asker: Asker, answer: &Answered) {
        let (incoming, answer) = asker.answered(answer);
        self.service.context.handle.answer(incoming, answer);
    }
}

/// The answer to a handshake.
#[derive(Clone, Debug, PartialEq)]
struct Answered {
    noise: Bytes,
    /// The socket it leaves by on its way through nodes; `None`: the one the request came on.
    via: Option<Via>,
}

/// Who waits for the answer to a handshake, and by which way it goes.
#[derive(Clone, Debug, PartialEq)]
struct Asker {
    incoming: rpc::Incoming,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The client asked us itself.
    Direct,
    /// Back through `node`, which the client asked.
    Relayed { client: SocketAddrV4, node: SocketAddrV4 },
}

impl Asker {
    /// Nothing if the message is none a server gets, or names an address nobody can have.
    fn new(incoming: rpc::Incoming, message: &Handshake) -> Option<Self> {
        let from = incoming.from;
        // The answer has a value of its own; hundreds may wait for theirs.
        let incoming = rpc::Incoming { value: None, ..incoming };
        let way = match message.mode {
            // An address here would be the sender's claim alone.
            Mode::FromClient => Way::Direct,
            Mode::FromRelay => Way::Relayed { client: message.peer_address?, node: from },
            Mode::FromSecondRelay => {
                let node = message.relay_address.filter(|to| may_use(*to, *from.ip()))?;
                Way::Relayed { client: message.peer_address?, node }
            }
            Mode::FromServer | Mode::Reply => return None,
        };
        let asker = Self { incoming, way };
        is_host(asker.client()).then_some(asker)
    }

    fn client(&self) -> SocketAddrV4 {
        match self.way {
            Way::Direct => self.incoming.from,
            Way::Relayed { client, .. } => client,
        }
    }

    fn is_direct(&self) -> bool {
        self.way == Way::Direct
    }

    fn answered(self, answer: &Answered) -> (rpc::Incoming, Answer) {
        let noise = answer.noise.to_vec();
        let answer = match self.way {
            Way::Direct => Answer::bare(Some(Handshake::new(Mode::Reply, noise).encode().into())),
            Way::Relayed { client, node } => {
                let message =
                    Handshake { peer_address: Some(client), ..Handshake::new(Mode::FromServer, noise) };
                Answer::Relay { value: message.encode().into(), to: node, via: answer.via }
            }
        };
        (self.incoming, answer)
    }
}
