//! The embedded task service over real sockets.
#![cfg(feature = "hub")]

#[path = "hub/events.rs"]
mod events;
#[path = "hub/http.rs"]
mod http;
#[path = "hub/life.rs"]
mod life;
#[path = "hub/relay.rs"]
mod relay;
#[path = "hub/support.rs"]
mod support;
