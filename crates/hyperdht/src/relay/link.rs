//! A client's connection to a blind relay, and its place in a pair there.

use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::MAX_FRAME;
use super::message::{PROTOCOL, Pair, RelayMessage};
use super::mux::{ChannelEvent, Mux};
use crate::connect::{ConnectError, Connection};

/// How long connecting to the relay and waiting for the other peer may take together (hyperdht/lib/connect.js
/// relayConnection).
const PAIRING_WAIT: Duration = Duration::from_secs(15);

/// How long a relay may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// A place in a pair that a relay has made. It lasts as long as this value lives.
pub(crate) struct RelayLink {
    connection: Connection,
    mux: Mux,
    stream: u32,
}

impl RelayLink {
    /// Waits for the connection to the relay, then until the relay has paired us with the peer that shows the
    /// same token.
    ///
    /// # Errors
    /// [`ConnectError::RelayAborted`].
    pub(crate) async fn pair(
        connecting: impl Future<Output = Result<Connection, ConnectError>>,
        pair: Pair,
    ) -> Result<Self, ConnectError> {
        let paired = timeout(PAIRING_WAIT, Self::try_pair(connecting, pair)).await;
        paired.unwrap_or(Err(ConnectError::RelayAborted))
    }

    async fn try_pair(
        connecting: impl Future<Output = Result<Connection, ConnectError>>,
        pair: Pair,
    ) -> Result<Self, ConnectError> {
        let mut connection = connecting.await.map_err(|error| {
            debug!(%error, "no connection to the relay");
            ConnectError::RelayAborted
        })?;
        connection.stream.set_max_message(MAX_FRAME);
        let mut mux = Mux::default();
        let channel = mux.open(PROTOCOL, &connection.public_key());
        let (kind, body) = RelayMessage::Pair(pair).encode();
        mux.send(channel, kind, &body);
        let mut link = Self { connection, mux, stream: 0 };
        loop {
            match link.next().await {
                Some(ChannelEvent::Message { kind, body, .. }) => {
                    let Ok(Some(RelayMessage::Pair(paired))) = RelayMessage::decode(kind, &body) else {
                        continue;
                    };
                    if paired.token == pair.token && paired.is_initiator == pair.is_initiator {
                        link.stream = paired.stream;
                        return Ok(link);
                    }
                }
                Some(ChannelEvent::Opened(_)) => {}
                Some(ChannelEvent::Closed(_)) | None => {
                    debug!("the relay does not relay for us");
                    return Err(ConnectError::RelayAborted);
                }
            }
        }
    }

    /// The stream that the relay has made for us.
    pub(crate) fn stream(&self) -> u32 {
        self.stream
    }

    /// The connection to the relay: our stream takes the same way.
    pub(crate) fn neighbour(&self) -> &udx::StreamHandle {
        self.connection.stream.transport()
    }

    /// Waits until the relay is gone or has ended the pair.
    pub(crate) async fn lost(&mut self) {
        while let Some(event) = self.next().await {
            if matches!(event, ChannelEvent::Closed(_)) {
                return;
            }
        }
    }

    /// Tells the relay that it is needed no more.
    pub(crate) async fn end(mut self) {
        if self.connection.stream.shutdown().await.is_ok() {
            let _ = timeout(FAREWELL, self.lost()).await;
        }
    }

    /// What the relay does next; `None` once it is gone or has sent nonsense. Safe to cancel.
    async fn next(&mut self) -> Option<ChannelEvent> {
        loop {
            while let Some(frame) = self.mux.poll_frame() {
                self.connection.stream.send(&frame).await.ok()?;
            }
            if let Some(event) = self.mux.poll_event() {
                return Some(event);
            }
            let message = self.connection.stream.recv().await.ok()??;
            self.mux.handle(&message).ok()?;
        }
    }
}
