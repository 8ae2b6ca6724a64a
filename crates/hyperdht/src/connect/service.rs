//! What the handshakes of one server share, and how each reports its decision to the server's task.

use bytes::Bytes;
use secret_stream::KeyPair;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::context::Context;
use super::handshakes::HandshakeId;
use super::options::ServerOptions;
use crate::rpc::Via;

/// What all handshakes of a server need.
#[derive(Clone)]
pub(super) struct Service {
    pub context: Context,
    /// The server's keys.
    pub keys: KeyPair,
    pub options: ServerOptions,
    /// Each handshake sends one decision, unless its task is ended before.
    pub decisions: mpsc::UnboundedSender<Decision>,
    pub accepted: mpsc::Sender<Connection>,
}

impl Service {
    /// Decides that the first message of a handshake gets this answer, or none.
    pub(super) fn decide(&self, id: HandshakeId, answer: Option<Bytes>, via: Option<Via>) {
        let _ = self.decisions.send(Decision { id, answer, via });
    }
}

/// What happens to the first message of a handshake.
#[derive(Debug)]
pub(super) struct Decision {
    pub id: HandshakeId,
    /// The Noise message to answer with; `None` for silence.
    pub answer: Option<Bytes>,
    /// The socket to answer by, if not the one that the first message came on.
    pub via: Option<Via>,
}
