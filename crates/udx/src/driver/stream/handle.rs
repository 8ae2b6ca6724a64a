//! Control over a stream.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use crate::driver::Socket;
use crate::driver::command::{Command, StreamCommand};
use crate::driver::relay_meter::RelayMeter;
use crate::driver::shared::Shared;
use crate::error::Error;
use crate::proto::{Remote, SocketId, Stats};

/// Control over a stream from anywhere; does not keep it open.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: UnboundedSender<Command>,
}

impl StreamHandle {
    /// The id that packets to the stream carry.
    pub fn id(&self) -> u32 {
        self.shared.id
    }

    /// Names the other end. What the stream received so far is acknowledged; nothing else is sent by this.
    ///
    /// # Errors
    /// [`Error::AlreadyConnected`], [`Error::InvalidAddress`], or why the stream is closed.
    pub fn connect(&self, socket: &Socket, remote_id: u32, to: SocketAddr) -> Result<(), Error> {
        self.connect_to(remote(socket, remote_id, to)?)
    }

    /// Names the other end as [`Self::connect`] does: another stream of the peer that `neighbour`, a stream
    /// of the same instance, is connected to, reached by the same socket.
    ///
    /// # Errors
    /// [`Error::NotConnected`] if `neighbour` is not; else as [`Self::connect`].
    pub fn connect_beside(&self, neighbour: &Self, remote_id: u32) -> Result<(), Error> {
        let (socket, address) = neighbour.shared.lock().remote.ok_or(Error::NotConnected)?;
        self.connect_to(Remote { socket, address, id: remote_id })
    }

    /// Redirects a connected stream to the peer of `neighbour`, as [`Self::connect_beside`] names it, with
    /// all that is in flight: for when nothing came on the path taken before.
    ///
    /// # Errors
    /// [`Error::NotConnected`] if either is not, or why the stream is closed.
    pub fn redirect_beside(&self, neighbour: &Self, remote_id: u32) -> Result<(), Error> {
        let (socket, address) = neighbour.shared.lock().remote.ok_or(Error::NotConnected)?;
        self.set_remote(socket, address)?;
        self.command(StreamCommand::Redirect(Remote { socket, address, id: remote_id }));
        Ok(())
    }

    /// Moves the stream to another path: what was not yet sent goes there; packets on their way keep the old
    /// one, also when repeated. [`Self::remote_changed`] tells when all of those are acknowledged.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::InvalidAddress`], or why the stream is closed.
    pub fn change_remote(&self, socket: &Socket, remote_id: u32, to: SocketAddr) -> Result<(), Error> {
        let remote = remote(socket, remote_id, to)?;
        self.set_remote(socket.id(), to)?;
        self.command(StreamCommand::ChangeRemote(remote));
        Ok(())
    }

    /// How many changes of the remote have completed, once that is more than `seen`.
    ///
    /// # Errors
    /// Why the stream is closed.
    pub async fn remote_changed(&self, seen: u64) -> Result<u64, Error> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.remote_changes > seen {
                return Poll::Ready(Ok(state.remote_changes));
            }
            if let Err(error) = check_open(state.closed) {
                return Poll::Ready(Err(error));
            }
            state.watchers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until a packet came from where the stream was connected, or moved to last: the peer sends there
    /// too.
    ///
    /// # Errors
    /// Why the stream is closed.
    pub async fn heard(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.is_heard {
                return Poll::Ready(Ok(()));
            }
            if let Err(error) = check_open(state.closed) {
                return Poll::Ready(Err(error));
            }
            state.watchers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Sends a heartbeat whenever the stream was idle for this long, which keeps NAT mappings open. `None`,
    /// the start, for never. A peer's silence is no error.
    pub fn set_keepalive(&self, interval: Option<Duration>) {
        let interval = interval.map(|interval| u64::try_from(interval.as_micros()).unwrap_or(u64::MAX));
        self.command(StreamCommand::Keepalive(interval));
    }

    /// Lets the peer send no more than so many bytes ahead of the reader: for one that reads slowly on
    /// purpose. What the peer was told before still counts. `None`, the start, for as many as the path is
    /// worth.
    pub fn set_receive_limit(&self, bytes: Option<u32>) {
        self.command(StreamCommand::ReceiveLimit(bytes.unwrap_or(u32::MAX)));
    }

    /// Where packets go now, once connected.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.shared.lock().remote.map(|(_, address)| address)
    }

    /// The socket that packets go by now, once connected.
    pub fn socket(&self) -> Option<SocketId> {
        self.shared.lock().remote.map(|(socket, _)| socket)
    }

    /// Whether the stream was connected, by its user or its firewall.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().is_connected
    }

    /// Counters and estimates, as of the last packets.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats
    }

    /// Sends one unordered message: it may be lost, and must fit one packet.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::MessageTooLarge`], or why the stream is closed.
    pub fn send_message(&self, message: Bytes) -> Result<(), Error> {
        let state = self.shared.lock();
        check_open(state.closed)?;
        if !state.is_connected {
            return Err(Error::NotConnected);
        }
        if message.len() > crate::proto::SAFE_MESSAGE {
            return Err(Error::MessageTooLarge);
        }
        drop(state);
        self.command(StreamCommand::Message(message));
        Ok(())
    }

    /// From now on, sends what arrives for this stream on to the peer of `destination`, a stream of the same
    /// instance, with nothing changed but the stream id: the two peers then talk to each other, without
    /// knowing it. It ends with either stream. A meter counts and limits it.
    pub fn relay_to(&self, destination: &Self, meter: Option<RelayMeter>) {
        self.command(StreamCommand::RelayTo(destination.shared.clone(), meter));
    }

    /// Gives the stream up at once, and tells the peer. Unread data is still readable, unsent data is
    /// dropped.
    pub fn destroy(&self) {
        self.command(StreamCommand::Destroy);
    }

    /// Waits until the stream is closed: both sides ended it and know so, or it failed.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn closed(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            match state.closed {
                Some(result) => Poll::Ready(result),
                None => {
                    state.watchers.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Notes where a connected stream goes from now on.
    fn set_remote(&self, socket: SocketId, to: SocketAddr) -> Result<(), Error> {
        let mut state = self.shared.lock();
        check_open(state.closed)?;
        if !state.is_connected {
            return Err(Error::NotConnected);
        }
        state.remote = Some((socket, to));
        state.is_heard = false;
        Ok(())
    }

    fn connect_to(&self, remote: Remote) -> Result<(), Error> {
        let mut state = self.shared.lock();
        check_open(state.closed)?;
        if state.is_connected {
            return Err(Error::AlreadyConnected);
        }
        state.is_connected = true;
        state.remote = Some((remote.socket, remote.address));
        drop(state);
        self.command(StreamCommand::Connect(remote));
        Ok(())
    }

    /// Tells the owner that there is something new in the shared state, once until it looks.
    pub(super) fn notify(&self) {
        if self.shared.set_dirty() {
            self.send(Command::Dirty(self.shared.clone()));
        }
    }

    pub(super) fn command(&self, command: StreamCommand) {
        self.send(Command::Stream(self.shared.clone(), command));
    }

    fn send(&self, command: Command) {
        // Fails only if the owner has ended, which `closed` tells.
        let _ = self.commands.send(command);
    }
}

fn remote(socket: &Socket, id: u32, address: SocketAddr) -> Result<Remote, Error> {
    let is_mapped = match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_some(),
    };
    if address.port() == 0 || (socket.local_addr().is_ipv4() && !is_mapped) {
        return Err(Error::InvalidAddress);
    }
    Ok(Remote { socket: socket.id(), address, id })
}

fn check_open(closed: Option<Result<(), Error>>) -> Result<(), Error> {
    match closed {
        None => Ok(()),
        Some(Ok(())) => Err(Error::Cancelled),
        Some(Err(error)) => Err(error),
    }
}
