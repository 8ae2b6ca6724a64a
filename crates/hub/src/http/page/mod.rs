//! The page at `/`, which shows an operator the transfers of the hub, and what it reads. Its calls are its
//! own: they change with it, so they are not in the description of the API.
//!
//! # Layout
//! - `assets`: the files of the page.
//! - `sign_in`: how a browser gets in with a key, and out again.
//! - `data`: transfers, totals, and who is connected.

mod assets;
mod data;
mod sign_in;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

use super::App;

/// Where the page is, and where its files and its calls are.
const ROOT: &str = "/";
const PREFIX: &str = "/page/";

/// What of it is open to whoever asks, key or none: how to sign in, and what is the same for everybody.
const OPEN_CALLS: [&str; 3] = ["/page/session", "/page/sign-in", "/page/sign-out"];

/// What the page may do: run its own script, read from its own hub, and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of all that is answered here. What is read is for who asked, and for now; the files of the
/// page say otherwise themselves.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// The routes of the page.
pub(super) fn router() -> Router<Arc<App>> {
    let mut router = Router::new()
        .route(ROOT, get(assets::index))
        .route("/page/session", get(sign_in::session))
        .route("/page/sign-in", post(sign_in::sign_in))
        .route("/page/sign-out", post(sign_in::sign_out))
        .route("/page/transfers", get(data::transfers))
        .route("/page/transfers/{id}", get(data::trail))
        .route("/page/days", get(data::days))
        .route("/page/connected", get(data::connected));
    for asset in &assets::ASSETS {
        router =
            router.route(asset.path, get(move |headers: HeaderMap| async move { asset.answer(&headers) }));
    }
    router.layer(middleware::from_fn(guarded))
}

/// Whether a path is open to whoever asks.
pub(super) fn is_open(path: &str) -> bool {
    path == ROOT || OPEN_CALLS.contains(&path) || assets::ASSETS.iter().any(|asset| asset.path == path)
}

/// Whether a path is one that the page's cookie opens.
pub(super) fn takes_cookie(path: &str) -> bool {
    path.starts_with(PREFIX) || path == "/ws"
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let is_new = response.status() != StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        let is_missing = !headers.contains_key(&name);
        if is_missing && (is_new || name != CACHE_CONTROL) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
