//! How a hub is set up, and how the texts of a command line become that.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hyperdht::relay::RelayLimits;
use ipnet::IpNet;
use url::Url;

use crate::access::AccessConfig;
use crate::relay::RelayAccess;
use crate::store::PostgresUrl;
use crate::tls::TlsFiles;
use crate::tunnel::TunnelAccess;

/// The TCP port of a hub when nobody says otherwise.
const DEFAULT_PORT: u16 = 8787;
/// The most connections at once, for what they need of memory, and what there are of them at least.
const MAX_CONNECTIONS: usize = 4096;
const MIN_CONNECTIONS: usize = 64;
/// The files that the rest of the process may have open: its database, its DHT, and what else runs in it.
const OTHER_FILES: usize = 256;

/// How long tasks that are over are kept.
const DEFAULT_KEEP: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How a hub is set up.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The TCP address to serve; port 0 takes any that is free. Default: 127.0.0.1:8787.
    pub listen: SocketAddr,
    /// The folder of the database and all else that lasts. It is made if need be, readable by its owner
    /// alone, and serves one hub at a time.
    pub data: PathBuf,
    /// The PostgreSQL database of its tasks and keys, which other hubs may share. The clocks of their
    /// machines must agree. Default: `None`, and a file of its own in the folder.
    pub database: Option<PostgresUrl>,
    /// What others call it, where that is not the address it listens on: `http` or `https`, as
    /// [`parse_public_url`] reads it. A hub with one that does not lead to the loopback address takes every
    /// request for one from elsewhere. Default: none.
    pub public_url: Option<Url>,
    /// More names that it goes by. It answers for its addresses, `localhost`, the name of the machine and
    /// that of the public URL; requests for other names are refused, for any site may point a name of its
    /// own at the hub. Default: none.
    pub allowed_hosts: Vec<String>,
    /// The proxies in front of it, whose word on a client's address is taken (`X-Forwarded-For`,
    /// `Forwarded`). Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Who is let in without a key, besides this machine itself. Default: nobody.
    pub access: AccessConfig,
    /// The certificate by which it speaks TLS. Default: none, and plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long a task is kept once it is over, counted from its last change, with its messages and its
    /// trail; `None` keeps all for ever. An offer that nobody touched for so long is ended. Default: 90 days.
    pub keep: Option<Duration>,
    /// The most connections at once. One address has a sixteenth of them at most, this machine and trusted
    /// proxies three quarters. Default: 4096, or fewer where the system lets the process open fewer files.
    pub max_connections: usize,
    /// The most requests a second of one actor that shows its key, else of one address, off this machine,
    /// which may have five seconds' worth in hand. This machine may make a hundred times as many. Default:
    /// 200.
    pub requests_per_second: u32,
    /// The most bytes a second that one of them sends in requests, four seconds' worth in hand. This machine
    /// may send 16 times as many. Default: 2 MiB.
    pub bytes_per_second: u32,
    /// The most bytes that one of them has kept in a day, in requests that change something. This machine
    /// may have eight times as many. Default: 1 GiB.
    pub stored_bytes_per_day: u64,
    /// Whether to run a private DHT beside it.
    pub dht: bool,
    /// The first UDP port of the DHT's nodes; those that are taken are passed over. 0 takes any that are
    /// free. What a hub had before a restart counts first.
    pub dht_port: u16,
    /// Whom a relay on the DHT serves.
    pub relay: RelayAccess,
    /// What it does at most, and what the tunnel does.
    pub relay_limits: RelayLimits,
    /// Whom the tunnel serves.
    pub tunnel: TunnelAccess,
    /// The address at which this very hub is reached, as [`parse_public_url`] reads it, where others share
    /// its name or its database: two peers have to come to the same one. Default: none.
    pub tunnel_url: Option<Url>,
}

impl HubConfig {
    /// The usual hub, with its data in a folder: on the loopback address, with a DHT.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DEFAULT_PORT),
            data: data.into(),
            database: None,
            public_url: None,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            access: AccessConfig::default(),
            tls: None,
            keep: Some(DEFAULT_KEEP),
            max_connections: most_connections(),
            requests_per_second: 200,
            bytes_per_second: 2 * 1024 * 1024,
            stored_bytes_per_day: 1024 * 1024 * 1024,
            dht: true,
            dht_port: hyperdht::DEFAULT_PORT,
            relay: RelayAccess::default(),
            relay_limits: RelayLimits::default(),
            tunnel: TunnelAccess::default(),
            tunnel_url: None,
        }
    }
}

/// Reads an address to listen on: `127.0.0.1:8787`, `localhost:8787`, the name of a host, an address or a
/// port without the other, or `:8787` for that port of all addresses. A name is looked up.
///
/// # Errors
/// What is wrong with it, for people.
pub async fn find_listen(text: &str) -> Result<SocketAddr, String> {
    let (name, port) = match parse_listen(text)? {
        Listen::At(address) => return Ok(address),
        Listen::Named(name, port) => (name, port),
    };
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|error| format!("the host {name} is not found: {error}"))?.collect();
    // The DHT beside the hub has IPv4 alone.
    let usual = found.iter().find(|address| address.is_ipv4()).or(found.first());
    usual.copied().ok_or_else(|| format!("the host {name} has no address"))
}

/// Where to listen, as it is written.
#[derive(Debug, PartialEq, Eq)]
enum Listen<'a> {
    At(SocketAddr),
    Named(&'a str, u16),
}

fn parse_listen(text: &str) -> Result<Listen<'_>, String> {
    let at = |host: IpAddr, port| Ok(Listen::At(SocketAddr::new(host, port)));
    if text.contains("://") {
        return Err("that is a URL; an address has no scheme and no path".into());
    }
    if let Ok(address) = text.parse() {
        return Ok(Listen::At(address));
    }
    if let Some(host) = host(text) {
        return at(host, DEFAULT_PORT);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return at(Ipv4Addr::LOCALHOST.into(), port(text)?);
    }
    let (named, port) = match text.rsplit_once(':') {
        Some((named, text)) => (named, port(text)?),
        None => (text, DEFAULT_PORT),
    };
    match host(named) {
        Some(host) => at(host, port),
        None if named.is_empty() && text.starts_with(':') => at(Ipv4Addr::UNSPECIFIED.into(), port),
        None if is_host_name(named) => Ok(Listen::Named(named, port)),
        None => Err(format!("{named:?} is neither an address nor the name of a host")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true if !text.is_empty() => {
            text.parse().map_err(|_| format!("{text} is no port, which is a number up to {}", u16::MAX))
        }
        _ => Err(format!("behind the colon stands {text:?}, which is no port")),
    }
}

fn host(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
}

/// Whether a name server could be asked for it. What ends in a number is meant as an address.
fn is_host_name(text: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.bytes().all(is_usual) && last.bytes().any(|byte| !byte.is_ascii_digit())
}

/// Reads a public URL: `http` or `https`, a host, perhaps a port and a path. `None` for anything else.
pub fn parse_public_url(text: &str) -> Option<Url> {
    let url: Url = text.parse().ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    let is_whole = url.query().is_none() && url.fragment().is_none();
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain && is_whole;
    fits.then_some(url)
}

/// Reads an address, or a network of addresses as in `10.0.0.0/8`. `None` for anything else.
pub fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// How many connections a hub can have: what the system lets this process open, apart from what else it
/// needs.
fn most_connections() -> usize {
    #[cfg(unix)]
    let most_files: Option<u64> = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let most_files: Option<u64> = None;
    let files = most_files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    files.saturating_sub(OTHER_FILES).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

/// The URLs by which a hub that listens on `address` can be called, the one that serves most callers first.
pub(crate) fn urls(address: SocketAddr, has_tls: bool, public_url: Option<&Url>) -> Vec<String> {
    let scheme = if has_tls { "https" } else { "http" };
    if let Some(url) = public_url {
        return vec![url.as_str().trim_end_matches('/').to_owned()];
    }
    if !address.ip().is_unspecified() {
        return vec![format!("{scheme}://{address}")];
    }
    // Machines elsewhere have no use for 0.0.0.0.
    let mut hosts = vec![IpAddr::V4(hyperdht::primary_address())];
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let is_usual = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
    };
    hosts.extend(interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| is_usual(*ip)));
    hosts.sort_by_key(IpAddr::is_loopback);
    hosts.push(Ipv4Addr::LOCALHOST.into());
    let mut urls: Vec<String> =
        hosts.iter().map(|host| format!("{scheme}://{}", SocketAddr::new(*host, address.port()))).collect();
    let mut seen = std::collections::HashSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_is_understood_as_people_write_it() {
        for (text, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("localhost:1", "127.0.0.1:1"),
            ("LocalHost", "127.0.0.1:8787"),
            (":9000", "0.0.0.0:9000"),
            ("9000", "127.0.0.1:9000"),
            ("10.0.0.1", "10.0.0.1:8787"),
            ("::1", "[::1]:8787"),
            ("[::]", "[::]:8787"),
            ("::", "[::]:8787"),
        ] {
            let expected = Listen::At(expected.parse().expect("an address"));
            assert_eq!(parse_listen(text), Ok(expected), "{text}");
        }
        for (text, name, port) in [("build7", "build7", 8787), ("hub.example:1", "hub.example", 1)] {
            assert_eq!(parse_listen(text), Ok(Listen::Named(name, port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_to_listen_on_is_told_by_what_is_wrong_with_it() {
        for (text, says) in [
            ("", "neither an address nor"),
            (":", "no port"),
            ("localhost:", "no port"),
            ("localhost:x", "\"x\", which is no port"),
            (":70000", "70000 is no port"),
            ("70000", "70000 is no port"),
            ("1.2.3.4:-1", "no port"),
            ("1.2.3.456", "neither an address nor"),
            ("1.2.3:1", "neither an address nor"),
            ("::x:1", "neither an address nor"),
            ("a b:1", "neither an address nor"),
            ("http://x", "a URL"),
        ] {
            let told = parse_listen(text).expect_err(text);
            assert!(told.contains(says), "{text}: {told}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up() {
        // One that every system reads by itself, and asks no name server for.
        assert_eq!(find_listen("0x7f000001:1").await, Ok("127.0.0.1:1".parse().expect("an address")));
    }

    #[test]
    fn a_public_url_names_a_host_and_nothing_secret() {
        for text in ["https://hub.example", "http://10.0.0.1:8787/", "https://x.example/hub"] {
            assert!(parse_public_url(text).is_some(), "{text}");
        }
        for text in
            ["hub.example", "ftp://x", "https://a:b@x", "https://a@x", "https://x/?y", "https://x/#y", ""]
        {
            assert_eq!(parse_public_url(text), None, "{text}");
        }
    }

    #[test]
    fn proxies_are_addresses_or_networks() {
        assert_eq!(parse_network("10.0.0.1"), "10.0.0.1/32".parse().ok());
        assert_eq!(parse_network("2001:db8::/32"), "2001:db8::/32".parse().ok());
        assert_eq!((parse_network("10.0.0.0/33"), parse_network("x")), (None, None));
    }

    #[test]
    fn the_urls_of_a_hub_lead_to_it() {
        let listen = "0.0.0.0:8787".parse().expect("an address");
        let found = urls(listen, false, None);
        assert!(found.iter().all(|url| !url.contains("0.0.0.0")), "{found:?}");
        assert_eq!(found.last().map(String::as_str), Some("http://127.0.0.1:8787"));
        let public = parse_public_url("https://hub.example/");
        assert_eq!(urls(listen, true, public.as_ref()), ["https://hub.example"]);
        let one = "[2001:db8::1]:1".parse().expect("an address");
        assert_eq!(urls(one, true, None), ["https://[2001:db8::1]:1"]);
    }
}
