//! Finding a server by its public key: a query looks for nodes that know it, and each of those is asked to
//! pass the handshake on (spec/connect.md §6).

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use secret_stream::HandshakeResult;
use tokio::time::timeout;

use super::context::Context;
use super::error::ConnectError;
use super::message::{Handshake, Mode};
use super::noise::Initiator;
use super::payload::{NoisePayload, VERSION, error};
use super::peer_address::PeerAddress;
use super::plan::Answered;
use super::socket_reuse::Hole;
use crate::command;
use crate::crypto::hash;
use crate::handle::Query;
use crate::id::Id;
use crate::rpc::filter::is_host;
use crate::rpc::{QuerySpec, Reply, Request, RequestError, Via};
use crate::store::message::Peer;

/// How long a server is asked through an open hole before nodes are asked.
const HOLE_PATIENCE: Duration = Duration::from_secs(1);
/// Nodes asked at once: this many that were found, and one more while there are hints.
const PARALLEL: usize = 2;
/// Hints that are asked at most: servers name three.
const MAX_HINTS: usize = 6;
/// Nodes that wait to be asked. What the query finds beyond is not needed.
const MAX_WAITING: usize = 64;
/// How often each request of the query is sent.
const QUERY_ATTEMPTS: u32 = 4;

/// A server's answer, read.
pub(super) struct ServerAnswer {
    /// Where it came from.
    pub answered: Answered,
    /// The socket it came on.
    pub via: Via,
    /// What the server says of itself.
    pub payload: NoisePayload,
    /// The server's stream.
    pub remote_id: u32,
    /// The keys of the connection.
    pub result: HandshakeResult,
}

/// Looks for nodes that know the server, and for the server through them.
pub(super) struct Search<'a> {
    context: &'a Context,
    target: Id,
    initiator: &'a Initiator,
    hints: Vec<SocketAddrV4>,
}

/// What came of asking one node.
type Asked = (Lane, Result<ServerAnswer, AskFailure>);

#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Hint,
    Found,
}

enum AskFailure {
    /// This node leads nowhere; another may.
    Node,
    /// The server itself has refused, or this node has ended.
    Final(ConnectError),
}

impl<'a> Search<'a> {
    /// A search for the server of the initiator's handshake, which begins at the nodes `hints`, or else at
    /// those known of the peer.
    pub(super) async fn new(
        context: &'a Context,
        peer: &PeerAddress,
        initiator: &'a Initiator,
        hints: Vec<SocketAddrV4>,
    ) -> Self {
        let target = hash(&[&peer.public_key]);
        let hints = nodes_to_ask(context, peer, hints, target).await;
        Self { context, target, initiator, hints }
    }

    /// The first valid answer, and the nodes that were asked for it.
    pub(super) async fn run(self) -> Result<(ServerAnswer, Vec<SocketAddrV4>), ConnectError> {
        let mut hints: VecDeque<_> = self.hints.iter().copied().collect();
        let mut parallel = PARALLEL + usize::from(!hints.is_empty());
        let mut asking: FuturesUnordered<BoxFuture<'_, Asked>> = FuturesUnordered::new();
        let mut asked: Vec<SocketAddrV4> = Vec::new();
        let mut seen: HashSet<SocketAddrV4> = self.hints.iter().copied().collect();
        let mut waiting: VecDeque<SocketAddrV4> = VecDeque::new();
        let mut found_any = false;
        let mut query = Some(self.find_peer(self.hints.clone()));
        // A query that began at bad hints may have found nothing for that reason.
        let mut second_pass = !hints.is_empty();

        if let Some(hint) = hints.pop_front() {
            asked.push(hint);
            asking.push(self.ask(Lane::Hint, hint));
        }
        loop {
            while asking.len() < parallel
                && let Some(node) = waiting.pop_front()
            {
                asked.push(node);
                asking.push(self.ask(Lane::Found, node));
            }
            if query.is_none() && asking.is_empty() {
                if second_pass {
                    second_pass = false;
                    query = Some(self.find_peer(Vec::new()));
                } else if found_any {
                    return Err(ConnectError::PeerConnectionFailed);
                } else {
                    return Err(ConnectError::PeerNotFound);
                }
            }
            tokio::select! {
                Some((lane, result)) = asking.next() => {
                    match result {
                        Ok(session) => return Ok((session, asked)),
                        Err(AskFailure::Final(error)) => return Err(error),
                        Err(AskFailure::Node) => {}
                    }
                    if lane == Lane::Hint {
                        match hints.pop_front() {
                            Some(hint) => {
                                asked.push(hint);
                                asking.push(self.ask(Lane::Hint, hint));
                            }
                            None => parallel = PARALLEL,
                        }
                    }
                }
                reply = next_reply(&mut query), if query.is_some() => match reply {
                    Some(reply) => {
                        if knows_peer(&reply) && waiting.len() < MAX_WAITING && seen.insert(reply.from) {
                            found_any = true;
                            waiting.push_back(reply.from);
                        }
                    }
                    None => query = None,
                },
            }
        }
    }

    /// Asks the server itself, where a hole leads to it.
    pub(super) async fn ask_through(&self, hole: Option<&Hole>) -> Option<ServerAnswer> {
        let hole = hole?;
        let request = self.request(hole.address()).via(hole.via());
        timeout(HOLE_PATIENCE, self.answer_to(request)).await.ok()?.ok()
    }

    fn find_peer(&self, nodes: Vec<SocketAddrV4>) -> Query {
        let spec = QuerySpec { attempts: QUERY_ATTEMPTS, ..QuerySpec::user(command::FIND_PEER, self.target) };
        self.context.handle.query(spec.nodes(nodes))
    }

    fn ask(&self, lane: Lane, node: SocketAddrV4) -> BoxFuture<'_, Asked> {
        async move { (lane, self.answer_to(self.request(node)).await) }.boxed()
    }

    /// Asks one node to pass the handshake on.
    fn request(&self, node: SocketAddrV4) -> Request {
        let message = Handshake::new(Mode::FromClient, self.initiator.message().to_vec());
        Request::user(command::PEER_HANDSHAKE, self.target, node).value(message.encode())
    }

    async fn answer_to(&self, request: Request) -> Result<ServerAnswer, AskFailure> {
        let node = request.to;
        let reply = self.context.handle.request(request).await.map_err(|error| match error {
            RequestError::TimedOut | RequestError::Busy => AskFailure::Node,
            RequestError::Suspended => AskFailure::Final(ConnectError::Suspended),
            RequestError::Destroyed => AskFailure::Final(ConnectError::Destroyed),
        })?;
        let value = reply.value.as_ref().ok_or(AskFailure::Node)?;
        let handshake = Handshake::decode(value).map_err(|_| AskFailure::Node)?;
        if handshake.mode != Mode::Reply {
            return Err(AskFailure::Node);
        }
        // An answer that does not authenticate comes from the node, not from the server.
        let (payload, result) = self.initiator.finish(&handshake.noise).map_err(|_| AskFailure::Node)?;
        if payload.version != VERSION {
            return Err(AskFailure::Final(ConnectError::ServerIncompatible));
        }
        let remote_id = match payload.udx {
            Some(udx) if payload.error == error::NONE => udx.id,
            _ => return Err(AskFailure::Final(ConnectError::ServerError)),
        };
        let server = handshake.peer_address.filter(|address| address.port() != 0);
        let answered = Answered { node, server, client: reply.to };
        Ok(ServerAnswer { answered, via: reply.via, payload, remote_id, result })
    }
}

/// The nodes to ask before a query has found any.
async fn nodes_to_ask(
    context: &Context,
    peer: &PeerAddress,
    mut hints: Vec<SocketAddrV4>,
    target: Id,
) -> Vec<SocketAddrV4> {
    if hints.is_empty() {
        hints.clone_from(&peer.relay_addresses);
    }
    if hints.is_empty() {
        hints = context.shared.known_relays(&peer.public_key);
    }
    if let Some(relay) = context.handle.announced_from(target).await {
        hints = vec![relay];
    }
    // Strangers may have named them, and must not decide where we send requests.
    hints.retain(|hint| is_host(*hint));
    hints.truncate(MAX_HINTS);
    hints
}

async fn next_reply(query: &mut Option<Query>) -> Option<Reply> {
    match query {
        Some(query) => query.next().await,
        None => None,
    }
}

/// Whether the replying node has a record of the peer.
fn knows_peer(reply: &Reply) -> bool {
    reply.value.as_ref().is_some_and(|value| Peer::decode(value).is_ok())
}
