//! What a service says of itself.

use serde_json::Value;

/// The most bootstrap nodes that are taken from a service's health: more would only slow a start.
const MAX_BOOTSTRAP: usize = 16;
/// The longest address of a bootstrap node: a host name and a port.
const MAX_ADDRESS: usize = 261;

/// What the service says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// How it is, in its own words; usually `ok`.
    pub status: Option<String>,
    /// What a hub adds; `None` on any other service.
    pub p2p: Option<P2pHealth>,
}

/// The network that a hub keeps beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct P2pHealth {
    /// Nodes of its DHT as `host:port`; their form is unchecked.
    pub bootstrap: Vec<String>,
    /// The public key of its relay, if it has one.
    pub relay: Option<[u8; 32]>,
}

impl Health {
    /// Reads the answer of `/health`; `None` if it is no object.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        let status = fields.get("status").and_then(Value::as_str).map(str::to_owned);
        let p2p = fields.get("p2p").filter(|p2p| p2p.is_object());
        Some(Self { status, p2p: p2p.map(P2pHealth::from_value) })
    }
}

impl P2pHealth {
    fn from_value(value: &Value) -> Self {
        let nodes = value.get("bootstrap").and_then(Value::as_array);
        let nodes = nodes.into_iter().flatten().filter_map(Value::as_str);
        let fit = |node: &&str| node.len() <= MAX_ADDRESS && node.bytes().all(|b| b.is_ascii_graphic());
        let mut relay = [0; 32];
        let named = value.get("relay").and_then(Value::as_str);
        let has_relay = named.is_some_and(|text| hex::decode_to_slice(text, &mut relay).is_ok());
        Self {
            bootstrap: nodes.filter(fit).take(MAX_BOOTSTRAP).map(str::to_owned).collect(),
            relay: has_relay.then_some(relay),
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
        assert_eq!(p2p.bootstrap, ["h:1"]);
        assert_eq!(P2pHealth::from_value(&json!({"bootstrap": "h:1"})).bootstrap, Vec::<String>::new());
    }
}
