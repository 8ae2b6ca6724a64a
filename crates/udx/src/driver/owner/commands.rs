//! What handles ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use super::entry::Entry;
use super::socket::SocketState;
use super::{COMMANDS, Owner};
use crate::driver::command::{Command, StreamCommand};
use crate::driver::options::StreamOptions;
use crate::driver::shared::Shared;
use crate::error::Error;
use crate::proto::SocketId;
use crate::time::{Micros, SECOND};

/// How long a stream that its user ended and dropped waits for the peer's END.
pub(super) const HALF_CLOSED: Micros = 60 * SECOND;

/// Sockets of all instances are told apart, so that one cannot be used with another instance's streams by
/// mistake.
static NEXT_SOCKET: AtomicU32 = AtomicU32::new(0);

/// Streams of one instance; ids are random, and must stay easy to find.
const MAX_STREAMS: usize = 1 << 20;

impl Owner {
    /// Handles commands; whether there may be more.
    pub(super) fn take_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut inbox = std::mem::take(&mut self.inbox);
        let taken = match self.commands.poll_recv_many(cx, &mut inbox, COMMANDS) {
            Poll::Ready(taken) => taken,
            Poll::Pending => 0,
        };
        for command in inbox.drain(..) {
            self.command(command);
        }
        self.inbox = inbox;
        taken > 0
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Bind { address, reply } => {
                let id = SocketId(NEXT_SOCKET.fetch_add(1, Ordering::Relaxed));
                let result = SocketState::bind(id, address, &self.config).map(|socket| {
                    let local = socket.local;
                    self.sockets.push(socket);
                    (id, local)
                });
                // A caller that gave up leaves a socket that nobody can use.
                if reply.send(result).is_err() {
                    self.sockets.retain(|socket| socket.id != id);
                }
            }
            Command::CloseSocket { socket, reply } => {
                if let Some(socket) = self.socket(socket) {
                    socket.is_closing = true;
                }
                self.close_idle_sockets();
                let _ = reply.send(());
            }
            Command::Send { socket, to, ttl, may_fragment, data } => {
                self.datagrams_queued.fetch_sub(1, Ordering::Relaxed);
                if let Some(socket) = self.socket(socket) {
                    socket.send_datagram(data.into(), to, ttl, may_fragment);
                }
            }
            Command::Open { options, reply } => {
                let opened = self.open(options);
                if let Err(Ok(shared)) = reply.send(opened) {
                    self.streams.remove(&shared.id);
                }
            }
            Command::Dirty(shared) => {
                shared.clear_dirty();
                self.touch_if_live(&shared);
            }
            Command::Stream(shared, command) => self.stream_command(&shared, command),
            Command::Abandon => self.is_abandoned = true,
            Command::Close { reply } => {
                self.closing = Some(reply);
                for entry in self.streams.values_mut() {
                    entry.destroy();
                    entry.touch(&mut self.touched);
                }
            }
        }
    }

    fn open(&mut self, options: StreamOptions) -> Result<Arc<Shared>, Error> {
        if self.closing.is_some() || self.streams.len() >= MAX_STREAMS {
            return Err(Error::Closed);
        }
        let id = match options.id {
            Some(id) if self.streams.contains_key(&id) => return Err(Error::IdInUse),
            Some(id) => id,
            None => loop {
                let id = rand::random();
                if !self.streams.contains_key(&id) && !self.linger.contains(id) {
                    break id;
                }
            },
        };
        self.linger.remove(id);
        let shared = Shared::new(id);
        let entry = Entry::new(id, options, shared.clone(), &self.config);
        self.streams.insert(id, entry);
        Ok(shared)
    }

    fn stream_command(&mut self, shared: &Arc<Shared>, command: StreamCommand) {
        let Some(entry) = self.streams.get_mut(&shared.id) else { return };
        if !Arc::ptr_eq(&entry.shared, shared) {
            return;
        }
        match command {
            StreamCommand::Connect(remote) => entry.connect(remote, &self.sockets, &self.config),
            StreamCommand::ChangeRemote(remote) => entry.change_remote(self.now, remote, &self.sockets),
            StreamCommand::Redirect(remote) => entry.redirect(self.now, remote, &self.sockets),
            StreamCommand::Keepalive(interval) => entry.stream.set_keepalive(self.now, interval),
            StreamCommand::ReceiveLimit(bytes) => entry.stream.set_receive_limit(bytes),
            // Too large for the path as known now: dropped, as the path would.
            StreamCommand::Message(message) => drop(entry.stream.send_message(message)),
            StreamCommand::Destroy => entry.destroy(),
            StreamCommand::RelayTo(destination, meter) => {
                self.relays += usize::from(entry.relay_to.is_none());
                entry.relay_to = Some(destination);
                entry.meter = meter;
            }
            StreamCommand::Drop => {
                let mut state = entry.shared.lock();
                state.is_discarding = true;
                state.received.clear();
                state.received_bytes = 0;
                let is_ended = state.is_end_written;
                drop(state);
                if is_ended {
                    entry.give_up = Some(self.now + HALF_CLOSED);
                } else {
                    entry.destroy();
                }
            }
        }
        entry.touch(&mut self.touched);
    }

    fn touch_if_live(&mut self, shared: &Arc<Shared>) {
        if let Some(entry) = self.streams.get_mut(&shared.id)
            && Arc::ptr_eq(&entry.shared, shared)
        {
            entry.touch(&mut self.touched);
        }
    }
}
