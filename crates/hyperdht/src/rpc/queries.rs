//! The running queries: their requests and their ends (spec/dht.md §9).

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Instant;

use crate::command::internal::DOWN_HINT;
use crate::encoding::Writer;
use crate::id::Id;
use crate::rpc::query::{DownHint, IterativeQuery, Next};
use crate::rpc::{Event, Purpose, QueryId, QuerySpec, Reply, Request, RequestError, RequestId, Rpc};

/// Requests at once of a query that no caller waits for, while little else goes on.
const BACKGROUND_CONCURRENCY: usize = 2;
/// With fewer requests in flight than this, little else goes on.
const IDLE: usize = 3;
/// Hints sent in a tick of 5 s.
const MAX_DOWN_HINTS: u32 = 50;

/// Who learns of a query's replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    Caller,
    /// The node itself, to meet other nodes.
    Background,
    /// The node itself, on its way into the network.
    Bootstrap,
}

/// A query and its requests under way; `true` for those that have timed out once.
#[derive(Debug)]
pub(super) struct RunningQuery {
    query: IterativeQuery,
    audience: Audience,
    /// It starts once the bootstrap nodes are known.
    waits: bool,
    requests: HashMap<RequestId, bool>,
}

impl Rpc {
    /// Starts a query; [`Event::QueryReply`] and [`Event::QueryDone`] follow.
    pub(crate) fn query(&mut self, now: Instant, spec: QuerySpec) -> QueryId {
        self.clock.postpone_refresh();
        let id = self.start_query(now, spec, Audience::Caller);
        if let Some(error) = self.unavailable() {
            self.events.push_back(Event::QueryDone { id, result: Err(error) });
        }
        id
    }

    /// Ends a query without a further event.
    pub(crate) fn cancel_query(&mut self, id: QueryId) {
        if let Some(running) = self.queries.remove(&id) {
            self.cancel_requests(running);
        }
    }

    /// Searches near `target`, to meet nodes.
    pub(super) fn background_query(&mut self, now: Instant, target: Id, audience: Audience) {
        self.clock.postpone_refresh();
        let spec = QuerySpec { concurrency: BACKGROUND_CONCURRENCY, ..QuerySpec::find_node(target) };
        self.start_query(now, spec, audience);
    }

    fn start_query(&mut self, now: Instant, spec: QuerySpec, audience: Audience) -> QueryId {
        self.next_query += 1;
        let id = QueryId(self.next_query);
        if self.unavailable().is_some() {
            return id;
        }
        let target = spec.target;
        let mut query = IterativeQuery::new(now, spec, *self.table.own_id(), self.config.defended);
        if query.wants_more() {
            query.add_from_table(self.closest(&target, query.missing()));
        }
        let waits = query.wants_more() && !self.bootstrap_known;
        if query.wants_more() {
            query.add_from_table(self.bootstrap_nodes.iter().copied());
        }
        self.queries.insert(id, RunningQuery { query, audience, waits, requests: HashMap::new() });
        self.step_query(now, id);
        id
    }

    /// The bootstrap nodes are known: starts the queries that wait for them.
    pub(super) fn start_waiting_queries(&mut self, now: Instant) {
        let mut started = Vec::new();
        for (id, running) in &mut self.queries {
            if std::mem::take(&mut running.waits) {
                running.query.add_from_table(self.bootstrap_nodes.iter().copied());
                started.push(*id);
            }
        }
        for id in started {
            self.step_query(now, id);
        }
    }

    pub(super) fn query_replied(&mut self, now: Instant, id: QueryId, request: RequestId, reply: Reply) {
        let Some(running) = self.queries.get_mut(&id) else { return };
        let Some(slow) = running.requests.remove(&request) else { return };
        let mut hints = Vec::new();
        running.query.handle_reply(&reply, slow, &mut hints);
        let audience = running.audience;
        if audience != Audience::Caller {
            let idle = self.io.in_flight() < IDLE;
            running.query.spec.concurrency =
                if idle { QuerySpec::CONCURRENCY } else { BACKGROUND_CONCURRENCY };
        }
        if reply.error == 0 {
            match audience {
                Audience::Caller => self.events.push_back(Event::QueryReply { id, reply }),
                Audience::Bootstrap => self.bootstrap_replied(now, &reply),
                Audience::Background => {}
            }
        }
        self.send_down_hints(now, hints);
        self.step_query(now, id);
    }

    pub(super) fn query_timed_out(
        &mut self,
        now: Instant,
        id: QueryId,
        request: RequestId,
        to: SocketAddrV4,
    ) {
        let Some(running) = self.queries.get_mut(&id) else { return };
        let Some(slow) = running.requests.remove(&request) else { return };
        let mut hints = Vec::new();
        running.query.handle_timeout(to, slow, &mut hints);
        self.send_down_hints(now, hints);
        self.step_query(now, id);
    }

    pub(super) fn query_is_slow(&mut self, now: Instant, id: QueryId, request: RequestId) {
        let Some(running) = self.queries.get_mut(&id) else { return };
        if let Some(slow) = running.requests.get_mut(&request) {
            *slow = true;
            running.query.handle_slow();
        }
        self.step_query(now, id);
    }

    /// Ends the queries that took too long.
    pub(super) fn expire_queries(&mut self, now: Instant) {
        let late = self.queries.iter().filter(|(_, running)| running.query.deadline() <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.step_query(now, id);
        }
    }

    pub(super) fn queries_deadline(&self) -> Option<Instant> {
        self.queries.values().map(|running| running.query.deadline()).min()
    }

    pub(super) fn fail_queries(&mut self, error: RequestError) {
        for (id, running) in std::mem::take(&mut self.queries) {
            if running.audience == Audience::Caller {
                self.events.push_back(Event::QueryDone { id, result: Err(error) });
            }
        }
    }

    /// The nodes of the table closest to `target`.
    pub(super) fn closest(&self, target: &Id, count: usize) -> Vec<SocketAddrV4> {
        self.table.closest(target, count).iter().map(|node| node.addr).collect()
    }

    fn step_query(&mut self, now: Instant, id: QueryId) {
        loop {
            let Some(running) = self.queries.get_mut(&id) else { return };
            if running.waits && running.query.deadline() > now {
                return;
            }
            match running.query.next(now) {
                Next::Visit(to) => {
                    let spec = &running.query.spec;
                    let request = Request {
                        target: Some(spec.target),
                        value: spec.value.clone(),
                        internal: spec.internal,
                        ..Request::internal(spec.command, to).attempts(spec.attempts)
                    };
                    let started = self.start(now, request, Purpose::Query(id));
                    let Some(running) = self.queries.get_mut(&id) else { return };
                    match started {
                        Ok(request) => {
                            running.requests.insert(request, false);
                        }
                        Err(_) => running.query.handle_failure(),
                    }
                }
                Next::TryTable => {
                    let (target, missing) = (running.query.spec.target, running.query.missing());
                    let nodes = self.closest(&target, missing);
                    let Some(running) = self.queries.get_mut(&id) else { return };
                    running.query.add_from_table(nodes);
                }
                Next::Wait => return,
                Next::Done => return self.finish_query(now, id),
            }
        }
    }

    fn finish_query(&mut self, now: Instant, id: QueryId) {
        let Some(mut running) = self.queries.remove(&id) else { return };
        let closest = std::mem::take(&mut running.query.closest);
        let audience = running.audience;
        self.cancel_requests(running);
        match audience {
            Audience::Caller => {
                let result = Ok(closest.into_iter().map(|closest| closest.reply).collect());
                self.events.push_back(Event::QueryDone { id, result });
            }
            Audience::Bootstrap => self.bootstrap_query_ended(now),
            Audience::Background => {}
        }
    }

    fn cancel_requests(&mut self, running: RunningQuery) {
        for request in running.requests.into_keys() {
            self.io.cancel(request);
        }
    }

    fn send_down_hints(&mut self, now: Instant, hints: Vec<DownHint>) {
        for hint in hints {
            if self.clock.down_hints >= MAX_DOWN_HINTS {
                return;
            }
            self.clock.down_hints += 1;
            let mut value = Writer::new();
            value.addr4(hint.down);
            let request = Request::internal(DOWN_HINT, hint.tell).value(value.finish());
            self.start_courtesy(now, request);
        }
    }
}
