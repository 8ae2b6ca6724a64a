//! IPv4 addresses as connecting peers see them: which are private or reserved, and which of another host's
//! addresses is nearest.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// Whether `ip` is of a private, shared, link-local or loopback range: reachable from some network, never
/// from everywhere (npm `bogon`, `isPrivate`).
pub(crate) fn is_private(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && (64..=127).contains(&b))
}

/// Whether `ip` is of a range no host may have (npm `bogon`, `isReserved`).
pub(crate) fn is_reserved(ip: Ipv4Addr) -> bool {
    match ip.octets() {
        [0, ..] | [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [198, b, ..] => b == 18 || b == 19,
        [a, ..] => a >= 224,
    }
}

/// Whether `ip` is private or reserved: not an address of the public internet.
pub(crate) fn is_bogon(ip: Ipv4Addr) -> bool {
    is_private(ip) || is_reserved(ip)
}

/// Whether `address` is of our own network, or of one behind the same NAT.
pub(crate) fn is_near(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if is_private(ip))
}

/// The one of `theirs` that most likely shares a network with one of `ours`: the first with equal first three
/// octets, else two, else one (hyperdht/lib/holepuncher.js matchAddress).
pub(crate) fn match_address(ours: &[SocketAddrV4], theirs: &[SocketAddrV4]) -> Option<SocketAddrV4> {
    let mut best = (0, None);
    for our in ours {
        for their in theirs {
            let shared = shared_octets(*our.ip(), *their.ip());
            if shared > best.0 {
                best = (shared, Some(*their));
            }
            if shared == MAX_SHARED_OCTETS {
                return Some(*their);
            }
        }
    }
    best.1
}

/// More than three equal octets would be the host itself; three are a usual local network.
const MAX_SHARED_OCTETS: usize = 3;

fn shared_octets(a: Ipv4Addr, b: Ipv4Addr) -> usize {
    a.octets().iter().zip(b.octets()).take(MAX_SHARED_OCTETS).take_while(|(x, y)| **x == *y).count()
}

/// Where hosts of the same network may reach a socket bound to `bound`: every IPv4 interface that is not
/// loopback, with the socket's port; loopback if there is none, or if the socket is bound to it
/// (hyperdht/lib/holepuncher.js localAddresses).
pub(crate) fn local_addresses(bound: SocketAddr) -> Vec<SocketAddrV4> {
    let port = bound.port();
    if let IpAddr::V4(ip) = bound.ip()
        && !ip.is_unspecified()
    {
        return vec![SocketAddrV4::new(ip, port)];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<_> = interfaces
        .iter()
        .filter(|interface| !interface.is_loopback())
        .filter_map(|interface| match interface.ip() {
            IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, port)),
            IpAddr::V6(_) => None,
        })
        .collect();
    if addresses.is_empty() {
        addresses.push(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::connect as vectors;

    fn addresses(list: &serde_json::Value) -> Vec<SocketAddrV4> {
        let ip = |host: &serde_json::Value| host.as_str().unwrap().parse().unwrap();
        list.as_array().unwrap().iter().map(|host| SocketAddrV4::new(ip(host), 1)).collect()
    }

    #[test]
    fn ranges_are_those_of_the_vector() {
        for (host, expect) in vectors::case("bogon")["expect"].as_object().unwrap() {
            let ip = host.parse().unwrap();
            assert_eq!(is_private(ip), expect["private"], "{host}");
            assert_eq!(is_reserved(ip), expect["reserved"], "{host}");
            assert_eq!(is_bogon(ip), expect["bogon"], "{host}");
        }
    }

    #[test]
    fn the_nearest_address_is_that_of_the_vector() {
        for case in vectors::case("match-address")["expect"].as_array().unwrap() {
            let found = match_address(&addresses(&case["local"]), &addresses(&case["remote"]));
            assert_eq!(found.map(|a| a.ip().to_string()).as_deref(), case["result"].as_str());
        }
    }

    #[test]
    fn a_socket_on_one_address_is_reached_there_alone() {
        let bound = "127.0.0.1:4000".parse().unwrap();
        assert_eq!(local_addresses(bound), vec!["127.0.0.1:4000".parse().unwrap()]);
        let any = local_addresses("0.0.0.0:4000".parse().unwrap());
        assert!(!any.is_empty() && any.iter().all(|a| a.port() == 4000));
    }
}
