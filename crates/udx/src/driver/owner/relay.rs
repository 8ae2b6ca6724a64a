//! Blind relaying (spec §12): a stream's packets go on to another stream's peer, with only the id exchanged.

use std::ops::Range;

use bytes::Bytes;

use super::socket::SocketState;
use crate::proto::packet::{Flags, Header};
use crate::proto::{Remote, Transmit};

/// Where the stream id lies in a packet.
const ID: Range<usize> = 4..8;

/// Most bytes gathered for one send.
const MAX_BATCH: usize = 64_000;

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
