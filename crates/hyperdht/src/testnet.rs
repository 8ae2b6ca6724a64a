//! A network of its own, on this machine.

use std::net::{Ipv4Addr, SocketAddr};

use crate::config::{Bootstrap, Config};
use crate::dht::Dht;
use crate::error::Error;

/// Nodes that a node of a larger network is to know before the network is handed out.
const ENOUGH: usize = 10;

/// Starts `size` persistent nodes on 127.0.0.1 that know each other, the first of which the
/// others were told of.
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
    // A node knows those before it; those learn of it by its requests a moment later.
    let others = size.saturating_sub(1).min(ENOUGH);
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
/// [`Error::Destroyed`].
pub fn bootstrap_of(node: &Dht) -> Result<Bootstrap, Error> {
    match node.local_addr() {
        Some(SocketAddr::V4(addr)) => {
            Ok(Bootstrap { ip: None, host: addr.ip().to_string(), port: addr.port() })
        }
        _ => Err(Error::Destroyed),
    }
}
