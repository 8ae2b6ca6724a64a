//! The race for a connection: a direct way to the peer is looked for, and a relay helps where that takes long
//! or fails (spec/connect.md §9).

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use secret_stream::PublicKey;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::error::ConnectError;
use super::payload::RelayThrough;
use super::route::Route;
use crate::relay::link::RelayLink;
use crate::relay::message::Pair;

/// How long a direct way may take before the relay is asked: most connections never need one. If no direct
/// way is left, the relay is asked at once.
const HEAD_START: Duration = Duration::from_secs(1);

/// How often the peer is told that the stream has moved, until something of it arrives: a packet may be lost.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// How long a relay is kept after both have moved, because what the peer sent before still comes through it.
const GRACE: Duration = Duration::from_secs(3);

/// How long what looks for a direct way may take to notice that the peer came by itself: it may be opening a
/// socket.
const END_LIMIT: Duration = Duration::from_millis(50);

/// What is under way to connect a stream.
pub(super) struct Race {
    finding: Option<BoxFuture<'static, Result<(), ConnectError>>>,
    relaying: Option<BoxFuture<'static, Result<RelayLink, ConnectError>>>,
    /// The relay is asked at this time at the latest.
    relay_from: Instant,
}

/// A relay that both peers know, and our side of the pair there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreement {
    pub relay: PublicKey,
    pub token: [u8; 32],
    pub is_initiator: bool,
}

impl Agreement {
    /// The relay for two peers: the server's if it named one, else the client's.
    pub(super) fn new(
        server: Option<RelayThrough>,
        client: Option<RelayThrough>,
        we_are_server: bool,
    ) -> Option<Self> {
        let (named, is_servers) = server.map(|named| (named, true)).or(client.map(|named| (named, false)))?;
        let RelayThrough { public_key: relay, token } = named;
        Some(Self { relay, token, is_initiator: is_servers == we_are_server })
    }

    /// What the relay is told of our stream of this id.
    pub(super) fn pair(&self, stream: u32) -> Pair {
        Pair { is_initiator: self.is_initiator, token: self.token, stream }
    }
}

impl Race {
    /// `finding` looks for a direct way and takes it, or fails; `None` if there is to be none. `relaying`
    /// asks a relay, if there is one.
    pub(super) fn new(
        finding: Option<BoxFuture<'static, Result<(), ConnectError>>>,
        relaying: Option<BoxFuture<'static, Result<RelayLink, ConnectError>>>,
    ) -> Self {
        let wait = if finding.is_some() { HEAD_START } else { Duration::ZERO };
        Self { finding, relaying, relay_from: Instant::now() + wait }
    }

    /// A race in which a direct way was taken already: the relay helps if nothing arrives by it.
    pub(super) fn won(relaying: Option<BoxFuture<'static, Result<RelayLink, ConnectError>>>) -> Self {
        Self { finding: None, relaying, relay_from: Instant::now() + HEAD_START }
    }

    /// Waits until the stream is connected. If a relay connects it, returns the link to that relay.
    ///
    /// # Errors
    /// Why the direct way failed, once the relay has failed too.
    pub(super) async fn first(&mut self, route: &Route) -> Result<Option<RelayLink>, ConnectError> {
        let mut failure = None;
        loop {
            if self.finding.is_none() && self.relaying.is_none() && !route.is_direct() {
                return Err(failure.unwrap_or(ConnectError::PeerConnectionFailed));
            }
            tokio::select! {
                biased;
                // First, because it may know the path by which the peer came.
                result = poll(&mut self.finding), if self.finding.is_some() => {
                    self.finding = None;
                    if let Err(error) = result {
                        failure = Some(error);
                        self.relay_from = Instant::now();
                    }
                }
                () = route.direct() => {
                    if let Some(finding) = self.finding.take() {
                        let _ = timeout(END_LIMIT, finding).await;
                    }
                    return Ok(None);
                }
                result = poll_from(self.relay_from, &mut self.relaying), if self.relaying.is_some() => {
                    self.relaying = None;
                    match result {
                        Ok(link) if route.take_relay(link.neighbour(), link.stream()) => {
                            return Ok(Some(link));
                        }
                        Ok(_) => {}
                        Err(error) => failure = failure.or(Some(error)),
                    }
                }
            }
        }
    }

    /// Watches a direct way that was taken because the peer said that it is open: the relay replaces it if
    /// nothing arrives by it.
    pub(super) async fn watch(self, route: Route) {
        let Some(relaying) = self.relaying else { return };
        let relayed = async {
            sleep_until(self.relay_from).await;
            relaying.await
        };
        let link = tokio::select! {
            biased;
            // Fails if the stream is closed; then no relay is needed either.
            _ = route.stream().heard() => return,
            relayed = relayed => match relayed {
                Ok(link) => link,
                Err(error) => return debug!(%error, "nothing comes by a direct way, nor is there a relay"),
            }
        };
        if route.take_relay(link.neighbour(), link.stream()) {
            debug!("nothing came by a direct way, which a relay takes the place of");
            hold_relay(link, route).await;
        }
    }

    /// Goes on looking for a direct way, until there is one or the stream is closed.
    pub(super) async fn keep_looking(self, route: Route) {
        let Some(mut finding) = self.finding else { return };
        tokio::select! {
            biased;
            result = &mut finding => debug!(?result, "no longer looking for a direct way"),
            () = route.direct() => {
                let _ = timeout(END_LIMIT, finding).await;
            }
            _ = route.stream().closed() => {}
        }
    }
}

/// Keeps a relayed stream connected for as long as it needs the relay.
pub(super) async fn hold_relay(mut link: RelayLink, route: Route) {
    let stream = route.stream();
    tokio::select! {
        _ = stream.closed() => return,
        () = link.lost() => {
            if !route.is_direct() {
                debug!("a relay is gone, and with it a connection");
                stream.destroy();
            }
            return;
        }
        () = route.direct() => {}
    }
    tokio::select! {
        _ = stream.closed() => {}
        () = link.lost() => {}
        () = confirmed(stream) => link.end().await,
    }
}

/// Waits until both peers use the direct way, and until everything sent before has arrived or is lost.
async fn confirmed(stream: &udx::StreamHandle) {
    // It fails only if the stream is closed, which the caller sees.
    let _ = stream.remote_changed(0).await;
    loop {
        // JavaScript peers wait for this, or for the next data.
        let _ = stream.send_message(Bytes::new());
        if timeout(CONFIRM_INTERVAL, stream.heard()).await.is_ok() {
            break;
        }
    }
    sleep(GRACE).await;
}

async fn poll<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The same, from then on.
async fn poll_from<T>(start: Instant, future: &mut Option<BoxFuture<'static, T>>) -> T {
    sleep_until(start).await;
    poll(future).await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures_util::future::FutureExt;
    use tokio::task::yield_now;

    use super::super::path::ConnectionPath;
    use super::super::route::Hook;
    use super::*;

    #[tokio::test]
    async fn the_path_of_a_peer_that_came_by_itself_is_known_when_the_race_is_over() {
        let (udx, _datagrams) = udx::Udx::spawn(udx::Config::default());
        let socket = udx.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let peer = SocketAddr::from(([8, 8, 8, 8], 1));
        for is_first in [true, false] {
            let hook = Hook::armed(7);
            let stream = udx.stream(hook.stream_options()).await.unwrap();
            let route = Route::new(hook, stream.handle());
            let finding = {
                let route = route.clone();
                async move {
                    route.direct().await;
                    // It was about something else.
                    yield_now().await;
                    route.set_arrival_path(ConnectionPath::Punched);
                    Ok(())
                }
            };
            let mut race = Race::new(Some(finding.boxed()), None);
            assert!(route.take(&socket, peer, None));
            match is_first {
                true => assert!(race.first(&route).await.is_ok_and(|relay| relay.is_none())),
                false => race.keep_looking(route.clone()).await,
            }
            assert_eq!(route.path(), Some(ConnectionPath::Punched));
        }
    }

    #[test]
    fn the_servers_relay_counts_and_its_owner_is_the_initiator() {
        let named = |key| Some(RelayThrough { public_key: [key; 32], token: [key; 32] });
        let side = |server, client, we_are_server| {
            Agreement::new(server, client, we_are_server).map(|a| (a.relay[0], a.token[0], a.is_initiator))
        };
        assert_eq!(side(named(1), named(2), true), Some((1, 1, true)));
        assert_eq!(side(named(1), named(2), false), Some((1, 1, false)));
        assert_eq!(side(None, named(2), true), Some((2, 2, false)));
        assert_eq!(side(None, named(2), false), Some((2, 2, true)));
        assert_eq!(side(None, None, false), None);
    }
}
