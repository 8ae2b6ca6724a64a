//! A network of its own for tests, on the loopback address.

use std::net::Ipv4Addr;

use crate::config::{Bootstrap, Config};
use crate::dht::Dht;
use crate::error::Error;

/// Nodes that each node of a larger network must know before the network is returned.
const ENOUGH: usize = 10;

/// Starts `size` persistent nodes on 127.0.0.1, at any ports, that know each other.
///
/// # Errors
/// [`Error::Bind`].
pub async fn testnet(size: usize) -> Result<Vec<Dht>, Error> {
    let mut nodes = Vec::with_capacity(size);
    for _ in 0..size {
        let node = match nodes.first() {
            None => Dht::bootstrapper(0, Ipv4Addr::LOCALHOST).await?,
            Some(first) => {
                Dht::new(Config {
                    host: Ipv4Addr::LOCALHOST.into(),
                    port: 0,
                    ephemeral: Some(false),
                    firewalled: false,
                    ..Config::private(vec![bootstrap_of(first)?])
                })
                .await?
            }
        };
        node.ready().await?;
        nodes.push(node);
    }
    // A node knows those that started before it; they learn of it from its requests a moment later.
    let others = size.saturating_sub(1).min(ENOUGH);
    for node in &nodes {
        let mut network = node.network();
        let known = network.wait_for(|network| network.nodes >= others || network.destroyed).await;
        known.map_err(|_| Error::Destroyed)?;
    }
    Ok(nodes)
}

/// The bootstrap address for nodes that join the network of `node`.
///
/// # Errors
/// [`Error::Destroyed`] if it has no socket, or is suspended.
pub fn bootstrap_of(node: &Dht) -> Result<Bootstrap, Error> {
    let addr = node.local_addr().ok_or(Error::Destroyed)?;
    Ok(Bootstrap { ip: None, host: addr.ip().to_string(), port: addr.port() })
}
