//! Addresses in the local network: which ones lead to this host, and which one leads to a peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::address::local_addresses;
use crate::handle::Handle;
use crate::rpc::Reply;
use crate::sync::lock;

/// How long a byte to ourselves may take (hyperdht/index.js validateLocalAddresses).
const PATIENCE: Duration = Duration::from_millis(500);
/// An address that failed is tried again after this time: its interface may be up by then.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Which of this host's addresses a byte reached that was sent to them. Some interfaces of virtual machines
/// and VPNs swallow what is sent to themselves, and no peer gets through them.
#[derive(Debug, Default)]
pub(crate) struct LocalAddresses {
    proven: Mutex<HashMap<Ipv4Addr, Proof>>,
}

#[derive(Clone, Copy, Debug)]
enum Proof {
    Reached,
    Failed(Instant),
}

impl LocalAddresses {
    /// The addresses of a socket bound to `bound` that were reached, with its port. New addresses are tried
    /// first, for half a second at most.
    pub(crate) async fn of(&self, bound: SocketAddr) -> Vec<SocketAddrV4> {
        let all = local_addresses(bound);
        let proofs = join_all(all.iter().map(|address| self.is_proven(*address.ip()))).await;
        all.into_iter().zip(proofs).filter_map(|(address, proven)| proven.then_some(address)).collect()
    }

    async fn is_proven(&self, ip: Ipv4Addr) -> bool {
        if ip.is_loopback() {
            return true;
        }
        match self.known(ip) {
            Some(Proof::Reached) => return true,
            Some(Proof::Failed(at)) if at.elapsed() < RETRY_AFTER => return false,
            _ => {}
        }
        let reached = reaches_itself(ip).await;
        let proof = if reached { Proof::Reached } else { Proof::Failed(Instant::now()) };
        lock(&self.proven).insert(ip, proof);
        reached
    }

    fn known(&self, ip: Ipv4Addr) -> Option<Proof> {
        lock(&self.proven).get(&ip).copied()
    }
}

/// Pings all the addresses and returns the first answer.
pub(super) async fn first_to_answer(handle: &Handle, candidates: &[SocketAddrV4]) -> Option<Reply> {
    let mut pings: FuturesUnordered<_> = candidates.iter().map(|to| handle.ping(*to)).collect();
    while let Some(answer) = pings.next().await {
        if answer.is_ok() {
            return answer.ok();
        }
    }
    None
}

async fn reaches_itself(ip: Ipv4Addr) -> bool {
    let attempt = async {
        let socket = UdpSocket::bind((IpAddr::V4(ip), 0)).await?;
        socket.send_to(&[0], socket.local_addr()?).await?;
        socket.recv(&mut [0; 1]).await
    };
    matches!(timeout(PATIENCE, attempt).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_proven_and_an_address_of_nobody_is_not() {
        let local = LocalAddresses::default();
        let bound = "127.0.0.1:4000".parse().unwrap();
        assert_eq!(local.of(bound).await, vec!["127.0.0.1:4000".parse().unwrap()]);
        assert!(!local.is_proven(Ipv4Addr::new(203, 0, 113, 9)).await);
        assert!(matches!(local.known(Ipv4Addr::new(203, 0, 113, 9)), Some(Proof::Failed(_))));
    }
}
