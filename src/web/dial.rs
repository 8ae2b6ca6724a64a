//! A connection to an address, through whatever proxy stands before it and TLS where it needs that.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, HOST, HeaderValue, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5};
use hyper_util::rt::TokioIo;
use reqwest::Body;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower_service::Service as _;
use url::{Position, Url};

use super::error::{distrust, innermost};
use super::{Certificate, Proxy, Web, WebError};

/// How long a connection may take to come up.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a server, or to the proxy before it.
struct Connection {
    stream: Box<dyn Duplex>,
    /// Where its other end is.
    remote_address: SocketAddr,
    /// What the server showed, if it speaks TLS.
    certificate: Option<CertificateDer<'static>>,
}

/// A server to which a connection came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Where it is, or the proxy before it.
    pub(crate) remote_address: SocketAddr,
    /// What it showed, if it speaks TLS.
    pub(crate) certificate: Option<Certificate>,
}

/// Reads and writes.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What a server answered to the wish to speak as a WebSocket.
pub(crate) enum WebSocketAnswer {
    /// It does from now on.
    Open {
        /// What it speaks on.
        connection: TokioIo<Upgraded>,
        /// Where the server is, or the proxy before it.
        remote_address: SocketAddr,
    },
    /// This instead.
    Other(Response<Body>),
}

impl Web {
    /// Asks a server to speak as a WebSocket. What it answers otherwise is given as it is; nothing is
    /// followed or repeated.
    ///
    /// # Errors
    /// Where no answer came.
    pub(crate) async fn open_web_socket(
        &self,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<WebSocketAnswer, WebError> {
        let connection = self.connect(url).await?;
        let key = generate_key();
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .header(HOST, authority(url, false))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .body(Body::default())
            .map_err(|error| WebError::Settings(format!("no request can be made: {error}")))?;
        request.headers_mut().extend(headers);
        let Connection { stream, remote_address, .. } = connection;
        let answer = ask(stream, request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(WebSocketAnswer::Other(answer.map(Body::wrap)));
        }
        let accepted = answer.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(WebError::Broken("what answers there speaks no WebSocket".into()));
        }
        let upgraded = hyper::upgrade::on(answer).await;
        let upgraded = upgraded.map_err(|error| WebError::Broken(innermost(&error)))?;
        Ok(WebSocketAnswer::Open { connection: TokioIo::new(upgraded), remote_address })
    }

    /// Connects to the server at `url` as for a WebSocket, and leaves it again.
    ///
    /// # Errors
    /// Where no connection came about.
    pub(crate) async fn reach(&self, url: &Url) -> Result<Reached, WebError> {
        let Connection { remote_address, certificate, .. } = self.connect(url).await?;
        let certificate = certificate.and_then(|certificate| Certificate::from_der(&certificate));
        Ok(Reached { remote_address, certificate })
    }

    /// A connection on which an HTTP request to `url` can be made.
    async fn connect(&self, url: &Url) -> Result<Connection, WebError> {
        let connection = match self.proxy(url) {
            None => tcp(uri(url.scheme(), &authority(url, true))?).await.map_err(WebError::Unreachable)?,
            Some(proxy) => self.through(proxy, url).await.map_err(|reason| match reason {
                Obstacle::Proxy { reason, status } => {
                    WebError::Proxy { proxy: proxy.shown(), variable: proxy.variable, reason, status }
                }
                Obstacle::Other(error) => error,
            })?,
        };
        match url.scheme() {
            "https" => self.tls(connection, url.host_str().unwrap_or_default()).await,
            _ => Ok(connection),
        }
    }

    async fn through(&self, proxy: &Proxy, url: &Url) -> Result<Connection, Obstacle> {
        let target = authority(url, true);
        if proxy.scheme().starts_with("socks") {
            return socks(proxy, uri("http", &target)?).await;
        }
        let unreached = |why: String| Obstacle::proxy(format!("is not reached: {why}"));
        let mut connection = tcp(proxy_uri(proxy)?).await.map_err(unreached)?;
        if proxy.is_tls() {
            let secured = self.tls(connection, proxy.host()).await;
            connection = secured.map_err(|error| unreached(error.to_string()))?;
        }
        let mut request = Request::builder().method(Method::CONNECT).uri(&target).header(HOST, &target);
        if let Some(authorization) = &proxy.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Body::default()).map_err(|error| Obstacle::proxy(error.to_string()))?;
        let Connection { stream, remote_address, .. } = connection;
        let answer = ask(stream, request).await;
        let answer = answer.map_err(|error| Obstacle::proxy(format!("gave no answer: {error}")))?;
        if !answer.status().is_success() {
            let status = answer.status();
            return Err(Obstacle::Proxy { reason: refusal(status), status: Some(status.as_u16()) });
        }
        match hyper::upgrade::on(answer).await {
            Ok(upgraded) => {
                let stream = Box::new(TokioIo::new(upgraded));
                Ok(Connection { stream, remote_address, certificate: None })
            }
            Err(error) => Err(Obstacle::proxy(format!("broke off: {}", innermost(&error)))),
        }
    }

    async fn tls(&self, connection: Connection, host: &str) -> Result<Connection, WebError> {
        let Connection { stream, remote_address, .. } = connection;
        let config = self.tls_config()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| WebError::Settings(format!("{host:?} is no name of a server")))?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let certificate = shown.cloned().map(CertificateDer::into_owned);
                Ok(Connection { stream: Box::new(stream), remote_address, certificate })
            }
            Err(error) => Err(match distrust(&error) {
                Some(why) => WebError::Untrusted(why),
                None => WebError::Unreachable(innermost(&error)),
            }),
        }
    }
}

/// What is in the way through a proxy.
enum Obstacle {
    /// The proxy itself, for this reason; with the status that it answered, if it did.
    Proxy {
        reason: String,
        status: Option<u16>,
    },
    Other(WebError),
}

impl Obstacle {
    fn proxy(reason: String) -> Self {
        Self::Proxy { reason, status: None }
    }
}

impl From<WebError> for Obstacle {
    fn from(error: WebError) -> Self {
        Self::Other(error)
    }
}

/// What a proxy's answer to CONNECT means.
fn refusal(status: StatusCode) -> String {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "asks for a name and a password (407), or takes others than those in its address".to_owned()
        }
        status => format!("does not let it through: {status}"),
    }
}

/// One request on a connection of its own.
async fn ask(stream: Box<dyn Duplex>, request: Request<Body>) -> Result<Response<Incoming>, WebError> {
    let broken = |error: hyper::Error| WebError::Broken(innermost(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the answer's body, or hands the connection over.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(broken)
}

async fn tcp(to: Uri) -> Result<Connection, String> {
    match connector().call(to).await {
        Ok(stream) => Connection::new(stream),
        Err(error) => Err(innermost(&error)),
    }
}

impl Connection {
    fn new(stream: TokioIo<TcpStream>) -> Result<Self, String> {
        let stream = stream.into_inner();
        let remote_address = stream.peer_addr().map_err(|error| error.to_string())?;
        Ok(Self { stream: Box::new(stream), remote_address, certificate: None })
    }
}

fn proxy_uri(proxy: &Proxy) -> Result<Uri, WebError> {
    uri("http", &format!("{}:{}", proxy.host(), proxy.port()))
}

async fn socks(proxy: &Proxy, to: Uri) -> Result<Connection, Obstacle> {
    let at = proxy_uri(proxy)?;
    let failed = |why: String| Obstacle::proxy(format!("does not let it through: {why}"));
    let is_local = !proxy.scheme().ends_with(['a', 'h']);
    let connection = if proxy.scheme().starts_with("socks4") {
        let mut socks = SocksV4::new(at, connector()).local_dns(is_local);
        socks.call(to).await.map_err(|error| failed(innermost(&error)))?
    } else {
        let socks = SocksV5::new(at, connector()).local_dns(is_local);
        let mut socks = match &proxy.user {
            Some((user, password)) => socks.with_auth(user.clone(), password.clone()),
            None => socks,
        };
        socks.call(to).await.map_err(|error| failed(innermost(&error)))?
    };
    Connection::new(connection).map_err(failed)
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.enforce_http(false);
    connector
}

/// Host and port of an address; with `always` the port too where it is the scheme's own.
fn authority(url: &Url, always: bool) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = if always { url.port_or_known_default() } else { url.port() };
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn uri(scheme: &str, authority: &str) -> Result<Uri, WebError> {
    let uri = format!("{scheme}://{authority}/").parse();
    uri.map_err(|_| WebError::Settings(format!("{authority:?} is no address of a server")))
}
