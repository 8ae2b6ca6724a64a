//! Which addresses named by others may be used (spec/dht.md §17).

use std::net::{Ipv4Addr, SocketAddrV4};

/// Whether a datagram may be sent to `addr`, which `source` named. It must be a host, and must not be inside
/// a private network unless `source` is too.
pub(crate) fn may_use(addr: SocketAddrV4, source: Ipv4Addr) -> bool {
    is_host(addr) && (is_public(*addr.ip()) || !is_public(source))
}

/// Whether `addr` names one host and a port, and is no stray node.
pub(crate) fn is_host(addr: SocketAddrV4) -> bool {
    let [first, ..] = addr.ip().octets();
    // 0/8 is "this network", 224/4 multicast, 240/4 reserved with the broadcast address in it.
    addr.port() != 0 && first != 0 && first < 224 && !is_stray(addr)
}

/// Nodes of somebody's test network that once leaked into the public one. npm hyperdht leaves them out
/// (hyperdht/index.js filterNode), so the tables of other nodes do not have them either.
fn is_stray(addr: SocketAddrV4) -> bool {
    match (addr.ip().octets(), addr.port()) {
        ([134, 209, 28, 98] | [167, 99, 142, 185], 49738) | ([35, 233, 47, 252], 9400) => true,
        (octets, _) => octets == [150, 136, 142, 116],
    }
}

/// Whether an address belongs to the public internet.
pub(crate) fn is_public(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(addr: &str, source: &str) -> bool {
        may_use(addr.parse().unwrap(), source.parse().unwrap())
    }

    #[test]
    fn what_is_no_host_is_not_used() {
        for addr in ["8.8.8.8:0", "0.1.2.3:1", "224.0.0.1:1", "240.0.0.1:1", "255.255.255.255:1"] {
            assert!(!usable(addr, "9.9.9.9"), "{addr}");
            assert!(!usable(addr, "127.0.0.1"), "{addr}");
        }
        assert!(!usable("134.209.28.98:49738", "9.9.9.9"));
        assert!(usable("134.209.28.98:49737", "9.9.9.9"));
        assert!(!usable("150.136.142.116:1", "9.9.9.9"));
    }

    #[test]
    fn nobody_outside_names_an_address_inside() {
        for addr in ["10.0.0.1:1", "127.0.0.1:1", "192.168.1.1:1", "169.254.1.1:1", "100.64.0.1:1"] {
            assert!(!usable(addr, "9.9.9.9"), "{addr}");
            assert!(usable(addr, "192.168.1.9"), "{addr}");
        }
        assert!(usable("8.8.8.8:1", "9.9.9.9"));
        assert!(usable("8.8.8.8:1", "10.0.0.1"));
        assert!(usable("172.32.0.1:1", "9.9.9.9"));
    }
}
