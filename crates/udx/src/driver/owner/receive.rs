//! What arrives at the sockets.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use super::super::datagrams::Datagram;
use super::super::shared::Shared;
use super::Owner;
use crate::error::Error;
use crate::proto::packet::{HEADER_LEN, Header};
use crate::proto::{MAX_DATAGRAM, SocketId};

/// Receive calls for each socket and turn.
const RECEIVES: usize = 4;

impl Owner {
    /// Receives from all sockets; whether there may be more.
    pub(super) fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let mut received = std::mem::take(&mut self.received);
        let mut has_more = false;
        for index in 0..self.sockets.len() {
            let mut is_drained = false;
            for _ in 0..RECEIVES {
                let Some(socket) = self.sockets.get(index) else { break };
                let id = socket.id;
                if socket.poll_receive(cx, &mut self.pool, &mut received).is_pending() {
                    is_drained = true;
                    break;
                }
                for (slot, batch) in received.iter().enumerate() {
                    let bytes = self.pool.take(slot, batch.len);
                    for start in (0..batch.len.max(1)).step_by(batch.stride) {
                        let end = batch.len.min(start + batch.stride);
                        self.datagram(id, batch.from, &bytes, start..end);
                    }
                    self.pool.give_back(slot, bytes);
                }
                self.relay.flush(&mut self.sockets);
            }
            has_more |= !is_drained;
        }
        self.received = received;
        has_more
    }

    fn datagram(&mut self, socket: SocketId, from: SocketAddr, bytes: &Bytes, range: Range<usize>) {
        let datagram = bytes.get(range.clone()).unwrap_or_default();
        if datagram.len() > MAX_DATAGRAM {
            // Nobody of this network sends such; libudx would take its first part for the whole.
            return;
        }
        if let Some(header) = Header::decode(datagram) {
            if let Some(entry) = self.streams.get_mut(&header.stream_id) {
                if !entry.is_admitted(self.now, (socket, from), &self.sockets, &self.config) {
                    return;
                }
                if let Some(destination) = entry.relay_to.clone() {
                    let length = datagram.len();
                    if entry.meter.as_ref().is_some_and(|meter| !meter.admits(self.now, &header, length)) {
                        return;
                    }
                    self.relay_packet(&header, bytes, range, &destination);
                } else {
                    if entry.is_unheard {
                        entry.note_sender(socket, from);
                    }
                    let body = range.start + HEADER_LEN..range.end;
                    entry.stream.handle_source(self.now, socket, from, &header);
                    entry.stream.handle_packet(self.now, &header, bytes, body);
                    entry.touch(&mut self.touched);
                }
                return;
            }
            let mut answer = Vec::new();
            if let Some(remote) = self.linger.handle(self.now, &header, &mut answer) {
                if let Some(remote) = remote
                    && let Some(socket) = self.socket(remote.socket)
                {
                    socket.send_datagram(answer, remote.address, None);
                }
                return;
            }
        }
        let is_open = self.sockets.iter().any(|state| state.id == socket && !state.is_closing);
        if is_open {
            self.batch.push(Datagram { socket, from, data: bytes.slice(range) });
        }
    }

    /// Sends a packet on; it is lost if the destination is not connected.
    fn relay_packet(
        &mut self,
        header: &Header,
        bytes: &Bytes,
        range: Range<usize>,
        destination: &Arc<Shared>,
    ) {
        let remote = match self.streams.get(&destination.id) {
            Some(entry) if Arc::ptr_eq(&entry.shared, destination) => entry.stream.remote(),
            _ => None,
        };
        let Some(remote) = remote else { return };
        let is_over = self.relay.push(header, bytes, range, remote, &mut self.sockets);
        if is_over && let Some(entry) = self.streams.get_mut(&header.stream_id) {
            entry.stream.abort(Error::ConnectionReset);
            entry.touch(&mut self.touched);
        }
    }
}
