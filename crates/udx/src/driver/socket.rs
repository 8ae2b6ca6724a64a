//! The handle of a UDP socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Instance;
use super::command::Command;
use crate::proto::SocketId;

/// Raw datagrams that wait for the owner task of an instance; later ones are dropped.
const MAX_QUEUED: usize = 4096;

/// A handle of a socket. The socket stays open until [`Socket::close`] or the end of its instance.
#[derive(Debug, Clone)]
pub struct Socket {
    id: SocketId,
    local: SocketAddr,
    instance: Arc<Instance>,
}

impl Socket {
    pub(super) fn new(id: SocketId, local: SocketAddr, instance: Arc<Instance>) -> Self {
        Self { id, local, instance }
    }

    /// What datagrams and firewalls name the socket by.
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends a datagram. Never waits and never fails: like the network, it drops what does not fit.
    pub fn send(&self, data: Bytes, to: SocketAddr) {
        self.queue(data, to, None, true);
    }

    /// As [`Self::send`], and no part of the network may cut it to pieces: it shows what size gets there.
    pub fn send_whole(&self, data: Bytes, to: SocketAddr) {
        self.queue(data, to, None, false);
    }

    /// As [`Self::send`], for at most `ttl` hops.
    pub fn send_ttl(&self, data: Bytes, to: SocketAddr, ttl: u8) {
        self.queue(data, to, Some(ttl.max(1)), true);
    }

    /// Closes the socket: at once if no stream uses it, else when the last such stream is gone; it receives
    /// no raw datagrams from now on. Returns when the instance knows.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.instance.commands.send(Command::CloseSocket { socket: self.id, reply }).is_ok() {
            // An error means that the instance was closed, and the socket with it.
            let _ = answer.await;
        }
    }

    fn queue(&self, data: Bytes, to: SocketAddr, ttl: Option<u8>, may_fragment: bool) {
        if self.instance.datagrams_queued.fetch_add(1, Ordering::Relaxed) >= MAX_QUEUED {
            self.instance.datagrams_queued.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // Fails only if the instance is closed.
        let _ = self.instance.commands.send(Command::Send { socket: self.id, to, ttl, may_fragment, data });
    }
}
