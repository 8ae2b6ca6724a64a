//! How somebody comes to the [`tunnel`](crate::tunnel).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use secret_stream::PublicKey;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use url::form_urlencoded;

use super::connections::{Network, NoPlace, Payer, Place};
use super::server::stream_of;
use super::{App, ClientAddress, Reach, Shared};
use crate::access::{Arrival, Requester, key_needed};
use crate::error::Refusal;
use crate::metrics::Limit;
use crate::tunnel::{Name, TunnelAccess, Visitor};

/// Makes a connection an end of the tunnel.
pub(super) async fn tunnel(
    State(app): Shared,
    Extension(ClientAddress(client)): Extension<ClientAddress>,
    Extension(reach): Extension<Reach>,
    Extension(arrival): Extension<Arrival>,
    Extension(connection): Extension<Arc<Place>>,
    Extension(requester): Extension<Requester>,
    request: Request,
) -> Result<Response, Refusal> {
    let access = app.tunnel.access();
    match access {
        TunnelAccess::Off => return Err(Refusal::not_found("this hub has no tunnel")),
        TunnelAccess::Keys if requester.rights.is_none() => return Err(key_needed()),
        _ => {}
    }
    let (mut parts, _) = request.into_parts();
    let name = name(parts.uri.query().unwrap_or_default())?;
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let hosts = app.hosts.signed(&parts.headers, arrival.is_encrypted);
    let request = Request::from_parts(parts, ());
    let (Ok(response), Some(upgrade)) = (create_response(&request), upgrade) else {
        let message = "the tunnel is a WebSocket: open it as one".to_owned();
        return Err(Refusal { status: StatusCode::UPGRADE_REQUIRED, message });
    };
    let holder = requester.actor.as_ref().filter(|_| requester.key.is_some());
    let payer = holder.map_or(Network::from(client).into(), |actor| app.known_keys.payer(&actor.id));
    let (unproven, socket) = places(&app, payer)?;
    if holder.is_some() {
        // Others at its address have theirs.
        connection.hand_over(payer);
    }
    let key = requester.key.filter(|_| access == TunnelAccess::Keys).map(|key| app.guard.hold(key));
    let visitor = Visitor {
        name,
        hosts,
        client,
        is_local: reach == Reach::Loopback,
        payer,
        key,
        unproven,
        places: [socket.in_use(), connection.in_use()],
    };
    app.tunnel.serve(visitor, async move { upgrade.await.ok().and_then(stream_of) });
    Ok(response.map(|()| Body::empty()))
}

/// What an end goes by, from the query of its address.
fn name(query: &str) -> Result<Name, Refusal> {
    let key = |name: &str| -> Result<PublicKey, Refusal> {
        let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
        let (value, again) = (values.next(), values.next());
        let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let mut key = [0; 32];
        match value.filter(|(_, text)| is_lower(text) && again.is_none()) {
            Some((_, text)) if hex::decode_to_slice(text.as_bytes(), &mut key).is_ok() => Ok(key),
            _ => Err(Refusal::bad_request(format!("{name} must be a key: 64 lower-case hex digits, once"))),
        }
    };
    let name = Name { key: key("key")?, peer: key("peer")? };
    if name.key == name.peer {
        return Err(Refusal::bad_request("key and peer are the same: nobody meets itself"));
    }
    Ok(name)
}

/// Places among ends that have proven nothing yet, and among WebSockets.
fn places(app: &App, payer: Payer) -> Result<(crate::http::connections::InUse, Arc<Place>), Refusal> {
    let full = |why| {
        app.metrics.refused(Limit::Tunnel);
        match (why, payer) {
            (NoPlace::Share, Payer::Actor(_)) => {
                Refusal::too_many("this actor opens as many ends of the tunnel as it may: come again")
            }
            (NoPlace::Share, Payer::Network(_)) => {
                Refusal::too_many("your address opens as many ends of the tunnel as it may: come again")
            }
            (NoPlace::Full, _) => Refusal::unavailable("the hub has no place for another end of its tunnel"),
        }
    };
    let unproven = app.tunnel.place(payer).map_err(full)?;
    Ok((unproven, app.socket_places.take(payer, false).map_err(full)?))
}
