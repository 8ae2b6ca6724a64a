//! The hub's private DHT: a few nodes of our own, where agents find each other without the public network.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use hyperdht::{Bootstrap, Config, Dht, Network, node_id, primary_address};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::error::Error;

/// How many nodes there are: with one gone, an announcement still stands on three.
const NODES: usize = 4;
/// How many ports are tried, upwards from the first; after them any free port is taken.
const TRIED_PORTS: u16 = 100;
/// How long the nodes may take to have met before the hub answers.
const ACQUAINTANCE: Duration = Duration::from_secs(1);

/// The nodes of the DHT beside the hub. Clones are the same nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    nodes: Vec<Dht>,
    /// Their ports, all on one address.
    ports: Vec<u16>,
    /// The address that they are bound to; `None` where they are bound to all.
    bound: Option<Ipv4Addr>,
}

/// What the file holds that gives the nodes the same ports after a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    ports: Vec<u16>,
}

impl Nodes {
    /// Starts the nodes on the address that the hub listens on: on the ports kept in `file`, else on the
    /// free ones from `first_port` on (0: any), and keeps these. None are started where the hub listens on
    /// an IPv6 address alone, which the DHT does not know.
    pub(crate) async fn start(listen: IpAddr, first_port: u16, file: &Path) -> Result<Self, Error> {
        let Some(host) = ipv4(listen) else {
            tracing::warn!("no DHT beside the hub: it has IPv4 alone, and the hub listens on {listen}");
            return Ok(Self::default());
        };
        // The nodes tell agents elsewhere of each other, so they must know each other by an address that
        // leads here from there too.
        let known = if host.is_unspecified() { primary_address() } else { host };
        let kept = read(file);
        let mut started = Self { bound: Some(host).filter(|host| !host.is_unspecified()), ..Self::default() };
        let mut ports = Ports::new(kept.ports.clone(), first_port);
        while started.nodes.len() < NODES {
            let bootstrap =
                started.ports.iter().map(|&port| Bootstrap { ip: None, host: known.to_string(), port });
            let config = Config {
                port: ports.next(),
                exact_port: true,
                host: host.into(),
                ephemeral: Some(false),
                firewalled: false,
                known_host: Some(known),
                ..Config::private(bootstrap.collect())
            };
            match Dht::new(config).await {
                Ok(node) => {
                    let Some(address) = node.local_addr() else {
                        return Err(Error::Dht("a node ended while it started".into()));
                    };
                    // Before that it has no id in its answers, by which the next one would know it.
                    until(&node, |network| network.bootstrapped).await?;
                    started.ports.push(address.port());
                    started.nodes.push(node);
                }
                Err(hyperdht::Error::Bind(error)) if is_taken(&error) && !ports.is_any() => {}
                Err(error) => return Err(Error::Dht(error.to_string())),
            }
        }
        // Each node knows those that were started before it; they learn of it from its requests a moment
        // later, or in their own time where the machine is too busy for that.
        let acquainted = started.nodes.iter().map(|node| until(node, |network| network.nodes >= NODES - 1));
        match timeout(ACQUAINTANCE, try_join_all(acquainted)).await {
            Ok(acquainted) => drop(acquainted?),
            Err(_) => tracing::info!("the nodes of the DHT have not all met yet"),
        }
        if kept.ports != started.ports {
            write(file, &Kept { ports: started.ports.clone() });
        }
        Ok(started)
    }

    /// Where the nodes are for a caller that named the hub `host` and reached it at `at`; `public` is the
    /// name that the hub goes by elsewhere, if it has one.
    pub(crate) fn bootstrap(&self, public: Option<&str>, host: Option<&str>, at: IpAddr) -> Vec<String> {
        let elsewhere =
            public.and_then(reachable_name).filter(|name| *name != Ipv4Addr::LOCALHOST.to_string());
        let host = match self.bound {
            // Nothing but this machine reaches nodes that are bound to the loopback address.
            Some(bound) if bound.is_loopback() => bound.to_string(),
            _ if elsewhere.is_some() => elsewhere.unwrap_or_default(),
            Some(bound) => bound.to_string(),
            None => host.and_then(reachable_name).unwrap_or_else(|| {
                ipv4(at).filter(|ip| !ip.is_unspecified()).unwrap_or_else(primary_address).to_string()
            }),
        };
        self.ports.iter().map(|port| format!("{host}:{port}")).collect()
    }

    /// The node that others joined through.
    pub(crate) fn first(&self) -> Option<&Dht> {
        self.nodes.first()
    }

    /// Whether they are bound to the loopback address, and reach nothing but this machine.
    pub(crate) fn are_at_loopback(&self) -> bool {
        self.bound.is_some_and(|bound| bound.is_loopback())
    }

    /// Has these nodes, and those at `others`, know each other.
    pub(crate) async fn meet(&self, others: Vec<SocketAddrV4>) {
        let meeting = self.nodes.iter().map(|node| async {
            node.add_nodes(others.clone());
            // Whoever is asked on the way knows who asked.
            if let Some(SocketAddr::V4(own)) = node.local_addr() {
                let _ = node.find_node(node_id(own)).finish().await;
            }
        });
        join_all(meeting).await;
    }

    /// Ends the nodes.
    pub(crate) async fn stop(&self) {
        for node in &self.nodes {
            node.destroy().await;
        }
    }
}

/// Waits until a node's place in the network is like this.
async fn until(node: &Dht, is_so: impl Fn(&Network) -> bool) -> Result<(), Error> {
    let mut network = node.network();
    let reached = network.wait_for(|network| is_so(network) || network.destroyed).await;
    match reached.is_ok_and(|network| !network.destroyed) {
        true => Ok(()),
        false => Err(Error::Dht("a node ended while it started".into())),
    }
}

/// The ports to try, in order.
struct Ports {
    kept: std::vec::IntoIter<u16>,
    next: u16,
    left: u16,
    used: BTreeSet<u16>,
    is_any: bool,
}

impl Ports {
    fn new(kept: Vec<u16>, first: u16) -> Self {
        let left = if first == 0 { 0 } else { TRIED_PORTS };
        Self { kept: kept.into_iter(), next: first, left, used: BTreeSet::new(), is_any: false }
    }

    /// The next port to try; 0 stands for any.
    fn next(&mut self) -> u16 {
        loop {
            let port = match self.kept.next() {
                Some(kept) => kept,
                None if self.left > 0 => {
                    self.left -= 1;
                    let port = self.next;
                    self.next = port.checked_add(1).unwrap_or(1024);
                    port
                }
                None => {
                    self.is_any = true;
                    return 0;
                }
            };
            if port != 0 && self.used.insert(port) {
                return port;
            }
        }
    }

    /// Whether the port tried last was any.
    fn is_any(&self) -> bool {
        self.is_any
    }
}

/// The IPv4 address that means the same as this address; `None` if there is none.
fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(ip) if ip.is_loopback() => Some(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => None,
    }
}

/// The host by which a caller reaches the hub, if it can reach the DHT nodes by it too: an IPv4 address or a
/// DNS name.
fn reachable_name(host: &str) -> Option<String> {
    if host.eq_ignore_ascii_case("localhost") {
        // It may be resolved to an IPv6 address first.
        return Some(Ipv4Addr::LOCALHOST.to_string());
    }
    match host.parse::<IpAddr>() {
        Ok(ip) => ipv4(ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
        Err(_) => {
            let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            (!host.is_empty() && host.len() <= 253 && host.bytes().all(fit)).then(|| host.to_owned())
        }
    }
}

/// Whether the port is another's, or this user may not have it.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn read(file: &Path) -> Kept {
    std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Saves the ports. If that fails, this start goes on, and the next one may get other ports.
fn write(file: &Path, kept: &Kept) {
    let beside = PathBuf::from(format!("{}.new", file.display()));
    let written = serde_json::to_vec(kept)
        .map_err(io::Error::other)
        .and_then(|bytes| std::fs::write(&beside, bytes))
        .and_then(|()| std::fs::rename(&beside, file));
    if let Err(error) = written {
        tracing::warn!("the ports of the DHT cannot be kept in {}: {error}", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(bound: Option<Ipv4Addr>) -> Nodes {
        Nodes { nodes: Vec::new(), ports: vec![1, 2], bound }
    }

    #[test]
    fn callers_are_told_the_address_that_led_them_here() {
        let local: IpAddr = Ipv4Addr::LOCALHOST.into();
        let bound = nodes(Some(Ipv4Addr::LOCALHOST));
        assert_eq!(bound.bootstrap(None, Some("hub.example"), local), ["127.0.0.1:1", "127.0.0.1:2"]);

        let everywhere = nodes(None);
        for (host, at, told) in [
            (Some("hub.example"), "10.0.0.1", "hub.example:1"),
            (Some("10.0.0.9"), "10.0.0.1", "10.0.0.9:1"),
            (Some("localhost"), "127.0.0.1", "127.0.0.1:1"),
            (Some("::1"), "::1", "127.0.0.1:1"),
            (Some("0.0.0.0"), "127.0.0.1", "127.0.0.1:1"),
            (Some("fe80::1"), "::ffff:10.0.0.1", "10.0.0.1:1"),
            (Some("a@b/c"), "10.0.0.1", "10.0.0.1:1"),
            (None, "10.0.0.1", "10.0.0.1:1"),
        ] {
            let at = at.parse().expect("an address");
            assert_eq!(everywhere.bootstrap(None, host, at)[0], told, "{host:?} at {at}");
        }

        let public = Some("hub.example");
        assert_eq!(everywhere.bootstrap(public, Some("10.0.0.9"), local)[0], "hub.example:1");
        assert_eq!(everywhere.bootstrap(Some("localhost"), Some("10.0.0.9"), local)[0], "10.0.0.9:1");
        let inside = nodes(Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(inside.bootstrap(public, None, local)[0], "hub.example:1");
        assert_eq!(bound.bootstrap(public, Some("hub.example"), local)[0], "127.0.0.1:1");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_know_each_other_from_the_start_however_often_they_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("dht.json");
        for _ in 0..50 {
            let nodes = Nodes::start(Ipv4Addr::LOCALHOST.into(), 0, &file).await.expect("nodes");
            for node in &nodes.nodes {
                assert_eq!(node.network().borrow().nodes, NODES - 1, "{:?}", node.local_addr());
            }
            nodes.stop().await;
        }
    }

    #[test]
    fn kept_ports_come_first_and_none_twice() {
        let mut ports = Ports::new(vec![5, 7, 5, 0], 6);
        let tried: Vec<u16> = (0..4).map(|_| ports.next()).collect();
        assert_eq!(tried, [5, 7, 6, 8]);
        assert!(!ports.is_any());
        let mut ports = Ports::new(Vec::new(), 0);
        assert_eq!((ports.next(), ports.next(), ports.is_any()), (0, 0, true));
        let mut ports = Ports::new(Vec::new(), u16::MAX);
        assert_eq!((ports.next(), ports.next()), (u16::MAX, 1024));
        assert_eq!((0..200).map(|_| ports.next()).last(), Some(0));
    }

    #[test]
    fn what_was_kept_is_read_and_nonsense_is_not() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("dht.json");
        assert_eq!(read(&file).ports, Vec::<u16>::new());
        write(&file, &Kept { ports: vec![1, 2] });
        assert_eq!(read(&file).ports, [1, 2]);
        std::fs::write(&file, "{\"ports\": [70000]}").expect("written");
        assert_eq!(read(&file).ports, Vec::<u16>::new());
    }
}
