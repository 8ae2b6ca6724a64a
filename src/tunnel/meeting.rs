//! One meeting at the tunnel: from the WebSocket to the encrypted stream with the peer.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use protocol::tunnel::{CHALLENGE_LEN, JOINED, MAX_MESSAGE, statement};
use secret_stream::{Control, Io, IoWriter, KeyPair, PublicKey, SecretStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role as SocketRole, WebSocketConfig};

use super::bytes::{SILENCE, TunnelSocket, WebSocketBytes};
use super::{Tunnel, TunnelError};
use crate::ats::said;
use crate::web::{WebSocketAnswer, beginning};

/// How long the tunnel may take for each thing that is its turn, and the peer for the handshake once it is
/// there.
const TURN_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection that still lives may be silent after the network has changed: where it is given up
/// wrongly, the next one goes on where it was.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// The most bytes that are read of a refusal.
const MAX_REFUSAL: usize = 4 * 1024;

/// What is held of what the socket does not take.
const WRITE_BUFFER: usize = 128 * 1024;

/// Which end of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelRole {
    /// The receiver's, who begins.
    Initiator,
    /// The sender's.
    Responder,
}

/// A peer that was met.
pub(crate) struct Met {
    /// The stream with it.
    pub(crate) stream: SecretStream<Io<WebSocketBytes>>,
    /// What can be told and asked about it.
    pub(crate) link: TunnelLink,
}

/// What can be told and asked about a connection through the tunnel.
#[derive(Clone)]
pub(crate) struct TunnelLink {
    control: Control<IoWriter<WebSocketBytes>>,
    /// One round trip to the peer, at the beginning.
    pub(crate) rtt: Duration,
    /// From the beginning until the peer was met, without what it took to come.
    pub(crate) took: Duration,
    /// Where the hub is, or the proxy before it.
    pub(crate) remote_address: SocketAddr,
}

impl TunnelLink {
    /// Whether anything comes from the peer, or goes to it, within three seconds.
    pub(crate) async fn is_alive(&self) -> bool {
        let before = self.control.traffic();
        sleep(SIGN_OF_LIFE).await;
        self.control.traffic() != before
    }

    /// Whether anybody still holds the stream.
    pub(crate) fn is_open(&self) -> bool {
        self.control.is_open()
    }

    /// Ends the connection at once.
    pub(crate) fn destroy(&self) {
        self.control.destroy();
    }
}

/// Meets the peer that has this key. Waits for it as long as the hub does: to be dropped when it should not
/// come any more.
pub(crate) async fn meet(
    tunnel: &Tunnel,
    keys: &KeyPair,
    peer: PublicKey,
    role: TunnelRole,
) -> Result<Met, TunnelError> {
    let began = Instant::now();
    let (mut socket, remote_address) = open(tunnel, keys, peer).await?;
    prove(tunnel, &mut socket, keys, peer).await?;
    let opened = began.elapsed();
    wait_for_peer(tunnel, &mut socket).await?;
    let joined = Instant::now();
    let stream = in_time(tunnel, handshake(socket, keys, peer, role)).await??;
    let rtt = joined.elapsed();
    let control = stream.control();
    Ok(Met { stream, link: TunnelLink { control, rtt, took: opened + rtt, remote_address } })
}

/// Looks whether a tunnel opens: it does once it asks for a proof.
pub(crate) async fn probe(tunnel: &Tunnel) -> Result<(), TunnelError> {
    let [keys, nobody] = [KeyPair::generate(), KeyPair::generate()];
    let (mut socket, _) = open(tunnel, &keys, nobody.public_key()).await?;
    challenge(tunnel, &mut socket).await.map(drop)
}

async fn open(
    tunnel: &Tunnel,
    keys: &KeyPair,
    peer: PublicKey,
) -> Result<(TunnelSocket, SocketAddr), TunnelError> {
    let url = tunnel.address(&keys.public_key(), &peer);
    let answer = in_time(tunnel, tunnel.web().open_web_socket(&url, tunnel.headers())).await?;
    let place = || tunnel.shown().to_owned();
    match answer.map_err(|error| TunnelError::Way { place: place(), error })? {
        WebSocketAnswer::Open { connection, remote_address } => {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MAX_MESSAGE))
                .max_frame_size(Some(MAX_MESSAGE))
                .write_buffer_size(WRITE_BUFFER)
                .max_write_buffer_size(WRITE_BUFFER + MAX_MESSAGE);
            let role = SocketRole::Client;
            let socket = WebSocketStream::from_raw_socket(connection, role, Some(config)).await;
            Ok((socket, remote_address))
        }
        WebSocketAnswer::Other(answer) => {
            let status = answer.status();
            let body = in_time(tunnel, beginning(answer.into(), MAX_REFUSAL)).await?;
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let message = said(&body).or(status.canonical_reason()).unwrap_or("no reason given");
            Err(TunnelError::refused(tunnel, status.as_u16(), message))
        }
    }
}

async fn prove(
    tunnel: &Tunnel,
    socket: &mut TunnelSocket,
    keys: &KeyPair,
    peer: PublicKey,
) -> Result<(), TunnelError> {
    let challenge = challenge(tunnel, socket).await?;
    let proof = keys.sign(&statement(&challenge, &keys.public_key(), &peer, tunnel.host()));
    let sent = in_time(tunnel, socket.send(Message::binary(proof.to_vec()))).await?;
    sent.map_err(|error| broken(tunnel, &error.to_string()))
}

/// What is to be signed.
async fn challenge(tunnel: &Tunnel, socket: &mut TunnelSocket) -> Result<[u8; CHALLENGE_LEN], TunnelError> {
    let challenge = match in_time(tunnel, next(tunnel, socket)).await?? {
        Message::Binary(bytes) => bytes.as_ref().try_into().ok(),
        _ => None,
    };
    challenge.ok_or_else(|| broken(tunnel, "it asked for no proof"))
}

async fn wait_for_peer(tunnel: &Tunnel, socket: &mut TunnelSocket) -> Result<(), TunnelError> {
    loop {
        match timeout(SILENCE, next(tunnel, socket)).await {
            Ok(Ok(Message::Text(text))) if text.as_str() == JOINED => return Ok(()),
            Ok(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Ok(Ok(_)) => return Err(broken(tunnel, "it said something out of turn")),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(TunnelError::Timeout { place: tunnel.shown().to_owned(), after: SILENCE });
            }
        }
    }
}

async fn next(tunnel: &Tunnel, socket: &mut TunnelSocket) -> Result<Message, TunnelError> {
    match socket.next().await {
        Some(Ok(Message::Close(frame))) => Err(TunnelError::of_close(tunnel, frame)),
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(broken(tunnel, &error.to_string())),
        None => Err(broken(tunnel, "it hung up")),
    }
}

async fn handshake(
    socket: TunnelSocket,
    keys: &KeyPair,
    peer: PublicKey,
    role: TunnelRole,
) -> Result<SecretStream<Io<WebSocketBytes>>, TunnelError> {
    let wrong = |error: secret_stream::Error| TunnelError::Peer(error.to_string());
    let transport = Io(WebSocketBytes::new(socket));
    let is_initiator = role == TunnelRole::Initiator;
    let mut stream =
        SecretStream::handshake_xx(is_initiator, keys.clone(), transport).await.map_err(wrong)?;
    if stream.remote_public_key() != peer {
        return Err(TunnelError::Peer("it has another key".to_owned()));
    }
    stream.ready().await.map_err(wrong)?;
    Ok(stream)
}

async fn in_time<T>(tunnel: &Tunnel, turn: impl Future<Output = T>) -> Result<T, TunnelError> {
    let late = |_| TunnelError::Timeout { place: tunnel.shown().to_owned(), after: TURN_LIMIT };
    timeout(TURN_LIMIT, turn).await.map_err(late)
}

fn broken(tunnel: &Tunnel, reason: &str) -> TunnelError {
    TunnelError::Broken { place: tunnel.shown().to_owned(), reason: reason.to_owned() }
}

impl fmt::Debug for TunnelLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelLink").field("remote_address", &self.remote_address).finish_non_exhaustive()
    }
}
