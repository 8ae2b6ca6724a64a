//! How the hub is.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::hosts::requested_host;
use super::{Ends, Shared};
use crate::time::Millis;
use crate::writer::WriterState;

pub(super) async fn health(
    State(app): Shared,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    let mut health = json!({ "status": "ok", "timestamp": Millis::now().to_text() });
    let mut status = StatusCode::OK;
    if let WriterState::Failing { reason } = app.writer.state() {
        status = StatusCode::SERVICE_UNAVAILABLE;
        health["status"] = json!("cannot write");
        health["reason"] = json!(reason);
    }
    let bootstrap =
        app.nodes.bootstrap(app.hosts.public_host(), requested_host(&headers).as_deref(), ends.local.ip());
    if !bootstrap.is_empty() {
        health["p2p"] = json!({ "bootstrap": bootstrap });
        if let Some(relay) = &app.relay {
            health["p2p"]["relay"] = json!(hex::encode(relay.public_key()));
        }
    }
    (status, Json(health))
}
