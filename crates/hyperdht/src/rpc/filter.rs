//! Which addresses named by others may be used (spec/dht.md §17).

use std::net::{Ipv4Addr, SocketAddrV4};

/// Whether a datagram may be sent to `addr`, which `source` named: nothing that is no host, and
/// nothing inside a private network for somebody outside of it.
pub fn may_use(addr: SocketAddrV4, source: Ipv4Addr) -> bool {
    is_host(addr) && (is_public(*addr.ip()) || !is_public(source))
}

/// Whether `addr` names one host and a port.
pub fn is_host(addr: SocketAddrV4) -> bool {
    let [first, ..] = addr.ip().octets();
    // 0/8 is "this network", 224/4 multicast, 240/4 reserved with the broadcast address in it.
    addr.port() != 0 && first != 0 && first < 224
}

/// Whether an address belongs to the public internet.
pub fn is_public(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared)
}
