//! How the hub is.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::client::was_forwarded;
use super::hosts::requested_host;
use super::{App, Ends, Shared};
use crate::access::{Arrival, Requester};
use crate::error::Refusal;
use crate::metrics::{Levels, MEDIA_TYPE};
use crate::sql::query;
use crate::time::Millis;
use crate::totals;
use crate::tunnel::TunnelAccess;
use crate::writer::WriterState;

/// How long the database may take to answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Says whether the hub can do its work.
pub(super) async fn health(
    State(app): Shared,
    Extension(ends): Extension<Ends>,
    Extension(requester): Extension<Requester>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    let mut health = well(app.readers.now());
    let host = requested_host(&headers);
    // The private network is named to those who may use it. Where it has no node, as at an IPv6 address, or
    // none that leads there, that is said too: nobody is to look for peers on the public one then, or on a
    // network of the caller's own machine.
    if requester.rights.is_some() {
        let is_reached = !app.nodes.are_at_loopback() || is_here(&app, &arrival, &headers, host.as_deref());
        let mut bootstrap = Vec::new();
        if is_reached {
            bootstrap = app.nodes.bootstrap(app.hosts.public_host(), host.as_deref(), ends.local.ip());
            let others = app.others.nodes().into_iter().filter(|node| !bootstrap.contains(node));
            bootstrap.extend(others.collect::<Vec<_>>());
        }
        health["p2p"] = json!({ "bootstrap": bootstrap, "version": env!("CARGO_PKG_VERSION") });
        if let Some(relay) = app.relay.as_ref().filter(|_| is_reached) {
            health["p2p"]["relay"] = json!(hex::encode(relay.public_key()));
        }
    }
    let may_use_tunnel = match app.tunnel.access() {
        TunnelAccess::Off => false,
        TunnelAccess::Tasks | TunnelAccess::Keys => requester.rights.is_some(),
        TunnelAccess::Open => true,
    };
    if may_use_tunnel {
        name_tunnel(&app, &mut health["p2p"], app.hosts.called(&headers, arrival.is_encrypted));
    }
    match trouble(&app).await {
        None => (StatusCode::OK, Json(health)),
        Some((what, why)) => {
            health["status"] = json!(what);
            health["reason"] = json!(why);
            (StatusCode::SERVICE_UNAVAILABLE, Json(health))
        }
    }
}

/// Whether a caller is on this machine, as far as can be told: behind a proxy in front of the hub it may be
/// on any.
fn is_here(app: &App, arrival: &Arrival, headers: &HeaderMap, host: Option<&str>) -> bool {
    let is_public = app.hosts.is_public() && host == app.hosts.public_host();
    arrival.client.is_loopback() && !is_public && !was_forwarded(headers)
}

/// Names the hub's tunnel, which is where the hub is unless others share its name or its database: then two
/// peers have to agree on one of them. `called` is what the caller calls the hub.
fn name_tunnel(app: &App, p2p: &mut Value, called: Option<String>) {
    let (are_many, mut tunnels) = app.others.tunnels();
    let own = app.hosts.tunnel_url().map(str::to_owned);
    let own = own.or_else(|| called.filter(|_| are_many));
    p2p["tunnel"] = own.clone().map_or(Value::Bool(true), Value::String);
    if are_many {
        tunnels.extend(own);
        p2p["tunnels"] = json!(tunnels);
    }
}

/// What the hub cannot do, and why, if anything.
async fn trouble(app: &App) -> Option<(&'static str, String)> {
    if app.shutdown.is_cancelled() {
        return Some(("unavailable", "the hub is shutting down".into()));
    }
    if let WriterState::Failing { reason } = app.writer.state() {
        return Some(("cannot write", reason));
    }
    let asked = async { query("SELECT 1").fetch_one(&mut app.reader().await?).await.map_err(Refusal::from) };
    let reason = match tokio::time::timeout(DATABASE_TIMEOUT, asked).await {
        Ok(Ok(_)) => return None,
        Ok(Err(_)) => "its database cannot be read",
        Err(_) => "its database does not answer",
    };
    Some(("cannot read", reason.into()))
}

/// Says that the process runs and answers, whatever else is the matter.
pub(super) async fn live(State(app): Shared) -> Json<Value> {
    Json(well(app.readers.now()))
}

fn well(now: Millis) -> Value {
    json!({ "status": "ok", "timestamp": now.to_text() })
}

/// Tells Prometheus what was counted, which is everybody's.
pub(super) async fn metrics(
    State(app): Shared,
    Extension(requester): Extension<Requester>,
) -> Result<impl IntoResponse, Refusal> {
    requester.check_sees_all()?;
    let levels = Levels {
        connections: app.places.taken(),
        watchers: app.sockets.len(),
        waiting: app.writer.waiting(),
        tunnel: app.tunnel.load(),
        tasks: totals::count_by_status(&mut app.reader().await?).await?,
    };
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], app.metrics.to_text(&levels)))
}
