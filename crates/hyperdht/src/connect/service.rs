//! What the handshakes of one server share, and how each tells the server's task what became of it.

use bytes::Bytes;
use secret_stream::KeyPair;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::context::Context;
use super::handshakes::HandshakeId;
use super::options::ServerOptions;
use crate::rpc::Via;

/// What all handshakes of a server work with.
#[derive(Clone)]
pub(super) struct Service {
    pub context: Context,
    /// The server's.
    pub keys: KeyPair,
    pub options: ServerOptions,
    /// Each handshake is decided once, unless its task is ended before.
    pub decisions: mpsc::UnboundedSender<Decision>,
    pub accepted: mpsc::Sender<Connection>,
}

impl Service {
    /// Answers the first message of a handshake, or meets it with silence.
    pub(super) fn decide(&self, id: HandshakeId, answer: Option<Bytes>, via: Option<Via>) {
        let _ = self.decisions.send(Decision { id, answer, via });
    }
}

/// What became of a first message.
#[derive(Debug)]
pub(super) struct Decision {
    pub id: HandshakeId,
    /// The Noise message to answer with, or silence.
    pub answer: Option<Bytes>,
    /// The socket it leaves by, if not the one that the first message came on.
    pub via: Option<Via>,
}
