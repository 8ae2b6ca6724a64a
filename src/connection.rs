//! What a connection to a peer was like, for whoever wonders why it is fast, slow or absent.

use std::net::SocketAddr;
use std::time::Duration;

use hyperdht::connect::Link;
use serde_json::{Map, Value, json};

/// How a connection came about, and how it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `lan`, `direct`, `punched` or `relayed`.
    pub path: &'static str,
    /// The smoothed round-trip time; unknown until something sent was acknowledged.
    pub rtt: Option<Duration>,
    /// How long connecting took: since the dial, or since the peer's first message to us.
    pub connecting: Duration,
    /// Where the peer is, or the relay that passes its bytes on.
    pub remote: SocketAddr,
}

impl Connection {
    /// What there is to say of a connection right now.
    pub(crate) fn of(link: &Link) -> Self {
        Self { path: link.path_name(), rtt: link.rtt(), connecting: link.took(), remote: link.remote_addr() }
    }

    /// The same as JavaScript gets it, times in milliseconds.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("path".into(), json!(self.path));
        if let Some(rtt) = self.rtt {
            fields.insert("rttMs".into(), json!(milliseconds(rtt)));
        }
        fields.insert("connectMs".into(), json!(milliseconds(self.connecting)));
        fields.insert("remoteAddress".into(), json!(self.remote.to_string()));
        fields
    }
}

/// With three digits behind the point: a round trip on one machine takes microseconds.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_milliseconds_and_an_unknown_one_is_not_told() {
        let mut connection = Connection {
            path: "lan",
            rtt: Some(Duration::from_micros(123)),
            connecting: Duration::from_nanos(20_400_600),
            remote: "10.0.0.1:9".parse().unwrap(),
        };
        let whole =
            json!({ "path": "lan", "rttMs": 0.123, "connectMs": 20.401, "remoteAddress": "10.0.0.1:9" });
        assert_eq!(Value::Object(connection.to_json()), whole);
        connection.rtt = None;
        assert!(!connection.to_json().contains_key("rttMs"));
    }
}
