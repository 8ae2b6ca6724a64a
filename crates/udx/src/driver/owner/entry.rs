//! One stream as the owner keeps it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::memory::MemoryShare;
use super::paths::PathShare;
use super::route::first_hop_mtu;
use super::socket::SocketState;
use crate::driver::Config;
use crate::driver::options::{Firewall, StreamOptions, Verdict};
use crate::driver::relay_meter::RelayMeter;
use crate::driver::shared::{Shared, SharedState, WRITE_SPARE, charge};
use crate::error::Error;
use crate::proto::{self, Framing, Remote, SocketId, StreamConfig};
use crate::time::Instant;

/// A stream that moves more often forgets the sockets it used first.
const MAX_SOCKETS: usize = 8;

pub(super) struct Entry {
    pub stream: proto::StreamMachine,
    pub shared: Arc<Shared>,
    pub firewall: Option<Firewall>,
    /// Sockets the stream is or was connected through: after a move the peer still sends to the old one.
    pub sockets: Vec<SocketId>,
    /// In the list of streams to settle.
    pub is_touched: bool,
    /// In the list of streams that may have something to send, or parked at a blocked socket.
    pub is_ready: bool,
    /// Its deadline in the timer queue.
    pub timer: Option<Instant>,
    /// Its part of what is in flight to its peer's address.
    pub share: PathShare,
    /// Its part of what streams may hold for their readers.
    pub memory: MemoryShare,
    /// Groups what is handed up, if its user wants frames.
    pub framing: Option<Framing>,
    /// Packets of a stream that is relayed to this one, from before it was connected.
    pub held: Vec<Bytes>,
    /// Its packets go on to this stream's peer.
    pub relay_to: Option<Arc<Shared>>,
    /// What counts and limits that.
    pub meter: Option<RelayMeter>,
    /// Its user ended and dropped it: when to give it up.
    pub give_up: Option<Instant>,
    /// It was moved, and nothing has come from there yet.
    pub is_unheard: bool,
}

impl Entry {
    /// A stream of this id, known to its user by `shared`.
    pub(super) fn new(id: u32, options: StreamOptions, shared: Arc<Shared>, config: &Config) -> Self {
        let stream = proto::StreamMachine::new(&StreamConfig {
            id,
            seq: options.seq,
            ack: options.ack,
            receive_window: config.receive_window,
        });
        Self {
            stream,
            shared,
            firewall: options.firewall,
            sockets: Vec::new(),
            is_touched: false,
            is_ready: false,
            timer: None,
            share: PathShare::default(),
            memory: MemoryShare::default(),
            framing: options.framed.then(Framing::default),
            held: Vec::new(),
            relay_to: None,
            meter: None,
            give_up: None,
            is_unheard: false,
        }
    }

    /// Gives a stream up; its peer is told, unless that is whom another stream's packets come from.
    pub(super) fn destroy(&mut self) {
        if self.relay_to.is_some() {
            self.stream.abort(Error::Cancelled);
        } else {
            self.stream.destroy();
        }
    }

    /// Lists the stream among those that may have something to send.
    pub(super) fn make_ready(&mut self, ready: &mut VecDeque<u32>) {
        if !self.is_ready {
            self.is_ready = true;
            ready.push_back(self.stream.id());
        }
    }

    /// Lists the stream among those to settle.
    pub(super) fn touch(&mut self, touched: &mut Vec<u32>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(self.stream.id());
        }
    }

    /// Asks the firewall about a packet from a socket that was never the stream's own.
    pub(super) fn is_admitted(
        &mut self,
        now: Instant,
        (socket, from): (SocketId, SocketAddr),
        sockets: &[SocketState],
        config: &Config,
    ) -> bool {
        if self.sockets.contains(&socket) {
            return true;
        }
        let Some(firewall) = &mut self.firewall else { return false };
        match firewall(socket, from) {
            Verdict::Refuse => false,
            Verdict::Accept => true,
            Verdict::Connect { remote_id } => {
                let mut state = self.shared.lock();
                let is_new = !state.is_connected && state.closed.is_none();
                if is_new {
                    state.is_connected = true;
                    state.remote = Some((socket, from));
                }
                drop(state);
                if is_new {
                    self.connect(Remote { socket, address: from, id: remote_id }, sockets, config);
                }
                true
            }
            Verdict::Move { remote_id } => {
                let mut state = self.shared.lock();
                if state.is_connected {
                    state.remote = Some((socket, from));
                }
                drop(state);
                self.change_remote(now, Remote { socket, address: from, id: remote_id }, sockets);
                true
            }
        }
    }

    /// Connects the stream, whose user was told that it is.
    pub(super) fn connect(&mut self, remote: Remote, sockets: &[SocketState], config: &Config) {
        let Some(remote) = reachable(remote, sockets) else {
            // The socket was closed in between.
            self.stream.destroy();
            return;
        };
        if let Some(socket) = sockets.iter().find(|socket| socket.id == remote.socket) {
            let payload = proto::FULL_PAYLOAD;
            let window = u32::try_from(socket.receive_packets() * payload).unwrap_or(u32::MAX);
            self.stream.set_receive_window(window.min(config.receive_window));
        }
        self.add_socket(remote.socket);
        // Fails only if the stream is closed, which its user learns otherwise.
        let _ = self.stream.connect(remote);
        self.look_up_route(remote.address);
        self.is_unheard = true;
    }

    /// Moves the stream, whose user was told that it is moved. If nothing came on the old path,
    /// what was sent there is not waited for.
    pub(super) fn change_remote(&mut self, now: Instant, remote: Remote, sockets: &[SocketState]) {
        if self.is_unheard {
            self.redirect(now, remote, sockets);
            let mut state = self.shared.lock();
            state.remote_changes += 1;
            state.wake_watchers();
        } else {
            self.go(remote, sockets, |stream, remote| stream.change_remote(remote));
        }
    }

    /// The same with all that is on its way.
    pub(super) fn redirect(&mut self, now: Instant, remote: Remote, sockets: &[SocketState]) {
        self.go(remote, sockets, |stream, remote| stream.redirect(now, remote));
    }

    fn go(
        &mut self,
        remote: Remote,
        sockets: &[SocketState],
        change: impl FnOnce(&mut proto::StreamMachine, Remote) -> Result<(), Error>,
    ) {
        if let Some(remote) = reachable(remote, sockets) {
            self.add_socket(remote.socket);
            // Fails only if the stream is closed, which its user learns otherwise.
            let _ = change(&mut self.stream, remote);
            self.look_up_route(remote.address);
            self.is_unheard = true;
            self.shared.lock().is_heard = false;
        }
    }

    fn look_up_route(&mut self, to: SocketAddr) {
        if let Some(bytes) = first_hop_mtu(to) {
            self.stream.set_first_hop_mtu(bytes);
            if to.ip().to_canonical().is_loopback() {
                // There is no other hop.
                self.stream.set_known_mtu(bytes);
            }
        }
    }

    /// Looks the route up again if packets seemed too large for it: routers report what they do not carry, to
    /// the system, and links change.
    pub(super) fn check_hop(&mut self) {
        if self.stream.take_hop_doubt()
            && let Some(remote) = self.stream.remote()
            && let Some(bytes) = first_hop_mtu(remote.address)
        {
            self.stream.set_first_hop_mtu(bytes);
        }
    }

    /// Notes that the peer is where the stream was connected or moved to, once a packet came from there.
    pub(super) fn note_sender(&mut self, socket: SocketId, from: SocketAddr) {
        let is_there = |remote: &Remote| {
            remote.socket == socket
                && remote.address.port() == from.port()
                && remote.address.ip().to_canonical() == from.ip().to_canonical()
        };
        if self.stream.remote().as_ref().is_some_and(is_there) {
            self.is_unheard = false;
            let mut state = self.shared.lock();
            state.is_heard = true;
            state.wake_watchers();
        }
    }

    fn add_socket(&mut self, socket: SocketId) {
        if !self.sockets.contains(&socket) {
            if self.sockets.len() == MAX_SOCKETS {
                self.sockets.remove(0);
            }
            self.sockets.push(socket);
        }
    }

    /// Moves bytes between a stream and its user.
    pub(super) fn exchange(&mut self, now: Instant) {
        let stream = &mut self.stream;
        let mut state = self.shared.lock();

        let mut has_news = false;
        let mut deliver = |state: &mut SharedState, data: Bytes| {
            if !state.is_discarding {
                state.received_bytes += charge(&data);
                state.received.push_back(data);
                has_news = true;
            }
        };
        while let Some(data) = stream.read() {
            match &mut self.framing {
                Some(framing) => framing.push(data, |data| deliver(&mut state, data)),
                None => deliver(&mut state, data),
            }
        }
        let is_over = stream.is_ended() || stream.closed().is_some();
        if is_over && let Some(rest) = self.framing.as_mut().and_then(Framing::finish) {
            deliver(&mut state, rest);
        }
        if stream.is_ended() && !state.is_ended {
            state.is_ended = true;
            has_news = true;
        }
        if has_news && let Some(waker) = state.reader.take() {
            waker.wake();
        }
        while let Some(message) = stream.read_message() {
            if state.messages.len() < proto::MAX_MESSAGES && !state.is_discarding {
                state.messages.push_back(message);
            }
            if let Some(waker) = state.message_reader.take() {
                waker.wake();
            }
        }
        stream.set_backlog(state.received_bytes);
        state.wants_window = stream.is_window_narrow();

        while let Some(data) = state.queued.pop_front() {
            // Fails only if the stream is closed, which its user learns otherwise.
            let _ = stream.write(now, data);
        }
        state.queued_bytes = 0;
        if state.is_end_written {
            stream.end(now);
        }
        let unacked = usize::try_from(stream.unacked()).unwrap_or(usize::MAX);
        let is_flushed = unacked == 0 && state.unacked > 0;
        state.unacked = unacked;
        state.limit = WRITE_SPARE + self.share.of_window(stream.send_window());
        if state.should_wake_writer()
            && let Some(waker) = state.writer.take()
        {
            waker.wake();
        }
        if let Some(remote) = stream.take_followed() {
            state.remote = Some((remote.socket, remote.address));
        }
        if stream.take_remote_changed() {
            state.remote_changes += 1;
            state.wake_watchers();
        } else if is_flushed {
            state.wake_watchers();
        }
        state.stats = stream.stats();
    }
}

/// The remote with its address in the form its socket needs.
fn reachable(remote: Remote, sockets: &[SocketState]) -> Option<Remote> {
    let socket = sockets.iter().find(|socket| socket.id == remote.socket)?;
    Some(Remote { address: socket.reachable(remote.address)?, ..remote })
}
