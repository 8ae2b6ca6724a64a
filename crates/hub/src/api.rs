//! The HTTP API: paths, methods, and what they are answered with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, Request, State, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyperdht::relay::Relay;
use protocol::RELAY_ALLOWLIST_TIME;
use serde_json::{Value, json};
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqlitePool};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Level, debug, enabled};

use crate::bus::Bus;
use crate::dht::Nodes;
use crate::error::Refusal;
use crate::input::{self, Fields};
use crate::list::{self, Page, TaskQuery};
use crate::orgs;
use crate::origin;
use crate::relay_allowlist::RelayAllowlist;
use crate::rows::{self, Scope};
use crate::socket;
use crate::task::Actor;
use crate::time::Millis;
use crate::writer::{Change, Writer};

/// The most bytes of a request's body. An offer has a thousand or so.
const MAX_BODY: usize = 256 * 1024;
/// How long a request may take, its body's arrival included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The most subscribers at once: each may hold its connection for ever.
const MAX_SUBSCRIBERS: usize = 1024;

/// What all requests are served from.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) writer: Writer,
    pub(crate) readers: SqlitePool,
    pub(crate) bus: Bus,
    pub(crate) nodes: Nodes,
    pub(crate) relay: Option<Relay>,
    /// The keys that the relay serves although no task names them.
    pub(crate) allowlist: Arc<RelayAllowlist>,
    /// Whether only this machine can reach the hub.
    pub(crate) is_loopback: bool,
    pub(crate) shutdown: CancellationToken,
    pub(crate) sockets: TaskTracker,
}

/// The address at which a connection reached the hub.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReachedAt(pub SocketAddr);

type Shared = State<Arc<App>>;
type Answer = Result<Json<Value>, Refusal>;

/// The router of everything.
pub(crate) fn router(app: Arc<App>) -> Router {
    let tasks = |stats| {
        Router::new()
            .route("/", get(list_tasks).post(make_task))
            .route("/stats", stats)
            .route("/{id}", get(read_task).patch(change_task))
            .route("/{id}/messages", get(list_messages).post(add_message))
            .route("/{id}/{verb}", post(act))
    };
    Router::new()
        .route("/health", get(health))
        .route("/ws", get(subscribe))
        .route("/p2p/guests", post(allow_on_relay))
        .nest("/tasks", tasks(get(all_stats)))
        .nest("/orgs/{org}/projects/{project}/tasks", tasks(get(project_stats)))
        .route("/orgs", get(list_organizations).post(make_organization))
        .route("/orgs/{org}", get(read_organization).patch(change_organization))
        .route("/orgs/{org}/projects", get(list_projects).post(make_project))
        .route("/orgs/{org}/projects/{project}", get(read_project).patch(change_project))
        .fallback(|| async { Refusal::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            let message = "this path does not take this method".to_owned();
            Refusal { status: StatusCode::METHOD_NOT_ALLOWED, message }
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), watch_over))
        .with_state(app)
}

/// Who asks, and about which project.
struct Caller {
    scope: Scope,
    by: Option<Actor>,
    path: HashMap<String, String>,
}

impl Caller {
    /// The actor, without whom nothing is changed.
    fn actor(&mut self) -> Result<Actor, Refusal> {
        self.by.take().ok_or_else(|| Refusal::bad_request("the header X-Actor-ID is missing: who is asking?"))
    }

    fn segment(&self, name: &str) -> String {
        self.path.get(name).cloned().unwrap_or_default()
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let by = input::actor(&parts.headers)?;
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, app).await;
        let Path(path) = path.map_err(|error| Refusal::bad_request(error.body_text()))?;
        let default = Scope::default_one();
        let scope = Scope {
            organization: path.get("org").cloned().unwrap_or(default.organization),
            project: path.get("project").cloned().unwrap_or(default.project),
        };
        input::check_slug(&scope.organization)?;
        input::check_slug(&scope.project)?;
        Ok(Self { scope, by, path })
    }
}

impl App {
    async fn reader(&self) -> Result<PoolConnection<Sqlite>, Refusal> {
        Ok(self.readers.acquire().await?)
    }
}

async fn watch_over(State(app): Shared, request: Request, next: Next) -> Response {
    // Of the query and the body nothing is logged, nor of the headers, which hold keys.
    let asked = enabled!(Level::DEBUG).then(|| (request.method().clone(), request.uri().path().to_owned()));
    let started = Instant::now();
    let response = answer(&app, request, next).await;
    if let Some((method, path)) = asked {
        let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
        debug!(%method, path, status, ms, "request");
    }
    response
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    if let Err(refusal) = origin::check(request.headers(), app.is_loopback) {
        return refusal.into_response();
    }
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the request was not complete within {} s", TIMEOUT.as_secs());
            Refusal { status: StatusCode::REQUEST_TIMEOUT, message }.into_response()
        }
    }
}

async fn health(State(app): Shared, Extension(at): Extension<ReachedAt>, headers: HeaderMap) -> Json<Value> {
    let mut health = json!({ "status": "ok", "timestamp": Millis::now().to_text() });
    let bootstrap = app.nodes.bootstrap(origin::host(&headers).as_deref(), at.0.ip());
    if !bootstrap.is_empty() {
        health["p2p"] = json!({ "bootstrap": bootstrap });
        if let Some(relay) = &app.relay {
            health["p2p"]["relay"] = json!(hex::encode(relay.public_key()));
        }
    }
    Json(health)
}

/// Makes the relay serve a key that no task names.
async fn allow_on_relay(State(app): Shared, body: Body) -> Answer {
    if app.relay.is_none() {
        return Err(Refusal::not_found("this hub has no relay"));
    }
    app.allowlist.add(Instant::now(), fields(body)?.public_key()?);
    Ok(Json(json!({ "expires_in_ms": u64::try_from(RELAY_ALLOWLIST_TIME.as_millis()).unwrap_or(u64::MAX) })))
}

async fn subscribe(
    State(app): Shared,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|error| Refusal { status: error.status(), message: error.body_text() })?;
    if app.sockets.len() >= MAX_SUBSCRIBERS {
        return Err(Refusal::unavailable(format!(
            "the hub has {MAX_SUBSCRIBERS} subscribers, as many as it can"
        )));
    }
    let token = app.sockets.token();
    let upgrade = upgrade.max_message_size(socket::MAX_MESSAGE).max_frame_size(socket::MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        socket::serve(socket, app.bus.join(), &app.shutdown).await;
        drop(token);
    }))
}

async fn list_tasks(State(app): Shared, caller: Caller, query: PairsOrRejection) -> Answer {
    let query = TaskQuery::parse(&pairs(query)?)?;
    let Page { tasks, has_more } = query.run(&mut *app.reader().await?, &caller.scope).await?;
    Ok(Json(json!({ "count": tasks.len(), "has_more": has_more, "tasks": tasks })))
}

async fn make_task(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let by = caller.actor()?;
    let new = fields(body)?.new_task()?;
    let task = app.writer.change(Change::MakeTask { scope: caller.scope, new }, by).await?;
    Ok((StatusCode::CREATED, Json(json!({ "task": task }))))
}

async fn read_task(State(app): Shared, caller: Caller) -> Answer {
    let mut reader = app.reader().await?;
    let mut task = rows::find_task(&mut reader, &caller.scope, &caller.segment("id")).await?;
    // The timer may be a moment late; nobody is shown a claim or an offer that is over.
    task.elapse(Millis::now());
    let messages = rows::messages(&mut reader, task.id).await?;
    let mut task = task.to_value();
    task["messages"] = Value::Array(messages);
    Ok(Json(json!({ "task": task })))
}

async fn change_task(State(app): Shared, mut caller: Caller, body: Body) -> Answer {
    let by = caller.actor()?;
    let (id, actions) = (caller.segment("id"), fields(body)?.changes()?);
    let task = app.writer.change(Change::EditTask { scope: caller.scope, id, actions }, by).await?;
    Ok(Json(json!({ "task": task })))
}

async fn act(State(app): Shared, mut caller: Caller, body: Body) -> Answer {
    let by = caller.actor()?;
    let (id, verb) = (caller.segment("id"), caller.segment("verb"));
    let action = fields(body)?.action(&verb);
    let action = action.ok_or_else(|| Refusal::not_found(format!("tasks have no {verb:?}")))??;
    let change = Change::EditTask { scope: caller.scope, id, actions: vec![action] };
    let task = app.writer.change(change, by).await?;
    Ok(Json(json!({ "task": task })))
}

async fn list_messages(State(app): Shared, caller: Caller) -> Answer {
    let mut reader = app.reader().await?;
    let task = rows::find_task(&mut reader, &caller.scope, &caller.segment("id")).await?;
    let messages = rows::messages(&mut reader, task.id).await?;
    Ok(Json(json!({ "count": messages.len(), "messages": messages })))
}

async fn add_message(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let by = caller.actor()?;
    let (id, parts) = (caller.segment("id"), fields(body)?.parts()?);
    let message = app.writer.change(Change::AddMessage { scope: caller.scope, id, parts }, by).await?;
    Ok((StatusCode::CREATED, Json(json!({ "message": message }))))
}

async fn all_stats(State(app): Shared) -> Answer {
    let stats = list::stats(&mut *app.reader().await?, None, Millis::now()).await?;
    Ok(Json(json!({ "stats": stats })))
}

async fn project_stats(State(app): Shared, caller: Caller) -> Answer {
    let stats = list::stats(&mut *app.reader().await?, Some(&caller.scope), Millis::now()).await?;
    Ok(Json(json!({ "stats": stats })))
}

async fn list_organizations(State(app): Shared) -> Answer {
    let organizations = orgs::organizations(&mut *app.reader().await?).await?;
    Ok(Json(json!({ "organizations": organizations })))
}

async fn make_organization(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let by = caller.actor()?;
    let profile = fields(body)?.profile()?;
    let organization = app.writer.change(Change::MakeOrganization { profile }, by).await?;
    Ok((StatusCode::CREATED, Json(json!({ "organization": organization }))))
}

async fn read_organization(State(app): Shared, caller: Caller) -> Answer {
    let organization = orgs::organization(&mut *app.reader().await?, &caller.scope.organization).await?;
    Ok(Json(json!({ "organization": organization })))
}

async fn change_organization(State(app): Shared, mut caller: Caller, body: Body) -> Answer {
    let by = caller.actor()?;
    let profile = fields(body)?.profile()?;
    let change = Change::EditOrganization { organization: caller.scope.organization, profile };
    Ok(Json(json!({ "organization": app.writer.change(change, by).await? })))
}

async fn list_projects(State(app): Shared, caller: Caller, query: PairsOrRejection) -> Answer {
    let with_counts = pairs(query)?.get("counts").is_some_and(|value| value == "true" || value == "1");
    let mut reader = app.reader().await?;
    let projects = orgs::projects(&mut reader, &caller.scope.organization, with_counts).await?;
    Ok(Json(json!({ "projects": projects })))
}

async fn make_project(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let by = caller.actor()?;
    let profile = fields(body)?.profile()?;
    let change = Change::MakeProject { organization: caller.scope.organization, profile };
    let project = app.writer.change(change, by).await?;
    Ok((StatusCode::CREATED, Json(json!({ "project": project }))))
}

async fn read_project(State(app): Shared, caller: Caller) -> Answer {
    let Scope { organization, project } = &caller.scope;
    let project = orgs::project(&mut *app.reader().await?, organization, project).await?;
    Ok(Json(json!({ "project": project })))
}

async fn change_project(State(app): Shared, mut caller: Caller, body: Body) -> Answer {
    let by = caller.actor()?;
    let profile = fields(body)?.profile()?;
    let Scope { organization, project } = caller.scope;
    let change = Change::EditProject { organization, project, profile };
    Ok(Json(json!({ "project": app.writer.change(change, by).await? })))
}

type Body = Result<Bytes, BytesRejection>;
type PairsOrRejection = Result<Query<HashMap<String, String>>, QueryRejection>;

/// The fields of a body; refuses one that is too long or incomplete.
fn fields(body: Body) -> Result<Fields, Refusal> {
    match body {
        Ok(body) => Fields::parse(&body),
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Refusal::too_large(format!("the body is longer than {MAX_BODY} bytes")))
        }
        Err(error) => Err(Refusal { status: error.status(), message: error.body_text() }),
    }
}

fn pairs(query: PairsOrRejection) -> Result<HashMap<String, String>, Refusal> {
    query.map(|Query(pairs)| pairs).map_err(|error| Refusal::bad_request(error.body_text()))
}
