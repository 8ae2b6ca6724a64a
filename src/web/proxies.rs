//! Which proxy an address is reached by.

use hyper::Uri;
use hyper::http::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::settings::{NamedProxy, WebSettings};
use super::{WebError, is_loopback};

/// The proxies that the environment names.
#[derive(Debug)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Tells what is reached without one.
    exceptions: Matcher,
}

/// A proxy, and who named it.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The variable that named it.
    pub(crate) variable: &'static str,
    url: Url,
    /// What it is asked with: name and password for CONNECT.
    pub(super) authorization: Option<HeaderValue>,
    /// The same for SOCKS.
    pub(super) user: Option<(String, String)>,
}

impl Proxies {
    pub(super) fn new(settings: &WebSettings) -> Result<Self, WebError> {
        let [http, https, all] = &settings.proxies;
        let proxy = |named: &Option<NamedProxy>| named.as_ref().or(all.as_ref()).map(Proxy::new).transpose();
        // Whatever the proxy, only its exceptions are asked for.
        let exceptions = Matcher::builder().all("http://proxy").no(settings.no_proxy.clone()).build();
        Ok(Self { http: proxy(http)?, https: proxy(https)?, exceptions })
    }

    /// Whether there is any.
    pub(super) fn are_named(&self) -> bool {
        self.http.is_some() || self.https.is_some()
    }

    /// The proxy for an address of HTTP; those on this machine have none.
    pub(super) fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        let uri = url.as_str().parse::<Uri>().ok()?;
        proxy.as_ref().filter(|_| !is_loopback(url) && self.exceptions.intercept(&uri).is_some())
    }
}

impl Proxy {
    fn new(named: &NamedProxy) -> Result<Self, WebError> {
        let NamedProxy { variable, value } = named;
        let wrong = |why: &str| WebError::Settings(format!("{variable} names no proxy: {why}"));
        let text = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h") {
            return Err(wrong("it must begin with http://, https://, socks5:// or socks4://"));
        }
        if !url.has_host() {
            return Err(wrong("it has no host"));
        }
        let anywhere = Uri::from_static("https://example.org");
        let intercept = Matcher::builder().all(text).build().intercept(&anywhere);
        let intercept = intercept.ok_or_else(|| wrong("it is no address"))?;
        let user = intercept.raw_auth().map(|(user, password)| (user.to_owned(), password.to_owned()));
        Ok(Self { variable, authorization: intercept.basic_auth().cloned(), user, url })
    }

    /// Its address, without name and password.
    pub(crate) fn shown(&self) -> String {
        let mut url = self.url.clone();
        let _ = (url.set_username(""), url.set_password(None));
        String::from(url).trim_end_matches('/').to_owned()
    }

    /// `http`, `https`, `socks5` and so on.
    pub(super) fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Whether it is itself spoken to through TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.scheme() == "https"
    }

    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    pub(super) fn port(&self) -> u16 {
        let usual = if self.scheme().starts_with("socks") { 1080 } else { 80 };
        self.url.port_or_known_default().unwrap_or(usual)
    }

    pub(super) fn to_reqwest(&self) -> Result<reqwest::Proxy, WebError> {
        let wrong = |error: reqwest::Error| {
            WebError::Settings(format!("{} names no proxy: {}", self.variable, error.without_url()))
        };
        reqwest::Proxy::all(self.url.clone()).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Result<Proxies, WebError> {
        let vars: HashMap<_, _> =
            vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Proxies::new(&WebSettings::new(&vars, None))
    }

    fn of(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).unwrap()).map(Proxy::shown)
    }

    #[test]
    fn each_scheme_has_its_own_and_all_stands_in() {
        let both = proxies(&[("HTTPS_PROXY", "http://s:1"), ("ALL_PROXY", "socks5://a:2")]).unwrap();
        assert_eq!(of(&both, "https://hub.example").as_deref(), Some("http://s:1"));
        assert_eq!(of(&both, "http://hub.example").as_deref(), Some("socks5://a:2"));
        let none = proxies(&[("HTTP_PROXY", "plain:3128")]).unwrap();
        assert_eq!(of(&none, "https://hub.example"), None);
        assert_eq!(of(&none, "http://hub.example").as_deref(), Some("http://plain:3128"));
    }

    #[test]
    fn what_is_excepted_and_this_machine_have_none() {
        let some = proxies(&[
            ("HTTPS_PROXY", "proxy:1"),
            ("HTTP_PROXY", "proxy:1"),
            ("NO_PROXY", "near.example, 10.0.0.0/8"),
        ])
        .unwrap();
        for url in [
            "https://near.example",
            "https://very.near.example",
            "http://10.1.2.3:8787",
            "http://localhost:8787",
            "http://[::1]:1",
            "http://127.0.0.1",
        ] {
            assert_eq!(of(&some, url), None, "{url}");
        }
        for url in ["https://farnear.example", "http://11.1.2.3:8787", "http://[2001:db8::1]:1"] {
            assert!(of(&some, url).is_some(), "{url}");
        }
        let nothing = proxies(&[("HTTPS_PROXY", "proxy:1"), ("NO_PROXY", "*")]).unwrap();
        assert_eq!(of(&nothing, "https://hub.example"), None);
    }

    #[test]
    fn a_name_and_a_password_are_used_and_not_shown() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://me:hu%40sh@proxy:3128/")]).unwrap();
        let proxy = proxies.https.as_ref().unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic bWU6aHVAc2g=");
        assert_eq!(proxy.shown(), "http://proxy:3128");
        assert_eq!((proxy.host(), proxy.port()), ("proxy", 3128));
        assert!(!format!("{:?}", proxy.authorization).contains("bWU6"), "it is sensitive");
    }

    #[test]
    fn the_usual_ports() {
        for (value, port) in [("http://p", 80), ("https://p", 443), ("socks5h://p", 1080), ("p:8", 8)] {
            let proxies = proxies(&[("ALL_PROXY", value)]).unwrap();
            assert_eq!(proxies.http.as_ref().unwrap().port(), port, "{value}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_said_with_its_variable_and_without_its_password() {
        for value in ["ftp://me:hush@proxy", "http://", "http://me:hush@:1", "socks5://me:hush@"] {
            let error = proxies(&[("ALL_PROXY", value)]).expect_err("no proxy").to_string();
            assert!(error.contains("ALL_PROXY") && !error.contains("hush"), "{error}");
        }
    }
}
