//! How other tasks speak to the task that owns a node.

use std::net::SocketAddrV4;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::router::Router;
use crate::rpc::{Answer, Incoming, QuerySpec, Reply, Request, RequestError};
use crate::store::Forwards;

/// What a node knows of itself and its network right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first bootstrap query has ended.
    pub bootstrapped: bool,
    /// No known way in from outside: requests leave by the client socket.
    pub firewalled: bool,
    /// Not part of others' tables, and stores nothing.
    pub ephemeral: bool,
    /// The address others see; port 0 when it differs from one to the other.
    pub seen_as: Option<SocketAddrV4>,
    /// Where this node is reached from outside, if it is.
    pub remote_address: Option<SocketAddrV4>,
    /// Requests are being answered at all.
    pub online: bool,
    /// Counts changes of the network's state: health, interfaces, wakeups. Whoever stays
    /// findable announces again when it moves.
    pub changes: u64,
    pub suspended: bool,
    pub destroyed: bool,
}

/// Speaks to the task that owns a node. Cheap to clone; outliving the task is harmless.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Unbounded because only local callers fill it, each with one thing at a time.
    commands: mpsc::UnboundedSender<Command>,
    network: watch::Receiver<Network>,
    next_ticket: Arc<std::sync::atomic::AtomicU64>,
}

/// Names a request or query of a caller, so that it can be cancelled.
pub type Ticket = u64;

pub type WithRouter = Box<dyn FnOnce(&mut Router, &mut Forwards) + Send>;

pub enum Command {
    Request { ticket: Ticket, request: Request, answer: oneshot::Sender<Result<Reply, RequestError>> },
    CancelRequest(Ticket),
    Query { ticket: Ticket, spec: QuerySpec, events: mpsc::UnboundedSender<QueryEvent> },
    CancelQuery(Ticket),
    Answer { incoming: Incoming, answer: Answer },
    Router(WithRouter),
}

#[derive(Debug)]
pub enum QueryEvent {
    Reply(Box<Reply>),
    Done(Result<Vec<Reply>, RequestError>),
}

impl Handle {
    pub fn new(commands: mpsc::UnboundedSender<Command>, network: watch::Receiver<Network>) -> Self {
        Self { commands, network, next_ticket: Arc::default() }
    }

    /// Sends a request and waits for its answer, which may carry an error of the protocol.
    /// Dropping the future cancels it.
    pub async fn request(&self, request: Request) -> Result<Reply, RequestError> {
        let ticket = self.ticket();
        let (answer, answered) = oneshot::channel();
        self.send(Command::Request { ticket, request, answer });
        let _cancel = Cancel { handle: self, ticket };
        answered.await.unwrap_or(Err(RequestError::Destroyed))
    }

    /// Asks whether somebody is there.
    pub async fn ping(&self, to: SocketAddrV4) -> Result<Reply, RequestError> {
        self.request(Request::ping(to)).await
    }

    /// Starts a query. Dropping it cancels it.
    pub fn query(&self, spec: QuerySpec) -> Query {
        let ticket = self.ticket();
        let (events, receiver) = mpsc::unbounded_channel();
        self.send(Command::Query { ticket, spec, events });
        Query { handle: self.clone(), ticket, events: receiver, done: None }
    }

    /// Answers a request that was put aside when it came.
    pub fn answer(&self, incoming: Incoming, answer: Answer) {
        self.send(Command::Answer { incoming, answer });
    }

    /// Runs `f` inside the node's task.
    pub fn with_router(&self, f: impl FnOnce(&mut Router, &mut Forwards) + Send + 'static) {
        self.send(Command::Router(Box::new(f)));
    }

    /// What the node knows of itself, now.
    pub fn network(&self) -> Network {
        self.network.borrow().clone()
    }

    /// The same, to be woken by its changes.
    pub fn watch(&self) -> watch::Receiver<Network> {
        self.network.clone()
    }

    fn ticket(&self) -> Ticket {
        self.next_ticket.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// A node that is gone drops what is sent to it, and with it the sender of its answer.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

struct Cancel<'a> {
    handle: &'a Handle,
    ticket: Ticket,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        self.handle.send(Command::CancelRequest(self.ticket));
    }
}

/// A running query.
#[derive(Debug)]
pub struct Query {
    handle: Handle,
    ticket: Ticket,
    events: mpsc::UnboundedReceiver<QueryEvent>,
    done: Option<Result<Vec<Reply>, RequestError>>,
}

impl Query {
    /// The next reply without an error, in the order they come; `None` at the end.
    pub async fn next(&mut self) -> Option<Reply> {
        if self.done.is_some() {
            return None;
        }
        match self.events.recv().await {
            Some(QueryEvent::Reply(reply)) => Some(*reply),
            Some(QueryEvent::Done(result)) => {
                self.done = Some(result);
                None
            }
            None => {
                self.done = Some(Err(RequestError::Destroyed));
                None
            }
        }
    }

    /// Waits for the end, dropping replies that were not taken. The replies of the (at most 20)
    /// nodes closest to the target, closest first, with their tokens: those to write to.
    pub async fn finish(mut self) -> Result<Vec<Reply>, RequestError> {
        while self.next().await.is_some() {}
        self.done.take().unwrap_or(Err(RequestError::Destroyed))
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if self.done.is_none() {
            self.handle.send(Command::CancelQuery(self.ticket));
        }
    }
}
