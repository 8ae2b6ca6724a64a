//! What a hub counts about itself, in the text format that Prometheus reads.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The media type of what [`Metrics::to_text`] gives.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The upper bounds of the classes of times, in seconds: from a read in memory to the longest request.
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

/// The upper bounds of the classes of how many changes were committed together.
const CHANGES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// What a request or a connection was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    /// Places for connections.
    Connections,
    /// Places for WebSockets.
    Sockets,
    /// Requests and bytes a second.
    Rate,
    /// A name that is none of the hub's, or a page of another site.
    Host,
    /// Places for ends of the tunnel.
    Tunnel,
}

impl EncodeLabelValue for Limit {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Connections => "connections",
            Self::Sockets => "websockets",
            Self::Rate => "rate",
            Self::Host => "host",
            Self::Tunnel => "tunnel",
        };
        name.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    /// The path with its variable parts named, so that there are few.
    call: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: Limit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// What is counted about the tunnel as it happens.
#[derive(Debug, Clone, Default)]
pub(crate) struct TunnelCounters {
    bytes: Counter,
    closed: Family<ReasonLabels, Counter>,
}

impl TunnelCounters {
    /// Where it is counted what all pairs have sent.
    pub(crate) fn bytes(&self) -> Counter {
        self.bytes.clone()
    }

    /// Counts an end that was closed.
    pub(crate) fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&ReasonLabels { reason }).inc();
    }
}

/// What is looked up when somebody asks, and not counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    pub(crate) connections: usize,
    pub(crate) watchers: usize,
    /// Changes that wait for the writer.
    pub(crate) waiting: usize,
    /// Ends of the tunnel that have proven their keys, and pairs of them that were joined.
    pub(crate) tunnel: (usize, usize),
    /// How many tasks there are of each status.
    pub(crate) tasks: Vec<(String, i64)>,
}

/// The counters of a hub.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    refused: Family<LimitLabels, Counter>,
    events: Counter,
    left_behind: Counter,
    batches: Histogram,
    connections: Gauge,
    watchers: Gauge,
    waiting: Gauge,
    tunnel: TunnelCounters,
    tunnel_ends: Gauge,
    tunnel_pairs: Gauge,
    tasks: Family<StatusLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ats_hub");
        let requests = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        let seconds = Histogram::new(SECONDS);
        registry.register("request_seconds", "How long requests took", seconds.clone());
        let refused = Family::default();
        registry.register("refused", "What was refused by a limit", refused.clone());
        let events = Counter::default();
        registry.register("events", "Events published", events.clone());
        let left_behind = Counter::default();
        let help = "Subscribers dropped that did not keep up";
        registry.register("left_behind", help, left_behind.clone());
        let batches = Histogram::new(CHANGES);
        registry.register("batch_changes", "How many changes were committed together", batches.clone());
        let connections = Gauge::default();
        registry.register("connections", "Connections open", connections.clone());
        let watchers = Gauge::default();
        registry.register("watchers", "WebSockets open", watchers.clone());
        let waiting = Gauge::default();
        registry.register("waiting_changes", "Changes that wait for the writer", waiting.clone());
        let tunnel = TunnelCounters::default();
        let tunnel_ends = Gauge::default();
        let tunnel_pairs = Gauge::default();
        register_tunnel(&mut registry, &tunnel, &tunnel_ends, &tunnel_pairs);
        let tasks = Family::default();
        registry.register("tasks", "Tasks stored", tasks.clone());
        Self {
            registry,
            requests,
            seconds,
            refused,
            events,
            left_behind,
            batches,
            connections,
            watchers,
            waiting,
            tunnel,
            tunnel_ends,
            tunnel_pairs,
            tasks,
        }
    }
}

fn register_tunnel(registry: &mut Registry, counters: &TunnelCounters, ends: &Gauge, pairs: &Gauge) {
    registry.register("tunnel_bytes", "Bytes that ends of the tunnel sent", counters.bytes.clone());
    registry.register("tunnel_closed", "Ends of the tunnel closed", counters.closed.clone());
    registry.register("tunnel_ends", "Ends of the tunnel that have proven their keys", ends.clone());
    registry.register("tunnel_pairs", "Pairs of ends that were joined", pairs.clone());
}

impl Metrics {
    /// Counts a request that was answered; `call` is its path with the variable parts named.
    pub(crate) fn answered(&self, method: &str, call: &str, status: u16, took: Duration) {
        let labels = RequestLabels { method: method.to_owned(), call: call.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts something that a limit refused.
    pub(crate) fn refused(&self, limit: Limit) {
        self.refused.get_or_create(&LimitLabels { limit }).inc();
    }

    /// The counters of events that were published, and of subscribers that did not keep up.
    pub(crate) fn of_events(&self) -> (Counter, Counter) {
        (self.events.clone(), self.left_behind.clone())
    }

    /// Where it is counted how many changes each commit is of.
    pub(crate) fn of_batches(&self) -> Histogram {
        self.batches.clone()
    }

    /// Where it is counted what the tunnel does.
    pub(crate) fn of_tunnel(&self) -> TunnelCounters {
        self.tunnel.clone()
    }

    /// All of it.
    pub(crate) fn to_text(&self, levels: &Levels) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.connections.set(number(levels.connections));
        self.watchers.set(number(levels.watchers));
        self.waiting.set(number(levels.waiting));
        self.tunnel_ends.set(number(levels.tunnel.0));
        self.tunnel_pairs.set(number(levels.tunnel.1));
        for (status, count) in &levels.tasks {
            self.tasks.get_or_create(&StatusLabels { status: status.clone() }).set(*count);
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a text does not fail.
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told() {
        let metrics = Metrics::default();
        metrics.answered("GET", "/tasks/{id}", 200, Duration::from_millis(3));
        metrics.answered("GET", "/tasks/{id}", 200, Duration::from_millis(3));
        metrics.refused(Limit::Rate);
        metrics.of_batches().observe(3.0);
        let tasks = vec![("pending".to_owned(), 7)];
        let text = metrics.to_text(&Levels { connections: 3, tasks, ..Levels::default() });
        for line in [
            r#"ats_hub_requests_total{method="GET",call="/tasks/{id}",status="200"} 2"#,
            r#"ats_hub_request_seconds_bucket{le="0.002"} 0"#,
            r#"ats_hub_request_seconds_bucket{le="0.005"} 2"#,
            r#"ats_hub_refused_total{limit="rate"} 1"#,
            r#"ats_hub_batch_changes_bucket{le="4.0"} 1"#,
            r#"ats_hub_batch_changes_bucket{le="2.0"} 0"#,
            "ats_hub_connections 3",
            r#"ats_hub_tasks{status="pending"} 7"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
