//! Who is let in (see [`crate::access`]), and how somebody with an invitation gets a key.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::{Answer, Shared};
use crate::access::secret::{Purpose, Secret};
use crate::access::{Arrival, Requester, bearer, key_needed};
use crate::error::Refusal;
use crate::input;
use crate::task::By;
use crate::time::Millis;
use crate::writer::Change;

/// What is open to whoever asks, key or none.
const OPEN_TO_ALL: [&str; 3] = ["/health", "/health/live", "/p2p/join"];

/// Finds out who asks, for all that comes after; refuses who needs a key and shows none that holds.
pub(super) async fn let_in(State(app): Shared, mut request: Request, next: Next) -> Response {
    let arrival = request.extensions().get::<Arrival>().copied();
    let secret = bearer(request.headers(), Purpose::Key);
    let claimed = input::actor(request.headers());
    let is_open = OPEN_TO_ALL.contains(&request.uri().path());
    let admitted = async {
        let arrival = arrival.ok_or_else(key_needed)?;
        let requester = app.access.admit(arrival, secret, claimed?, &app.readers).await?;
        if requester.rights.is_none() && !is_open {
            return Err(key_needed());
        }
        if let Some(key) = requester.key {
            app.guard.used(key, Millis::now());
        }
        Ok(requester)
    };
    match admitted.await {
        Ok(requester) => {
            request.extensions_mut().insert(requester);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
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
    let mut joined = app.writer.change(change, By::hub()).await?;
    tracing::info!("{} took an invitation for {}", arrival.client, joined["actor"]);
    joined["key"] = json!(key.expose());
    Ok(Json(joined))
}

/// Who asks, as [`let_in`] found out.
pub(super) fn requester(extensions: &axum::http::Extensions) -> Result<Requester, Refusal> {
    extensions.get().cloned().ok_or_else(key_needed)
}
