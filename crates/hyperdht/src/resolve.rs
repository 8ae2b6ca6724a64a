//! Finds the addresses of the bootstrap nodes (spec/dht.md §6).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::task::JoinSet;

use crate::config::Bootstrap;
use crate::handle::Handle;

/// The addresses of those nodes that have one, in their order.
pub(crate) async fn resolve(handle: &Handle, nodes: Vec<Bootstrap>) -> Vec<SocketAddrV4> {
    let mut lookups = JoinSet::new();
    for (i, node) in nodes.into_iter().enumerate() {
        let handle = handle.clone();
        lookups.spawn(async move { (i, resolve_one(&handle, node).await) });
    }
    let mut found = lookups.join_all().await;
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().filter_map(|(_, addr)| addr).collect()
}

async fn resolve_one(handle: &Handle, node: Bootstrap) -> Option<SocketAddrV4> {
    if let Some(ip) = node.ip {
        let addr = SocketAddrV4::new(ip, node.port);
        if handle.ping(addr).await.is_ok() {
            return Some(addr);
        }
    }
    if let Ok(ip) = node.host.parse::<Ipv4Addr>() {
        return Some(SocketAddrV4::new(ip, node.port));
    }
    let found = tokio::net::lookup_host((node.host.as_str(), node.port)).await.ok()?;
    found.into_iter().find_map(|addr| match addr {
        SocketAddr::V4(addr) => Some(addr),
        SocketAddr::V6(_) => None,
    })
}
