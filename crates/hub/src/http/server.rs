//! The accept loop: how many connections there are at once, how long each may take, and how they end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::connections::{Network, NoPlace, Place};
use super::stream::PatientStream;
use super::{App, Ends, router};
use crate::metrics::Limit;
use crate::tls::Tls;
use crate::tunnel::Duplex;

/// How long a connection may take to send the head of a request, the wait for the next one included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a request's head, and of what is read ahead of a body.
const MAX_HEAD: usize = 64 * 1024;
/// How long a connection may take to begin TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted: the system lacks files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections that have no place are told so at once, and how long each of them may take to hear
/// it; more are closed without a word.
const MAX_TURNED_AWAY: usize = 32;
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts and serves connections until the hub shuts down.
pub(crate) async fn serve(listener: TcpListener, tls: Option<Tls>, app: Arc<App>, connections: TaskTracker) {
    let router = router(app.clone());
    let turning_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.shutdown.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("the hub cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let address = peer.ip().to_canonical();
        match app.places.take(Network::from(address), app.whence.is_proxy(address)) {
            Ok(place) => {
                let (tls, router, app) = (tls.clone(), router.clone(), app.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, peer, tls, router, &app, place).await {
                        tracing::debug!(%peer, "hub connection: {error}");
                    }
                });
            }
            Err(why) => {
                app.metrics.refused(Limit::Connections);
                tracing::info!(%peer, ?why, "a connection is turned away");
                if let Ok(permit) = turning_away.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = timeout(TURN_AWAY_TIMEOUT, turn_away(stream, why)).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    app: &App,
    place: Arc<Place>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let ends = Ends { peer, local: stream.local_addr()?, is_encrypted: tls.is_some() };
    let served = async {
        match tls {
            None => converse(stream, ends, router, app, &place).await,
            Some(tls) => {
                let stream = timeout(HANDSHAKE_TIMEOUT, encrypt(stream, &tls)).await??;
                converse(stream, ends, router, app, &place).await
            }
        }
    };
    tokio::select! {
        done = served => done,
        () = place.lost().cancelled() => Ok(()),
        () = app.abort.cancelled() => Ok(()),
    }
}

/// Begins TLS. Who speaks plain HTTP is told.
async fn encrypt(mut stream: TcpStream, tls: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0].is_ascii_uppercase() {
        refuse(&mut stream, "400 Bad Request", "this hub speaks TLS: its URL is an https:// one").await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP"));
    }
    tls.acceptor().accept(stream).await
}

/// Speaks HTTP over a stream.
async fn converse<S>(stream: S, ends: Ends, router: Router, app: &App, place: &Arc<Place>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ends);
        request.extensions_mut().insert(place.clone());
        let in_use = place.in_use();
        let response = router.call(request);
        async move {
            let response = response.await.unwrap_or_else(|never| match never {});
            drop(in_use);
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(PatientStream::new(stream)), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let done = tokio::select! {
        done = serving.as_mut() => done,
        () = app.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    done.map_err(io::Error::other)
}

/// The stream of a connection that speaks HTTP no longer, and what was read of it already. Its other side may
/// take its time to read.
pub(super) fn stream_of(upgraded: Upgraded) -> Option<(Box<dyn Duplex>, Vec<u8>)> {
    fn taken<S: Duplex + 'static>(parts: Parts<TokioIo<PatientStream<S>>>) -> (Box<dyn Duplex>, Vec<u8>) {
        (Box::new(parts.io.into_inner().into_inner()), parts.read_buf.into())
    }
    // One of what [`converse`] is called with.
    match upgraded.downcast::<TokioIo<PatientStream<TcpStream>>>() {
        Ok(parts) => Some(taken(parts)),
        Err(upgraded) => upgraded.downcast().ok().map(taken::<TlsStream<TcpStream>>),
    }
}

/// Says that there is no place.
async fn turn_away(mut stream: TcpStream, why: NoPlace) -> io::Result<()> {
    let (status, message) = match why {
        NoPlace::Share => ("429 Too Many Requests", "your address holds as many connections as it may"),
        NoPlace::Full => ("503 Service Unavailable", "the hub holds as many connections as it can"),
    };
    refuse(&mut stream, status, message).await
}

/// Answers without having read what was asked, and waits until that was read: a close at once might destroy
/// the answer.
async fn refuse(stream: &mut TcpStream, status: &str, message: &str) -> io::Result<()> {
    let body = serde_json::json!({ "error": message }).to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: 5\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
