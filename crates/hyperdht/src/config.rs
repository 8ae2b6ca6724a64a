//! How a node is set up.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use secret_stream::KeyPair;

use crate::error::Error;

/// The port nodes are bound to where it is free.
pub const DEFAULT_PORT: u16 = 49737;

/// The nodes of the public network that everybody begins with.
pub const PUBLIC_BOOTSTRAP: [&str; 3] = [
    "88.99.3.86@node1.hyperdht.org:49737",
    "142.93.90.113@node2.hyperdht.org:49737",
    "138.68.147.8@node3.hyperdht.org:49737",
];

/// A node that others join the network through: `host:port`, or `ip@host:port`, where the name is only looked
/// up if nobody answers at the IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Asked first, if given.
    pub ip: Option<Ipv4Addr>,
    /// A name or an IPv4 address.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
}

impl FromStr for Bootstrap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidBootstrap(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        let (ip, host) = match host.split_once('@') {
            Some((ip, host)) => (Some(ip.parse().map_err(|_| invalid())?), host),
            None => (None, host),
        };
        if host.is_empty() || host.contains([':', '@', '/', ' ']) {
            return Err(invalid());
        }
        Ok(Self { ip, host: host.to_owned(), port })
    }
}

/// Options of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nodes to begin with. Default: those of the public network.
    pub bootstrap: Vec<Bootstrap>,
    /// The port of the server socket; one of the next four, or any, where it is taken. 0 is any. Default:
    /// 49737.
    pub port: u16,
    /// Fail where `port` is taken. Default: false.
    pub exact_port: bool,
    /// The IPv4 address both sockets are bound to; the DHT knows no other. Default: all.
    pub host: IpAddr,
    /// `Some(false)`: a persistent node from the start, `Some(true)`: never one. Default, `None`: once it has
    /// been reachable and undisturbed for 20 minutes.
    pub ephemeral: Option<bool>,
    /// `false`: this host is known to be reachable from outside. Default: true, and then it is found out.
    pub firewalled: bool,
    /// Never treat this node as reachable from outside, even if it seems to be: peers are dialled or met in
    /// the local network, and are not told to come. Default: false.
    pub stays_firewalled: bool,
    /// The IP address of this node, for the first node of a network, which has nobody to learn it from.
    /// Default: none.
    pub known_host: Option<Ipv4Addr>,
    /// Limit what strangers may do by their IP address. Right where anybody may take part, wrong where all
    /// nodes share a machine. Default: true.
    pub address_defence: bool,
    /// Resend a request after the time that its node usually takes to answer, instead of a second: faster
    /// where nodes are near or packets get lost, but more packets. Default: false.
    pub adaptive_timeouts: bool,
    /// Who this node is when it connects and no other key pair is given. Default: random.
    pub key_pair: Option<KeyPair>,
}

impl Default for Config {
    fn default() -> Self {
        let bootstrap = PUBLIC_BOOTSTRAP.iter().filter_map(|node| node.parse().ok()).collect();
        Self {
            bootstrap,
            port: DEFAULT_PORT,
            exact_port: false,
            host: Ipv4Addr::UNSPECIFIED.into(),
            ephemeral: None,
            firewalled: true,
            stays_firewalled: false,
            known_host: None,
            address_defence: true,
            adaptive_timeouts: false,
            key_pair: None,
        }
    }
}

impl Config {
    /// A node of a private network, where IP addresses do not tell nodes apart.
    pub fn private(bootstrap: Vec<Bootstrap>) -> Self {
        Self { bootstrap, address_defence: false, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_nodes_are_read() {
        let node: Bootstrap = "88.99.3.86@node1.hyperdht.org:49737".parse().unwrap();
        assert_eq!(node.ip, Some(Ipv4Addr::new(88, 99, 3, 86)));
        assert_eq!((node.host.as_str(), node.port), ("node1.hyperdht.org", 49737));
        let node: Bootstrap = "localhost:1".parse().unwrap();
        assert_eq!(node, Bootstrap { ip: None, host: "localhost".into(), port: 1 });
        assert_eq!(Config::default().bootstrap.len(), PUBLIC_BOOTSTRAP.len());
    }

    #[test]
    fn other_text_is_no_bootstrap_node() {
        let wrong =
            ["", "host", "host:", ":1", "host:0", "host:65536", "x@host:1", "1.2.3.4@:1", "a b:1", "[::1]:1"];
        for text in wrong {
            assert!(Bootstrap::from_str(text).is_err(), "{text}");
        }
    }
}
