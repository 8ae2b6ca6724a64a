//! How other tasks speak to the task that owns a node.

use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use secret_stream::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};
use udx::{Socket, SocketId, Udx};

use crate::id::Id;
use crate::instruction::{Command, Instruction, QueryEvent, Ticket};
use crate::network::Network;
use crate::pool::{Pool, PoolSocket};
use crate::router::ServerRequest;
use crate::rpc::{Answer, Incoming, QuerySpec, Reply, Request, RequestError, Traffic, Via};

/// Speaks to the task that owns a node. Cheap to clone; outliving the task is harmless.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    /// Unbounded, because only local callers fill it, and each has one command under way.
    commands: mpsc::UnboundedSender<Command>,
    network: watch::Receiver<Network>,
    sockets: watch::Receiver<Option<NodeSockets>>,
    pool: Pool,
    /// What sockets are bound to.
    host: IpAddr,
    udx: Udx,
}

/// The two sockets of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeSockets {
    /// At the node's port, where others reach it.
    pub server: Socket,
    /// At a random port.
    pub client: Socket,
}

impl NodeSockets {
    /// Which of the two a datagram came on.
    pub(crate) fn via(&self, socket: SocketId) -> Option<Via> {
        if socket == self.server.id() {
            Some(Via::Server)
        } else if socket == self.client.id() {
            Some(Via::Client)
        } else {
            None
        }
    }
}

/// Tickets are never used twice in a process.
static NEXT_TICKET: AtomicU64 = AtomicU64::new(0);

impl Handle {
    pub(crate) fn new(
        commands: mpsc::UnboundedSender<Command>,
        network: watch::Receiver<Network>,
        sockets: watch::Receiver<Option<NodeSockets>>,
        pool: Pool,
        host: IpAddr,
        udx: Udx,
    ) -> Self {
        Self { commands, network, sockets, pool, host, udx }
    }

    /// Sends a request and waits for its answer, which may carry an error of the protocol. Dropping the
    /// future cancels it.
    pub(crate) async fn request(&self, request: Request) -> Result<Reply, RequestError> {
        let ticket = next_ticket();
        let (answer, answered) = oneshot::channel();
        self.instruct(Instruction::Request { ticket, request, answer });
        let mut cancel = Cancel { handle: self, ticket, done: false };
        let result = answered.await.unwrap_or(Err(RequestError::Destroyed));
        cancel.done = true;
        result
    }

    /// Asks whether somebody is there.
    pub(crate) async fn ping(&self, to: SocketAddrV4) -> Result<Reply, RequestError> {
        self.request(Request::ping(to)).await
    }

    /// Starts a query. Dropping it cancels it.
    pub(crate) fn query(&self, spec: QuerySpec) -> Query {
        let ticket = next_ticket();
        let (events, receiver) = mpsc::unbounded_channel();
        self.instruct(Instruction::Query { ticket, spec, events });
        Query { handle: self.clone(), ticket, events: receiver, done: None }
    }

    /// Answers a request that was kept for later.
    pub(crate) fn answer(&self, incoming: Incoming, answer: Answer) {
        self.instruct(Instruction::Answer { incoming, answer });
    }

    /// Hands requests for the server at `target` to `requests` from now on, and gives `record` to those who
    /// look for it. False if there is such a server already; `None` if the node is gone.
    pub(crate) async fn add_server(
        &self,
        target: Id,
        record: Bytes,
        requests: mpsc::Sender<ServerRequest>,
    ) -> Option<bool> {
        self.ask(|done| Instruction::AddServer { target, record, requests, done }.into()).await
    }

    /// Hands no more requests to the server at `target`.
    pub(crate) fn remove_server(&self, target: Id) {
        self.instruct(Instruction::RemoveServer(target));
    }

    /// Where a server announced itself from, if it did so at this node.
    pub(crate) async fn announced_from(&self, target: Id) -> Option<SocketAddrV4> {
        self.ask(|answer| Instruction::AnnouncedFrom { target, answer }.into()).await.flatten()
    }

    /// Forgets what this node stores of a peer of its own that leaves.
    pub(crate) fn forget(&self, target: Id, public_key: PublicKey) {
        self.instruct(Instruction::Forget { target, public_key });
    }

    pub(crate) fn set_bootstrap(&self, nodes: Vec<SocketAddrV4>) {
        self.instruct(Instruction::Bootstrap(nodes));
    }

    pub(crate) fn add_nodes(&self, nodes: Vec<SocketAddrV4>) {
        self.instruct(Instruction::AddNodes(nodes));
    }

    /// The nodes of the routing table, the one heard last first.
    pub(crate) async fn nodes(&self) -> Vec<SocketAddrV4> {
        self.ask(|answer| Instruction::Nodes(answer).into()).await.unwrap_or_default()
    }

    /// The requests that the node has sent so far.
    pub(crate) async fn traffic(&self) -> Traffic {
        self.ask(|answer| Instruction::Traffic(answer).into()).await.unwrap_or_default()
    }

    /// Closes the sockets until [`Handle::resume`]; requests and queries fail.
    pub(crate) async fn suspend(&self) {
        let _ = self.ask(Command::Suspend).await;
    }

    /// Binds the sockets again, to the ports they had if those are free.
    pub(crate) async fn resume(&self) -> io::Result<()> {
        self.ask(Command::Resume).await.unwrap_or(Ok(()))
    }

    /// Ends the node's task.
    pub(crate) async fn destroy(&self) {
        let _ = self.ask(Command::Destroy).await;
    }

    /// The udx instance of the sockets; streams are made there.
    pub(crate) fn udx(&self) -> &Udx {
        &self.udx
    }

    /// The socket of that name; `None` while suspended and at the end.
    pub(crate) fn socket(&self, via: Via) -> Option<Socket> {
        match via {
            Via::Server => self.sockets.borrow().as_ref().map(|sockets| sockets.server.clone()),
            Via::Client => self.sockets.borrow().as_ref().map(|sockets| sockets.client.clone()),
            Via::Pool(number) => self.pool.get(number),
        }
    }

    /// Opens a further socket, at any port.
    ///
    /// # Errors
    /// What the system says, or that the node is suspended or gone.
    pub(crate) async fn open_socket(&self) -> io::Result<PoolSocket> {
        let socket = self.udx.bind((self.host, 0).into()).await?;
        let opened = self.pool.insert(socket);
        // Checked last: a node that is suspended in the meantime closes the socket, or it is dropped here.
        let bound = self.sockets.borrow().is_some();
        if bound { Ok(opened) } else { Err(io::ErrorKind::NotConnected.into()) }
    }

    /// Waits until `condition` holds. False if the node ends first.
    pub(crate) async fn wait_for(&self, condition: impl FnMut(&Network) -> bool) -> bool {
        self.network.clone().wait_for(condition).await.is_ok_and(|network| !network.destroyed)
    }

    /// What the node knows of itself, now.
    pub(crate) fn network(&self) -> Network {
        self.network.borrow().clone()
    }

    /// The same, to be woken by its changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Network> {
        self.network.clone()
    }

    /// `None` if the node is gone.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer));
        answered.await.ok()
    }

    fn instruct(&self, instruction: Instruction) {
        self.send(instruction.into());
    }

    /// A node that has ended drops what is sent to it, and with it the sender of the answer.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

fn next_ticket() -> Ticket {
    NEXT_TICKET.fetch_add(1, Ordering::Relaxed)
}

struct Cancel<'a> {
    handle: &'a Handle,
    ticket: Ticket,
    done: bool,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.handle.instruct(Instruction::CancelRequest(self.ticket));
        }
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

    /// Waits for the end, dropping replies that were not taken. The replies of the (at most 20) nodes closest
    /// to the target, closest first, with their tokens: those to write to.
    pub async fn finish(mut self) -> Result<Vec<Reply>, RequestError> {
        while self.next().await.is_some() {}
        self.done.take().unwrap_or(Err(RequestError::Destroyed))
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if self.done.is_none() {
            self.handle.instruct(Instruction::CancelQuery(self.ticket));
        }
    }
}
