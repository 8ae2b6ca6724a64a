//! The dials and connections of a swarm, as its task holds them. What becomes of them is decided in `state`.

use std::collections::HashMap;

use hyperdht::connect::{ConnectError, Connection};
use secret_stream::Control;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::links::LinkId;

/// Why a dial came to nothing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The firewall refuses the peer, or has panicked.
    #[error("the firewall refuses the peer")]
    Refused,
    #[error(transparent)]
    Failed(ConnectError),
}

impl DialError {
    /// Whether it failed for want of a direct way (hyperswarm/index.js shouldForceRelaying).
    pub(crate) fn may_need_relay(self) -> bool {
        matches!(
            self,
            Self::Failed(
                ConnectError::HolepunchAborted
                    | ConnectError::TryLater
                    | ConnectError::DoubleRandomizedNats
                    | ConnectError::CannotHolepunch
            )
        )
    }
}

/// What happened to a dial or a connection.
pub(crate) enum ConnectionEvent {
    Dialled(LinkId, Result<Box<Connection>, DialError>),
    Ended(LinkId),
}

/// All dials and connections.
#[derive(Default)]
pub(crate) struct Connections {
    dials: JoinSet<(LinkId, Result<Box<Connection>, DialError>)>,
    /// Wait for the ends of connections.
    endings: JoinSet<LinkId>,
    stages: HashMap<LinkId, Stage>,
    /// Connections that nobody has decided on yet.
    arrived: HashMap<LinkId, Connection>,
}

/// How far one has come.
enum Stage {
    Dialling(AbortHandle),
    Open { control: Control<udx::WriteHalf>, stream: udx::StreamHandle },
}

impl Connections {
    /// Starts a dial.
    pub(crate) fn dial(
        &mut self,
        id: LinkId,
        dial: impl Future<Output = Result<Connection, DialError>> + Send + 'static,
    ) {
        let dial = self.dials.spawn(async move { (id, dial.await.map(Box::new)) });
        self.stages.insert(id, Stage::Dialling(dial));
    }

    /// The next dial or connection to end. Waits for ever if there is none.
    pub(crate) async fn next(&mut self) -> ConnectionEvent {
        loop {
            tokio::select! {
                Some(dialled) = self.dials.join_next() => match dialled {
                    Ok((id, result)) => return ConnectionEvent::Dialled(id, result),
                    Err(error) => if let Some(id) = self.panicked(&error) {
                        return ConnectionEvent::Dialled(id, Err(DialError::Refused));
                    }
                },
                // Waiting never panics, and is not given up.
                Some(Ok(id)) = self.endings.join_next() => return ConnectionEvent::Ended(id),
                else => std::future::pending().await,
            }
        }
    }

    /// The dial whose firewall has panicked. One that was given up is gone already.
    fn panicked(&self, error: &JoinError) -> Option<LinkId> {
        let is_it = |stage: &Stage| matches!(stage, Stage::Dialling(dial) if dial.id() == error.id());
        self.stages.iter().find_map(|(id, stage)| is_it(stage).then_some(*id))
    }

    /// Takes charge of an open connection, until [`Self::take`] hands it out.
    pub(crate) fn keep(&mut self, id: LinkId, connection: Connection) {
        let stream = connection.stream.transport().clone();
        let control = connection.stream.control();
        self.stages.insert(id, Stage::Open { control, stream: stream.clone() });
        self.arrived.insert(id, connection);
        self.endings.spawn(async move {
            // How it ended is its owner's concern.
            let _ = stream.closed().await;
            id
        });
    }

    /// Hands out a connection, and goes on waiting for its end.
    pub(crate) fn take(&mut self, id: LinkId) -> Option<Connection> {
        self.arrived.remove(&id)
    }

    /// Forgets what has ended. True if it was known.
    pub(crate) fn forget(&mut self, id: LinkId) -> bool {
        self.stages.remove(&id).is_some()
    }

    /// Ends a connection that nobody has taken.
    pub(crate) fn refuse(&mut self, id: LinkId) {
        self.stages.remove(&id);
        self.arrived.remove(&id);
    }

    /// Gives up a dial, or ends a connection. True if it is gone now; otherwise [`Self::next`] tells later.
    pub(crate) fn destroy(&mut self, id: LinkId) -> bool {
        match self.stages.get(&id) {
            Some(Stage::Open { stream, .. }) => {
                stream.destroy();
                false
            }
            Some(Stage::Dialling(dial)) => {
                dial.abort();
                self.forget(id)
            }
            None => true,
        }
    }

    /// Sends an empty message, so that a connection whose other end is gone is noticed.
    pub(crate) fn keep_alive(&self, id: LinkId) {
        if let Some(Stage::Open { control, .. }) = self.stages.get(&id) {
            control.send_keep_alive();
        }
    }

    /// Whether messages went both ways.
    pub(crate) fn is_used(&self, id: LinkId) -> bool {
        match self.stages.get(&id) {
            Some(Stage::Open { control, .. }) => {
                let traffic = control.traffic();
                traffic.sent > 0 && traffic.received > 0
            }
            _ => false,
        }
    }
}
