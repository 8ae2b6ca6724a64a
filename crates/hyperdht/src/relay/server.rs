//! A blind relay: pairs its clients by their tokens, and passes their packets on.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;
use udx::{RelayMeter, StreamOptions, Verdict};

use super::MAX_FRAME;
use super::message::{PROTOCOL, Pair, PairingToken, RelayMessage};
use super::mux::{ChannelEvent, Mux};
use super::pairings::{Pairings, RelayLimits, SessionId, Side};
use crate::Dht;
use crate::connect::{Connection, ListenError, Server, ServerOptions};
use crate::handle::Handle;

/// Messages of clients that wait for the relay's task; when it is full, clients wait.
const MAX_QUEUED_REQUESTS: usize = 256;
/// Answers that wait for a client's connection; a client that does not take them is disconnected.
const MAX_QUEUED_ANSWERS: usize = 32;
/// How often pairs and clients are held to their limits.
const INSPECTION: Duration = Duration::from_secs(1);

/// Whether a relay serves the owner of a key. Called for each pair that a client asks for; may take its time.
pub type AdmitHook = Arc<dyn Fn(PublicKey) -> BoxFuture<'static, bool> + Send + Sync>;

/// How a relay treats its clients.
#[derive(Clone, Default)]
pub struct RelayOptions {
    /// One of two peers must be admitted. `None`: everybody is.
    pub admit: Option<AdmitHook>,
    /// What the relay does at most.
    pub limits: RelayLimits,
}

impl fmt::Debug for RelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOptions")
            .field("admit", &self.admit.is_some())
            .field("limits", &self.limits)
            .finish()
    }
}

/// What a relay is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayLoad {
    /// Clients connected.
    pub sessions: usize,
    /// Pairs that exist.
    pub pairs: usize,
    /// Pairs made since the start.
    pub paired: u64,
    /// Bytes that all pairs have sent, as of the last second.
    pub bytes: u64,
}

/// A relay, found by its key for as long as this value lives. Dropping it ends it, and all that goes through
/// it.
#[derive(Debug)]
pub struct Relay {
    public_key: PublicKey,
    load: watch::Receiver<RelayLoad>,
    closed: CancellationToken,
    closing: DropGuard,
}

impl Dht {
    /// Starts a blind relay, which peers name by the public key of `keys`.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn relay(&self, keys: KeyPair, options: RelayOptions) -> Result<Relay, ListenError> {
        let public_key = keys.public_key();
        let server = self.listen(keys, ServerOptions::default()).await?;
        let (load_sender, load) = watch::channel(RelayLoad::default());
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let task = RelayTask {
            handle: self.context().handle,
            pairings: Pairings::new(options.limits),
            options,
            clients: HashMap::new(),
            pairs: HashMap::new(),
            sessions: JoinSet::new(),
            done: RelayLoad::default(),
            load: load_sender,
        };
        tokio::spawn(task.run(server, closing.clone(), closed.clone().drop_guard()));
        Ok(Relay { public_key, load, closed, closing: closing.drop_guard() })
    }
}

impl Relay {
    /// The key that peers name it by.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// What it is doing.
    pub fn load(&self) -> RelayLoad {
        *self.load.borrow()
    }

    /// Ends the relay and withdraws its announce.
    pub async fn close(self) {
        drop(self.closing);
        self.closed.cancelled().await;
    }
}

/// What a client asks for.
#[derive(Debug)]
enum ClientRequest {
    Pair { pair: Pair, is_known: bool },
    Unpair(PairingToken),
}

/// A client as the relay's task knows it.
struct Client {
    address: SocketAddr,
    /// The socket it came on.
    socket: Option<udx::SocketId>,
    answers: mpsc::Sender<Pair>,
}

/// Two streams, each of which passes its packets on to the other's peer.
struct Relaying {
    streams: [udx::Stream; 2],
    meter: RelayMeter,
    /// The number of bytes at the last change, and its time.
    seen: (u64, Instant),
}

/// The state of a relay, on the task that owns it.
struct RelayTask {
    handle: Handle,
    options: RelayOptions,
    pairings: Pairings,
    clients: HashMap<SessionId, Client>,
    pairs: HashMap<PairingToken, Relaying>,
    sessions: JoinSet<SessionId>,
    /// The sums of the pairs that have ended.
    done: RelayLoad,
    load: watch::Sender<RelayLoad>,
}

impl RelayTask {
    async fn run(mut self, mut server: Server, closing: CancellationToken, _closed: DropGuard) {
        let (sender, mut requests) = mpsc::channel(MAX_QUEUED_REQUESTS);
        let mut inspections = interval(INSPECTION);
        inspections.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                connection = server.accept() => match connection {
                    Some(connection) => self.on_connection(connection, &sender),
                    None => break,
                },
                Some((session, request)) = requests.recv() => self.on_request(session, request).await,
                Some(ended) = self.sessions.join_next() => {
                    // The task of a session does not panic, and only this task's end aborts it.
                    if let Ok(session) = ended {
                        self.on_end(session);
                    }
                }
                _ = inspections.tick() => self.inspect(),
            }
        }
        self.sessions.shutdown().await;
        self.pairs.clear();
        server.close().await;
    }

    fn on_connection(&mut self, connection: Connection, requests: &mpsc::Sender<(SessionId, ClientRequest)>) {
        let address = connection.remote_addr();
        let host = address.ip().to_canonical();
        let Some(id) = self.pairings.open(Instant::now(), host) else {
            debug!(%address, "a relay has no room for a client");
            return;
        };
        let (answers, answered) = mpsc::channel(MAX_QUEUED_ANSWERS);
        let socket = connection.stream.transport().socket();
        self.clients.insert(id, Client { address, socket, answers });
        let session = ClientSession {
            id,
            requests: requests.clone(),
            answers: answered,
            admit: self.options.admit.clone(),
        };
        self.sessions.spawn(session.run(connection));
    }

    async fn on_request(&mut self, session: SessionId, request: ClientRequest) {
        match request {
            ClientRequest::Pair { pair, is_known } => {
                if let Some(other) = self.pairings.pair(session, pair, is_known)
                    && self.connect(session, pair, other).await.is_none()
                {
                    self.pairings.end(Instant::now(), &pair.token);
                }
            }
            ClientRequest::Unpair(token) => {
                if self.pairings.unpair(Instant::now(), session, &token) {
                    self.end(&token);
                }
            }
        }
        self.tell();
    }

    /// Makes the streams of a new pair, and tells both clients.
    async fn connect(&mut self, session: SessionId, pair: Pair, other: Side) -> Option<()> {
        let (ours, theirs) =
            (self.stream(session, pair).await?, self.stream(other.session, other.pair).await?);
        let meter = RelayMeter::new(self.options.limits.bytes_per_second);
        ours.handle().relay_to(&theirs.handle(), Some(meter.clone()));
        theirs.handle().relay_to(&ours.handle(), Some(meter.clone()));
        for (session, pair, stream) in [(session, pair, &ours), (other.session, other.pair, &theirs)] {
            let answer = Pair { stream: stream.id(), ..pair };
            self.clients.get(&session)?.answers.try_send(answer).ok()?;
        }
        self.done.paired += 1;
        let relaying = Relaying { streams: [ours, theirs], meter, seen: (0, Instant::now()) };
        self.pairs.insert(pair.token, relaying);
        Some(())
    }

    /// A stream that connects to the client's when its first packet comes. That packet comes from the same
    /// address and on the same socket as the client's connection.
    async fn stream(&self, session: SessionId, pair: Pair) -> Option<udx::Stream> {
        let client = self.clients.get(&session)?;
        let (expected_socket, expected) = (client.socket, client.address.ip().to_canonical());
        let firewall = move |socket, from: SocketAddr| {
            if Some(socket) == expected_socket && from.ip().to_canonical() == expected && from.port() != 0 {
                Verdict::Connect { remote_id: pair.stream }
            } else {
                Verdict::Refuse
            }
        };
        let options = StreamOptions { firewall: Some(Box::new(firewall)), ..StreamOptions::default() };
        self.handle.udx().stream(options).await.ok()
    }

    fn on_end(&mut self, session: SessionId) {
        self.clients.remove(&session);
        for token in self.pairings.close(Instant::now(), session) {
            self.end(&token);
        }
        self.tell();
    }

    /// Ends pairs that are closed, silent or over their limit, and disconnects idle clients.
    fn inspect(&mut self) {
        let (now, limits) = (Instant::now(), self.options.limits);
        let mut over = Vec::new();
        for (token, relaying) in &mut self.pairs {
            let passed = relaying.meter.passed();
            if passed != relaying.seen.0 {
                relaying.seen = (passed, now);
            }
            let is_closed = |stream: &udx::Stream| stream.handle().closed().now_or_never().is_some();
            if passed >= limits.bytes_per_pair
                || now.saturating_duration_since(relaying.seen.1) >= limits.idle
                || relaying.streams.iter().any(is_closed)
            {
                over.push(*token);
            }
        }
        let mut leaving = self.pairings.idle(now);
        for token in over {
            leaving.extend(self.pairings.end(now, &token));
            self.end(&token);
        }
        for session in leaving {
            // Its task ends, and closes the connection, because nobody can send answers to it any more.
            self.clients.remove(&session);
        }
        self.tell();
    }

    fn end(&mut self, token: &PairingToken) {
        if let Some(relaying) = self.pairs.remove(token) {
            self.done.bytes += relaying.meter.passed();
        }
    }

    fn tell(&self) {
        let bytes: u64 = self.pairs.values().map(|relaying| relaying.meter.passed()).sum();
        let load = RelayLoad {
            sessions: self.clients.len(),
            pairs: self.pairs.len(),
            paired: self.done.paired,
            bytes: self.done.bytes + bytes,
        };
        self.load.send_if_modified(|told| std::mem::replace(told, load) != load);
    }
}

/// A client's connection.
struct ClientSession {
    id: SessionId,
    requests: mpsc::Sender<(SessionId, ClientRequest)>,
    answers: mpsc::Receiver<Pair>,
    admit: Option<AdmitHook>,
}

impl ClientSession {
    /// Runs until the client is gone, has sent nonsense, or is sent away.
    async fn run(mut self, connection: Connection) -> SessionId {
        let id = self.id;
        let _ = self.serve(connection).await;
        id
    }

    /// `None` when the session is over.
    async fn serve(&mut self, mut connection: Connection) -> Option<()> {
        let key = connection.remote_public_key();
        connection.stream.set_max_message(MAX_FRAME);
        let mut mux = Mux::default();
        let channel = mux.open(PROTOCOL, &key);
        loop {
            while let Some(frame) = mux.poll_frame() {
                connection.stream.send(&frame).await.ok()?;
            }
            while let Some(event) = mux.poll_event() {
                match event {
                    ChannelEvent::Message { kind, body, .. } => {
                        if let Some(message) = RelayMessage::decode(kind, &body).ok()? {
                            self.on_message(message, key).await?;
                        }
                    }
                    ChannelEvent::Closed(_) => {
                        let _ = connection.stream.shutdown().await;
                        return None;
                    }
                    ChannelEvent::Opened(_) => {}
                }
            }
            tokio::select! {
                answer = self.answers.recv() => match answer {
                    Some(pair) => {
                        let (kind, body) = RelayMessage::Pair(pair).encode();
                        mux.send(channel, kind, &body);
                    }
                    None => {
                        let _ = connection.stream.shutdown().await;
                        return None;
                    }
                },
                message = connection.stream.recv() => match message.ok()? {
                    Some(message) => mux.handle(&message).ok()?,
                    None => {
                        let _ = connection.stream.shutdown().await;
                        return None;
                    }
                }
            }
        }
    }

    async fn on_message(&self, message: RelayMessage, key: PublicKey) -> Option<()> {
        let request = match message {
            RelayMessage::Pair(pair) => {
                let is_known = match &self.admit {
                    Some(admit) => admit(key).await,
                    None => true,
                };
                ClientRequest::Pair { pair, is_known }
            }
            RelayMessage::Unpair(token) => ClientRequest::Unpair(token),
        };
        self.requests.send((self.id, request)).await.ok()
    }
}
