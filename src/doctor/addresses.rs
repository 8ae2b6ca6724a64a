//! What this machine is reached by: IPv4, which the peer network speaks, IPv6, or nothing but itself.

use std::net::IpAddr;

use super::Finding;

const CHECK: &str = "addresses";

/// Looks at the addresses of this machine's network interfaces.
pub(super) fn check() -> Finding {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => judge(interfaces.into_iter().map(|interface| interface.ip())),
        Err(error) => Finding::skipped(CHECK, format!("this machine does not tell them: {error}")),
    }
}

fn judge(addresses: impl Iterator<Item = IpAddr>) -> Finding {
    let (mut ipv4, mut ipv6) = (false, false);
    for address in addresses.filter(|address| !address.is_loopback()) {
        match address {
            IpAddr::V4(address) => ipv4 |= !address.is_link_local(),
            IpAddr::V6(address) => ipv6 |= !address.is_unicast_link_local(),
        }
    }
    let finding = match (ipv4, ipv6) {
        (true, true) => Finding::ok(CHECK, "IPv4 and IPv6; peers go by IPv4, the task service by either"),
        (true, false) => Finding::ok(CHECK, "IPv4"),
        (false, true) => Finding::warning(CHECK, "IPv6 alone: the peer network speaks IPv4").advise(
            "files go by the tunnel of a hub that has an IPv6 address; an IPv4 address, even a private one \
             behind a NAT, would let them go directly",
        ),
        (false, false) => {
            Finding::warning(CHECK, "none but this machine's own: nothing beyond it is reached")
                .advise("connect it to a network, unless the peers and the hub are on this machine")
        }
    };
    finding.fact("ipv4", ipv4).fact("ipv6", ipv6)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn of(addresses: &[&str]) -> Finding {
        judge(addresses.iter().map(|address| address.parse().unwrap()))
    }

    #[test]
    fn only_addresses_that_lead_beyond_this_machine_count() {
        for (addresses, ipv4, ipv6) in [
            (vec!["127.0.0.1", "10.0.0.9", "::1", "fd00::1"], true, true),
            (vec!["127.0.0.1", "10.0.0.9", "::1", "fe80::1"], true, false),
        ] {
            let finding = of(&addresses);
            assert_eq!(finding.verdict, Verdict::Ok, "{addresses:?}");
            assert_eq!((&finding.facts["ipv4"], &finding.facts["ipv6"]), (&ipv4.into(), &ipv6.into()));
        }
        let six = of(&["127.0.0.1", "169.254.9.9", "2001:db8::1"]);
        assert!(six.verdict == Verdict::Warning && six.found.starts_with("IPv6 alone"), "{six:?}");
        let nothing = of(&["127.0.0.1", "::1", "fe80::1"]);
        assert!(nothing.verdict == Verdict::Warning && nothing.found.starts_with("none"), "{nothing:?}");
    }
}
