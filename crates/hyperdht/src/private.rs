//! Private networks: a few nodes on one machine that others join.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::local_addresses;
use crate::config::{Bootstrap, Config};
use crate::dht::Dht;
use crate::error::Error;

/// Nodes that a node of a larger network is to know before the network is handed out.
const ENOUGH: usize = 10;

/// Starts a persistent node for each of `ports` (one of the next four, or any, where it is
/// taken; 0 is any), which all know each other. Whoever is told of any of them joins.
///
/// `listen` is the address all are bound to. Where that is none in particular, others know the
/// nodes by the first address of this machine that is not loopback.
///
/// # Errors
/// [`Error::Bind`].
pub async fn private_network(listen: IpAddr, ports: &[u16]) -> Result<Vec<Dht>, Error> {
    let mut nodes: Vec<Dht> = Vec::with_capacity(ports.len());
    for &port in ports {
        let (known_host, bootstrap) = match nodes.first() {
            None => (Some(host_of(listen)), Vec::new()),
            Some(first) => (None, vec![bootstrap_of(first)?]),
        };
        let node = Dht::new(Config {
            host: listen,
            port,
            ephemeral: Some(false),
            firewalled: false,
            known_host,
            ..Config::private(bootstrap)
        })
        .await?;
        node.ready().await?;
        nodes.push(node);
    }
    // A node knows those before it; those learn of it by its requests a moment later.
    let others = ports.len().saturating_sub(1).min(ENOUGH);
    for node in &nodes {
        let mut network = node.network();
        let known = network.wait_for(|network| network.nodes >= others || network.destroyed).await;
        known.map_err(|_| Error::Destroyed)?;
    }
    Ok(nodes)
}

/// What a node that joins the network of `node` is to be told.
///
/// # Errors
/// [`Error::Suspended`], [`Error::Destroyed`].
pub fn bootstrap_of(node: &Dht) -> Result<Bootstrap, Error> {
    let gone = if node.network().borrow().suspended { Error::Suspended } else { Error::Destroyed };
    let addr = node.local_addr().ok_or(gone)?;
    // Others see this node as it sees itself, once it knows its address.
    let host = match (node.remote_address(), addr.ip()) {
        (Some(seen), _) => seen.ip().to_string(),
        (None, ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        (None, ip) => ip.to_string(),
    };
    Ok(Bootstrap { ip: None, host, port: addr.port() })
}

fn host_of(listen: IpAddr) -> Ipv4Addr {
    let found = local_addresses(SocketAddr::new(listen, 0));
    found.first().map_or(Ipv4Addr::LOCALHOST, |addr| *addr.ip())
}
