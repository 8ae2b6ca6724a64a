//! The client of the task service, against the hub and against servers that misbehave.

#[path = "../crates/hub/tests/hub/certificate.rs"]
mod certificate;
#[path = "ats/connections.rs"]
mod connections;
#[path = "ats/fake.rs"]
mod fake;
#[path = "http/mod.rs"]
mod http;
#[path = "ats/joining.rs"]
mod joining;
#[path = "ats/misbehaviour.rs"]
mod misbehaviour;
#[path = "ats/proxies.rs"]
mod proxies;
#[path = "http/proxy.rs"]
mod proxy;
#[path = "http/socket.rs"]
mod socket;
#[path = "ats/sockets.rs"]
mod sockets;
#[path = "ats/tls.rs"]
mod tls;
#[path = "ats/with_hub.rs"]
mod with_hub;
