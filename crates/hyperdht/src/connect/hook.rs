//! Who comes first: the packet that connects a stream, or the task that connects it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use udx::{SocketId, Verdict};

/// Shared by a stream's firewall hook, which udx calls for packets that come on another socket
/// than the stream's own, and the task that looks for a way to connect it. Only the first of
/// them connects the stream.
#[derive(Clone, Debug)]
pub struct Hook(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The peer's stream id is not known yet; its packets may already come.
    Early(Option<Sender>),
    /// The first packet of this peer's stream connects.
    Armed(u32),
    /// Connected, by a packet or by the task.
    Taken,
}

/// Where a packet came from, and on which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub socket: SocketId,
    pub address: SocketAddr,
}

impl Hook {
    /// A hook that knows no stream id of the peer yet.
    pub fn early() -> Self {
        Self::with(State::Early(None))
    }

    /// A hook that connects to `remote_id` at whoever sends first.
    pub fn armed(remote_id: u32) -> Self {
        Self::with(State::Armed(remote_id))
    }

    fn with(state: State) -> Self {
        Self(Arc::new(Shared { state: Mutex::new(state), arrived: Notify::new() }))
    }

    /// The function to give to the stream.
    pub fn firewall(&self) -> udx::Firewall {
        let hook = self.clone();
        Box::new(move |socket, address| hook.on_packet(Sender { socket, address }))
    }

    /// Makes the stream id known. If packets came before, who sent the first: the stream is
    /// for the caller to connect there.
    pub fn arm(&self, remote_id: u32) -> Option<Sender> {
        let mut state = self.lock();
        match *state {
            State::Early(Some(first)) => {
                *state = State::Taken;
                Some(first)
            }
            State::Early(None) => {
                *state = State::Armed(remote_id);
                None
            }
            State::Armed(_) | State::Taken => None,
        }
    }

    /// Whether the caller may connect the stream: true once, and only if no packet has.
    pub fn claim(&self) -> bool {
        let mut state = self.lock();
        let free = *state != State::Taken;
        *state = State::Taken;
        free
    }

    /// Waits until a packet has connected the stream.
    pub async fn connected(&self) {
        self.0.arrived.notified().await;
    }

    fn on_packet(&self, sender: Sender) -> Verdict {
        if sender.address.port() == 0 || !sender.address.is_ipv4() {
            return Verdict::Refuse;
        }
        let mut state = self.lock();
        match *state {
            State::Early(first) => {
                *state = State::Early(first.or(Some(sender)));
                Verdict::Accept
            }
            State::Armed(remote_id) => {
                *state = State::Taken;
                self.0.arrived.notify_one();
                Verdict::Connect { remote_id }
            }
            State::Taken => Verdict::Accept,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet from that port.
    async fn sender(port: u16) -> Sender {
        let (udx, _datagrams) = udx::Udx::spawn(udx::Config::default());
        let socket = udx.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Sender { socket: socket.id(), address: SocketAddr::from(([8, 8, 8, 8], port)) }
    }

    #[tokio::test]
    async fn the_first_packet_connects_and_later_ones_are_let_in() {
        let hook = Hook::armed(7);
        assert!(matches!(hook.on_packet(sender(1).await), Verdict::Connect { remote_id: 7 }));
        hook.connected().await;
        assert!(!hook.claim());
        assert!(matches!(hook.on_packet(sender(2).await), Verdict::Accept));
    }

    #[tokio::test]
    async fn a_packet_that_comes_before_the_id_is_known_is_remembered() {
        let hook = Hook::early();
        let (first, second) = (sender(1).await, sender(2).await);
        assert!(matches!(hook.on_packet(first), Verdict::Accept));
        assert!(matches!(hook.on_packet(second), Verdict::Accept));
        assert_eq!(hook.arm(7), Some(first));
        assert!(!hook.claim());
    }

    #[tokio::test]
    async fn whoever_claims_first_connects() {
        let hook = Hook::early();
        assert_eq!(hook.arm(7), None);
        assert!(hook.claim());
        assert!(!hook.claim());
        assert!(matches!(hook.on_packet(sender(1).await), Verdict::Accept));
    }

    #[tokio::test]
    async fn an_address_without_a_port_is_refused() {
        assert!(matches!(Hook::armed(7).on_packet(sender(0).await), Verdict::Refuse));
    }
}
