//! How a client is to reach the server that has answered (spec/connect.md §6).

use std::net::{Ipv4Addr, SocketAddrV4};

use super::payload::{Firewall, NoisePayload};
use crate::address::{is_bogon, is_private, match_address};
use crate::rpc::filter::is_host;

/// How many addresses of a server in our network are tried at once. The first is the best match; the others
/// help hosts that are in several networks.
const MAX_LOCAL_CANDIDATES: usize = 4;

/// How the server's answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// The node that was asked.
    pub node: SocketAddrV4,
    /// The server as that node sees it; `None` if the node is the server.
    pub server: Option<SocketAddrV4>,
    /// This client as the node sees it.
    pub client: SocketAddrV4,
}

/// What a client knows of itself.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// It told the server that anybody reaches it.
    pub open: bool,
    /// Its addresses in its own network; `None` if it does not use them.
    pub local: Option<Vec<SocketAddrV4>>,
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// To the address of the node that was asked, by the same socket: it is the server.
    Direct(SocketAddrV4),
    /// To a server that anybody reaches.
    Open(SocketAddrV4),
    /// The server comes to us.
    Wait,
    /// To the first of these that answers a ping, from the server socket.
    Local(Vec<SocketAddrV4>),
    /// Only punching a hole would lead there.
    Punch,
}

/// How to reach the server that answered.
pub(super) fn client_plan(answered: &Answered, payload: &NoisePayload, own: &Own) -> Plan {
    let Some(server) = answered.server.filter(|server| *server != answered.node) else {
        return Plan::Direct(answered.node);
    };
    let candidates = own
        .local
        .as_ref()
        .map(|own| local_candidates(own, *answered.client.ip(), &payload.addresses4, *server.ip()))
        .unwrap_or_default();
    let no_relays = payload.holepunch.as_ref().is_none_or(|h| h.relays.is_empty());
    if payload.firewall == Firewall::Open || no_relays {
        let elsewhere = is_loopback_elsewhere(*server.ip(), *answered.client.ip());
        let public = payload.addresses4.iter().find(|address| !is_bogon(*address.ip()));
        return match public {
            Some(public) => Plan::Open(*public),
            None if elsewhere && !candidates.is_empty() => Plan::Local(candidates),
            None => Plan::Open(server),
        };
    }
    if own.open && !is_loopback_elsewhere(*answered.client.ip(), *server.ip()) {
        return Plan::Wait;
    }
    if candidates.is_empty() { Plan::Punch } else { Plan::Local(candidates) }
}

/// Whether `address` is loopback on the host of the node that saw it, and so means nothing to a peer that the
/// same node saw at `peer`: one host runs a private network, and one of the peers is on that host.
pub(super) fn is_loopback_elsewhere(address: Ipv4Addr, peer: Ipv4Addr) -> bool {
    address.is_loopback() && !peer.is_loopback()
}

/// Where the peer may be in our network, the likeliest address first. Empty unless a node sees both of us
/// (`our_ip`, `their_ip`) at one address, or both in its own network. `ours` and `theirs` are the addresses
/// that each tells the other. Loopback counts only where a node sees both of us there.
pub(super) fn local_candidates(
    ours: &[SocketAddrV4],
    our_ip: Ipv4Addr,
    theirs: &[SocketAddrV4],
    their_ip: Ipv4Addr,
) -> Vec<SocketAddrV4> {
    let both_private = is_private(our_ip) && is_private(their_ip);
    if our_ip != their_ip && !both_private {
        return Vec::new();
    }
    let mut candidates: Vec<SocketAddrV4> = Vec::new();
    let mut add = |address: SocketAddrV4| {
        if candidates.len() < MAX_LOCAL_CANDIDATES && !candidates.contains(&address) {
            candidates.push(address);
        }
    };
    // All addresses that the peer tells have the port of its server socket.
    if let Some(named) = theirs.first()
        && both_private
        && !is_loopback_elsewhere(their_ip, our_ip)
    {
        add(SocketAddrV4::new(their_ip, named.port()));
    }
    let in_network = |address: &&SocketAddrV4| is_host(**address) && !address.ip().is_loopback();
    let usable: Vec<_> = theirs.iter().filter(in_network).copied().collect();
    match_address(ours, &usable).into_iter().chain(usable).for_each(&mut add);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::payload::{HolepunchInfo, RelayInfo};

    fn addr(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    fn payload(firewall: Firewall, relays: usize, addresses: &[&str]) -> NoisePayload {
        let relay = RelayInfo { relay: addr("1.1.1.1:1"), peer: addr("2.2.2.2:2") };
        NoisePayload {
            firewall,
            holepunch: (relays > 0).then(|| HolepunchInfo { id: 0, relays: vec![relay; relays] }),
            addresses4: addresses.iter().map(|a| addr(a)).collect(),
            ..NoisePayload::default()
        }
    }

    fn relayed(server: &str, client: &str) -> Answered {
        Answered { node: addr("1.1.1.1:1"), server: Some(addr(server)), client: addr(client) }
    }

    fn own(open: bool, local: &[&str]) -> Own {
        Own { open, local: Some(local.iter().map(|a| addr(a)).collect()) }
    }

    #[test]
    fn a_server_that_was_asked_itself_is_dialled_where_it_was_asked() {
        let payload = payload(Firewall::Unknown, 1, &["10.0.0.1:1"]);
        let mut answered = relayed("3.3.3.3:3", "3.3.3.3:4");
        answered.server = None;
        assert_eq!(client_plan(&answered, &payload, &own(true, &[])), Plan::Direct(answered.node));
        answered.server = Some(answered.node);
        assert_eq!(client_plan(&answered, &payload, &own(true, &[])), Plan::Direct(answered.node));
    }

    #[test]
    fn an_open_server_is_dialled_at_its_public_address() {
        let answered = relayed("3.3.3.3:3", "4.4.4.4:4");
        let public = payload(Firewall::Open, 0, &["192.168.1.1:1", "5.5.5.5:5", "6.6.6.6:6"]);
        assert_eq!(client_plan(&answered, &public, &own(false, &[])), Plan::Open(addr("5.5.5.5:5")));
        let local = payload(Firewall::Open, 0, &["192.168.1.1:1"]);
        assert_eq!(client_plan(&answered, &local, &own(false, &[])), Plan::Open(addr("3.3.3.3:3")));
        let no_relays = payload(Firewall::Unknown, 0, &[]);
        assert_eq!(client_plan(&answered, &no_relays, &own(true, &[])), Plan::Open(addr("3.3.3.3:3")));
    }

    #[test]
    fn an_open_client_is_dialled() {
        let payload = payload(Firewall::Unknown, 1, &["10.0.0.1:1"]);
        let answered = relayed("3.3.3.3:3", "3.3.3.3:4");
        assert_eq!(client_plan(&answered, &payload, &own(true, &["10.0.0.2:1"])), Plan::Wait);
    }

    #[test]
    fn peers_of_one_public_address_try_their_local_ones_the_nearest_first() {
        let payload = payload(Firewall::Unknown, 1, &["172.16.0.1:1", "10.0.0.1:1", "224.0.0.1:1"]);
        let near = own(false, &["10.0.0.2:9"]);
        let plan = client_plan(&relayed("3.3.3.3:3", "3.3.3.3:4"), &payload, &near);
        assert_eq!(plan, Plan::Local(vec![addr("10.0.0.1:1"), addr("172.16.0.1:1")]));
        let neighbour = client_plan(&relayed("10.0.0.3:3", "10.0.0.2:4"), &payload, &near);
        let candidates = ["10.0.0.3:1", "10.0.0.1:1", "172.16.0.1:1"].map(addr);
        assert_eq!(neighbour, Plan::Local(candidates.to_vec()));
        let elsewhere = client_plan(&relayed("3.3.3.3:3", "4.4.4.4:4"), &payload, &near);
        assert_eq!(elsewhere, Plan::Punch);
        let unwilling = Own { open: false, local: None };
        let plan = client_plan(&relayed("3.3.3.3:3", "3.3.3.3:4"), &payload, &unwilling);
        assert_eq!(plan, Plan::Punch);
    }

    #[test]
    fn peers_of_one_host_meet_on_loopback_whatever_the_interfaces_are_called() {
        let server = payload(Firewall::Unknown, 1, &["192.0.2.2:1", "10.0.0.1:1"]);
        let answered = relayed("127.0.0.1:3", "127.0.0.1:4");
        let plan = client_plan(&answered, &server, &own(false, &["192.0.2.2:9"]));
        let candidates = ["127.0.0.1:1", "192.0.2.2:1", "10.0.0.1:1"].map(addr);
        assert_eq!(plan, Plan::Local(candidates.to_vec()));
        let only_loopback = payload(Firewall::Unknown, 1, &["127.0.0.1:1"]);
        let plan = client_plan(&answered, &only_loopback, &own(false, &["127.0.0.1:9"]));
        assert_eq!(plan, Plan::Local(vec![addr("127.0.0.1:1")]));
        let far = relayed("3.3.3.3:3", "3.3.3.3:4");
        assert_eq!(client_plan(&far, &only_loopback, &own(false, &["10.0.0.1:9"])), Plan::Punch);
    }

    #[test]
    fn a_server_on_the_host_of_the_network_is_not_looked_for_on_ours() {
        // The node, which runs the network at 192.168.1.5, sees the server on its own host.
        let answered = relayed("127.0.0.1:3", "192.168.1.7:4");
        let own = own(true, &["192.168.1.7:9"]);
        let open = payload(Firewall::Open, 0, &["127.0.0.1:3", "192.168.1.5:3"]);
        assert_eq!(client_plan(&answered, &open, &own), Plan::Local(vec![addr("192.168.1.5:3")]));
        let unlucky = payload(Firewall::Open, 0, &["127.0.0.1:3"]);
        assert_eq!(client_plan(&answered, &unlucky, &own), Plan::Open(addr("127.0.0.1:3")));
    }

    #[test]
    fn a_client_on_the_host_of_the_network_does_not_wait_to_be_dialled_there() {
        let answered = relayed("192.168.1.7:4", "127.0.0.1:3");
        let own = own(true, &["192.168.1.5:9"]);
        let payload = payload(Firewall::Unknown, 1, &["192.168.1.7:4"]);
        assert_eq!(client_plan(&answered, &payload, &own), Plan::Local(vec![addr("192.168.1.7:4")]));
    }

    #[test]
    fn no_more_candidates_than_the_limit() {
        let many: Vec<String> = (1..30).map(|i| format!("10.0.{i}.1:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let payload = payload(Firewall::Unknown, 1, &many);
        let plan = client_plan(&relayed("3.3.3.3:3", "3.3.3.3:4"), &payload, &own(false, &["10.0.20.2:9"]));
        let Plan::Local(candidates) = plan else { panic!("{plan:?}") };
        assert_eq!(candidates.len(), MAX_LOCAL_CANDIDATES);
        assert_eq!(candidates[0], addr("10.0.20.1:1"));
    }
}
