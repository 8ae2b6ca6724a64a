//! One client's way to a server: asked about, answered, and followed until its stream is
//! proven (spec/connect.md §7).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::Bytes;
use secret_stream::{HandshakeResult, SecretStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::announcer::Relays;
use super::connection::{Connection, ConnectionPath};
use super::handshakes::HandshakeId;
use super::local::first_to_answer;
use super::message::{self, Mode};
use super::noise::{Responder, holepunch_secret};
use super::path::{is_loopback_elsewhere, local_candidates};
use super::payload::{self, Firewall, NoisePayload, UdxInfo, VERSION, error};
use super::punch::{HolepunchPayload, SecurePayload};
use super::route::{Hook, Route};
use super::server::{FirewallRequest, ServerOptions};
use super::{Context, random};
use crate::rpc::{self, Answer, Reply, Via};

/// The longest a firewall hook is waited for. A client asks one node after another for about
/// this long before it gives up.
const FIREWALL_PATIENCE: Duration = Duration::from_secs(20);
/// How long a client has to come once it was answered (hyperdht/lib/server.js
/// HANDSHAKE_INITIAL_TIMEOUT).
const CLIENT_WAIT: Duration = Duration::from_secs(10);
/// How long the refusal to punch is held back from a client that may be in our network. It
/// pings us there at the same time, up to four times a second apart, and a refusal would end
/// both attempts.
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
}

/// A request to punch.
#[derive(Debug)]
pub struct Punch {
    pub incoming: rpc::Incoming,
    /// The client as the node between sees it.
    pub peer: SocketAddrV4,
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
        let Service { context, options, decide, accepted } = service;
        if self.is_refused(&options).await {
            let _ = decide.send(Decision { id, answer: None });
            return;
        }
        let Some(remote_id) = self.payload.udx.map(|udx| udx.id).filter(|_| self.payload.version == VERSION)
        else {
            let answer = self.refusal();
            let _ = decide.send(Decision { id, answer });
            return;
        };

        let hook = Hook::armed(remote_id);
        let stream_options =
            udx::StreamOptions { firewall: Some(hook.firewall()), ..udx::StreamOptions::default() };
        let stream = match context.handle.udx().stream(stream_options).await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%error, "no stream for a client");
                let _ = decide.send(Decision { id, answer: None });
                return;
            }
        };
        let network = context.handle.network();
        let addresses = self.own_addresses(&context, &options).await;
        let candidates = if options.share_local_address {
            local_candidates(&addresses, *self.request.to.ip(), &self.payload.addresses4, *self.client.ip())
        } else {
            Vec::new()
        };
        let payload = NoisePayload {
            firewall: if network.remote_address.is_some() { Firewall::Open } else { Firewall::Unknown },
            holepunch: network
                .remote_address
                .is_none()
                .then(|| payload::Holepunch { id: id.index as u64, relays: relays.relays.clone() }),
            addresses4: addresses,
            udx: Some(UdxInfo { reusable_socket: false, id: stream.id(), seq: 0 }),
            secret_stream: Some(1),
            relay_addresses: Some(relays.addresses).filter(|addresses| !addresses.is_empty()),
            ..NoisePayload::default()
        };
        let route = Route::new(hook, stream.handle());
        let is_looked_for = self.client.ip() == self.request.to.ip();
        let meeting = Meeting { context, route, candidates, is_looked_for };
        let (direct, via, began) = (self.direct, self.request.via, self.began);
        let client_is_open = self.payload.firewall == Firewall::Open
            && !is_loopback_elsewhere(*self.client.ip(), *self.request.to.ip());
        let Ok((answer, result)) = self.responder.answer(&payload) else {
            let _ = decide.send(Decision { id, answer: None });
            return;
        };
        let decision = Decision { id, answer: Some(Bytes::from(answer)) };

        let found = if direct || client_is_open {
            let (via, path) = if direct {
                (via, ConnectionPath::Direct)
            } else {
                (default_via(network.firewalled), ConnectionPath::Open)
            };
            // Before the answer leaves: the client may be here right after it.
            let found = meeting.take(via, self.client, path);
            let _ = decide.send(decision);
            found
        } else {
            let _ = decide.send(decision);
            meeting.find_way(&result, punches).await
        };
        if found {
            meeting.hand_over(stream, result, began, accepted).await;
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
}

impl Meeting {
    /// Goes there, unless the client has come. False if that can't be.
    fn take(&self, via: Via, client: SocketAddrV4, path: ConnectionPath) -> bool {
        let Some(socket) = self.context.handle.socket(via) else { return false };
        self.route.take(&socket, SocketAddr::V4(client), Some(path));
        true
    }

    /// Waits for a client that is to come, or is found. False: there is no direct way in time,
    /// or the client gave up.
    async fn find_way(&self, result: &HandshakeResult, mut punches: mpsc::Receiver<Punch>) -> bool {
        let secure = SecurePayload::new(holepunch_secret(result), random());
        let deadline = Instant::now() + CLIENT_WAIT;
        let refusal_wait = if self.candidates.is_empty() { Duration::ZERO } else { LOCAL_WAIT };
        let mut refusal: Option<(Instant, Punch, u64)> = None;
        let found = self.find_in_network();
        tokio::pin!(found);
        loop {
            let until = refusal.as_ref().map_or(deadline, |(at, ..)| *at);
            tokio::select! {
                biased;
                () = self.route.direct() => return true,
                pong = &mut found => return self.take(pong.via, pong.from, ConnectionPath::Local),
                Some(punch) = punches.recv() => {
                    let Some(payload) = secure.open(&punch.payload) else { continue };
                    if payload.error != error::NONE {
                        return false;
                    }
                    // Of retries the latest is answered: its relay waits for it.
                    let at = refusal.map_or(Instant::now() + refusal_wait, |(at, ..)| at);
                    refusal = Some((at, punch, payload.round));
                }
                () = sleep_until(until) => {
                    if let Some((_, punch, round)) = refusal {
                        refuse_punch(&self.context, &secure, punch, round);
                    }
                    return false;
                }
            }
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
        if let Some(connection) = Connection::new(stream, self.route.clone(), began.elapsed()) {
            let _ = accepted.send(connection).await;
        }
    }
}

/// Tells the client that this server does not punch.
fn refuse_punch(context: &Context, secure: &SecurePayload, punch: Punch, round: u64) {
    let payload = secure.seal(&HolepunchPayload::abort(round), random());
    let message =
        message::Holepunch { mode: Mode::FromServer, id: 0, payload, peer_address: Some(punch.peer) };
    let to = punch.incoming.from;
    let answer = Answer::Relay { value: message.encode().into(), to, via: None };
    context.handle.answer(punch.incoming, answer);
}
