//! What a service says of itself.

use serde_json::Value;

/// The most bootstrap nodes that are taken from a service's health: more would only slow a start.
const MAX_BOOTSTRAP: usize = 16;
/// The longest address of a bootstrap node: a host name and a port.
const MAX_ADDRESS: usize = 261;

/// The longest address of a tunnel, and the most hubs of one database, that are taken.
const MAX_URL: usize = 512;
const MAX_HUBS: usize = 16;

/// The longest version that is taken, in bytes.
const MAX_VERSION: usize = 64;

/// What the service says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// How it is, in its own words; usually `ok`.
    pub status: Option<String>,
    /// Its version, if it tells that.
    pub version: Option<String>,
    /// What a hub adds; `None` on any other service.
    pub p2p: Option<P2pHealth>,
}

/// The network that a hub keeps beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct P2pHealth {
    /// Nodes of its DHT as `host:port`, whose form is unchecked; `None` if it has none, or names none to this
    /// caller.
    pub bootstrap: Option<Vec<String>>,
    /// The public key of its relay, if it has one.
    pub relay: Option<[u8; 32]>,
    /// Its tunnel, if it has one.
    pub tunnel: Option<TunnelHealth>,
}

/// Where the tunnel of a hub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelHealth {
    /// At the address of the task service itself.
    Here,
    /// At an address of this very hub, since others serve the same tasks.
    At {
        /// Its own; the form is unchecked.
        own: String,
        /// Those of all these hubs.
        all: Vec<String>,
    },
}

impl Health {
    /// Reads the answer of `/health`; `None` if it is no object.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        let status = fields.get("status").and_then(Value::as_str).map(str::to_owned);
        let p2p = fields.get("p2p").filter(|p2p| p2p.is_object());
        // A hub tells it to those who may use it alone, beside its network.
        let version = fields.get("version").or_else(|| p2p?.get("version")).and_then(Value::as_str);
        let version = version.filter(|text| text.len() <= MAX_VERSION).map(str::to_owned);
        Some(Self { status, version, p2p: p2p.map(P2pHealth::from_value) })
    }
}

impl P2pHealth {
    fn from_value(value: &Value) -> Self {
        let nodes = value.get("bootstrap").filter(|nodes| !nodes.is_null());
        let fit = |node: &&str| node.len() <= MAX_ADDRESS && node.bytes().all(|b| b.is_ascii_graphic());
        let mut relay = [0; 32];
        let named = value.get("relay").and_then(Value::as_str);
        let has_relay = named.is_some_and(|text| hex::decode_to_slice(text, &mut relay).is_ok());
        Self {
            bootstrap: nodes.map(|nodes| {
                let nodes = nodes.as_array().into_iter().flatten().filter_map(Value::as_str);
                nodes.filter(fit).take(MAX_BOOTSTRAP).map(str::to_owned).collect()
            }),
            relay: has_relay.then_some(relay),
            tunnel: TunnelHealth::from_value(value),
        }
    }
}

impl TunnelHealth {
    fn from_value(p2p: &Value) -> Option<Self> {
        let fit = |url: &&str| url.len() <= MAX_URL && url.bytes().all(|b| b.is_ascii_graphic());
        match p2p.get("tunnel")? {
            Value::Bool(true) => Some(Self::Here),
            Value::String(own) => {
                let all = p2p.get("tunnels").and_then(Value::as_array).into_iter().flatten();
                let all = all.filter_map(Value::as_str).filter(fit).take(MAX_HUBS).map(str::to_owned);
                Some(Self::At { own: Some(own.as_str()).filter(fit)?.to_owned(), all: all.collect() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_addresses_fit_to_be_parsed_are_taken_from_health() {
        let p2p =
            P2pHealth::from_value(&json!({"bootstrap": ["h:1", 5, "a b:1", "x".repeat(300), "\u{1b}"]}));
        assert_eq!(p2p.bootstrap, Some(vec!["h:1".to_owned()]));
        assert_eq!(P2pHealth::from_value(&json!({"bootstrap": "h:1"})).bootstrap, Some(Vec::new()));
        assert_eq!(P2pHealth::from_value(&json!({"tunnel": true})).bootstrap, None);
    }

    #[test]
    fn a_tunnel_is_here_or_at_an_address_among_others() {
        let tunnel = |p2p: Value| P2pHealth::from_value(&p2p).tunnel;
        assert_eq!(tunnel(json!({})), None);
        assert_eq!(tunnel(json!({"tunnel": false})), None);
        assert_eq!(tunnel(json!({"tunnel": true})), Some(TunnelHealth::Here));
        assert_eq!(tunnel(json!({"tunnel": "a b"})), None);
        let several = json!({"tunnel": "https://a", "tunnels": ["https://a", 5, "https://b", "\u{1b}"]});
        let all = vec!["https://a".to_owned(), "https://b".to_owned()];
        assert_eq!(tunnel(several), Some(TunnelHealth::At { own: "https://a".into(), all }));
    }
}
