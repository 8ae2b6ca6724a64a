//! Keeps web pages out. A hub asks nobody for a key, so any page that is open in a browser on the same
//! machine or network could send requests to it. Browsers say which page a request comes from; agents use no
//! browser.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;

use crate::error::Refusal;

/// Refuses a request that comes from a page of another site, and on the loopback address one for a host name
/// other than `localhost`: somebody may have made their own name resolve to this machine.
pub(crate) fn check(headers: &HeaderMap, is_loopback: bool) -> Result<(), Refusal> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        if origin.is_none() || origin != host {
            return Err(Refusal::forbidden("the hub does not serve the web pages of others"));
        }
    }
    if is_loopback && !host.is_none_or(names_this_machine) {
        return Err(Refusal::forbidden(
            "the hub serves this machine alone: call it localhost or by its address",
        ));
    }
    Ok(())
}

/// The host that a caller named, without its port.
pub(crate) fn host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let authority: Authority = host.parse().ok()?;
    Some(authority.host().trim_start_matches('[').trim_end_matches(']').to_owned())
}

fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header value"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn agents_are_served() {
        for host in ["127.0.0.1:8787", "localhost:8787", "LOCALHOST", "[::1]:8787"] {
            assert_eq!(check(&headers(host, None), true), Ok(()), "{host}");
        }
        assert_eq!(check(&headers("hub.example:8787", None), false), Ok(()));
        assert_eq!(check(&HeaderMap::new(), true), Ok(()));
    }

    #[test]
    fn pages_of_others_are_not() {
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
            assert!(check(&headers("127.0.0.1:8787", Some(origin)), true).is_err(), "{origin}");
        }
        assert_eq!(check(&headers("127.0.0.1:8787", Some("http://127.0.0.1:8787")), true), Ok(()));
    }

    #[test]
    fn a_name_that_was_rebound_to_this_machine_is_not() {
        let rebound = headers("evil.example:8787", Some("http://evil.example:8787"));
        assert!(check(&rebound, true).is_err());
        assert!(check(&headers("evil.example:8787", None), true).is_err());
    }

    #[test]
    fn the_host_is_told_without_its_port() {
        assert_eq!(host(&headers("hub.example:8787", None)).as_deref(), Some("hub.example"));
        assert_eq!(host(&headers("10.0.0.1", None)).as_deref(), Some("10.0.0.1"));
        assert_eq!(host(&headers("[::1]:1", None)).as_deref(), Some("::1"));
        assert_eq!(host(&headers("a b", None)), None);
    }
}
