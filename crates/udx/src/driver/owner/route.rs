//! What the system knows of the way to an address.

use std::net::SocketAddr;

/// Bytes of the largest IP packet that leaves here for `to` in one piece; `None` where the system does not
/// say.
#[cfg(target_os = "linux")]
pub(super) fn first_hop_mtu(to: SocketAddr) -> Option<usize> {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    let mtu = if to.is_ipv4() { ip_mtu(&socket) } else { ipv6_mtu(&socket) };
    usize::try_from(mtu.ok()?).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn first_hop_mtu(_: SocketAddr) -> Option<usize> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_carries_large_packets() {
        assert!(first_hop_mtu(([127, 0, 0, 1], 1).into()).is_some_and(|bytes| bytes >= 16_384));
    }
}
