//! The tunnel: who is joined by it, what passes, and who is kept out.

mod hostile;
mod hubs;
mod joined;
mod refused;

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use hub::{HubConfig, TunnelAccess};
use protocol::tunnel::{CHALLENGE_LEN, JOINED, PATH, canonical_host, statement};
use secret_stream::{KeyPair, PublicKey};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Caller, PATIENCE, TestHub};

/// A hub whose tunnel serves these.
async fn hub_for(access: TunnelAccess) -> TestHub {
    TestHub::start_with(|config: &mut HubConfig| config.tunnel = access).await
}

/// Makes a task that names these keys: the first as an offer does, the others in messages on it.
async fn task_of(caller: &Caller, keys: &[&KeyPair]) -> i64 {
    let p2p = |keys: &KeyPair| json!({ "version": 2, "key": hex::encode(keys.public_key()) });
    let (first, rest) = keys.split_first().expect("a key");
    let task = caller.make_task(json!({ "title": "offer", "payload": { "p2p": p2p(first) } })).await;
    for keys in rest {
        name_in(caller, task, keys).await;
    }
    task
}

/// Names a key in a message on a task.
async fn name_in(caller: &Caller, task: i64, keys: &KeyPair) {
    let said = json!({ "p2p": { "key": hex::encode(keys.public_key()) } }).to_string();
    let message = json!({ "parts": [{ "type": "data", "content": said }] });
    caller.post(&format!("/tasks/{task}/messages"), message).await;
}

/// The path at which somebody with these keys waits for a peer.
fn path_of(keys: &KeyPair, peer: PublicKey) -> String {
    format!("{PATH}?key={}&peer={}", hex::encode(keys.public_key()), hex::encode(peer))
}

/// An end of the tunnel.
struct End<S = TcpStream> {
    socket: WebSocketStream<S>,
    challenge: [u8; CHALLENGE_LEN],
}

impl End {
    /// Opens the WebSocket as whoever has these keys says that they do.
    async fn open(hub: SocketAddr, keys: &KeyPair, peer: PublicKey) -> Self {
        let stream = TcpStream::connect(hub).await.expect("a connection");
        Self::open_over(stream, hub, keys, peer, &[]).await.expect("a WebSocket")
    }

    /// Opens it and proves the key.
    async fn enter(hub: SocketAddr, keys: &KeyPair, peer: PublicKey) -> Self {
        let mut end = Self::open(hub, keys, peer).await;
        end.prove(keys, keys.public_key(), peer, &host_of(hub)).await;
        end
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> End<S> {
    /// [`End::open`] over a connection, with headers; the status of the answer where it is none.
    async fn open_over(
        stream: S,
        hub: SocketAddr,
        keys: &KeyPair,
        peer: PublicKey,
        headers: &[(&'static str, String)],
    ) -> Result<Self, u16> {
        let url = format!("ws://{hub}{}", path_of(keys, peer));
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header value"));
        }
        let opening = timeout(PATIENCE, tokio_tungstenite::client_async(request, stream));
        let mut socket = match opening.await.expect("an answer in time") {
            Ok((socket, _)) => socket,
            Err(Error::Http(answer)) => return Err(answer.status().as_u16()),
            Err(error) => panic!("no answer: {error}"),
        };
        let challenge = match timeout(PATIENCE, socket.next()).await.expect("in time") {
            Some(Ok(Message::Binary(challenge))) => challenge.as_ref().try_into().expect("a challenge"),
            other => panic!("no challenge but {other:?}"),
        };
        Ok(Self { socket, challenge })
    }

    /// Answers the challenge with a signature that says this.
    async fn prove(&mut self, signer: &KeyPair, key: PublicKey, peer: PublicKey, host: &str) {
        let signature = signer.sign(&statement(&self.challenge, &key, &peer, host));
        self.send(signature.to_vec()).await;
    }

    async fn send(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.expect("sent");
    }

    /// Waits until the hub says that the other end is there.
    async fn joined(mut self) -> Self {
        match self.next().await {
            Message::Text(text) if text == JOINED => self,
            other => panic!("not joined but {other:?}"),
        }
    }

    /// The next message, pings aside.
    async fn next(&mut self) -> Message {
        loop {
            match timeout(2 * PATIENCE, self.socket.next()).await.expect("a message in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return message,
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// So many bytes of what the other end sends.
    async fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < count {
            match self.next().await {
                Message::Binary(bytes) => received.extend_from_slice(&bytes),
                other => panic!("{} bytes, then {other:?}", received.len()),
            }
        }
        assert_eq!(received.len(), count);
        received
    }

    /// Waits until the hub closes it, whatever it sends before; gives the code.
    async fn closed(mut self) -> u16 {
        loop {
            match self.next().await {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Close(None) => panic!("closed without a code"),
                _ => {}
            }
        }
    }
}

/// How ends name a hub in what they sign.
fn host_of(hub: SocketAddr) -> String {
    canonical_host(&format!("ws://{hub}")).expect("a host")
}

/// Two ends that are joined, by an open task of theirs if need be.
async fn pair(hub: &TestHub) -> ((KeyPair, End), (KeyPair, End)) {
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    task_of(&hub.caller("a"), &[&a, &b]).await;
    let address = hub.hub.local_addr();
    let one = End::enter(address, &a, b.public_key()).await;
    let other = End::enter(address, &b, a.public_key()).await;
    let (one, other) = tokio::join!(one.joined(), other.joined());
    ((a, one), (b, other))
}
