//! How this machine reaches servers of the web: by which proxy, and whose certificates it trusts. One set of
//! settings for every request, the stream of events and the tunnel.
//!
//! # Layout
//! - [`settings`](WebSettings): what the environment says of proxies and certificates.
//! - `proxies`: which proxy an address is reached by.
//! - `roots`: the authorities that are trusted.
//! - [`certificate`](Certificate): whose certificate a server shows.
//! - `dial`: a connection to an address, through proxy and TLS; and one that is to become a WebSocket.
//! - [`error`](WebError): what can be in the way, in words that help.

mod certificate;
mod dial;
pub(crate) mod error;
mod proxies;
mod roots;
mod settings;

use std::sync::{Arc, OnceLock};

use reqwest::Response;
use url::Url;

pub(crate) use certificate::Certificate;
pub(crate) use dial::{CONNECT_TIMEOUT, Reached, WebSocketAnswer};
pub(crate) use error::WebError;
pub(crate) use proxies::Proxy;
pub use settings::WebSettings;

use proxies::Proxies;

/// The way to servers of the web. Clones share what was read once.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: WebSettings,
    proxies: Proxies,
    /// Read when the first address needs it: without TLS no certificates are needed, and there may be none
    /// on this machine.
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, WebError>>,
}

impl Web {
    /// Nothing is read yet but the proxies.
    ///
    /// # Errors
    /// [`WebError::Settings`] if a proxy is named that is none.
    pub(crate) fn new(settings: &WebSettings) -> Result<Self, WebError> {
        let proxies = Proxies::new(settings)?;
        let shared = Shared { settings: settings.clone(), proxies, tls: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A builder of HTTP clients that go this way to servers at `base`.
    ///
    /// # Errors
    /// [`WebError::Settings`] if that needs TLS, and the authorities that are trusted can't be read.
    pub(crate) fn client_builder(&self, base: &Url) -> Result<reqwest::ClientBuilder, WebError> {
        let proxy = self.proxy(base);
        let needs_tls = base.scheme() == "https" || proxy.is_some_and(Proxy::is_tls);
        let tls = if needs_tls { self.tls_config()? } else { Arc::new(roots::none()?) };
        let builder = reqwest::Client::builder().tls_backend_preconfigured(Arc::unwrap_or_clone(tls));
        let builder = builder.no_proxy();
        Ok(match proxy {
            Some(proxy) => builder.proxy(proxy.to_reqwest()?),
            None => builder,
        })
    }

    /// The proxy that an address is reached by.
    pub(crate) fn proxy(&self, url: &Url) -> Option<&Proxy> {
        self.shared.proxies.of(url)
    }

    /// Whether any address is reached by a proxy.
    pub(crate) fn has_proxies(&self) -> bool {
        self.shared.proxies.are_named()
    }

    fn tls_config(&self) -> Result<Arc<rustls::ClientConfig>, WebError> {
        self.shared.tls.get_or_init(|| roots::trusted(&self.shared.settings).map(Arc::new)).clone()
    }
}

/// Whether an address is on this machine: no proxy stands before it.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// The first bytes of a body, `limit` at most; what came before it broke off, if it did.
pub(crate) async fn beginning(mut answer: Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = limit - body.len();
        body.extend(chunk.iter().take(room));
        if chunk.len() >= room {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_by_its_names() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://127.8.0.1", true),
            ("http://[::1]:2", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect("a URL")), expected, "{url}");
        }
    }
}
