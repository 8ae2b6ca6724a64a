//! The way into the network, and what address this node has in it (spec/dht.md §5, §6).

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use crate::command::internal::PING_NAT;
use crate::encoding::Writer;
use crate::id::node_id;
use crate::rpc::queries::Audience;
use crate::rpc::table::Table;
use crate::rpc::{Event, NatSampler, Purpose, Reply, Request, Rpc};

/// Nodes that are asked to reach the server socket.
const ASKED: usize = 5;
/// Answers on the server socket that make the node open, if as many nodes as [`ASKED`] were asked.
const ENOUGH: usize = 3;

/// How far the bootstrap has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// Looking for the own neighbourhood a second time, after the state has changed.
    Query {
        again: bool,
        /// The first node that answers will be asked to reach the server socket.
        quick_check: bool,
        /// That node has reached the server socket.
        reachable: bool,
    },
    /// Finding out whether this node may become open, or persistent.
    Check {
        again: bool,
    },
    Done,
}

/// A firewall check under way.
#[derive(Debug)]
pub(super) struct NetworkCheck {
    only_firewall: bool,
    /// The address the client socket is seen as.
    seen_as: SocketAddrV4,
    sampler: NatSampler,
    asked: usize,
    missing: usize,
    /// Answers on the server socket.
    reached: usize,
    /// Who gave them, where each IP counts once.
    hosts: HashSet<Ipv4Addr>,
}

impl Rpc {
    /// The nodes to begin with, and to fall back on. The first call starts the bootstrap.
    pub(crate) fn set_bootstrap(&mut self, now: Instant, nodes: Vec<SocketAddrV4>) {
        self.bootstrap_nodes = nodes;
        self.bootstrap_known = true;
        self.start_waiting_queries(now);
        if !self.bound {
            return;
        }
        if self.phase == Phase::Idle {
            self.look_around(now, false);
        } else if self.is_bootstrapped() && self.table.is_empty() {
            self.background_query(now, *self.table.own_id(), Audience::Background);
        }
    }

    pub(super) fn look_around(&mut self, now: Instant, again: bool) {
        let quick_check = !again && self.firewalled && !self.is_forced_persistent();
        self.phase = Phase::Query { again, quick_check, reachable: false };
        self.background_query(now, *self.table.own_id(), Audience::Bootstrap);
    }

    /// One other node has reached the server socket: a thorough check is worth it now.
    pub(super) fn bootstrap_replied(&mut self, now: Instant, reply: &Reply) {
        if let Phase::Query { quick_check: quick_check @ true, .. } = &mut self.phase {
            *quick_check = false;
            let request = self.ping_nat(reply.from);
            let _ = self.start(now, request, Purpose::QuickCheck);
        }
    }

    pub(super) fn quick_check_passed(&mut self) {
        if let Phase::Query { reachable, .. } = &mut self.phase {
            *reachable = true;
        }
    }

    pub(super) fn bootstrap_query_ended(&mut self, now: Instant) {
        let Phase::Query { again, reachable, .. } = self.phase else { return };
        if again || !(reachable || self.is_forced_persistent()) {
            return self.finish_bootstrap();
        }
        self.phase = Phase::Check { again };
        self.update_network_state(now, !self.is_forced_persistent());
    }

    fn finish_bootstrap(&mut self) {
        self.phase = Phase::Done;
        self.events.push_back(Event::Ready);
    }

    /// Tries to become open and, unless `only_firewall`, persistent.
    pub(super) fn update_network_state(&mut self, now: Instant, only_firewall: bool) {
        if self.check.is_some() {
            return;
        }
        let is_settled = !self.ephemeral || (only_firewall && !self.firewalled);
        if is_settled || self.config.stays_firewalled {
            return self.network_state_known(now, false);
        }
        if !only_firewall {
            let is_first = matches!(self.phase, Phase::Check { .. });
            self.clock.checked_host(self.nat.address().map(|addr| *addr.ip()), is_first);
        }
        let Some(seen_as) = self.nat.exact() else { return self.network_state_known(now, false) };
        if !self.firewalled {
            let changed = self.enter_network(now, only_firewall, seen_as, None);
            return self.network_state_known(now, changed);
        }

        let mut nodes: Vec<_> = self.nodes().take(ASKED).collect();
        if nodes.len() < ASKED {
            let bootstrap = self.bootstrap_nodes.iter().copied();
            nodes.extend(bootstrap.filter(|addr| !nodes.contains(addr)).collect::<Vec<_>>());
        }
        let mut sent = 0;
        for node in nodes {
            let request = self.ping_nat(node);
            sent += usize::from(self.start(now, request, Purpose::NetworkCheck).is_ok());
        }
        if sent == 0 {
            return self.network_state_known(now, false);
        }
        self.check = Some(NetworkCheck {
            only_firewall,
            seen_as,
            sampler: NatSampler::new(),
            asked: sent,
            missing: sent,
            reached: 0,
            hosts: HashSet::new(),
        });
    }

    pub(super) fn network_check_replied(&mut self, now: Instant, reply: &Reply) {
        if let Some(check) = &mut self.check {
            let first = check.hosts.insert(*reply.from.ip());
            if reply.via == crate::rpc::Via::Server && (first || !self.config.defended) {
                check.reached += 1;
                check.sampler.add(reply.to);
            }
        }
        self.network_check_answered(now);
    }

    /// One more answer has come, or has timed out.
    pub(super) fn network_check_answered(&mut self, now: Instant) {
        let Some(check) = &mut self.check else { return };
        check.missing = check.missing.saturating_sub(1);
        if check.missing > 0 {
            return;
        }
        let Some(check) = self.check.take() else { return };
        let enough = if check.asked >= ASKED { ENOUGH } else { 1 };
        // A NAT that gives the server socket another port lets nobody in who does not know that port.
        let open = check.sampler.exact().filter(|addr| {
            check.reached >= enough
                && self.nat.address().is_some_and(|own| own.ip() == addr.ip())
                && addr.port() == self.server_port
        });
        let changed = open.is_some()
            && self.enter_network(now, check.only_firewall, check.seen_as, Some(check.sampler));
        self.network_state_known(now, changed);
    }

    /// The check is over: goes on with the bootstrap, if that waited for it.
    fn network_state_known(&mut self, now: Instant, changed: bool) {
        if let Phase::Check { again } = self.phase {
            if changed && !again { self.look_around(now, true) } else { self.finish_bootstrap() }
        }
    }

    /// Becomes open and, unless `only_firewall`, persistent. `sampler`: the addresses that the check saw.
    fn enter_network(
        &mut self,
        now: Instant,
        only_firewall: bool,
        seen_as: SocketAddrV4,
        sampler: Option<NatSampler>,
    ) -> bool {
        self.firewalled = false;
        if !self.ephemeral || self.nat.address() != Some(seen_as) {
            return false;
        }
        if let Some(sampler) = sampler {
            self.sampled_strangers.clear();
            let before = std::mem::replace(&mut self.nat, sampler);
            if before.address() != self.nat.address() {
                self.events.push_back(Event::NatUpdate);
            }
        }
        let Some(addr) = self.nat.exact() else { return false };
        self.ephemeral = only_firewall;

        let id = node_id(addr);
        if *self.table.own_id() != id {
            let table = Table::new(id, self.config.defended);
            let old = std::mem::replace(&mut self.table, table);
            // Inserted from the one not heard for longest, so that the order stays.
            for node in old.latest().rev() {
                let _ = self.table.add(node.clone());
            }
            if self.is_bootstrapped() {
                self.refresh(now);
            }
        }
        if !self.ephemeral {
            self.events.push_back(Event::Persistent);
        }
        true
    }

    pub(super) fn is_forced_persistent(&self) -> bool {
        self.config.ephemeral == Some(false)
    }

    fn ping_nat(&self, to: SocketAddrV4) -> Request {
        let mut port = Writer::new();
        port.u16(self.server_port);
        Request::internal(PING_NAT, to).value(port.finish())
    }
}
