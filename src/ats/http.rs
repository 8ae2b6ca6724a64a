//! One request to the service and its answer. Nothing is repeated here, but where the service says that the
//! same request belongs to another of its paths.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use protocol::{ACTION_MESSAGES, HUB_FEATURES};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::answer::{AnswerReader, Budget, ListEnd, ListReader, MAX_ANSWER, NoList, NotJson, read};
use super::clock::{Clock, parse_http_date};
use super::error::{AtsError, AtsResult};
use super::policy::Policy;
use super::redirect::{Destination, shown};
use super::settings::{Secret, Settings, without_credentials};
use super::text::{SHOWN, printable, printable_without};
use crate::sync::lock;
use crate::web::error::{distrust, innermost};
use crate::web::{CONNECT_TIMEOUT, Web, WebError, WebSocketAnswer, beginning, is_loopback};

/// The most bytes that are read of an answer that is an error.
const MAX_ERROR: usize = 64 * 1024;
/// What is kept of it.
const MAX_ERROR_KEPT: Budget = Budget { bytes: 16 * 1024, values: 256 };
/// The most characters that are shown of what is no JSON, and of what it calls itself.
const BEGINNING_SHOWN: usize = 60;

/// What is asked of the service.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// The path below the base URL, a segment each; escaped here.
    pub(super) path: Vec<&'a str>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: Vec<&'a str>) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None }
    }

    pub(super) fn post(path: Vec<&'a str>, body: Value) -> Self {
        Self { method: Method::POST, path, query: Vec::new(), body: Some(body) }
    }
}

/// The way to one service as one actor.
#[derive(Debug)]
pub(super) struct Http {
    /// None once it is closed.
    client: Mutex<Option<reqwest::Client>>,
    closed: CancellationToken,
    web: Web,
    /// What every request carries.
    headers: HeaderMap,
    base: Url,
    timeout: Duration,
    secret: Option<Secret>,
    /// Parts of answers and events that were left out.
    left_out: AtomicU64,
    /// Whether the last answer was that of a hub which takes messages with actions.
    takes_messages: AtomicBool,
    pub(super) clock: Clock,
}

impl Http {
    /// Checks the settings; nothing is sent.
    pub(super) fn new(settings: &Settings, policy: &Policy) -> AtsResult<Self> {
        let base = base(&settings.url)?;
        let headers = headers(settings)?;
        check_way(settings, &base)?;
        let web = Web::new(&settings.web).map_err(settings_error)?;
        let client = web
            .client_builder(&base)
            .map_err(settings_error)?
            .default_headers(headers.clone())
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(policy.longest_idle)
            // Where to is looked at here: the key could go astray, and a POST arrive as a GET.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| AtsError::Settings(format!("no client can be made: {}", innermost(&error))))?;
        let secret = settings.api_key.clone();
        Ok(Self {
            client: Mutex::new(Some(client)),
            closed: CancellationToken::new(),
            web,
            headers,
            base,
            timeout: policy.timeout,
            secret,
            left_out: AtomicU64::new(0),
            takes_messages: AtomicBool::new(false),
            clock: Clock::default(),
        })
    }

    /// Ends all connections and what is under way on them; from now on nothing is sent.
    pub(super) fn close(&self) {
        self.closed.cancel();
        // The connections that wait for another request end with the last holder of the client.
        *lock(&self.client) = None;
    }

    /// Is cancelled when this is closed.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Sends a request and reads the answer as JSON; null if it is empty. What is too large or malformed in
    /// it is left out.
    pub(super) async fn send(&self, request: &Request<'_>) -> AtsResult<Value> {
        let exchange = Box::pin(async {
            let (mut answer, shown) = self.begin(request).await?;
            let (status, content_type) = (answer.status(), self.content_type(&answer));
            let mut reader = AnswerReader::new(self.secret.as_ref());
            let mut len = 0;
            while let Some(chunk) = answer.chunk().await.map_err(|error| self.failure(error, &shown))? {
                len += chunk.len();
                if len > MAX_ANSWER || !reader.feed(&chunk) {
                    return Err(AtsError::TooLarge { url: shown });
                }
            }
            let answer = reader
                .finish()
                .map_err(|NotJson(beginning)| self.not_json(shown, content_type, &beginning))?;
            self.leave_out(answer.left_out);
            Ok((status, answer.value))
        });
        self.logged(request, exchange).await
    }

    /// Sends a request whose answer is a list of tasks. `each` is given every one as it arrives, and says
    /// whether it is a task.
    pub(super) async fn send_for_list(
        &self,
        request: &Request<'_>,
        each: impl FnMut(Value) -> bool,
    ) -> AtsResult<ListEnd> {
        let exchange = Box::pin(async {
            let (mut answer, shown) = self.begin(request).await?;
            let (status, content_type) = (answer.status(), self.content_type(&answer));
            let mut reader = ListReader::new(self.secret.as_ref(), each);
            let mut len = 0;
            while let Some(chunk) = answer.chunk().await.map_err(|error| self.failure(error, &shown))? {
                len += chunk.len();
                if !reader.feed(&chunk) || len > MAX_ANSWER {
                    break;
                }
            }
            let end = reader.finish().map_err(|error| match error {
                NoList::NotJson(_) if len > MAX_ANSWER => AtsError::TooLarge { url: shown },
                NoList::NotJson(beginning) => self.not_json(shown, content_type, &beginning),
                NoList::OtherJson => AtsError::Unexpected { url: shown, what: "no list of tasks".into() },
            })?;
            self.leave_out(end.left_out);
            Ok((status, end))
        });
        self.logged(request, exchange).await
    }

    /// Notes that parts of an answer or an event were left out.
    pub(super) fn leave_out(&self, parts: u32) {
        if parts > 0 && self.left_out.fetch_add(parts.into(), Ordering::Relaxed) == 0 {
            tracing::warn!(
                "the task service sends what is too large or malformed: it is left out (ats-p2p doctor)"
            );
        }
    }

    /// The way to servers of the web.
    pub(super) fn web(&self) -> &Web {
        &self.web
    }

    /// How many parts of answers and events were left out so far.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Whether the service is a hub that posts a message with what changes a task, as far as it was heard.
    pub(super) fn takes_messages(&self) -> bool {
        self.takes_messages.load(Ordering::Relaxed)
    }

    /// The key, which nothing that comes back may show.
    pub(super) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// A foreign text as errors show it.
    pub(super) fn printable(&self, text: &str, max: usize) -> String {
        printable_without(self.secret.as_ref(), text, max)
    }

    /// Waits for an exchange, and logs it. It comes in a box: every call of the service is a part of the
    /// futures of transfers, which would grow by all of it.
    async fn logged<T>(
        &self,
        request: &Request<'_>,
        exchange: impl Future<Output = AtsResult<(StatusCode, T)>>,
    ) -> AtsResult<T> {
        let started = Instant::now();
        let ended = self.closed.run_until_cancelled(exchange).await;
        let result = ended.unwrap_or(Err(AtsError::Closed));
        let (method, ms) = (&request.method, started.elapsed().as_millis());
        // What is asked for by the query, and the body, are not the log's business.
        match &result {
            Ok((status, _)) => {
                debug!(%method, path = %request.path.join("/"), status = status.as_u16(), ms, "request");
            }
            Err(error) => {
                let status = error.status();
                debug!(%method, path = %request.path.join("/"), status, ms, %error, "request failed");
            }
        }
        result.map(|(_, value)| value)
    }

    /// Sends a request; gives the answer, whose body is to be read, if it is a success.
    async fn begin(&self, request: &Request<'_>) -> AtsResult<(Response, String)> {
        let body = request.body.as_ref().map(|body| Bytes::from(body.to_string()));
        let until = Instant::now() + self.timeout;
        let complete = |builder: RequestBuilder| {
            let builder = builder.timeout(until.saturating_duration_since(Instant::now()));
            match &body {
                Some(body) => builder.header(CONTENT_TYPE, "application/json").body(body.clone()),
                None => builder,
            }
        };
        let (answer, shown) = self.follow(request, complete).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer, &shown).await);
        }
        Ok((answer, shown))
    }

    /// Opens a WebSocket.
    pub(super) async fn open_web_socket(&self, request: &Request<'_>) -> AtsResult<TokioIo<Upgraded>> {
        let opened = async {
            let mut to = self.destination(request);
            loop {
                let opened = self.web.open_web_socket(&to.url, self.headers.clone()).await;
                let answer = match opened.map_err(|error| self.obstacle(error, to.shown()))? {
                    WebSocketAnswer::Open { connection, .. } => return Ok(connection),
                    WebSocketAnswer::Other(answer) => Response::from(answer),
                };
                self.heard(&answer);
                if !to.follow(&answer) {
                    return Err(self.refusal(answer, &to.shown()).await);
                }
            }
        };
        let opened = tokio::time::timeout(self.timeout, opened);
        match self.closed.run_until_cancelled(opened).await {
            Some(Ok(opened)) => opened,
            Some(Err(_)) => Err(AtsError::Timeout { url: self.shown(&request.path), after: self.timeout }),
            None => Err(AtsError::Closed),
        }
    }

    /// Has a request sent, and sent again wherever the service moves it within its own place; gives the last
    /// answer, with the address that it came from.
    async fn follow(
        &self,
        request: &Request<'_>,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> AtsResult<(Response, String)> {
        let mut to = self.destination(request);
        loop {
            let builder = self.client()?.request(request.method.clone(), to.url.clone());
            let sent = complete(builder).send().await;
            let answer = sent.map_err(|error| self.failure(error, &to.shown()))?;
            self.heard(&answer);
            if !to.follow(&answer) {
                return Ok((answer, to.shown()));
            }
        }
    }

    fn destination(&self, request: &Request<'_>) -> Destination {
        let mut url = self.url(&request.path);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        Destination::new(request.method.clone(), url)
    }

    fn client(&self) -> AtsResult<reqwest::Client> {
        lock(&self.client).clone().ok_or(AtsError::Closed)
    }

    /// The address below the base URL, fit to be shown.
    pub(super) fn shown(&self, path: &[&str]) -> String {
        shown(&self.url(path))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    fn heard(&self, answer: &Response) {
        if let Some(date) = answer.headers().get(DATE).and_then(|date| date.to_str().ok()) {
            self.clock.heard(date);
        }
        // What stands in front of a hub may answer for it where that is away.
        if answer.status().is_success() {
            let features = answer.headers().get(HUB_FEATURES).and_then(|names| names.to_str().ok());
            let takes = features.is_some_and(|names| names.split(' ').any(|name| name == ACTION_MESSAGES));
            self.takes_messages.store(takes, Ordering::Relaxed);
        }
    }

    /// The error that an answer other than success is.
    async fn refusal(&self, answer: Response, shown: &str) -> AtsError {
        let status = answer.status();
        let content_type = self.content_type(&answer);
        let header = |name| answer.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let retry_after = header(RETRY_AFTER).and_then(|text| parse_retry_after(text, self.clock.now()));
        let moved = header(LOCATION).map(|to| format!("moved to {}", self.printable(to, SHOWN)));
        // The status says more than a body that cannot be read.
        let body = beginning(answer, MAX_ERROR).await;
        let message = match read(&body, MAX_ERROR_KEPT, self.secret.as_ref()) {
            Some(body) => said(&body.value).map(|said| self.printable(said, SHOWN)),
            None if body.is_empty() => None,
            None => Some(format!("no JSON but {content_type}")),
        };
        let message = moved.filter(|_| status.is_redirection()).or(message);
        let message =
            message.unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned());
        AtsError::Status { url: shown.to_owned(), status: status.as_u16(), message, retry_after }
    }

    fn not_json(&self, url: String, content_type: String, beginning: &[u8]) -> AtsError {
        let beginning = self.printable(&String::from_utf8_lossy(beginning), BEGINNING_SHOWN);
        AtsError::NotJson { url, content_type, beginning }
    }

    fn content_type(&self, answer: &Response) -> String {
        let given = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let unnamed = || "something of no named type".to_owned();
        given.map_or_else(unnamed, |given| self.printable(given, BEGINNING_SHOWN))
    }

    fn failure(&self, error: reqwest::Error, shown: &str) -> AtsError {
        let url = shown.to_owned();
        let error = error.without_url();
        let reason = self.printable(&innermost(&error), SHOWN);
        if let Some(reason) = distrust(&error) {
            AtsError::Untrusted { url, reason }
        } else if error.is_connect() {
            match self.web.proxy(&self.base) {
                Some(proxy) => {
                    let (variable, proxy) = (proxy.variable, proxy.shown());
                    AtsError::Proxy {
                        url,
                        proxy,
                        variable,
                        reason: format!("does not let it through: {reason}"),
                    }
                }
                None => AtsError::Unreachable { url, reason },
            }
        } else if error.is_timeout() {
            AtsError::Timeout { url, after: self.timeout }
        } else if error.is_builder() {
            AtsError::Settings(format!("no request to {url} can be made: {reason}"))
        } else {
            AtsError::Interrupted { url, reason }
        }
    }

    /// The error that something in the way is.
    fn obstacle(&self, error: WebError, url: String) -> AtsError {
        match error {
            WebError::Settings(why) => AtsError::Settings(why),
            WebError::Unreachable(reason) => {
                AtsError::Unreachable { url, reason: self.printable(&reason, SHOWN) }
            }
            WebError::Proxy { proxy, variable, reason, .. } => {
                AtsError::Proxy { url, proxy, variable, reason: self.printable(&reason, SHOWN) }
            }
            WebError::Untrusted(reason) => AtsError::Untrusted { url, reason },
            WebError::Broken(reason) => AtsError::Interrupted { url, reason: self.printable(&reason, SHOWN) },
        }
    }
}

/// What keeps a client from being made lies in the settings.
fn settings_error(error: WebError) -> AtsError {
    AtsError::Settings(error.to_string())
}

/// Checks the base URL.
fn base(url: &str) -> AtsResult<Url> {
    let wrong = |why: &str| {
        let shown = printable(&without_credentials(url), SHOWN);
        AtsError::Settings(format!("{shown:?} is no address of a task service: {why} (ATS_URL, --ats-url)"))
    };
    let base = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(wrong("a name or password in it would be shown in messages; use ATS_API_KEY"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(wrong("it must end before any ? or #"));
    }
    Ok(base)
}

/// Refuses to send the key where others can read it on its way.
fn check_way(settings: &Settings, base: &Url) -> AtsResult<()> {
    if settings.api_key.is_none() || settings.insecure || base.scheme() == "https" || is_loopback(base) {
        return Ok(());
    }
    Err(AtsError::Settings(format!(
        "the key (ATS_API_KEY) is not sent to {}, because anybody on the way can read plain HTTP: use an \
         https address, or allow it with --insecure (ATS_P2P_INSECURE=1)",
        printable(base.as_str(), SHOWN)
    )))
}

/// The headers that every request carries.
fn headers(settings: &Settings) -> AtsResult<HeaderMap> {
    let agent = HeaderValue::from_static(concat!("ats-p2p/", env!("CARGO_PKG_VERSION")));
    let mut headers = HeaderMap::from_iter([(USER_AGENT, agent)]);
    let actor = &settings.actor;
    for (name, value) in
        [("x-actor-type", &actor.kind), ("x-actor-id", &actor.id), ("x-actor-name", &actor.name)]
    {
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            AtsError::Settings(format!(
                "{:?} cannot be sent as {name}: it holds a control",
                printable(value, SHOWN)
            ))
        })?;
        headers.insert(HeaderName::from_static(name), value);
    }
    if let Some(key) = &settings.api_key {
        let value = key.bearer().ok_or_else(|| {
            AtsError::Settings("the API key (ATS_API_KEY) holds characters no key has".into())
        })?;
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// What the body of an error says: `{error}` or `{message}`, either a text or an object with one.
pub(crate) fn said(body: &Value) -> Option<&str> {
    ["error", "message"].iter().find_map(|key| match body.get(key)? {
        Value::String(text) => Some(text.as_str()),
        inner => inner.get("message")?.as_str(),
    })
}

/// `Retry-After` in seconds or as a date, which is one of the service's clock.
fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(value)?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_base_url_is_http_without_credentials_or_query() {
        for right in ["http://127.0.0.1:8787", "https://ats.example/path", "http://[::1]:1"] {
            assert!(base(right).is_ok(), "{right}");
        }
        for wrong in ["", "127.0.0.1:8787", "ftp://h", "file:///x", "http://h/?x", "http://h/#x"] {
            assert!(matches!(base(wrong), Err(AtsError::Settings(_))), "{wrong}");
        }
        let error = base("http://me:hush@host").expect_err("credentials").to_string();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn the_message_of_an_error_is_found() {
        assert_eq!(said(&json!({"error": "no"})), Some("no"));
        assert_eq!(said(&json!({"message": "m"})), Some("m"));
        assert_eq!(said(&json!({"error": {"message": "m"}})), Some("m"));
        assert_eq!(said(&json!({"error": 5})), None);
        assert_eq!(said(&json!([])), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        assert_eq!(parse_retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse_retry_after(date, now), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after(date, now + Duration::from_secs(60)), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
    }
}
