//! How a browser gets in: somebody types a key into the page, and the browser holds the secret of a session
//! from then on.

use std::time::Instant;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use protocol::text;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::super::Shared;
use super::super::request::{Body, whole};
use super::super::session::{SignedIn, cookie, with_cookie};
use crate::access::secret::{Purpose, Secret};
use crate::access::{Arrival, Requester, unauthorized};
use crate::error::Refusal;
use crate::task::View;

/// Says who the browser is for the hub, and whether it needs a key.
pub(super) async fn session(
    Extension(requester): Extension<Requester>,
    Extension(signed_in): Extension<SignedIn>,
) -> Json<Value> {
    let has_rights = requester.rights.is_some();
    Json(json!({
        "needs_key": !has_rights,
        "is_signed_in": signed_in.0.is_some(),
        "actor": requester.actor.as_ref().map(|actor| text::display(&actor.id)),
        "sees_all": has_rights && requester.view() == View::All,
    }))
}

/// Begins a session with the key in a form.
pub(super) async fn sign_in(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = whole(body)?;
    let typed = form_urlencoded::parse(&body).find(|(name, _)| name == "key").map(|(_, value)| value);
    let typed = typed.ok_or_else(|| Refusal::bad_request("the form has no field key"))?;
    let secret = Secret::parse(typed.trim(), Purpose::Key)
        .ok_or_else(|| unauthorized("this is no key of a hub, which begins with atsp2p_key_"))?;
    let key = app.access.key(arrival, &secret, &app.readers).await?;
    app.guard.used(key.id, app.readers.now());
    if let Some(before) = cookie(&headers, arrival)? {
        app.sessions.end(&before);
    }
    let session = app.sessions.begin(&key, Instant::now()).map_err(|error| {
        tracing::error!("no session can be made: {error}");
        Refusal::unavailable("the hub cannot begin a session now")
    })?;
    tracing::info!("{} signed in to the page with key {}, of {:?}", arrival.client, key.id, key.actor);
    Ok(with_cookie(Json(json!({})), arrival, Some(&session)))
}

/// Ends the session.
pub(super) async fn sign_out(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if let Some(secret) = cookie(&headers, arrival)? {
        app.sessions.end(&secret);
    }
    Ok(with_cookie(Json(json!({})), arrival, None))
}
