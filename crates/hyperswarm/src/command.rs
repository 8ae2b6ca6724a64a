//! What the handles of a swarm ask of the task that owns it.

use hyperdht::connect::ListenError;
use secret_stream::PublicKey;
use tokio::sync::oneshot;

use crate::{Topic, config::JoinOptions};

/// One request. A `done` is answered when it is carried out, and dropped if it never will be.
#[derive(Debug)]
pub(crate) enum Command {
    /// Adds a session to a topic, or changes it.
    Update {
        topic: Topic,
        session: u64,
        options: JoinOptions,
    },
    EndSession {
        topic: Topic,
        session: u64,
        done: oneshot::Sender<()>,
    },
    Leave {
        topic: Topic,
        done: oneshot::Sender<()>,
    },
    Refresh {
        topic: Topic,
    },
    LookUp {
        topic: Topic,
    },
    /// Whether the last refresh went well, once none runs.
    Flushed {
        topic: Topic,
        done: oneshot::Sender<bool>,
    },
    FoundPeers {
        topic: Topic,
        done: oneshot::Sender<Vec<PublicKey>>,
    },
    /// For each topic, a receiver that is answered once no refresh of it runs.
    FlushTopics(oneshot::Sender<Vec<oneshot::Receiver<bool>>>),
    /// Whether all who are known now were tried.
    Flush(oneshot::Sender<bool>),
    Hold,
    Release,
    JoinPeer(PublicKey),
    LeavePeer(PublicKey),
    Listen(oneshot::Sender<Result<(), ListenError>>),
    Suspend(oneshot::Sender<()>),
    Resume(oneshot::Sender<()>),
    Destroy(oneshot::Sender<()>),
}

/// Answers a [`Command`]. Whoever asked may have stopped waiting; that is no failure.
pub(crate) fn answer<T>(done: oneshot::Sender<T>, with: T) {
    drop(done.send(with));
}
