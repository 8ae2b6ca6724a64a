//! What other tasks tell the task that owns a node.

use std::io;
use std::net::SocketAddrV4;

use bytes::Bytes;
use secret_stream::PublicKey;
use tokio::sync::{mpsc, oneshot};

use crate::id::Id;
use crate::router::ServerRequest;
use crate::rpc::{Answer, Incoming, QuerySpec, Reply, Request, RequestError, Traffic};

/// Names a request or query of a caller, so that it can be cancelled.
pub(crate) type Ticket = u64;

pub(crate) enum Command {
    /// For the state machines; the others concern the sockets.
    Instruction(Box<Instruction>),
    Suspend(oneshot::Sender<()>),
    Resume(oneshot::Sender<io::Result<()>>),
    Destroy(oneshot::Sender<()>),
}

pub(crate) enum Instruction {
    Request {
        ticket: Ticket,
        request: Request,
        answer: oneshot::Sender<Result<Reply, RequestError>>,
    },
    CancelRequest(Ticket),
    Query {
        ticket: Ticket,
        spec: QuerySpec,
        events: mpsc::UnboundedSender<QueryEvent>,
    },
    CancelQuery(Ticket),
    Answer {
        incoming: Incoming,
        answer: Answer,
    },
    /// Tells whether the server is new.
    AddServer {
        target: Id,
        record: Bytes,
        requests: mpsc::Sender<ServerRequest>,
        done: oneshot::Sender<bool>,
    },
    RemoveServer(Id),
    /// Where a server announced itself from, if it did so at this node.
    AnnouncedFrom {
        target: Id,
        answer: oneshot::Sender<Option<SocketAddrV4>>,
    },
    Forget {
        target: Id,
        public_key: PublicKey,
    },
    Bootstrap(Vec<SocketAddrV4>),
    AddNodes(Vec<SocketAddrV4>),
    Nodes(oneshot::Sender<Vec<SocketAddrV4>>),
    Traffic(oneshot::Sender<Traffic>),
}

impl From<Instruction> for Command {
    fn from(instruction: Instruction) -> Self {
        Self::Instruction(Box::new(instruction))
    }
}

#[derive(Debug)]
pub(crate) enum QueryEvent {
    Reply(Box<Reply>),
    Done(Result<Vec<Reply>, RequestError>),
}
