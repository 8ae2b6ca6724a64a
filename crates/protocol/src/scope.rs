//! The bounds within which an identity stands for an actor: one organization's project on one task service.

use url::{Host, Url};

/// A project of an organization on a task service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    url: String,
    organization: String,
    project: String,
}

impl Scope {
    /// The scope at this address of the service, however it is spelt; see [`canonical_url`].
    pub fn new(url: &str, organization: &str, project: &str) -> Self {
        Self { url: canonical_url(url), organization: organization.to_owned(), project: project.to_owned() }
    }

    /// The service's canonical URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The organization.
    pub fn organization(&self) -> &str {
        &self.organization
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }
}

/// One text for one service, however its address is spelt: scheme and host in lower case, no default port,
/// no slash at the end, `localhost` for every name of the loopback interface; and nothing that is not an
/// address: no credentials, query or fragment. What is no URL stays as it is.
pub fn canonical_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.trim_end_matches('/').to_owned() };
    if url.host().is_some_and(|host| is_loopback(&host)) {
        let _ = url.set_host(Some("localhost"));
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    String::from(url).trim_end_matches('/').to_owned()
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_text_however_it_is_spelt() {
        for (spelt, canonical) in [
            ("https://ATS.Example.com:443/", "https://ats.example.com"),
            ("HTTP://ats.example.com:80", "http://ats.example.com"),
            ("http://ats.example.com:443", "http://ats.example.com:443"),
            ("https://ats.example.com/API//", "https://ats.example.com/API"),
            ("https://me:secret@ats.example.com/?a=b#c", "https://ats.example.com"),
            ("http://127.0.0.1:8787", "http://localhost:8787"),
            ("http://127.1.2.3:8787/", "http://localhost:8787"),
            ("http://[::1]:8787", "http://localhost:8787"),
            ("http://[::ffff:127.0.0.1]:8787", "http://localhost:8787"),
            ("http://LOCALHOST.:8787", "http://localhost:8787"),
            ("http://hub.localhost:8787", "http://localhost:8787"),
            ("http://10.0.0.1:8787", "http://10.0.0.1:8787"),
            ("http://localhost.example.com", "http://localhost.example.com"),
            ("no address/", "no address"),
        ] {
            assert_eq!(canonical_url(spelt), canonical, "{spelt}");
            assert_eq!(canonical_url(canonical), canonical);
        }
    }

    #[test]
    fn organizations_and_projects_are_scopes_of_their_own() {
        let scope = Scope::new("http://[::1]:8787/", "o", "p");
        assert_eq!((scope.url(), scope.organization(), scope.project()), ("http://localhost:8787", "o", "p"));
        assert_eq!(scope, Scope::new("http://127.0.0.1:8787", "o", "p"));
        assert_ne!(scope, Scope::new("http://127.0.0.1:8787", "o", "q"));
        assert_ne!(scope, Scope::new("http://127.0.0.1:8787", "p", "o"));
    }
}
