//! Where a request comes from, as far as the network tells: its address, and whether that is this machine.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::hosts::{Hosts, requested_host};

/// The headers that proxies add. One of them is enough to tell that a request was passed on, though whoever
/// passed it on may be on this machine.
const FORWARDING: [&str; 10] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
];
/// The most proxies that a request is followed back through.
const MAX_HOPS: usize = 16;

/// The address that a request comes from: that of its connection or, behind a trusted proxy, the one that
/// the proxy names. An IPv4 address is never written as an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Whether a request comes from this very machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It does, over the loopback address, and nothing says that it was passed on for another.
    Loopback,
    /// It comes from another machine, or may.
    OffLoopback,
}

/// Tells where requests come from.
#[derive(Debug)]
pub(crate) struct Whence {
    /// The proxies whose word on a client's address is taken.
    proxies: Vec<IpNet>,
    /// Whether the hub is meant for other machines, so that a request over the loopback address may come
    /// from a proxy that does not tell.
    is_public: bool,
}

impl Whence {
    pub(crate) fn new(proxies: Vec<IpNet>, hosts: &Hosts) -> Self {
        Self { proxies, is_public: hosts.is_public() }
    }

    /// Whether connections from an address are those of many clients, which a trusted proxy passes on.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from that came over a connection from `peer`.
    pub(crate) fn of(&self, peer: IpAddr, headers: &HeaderMap) -> (ClientAddress, Reach) {
        let peer = peer.to_canonical();
        let is_proxy = self.is_proxy(peer);
        let was_forwarded = was_forwarded(headers);
        let names_loopback = match requested_host(headers) {
            None => true,
            Some(host) => is_loopback_name(&host),
        };
        let is_here = peer.is_loopback() && names_loopback && !was_forwarded && !is_proxy && !self.is_public;
        let address = if is_proxy { self.client_behind(peer, headers) } else { peer };
        (ClientAddress(address), if is_here { Reach::Loopback } else { Reach::OffLoopback })
    }

    /// Whether a request came over TLS to a trusted proxy, which says so, and nothing says otherwise.
    pub(crate) fn was_encrypted(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let by_habit = values(headers, "x-forwarded-proto").map(str::trim);
        let by_standard = values(headers, "forwarded").filter_map(|item| parameter(item, "proto"));
        let mut said = by_habit.chain(by_standard).peekable();
        self.is_proxy(peer.to_canonical())
            && said.peek().is_some()
            && said.all(|proto| proto.eq_ignore_ascii_case("https"))
    }

    /// The client that proxies name. Each adds the address that it was reached from on the right, so that
    /// what stands left of the last one which is not trusted is no more than a claim.
    fn client_behind(&self, proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
        let by_habit = self.follow(proxy, values(headers, "x-forwarded-for").map(|hop| address(hop.trim())));
        let by_standard = self.follow(proxy, values(headers, "forwarded").map(forwarded_for));
        match (by_habit, by_standard) {
            (Some(client), None) | (None, Some(client)) => client,
            // One of them was passed on from the client as it was, and nobody knows which.
            (Some(one), Some(other)) if one != other => proxy,
            (Some(client), Some(_)) => client,
            (None, None) => proxy,
        }
    }

    fn follow(&self, proxy: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let hops = Vec::from_iter(hops);
        if hops.is_empty() {
            return None;
        }
        let mut client = proxy;
        for hop in hops.into_iter().rev().take(MAX_HOPS) {
            match hop {
                Some(hop) if self.is_proxy(client) => client = hop,
                _ => break,
            }
        }
        Some(client)
    }
}

/// Whether a proxy says that it passed a request on.
pub(crate) fn was_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING.iter().any(|name| headers.contains_key(*name))
}

/// The items of a header that is a list, from all of its lines.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(|line| line.split(',')).filter(|item| !item.trim().is_empty())
}

/// The address in an item of the header `Forwarded`, as RFC 7239 has it.
fn forwarded_for(item: &str) -> Option<IpAddr> {
    address(parameter(item, "for")?)
}

/// A parameter of an item of the header `Forwarded`.
fn parameter<'a>(item: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = item.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(found, _)| found.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(host, _)| host);
    let parsed = bare.parse::<IpAddr>().ok();
    let with_port = || bare.parse::<std::net::SocketAddrV4>().ok().map(|at| IpAddr::V4(*at.ip()));
    parsed.or_else(with_port).map(|address| address.to_canonical())
}

fn is_loopback_name(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    fn whence(proxies: &[&str], public_url: Option<&str>) -> Whence {
        let proxies = proxies.iter().map(|network| network.parse().expect("a network")).collect();
        let public_url = public_url.map(|url| url.parse().expect("a URL"));
        Whence::new(proxies, &Hosts::new(public_url.as_ref(), &[]))
    }

    fn client(whence: &Whence, peer: &str, pairs: &[(&'static str, &str)]) -> String {
        whence.of(peer.parse().expect("an address"), &headers(pairs)).0.0.to_string()
    }

    fn reach(whence: &Whence, peer: &str, pairs: &[(&'static str, &str)]) -> Reach {
        whence.of(peer.parse().expect("an address"), &headers(pairs)).1
    }

    #[test]
    fn nobody_but_a_trusted_proxy_is_believed_about_addresses() {
        let none = whence(&[], None);
        assert_eq!(client(&none, "203.0.113.9", &[("x-forwarded-for", "127.0.0.1")]), "203.0.113.9");
        assert_eq!(client(&none, "::ffff:203.0.113.9", &[]), "203.0.113.9");
        let one = whence(&["10.0.0.0/8"], None);
        assert_eq!(client(&one, "10.0.0.1", &[("x-forwarded-for", "203.0.113.9")]), "203.0.113.9");
        assert_eq!(client(&one, "192.0.2.1", &[("x-forwarded-for", "203.0.113.9")]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        let whence = whence(&["10.0.0.0/8", "2001:db8::/32"], None);
        for (name, value, expected) in [
            ("x-forwarded-for", "127.0.0.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("x-forwarded-for", "203.0.113.9:4711", "203.0.113.9"),
            ("x-forwarded-for", "[2001:db9::1]:4711", "2001:db9::1"),
            ("x-forwarded-for", "203.0.113.9, nonsense", "10.0.0.1"),
            ("x-forwarded-for", "nonsense, 10.0.0.7", "10.0.0.7"),
            ("x-forwarded-for", "", "10.0.0.1"),
            ("forwarded", "for=127.0.0.1, for=203.0.113.9;proto=https", "203.0.113.9"),
            ("forwarded", "proto=https; For=\"[2001:db9::1]:4711\"", "2001:db9::1"),
            ("forwarded", "for=_hidden", "10.0.0.1"),
        ] {
            assert_eq!(client(&whence, "10.0.0.1", &[(name, value)]), expected, "{name}: {value}");
        }
        let lines = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(client(&whence, "10.0.0.1", &lines), "203.0.113.9");
        let both = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(client(&whence, "10.0.0.1", &both), "10.0.0.1");
    }

    #[test]
    fn tls_before_a_trusted_proxy_is_believed_where_nothing_says_otherwise() {
        let one = whence(&["10.0.0.0/8"], None);
        let was_encrypted = |peer: &str, pairs: &[(&'static str, &str)]| {
            one.was_encrypted(peer.parse().expect("an address"), &headers(pairs))
        };
        for (pairs, expected) in [
            (&[("x-forwarded-proto", "https")][..], true),
            (&[("x-forwarded-proto", "HTTPS, https")], true),
            (&[("x-forwarded-proto", "https, http")], false),
            (&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")], false),
            (&[("forwarded", "for=203.0.113.9;proto=https")], true),
            (&[("forwarded", "for=203.0.113.9"), ("x-forwarded-proto", "https")], true),
            (&[("forwarded", "proto=http"), ("x-forwarded-proto", "https")], false),
            (&[("x-forwarded-for", "203.0.113.9")], false),
            (&[], false),
        ] {
            assert_eq!(was_encrypted("10.0.0.1", pairs), expected, "{pairs:?}");
            assert!(!was_encrypted("192.0.2.1", pairs), "{pairs:?}");
        }
    }

    #[test]
    fn what_may_come_from_elsewhere_is_off_loopback() {
        let plain = whence(&[], None);
        for pairs in [&[][..], &[("host", "localhost:1")], &[("host", "[::1]:1")], &[("host", "127.0.0.9")]] {
            assert_eq!(reach(&plain, "127.0.0.1", pairs), Reach::Loopback, "{pairs:?}");
        }
        assert_eq!(reach(&plain, "::ffff:127.0.0.1", &[]), Reach::Loopback);
        assert_eq!(reach(&plain, "10.0.0.1", &[("host", "localhost")]), Reach::OffLoopback);
        for name in FORWARDING {
            assert_eq!(reach(&plain, "127.0.0.1", &[(name, "127.0.0.1")]), Reach::OffLoopback, "{name}");
        }
        assert_eq!(reach(&plain, "127.0.0.1", &[("host", "hub.example")]), Reach::OffLoopback);
        assert_eq!(reach(&whence(&["127.0.0.1/32"], None), "127.0.0.1", &[]), Reach::OffLoopback);
        for (url, expected) in [
            ("https://hub.example", Reach::OffLoopback),
            ("http://10.0.0.1:8787", Reach::OffLoopback),
            ("http://localhost:1", Reach::Loopback),
            ("http://127.0.0.1:1", Reach::Loopback),
        ] {
            assert_eq!(reach(&whence(&[], Some(url)), "127.0.0.1", &[]), expected, "{url}");
        }
    }
}
