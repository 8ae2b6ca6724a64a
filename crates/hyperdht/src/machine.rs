//! Everything of a node but its sockets: datagrams, commands and the time go in, datagrams and
//! events come out.

use std::collections::HashMap;
use std::time::Instant;

use crate::command;
use crate::handle::{Instruction, Network, QueryEvent, Ticket};
use crate::router::Router;
use crate::rpc::{Answer, Event, Incoming, QueryId, Reply, RequestError, RequestId, Rpc, RpcConfig};
use crate::store::{Forwards, Now, Store};
use tokio::sync::{mpsc, oneshot};

/// The state machines of a node, and who waits for what of them.
pub(crate) struct Machine {
    pub rpc: Rpc,
    pub store: Store,
    pub router: Router,
    pub forwards: Forwards,
    /// Counts changes of the network's state: [`Network::changes`].
    pub changes: u64,
    requests: HashMap<RequestId, (Ticket, oneshot::Sender<Result<Reply, RequestError>>)>,
    request_tickets: HashMap<Ticket, RequestId>,
    queries: HashMap<QueryId, (Ticket, mpsc::UnboundedSender<QueryEvent>)>,
    query_tickets: HashMap<Ticket, QueryId>,
}

impl Machine {
    /// The seeds must come from the operating system: tids and tokens are as good as they are.
    pub fn new(now: Instant, config: RpcConfig, rpc_seed: [u8; 32], store_seed: [u8; 32]) -> Self {
        Self {
            store: Store::new(now, config.defended, store_seed),
            rpc: Rpc::new(now, config, rpc_seed),
            router: Router::new(now),
            forwards: Forwards::new(now),
            changes: 0,
            requests: HashMap::new(),
            request_tickets: HashMap::new(),
            queries: HashMap::new(),
            query_tickets: HashMap::new(),
        }
    }

    /// Does what another task asks for.
    pub fn handle_instruction(&mut self, now: Instant, instruction: Instruction) {
        match instruction {
            Instruction::Request { ticket, request, answer } => match self.rpc.request(now, request) {
                Ok(id) => {
                    self.requests.insert(id, (ticket, answer));
                    self.request_tickets.insert(ticket, id);
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Instruction::CancelRequest(ticket) => {
                if let Some(id) = self.request_tickets.remove(&ticket) {
                    self.rpc.cancel(id);
                    self.requests.remove(&id);
                }
            }
            Instruction::Query { ticket, spec, events } => {
                let id = self.rpc.query(now, spec);
                self.queries.insert(id, (ticket, events));
                self.query_tickets.insert(ticket, id);
            }
            Instruction::CancelQuery(ticket) => {
                if let Some(id) = self.query_tickets.remove(&ticket) {
                    self.rpc.cancel_query(id);
                    self.queries.remove(&id);
                }
            }
            Instruction::Answer { incoming, answer } => self.rpc.answer(&incoming, answer),
            Instruction::Router(run) => run(&mut self.router, &mut self.forwards),
            Instruction::Forget { target, public_key } => {
                self.store.forget(&target, &public_key, &mut self.forwards);
            }
            Instruction::Bootstrap(nodes) => self.rpc.set_bootstrap(now, nodes),
            Instruction::AddNodes(nodes) => self.rpc.add_nodes(nodes),
            Instruction::Traffic(answer) => drop(answer.send(self.rpc.traffic())),
            Instruction::Nodes(answer) => drop(answer.send(self.rpc.nodes().collect())),
        }
    }

    /// Answers what others ask and tells the tasks that wait; the first event that is neither.
    pub fn poll_event(&mut self, now: Now) -> Option<Event> {
        loop {
            match self.rpc.poll_event()? {
                Event::Request(incoming) => {
                    if let Some(answer) = self.answer_to(now, &incoming) {
                        self.rpc.answer(&incoming, answer);
                    }
                }
                Event::Response { id, result } => match self.requests.remove(&id) {
                    Some((ticket, answer)) => {
                        self.request_tickets.remove(&ticket);
                        let _ = answer.send(result);
                    }
                    None => return Some(Event::Response { id, result }),
                },
                Event::QueryReply { id, reply } => match self.queries.get(&id) {
                    Some((_, events)) => drop(events.send(QueryEvent::Reply(Box::new(reply)))),
                    None => return Some(Event::QueryReply { id, reply }),
                },
                Event::QueryDone { id, result } => match self.queries.remove(&id) {
                    Some((ticket, events)) => {
                        self.query_tickets.remove(&ticket);
                        let _ = events.send(QueryEvent::Done(result));
                    }
                    None => return Some(Event::QueryDone { id, result }),
                },
                event @ (Event::NetworkUpdate | Event::Wakeup) => {
                    self.changes += 1;
                    return Some(event);
                }
                event => return Some(event),
            }
        }
    }

    /// What the node knows of itself and its network.
    pub fn network(&self) -> Network {
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

    /// Entries of all that grows and shrinks, but for the table and what is stored for others.
    #[cfg(any(test, feature = "simulation"))]
    pub fn held(&self) -> usize {
        self.rpc.held() + self.router.held() + self.requests.len() + self.queries.len()
    }

    fn answer_to(&mut self, now: Now, incoming: &Incoming) -> Option<Answer> {
        if matches!(incoming.command, command::PEER_HANDSHAKE | command::PEER_HOLEPUNCH) {
            return self.router.on_request(now.instant, incoming, &mut self.forwards);
        }
        let Some(id) = self.rpc.id() else { return Some(Answer::Error(command::UNKNOWN_COMMAND)) };
        self.store.handle(now, id, incoming, &mut self.forwards)
    }
}
