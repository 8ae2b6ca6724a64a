//! Keeps web pages out. Where a hub asks nobody for a key, any page that is open in a browser on the same
//! machine or network could send requests to it: under its own name, which it may have resolve to the hub's
//! address, or from another site. Browsers say which name they call and which page a request comes from.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use protocol::tunnel::canonical_host;
use url::Url;

use crate::error::Refusal;

/// The most characters of a name that a refusal repeats.
const MAX_SHOWN: usize = 100;

/// The names that a hub goes by. Addresses need not stand here: no other site can be at one.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// In lower case.
    names: Vec<String>,
    /// What the hub is called elsewhere.
    public: Option<PublicName>,
    /// The address of its tunnel, where that is another one.
    tunnel: Option<String>,
}

#[derive(Debug)]
struct PublicName {
    url: String,
    host: String,
    /// As browsers name it, like `https://hub.example`.
    origin: String,
}

impl Hosts {
    /// The hub's public name, and others that it goes by.
    pub(crate) fn new(public_url: Option<&Url>, others: &[String]) -> Self {
        let public = public_url.and_then(|url| {
            let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_lowercase();
            Some(PublicName { url: address(url), host, origin: url.origin().ascii_serialization() })
        });
        let mut names: Vec<String> = others.iter().map(|name| canonical(name)).collect();
        names.extend(public.as_ref().map(|public| canonical(&public.host)));
        Self { names, public, tunnel: None }
    }

    /// Adds the address of its tunnel, where that has one of its own.
    pub(crate) fn with_tunnel(mut self, url: Option<&Url>) -> Self {
        self.names.extend(url.and_then(Url::host_str).map(canonical));
        self.tunnel = url.map(address);
        self
    }

    /// Adds the name of this machine, its short form and the one by which its own network finds it.
    pub(crate) fn with_machine(mut self, name: &str) -> Self {
        let name = canonical(name);
        let short = name.split('.').next().unwrap_or_default().to_owned();
        if !short.is_empty() {
            self.names.extend([format!("{short}.local"), short, name]);
        }
        self
    }

    /// Where its tunnel is, where that has an address of its own.
    pub(crate) fn tunnel_url(&self) -> Option<&str> {
        self.tunnel.as_deref()
    }

    /// What the hub is called by who sends a request: by its public URL, or else as the request does.
    pub(crate) fn called(&self, headers: &HeaderMap, is_encrypted: bool) -> Option<String> {
        let public = self.public.as_ref().map(|public| public.url.clone());
        public.or_else(|| named_url(headers, is_encrypted))
    }

    /// The hosts by which a client may name the hub in what it signs: as its request does, or one of its own
    /// addresses.
    pub(crate) fn signed(&self, headers: &HeaderMap, is_encrypted: bool) -> Vec<String> {
        let named = named_url(headers, is_encrypted);
        let own = self.public.as_ref().map(|public| &public.url).into_iter().chain(&self.tunnel);
        let mut hosts: Vec<String> = named.iter().chain(own).filter_map(|url| canonical_host(url)).collect();
        hosts.dedup();
        hosts
    }

    /// The host of the public URL.
    pub(crate) fn public_host(&self) -> Option<&str> {
        self.public.as_ref().map(|public| public.host.as_str())
    }

    /// Whether the hub is meant for other machines.
    pub(crate) fn is_public(&self) -> bool {
        self.public_host().is_some_and(|host| match host.parse::<IpAddr>() {
            Ok(address) => !address.to_canonical().is_loopback(),
            Err(_) => !is_localhost(host),
        })
    }

    /// Refuses a request for a name that is none of the hub's: somebody may have made their own name resolve
    /// to this machine. Refuses one that comes from a page of another site, too.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().map(|host| host.to_str().unwrap_or_default());
        if hosts.next().is_some() {
            return Err(Refusal::bad_request("the header Host stands there twice"));
        }
        for named in host.into_iter().chain(uri.authority().map(Authority::as_str)) {
            self.check_host(named)?;
        }
        self.check_page(host, headers)
    }

    fn check_host(&self, named: &str) -> Result<(), Refusal> {
        let Some(name) = host_of(named) else {
            return Err(Refusal::bad_request("the header Host names no host"));
        };
        if name.parse::<IpAddr>().is_ok() || is_localhost(&name) || self.names.contains(&name) {
            return Ok(());
        }
        let name: String = name.chars().take(MAX_SHOWN).collect();
        let message = format!(
            "this hub does not go by the name {name}: call it by its address, or start it with \
             --public-url http://{named} or --allow-host {name}",
            named = named.chars().take(MAX_SHOWN).collect::<String>()
        );
        Err(Refusal { status: StatusCode::MISDIRECTED_REQUEST, message })
    }

    fn check_page(&self, host: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
        let refused = || Err(Refusal::forbidden("the hub does not serve the web pages of others"));
        let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
        // A page may make a browser fetch something without an Origin; following a link is no harm.
        if is("sec-fetch-site", "cross-site") && !is("sec-fetch-mode", "navigate") {
            return refused();
        }
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let Ok(origin) = origin.to_str() else { return refused() };
        if self.public.as_ref().is_some_and(|public| public.origin == origin) {
            return Ok(());
        }
        match (origin.split_once("://"), host) {
            (Some((scheme, page)), Some(host)) if bare(scheme, page) == bare(scheme, host) => Ok(()),
            _ => refused(),
        }
    }
}

/// The host that a request is for, without its port, in lower case; `None` where it names none.
pub(crate) fn requested_host(headers: &HeaderMap) -> Option<String> {
    host_of(headers.get(HOST)?.to_str().ok()?)
}

/// The address that a request names.
fn named_url(headers: &HeaderMap, is_encrypted: bool) -> Option<String> {
    let scheme = if is_encrypted { "https" } else { "http" };
    Some(format!("{scheme}://{}", headers.get(HOST)?.to_str().ok()?))
}

/// An address as others append a path to it.
fn address(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn host_of(named: &str) -> Option<String> {
    let authority: Authority = named.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let host = canonical(authority.host().trim_start_matches('[').trim_end_matches(']'));
    (!host.is_empty()).then_some(host)
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Browsers resolve these names to the loopback address whatever a name server says.
fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// A host and port without the port that goes without saying.
fn bare(scheme: &str, host: &str) -> String {
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &Hosts, host: &str, origin: Option<&str>) -> Result<(), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header value"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a header value"));
        }
        hosts.check(&Uri::from_static("/tasks"), &headers).map_err(|refusal| refusal.status.as_u16())
    }

    fn plain() -> Hosts {
        Hosts::new(None, &[])
    }

    fn public(url: &str) -> Hosts {
        Hosts::new(Some(&url.parse().expect("a URL")), &["Other.example".into()]).with_machine("Build7.lan")
    }

    #[test]
    fn agents_are_served() {
        for host in ["127.0.0.1:8787", "localhost:8787", "LOCALHOST", "[::1]:8787", "10.1.2.3", "a.localhost"]
        {
            assert_eq!(check(&plain(), host, None), Ok(()), "{host}");
        }
        let hosts = public("https://hub.example/x");
        for host in [
            "hub.example",
            "Hub.Example.:443",
            "other.example:1",
            "build7:8787",
            "build7.lan",
            "build7.local",
        ] {
            assert_eq!(check(&hosts, host, None), Ok(()), "{host}");
        }
        assert_eq!(plain().check(&Uri::from_static("/tasks"), &HeaderMap::new()), Ok(()));
    }

    #[test]
    fn pages_of_others_are_not() {
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "://", "http://127.0.0.1:87870"] {
            assert_eq!(check(&plain(), "127.0.0.1:8787", Some(origin)), Err(403), "{origin}");
        }
        assert_eq!(check(&plain(), "127.0.0.1:8787", Some("http://127.0.0.1:8787")), Ok(()));
        assert_eq!(check(&plain(), "127.0.0.1:80", Some("http://127.0.0.1")), Ok(()));
        // A proxy may name the hub by the address that it calls.
        let hosts = public("https://hub.example");
        assert_eq!(check(&hosts, "127.0.0.1:8787", Some("https://hub.example")), Ok(()));
        assert_eq!(check(&hosts, "127.0.0.1:8787", Some("http://hub.example")), Err(403));
    }

    #[test]
    fn what_a_page_of_another_site_makes_a_browser_fetch_is_refused() {
        let fetch = |site: &'static str, mode: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "127.0.0.1:8787".parse().expect("a header value"));
            headers.insert("sec-fetch-site", site.parse().expect("a header value"));
            headers.insert("sec-fetch-mode", mode.parse().expect("a header value"));
            plain().check(&Uri::from_static("/"), &headers).is_ok()
        };
        assert!(!fetch("cross-site", "no-cors"));
        assert!(fetch("cross-site", "navigate") && fetch("same-origin", "cors") && fetch("none", "navigate"));
    }

    #[test]
    fn a_name_that_was_rebound_to_this_machine_is_not() {
        for hosts in [plain(), public("https://hub.example")] {
            for host in [
                "evil.example:8787",
                "hub.example.evil.example",
                "build7.evil.example",
                "localhost.evil.example",
            ] {
                assert_eq!(check(&hosts, host, None), Err(421), "{host}");
                let page = format!("http://{host}");
                assert_eq!(check(&hosts, host, Some(&page)), Err(421), "{host}");
            }
            for host in ["", "a b", "localhost@evil.example", "a/b"] {
                assert_eq!(check(&hosts, host, None), Err(400), "{host}");
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost".parse().expect("a header value"));
        let rebound = plain().check(&Uri::from_static("http://evil.example/tasks"), &headers);
        assert_eq!(rebound.expect_err("refused").status, StatusCode::MISDIRECTED_REQUEST);
        headers.append(HOST, "evil.example".parse().expect("a header value"));
        assert!(plain().check(&Uri::from_static("/tasks"), &headers).is_err());
    }

    #[test]
    fn the_host_is_told_without_its_port() {
        let host = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, text.parse().expect("a header value"));
            requested_host(&headers)
        };
        assert_eq!(host("hub.example:8787").as_deref(), Some("hub.example"));
        assert_eq!(host("10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(host("[::1]:1").as_deref(), Some("::1"));
        assert_eq!(host("a b"), None);
    }
}
