//! A node of the DHT that runs for others: the first of a private network, or one more of any.

use std::net::{Ipv4Addr, SocketAddr};

use hyperdht::{Bootstrap, Config, DEFAULT_PORT, Dht, primary_address};

use crate::error::{Code, Error, Result};

/// How to run a node.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    /// The IPv4 address it is bound to. Default: all.
    pub host: Ipv4Addr,
    /// Its UDP port, 0 for any. Default: 49737, or one of the next four where that is taken.
    pub port: Option<u16>,
    /// Nodes of the network that it joins, `host:port` each. Default: none, and then it is the first
    /// node of a network of its own.
    pub bootstrap: Vec<String>,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self { host: Ipv4Addr::UNSPECIFIED, port: None, bootstrap: Vec::new() }
    }
}

/// What has become of a node once it has looked around.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where others reach it, as far as is known: the address to pass on as theirs to begin with.
    pub address: SocketAddr,
    /// Others reach it, so it answers lookups and keeps announcements for them.
    pub reachable: bool,
    /// Other nodes that it knows.
    pub nodes: usize,
}

/// Starts a node and waits until it has found its place. It runs until it is destroyed.
///
/// # Errors
/// [`Code::InvalidArgument`] for a bootstrap node that is none, [`Code::Network`] where the port is taken.
pub async fn start(config: &DhtConfig) -> Result<(Dht, Started)> {
    let bootstrap = config.bootstrap.iter().map(|node| parse(node)).collect::<Result<Vec<_>>>()?;
    let is_first = bootstrap.is_empty();
    let first_host = if config.host.is_unspecified() { primary_address() } else { config.host };
    let options = Config {
        host: config.host.into(),
        port: config.port.unwrap_or(DEFAULT_PORT),
        exact_port: config.port.is_some(),
        ephemeral: Some(false),
        firewalled: !is_first,
        known_host: is_first.then_some(first_host),
        // On a private network all nodes may share one address.
        address_defence: bootstrap.iter().any(|node| !is_private(node)),
        ..Config::private(bootstrap)
    };
    let failed = |error: hyperdht::Error| Error::new(Code::Network, format!("no node of the DHT: {error}"));
    let dht = Dht::new(options).await.map_err(failed)?;
    dht.ready().await.map_err(failed)?;
    let network = dht.network().borrow().clone();
    let local = dht.local_addr().ok_or_else(|| Error::new(Code::Network, "the node has ended"))?;
    let address = match network.remote_address {
        Some(remote) => SocketAddr::V4(remote),
        None if config.host.is_unspecified() => (first_host, local.port()).into(),
        None => local,
    };
    Ok((dht, Started { address, reachable: !network.ephemeral, nodes: network.nodes }))
}

fn parse(node: &str) -> Result<Bootstrap> {
    let invalid =
        || Error::new(Code::InvalidArgument, format!("{node:?} is no bootstrap node: host:port is"));
    node.parse().map_err(|_| invalid())
}

fn is_private(node: &Bootstrap) -> bool {
    let named = node.host.parse::<Ipv4Addr>().ok().or(node.ip);
    node.host == "localhost"
        || named.is_some_and(|ip| ip.is_private() || ip.is_loopback() || ip.is_link_local())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn on_loopback(bootstrap: Vec<String>) -> DhtConfig {
        DhtConfig { host: Ipv4Addr::LOCALHOST, port: Some(0), bootstrap }
    }

    #[tokio::test]
    async fn the_first_node_is_reachable_and_the_next_ones_join_it() {
        let (first, started) = start(&on_loopback(Vec::new())).await.expect("a node");
        assert!(started.reachable && started.nodes == 0);
        let (second, joined) = start(&on_loopback(vec![started.address.to_string()])).await.expect("a node");
        assert!(joined.reachable, "{joined:?}");
        assert_eq!((joined.nodes, joined.address.port()), (1, second.local_addr().expect("bound").port()));
        second.destroy().await;
        first.destroy().await;
    }

    #[tokio::test]
    async fn what_is_no_node_and_a_taken_port_are_refused() {
        let error = start(&on_loopback(vec!["nowhere".into()])).await.expect_err("no node");
        assert_eq!(error.code, Code::InvalidArgument);
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let port = Some(taken.local_addr().expect("bound").port());
        let error = start(&DhtConfig { port, ..on_loopback(Vec::new()) }).await.expect_err("a taken port");
        assert_eq!(error.code, Code::Network);
    }
}
