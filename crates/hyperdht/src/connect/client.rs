//! Dialling: a connection to the server of a public key (spec/connect.md §6).

use std::collections::{HashSet, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use secret_stream::{HandshakeResult, KeyPair, PublicKey, SecretStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::connection::{Connection, ConnectionPath, is_near};
use super::error::ConnectError;
use super::holepunch::{Way, punch_to_server};
use super::incoming::default_via;
use super::local::first_to_answer;
use super::message::{Handshake, Mode};
use super::noise::{Initiator, holepunch_secret};
use super::path::{Answered, Own, Path, client_path};
use super::payload::{Firewall, NoisePayload, RelayThrough, UdxInfo, VERSION, error};
use super::peer_address::PeerAddress;
use super::reuse::Hole;
use super::route::{Hook, Route, Sender};
use super::ways::{Agreement, Ways, keep};
use super::{Context, lock, random};
use crate::address::local_addresses;
use crate::command;
use crate::crypto::hash;
use crate::handle::Query;
use crate::id::Id;
use crate::pool::PoolSocket;
use crate::rpc::filter::is_host;
use crate::rpc::{QuerySpec, Reply, Request, RequestError, Via};
use crate::store::message::Peer;

/// How long a server is asked through an open hole before others are.
const HOLE_PATIENCE: Duration = Duration::from_secs(1);
/// Nodes asked at once: found ones, and one more while hints are asked in turn.
const PARALLEL: usize = 2;
/// Nodes asked because somebody named them: servers name three.
const MAX_HINTS: usize = 6;
/// Nodes that wait to be asked. The query goes on; what it finds beyond is not needed.
const MAX_WAITING: usize = 64;
/// Sends of each request of the query.
const QUERY_ATTEMPTS: u32 = 4;
/// How long the server has to come to us (hyperdht/lib/connect.js passiveConnectTimeout).
const SERVER_WAIT: Duration = Duration::from_secs(10);
/// How long the server's first bytes may take once the stream is connected. A dead path is
/// given up by udx after about twelve seconds.
const HEADER_WAIT: Duration = Duration::from_secs(15);
/// The same in the local network, where bytes take milliseconds.
const LOCAL_HEADER_WAIT: Duration = Duration::from_secs(5);

/// How to dial.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Who we are to the peer; the node's own key pair if `None`.
    pub key_pair: Option<KeyPair>,
    /// Nodes to ask first.
    pub relay_addresses: Vec<SocketAddrV4>,
    /// Try the peer's addresses in the local network, and tell it ours. Default: true.
    pub local_connection: bool,
    /// Where the server wishes so too, keep the socket of a punched hole for the next connection
    /// to it, until three seconds after the last one has ended. Default: false.
    pub reusable_socket: bool,
    /// A relay to go through where no direct way opens soon, unless the server names another
    /// one. It must run somewhere that both peers reach.
    pub relay_through: Option<PublicKey>,
    /// Who we are to the relay; to it as to the peer if `None`.
    pub relay_keys: Option<KeyPair>,
    /// Go a direct way, if one opens. Default: true; otherwise only a relay helps.
    pub direct: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            key_pair: None,
            relay_addresses: Vec::new(),
            local_connection: true,
            reusable_socket: false,
            relay_through: None,
            relay_keys: None,
            direct: true,
        }
    }
}

/// Connects to the peer. Dropping the future gives up.
pub(crate) async fn connect(
    context: &Context,
    default_keys: &KeyPair,
    peer: PeerAddress,
    options: ConnectOptions,
) -> Result<Connection, ConnectError> {
    connect_by(context, default_keys, peer, options, true).await
}

/// Connects to a relay, for which no other relay helps.
pub(crate) async fn connect_directly(
    context: &Context,
    keys: &KeyPair,
    relay: PublicKey,
) -> Result<Connection, ConnectError> {
    // Boxed, since connecting to a peer is what asks for this.
    Box::pin(connect_by(context, keys, relay.into(), ConnectOptions::default(), false)).await
}

async fn connect_by(
    context: &Context,
    default_keys: &KeyPair,
    peer: PeerAddress,
    options: ConnectOptions,
    may_relay: bool,
) -> Result<Connection, ConnectError> {
    out_of_service(context).map_or(Ok(()), Err)?;
    let result = try_connect(context, default_keys, peer, options, may_relay).await;
    // A node that ends or is suspended meanwhile is the cause of whatever failed.
    result.map_err(|error| out_of_service(context).unwrap_or(error))
}

fn out_of_service(context: &Context) -> Option<ConnectError> {
    let network = context.handle.network();
    if network.destroyed {
        Some(ConnectError::Destroyed)
    } else {
        network.suspended.then_some(ConnectError::Suspended)
    }
}

async fn try_connect(
    context: &Context,
    default_keys: &KeyPair,
    peer: PeerAddress,
    options: ConnectOptions,
    may_relay: bool,
) -> Result<Connection, ConnectError> {
    let began = Instant::now();
    let network = context.handle.network();
    let hook = Hook::early();
    let stream_options =
        udx::StreamOptions { firewall: Some(hook.firewall()), ..udx::StreamOptions::default() };
    let stream = context.handle.udx().stream(stream_options).await.map_err(|_| ConnectError::Destroyed)?;

    // Whoever goes no direct way names none.
    let local = (options.local_connection && options.direct).then(|| own_local_addresses(context));
    let public = network.remote_address.filter(|_| options.direct);
    let own = Own { open: public.is_some(), local };
    let relay_through = options.relay_through.map(|public_key| RelayThrough { public_key, token: random() });
    let payload = NoisePayload {
        firewall: if own.open { Firewall::Open } else { Firewall::Unknown },
        addresses4: public.into_iter().chain(own.local.iter().flatten().copied()).collect(),
        udx: Some(UdxInfo { reusable_socket: options.reusable_socket, id: stream.id(), seq: 0 }),
        secret_stream: Some(1),
        relay_through,
        ..NoisePayload::default()
    };
    let keys = options.key_pair.unwrap_or_else(|| default_keys.clone());
    // A key that is no point of the curve is nobody's.
    let initiator =
        Initiator::new(keys.clone(), peer.public_key, &payload).map_err(|_| ConnectError::PeerNotFound)?;

    let target = hash(&[&peer.public_key]);
    let hints = hints(context, &peer, options.relay_addresses, target).await;
    let search = Search { context, target, initiator: &initiator, hints };
    let hole = options.reusable_socket.then(|| context.shared.holes.get(&peer.public_key)).flatten();
    let (session, asked) = match search.ask_through(hole.as_deref()).await {
        Some(session) => (session, Vec::new()),
        None => search.run().await?,
    };
    let route = Route::new(hook, stream.handle());
    let first = route.arm(session.remote_id);
    let agreement = Agreement::new(session.payload.relay_through, relay_through, false).filter(|_| may_relay);
    let has_relay = agreement.is_some();
    let dial = Arc::new(Dial {
        context: context.clone(),
        target,
        own,
        route,
        first,
        has_relay,
        session,
        is_reusable: options.reusable_socket,
        socket: Mutex::default(),
    });
    let mut ways = if options.direct { Ways::new(dial.clone().find_way().boxed()) } else { Ways::none() };
    if let Some(agreement) = agreement {
        let keys = options.relay_keys.as_ref().unwrap_or(&keys);
        ways = ways.relayed(context, keys, agreement, stream.id());
    }
    match ways.first(&dial.route).await? {
        Some(link) => {
            tokio::spawn(keep(link, dial.route.clone()));
            tokio::spawn(ways.go_on(dial.route.clone()));
        }
        None => drop(tokio::spawn(ways.watch(dial.route.clone()))),
    }
    prove(&dial, stream, peer.public_key, asked, began).await
}

/// Where this host may be reached in its own network.
fn own_local_addresses(context: &Context) -> Vec<SocketAddrV4> {
    let socket = context.handle.socket(Via::Server);
    socket.map(|socket| local_addresses(socket.local_addr())).unwrap_or_default()
}

/// The nodes to ask before a query has found any.
async fn hints(
    context: &Context,
    peer: &PeerAddress,
    mut hints: Vec<SocketAddrV4>,
    target: Id,
) -> Vec<SocketAddrV4> {
    if hints.is_empty() {
        hints.clone_from(&peer.relay_addresses);
    }
    if hints.is_empty() {
        hints = context.shared.known_relays(&peer.public_key);
    }
    if let Some(relay) = announced_here(context, target).await {
        hints = vec![relay];
    }
    // They may come from strangers, who should not aim our requests.
    hints.retain(|hint| is_host(*hint));
    hints.truncate(MAX_HINTS);
    hints
}

/// Where the server announced itself from, if it did so at this node.
async fn announced_here(context: &Context, target: Id) -> Option<SocketAddrV4> {
    let (sender, relay) = oneshot::channel();
    context.handle.with_router(move |_, forwards| {
        let relay = forwards.get(std::time::Instant::now(), &target).map(|forward| forward.relay);
        let _ = sender.send(relay);
    });
    relay.await.ok().flatten()
}

/// A server's answer, read.
struct Session {
    answered: Answered,
    via: Via,
    payload: NoisePayload,
    remote_id: u32,
    result: HandshakeResult,
}

/// Looks for nodes that know the server, and for the server through them.
struct Search<'a> {
    context: &'a Context,
    target: Id,
    initiator: &'a Initiator,
    hints: Vec<SocketAddrV4>,
}

/// What asking one node came to.
type Asked = (Lane, Result<Session, Failure>);

#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Hint,
    Found,
}

enum Failure {
    /// This node leads nowhere; another may.
    Node,
    /// The server itself has refused, or this node has ended.
    Final(ConnectError),
}

impl Search<'_> {
    /// The first valid answer, and the nodes that were asked for it.
    async fn run(self) -> Result<(Session, Vec<SocketAddrV4>), ConnectError> {
        let mut hints: VecDeque<_> = self.hints.iter().copied().collect();
        let mut parallel = PARALLEL + usize::from(!hints.is_empty());
        let mut asking: FuturesUnordered<BoxFuture<'_, Asked>> = FuturesUnordered::new();
        let mut asked: Vec<SocketAddrV4> = Vec::new();
        let mut seen: HashSet<SocketAddrV4> = self.hints.iter().copied().collect();
        let mut waiting: VecDeque<SocketAddrV4> = VecDeque::new();
        let mut found_any = false;
        let mut query = Some(self.find_peer(self.hints.clone()));
        // A query that began at the hints may have found nothing because they were no good.
        let mut second_pass = !hints.is_empty();

        if let Some(hint) = hints.pop_front() {
            asked.push(hint);
            asking.push(self.ask(Lane::Hint, hint));
        }
        loop {
            while asking.len() < parallel
                && let Some(node) = waiting.pop_front()
            {
                asked.push(node);
                asking.push(self.ask(Lane::Found, node));
            }
            if query.is_none() && asking.is_empty() {
                if second_pass {
                    second_pass = false;
                    query = Some(self.find_peer(Vec::new()));
                } else if found_any {
                    return Err(ConnectError::PeerConnectionFailed);
                } else {
                    return Err(ConnectError::PeerNotFound);
                }
            }
            tokio::select! {
                Some((lane, result)) = asking.next() => {
                    match result {
                        Ok(session) => return Ok((session, asked)),
                        Err(Failure::Final(error)) => return Err(error),
                        Err(Failure::Node) => {}
                    }
                    if lane == Lane::Hint {
                        match hints.pop_front() {
                            Some(hint) => {
                                asked.push(hint);
                                asking.push(self.ask(Lane::Hint, hint));
                            }
                            None => parallel = PARALLEL,
                        }
                    }
                }
                reply = next_reply(&mut query), if query.is_some() => match reply {
                    Some(reply) => {
                        if knows_peer(&reply) && waiting.len() < MAX_WAITING && seen.insert(reply.from) {
                            found_any = true;
                            waiting.push_back(reply.from);
                        }
                    }
                    None => query = None,
                },
            }
        }
    }

    /// Asks the server itself, where a hole leads to it.
    async fn ask_through(&self, hole: Option<&Hole>) -> Option<Session> {
        let hole = hole?;
        let request = self.request(hole.address()).via(hole.via());
        timeout(HOLE_PATIENCE, self.answer_to(request)).await.ok()?.ok()
    }

    fn find_peer(&self, nodes: Vec<SocketAddrV4>) -> Query {
        let spec = QuerySpec { attempts: QUERY_ATTEMPTS, ..QuerySpec::user(command::FIND_PEER, self.target) };
        self.context.handle.query(spec.nodes(nodes))
    }

    fn ask(&self, lane: Lane, node: SocketAddrV4) -> BoxFuture<'_, Asked> {
        async move { (lane, self.answer_to(self.request(node)).await) }.boxed()
    }

    /// Asks one node to pass the handshake on.
    fn request(&self, node: SocketAddrV4) -> Request {
        let message = Handshake::new(Mode::FromClient, self.initiator.message().to_vec());
        Request::user(command::PEER_HANDSHAKE, self.target, node).value(message.encode())
    }

    async fn answer_to(&self, request: Request) -> Result<Session, Failure> {
        let node = request.to;
        let reply = self.context.handle.request(request).await.map_err(|error| match error {
            RequestError::TimedOut | RequestError::Busy => Failure::Node,
            RequestError::Suspended => Failure::Final(ConnectError::Suspended),
            RequestError::Destroyed => Failure::Final(ConnectError::Destroyed),
        })?;
        let value = reply.value.as_ref().ok_or(Failure::Node)?;
        let handshake = Handshake::decode(value).map_err(|_| Failure::Node)?;
        if handshake.mode != Mode::Reply {
            return Err(Failure::Node);
        }
        // What does not authenticate is the node's doing, not the server's.
        let (payload, result) = self.initiator.finish(&handshake.noise).map_err(|_| Failure::Node)?;
        if payload.version != VERSION {
            return Err(Failure::Final(ConnectError::ServerIncompatible));
        }
        let remote_id = match payload.udx {
            Some(udx) if payload.error == error::NONE => udx.id,
            _ => return Err(Failure::Final(ConnectError::ServerError)),
        };
        let server = handshake.peer_address.filter(|address| address.port() != 0);
        let answered = Answered { node, server, client: reply.to };
        Ok(Session { answered, via: reply.via, payload, remote_id, result })
    }
}

/// How a peer is reached that was asked itself, by that socket.
pub(super) fn direct_path(via: Via, to: SocketAddrV4) -> ConnectionPath {
    let is_punched = matches!(via, Via::Pool(_)) && !is_near(to.into());
    if is_punched { ConnectionPath::Punched } else { ConnectionPath::Direct }
}

async fn next_reply(query: &mut Option<Query>) -> Option<Reply> {
    match query {
        Some(query) => query.next().await,
        None => None,
    }
}

/// Whether the replying node has a record of the peer.
fn knows_peer(reply: &Reply) -> bool {
    reply.value.as_ref().is_some_and(|value| Peer::decode(value).is_ok())
}

/// Waits for the server to prove itself on the connected stream.
async fn prove(
    dial: &Dial,
    stream: udx::Stream,
    remote: PublicKey,
    asked: Vec<SocketAddrV4>,
    began: Instant,
) -> Result<Connection, ConnectError> {
    let (session, route) = (&dial.session, &dial.route);
    let relays = match &session.payload.relay_addresses {
        // The server knows best who relays to it.
        Some(addresses) if !addresses.is_empty() => addresses.clone(),
        _ => asked,
    };
    dial.context.shared.add_stream(stream.handle());
    let mut stream = SecretStream::new(session.result.clone(), stream);
    // Whoever answered our ping in the local network may be another node than the server.
    let (wait, failure) = match route.path() {
        Some(ConnectionPath::Local) => (LOCAL_HEADER_WAIT, ConnectError::HolepunchAborted),
        _ => (HEADER_WAIT, ConnectError::PeerConnectionFailed),
    };
    let ready = timeout(wait, stream.ready()).await;
    if !matches!(ready, Ok(Ok(()))) {
        debug!(path = ?route.path(), ?ready, "the server was not where it should be");
        return Err(failure);
    }
    if !relays.is_empty() {
        dial.context.shared.remember_relays(remote, relays);
    }
    if dial.is_reusable && session.payload.udx.is_some_and(|udx| udx.reusable_socket) {
        dial.keep_hole(remote);
    }
    Connection::new(stream, route.clone(), began.elapsed()).ok_or(ConnectError::PeerConnectionFailed)
}

/// The ways that a server's answer opened.
struct Dial {
    context: Context,
    target: Id,
    own: Own,
    route: Route,
    /// Who sent to the stream before the server's answer was here.
    first: Option<Sender>,
    /// A relay may carry the connection meanwhile.
    has_relay: bool,
    session: Session,
    /// We would use the hole that we punch again.
    is_reusable: bool,
    /// What it was punched with.
    socket: Mutex<Option<PoolSocket>>,
}

impl Dial {
    /// Finds a direct way and takes it; it may be found by the server first. Independent of who
    /// asked for the connection, since it may go on once there is another way.
    async fn find_way(self: Arc<Self>) -> Result<(), ConnectError> {
        if let Some(first) = self.first {
            let via = [self.session.via, Via::Server, Via::Client].into_iter().find(|via| {
                self.context.handle.socket(*via).is_some_and(|socket| socket.id() == first.socket)
            });
            let via = via.ok_or(ConnectError::PeerConnectionFailed)?;
            let path = match (via, first.address) {
                (Via::Pool(_), SocketAddr::V4(to)) => Some(direct_path(via, to)),
                _ => None,
            };
            return self.take(via, first.address, path);
        }
        let default = default_via(self.context.handle.network().firewalled);
        match client_path(&self.session.answered, &self.session.payload, &self.own) {
            Path::Direct(to) => {
                let path = direct_path(self.session.via, to);
                self.take(self.session.via, to.into(), Some(path))
            }
            Path::Open(to) => self.take(default, to.into(), Some(ConnectionPath::Open)),
            Path::Wait => match timeout(SERVER_WAIT, self.route.direct()).await {
                Ok(()) => Ok(()),
                Err(_) => Err(ConnectError::HolepunchAborted),
            },
            Path::Local(candidates) => self.find_near(&candidates).await,
            Path::Punch => self.punch().await,
        }
    }

    /// Looks for the server in our network and punches at the same time: it may be in another
    /// one, behind the same address.
    async fn find_near(&self, candidates: &[SocketAddrV4]) -> Result<(), ConnectError> {
        let found = async {
            let pong = first_to_answer(&self.context.handle, candidates).await?;
            Some(self.take(Via::Server, pong.from.into(), Some(ConnectionPath::Local)))
        };
        let punched = self.punch();
        tokio::pin!(found, punched);
        tokio::select! {
            biased;
            () = self.route.direct() => Ok(()),
            found = &mut found => match found {
                Some(taken) => taken,
                None => punched.await,
            },
            punched = &mut punched => match punched {
                Ok(()) => Ok(()),
                Err(error) => found.await.unwrap_or(Err(error)),
            },
        }
    }

    /// Punches a hole to the server, through the nodes that it is announced at.
    async fn punch(&self) -> Result<(), ConnectError> {
        let Some(holepunch) = &self.session.payload.holepunch else {
            return Err(ConnectError::CannotHolepunch);
        };
        let Answered { node, server, .. } = self.session.answered;
        let relays = &holepunch.relays;
        let relay = relays.iter().find(|relay| relay.relay == node).or_else(|| relays.first());
        let (Some(relay), Some(server)) = (relay, server) else { return Err(ConnectError::CannotHolepunch) };
        let way = Way {
            target: self.target,
            id: holepunch.id,
            node,
            server,
            relay: *relay,
            firewall: self.session.payload.firewall,
            has_relay: self.has_relay,
            holepunch_secret: holepunch_secret(&self.session.result),
        };
        *lock(&self.socket) = punch_to_server(&self.context, &self.route, way).await?;
        Ok(())
    }

    /// Leaves the hole that the connection goes through open for the next.
    fn keep_hole(&self, remote: PublicKey) {
        let (holes, stream) = (&self.context.shared.holes, self.route.stream());
        match (lock(&self.socket).take(), stream.remote_addr()) {
            (Some(socket), Some(SocketAddr::V4(to))) => holes.keep(remote, socket, to, stream.clone()),
            _ => holes.keep_on(remote, self.session.via, stream.clone()),
        }
    }

    /// Goes there, unless the server has come meanwhile.
    fn take(&self, via: Via, to: SocketAddr, path: Option<ConnectionPath>) -> Result<(), ConnectError> {
        let socket = self.context.handle.socket(via).ok_or(ConnectError::PeerConnectionFailed)?;
        self.route.take(&socket, to, path);
        Ok(())
    }
}
