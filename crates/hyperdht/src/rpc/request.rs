//! What goes in and out of the rpc state machine: requests to other nodes, requests of others, and their
//! answers.

use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;

use crate::command;
use crate::id::Id;

/// Proof that the asker receives at its IP address; good for about ten seconds.
pub type Token = [u8; 32];

/// Which of the node's sockets a datagram came on, or leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// The socket at the node's port, where others reach it.
    Server,
    /// The socket at a random port that a firewalled node asks from.
    Client,
    /// A further socket, opened for one connection.
    Pool(u32),
}

/// Names a request of this node while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(super) u64);

/// Names a query of this node while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct QueryId(pub(super) u64);

/// A request to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub to: SocketAddrV4,
    /// A command of the plain DHT, not one of [`crate::command`]'s own.
    pub internal: bool,
    pub command: u64,
    pub target: Option<Id>,
    pub token: Option<Token>,
    pub value: Option<Bytes>,
    /// `None`: the socket in use, [`Via::Client`] while firewalled and [`Via::Server`] once open.
    pub via: Option<Via>,
    /// How often it is sent before it is given up; at least 1.
    pub attempts: u32,
    /// The network may not cut it to pieces.
    pub is_whole: bool,
}

impl Request {
    /// Sends of an ordinary request.
    pub(crate) const ATTEMPTS: u32 = 4;
    /// Sends of a request that belongs to a query.
    pub(crate) const QUERY_ATTEMPTS: u32 = 6;
    /// How long each send may take, unless that is adapted to the node.
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

    /// One of the commands of [`crate::command`].
    pub(crate) fn user(command: u64, target: Id, to: SocketAddrV4) -> Self {
        Self { target: Some(target), ..Self::new(false, command, to) }
    }

    /// One of the commands of [`crate::command::internal`].
    pub(crate) fn internal(command: u64, to: SocketAddrV4) -> Self {
        Self::new(true, command, to)
    }

    pub(crate) fn ping(to: SocketAddrV4) -> Self {
        Self::internal(command::internal::PING, to)
    }

    #[must_use]
    pub(crate) fn value(self, value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    #[must_use]
    pub(crate) fn token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Sends it by this socket, even if another is in use.
    #[must_use]
    pub(crate) fn via(self, via: Via) -> Self {
        Self { via: Some(via), ..self }
    }

    #[must_use]
    pub(crate) fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// Has it arrive in one piece or not at all.
    #[must_use]
    pub(crate) fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }

    fn new(internal: bool, command: u64, to: SocketAddrV4) -> Self {
        Self {
            to,
            internal,
            command,
            target: None,
            token: None,
            value: None,
            via: None,
            attempts: Self::ATTEMPTS,
            is_whole: false,
        }
    }
}

/// The answer to a request. It came from the address that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The node that was asked.
    pub from: SocketAddrV4,
    /// The node's id, checked against its address; `None` for an ephemeral node.
    pub id: Option<Id>,
    /// Our own address as that node sees it.
    pub to: SocketAddrV4,
    /// The socket it came on.
    pub via: Via,
    /// To write to that node with.
    pub token: Option<Token>,
    /// Nodes it knows near the target, at most 20.
    pub closer: Vec<SocketAddrV4>,
    /// 0, or the number of an error (spec/dht.md §3, §10).
    pub error: u64,
    /// What the command asked for.
    pub value: Option<Bytes>,
    /// Time since the request was first sent.
    pub rtt: Duration,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// All sends were in vain.
    #[error("no answer in time")]
    TimedOut,
    /// The node is suspended.
    #[error("the node is suspended")]
    Suspended,
    /// The node has ended.
    #[error("the node is destroyed")]
    Destroyed,
    /// More requests wait than a node can keep apart: 4096.
    #[error("too many requests wait already")]
    Busy,
}

/// A request of another node that this one does not answer by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub via: Via,
    pub from: SocketAddrV4,
    /// Our address as the sender wrote it.
    pub to: SocketAddrV4,
    pub tid: u16,
    /// The sender's id, checked against its address.
    pub id: Option<Id>,
    /// It is valid: a request with another one has been answered already.
    pub token: Option<Token>,
    pub command: u64,
    pub target: Option<Id>,
    pub value: Option<Bytes>,
}

/// The answer to an [`Incoming`] request. For silence, give no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A response to the sender, or to `to` if given.
    Reply {
        value: Option<Bytes>,
        to: Option<SocketAddrV4>,
        /// `None`: the socket the request came on.
        via: Option<Via>,
        /// Add a fresh token.
        token: bool,
        /// Add the nodes closest to the request's target.
        closer: bool,
    },
    /// A response with an error and the closest nodes.
    Error(u64),
    /// The same request again, with the same tid, command and target, no token and another value, to somebody
    /// else.
    Relay { value: Bytes, to: SocketAddrV4, via: Option<Via> },
}

impl Answer {
    /// The usual reply to a user command: value, token, closer nodes, to the sender.
    pub(crate) fn reply(value: Option<Bytes>) -> Self {
        Self::Reply { value, to: None, via: None, token: true, closer: true }
    }

    /// A reply with nothing but its value.
    pub(crate) fn bare(value: Option<Bytes>) -> Self {
        Self::Reply { value, to: None, via: None, token: false, closer: false }
    }

    /// A reply that only helps the sender on: no value, the nodes closest to the target.
    pub(crate) fn closer() -> Self {
        Self::Reply { value: None, to: None, via: None, token: false, closer: true }
    }
}

/// An iterative query: the same request to nodes ever closer to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuerySpec {
    pub target: Id,
    pub internal: bool,
    pub command: u64,
    pub value: Option<Bytes>,
    /// Where to begin, closest first; nodes of the routing table and bootstrap nodes are added.
    pub nodes: Vec<SocketAddrV4>,
    /// Ask `nodes` alone.
    pub only_nodes: bool,
    /// Requests at once.
    pub concurrency: usize,
    /// Sends of each request.
    pub attempts: u32,
}

impl QuerySpec {
    /// Requests at once, unless told otherwise.
    pub(crate) const CONCURRENCY: usize = 10;

    /// One of the commands of [`crate::command`].
    pub(crate) fn user(command: u64, target: Id) -> Self {
        Self {
            target,
            internal: false,
            command,
            value: None,
            nodes: Vec::new(),
            only_nodes: false,
            concurrency: Self::CONCURRENCY,
            attempts: Request::QUERY_ATTEMPTS,
        }
    }

    /// FIND_NODE, which only looks for nodes.
    pub(crate) fn find_node(target: Id) -> Self {
        Self { internal: true, ..Self::user(command::internal::FIND_NODE, target) }
    }

    #[must_use]
    pub(crate) fn value(self, value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    #[must_use]
    pub(crate) fn nodes(self, nodes: Vec<SocketAddrV4>) -> Self {
        Self { nodes, ..self }
    }
}

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub via: Via,
    pub to: SocketAddrV4,
    pub data: Bytes,
    /// The network may not cut it to pieces.
    pub is_whole: bool,
}
