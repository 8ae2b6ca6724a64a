//! Where the tunnel is.

use std::fmt;

use protocol::tunnel::{PATH, canonical_host};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use url::Url;

use crate::ats::{P2pHealth, SHOWN, Secret, Settings, TunnelHealth, printable_without};
use crate::error::{Code, Error, Result};
use crate::web::{Web, is_loopback};

/// Which tunnel a node uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TunnelChoice {
    /// That of the task service, if it has one.
    #[default]
    Service,
    /// The one at this address, of another hub.
    At(String),
    /// None.
    Nowhere,
}

/// The tunnels that a node may use.
#[derive(Clone, Debug)]
pub(crate) struct Tunnels {
    /// Where this node is to be met, and whether offers have to name that.
    own: Option<(Tunnel, bool)>,
    /// The others, where senders may want to be met: those of hubs with the same tasks.
    others: Vec<Tunnel>,
}

/// A tunnel.
#[derive(Clone)]
pub(crate) struct Tunnel {
    /// The address of the hub.
    url: Url,
    /// As it is signed for.
    host: String,
    /// What is shown of the address, and stands in offers.
    shown: String,
    /// What the hub asks for.
    key: Option<Secret>,
    web: Web,
}

impl TunnelChoice {
    /// Reads the address of another hub's tunnel.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is none.
    pub fn at(address: &str) -> Result<Self> {
        match address_of(address) {
            Some(_) => Ok(Self::At(address.to_owned())),
            None => Err(Error::new(
                Code::InvalidArgument,
                format!(
                    "{} is no address of a tunnel: it must begin with wss:// or https://, or ws:// or \
                     http://, and hold neither a name nor a password (tunnel, --tunnel, ATS_P2P_TUNNEL)",
                    crate::files::display(address)
                ),
            )),
        }
    }
}

impl Tunnels {
    /// Those that the choice leaves, where the task service says `health` of itself.
    pub(crate) fn new(
        choice: &TunnelChoice,
        settings: &Settings,
        web: &Web,
        health: Option<&P2pHealth>,
    ) -> Self {
        let key = settings.api_key.as_ref();
        let at = |address: &str, key: Option<&Secret>| {
            Tunnel::new(address, key.filter(|_| may_have_key(address, settings.insecure)), web)
        };
        let none = Self { own: None, others: Vec::new() };
        match (choice, health.and_then(|health| health.tunnel.as_ref())) {
            (TunnelChoice::Nowhere, _) | (TunnelChoice::Service, None) => none,
            (TunnelChoice::At(address), _) => Self { own: at(address, None).map(|own| (own, true)), ..none },
            (TunnelChoice::Service, Some(TunnelHealth::Here)) => {
                Self { own: at(&settings.url, key).map(|own| (own, false)), ..none }
            }
            (TunnelChoice::Service, Some(TunnelHealth::At { own, all })) => Self {
                own: at(own, key).map(|own| (own, true)),
                others: all.iter().filter_map(|address| at(address, key)).collect(),
            },
        }
    }

    /// Where this node is to be met, if anywhere; and what offers have to say of it.
    pub(crate) fn own(&self) -> Option<&Tunnel> {
        self.own.as_ref().map(|(tunnel, _)| tunnel)
    }

    /// What this node's `p2p` objects say of where it is to be met; nothing where that is the task service.
    pub(crate) fn named(&self) -> Option<String> {
        self.own.as_ref().filter(|(_, is_named)| *is_named).map(|(tunnel, _)| tunnel.shown.clone())
    }

    /// The tunnel where a peer wants to be met that names this one: this node's own, that of its task
    /// service, or one that its task service vouches for. Nobody is sent elsewhere by what stands in a task.
    pub(crate) fn of_peer(&self, named: Option<&str>) -> Option<&Tunnel> {
        let own = self.own()?;
        let Some(named) = named else { return Some(own) };
        let host = canonical_host(named)?;
        std::iter::once(own).chain(&self.others).find(|tunnel| tunnel.host == host)
    }
}

impl Tunnel {
    fn new(address: &str, key: Option<&Secret>, web: &Web) -> Option<Self> {
        let url = address_of(address)?;
        let shown = String::from(url.clone()).trim_end_matches('/').to_owned();
        Some(Self { host: canonical_host(address)?, url, shown, key: key.cloned(), web: web.clone() })
    }

    /// Its address, fit to be shown.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn web(&self) -> &Web {
        &self.web
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let bearer = self.key.as_ref().and_then(Secret::bearer);
        bearer.into_iter().map(|bearer| (AUTHORIZATION, bearer)).collect()
    }

    /// What the hub says, as errors show it.
    pub(super) fn printable(&self, text: &str) -> String {
        printable_without(self.key.as_ref(), text, SHOWN)
    }

    /// What is opened there, by one who has `key` and waits for `peer`.
    pub(super) fn address(&self, key: &[u8; 32], peer: &[u8; 32]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(PATH.split('/').filter(|segment| !segment.is_empty()));
        }
        url.query_pairs_mut().append_pair("key", &hex::encode(key)).append_pair("peer", &hex::encode(peer));
        url
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("at", &self.shown).finish_non_exhaustive()
    }
}

/// The address of a hub, as HTTP has it; whether it was named with or without the tunnel's path.
fn address_of(address: &str) -> Option<Url> {
    let (scheme, rest) = address.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "ws" | "http" => "http",
        "wss" | "https" => "https",
        _ => return None,
    };
    let mut url = Url::parse(&format!("{scheme}://{rest}")).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if !url.has_host() || !is_plain || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    if let Some(base) = url.path().trim_end_matches('/').strip_suffix(PATH).map(str::to_owned) {
        url.set_path(&base);
    }
    Some(url)
}

/// Whether a key may be sent to an address: where others can read it on its way only if that is allowed.
fn may_have_key(address: &str, insecure: bool) -> bool {
    address_of(address).is_some_and(|url| insecure || url.scheme() == "https" || is_loopback(&url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ats::{Environment, Overrides};
    use crate::web::WebSettings;

    fn tunnels(choice: &TunnelChoice, tunnel: Option<TunnelHealth>) -> Tunnels {
        let overrides = Overrides {
            url: Some("http://127.0.0.1:8787".into()),
            api_key: Some(Secret::new("hush")),
            ..Overrides::default()
        };
        let (settings, _) = Settings::load(overrides, &Environment::default());
        let web = Web::new(&WebSettings::default()).unwrap();
        let health = P2pHealth { tunnel, ..P2pHealth::default() };
        Tunnels::new(choice, &settings, &web, Some(&health))
    }

    fn shown(tunnel: Option<&Tunnel>) -> Option<&str> {
        tunnel.map(Tunnel::shown)
    }

    fn several() -> TunnelHealth {
        let all = ["https://one.example", "https://two.example"].map(str::to_owned);
        TunnelHealth::At { own: all[0].clone(), all: all.into() }
    }

    #[test]
    fn the_task_services_own_is_used_unless_the_owner_says_otherwise() {
        let here = || Some(TunnelHealth::Here);
        let service = tunnels(&TunnelChoice::Service, here());
        assert_eq!((shown(service.own()), service.named()), (Some("http://127.0.0.1:8787"), None));
        assert_eq!(service.own().unwrap().headers()["authorization"], "Bearer hush");
        assert_eq!(service.own().unwrap().printable("not hush"), "not (secret)");
        assert!(tunnels(&TunnelChoice::Service, None).own().is_none());
        assert!(tunnels(&TunnelChoice::Nowhere, here()).own().is_none());
        let other = tunnels(&TunnelChoice::at("wss://other.example/p2p/tunnel").unwrap(), here());
        assert_eq!(shown(other.own()), Some("https://other.example"));
        assert_eq!(other.named().as_deref(), Some("https://other.example"));
        assert!(other.own().unwrap().headers().is_empty(), "the key is the task service's");
    }

    #[test]
    fn of_several_hubs_each_names_its_own_and_goes_to_the_others() {
        let tunnels = tunnels(&TunnelChoice::Service, Some(several()));
        assert_eq!(tunnels.named().as_deref(), Some("https://one.example"));
        let of_peer = |named| shown(tunnels.of_peer(named));
        assert_eq!(of_peer(None), Some("https://one.example"));
        assert_eq!(of_peer(Some("wss://TWO.example:443")), Some("https://two.example"));
        assert_eq!(of_peer(Some("https://three.example")), None);
    }

    #[test]
    fn what_a_task_names_leads_nowhere_else() {
        let service = tunnels(&TunnelChoice::Service, Some(TunnelHealth::Here));
        let of_peer = |named| shown(service.of_peer(named));
        assert_eq!(of_peer(Some("http://localhost:8787")), Some("http://127.0.0.1:8787"));
        for named in ["http://10.0.0.1:8787", "https://evil.example", "file:///etc/passwd", "nonsense"] {
            assert_eq!(of_peer(Some(named)), None, "{named}");
        }
        assert!(tunnels(&TunnelChoice::Nowhere, None).of_peer(None).is_none());
    }

    #[test]
    fn an_address_has_neither_names_nor_questions() {
        for wrong in ["hub.example", "ftp://h", "wss://", "wss://me:hush@h", "wss://h/?a", "wss://h/#a"] {
            let error = TunnelChoice::at(wrong).expect_err(wrong);
            assert_eq!(error.code, Code::InvalidArgument);
        }
        let at = |address: &str| address_of(address).map(String::from);
        assert_eq!(at("wss://h/p2p/tunnel").as_deref(), Some("https://h/"));
        assert_eq!(at("https://h/base/").as_deref(), Some("https://h/base/"));
        let tunnel = Tunnel::new("ws://h:1/base", None, &Web::new(&WebSettings::default()).unwrap()).unwrap();
        let url = tunnel.address(&[0xab; 32], &[1; 32]);
        assert_eq!(url.path(), "/base/p2p/tunnel");
        assert_eq!(url.query(), Some(&*format!("key={}&peer={}", "ab".repeat(32), "01".repeat(32))));
    }

    #[test]
    fn a_key_is_not_sent_where_others_read_it() {
        assert!(may_have_key("https://h", false) && may_have_key("http://127.0.0.1:1", false));
        assert!(!may_have_key("http://h", false) && may_have_key("http://h", true));
    }
}
