//! One client's handshake with a server: the client is admitted, answered, and followed until its stream is
//! connected (spec/connect.md §7).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::announcer::Relays;
use super::context::Context;
use super::handshakes::HandshakeId;
use super::holepunch::PunchRequest;
use super::meeting::{AnsweredClient, Meeting};
use super::noise::Responder;
use super::options::{FirewallRequest, ServerOptions};
use super::path::ConnectionPath;
use super::payload::{self, Firewall, NoisePayload, RelayThrough, UdxInfo, VERSION, error};
use super::plan::{is_loopback_elsewhere, local_candidates};
use super::race::Agreement;
use super::route::{Hook, Route};
use super::service::Service;
use crate::crypto::random;
use crate::rpc::{self, Via};

/// How long a firewall hook may take. A client asks one node after another for about this long before it
/// gives up.
const FIREWALL_PATIENCE: Duration = Duration::from_secs(20);

/// A client whose first message has been read.
pub(super) struct IncomingClient {
    request: rpc::Incoming,
    client: SocketAddrV4,
    /// The client asked us itself.
    direct: bool,
    responder: Responder,
    payload: NoisePayload,
    began: Instant,
}

/// Whether a client is served.
enum Admission {
    /// Its stream of this id is to be connected.
    Welcome(u32),
    /// It is told that it can't be connected to.
    Refused,
    /// The server's firewall does not want it: it hears nothing.
    Ignored,
}

impl IncomingClient {
    pub(super) fn new(
        request: rpc::Incoming,
        client: SocketAddrV4,
        direct: bool,
        responder: Responder,
        payload: NoisePayload,
    ) -> Self {
        Self { request, client, direct, responder, payload, began: Instant::now() }
    }

    /// Serves the client as handshake `id`. `relays` are the nodes that the server is announced at, `punches`
    /// the client's requests to punch.
    pub(super) async fn serve(
        self,
        service: Service,
        id: HandshakeId,
        relays: Relays,
        punches: mpsc::Receiver<PunchRequest>,
    ) {
        let remote_id = match self.admit(&service.options).await {
            Admission::Welcome(remote_id) => remote_id,
            Admission::Refused => return service.decide(id, self.refusal(), None),
            Admission::Ignored => return service.decide(id, None, None),
        };
        match self.answer(&service, id, relays, remote_id).await {
            Some(answered) => answered.connect(service, id, punches).await,
            None => service.decide(id, None, None),
        }
    }

    /// Asks the server's firewall, and whether we speak the client's version.
    async fn admit(&self, options: &ServerOptions) -> Admission {
        if self.is_unwelcome(options).await {
            return Admission::Ignored;
        }
        match self.payload.udx {
            Some(udx) if self.payload.version == VERSION => Admission::Welcome(udx.id),
            _ => Admission::Refused,
        }
    }

    async fn is_unwelcome(&self, options: &ServerOptions) -> bool {
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

    /// Makes the stream and the answer, which tells the client how to reach this server.
    async fn answer(
        self,
        service: &Service,
        id: HandshakeId,
        relays: Relays,
        remote_id: u32,
    ) -> Option<AnsweredClient> {
        let Service { context, options, .. } = service;
        let hook = Hook::armed(remote_id);
        let stream_options =
            udx::StreamOptions { firewall: Some(hook.firewall()), ..udx::StreamOptions::default() };
        let opened = context.handle.udx().stream(stream_options).await;
        let stream = opened.inspect_err(|error| debug!(%error, "no stream for a client")).ok()?;
        let network = context.handle.network();
        // A server that uses no direct path tells no addresses.
        let is_open = options.direct && network.remote_address.is_some();
        let addresses = match options.direct {
            true => self.own_addresses(context, options).await,
            false => Vec::new(),
        };
        let candidates = self.candidates(options, &addresses);
        let named = options.relay_through.as_ref().and_then(|choose| choose());
        let relay_through = named.map(|public_key| RelayThrough { public_key, token: random() });
        let payload = NoisePayload {
            firewall: if is_open { Firewall::Open } else { Firewall::Unknown },
            holepunch: (!is_open)
                .then(|| payload::HolepunchInfo { id: id.index as u64, relays: relays.relays.clone() }),
            addresses4: addresses,
            udx: Some(UdxInfo { reusable_socket: options.reusable_socket, id: stream.id(), seq: 0 }),
            secret_stream: Some(1),
            relay_through,
            relay_addresses: Some(relays.addresses).filter(|addresses| !addresses.is_empty()),
            ..NoisePayload::default()
        };
        let meeting = Meeting {
            context: context.clone(),
            route: Route::new(hook, stream.handle()),
            candidates,
            is_looked_for: self.client.ip() == self.request.to.ip(),
            remote: self.responder.remote_public_key(),
            is_reusable: options.reusable_socket && self.payload.udx.is_some_and(|udx| udx.reusable_socket),
            via: self.request.via,
            socket: Mutex::default(),
        };
        let at_once = self.path_at_once(options, network.via());
        let agreement = Agreement::new(relay_through, self.payload.relay_through, true);
        let (client, began, client_firewall) = (self.client, self.began, self.payload.firewall);
        let (answer, result) = self.responder.answer(&payload).ok()?;
        Some(AnsweredClient {
            meeting,
            stream,
            result,
            answer: answer.into(),
            client,
            at_once,
            punch_through: payload.holepunch.is_some().then_some(client_firewall),
            agreement,
            began,
        })
    }

    /// The way to a client that need not be looked for: the socket and the path. `default` is the socket in
    /// use.
    fn path_at_once(&self, options: &ServerOptions, default: Via) -> Option<(Via, ConnectionPath)> {
        let is_open = options.direct
            && self.payload.firewall == Firewall::Open
            && !is_loopback_elsewhere(*self.client.ip(), *self.request.to.ip());
        if self.direct {
            let via = self.request.via;
            Some((via, ConnectionPath::without_node(via, self.client)))
        } else {
            is_open.then_some((default, ConnectionPath::Open))
        }
    }

    /// Where the client may be in our network.
    fn candidates(&self, options: &ServerOptions, ours: &[SocketAddrV4]) -> Vec<SocketAddrV4> {
        if options.share_local_address && options.direct {
            local_candidates(ours, *self.request.to.ip(), &self.payload.addresses4, *self.client.ip())
        } else {
            Vec::new()
        }
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
        // A client on this host may accept no other address: JavaScript skips those of reserved ranges, and
        // test networks use such ranges.
        let loopback = SocketAddrV4::new(Ipv4Addr::LOCALHOST, bound.port());
        if self.client.ip().is_loopback() && bound.ip().is_unspecified() && !addresses.contains(&loopback) {
            addresses.push(loopback);
        }
        addresses
    }
}
