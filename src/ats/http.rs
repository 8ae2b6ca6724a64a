//! One request to the service and its answer; nothing is repeated here.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, Response, Url};
use serde_json::Value;
use tracing::debug;

use super::clock::{Clock, parse_http_date};
use super::error::{AtsError, AtsResult};
use super::settings::{Settings, without_credentials};
use super::text::{SHOWN, printable};

/// The most bytes of an answer: a page of tasks with large payloads is below it.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// The most bytes that are read of an answer that is an error.
const MAX_ERROR: usize = 64 * 1024;
/// How long a connection may take to come up, within the time of the whole request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept: less than servers commonly keep theirs, so that few requests
/// meet one that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

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
    client: reqwest::Client,
    base: Url,
    timeout: Duration,
    pub(super) clock: Clock,
}

impl Http {
    /// Checks the settings; nothing is sent.
    pub(super) fn new(settings: &Settings, timeout: Duration) -> AtsResult<Self> {
        let base = base(&settings.url)?;
        let mut builder = reqwest::Client::builder()
            .default_headers(headers(settings)?)
            .user_agent(concat!("ats-p2p/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            // A redirected POST arrives as a GET, and the key could go astray: the address is to be set.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        builder = if base.scheme() == "https" {
            install_crypto();
            builder
        } else {
            // Without TLS no certificates are needed, and there may be none on this machine.
            builder.tls_backend_preconfigured(no_certificates()?)
        };
        let client = builder.build().map_err(|error| {
            AtsError::Settings(format!(
                "no encrypted connection can be made ({}); are the system's root certificates installed, or \
                 named by SSL_CERT_FILE?",
                causes(&error)
            ))
        })?;
        Ok(Self { client, base, timeout, clock: Clock::default() })
    }

    /// Sends a request and reads the whole answer as JSON; null if it is empty.
    pub(super) async fn send(&self, request: &Request<'_>) -> AtsResult<Value> {
        let started = Instant::now();
        let result = self.exchange(request).await;
        let (method, ms) = (&request.method, started.elapsed().as_millis());
        // What is asked for by the query, and the body, are not the log's business.
        match &result {
            Ok((status, _)) => debug!(%method, path = %request.path.join("/"), status, ms, "request"),
            Err(error) => {
                let status = error.status();
                debug!(%method, path = %request.path.join("/"), status, ms, %error, "request failed");
            }
        }
        result.map(|(_, value)| value)
    }

    /// The status of the answer, and what it holds.
    async fn exchange(&self, request: &Request<'_>) -> AtsResult<(u16, Value)> {
        let (builder, shown) = self.prepare(request);
        let body = request.body.as_ref().map(Value::to_string);
        let builder = match body {
            Some(body) => builder.header(CONTENT_TYPE, "application/json").body(body),
            None => builder,
        };
        let failed = |error| self.failure(error, &shown);
        let answer = builder.timeout(self.timeout).send().await.map_err(failed)?;
        self.heard(&answer);
        if !answer.status().is_success() {
            return Err(refusal(answer, &shown).await);
        }
        let (status, content_type) = (answer.status().as_u16(), content_type(&answer));
        let body = read(answer, MAX_ANSWER, &shown).await.map_err(|error| match error {
            ReadError::Http(error) => self.failure(error, &shown),
            ReadError::TooLarge(error) => error,
        })?;
        if body.is_empty() {
            return Ok((status, Value::Null));
        }
        serde_json::from_slice(&body).map(|value| (status, value)).map_err(|_| AtsError::NotJson {
            url: shown,
            content_type,
            beginning: printable(&String::from_utf8_lossy(&body[..body.len().min(SHOWN)]), 60),
        })
    }

    /// Asks to turn the connection into a WebSocket; gives the answer, whatever it is.
    pub(super) async fn upgrade(&self, request: &Request<'_>, headers: HeaderMap) -> AtsResult<Response> {
        let (builder, shown) = self.prepare(request);
        let sent = tokio::time::timeout(self.timeout, builder.headers(headers).send()).await;
        let answer = match sent {
            Ok(answer) => answer.map_err(|error| self.failure(error, &shown))?,
            Err(_) => return Err(AtsError::Timeout { url: shown, after: self.timeout }),
        };
        self.heard(&answer);
        if answer.status() == reqwest::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        match tokio::time::timeout(self.timeout, refusal(answer, &shown)).await {
            Ok(error) => Err(error),
            Err(_) => Err(AtsError::Timeout { url: shown, after: self.timeout }),
        }
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The address below the base URL, fit to be shown.
    pub(super) fn shown(&self, path: &[&str]) -> String {
        without_credentials(self.url(path).as_str())
    }

    fn prepare(&self, request: &Request<'_>) -> (reqwest::RequestBuilder, String) {
        let mut url = self.url(&request.path);
        let shown = without_credentials(url.as_str());
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        (self.client.request(request.method.clone(), url), shown)
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
    }

    fn failure(&self, error: reqwest::Error, shown: &str) -> AtsError {
        let url = shown.to_owned();
        if error.is_connect() {
            AtsError::Unreachable { url, reason: causes(&error) }
        } else if error.is_timeout() {
            AtsError::Timeout { url, after: self.timeout }
        } else if error.is_builder() {
            AtsError::Settings(format!("no request to {url} can be made: {}", causes(&error)))
        } else {
            AtsError::Interrupted { url, reason: causes(&error) }
        }
    }
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

/// The headers that every request carries.
fn headers(settings: &Settings) -> AtsResult<HeaderMap> {
    let mut headers = HeaderMap::new();
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
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| {
            AtsError::Settings("the API key (ATS_API_KEY) holds characters no key has".into())
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// Names the cryptography behind TLS for this library's own copy of rustls, unless a program that links
/// it as a crate has named one.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn no_certificates() -> AtsResult<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AtsError::Settings(format!("TLS cannot be set up: {error}")))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

enum ReadError {
    Http(reqwest::Error),
    TooLarge(AtsError),
}

/// The body, of at most `limit` bytes.
async fn read(mut answer: Response, limit: usize, shown: &str) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(ReadError::Http)? {
        if body.len() + chunk.len() > limit {
            return Err(ReadError::TooLarge(AtsError::TooLarge { url: shown.to_owned(), limit }));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error that an answer other than success is.
async fn refusal(answer: Response, shown: &str) -> AtsError {
    let status = answer.status();
    let content_type = content_type(&answer);
    let header = |name| answer.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let retry_after = header(RETRY_AFTER).and_then(parse_retry_after);
    let moved = header(LOCATION).map(|to| format!("moved to {}", printable(to, SHOWN)));
    // The status says more than a body that cannot be read.
    let body = read(answer, MAX_ERROR, shown).await.unwrap_or_default();
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(body) => said(&body),
        Err(_) if body.is_empty() => None,
        Err(_) => Some(format!("no JSON but {content_type}")),
    };
    let message = moved.filter(|_| status.is_redirection()).or(message);
    let message =
        message.unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned());
    AtsError::Status { url: shown.to_owned(), status: status.as_u16(), message, retry_after }
}

/// What the body of an error says: `{error}` or `{message}`, either a text or an object with one.
pub(super) fn said(body: &Value) -> Option<String> {
    let text = ["error", "message"].iter().find_map(|key| match body.get(key)? {
        Value::String(text) => Some(text.as_str()),
        inner => inner.get("message")?.as_str(),
    })?;
    Some(printable(text, SHOWN))
}

fn content_type(answer: &Response) -> String {
    let given = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.map_or_else(|| "something of no named type".to_owned(), |given| printable(given, 60))
}

/// `Retry-After` in seconds or as a date.
fn parse_retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(value)?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The innermost cause of the error. The URL is left out, since its query must not be shown.
fn causes(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut innermost = None;
    while let Some(cause) = source {
        innermost = Some(cause.to_string());
        source = cause.source();
    }
    printable(&innermost.unwrap_or_else(|| "unknown reason".to_owned()), SHOWN)
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
    fn loopback_needs_no_proxy() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://127.8.0.1", true),
            ("http://[::1]:2", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect("a URL")), expected, "{url}");
        }
    }

    #[test]
    fn the_message_of_an_error_is_found_and_made_printable() {
        assert_eq!(said(&json!({"error": "no\x1b[2J"})).as_deref(), Some(r"no\u{1b}[2J"));
        assert_eq!(said(&json!({"message": "m"})).as_deref(), Some("m"));
        assert_eq!(said(&json!({"error": {"message": "m"}})).as_deref(), Some("m"));
        assert_eq!(said(&json!({"error": 5})), None);
        assert_eq!(said(&json!([])), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
    }
}
