//! What arrives at the sockets.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use super::Owner;
use crate::driver::datagrams::Datagram;
use crate::driver::relay_meter::Waiting;
use crate::driver::shared::Shared;
use crate::error::Error;
use crate::proto::packet::{HEADER_LEN, Header};
use crate::proto::{MAX_DATAGRAM, SocketId};

/// Packets that wait for a stream which is not connected yet: the first ones of another, which is relayed to
/// it.
const MAX_HELD: usize = 8;

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
                    let is_early =
                        entry.meter.as_ref().is_some_and(|meter| !meter.admits(self.now, &header, length));
                    let meter = if is_early { entry.meter.clone() } else { None };
                    if !entry.held.is_empty() {
                        self.send_held(header.stream_id);
                    }
                    match meter {
                        None => self.relay_packet(&header, bytes, range, &destination),
                        Some(meter) => {
                            let packet = Bytes::copy_from_slice(datagram);
                            self.pacing.hold(meter, Waiting { header, packet, destination });
                        }
                    }
                } else {
                    if entry.is_unheard {
                        entry.note_sender(socket, from);
                    }
                    let body = range.start + HEADER_LEN..range.end;
                    entry.stream.handle_source(self.now, socket, from, &header);
                    entry.stream.handle_packet(self.now, &header, bytes, body);
                    if header.flags.is_sequenced() {
                        self.memory.on_received(self.now, &mut entry.memory);
                    }
                    entry.touch(&mut self.touched);
                }
                return;
            }
            let mut answer = Vec::new();
            if let Some(remote) = self.linger.handle(self.now, &header, &mut answer) {
                if let Some(remote) = remote
                    && let Some(socket) = self.socket(remote.socket)
                {
                    socket.send_datagram(answer, remote.address, None, true);
                }
                return;
            }
        }
        let is_open = self.sockets.iter().any(|state| state.id == socket && !state.is_closing);
        if is_open {
            self.batch.push(Datagram { socket, from, data: bytes.slice(range) });
        }
    }

    /// Sends on what has waited at a meter for its turn.
    pub(super) fn pass_on(&mut self) {
        let mut pacing = std::mem::take(&mut self.pacing);
        while let Some(Waiting { header, packet, destination }) = pacing.next(self.now) {
            self.relay_packet(&header, &packet, 0..packet.len(), &destination);
        }
        self.pacing = pacing;
        self.relay.flush(&mut self.sockets);
    }

    /// Sends a packet on. The first few wait for a destination that is not connected yet: two peers whose
    /// streams are relayed to each other begin at the same time, and who is nearer begins first.
    fn relay_packet(
        &mut self,
        header: &Header,
        bytes: &Bytes,
        range: Range<usize>,
        destination: &Arc<Shared>,
    ) {
        let Some(entry) = self.streams.get_mut(&destination.id) else { return };
        if !Arc::ptr_eq(&entry.shared, destination) {
            return;
        }
        let Some(remote) = entry.stream.remote() else {
            if entry.held.len() < MAX_HELD
                && let Some(packet) = bytes.get(range)
            {
                entry.held.push(Bytes::copy_from_slice(packet));
            }
            return;
        };
        let is_over = self.relay.push(header, bytes, range, remote, &mut self.sockets);
        if is_over && let Some(entry) = self.streams.get_mut(&header.stream_id) {
            entry.stream.abort(Error::ConnectionReset);
            entry.touch(&mut self.touched);
        }
    }

    /// Sends on what has waited for the stream of that id to be connected.
    fn send_held(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        let Some(remote) = entry.stream.remote() else { return };
        for packet in std::mem::take(&mut entry.held) {
            if let Some(header) = Header::decode(&packet) {
                self.relay.push(&header, &packet, 0..packet.len(), remote, &mut self.sockets);
            }
        }
    }
}
