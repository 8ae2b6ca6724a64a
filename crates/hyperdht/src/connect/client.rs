//! Dialling: a connection to the server of a public key (spec/connect.md §6).

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use secret_stream::{KeyPair, PublicKey, SecretStream};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::connection::Connection;
use super::context::Context;
use super::error::ConnectError;
use super::holepunch::{PunchPlan, punch_to_server};
use super::local::first_to_answer;
use super::noise::{Initiator, holepunch_secret};
use super::options::ConnectOptions;
use super::path::ConnectionPath;
use super::payload::{Firewall, NoisePayload, RelayThrough, UdxInfo};
use super::peer_address::PeerAddress;
use super::plan::{Answered, Own, Plan, client_plan};
use super::race::{Agreement, Race, hold_relay};
use super::route::{Hook, Route, Sender};
use super::search::{Search, ServerAnswer};
use crate::address::local_addresses;
use crate::crypto::{hash, random};
use crate::id::Id;
use crate::pool::PoolSocket;
use crate::relay::link::RelayLink;
use crate::rpc::Via;
use crate::sync::lock;

/// How long the server has to come to us (hyperdht/lib/connect.js passiveConnectTimeout).
const SERVER_WAIT: Duration = Duration::from_secs(10);
/// How long the server's first bytes may take once the stream is connected. udx gives a dead path up after
/// about twelve seconds.
const HEADER_WAIT: Duration = Duration::from_secs(15);
/// The same in the local network, where bytes take milliseconds.
const LOCAL_HEADER_WAIT: Duration = Duration::from_secs(5);

/// Connects to the peer. Dropping the future gives up.
pub(crate) async fn connect(
    context: &Context,
    default_keys: &KeyPair,
    peer: PeerAddress,
    options: ConnectOptions,
) -> Result<Connection, ConnectError> {
    connect_by(context, default_keys, peer, options, true).await
}

/// Connects to the relay of an agreement as the owner of `keys`, and waits until it has paired our `stream`
/// with the peer's. No other relay helps to reach it.
pub(super) fn pair_at_relay(
    context: &Context,
    keys: &KeyPair,
    agreement: Agreement,
    stream: u32,
) -> BoxFuture<'static, Result<RelayLink, ConnectError>> {
    let (context, keys) = (context.clone(), keys.clone());
    async move {
        let relay = agreement.relay.into();
        // Boxed, because this future contains one of the same type: connecting to a peer may connect to a
        // relay.
        let connecting = Box::pin(connect_by(&context, &keys, relay, ConnectOptions::default(), false));
        RelayLink::pair(connecting, agreement.pair(stream)).await
    }
    .boxed()
}

async fn connect_by(
    context: &Context,
    default_keys: &KeyPair,
    peer: PeerAddress,
    options: ConnectOptions,
    may_relay: bool,
) -> Result<Connection, ConnectError> {
    out_of_service(context).map_or(Ok(()), Err)?;
    let began = Instant::now();
    let peer_key = peer.public_key;
    let result = try_connect(context, default_keys, peer, options, may_relay).await;
    match &result {
        Ok(connection) => {
            let path = connection.link().path_name();
            debug!(peer = %hex::encode(peer_key), path, took = ?began.elapsed(), "connected");
        }
        Err(error) => debug!(peer = %hex::encode(peer_key), %error, took = ?began.elapsed(), "no connection"),
    }
    // If the node was ended or suspended in the meantime, that is the cause of any failure.
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
    let stream =
        context.handle.udx().stream(hook.stream_options()).await.map_err(|_| ConnectError::Destroyed)?;

    // A client that uses no direct path tells no addresses.
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
    // No server can have a key that is no point of the curve.
    let initiator =
        Initiator::new(keys.clone(), peer.public_key, &payload).map_err(|_| ConnectError::PeerNotFound)?;

    let hole = options.reusable_socket.then(|| context.shared.holes.get(&peer.public_key)).flatten();
    let answered = async {
        let search = Search::new(context, &peer, &initiator, options.relay_addresses).await;
        match search.ask_through(hole.as_deref()).await {
            Some(answer) => Ok((answer, Vec::new())),
            None => search.run().await,
        }
    };
    let (answer, asked) = match options.answer_limit {
        Some(limit) => timeout(limit, answered).await.unwrap_or(Err(ConnectError::PeerConnectionFailed))?,
        None => answered.await?,
    };
    let route = Route::new(hook, stream.handle());
    let first = route.arm(answer.remote_id);
    let agreement = Agreement::new(answer.payload.relay_through, relay_through, false).filter(|_| may_relay);
    let dial = Arc::new(Dial {
        context: context.clone(),
        target: hash(&[&peer.public_key]),
        own,
        route,
        first,
        has_relay: agreement.is_some(),
        answer,
        is_reusable: options.reusable_socket,
        socket: Mutex::default(),
    });
    let relay_keys = options.relay_keys.as_ref().unwrap_or(&keys);
    let relaying = agreement.map(|agreement| pair_at_relay(context, relay_keys, agreement, stream.id()));
    let finding = options.direct.then(|| dial.clone().find_way().boxed());
    let mut race = Race::new(finding, relaying);
    match race.first(&dial.route).await? {
        Some(link) => {
            tokio::spawn(hold_relay(link, dial.route.clone()));
            tokio::spawn(race.keep_looking(dial.route.clone()));
        }
        None => drop(tokio::spawn(race.watch(dial.route.clone()))),
    }
    prove(&dial, stream, peer.public_key, asked, began).await
}

/// Where this host may be reached in its own network.
fn own_local_addresses(context: &Context) -> Vec<SocketAddrV4> {
    let socket = context.handle.socket(Via::Server);
    socket.map(|socket| local_addresses(socket.local_addr())).unwrap_or_default()
}

/// Waits until the server has proven its key on the connected stream.
async fn prove(
    dial: &Dial,
    stream: udx::Stream,
    remote: PublicKey,
    asked: Vec<SocketAddrV4>,
    began: Instant,
) -> Result<Connection, ConnectError> {
    let (answer, route) = (&dial.answer, &dial.route);
    let relays = match &answer.payload.relay_addresses {
        // The server knows best which nodes relay to it.
        Some(addresses) if !addresses.is_empty() => addresses.clone(),
        _ => asked,
    };
    dial.context.shared.add_stream(stream.handle());
    let mut stream = SecretStream::new(answer.result.clone(), stream);
    // Another node than the server may have answered our ping in the local network.
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
    if dial.is_reusable && answer.payload.udx.is_some_and(|udx| udx.reusable_socket) {
        let socket = lock(&dial.socket).take();
        dial.context.shared.holes.keep(remote, socket, answer.via, route.stream().clone());
    }
    Connection::new(stream, route.clone(), began.elapsed()).ok_or(ConnectError::PeerConnectionFailed)
}

/// What a client does once it has the server's answer.
struct Dial {
    context: Context,
    target: Id,
    own: Own,
    route: Route,
    /// The sender of the first packet that came before the server's answer.
    first: Option<Sender>,
    /// A relay may carry the connection meanwhile.
    has_relay: bool,
    answer: ServerAnswer,
    /// Keep a punched hole for the next connection, if the server does so too.
    is_reusable: bool,
    /// The socket that a hole was punched with.
    socket: Mutex<Option<PoolSocket>>,
}

impl Dial {
    /// Finds a direct way and takes it, unless the server comes first. Does not borrow from the caller,
    /// because it may go on after a relay has connected the stream.
    async fn find_way(self: Arc<Self>) -> Result<(), ConnectError> {
        if let Some(first) = self.first {
            let via = [self.answer.via, Via::Server, Via::Client].into_iter().find(|via| {
                self.context.handle.socket(*via).is_some_and(|socket| socket.id() == first.socket)
            });
            let via = via.ok_or(ConnectError::PeerConnectionFailed)?;
            let path = match (via, first.address) {
                (Via::Pool(_), SocketAddr::V4(to)) => Some(ConnectionPath::without_node(via, to)),
                _ => None,
            };
            return self.take(via, first.address, path);
        }
        let default = self.context.handle.network().via();
        match client_plan(&self.answer.answered, &self.answer.payload, &self.own) {
            Plan::Direct(to) => {
                let path = ConnectionPath::without_node(self.answer.via, to);
                self.take(self.answer.via, to.into(), Some(path))
            }
            Plan::Open(to) => self.take(default, to.into(), Some(ConnectionPath::Open)),
            Plan::Wait => match timeout(SERVER_WAIT, self.route.direct()).await {
                Ok(()) => Ok(()),
                Err(_) => Err(ConnectError::HolepunchAborted),
            },
            Plan::Local(candidates) => self.find_near(&candidates).await,
            Plan::Punch => self.punch().await,
        }
    }

    /// Looks for the server in our network and punches at the same time: the server may be in another network
    /// behind the same address.
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
        let Some(holepunch) = &self.answer.payload.holepunch else {
            return Err(ConnectError::CannotHolepunch);
        };
        let Answered { node, server, .. } = self.answer.answered;
        let relays = &holepunch.relays;
        let relay = relays.iter().find(|relay| relay.relay == node).or_else(|| relays.first());
        let (Some(relay), Some(server)) = (relay, server) else { return Err(ConnectError::CannotHolepunch) };
        let plan = PunchPlan {
            target: self.target,
            id: holepunch.id,
            node,
            server,
            relay: *relay,
            firewall: self.answer.payload.firewall,
            has_relay: self.has_relay,
            holepunch_secret: holepunch_secret(&self.answer.result),
        };
        *lock(&self.socket) = punch_to_server(&self.context, &self.route, plan).await?;
        Ok(())
    }

    /// Connects the stream to that address, unless the server has come in the meantime.
    fn take(&self, via: Via, to: SocketAddr, path: Option<ConnectionPath>) -> Result<(), ConnectError> {
        let socket = self.context.handle.socket(via).ok_or(ConnectError::PeerConnectionFailed)?;
        self.route.take(&socket, to, path);
        Ok(())
    }
}
