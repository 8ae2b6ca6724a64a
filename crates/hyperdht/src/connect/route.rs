//! How a stream reaches its peer: the first way that opens connects it. A task may find that way, or a packet
//! of the peer may open it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures_util::future::FutureExt;
use tokio::sync::watch;
use udx::{SocketId, StreamHandle, Verdict};

use super::path::ConnectionPath;

/// A stream's way to its peer. Clones are the same.
///
/// Only the first direct way is taken. A relay may come before it: then the stream connects through the relay
/// and moves to the direct way when that opens. A relay may also replace a direct way by which nothing
/// arrived.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    hook: Hook,
    stream: StreamHandle,
}

/// The part of a [`Route`] that decides about packets which come on another socket than the stream's own. It
/// is made before the stream.
#[derive(Clone, Debug)]
pub(crate) struct Hook(Arc<HookShared>);

#[derive(Debug)]
struct HookShared {
    state: watch::Sender<RouteState>,
    /// The sender of the packet that connected the stream, or moved it from a relay.
    arrival: OnceLock<Sender>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouteState {
    /// The peer's stream id is not known yet; its packets may already come.
    Early(Option<Sender>),
    /// Nothing has connected the peer's stream of this id.
    Armed(u32),
    /// Connected through a relay, which sends from there.
    Relayed { remote_id: u32, relay: Sender },
    /// Connected; the path is `None` if the peer came by itself.
    Direct { remote_id: u32, path: Option<ConnectionPath> },
}

/// Where a packet came from, and on which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub socket: SocketId,
    pub address: SocketAddr,
}

impl Hook {
    /// A hook that knows no stream id of the peer yet.
    pub(crate) fn early() -> Self {
        Self::with(RouteState::Early(None))
    }

    /// A hook that connects the stream to the first sender, as the peer's stream `remote_id`.
    pub(crate) fn armed(remote_id: u32) -> Self {
        Self::with(RouteState::Armed(remote_id))
    }

    fn with(state: RouteState) -> Self {
        Self(Arc::new(HookShared { state: watch::Sender::new(state), arrival: OnceLock::new() }))
    }

    /// The options of the stream to be made.
    pub(super) fn stream_options(&self) -> udx::StreamOptions {
        let hook = self.clone();
        let firewall: udx::Firewall =
            Box::new(move |socket, address| hook.on_packet(Sender { socket, address }));
        udx::StreamOptions { firewall: Some(firewall), ..udx::StreamOptions::default() }
    }

    fn on_packet(&self, sender: Sender) -> Verdict {
        if sender.address.port() == 0 || !sender.address.is_ipv4() {
            return Verdict::Refuse;
        }
        let mut verdict = Verdict::Accept;
        self.0.state.send_if_modified(|state| {
            let (next, decided) = match *state {
                RouteState::Early(first) => (RouteState::Early(first.or(Some(sender))), Verdict::Accept),
                RouteState::Armed(remote_id) => {
                    (RouteState::Direct { remote_id, path: None }, Verdict::Connect { remote_id })
                }
                RouteState::Relayed { relay, .. } if sender == relay => (*state, Verdict::Accept),
                RouteState::Relayed { remote_id, .. } => {
                    (RouteState::Direct { remote_id, path: None }, Verdict::Move { remote_id })
                }
                RouteState::Direct { .. } => (*state, Verdict::Accept),
            };
            if !matches!(decided, Verdict::Accept | Verdict::Refuse) {
                let _ = self.0.arrival.set(sender);
            }
            verdict = decided;
            std::mem::replace(state, next) != next
        });
        verdict
    }
}

impl Route {
    /// The route of the stream that has this hook's firewall.
    pub(crate) fn new(hook: Hook, stream: StreamHandle) -> Self {
        Self { hook, stream }
    }

    /// Control over the stream.
    pub(crate) fn stream(&self) -> &StreamHandle {
        &self.stream
    }

    /// Sets the peer's stream id. Returns the sender of the first packet that came before; it is for the
    /// caller to [take](Self::take) that way.
    pub(crate) fn arm(&self, remote_id: u32) -> Option<Sender> {
        let mut first = None;
        self.state().send_if_modified(|state| {
            let RouteState::Early(sender) = *state else { return false };
            first = sender;
            *state = RouteState::Armed(remote_id);
            true
        });
        first
    }

    /// Takes a direct way: connects the stream there, or moves it there from its relay. False if another
    /// direct way was taken before.
    pub(crate) fn take(&self, socket: &udx::Socket, to: SocketAddr, path: Option<ConnectionPath>) -> bool {
        self.state().send_if_modified(|state| {
            let (remote_id, taken) = match *state {
                RouteState::Early(_) | RouteState::Direct { .. } => return false,
                RouteState::Armed(remote_id) => (remote_id, self.stream.connect(socket, remote_id, to)),
                RouteState::Relayed { remote_id, .. } => {
                    (remote_id, self.stream.change_remote(socket, remote_id, to))
                }
            };
            // It fails only if the stream is closed, which its user learns elsewhere.
            *state = RouteState::Direct { remote_id, path };
            taken.is_ok()
        })
    }

    /// Connects the stream through a relay, whose stream for us is `relay_id` and to which `neighbour` is
    /// connected. False if the stream is connected already and something arrived by it.
    pub(crate) fn take_relay(&self, neighbour: &StreamHandle, relay_id: u32) -> bool {
        self.state().send_if_modified(|state| {
            let (remote_id, taken) = match *state {
                RouteState::Armed(remote_id) => (remote_id, self.stream.connect_beside(neighbour, relay_id)),
                RouteState::Direct { remote_id, .. } if self.stream.heard().now_or_never().is_none() => {
                    (remote_id, self.stream.redirect_beside(neighbour, relay_id))
                }
                RouteState::Early(_) | RouteState::Relayed { .. } | RouteState::Direct { .. } => {
                    return false;
                }
            };
            if taken.is_err() {
                return false;
            }
            let (Some(socket), Some(address)) = (self.stream.socket(), self.stream.remote_addr()) else {
                return false;
            };
            *state = RouteState::Relayed { remote_id, relay: Sender { socket, address } };
            true
        })
    }

    /// Whether a direct way is taken.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(*self.state().borrow(), RouteState::Direct { .. })
    }

    /// Waits until a direct way is taken.
    pub(crate) async fn direct(&self) {
        let mut state = self.state().subscribe();
        // The sender lives as long as this.
        let _ = state.wait_for(|state| matches!(state, RouteState::Direct { .. })).await;
    }

    /// The path of the stream now; `None` if it is not connected, or if the peer came by itself.
    pub(crate) fn path(&self) -> Option<ConnectionPath> {
        match *self.state().borrow() {
            RouteState::Early(_) | RouteState::Armed(_) => None,
            RouteState::Relayed { .. } => Some(ConnectionPath::Relayed),
            RouteState::Direct { path, .. } => path,
        }
    }

    /// How the peer came by itself, if it did. It is known before the stream is connected.
    pub(crate) fn arrival(&self) -> Option<Sender> {
        self.hook.0.arrival.get().copied()
    }

    /// Sets the path of a peer that came by itself.
    pub(crate) fn set_arrival_path(&self, path: ConnectionPath) {
        self.state().send_if_modified(|state| match state {
            RouteState::Direct { path: unknown @ None, .. } => {
                *unknown = Some(path);
                true
            }
            _ => false,
        });
    }

    fn state(&self) -> &watch::Sender<RouteState> {
        &self.hook.0.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        _datagrams: udx::Datagrams,
        socket: udx::Socket,
        stream: udx::Stream,
        /// A stream whose peer is a relay at port 9.
        neighbour: udx::Stream,
    }

    async fn place(hook: &Hook) -> (Place, Route) {
        let (udx, datagrams) = udx::Udx::spawn(udx::Config::default());
        let socket = udx.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let stream = udx.stream(hook.stream_options()).await.unwrap();
        let route = Route::new(hook.clone(), stream.handle());
        let neighbour = udx.stream(udx::StreamOptions::default()).await.unwrap();
        neighbour.connect(&socket, 8, at(9)).unwrap();
        (Place { _datagrams: datagrams, socket, stream, neighbour }, route)
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([8, 8, 8, 8], port))
    }

    fn sender(place: &Place, port: u16) -> Sender {
        Sender { socket: place.socket.id(), address: at(port) }
    }

    #[tokio::test]
    async fn the_first_packet_connects_and_later_ones_are_let_in() {
        let hook = Hook::armed(7);
        let (place, route) = place(&hook).await;
        assert_eq!(hook.on_packet(sender(&place, 1)), Verdict::Connect { remote_id: 7 });
        route.direct().await;
        assert_eq!((route.path(), route.stream().remote_addr()), (None, None));
        assert_eq!(route.arrival(), Some(sender(&place, 1)));
        assert!(!route.take(&place.socket, at(2), Some(ConnectionPath::Open)));
        assert_eq!(hook.on_packet(sender(&place, 2)), Verdict::Accept);
    }

    #[tokio::test]
    async fn a_packet_that_comes_before_the_id_is_known_is_remembered() {
        let hook = Hook::early();
        let (place, route) = place(&hook).await;
        assert_eq!(hook.on_packet(sender(&place, 1)), Verdict::Accept);
        assert_eq!(hook.on_packet(sender(&place, 2)), Verdict::Accept);
        assert_eq!(route.arm(7), Some(sender(&place, 1)));
        assert!(route.take(&place.socket, at(1), Some(ConnectionPath::Open)));
    }

    #[tokio::test]
    async fn whoever_takes_a_direct_way_first_connects() {
        let hook = Hook::early();
        let (place, route) = place(&hook).await;
        assert_eq!(route.arm(7), None);
        assert!(route.take(&place.socket, at(1), Some(ConnectionPath::Open)));
        assert!(!route.take(&place.socket, at(2), Some(ConnectionPath::Local)));
        assert_eq!(hook.on_packet(sender(&place, 2)), Verdict::Accept);
        assert_eq!((route.path(), route.stream().remote_addr()), (Some(ConnectionPath::Open), Some(at(1))));
    }

    #[tokio::test]
    async fn a_relay_takes_the_place_of_a_direct_way_by_which_nothing_came() {
        let hook = Hook::armed(7);
        let (place, route) = place(&hook).await;
        assert!(route.take(&place.socket, at(1), Some(ConnectionPath::Open)));
        assert!(route.take_relay(&place.neighbour.handle(), 9));
        assert_eq!((route.path(), place.stream.remote_addr()), (Some(ConnectionPath::Relayed), Some(at(9))));
        assert_eq!(hook.on_packet(sender(&place, 1)), Verdict::Move { remote_id: 7 });
    }

    #[tokio::test]
    async fn no_relay_is_taken_once_the_peer_was_heard() {
        let hook = Hook::armed(7);
        let (place, route) = place(&hook).await;
        let (udx, _datagrams) = udx::Udx::spawn(udx::Config::default());
        let socket = udx.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let peer = udx.stream(udx::StreamOptions::default()).await.unwrap();
        peer.connect(&socket, place.stream.id(), place.socket.local_addr()).unwrap();
        assert!(route.take(&place.socket, socket.local_addr(), Some(ConnectionPath::Open)));
        peer.handle().send_message(bytes::Bytes::new()).unwrap();
        route.stream().heard().await.unwrap();
        assert!(!route.take_relay(&place.neighbour.handle(), 9));
        assert_eq!(route.path(), Some(ConnectionPath::Open));
    }

    #[tokio::test]
    async fn a_relayed_stream_moves_to_the_first_direct_way() {
        let hook = Hook::armed(7);
        let (place, route) = place(&hook).await;
        assert!(route.take_relay(&place.neighbour.handle(), 9));
        assert_eq!((route.path(), place.stream.remote_addr()), (Some(ConnectionPath::Relayed), Some(at(9))));
        assert!(route.take(&place.socket, at(1), Some(ConnectionPath::Local)));
        route.direct().await;
        assert_eq!((route.path(), place.stream.remote_addr()), (Some(ConnectionPath::Local), Some(at(1))));
        assert!(!route.take(&place.socket, at(2), Some(ConnectionPath::Open)));
    }

    #[tokio::test]
    async fn a_relayed_stream_moves_to_a_peer_that_comes_and_not_to_the_relay() {
        let hook = Hook::armed(7);
        let (place, route) = place(&hook).await;
        assert!(route.take_relay(&place.neighbour.handle(), 9));
        assert_eq!(hook.on_packet(sender(&place, 9)), Verdict::Accept);
        assert_eq!(route.path(), Some(ConnectionPath::Relayed));
        assert_eq!(hook.on_packet(sender(&place, 1)), Verdict::Move { remote_id: 7 });
        assert_eq!((route.is_direct(), route.path()), (true, None));
    }

    #[tokio::test]
    async fn an_address_without_a_port_is_refused() {
        let hook = Hook::armed(7);
        let (place, _route) = place(&hook).await;
        assert_eq!(hook.on_packet(sender(&place, 0)), Verdict::Refuse);
    }
}
