//! The channels to everybody who waits for a node: tasks that asked it for something, and its servers.

use std::collections::HashMap;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::id::Id;
use crate::instruction::{Instruction, QueryEvent, Ticket};
use crate::machine::{Machine, NodeEvent};
use crate::router::ServerRequest;
use crate::rpc::{Event, QueryId, Reply, RequestError, RequestId};

/// The channels to those who wait for the state machines of a node.
#[derive(Default)]
pub(crate) struct Callers {
    requests: HashMap<RequestId, (Ticket, oneshot::Sender<Result<Reply, RequestError>>)>,
    request_tickets: HashMap<Ticket, RequestId>,
    queries: HashMap<QueryId, (Ticket, mpsc::UnboundedSender<QueryEvent>)>,
    query_tickets: HashMap<Ticket, QueryId>,
    servers: HashMap<Id, mpsc::Sender<ServerRequest>>,
}

impl Callers {
    /// Makes the machine do what another task asks for.
    pub(crate) fn instruct(&mut self, machine: &mut Machine, now: Instant, instruction: Instruction) {
        match instruction {
            Instruction::Request { ticket, request, answer } => match machine.rpc.request(now, request) {
                Ok(id) => {
                    self.requests.insert(id, (ticket, answer));
                    self.request_tickets.insert(ticket, id);
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Instruction::CancelRequest(ticket) => {
                if let Some(id) = self.request_tickets.remove(&ticket) {
                    machine.rpc.cancel(id);
                    self.requests.remove(&id);
                }
            }
            Instruction::Query { ticket, spec, events } => {
                let id = machine.rpc.query(now, spec);
                self.queries.insert(id, (ticket, events));
                self.query_tickets.insert(ticket, id);
            }
            Instruction::CancelQuery(ticket) => {
                if let Some(id) = self.query_tickets.remove(&ticket) {
                    machine.rpc.cancel_query(id);
                    self.queries.remove(&id);
                }
            }
            Instruction::Answer { incoming, answer } => machine.rpc.answer(&incoming, answer),
            Instruction::AddServer { target, record, requests, done } => {
                let is_new = machine.insert_server(target, record);
                if is_new {
                    self.servers.insert(target, requests);
                }
                let _ = done.send(is_new);
            }
            Instruction::RemoveServer(target) => {
                machine.remove_server(&target);
                self.servers.remove(&target);
            }
            Instruction::AnnouncedFrom { target, answer } => {
                let _ = answer.send(machine.announced_from(now, &target));
            }
            Instruction::Forget { target, public_key } => machine.forget(&target, &public_key),
            Instruction::Bootstrap(nodes) => machine.rpc.set_bootstrap(now, nodes),
            Instruction::AddNodes(nodes) => machine.rpc.add_nodes(nodes),
            Instruction::Traffic(answer) => drop(answer.send(machine.rpc.traffic())),
            Instruction::Nodes(answer) => drop(answer.send(machine.rpc.nodes().collect())),
        }
    }

    /// Sends the event to whoever waits for it, or returns it if nobody does.
    pub(crate) fn tell(&mut self, event: NodeEvent) -> Option<Event> {
        match event {
            NodeEvent::ServerRequest(request) => {
                // A server that can't keep up loses requests; clients send them again.
                if let Some(server) = self.servers.get(&request.target) {
                    let _ = server.try_send(request);
                }
                None
            }
            NodeEvent::Rpc(event) => self.tell_caller(event),
        }
    }

    /// How many tasks wait, and how many servers there are.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        self.requests.len() + self.queries.len() + self.servers.len()
    }

    fn tell_caller(&mut self, event: Event) -> Option<Event> {
        match event {
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
            event => return Some(event),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use bytes::Bytes;

    use super::*;
    use crate::command;
    use crate::connect::message::{Handshake, Mode};
    use crate::rpc::message::RequestMessage;
    use crate::rpc::{RpcConfig, Via};
    use crate::store::Now;

    const TARGET: Id = [7; 32];

    struct TestNode {
        now: Instant,
        machine: Machine,
        callers: Callers,
    }

    impl TestNode {
        fn new() -> Self {
            let now = Instant::now();
            let mut machine = Machine::new(now, RpcConfig::default(), [1; 32], [2; 32]);
            machine.rpc.bind(now, 1);
            Self { now, machine, callers: Callers::default() }
        }

        fn instruct(&mut self, instruction: Instruction) {
            self.callers.instruct(&mut self.machine, self.now, instruction);
        }

        /// Registers a server, which gets its requests by that channel.
        fn add_server(&mut self, requests: mpsc::Sender<ServerRequest>) -> bool {
            let (done, mut added) = oneshot::channel();
            self.instruct(Instruction::AddServer { target: TARGET, record: Bytes::new(), requests, done });
            added.try_recv().unwrap()
        }

        /// A client asks for the server.
        fn handshake(&mut self) {
            let from = SocketAddrV4::new([8, 8, 8, 8].into(), 1);
            let request = RequestMessage {
                tid: 5,
                to: from,
                id: None,
                token: None,
                internal: false,
                command: command::PEER_HANDSHAKE,
                target: Some(TARGET),
                value: Some(Handshake::new(Mode::FromClient, vec![1]).encode().into()),
            };
            self.machine.rpc.handle_datagram(self.now, Via::Server, from, &request.encode());
            let now = Now { instant: self.now, unix_millis: 0 };
            while let Some(event) = self.machine.poll_event(now) {
                self.callers.tell(event);
            }
        }
    }

    #[test]
    fn a_server_gets_its_requests_and_a_full_queue_drops_them() {
        let mut node = TestNode::new();
        let (sender, mut requests) = mpsc::channel(1);
        assert!(node.add_server(sender.clone()));
        assert!(!node.add_server(sender));
        node.handshake();
        node.handshake();
        assert_eq!(requests.try_recv().unwrap().incoming.tid, 5);
        assert!(requests.try_recv().is_err());
        node.instruct(Instruction::RemoveServer(TARGET));
        node.handshake();
        assert!(requests.try_recv().is_err());
        assert!(node.machine.rpc.poll_transmit().is_some(), "the client is helped on");
    }
}
