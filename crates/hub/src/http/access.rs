//! Who is let in (see [`crate::access`]), and how somebody with an invitation gets a key.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::session::{SignedIn, cookie};
use super::{Answer, App, Shared, page};
use crate::access::secret::{Purpose, Secret};
use crate::access::sessions::Session;
use crate::access::{Arrival, Requester, bearer, key_needed};
use crate::error::Refusal;
use crate::input;
use crate::task::{Actor, By, Rights};
use crate::writer::Change;

/// What is open to whoever asks, key or none; the tunnel has rules of its own.
const OPEN_TO_ALL: [&str; 4] = ["/health", "/health/live", "/p2p/join", protocol::tunnel::PATH];

/// Finds out who asks, for all that comes after; refuses who needs a key and shows none that holds.
pub(super) async fn let_in(State(app): Shared, mut request: Request, next: Next) -> Response {
    match admitted(&app, request.uri().path(), request.headers(), request.extensions()).await {
        Ok((requester, signed_in)) => {
            request.extensions_mut().insert(requester);
            request.extensions_mut().insert(signed_in);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Who asks for what is at a path, and in which session of the page.
async fn admitted(
    app: &App,
    path: &str,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<(Requester, SignedIn), Refusal> {
    let arrival = *extensions.get::<Arrival>().ok_or_else(key_needed)?;
    let claimed = input::actor(headers)?;
    let secret = bearer(headers, Purpose::Key);
    let in_session = match secret.is_none() && page::takes_cookie(path) {
        true => by_cookie(app, arrival, headers, claimed.clone()).await?,
        false => None,
    };
    let (requester, signed_in) = match in_session {
        Some((requester, session)) => (requester, SignedIn(Some(session))),
        None => (admitted_with(app, arrival, secret, claimed).await?, SignedIn(None)),
    };
    if requester.rights.is_none() && !OPEN_TO_ALL.contains(&path) && !page::is_open(path) {
        return Err(key_needed());
    }
    if let Some(key) = requester.key {
        app.guard.used(key, app.readers.now());
    }
    Ok((requester, signed_in))
}

/// Who asks with this key or none. Whose key it is, is known from then on.
async fn admitted_with(
    app: &App,
    arrival: Arrival,
    key: Option<Secret>,
    claimed: Option<Actor>,
) -> Result<Requester, Refusal> {
    let admitted = app.access.admit(arrival, key.clone(), claimed, &app.readers).await;
    match (&admitted, &key) {
        (Ok(Requester { actor: Some(actor), key: Some(_), .. }), Some(key)) => {
            app.known_keys.learn(key, &actor.id);
        }
        (Err(Refusal { status: StatusCode::UNAUTHORIZED, .. }), Some(key)) => app.known_keys.forget(key),
        _ => {}
    }
    admitted
}

/// Who has signed in to the page, if the cookie is that of a session that holds.
async fn by_cookie(
    app: &App,
    arrival: Arrival,
    headers: &HeaderMap,
    claimed: Option<Actor>,
) -> Result<Option<(Requester, Session)>, Refusal> {
    let Some(secret) = cookie(headers, arrival)? else { return Ok(None) };
    let Some(session) = app.sessions.find(&secret, Instant::now()) else { return Ok(None) };
    let requester = app.access.admit_session(arrival, &session, claimed, &app.readers).await?;
    if requester.is_none() {
        app.sessions.end(&secret);
    }
    Ok(requester.map(|requester| (requester, session)))
}

/// Says whom the hub takes the caller for, and by which key if one was shown.
pub(super) async fn me(Extension(requester): Extension<Requester>) -> Json<Value> {
    let Requester { actor, rights, key } = requester;
    let actor = actor.map(|Actor { kind, id, name }| json!({ "type": kind, "id": id, "name": name }));
    Json(json!({ "actor": actor, "admin": rights == Some(Rights::Admin), "key": key }))
}

/// Takes an invitation: answers with a new key for the actor that it is for.
pub(super) async fn join(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
) -> Answer {
    app.access.check_way(arrival, "an invitation")?;
    let invitation = bearer(&headers, Purpose::Invitation).ok_or_else(|| {
        let message = "an invitation is sent as `Authorization: Bearer INVITATION`".to_owned();
        Refusal { status: StatusCode::UNAUTHORIZED, message }
    })?;
    let key = Secret::generate(Purpose::Key).map_err(|error| {
        tracing::error!("no key can be made: {error}");
        Refusal::unavailable("the hub cannot make a key now")
    })?;
    let change = Change::Redeem { invitation, key: key.clone(), address: arrival.client };
    let mut joined = json!(app.writer.change(change, By::hub()).await?);
    tracing::info!("{} took an invitation for {}", arrival.client, joined["actor"]);
    joined["key"] = json!(key.expose());
    Ok(Json(joined))
}

/// Who asks, as [`let_in`] found out.
pub(super) fn requester(extensions: &Extensions) -> Result<Requester, Refusal> {
    extensions.get().cloned().ok_or_else(key_needed)
}
