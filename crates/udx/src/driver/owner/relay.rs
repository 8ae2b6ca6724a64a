//! Blind relaying (spec §12): a stream's packets go on to another stream's peer, with only the id exchanged.

use std::ops::Range;

use bytes::Bytes;

use super::socket::SocketState;
use crate::driver::relay_meter::{RelayMeter, Waiting};
use crate::proto::packet::{Flags, Header};
use crate::proto::{Remote, Transmit};
use crate::time::Instant;

/// Where the stream id lies in a packet.
const ID: Range<usize> = 4..8;

/// Most bytes gathered for one send.
const MAX_BATCH: usize = 64_000;

/// What waits at all meters of an instance at most, in bytes. A meter may hold as much of it as is left for
/// others, so that none fills it alone.
const MAX_HELD: usize = 32 << 20;

/// The meters at which packets wait for their turn.
#[derive(Debug, Default)]
pub(super) struct RelayPacing {
    meters: Vec<RelayMeter>,
    /// Bytes that wait at all of them.
    held: usize,
}

impl RelayPacing {
    /// Keeps a packet until its meter lets it pass; without room for it, it is lost.
    pub(super) fn hold(&mut self, meter: RelayMeter, waiting: Waiting) {
        let length = waiting.packet.len();
        if !meter.hold(waiting, MAX_HELD.saturating_sub(self.held)) {
            return;
        }
        self.held += length;
        if !self.meters.iter().any(|known| known.is(&meter)) {
            self.meters.push(meter);
        }
    }

    /// The next packet whose turn has come.
    pub(super) fn next(&mut self, now: Instant) -> Option<Waiting> {
        let waiting = self.meters.iter().find_map(|meter| meter.next(now));
        match &waiting {
            Some(waiting) => self.held -= waiting.packet.len(),
            None => self.meters.retain(|meter| meter.next_turn().is_some()),
        }
        waiting
    }

    /// When the turn of the next one comes.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        self.meters.iter().filter_map(RelayMeter::next_turn).min()
    }
}

/// Packets on their way out, gathered as long as they go to the same place and are of one size.
#[derive(Debug, Default)]
pub(super) struct RelayBatch {
    remote: Option<Remote>,
    segment: usize,
    /// A shorter packet was added, which only the last may be.
    is_full: bool,
    segments: usize,
    data: Vec<u8>,
}

impl RelayBatch {
    /// Adds a packet for `remote`; what was gathered for others is sent before. True if it ends the stream.
    pub(super) fn push(
        &mut self,
        header: &Header,
        bytes: &Bytes,
        range: Range<usize>,
        remote: Remote,
        sockets: &mut [SocketState],
    ) -> bool {
        let Some(packet) = bytes.get(range) else { return false };
        let segments =
            sockets.iter().find(|socket| socket.id == remote.socket).map_or(1, SocketState::segments);
        let fits = self.remote == Some(remote)
            && !self.is_full
            && self.segments < segments
            && packet.len() <= self.segment
            && self.data.len() + packet.len() <= MAX_BATCH;
        if !fits {
            self.flush(sockets);
            self.remote = Some(remote);
            self.segment = packet.len();
            self.is_full = false;
            self.segments = 0;
        }
        self.is_full |= packet.len() < self.segment;
        self.segments += 1;
        let start = self.data.len();
        self.data.extend_from_slice(packet);
        if let Some(id) = self.data.get_mut(start + ID.start..start + ID.end) {
            id.copy_from_slice(&remote.id.to_le_bytes());
        }
        header.flags.intersects(Flags::DESTROY)
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self, sockets: &mut [SocketState]) {
        let Some(remote) = self.remote.take() else { return };
        if let Some(socket) = sockets.iter_mut().find(|socket| socket.id == remote.socket) {
            let transmit = Transmit {
                socket: remote.socket,
                to: remote.address,
                segment: self.segment,
                may_fragment: false,
            };
            socket.send_batch(&transmit, &mut self.data);
        }
        self.data.clear();
    }
}
