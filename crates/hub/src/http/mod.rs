//! The HTTP API: paths, methods, and what they are answered with.

mod access;
mod client;
pub(crate) mod connections;
mod health;
mod hosts;
mod known_keys;
mod orgs;
mod page;
mod rates;
mod recent;
mod request;
pub(crate) mod server;
mod session;
mod socket;
mod stream;
mod tasks;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyperdht::relay::Relay;
use protocol::{ACTION_MESSAGES, HUB_FEATURES, RELAY_ALLOWLIST_TIME};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::access::guard::KeyGuard;
use crate::access::secret::Purpose;
use crate::access::sessions::Sessions;
use crate::access::{AccessConfig, Arrival, bearer};
use crate::bus::Bus;
use crate::dht::Nodes;
use crate::error::Refusal;
use crate::metrics::{Limit, Metrics};
use crate::other_hubs::OtherHubs;
use crate::relay_allowlist::RelayAllowlist;
use crate::sql::{Connection, Pool};
use crate::tunnel::Tunnel;
use crate::writer::{Writer, WriterState};

use connections::{Network, Payer};
use request::{Body, MAX_BODY, fields};

pub(crate) use client::{ClientAddress, Reach, Whence};
pub(crate) use connections::{Places, Shares};
pub(crate) use hosts::Hosts;
pub(crate) use known_keys::KnownKeys;
pub(crate) use rates::{Rate, Rates};

/// How long a request may take, its body's arrival included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The answers to requests that are not served whatever they ask: an operator may want to know of them.
const REFUSALS: [StatusCode; 5] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::MISDIRECTED_REQUEST,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// What the API is, as OpenAPI has it.
const DESCRIPTION: &str = include_str!("openapi.json");

/// What all requests are served from.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) writer: Writer,
    pub(crate) readers: Pool,
    pub(crate) bus: Bus,
    pub(crate) nodes: Nodes,
    /// Those on the same database.
    pub(crate) others: OtherHubs,
    pub(crate) relay: Option<Relay>,
    /// The keys that the relay serves although no task names them.
    pub(crate) allowlist: Arc<RelayAllowlist>,
    pub(crate) tunnel: Arc<Tunnel>,
    /// The names that requests may be for.
    pub(crate) hosts: Hosts,
    pub(crate) whence: Whence,
    /// Those of connections, and of the WebSockets among them.
    pub(crate) places: Places,
    pub(crate) socket_places: Places,
    pub(crate) rates: Rates,
    /// By whom a request is counted.
    pub(crate) known_keys: KnownKeys,
    pub(crate) metrics: Metrics,
    /// Who is let in, and the keys in use.
    pub(crate) access: AccessConfig,
    pub(crate) guard: KeyGuard,
    /// Who has signed in to the page.
    pub(crate) sessions: Sessions,
    pub(crate) shutdown: CancellationToken,
    /// Cancelled after `shutdown` for who is left then.
    pub(crate) abort: CancellationToken,
    pub(crate) sockets: TaskTracker,
}

/// The two ends of the connection that a request came over, an extension of every request. Who sent it is
/// in [`ClientAddress`] and [`Reach`], extensions too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Whether it is one of TLS.
    pub(crate) is_encrypted: bool,
}

type Shared = State<Arc<App>>;
type Answer = Result<Json<Value>, Refusal>;

/// The router of everything.
pub(crate) fn router(app: Arc<App>) -> Router {
    let tasks = |stats| {
        Router::new()
            .route("/", get(tasks::list_tasks).post(tasks::make_task))
            .route("/stats", stats)
            .route("/{id}", get(tasks::read_task).patch(tasks::change_task))
            .route("/{id}/messages", get(tasks::list_messages).post(tasks::add_message))
            .route("/{id}/{verb}", post(tasks::act))
    };
    Router::new()
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(describe))
        .route("/ws", get(socket::subscribe))
        .route("/auth/me", get(access::me))
        .route("/p2p/guests", post(allow_on_relay))
        .route("/p2p/join", post(access::join))
        .route("/p2p/tunnel", get(tunnel::tunnel))
        .nest("/tasks", tasks(get(tasks::all_stats)))
        .nest("/orgs/{org}/projects/{project}/tasks", tasks(get(tasks::project_stats)))
        .route("/orgs", get(orgs::list_organizations).post(orgs::make_organization))
        .route("/orgs/{org}", get(orgs::read_organization).patch(orgs::change_organization))
        .route("/orgs/{org}/projects", get(orgs::list_projects).post(orgs::make_project))
        .route("/orgs/{org}/projects/{project}", get(orgs::read_project).patch(orgs::change_project))
        .merge(page::router())
        .fallback(|| async { Refusal::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            let message = "this path does not take this method".to_owned();
            Refusal { status: StatusCode::METHOD_NOT_ALLOWED, message }
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), access::let_in))
        .layer(middleware::from_fn_with_state(app.clone(), watch_over))
        .with_state(app)
}

impl App {
    async fn reader(&self) -> Result<Connection, Refusal> {
        if self.readers.is_shared() && self.writer.state() != WriterState::Ready {
            // The same server: whoever waited for it would only be refused later.
            return Err(Refusal::database_away());
        }
        Ok(self.readers.acquire().await?)
    }
}

async fn watch_over(State(app): Shared, mut request: Request, next: Next) -> Response {
    if let Some(Ends { peer, is_encrypted, .. }) = request.extensions().get().copied() {
        let (client, reach): (ClientAddress, Reach) = app.whence.of(peer.ip(), request.headers());
        let is_encrypted = is_encrypted || app.whence.was_encrypted(peer.ip(), request.headers());
        let arrival = Arrival { client: client.0, is_remote: reach == Reach::OffLoopback, is_encrypted };
        request.extensions_mut().insert(arrival);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(reach);
    }
    // Of the query and the body nothing is logged, nor of the headers, which hold keys.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let call = request.extensions().get().map(|matched: &MatchedPath| matched.as_str().to_owned());
    let client = request.extensions().get().map(|client: &ClientAddress| client.0);
    let started = Instant::now();
    let mut response = answer(&app, request, next).await;
    let (status, took) = (response.status(), started.elapsed());
    response.headers_mut().insert(HUB_FEATURES, HeaderValue::from_static(ACTION_MESSAGES));
    if app.readers.is_shared()
        && let Ok(date) = HeaderValue::from_str(&app.readers.now().to_http_date())
    {
        // Whoever reckons by it what is over should be right at each of the hubs.
        response.headers_mut().insert(DATE, date);
    }
    // A method that a client made up is counted with those of paths that it made up.
    let (counted_as, call) = call.as_deref().map_or(("", "other"), |call| (method.as_str(), call));
    app.metrics.answered(counted_as, call, status.as_u16(), took);
    let (status, ms, client) = (status.as_u16(), took.as_millis(), client.map(tracing::field::display));
    if REFUSALS.contains(&response.status()) {
        info!(%method, path, status, ms, client, "request refused");
    } else {
        debug!(%method, path, status, ms, client, "request");
    }
    response
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    if let Err(refusal) = app.hosts.check(request.uri(), request.headers()) {
        app.metrics.refused(Limit::Host);
        return refusal.into_response();
    }
    if let Err((payer, wait)) = count(app, &request) {
        app.metrics.refused(Limit::Rate);
        let seconds = wait.as_secs().saturating_add(1).to_string();
        let who = if matches!(payer, Payer::Actor(_)) { "this actor" } else { "your address" };
        let refusal = Refusal::too_many(format!("{who} asks for more than its share: wait, then go on"));
        return ([(RETRY_AFTER, seconds)], refusal).into_response();
    }
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the request was not complete within {} s", TIMEOUT.as_secs());
            Refusal { status: StatusCode::REQUEST_TIMEOUT, message }.into_response()
        }
    }
}

/// Counts a request as its client's, by the length that its body has or may have; says whose that is and how
/// long to wait where it is too much.
fn count(app: &App, request: &Request) -> Result<(), (Payer, Duration)> {
    let Some(ClientAddress(client)) = request.extensions().get() else { return Ok(()) };
    let network = Network::from(*client);
    let payer = holder(app, request).unwrap_or(network.into());
    let hint = request.body().size_hint();
    let length = hint.exact().unwrap_or(u64::try_from(MAX_BODY).unwrap_or(u64::MAX));
    let are_kept = !request.method().is_safe();
    app.rates.count(Instant::now(), payer, network, length, are_kept).map_err(|wait| (payer, wait))
}

/// Whose key or session a request shows, as far as that is known without the database: a key that nobody has
/// shown here before is an address's attempt.
fn holder(app: &App, request: &Request) -> Option<Payer> {
    if let Some(key) = bearer(request.headers(), Purpose::Key) {
        return app.known_keys.holder(&key);
    }
    let arrival =
        request.extensions().get::<Arrival>().filter(|_| page::takes_cookie(request.uri().path()))?;
    let session = app.sessions.find(&session::cookie(request.headers(), *arrival).ok()??, Instant::now())?;
    Some(app.known_keys.payer(&session.actor))
}

async fn describe() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION)
}

/// Makes the relay serve a key that no task names.
async fn allow_on_relay(State(app): Shared, body: Body) -> Answer {
    if app.relay.is_none() {
        return Err(Refusal::not_found("this hub has no relay"));
    }
    app.allowlist.add(Instant::now(), fields(body)?.public_key()?);
    Ok(Json(json!({ "expires_in_ms": u64::try_from(RELAY_ALLOWLIST_TIME.as_millis()).unwrap_or(u64::MAX) })))
}
