//! One client's way to a server: asked about, answered, and followed until its stream is
//! proven (spec/connect.md §7).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::FutureExt;
use secret_stream::{HandshakeResult, KeyPair, PublicKey, SecretStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::announcer::Relays;
use super::client::direct_path;
use super::connection::{Connection, ConnectionPath};
use super::error::ConnectError;
use super::handshakes::HandshakeId;
use super::holepunch::Prepared;
use super::local::first_to_answer;
use super::noise::{Responder, holepunch_secret};
use super::path::{is_loopback_elsewhere, local_candidates};
use super::payload::{self, Firewall, NoisePayload, RelayThrough, UdxInfo, VERSION, error};
use super::route::{Hook, Route};
use super::server::{FirewallRequest, ServerOptions};
use super::ways::{Agreement, Ways, keep};
use super::{Context, lock, random};
use crate::pool::PoolSocket;
use crate::rpc::{self, Reply, Via};

/// The longest a firewall hook is waited for. A client asks one node after another for about
/// this long before it gives up.
const FIREWALL_PATIENCE: Duration = Duration::from_secs(20);
/// How long a client has to come once it was answered (hyperdht/lib/server.js
/// HANDSHAKE_INITIAL_TIMEOUT).
const CLIENT_WAIT: Duration = Duration::from_secs(10);
/// How long a client that may be in our network is waited for once there is no way to punch. It
/// pings us there at the same time, up to four times a second apart.
const LOCAL_WAIT: Duration = Duration::from_secs(3);
/// How long a client that looks for us in its network is let alone before we look for it. One
/// of the two ways is enough, and JavaScript looks only where both are seen at one address.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long the client's first bytes may take once its stream is connected.
const HEADER_WAIT: Duration = Duration::from_secs(15);

/// What all handshakes of a server work with.
#[derive(Clone)]
pub struct Service {
    pub context: Context,
    /// The server's.
    pub keys: KeyPair,
    pub options: ServerOptions,
    /// Each handshake is decided once, unless its task is ended before.
    pub decide: mpsc::UnboundedSender<Decision>,
    pub accepted: mpsc::Sender<Connection>,
}

/// What became of a first message.
#[derive(Debug)]
pub struct Decision {
    pub id: HandshakeId,
    /// The Noise message to answer with, or silence.
    pub answer: Option<Bytes>,
    /// The socket it leaves by, if not the one that the first message came on.
    pub via: Option<Via>,
}

/// A request to punch.
#[derive(Debug)]
pub struct Punch {
    pub incoming: rpc::Incoming,
    /// The client as the node between sees it.
    pub peer: SocketAddrV4,
    /// We are announced at that node.
    pub is_own_relay: bool,
    /// Still encrypted.
    pub payload: Vec<u8>,
}

/// A handshake whose first message has been read.
pub struct Incoming {
    request: rpc::Incoming,
    client: SocketAddrV4,
    /// The client asked us itself.
    direct: bool,
    responder: Responder,
    payload: NoisePayload,
    began: Instant,
}

impl Incoming {
    pub fn new(
        request: rpc::Incoming,
        client: SocketAddrV4,
        direct: bool,
        responder: Responder,
        payload: NoisePayload,
    ) -> Self {
        Self { request, client, direct, responder, payload, began: Instant::now() }
    }

    /// Goes all the way, as the handshake `id` of a server that these nodes relay to.
    /// `punches`: the client's requests to punch.
    pub async fn serve(
        self,
        service: Service,
        id: HandshakeId,
        relays: Relays,
        punches: mpsc::Receiver<Punch>,
    ) {
        let Service { context, keys, options, decide, accepted } = service;
        if self.is_refused(&options).await {
            let _ = decide.send(Decision { id, answer: None, via: None });
            return;
        }
        let Some(remote_id) = self.payload.udx.map(|udx| udx.id).filter(|_| self.payload.version == VERSION)
        else {
            let answer = self.refusal();
            let _ = decide.send(Decision { id, answer, via: None });
            return;
        };

        let hook = Hook::armed(remote_id);
        let stream_options =
            udx::StreamOptions { firewall: Some(hook.firewall()), ..udx::StreamOptions::default() };
        let stream = match context.handle.udx().stream(stream_options).await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%error, "no stream for a client");
                let _ = decide.send(Decision { id, answer: None, via: None });
                return;
            }
        };
        let network = context.handle.network();
        // Whoever goes no direct way names none.
        let public = network.remote_address.filter(|_| options.direct);
        let addresses = match options.direct {
            true => self.own_addresses(&context, &options).await,
            false => Vec::new(),
        };
        let candidates = if options.share_local_address && options.direct {
            local_candidates(&addresses, *self.request.to.ip(), &self.payload.addresses4, *self.client.ip())
        } else {
            Vec::new()
        };
        let named = options.relay_through.as_ref().and_then(|choose| choose());
        let relay_through = named.map(|public_key| RelayThrough { public_key, token: random() });
        let payload = NoisePayload {
            firewall: if public.is_some() { Firewall::Open } else { Firewall::Unknown },
            holepunch: public
                .is_none()
                .then(|| payload::Holepunch { id: id.index as u64, relays: relays.relays.clone() }),
            addresses4: addresses,
            udx: Some(UdxInfo { reusable_socket: options.reusable_socket, id: stream.id(), seq: 0 }),
            secret_stream: Some(1),
            relay_through,
            relay_addresses: Some(relays.addresses).filter(|addresses| !addresses.is_empty()),
            ..NoisePayload::default()
        };
        let agreement = Agreement::new(relay_through, self.payload.relay_through, true);
        let route = Route::new(hook, stream.handle());
        let is_looked_for = self.client.ip() == self.request.to.ip();
        let is_reusable = options.reusable_socket && self.payload.udx.is_some_and(|udx| udx.reusable_socket);
        let meeting = Meeting {
            context,
            route,
            candidates,
            is_looked_for,
            remote: self.responder.remote_public_key(),
            is_reusable,
            via: self.request.via,
            socket: Mutex::default(),
        };
        let (direct, via, began) = (self.direct, self.request.via, self.began);
        let client_is_open = options.direct
            && self.payload.firewall == Firewall::Open
            && !is_loopback_elsewhere(*self.client.ip(), *self.request.to.ip());
        let Ok((answer, result)) = self.responder.answer(&payload) else {
            let _ = decide.send(Decision { id, answer: None, via: None });
            return;
        };
        let decision = Decision { id, answer: Some(Bytes::from(answer)), via: None };

        let meeting = Arc::new(meeting);
        let helped = |ways: Ways, stream: &udx::Stream| match agreement {
            Some(agreement) => {
                let keys = options.relay_keys.as_ref().unwrap_or(&keys);
                ways.relayed(&meeting.context, keys, agreement, stream.id())
            }
            None => ways,
        };
        if direct || client_is_open {
            let (via, path) = if direct {
                (via, direct_path(via, self.client))
            } else {
                (default_via(network.firewalled), ConnectionPath::Open)
            };
            // Before the answer leaves: the client may be here right after it.
            let found = meeting.take(via, self.client, path);
            let _ = decide.send(decision);
            if found {
                let ways = helped(Ways::taken(), &stream);
                tokio::spawn(ways.watch(meeting.route.clone()));
                meeting.hand_over(stream, result, began, accepted).await;
            }
            return;
        }
        let prepared = match &payload.holepunch {
            Some(_) if options.direct => {
                let secret = holepunch_secret(&result);
                meeting.prepare(self.payload.firewall, agreement.is_some(), secret).await
            }
            _ => None,
        };
        // A client that looks for us in our network is to find the socket it knows. Any other is
        // shown the one it is to punch to.
        let via = prepared.as_ref().filter(|_| meeting.candidates.is_empty()).and_then(Prepared::via);
        let _ = decide.send(Decision { via, ..decision });
        let ways = match options.direct {
            true => Ways::new(meeting.clone().find_way(prepared, punches).boxed()),
            false => Ways::none(),
        };
        let mut ways = helped(ways, &stream);
        let Ok(link) = ways.first(&meeting.route).await else { return };
        let handed_over = meeting.hand_over(stream, result, began, accepted);
        match link {
            Some(link) => {
                tokio::spawn(keep(link, meeting.route.clone()));
                // The client's requests to punch come here for as long as this goes on.
                tokio::join!(handed_over, ways.go_on(meeting.route.clone()));
            }
            None => {
                tokio::spawn(ways.watch(meeting.route.clone()));
                handed_over.await;
            }
        }
    }

    async fn is_refused(&self, options: &ServerOptions) -> bool {
        let Some(firewall) = &options.firewall else { return false };
        let request = FirewallRequest {
            remote_public_key: self.responder.remote_public_key(),
            payload: self.payload.clone(),
            address: self.client,
        };
        timeout(FIREWALL_PATIENCE, firewall(request)).await.unwrap_or(true)
    }

    /// The answer to a client that can't be connected to.
    fn refusal(self) -> Option<Bytes> {
        let error = if self.payload.version == VERSION { error::ABORTED } else { error::VERSION_MISMATCH };
        let payload = NoisePayload {
            error,
            udx: Some(UdxInfo { reusable_socket: false, id: 0, seq: 0 }),
            secret_stream: Some(1),
            ..NoisePayload::default()
        };
        self.responder.answer(&payload).ok().map(|(answer, _)| answer.into())
    }

    /// Where the client may reach us.
    async fn own_addresses(&self, context: &Context, options: &ServerOptions) -> Vec<SocketAddrV4> {
        let mut addresses: Vec<_> = context.handle.network().remote_address.into_iter().collect();
        if !options.share_local_address {
            return addresses;
        }
        let Some(socket) = context.handle.socket(Via::Server) else { return addresses };
        let bound = socket.local_addr();
        addresses.extend(context.shared.local_addresses.of(bound).await);
        // A client on this host may find no other address to its taste: JavaScript skips those
        // of reserved ranges, which test networks are made of.
        let loopback = SocketAddrV4::new(Ipv4Addr::LOCALHOST, bound.port());
        if self.client.ip().is_loopback() && bound.ip().is_unspecified() && !addresses.contains(&loopback) {
            addresses.push(loopback);
        }
        addresses
    }
}

/// The socket that requests leave by: the server socket once it is reached from outside.
pub(super) fn default_via(firewalled: bool) -> Via {
    if firewalled { Via::Client } else { Via::Server }
}

/// The ways to a client that was answered.
struct Meeting {
    context: Context,
    route: Route,
    /// Where the client may be in our network.
    candidates: Vec<SocketAddrV4>,
    /// The client will look for us in its network too: a node sees both at one address.
    is_looked_for: bool,
    /// The key the client claims.
    remote: PublicKey,
    /// Both would use a hole that is punched again.
    is_reusable: bool,
    /// What the first message came on.
    via: Via,
    /// What a hole was punched with.
    socket: Mutex<Option<PoolSocket>>,
}

impl Meeting {
    /// Opens sockets to punch with, unless that is done for too many already.
    /// `has_relay`: a relay may carry the connection meanwhile.
    async fn prepare(
        &self,
        firewall: Firewall,
        has_relay: bool,
        holepunch_secret: [u8; 32],
    ) -> Option<Prepared> {
        let permit = self.context.shared.punches.clone().try_acquire_owned().ok()?;
        Some(Prepared::new(self.context.clone(), permit, firewall, has_relay, holepunch_secret).await)
    }

    /// Goes there, unless the client has come. False if that can't be.
    fn take(&self, via: Via, client: SocketAddrV4, path: ConnectionPath) -> bool {
        let Some(socket) = self.context.handle.socket(via) else { return false };
        self.route.take(&socket, SocketAddr::V4(client), Some(path));
        true
    }

    /// Waits for a client that is to come, or is found.
    async fn find_way(
        self: Arc<Self>,
        prepared: Option<Prepared>,
        mut punches: mpsc::Receiver<Punch>,
    ) -> Result<(), ConnectError> {
        let found = self.find_in_network();
        let punched = async {
            match prepared {
                Some(prepared) => match prepared.run(&self.route, &mut punches).await {
                    Ok(socket) => {
                        *lock(&self.socket) = socket;
                        true
                    }
                    Err(_) => false,
                },
                None => timeout(CLIENT_WAIT, self.route.direct()).await.is_ok(),
            }
        };
        tokio::pin!(found, punched);
        tokio::select! {
            biased;
            pong = &mut found => {
                self.take(pong.via, pong.from, ConnectionPath::Local);
                return Ok(());
            }
            punched = &mut punched => {
                if punched {
                    return Ok(());
                } else if self.candidates.is_empty() {
                    return Err(ConnectError::HolepunchAborted);
                }
            }
        }
        // The client may still find us, or we it, in a network that needs no punching.
        tokio::select! {
            biased;
            () = self.route.direct() => Ok(()),
            pong = &mut found => {
                self.take(pong.via, pong.from, ConnectionPath::Local);
                Ok(())
            }
            () = sleep(LOCAL_WAIT) => Err(ConnectError::HolepunchAborted),
        }
    }

    /// Leaves the hole that the connection goes through open for the next.
    fn keep_hole(&self) {
        let (holes, stream) = (&self.context.shared.holes, self.route.stream());
        match (lock(&self.socket).take(), stream.remote_addr()) {
            (Some(socket), Some(SocketAddr::V4(to))) => holes.keep(self.remote, socket, to, stream.clone()),
            _ => holes.keep_on(self.remote, self.via, stream.clone()),
        }
    }

    /// Waits until the client is found in our network.
    async fn find_in_network(&self) -> Reply {
        if self.is_looked_for {
            sleep(HEAD_START).await;
        }
        match first_to_answer(&self.context.handle, &self.candidates).await {
            Some(pong) => pong,
            None => std::future::pending().await,
        }
    }

    /// Gives the connection to the application once the client has proven its key: until its
    /// header has come, all may have been played back by somebody else.
    async fn hand_over(
        &self,
        stream: udx::Stream,
        result: HandshakeResult,
        began: Instant,
        accepted: mpsc::Sender<Connection>,
    ) {
        self.context.shared.add_stream(stream.handle());
        let mut stream = SecretStream::new(result, stream);
        let Ok(Ok(())) = timeout(HEADER_WAIT, stream.ready()).await else {
            debug!("a client was answered, and did not prove its key");
            return;
        };
        if self.is_reusable {
            self.keep_hole();
        }
        if let Some(connection) = Connection::new(stream, self.route.clone(), began.elapsed()) {
            let _ = accepted.send(connection).await;
        }
    }
}
