//! How a server and the client that it has answered meet: the ways between them, and which one connects the
//! stream (spec/connect.md §7).

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::FutureExt;
use secret_stream::{HandshakeResult, PublicKey, SecretStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::client::pair_at_relay;
use super::connection::Connection;
use super::context::Context;
use super::error::ConnectError;
use super::handshakes::HandshakeId;
use super::holepunch::{Prepared, PunchRequest};
use super::local::first_to_answer;
use super::noise::holepunch_secret;
use super::path::ConnectionPath;
use super::payload::Firewall;
use super::race::{Agreement, Race, keep};
use super::route::Route;
use super::service::Service;
use crate::pool::PoolSocket;
use crate::rpc::{Reply, Via};
use crate::sync::lock;

/// How long a client has to come once it was answered (hyperdht/lib/server.js HANDSHAKE_INITIAL_TIMEOUT).
const CLIENT_WAIT: Duration = Duration::from_secs(10);
/// How long the server waits for a client that may be in its network, when there is no way to punch. The
/// client pings it at the same time, up to four times, a second apart.
const LOCAL_WAIT: Duration = Duration::from_secs(3);
/// How long the client may look for us in its network before we look for it. One of the two is enough, and
/// JavaScript looks only where a node sees both at one address.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long the client's first bytes may take once its stream is connected.
const HEADER_WAIT: Duration = Duration::from_secs(15);

/// A client whose answer is ready to be sent.
pub(super) struct AnsweredClient {
    pub meeting: Meeting,
    pub stream: udx::Stream,
    pub result: HandshakeResult,
    /// The Noise message.
    pub answer: Bytes,
    /// Where the client seems to be.
    pub client: SocketAddrV4,
    /// The way to it, if that is known: the socket and the path.
    pub at_once: Option<(Via, ConnectionPath)>,
    /// What the client says of its NAT, if it was offered to punch.
    pub punch_through: Option<Firewall>,
    pub agreement: Option<Agreement>,
    /// When its first message came.
    pub began: Instant,
}

impl AnsweredClient {
    /// Sends the answer, connects the stream by the first way that opens, and hands it over. `punches`: the
    /// client's requests to punch.
    pub(super) async fn connect(
        self,
        service: Service,
        id: HandshakeId,
        punches: mpsc::Receiver<PunchRequest>,
    ) {
        let Self { meeting, stream, result, answer, client, at_once, punch_through, agreement, began } = self;
        let (meeting, options) = (Arc::new(meeting), &service.options);
        let relay_keys = options.relay_keys.as_ref().unwrap_or(&service.keys);
        let relaying =
            agreement.map(|agreement| pair_at_relay(&meeting.context, relay_keys, agreement, stream.id()));
        if let Some((via, path)) = at_once {
            // Before the answer is sent: the client may come right after it.
            let found = meeting.take(via, client, path);
            service.decide(id, Some(answer), None);
            if found {
                tokio::spawn(Race::won(relaying).watch(meeting.route.clone()));
                meeting.hand_over(stream, result, began, service.accepted).await;
            }
            return;
        }
        let prepared = match punch_through {
            Some(firewall) if options.direct => {
                meeting.prepare(firewall, agreement.is_some(), holepunch_secret(&result)).await
            }
            _ => None,
        };
        // A client that looks for us in our network must find the socket that it knows. Any other is shown
        // the socket that it is to punch to.
        let via = prepared.as_ref().filter(|_| meeting.candidates.is_empty()).and_then(Prepared::via);
        service.decide(id, Some(answer), via);
        let finding = options.direct.then(|| meeting.clone().find_way(prepared, punches).boxed());
        let mut race = Race::new(finding, relaying);
        let Ok(link) = race.first(&meeting.route).await else { return };
        let handed_over = meeting.hand_over(stream, result, began, service.accepted);
        match link {
            Some(link) => {
                tokio::spawn(keep(link, meeting.route.clone()));
                // The client may ask to punch for as long as this goes on.
                tokio::join!(handed_over, race.go_on(meeting.route.clone()));
            }
            None => {
                tokio::spawn(race.watch(meeting.route.clone()));
                handed_over.await;
            }
        }
    }
}

/// The ways to a client that was answered.
pub(super) struct Meeting {
    pub context: Context,
    pub route: Route,
    /// Where the client may be in our network.
    pub candidates: Vec<SocketAddrV4>,
    /// The client will look for us in its network too: a node sees both at one address.
    pub is_looked_for: bool,
    /// The key the client claims.
    pub remote: PublicKey,
    /// Both want to use a punched hole again.
    pub is_reusable: bool,
    /// The socket that the first message came on.
    pub via: Via,
    /// The socket that a hole was punched with.
    pub socket: Mutex<Option<PoolSocket>>,
}

impl Meeting {
    /// Opens sockets to punch with, unless too many clients have some already. `has_relay`: a relay may carry
    /// the connection in the meantime.
    async fn prepare(
        &self,
        firewall: Firewall,
        has_relay: bool,
        holepunch_secret: [u8; 32],
    ) -> Option<Prepared> {
        let permit = self.context.shared.punches.clone().try_acquire_owned().ok()?;
        Some(Prepared::new(self.context.clone(), permit, firewall, has_relay, holepunch_secret).await)
    }

    /// Connects the stream to that address, unless the client has come. False if the node has no such socket.
    fn take(&self, via: Via, client: SocketAddrV4, path: ConnectionPath) -> bool {
        let Some(socket) = self.context.handle.socket(via) else { return false };
        self.route.take(&socket, SocketAddr::V4(client), Some(path));
        true
    }

    /// Waits until the client comes or is found.
    async fn find_way(
        self: Arc<Self>,
        prepared: Option<Prepared>,
        mut punches: mpsc::Receiver<PunchRequest>,
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
        // The client may still find us, or we it, in a network where no punching is needed.
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

    /// Gives the connection to the application once the client has proven its key. Until its header has come,
    /// somebody else may be replaying its messages.
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
            let (socket, stream) = (lock(&self.socket).take(), self.route.stream().clone());
            self.context.shared.holes.keep(self.remote, socket, self.via, stream);
        }
        if let Some(connection) = Connection::new(stream, self.route.clone(), began.elapsed()) {
            let _ = accepted.send(connection).await;
        }
    }
}
