//! A whole node without its sockets: datagrams and the time go in, datagrams and events come out.

use std::net::SocketAddrV4;
use std::time::Instant;

use bytes::Bytes;
use secret_stream::PublicKey;

use crate::command;
use crate::id::Id;
use crate::network::Network;
use crate::router::{Routed, Router, ServerRequest};
use crate::rpc::{Answer, Event, Incoming, Rpc, RpcConfig};
use crate::store::{Forwards, Now, Store};

/// The state machines of a node.
pub(crate) struct Machine {
    pub rpc: Rpc,
    pub store: Store,
    pub router: Router,
    pub forwards: Forwards,
    /// Counts changes of the network's state: [`Network::changes`].
    pub changes: u64,
}

/// Something that happened at a node.
#[derive(Clone, Debug)]
pub(crate) enum NodeEvent {
    /// An event of the plain DHT; never [`Event::Request`].
    Rpc(Event),
    /// A request for a server of this node, which answers it later.
    ServerRequest(ServerRequest),
}

impl Machine {
    /// The seeds must come from the operating system: tids and tokens are as good as they are.
    pub(crate) fn new(now: Instant, config: RpcConfig, rpc_seed: [u8; 32], store_seed: [u8; 32]) -> Self {
        Self {
            store: Store::new(now, config.defended, store_seed),
            rpc: Rpc::new(now, config, rpc_seed),
            router: Router::new(now),
            forwards: Forwards::new(now),
            changes: 0,
        }
    }

    /// Answers requests of others. Returns the next event of another kind.
    pub(crate) fn poll_event(&mut self, now: Now) -> Option<NodeEvent> {
        loop {
            match self.rpc.poll_event()? {
                Event::Request(incoming) => match self.handle_request(now, &incoming) {
                    Some(Routed::Answer(answer)) => self.rpc.answer(&incoming, answer),
                    Some(Routed::ToServer(request)) => return Some(NodeEvent::ServerRequest(request)),
                    None => {}
                },
                event @ (Event::NetworkUpdate | Event::Wakeup) => {
                    self.changes += 1;
                    return Some(NodeEvent::Rpc(event));
                }
                event => return Some(NodeEvent::Rpc(event)),
            }
        }
    }

    /// Gives requests for the server at `target` out as events from now on, and answers those who look for it
    /// with `record`. False if there is such a server already.
    pub(crate) fn insert_server(&mut self, target: Id, record: Bytes) -> bool {
        let is_new = self.router.insert_server(target);
        if is_new {
            self.forwards.insert_own(target, record);
        }
        is_new
    }

    /// The server at `target` has ended.
    pub(crate) fn remove_server(&mut self, target: &Id) {
        self.router.remove_server(target);
        self.forwards.remove_own(target);
    }

    /// Where a server announced itself from, if it did so at this node.
    pub(crate) fn announced_from(&mut self, now: Instant, target: &Id) -> Option<SocketAddrV4> {
        self.forwards.get(now, target).map(|forward| forward.relay)
    }

    /// Forgets what this node stores of a peer of its own that leaves.
    pub(crate) fn forget(&mut self, target: &Id, public_key: &PublicKey) {
        self.store.forget(target, public_key, &mut self.forwards);
    }

    /// What the node knows of itself and its network.
    pub(crate) fn network(&self) -> Network {
        Network {
            bootstrapped: self.rpc.is_bootstrapped(),
            firewalled: self.rpc.is_firewalled(),
            ephemeral: self.rpc.is_ephemeral(),
            nodes: self.rpc.node_count(),
            seen_as: self.rpc.seen_as(),
            remote_address: self.rpc.remote_address(),
            online: self.rpc.is_online(),
            changes: self.changes,
            suspended: false,
            destroyed: false,
        }
    }

    /// Number of entries in all collections, except the table and what is stored for others.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        self.rpc.held() + self.router.held()
    }

    fn handle_request(&mut self, now: Now, incoming: &Incoming) -> Option<Routed> {
        if matches!(incoming.command, command::PEER_HANDSHAKE | command::PEER_HOLEPUNCH) {
            return self.router.on_request(now.instant, incoming, &mut self.forwards);
        }
        let answer = match self.rpc.id() {
            Some(id) => self.store.handle(now, id, incoming, &mut self.forwards),
            None => Some(Answer::Error(command::UNKNOWN_COMMAND)),
        };
        answer.map(Routed::Answer)
    }
}
