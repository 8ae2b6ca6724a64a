//! What the stream has to send.

use std::net::SocketAddr;

use super::super::congestion::{Controller, Phase};
use super::super::mtu::overhead;
use super::super::outstanding::{PacketState, SentPacket};
use super::super::packet::{
    Flags, HEADER_LEN, Header, MAX_SACK_BLOCKS, SACK_BLOCK_LEN, SAFE_SACK_BLOCKS, encode_sack,
};
use super::{End, Error, Life, Remote, SocketId, StreamMachine, first_capacity};
use crate::time::Instant;

/// Most bytes of one segmented send: what an IPv4 packet can hold less its headers.
const MAX_BATCH: usize = 65_507;

/// Full packets that must wait behind one for it to become a probe of the path's size.
const PROBE_FOLLOWED_BY: usize = 4;

/// What the caller lets one call to [`StreamMachine::poll_transmit`] send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most datagrams in one batch.
    pub segments: usize,
    /// Packets that may be added to those in flight, for reasons outside the stream.
    pub room: usize,
}

/// A batch of datagrams in the caller's buffer: all of `segment` bytes but the last, which may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The socket to send from.
    pub socket: SocketId,
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of each datagram but the last.
    pub segment: usize,
    /// The network may cut this one datagram to pieces: it is larger than the path is known to carry.
    pub may_fragment: bool,
}

/// The next sequenced packet.
enum Next {
    Resend(u64),
    New { len: usize, padding: Option<u8> },
}

/// Datagrams of one batch must be alike.
struct Batch {
    remote: u32,
    segment: usize,
    may_fragment: bool,
    /// A shorter datagram was added: it is the last.
    is_full: bool,
    segments: usize,
}

impl StreamMachine {
    /// Appends the next datagrams to `out`, which the caller has emptied, and says where they go. `None` if
    /// nothing may be sent now.
    pub fn poll_transmit(&mut self, now: Instant, limits: Limits, out: &mut Vec<u8>) -> Option<Transmit> {
        if self.life == Life::Destroying {
            let remote = self.remotes.current();
            self.close(Err(Error::Cancelled));
            return self.control(remote?, Flags::DESTROY, out);
        }
        if !self.is_open() {
            return None;
        }
        let remote = self.remotes.current()?;
        // Selective blocks travel alone, and first: they stop needless retransmissions.
        if self.ack.is_due() && self.assembler.has_holes() {
            return self.acknowledgement(now, remote, out);
        }
        if let Some(transmit) = self.data(now, limits, out) {
            return Some(transmit);
        }
        if self.is_window_closed() && self.timers.window_probe.is_none() {
            self.timers.window_probe = Some(now + self.rtt.rto());
        }
        if let Some(message) = self.messages_out.pop_front() {
            let transmit = self.control(remote, Flags::MESSAGE, out);
            out.extend_from_slice(&message);
            let may_fragment = self.is_too_large(message.len());
            return transmit.map(|transmit| Transmit { segment: out.len(), may_fragment, ..transmit });
        }
        if self.ack.is_due() {
            return self.acknowledgement(now, remote, out);
        }
        if std::mem::take(&mut self.timers.is_heartbeat_due) {
            self.restart_keepalive(now);
            return self.control(remote, Flags::HEARTBEAT, out);
        }
        if self.end == End::Acked && self.assembler.is_ended() {
            self.close(Ok(()));
        }
        None
    }

    fn acknowledgement(&mut self, now: Instant, remote: Remote, out: &mut Vec<u8>) -> Option<Transmit> {
        let flags = if self.assembler.has_holes() { Flags::SACK } else { Flags::NONE };
        let transmit = self.control(remote, flags, out)?;
        let most = if self.is_wide { MAX_SACK_BLOCKS } else { SAFE_SACK_BLOCKS };
        for (start, end) in self.assembler.sacks(most) {
            encode_sack(start as u32, end as u32, out);
        }
        self.receive_window.on_told(now, self.received(), self.advertised);
        self.ack.on_sent();
        self.stats.acks_sent += 1;
        // The path back may be another.
        let may_fragment = out.len() > HEADER_LEN + SAFE_SACK_BLOCKS * SACK_BLOCK_LEN;
        Some(Transmit { segment: out.len(), may_fragment, ..transmit })
    }

    /// A packet without a number of its own.
    fn control(&mut self, remote: Remote, flags: Flags, out: &mut Vec<u8>) -> Option<Transmit> {
        let seq = self.outstanding.next() as u32;
        self.header(remote, flags, 0, seq).encode(out);
        Some(Transmit { socket: remote.socket, to: remote.address, segment: HEADER_LEN, may_fragment: false })
    }

    fn header(&mut self, remote: Remote, flags: Flags, data_offset: u8, seq: u32) -> Header {
        let rwnd = self.window();
        self.advertised = rwnd;
        Header { flags, data_offset, stream_id: remote.id, rwnd, seq, ack: self.assembler.ack() }
    }

    fn data(&mut self, now: Instant, limits: Limits, out: &mut Vec<u8>) -> Option<Transmit> {
        let packet = HEADER_LEN + self.payload_capacity();
        self.pacer.refill(now, self.congestion.rate(), packet);
        self.timers.pacing = None;
        let limit = self.congestion.window().min(self.outstanding.in_flight() + limits.room);
        if !self.timers.is_probe_due && !self.is_burst_ready(now, limit, packet) {
            return None;
        }
        let mut batch: Option<Batch> = None;
        while batch.as_ref().is_none_or(|batch| batch.segments < limits.segments) {
            let Some(next) = self.next_packet(limit) else { break };
            let added = match next {
                Next::Resend(seq) => self.resend(now, seq, &mut batch, out),
                Next::New { len, padding } => self.send_new(now, len, padding, &mut batch, out),
            };
            if !added {
                break;
            }
        }
        self.check_app_limited();
        let batch = batch?;
        if self.timers.rto.is_none() {
            self.restart_rto(now);
        }
        let remote = self.remotes.get(batch.remote)?;
        Some(Transmit {
            socket: remote.socket,
            to: remote.address,
            segment: batch.segment,
            may_fragment: batch.may_fragment,
        })
    }

    /// Whether to send now or, for the sake of larger batches, when more tokens are there.
    fn is_burst_ready(&mut self, now: Instant, limit: usize, packet: usize) -> bool {
        let in_flight = self.outstanding.in_flight();
        if limit <= in_flight || (self.outstanding.lost() == 0 && !self.has_unsent()) {
            return false;
        }
        let sendable = (limit - in_flight) * packet;
        let queued = self.outstanding.lost() * packet + self.buffer.unsent().max(1);
        let rate = self.congestion.rate();
        if self.pacer.is_burst_ready(rate, packet, sendable.min(queued)) {
            return true;
        }
        self.timers.pacing = Some(now + self.pacer.wait(rate, packet));
        false
    }

    fn next_packet(&self, limit: usize) -> Option<Next> {
        if self.timers.is_probe_due {
            // The tail probe ignores window and tokens: new bytes if there are any, else the last packet
            // again.
            return if self.has_unsent() {
                Some(self.new_packet())
            } else {
                self.outstanding.last_unsacked().map(Next::Resend)
            };
        }
        let in_flight = self.outstanding.in_flight();
        if in_flight >= limit || !self.pacer.has_tokens() {
            return None;
        }
        if let Some(seq) = self.outstanding.first_lost() {
            return Some(Next::Resend(seq));
        }
        let may_send = self.has_unsent() && in_flight < self.peer_window_packets();
        may_send.then(|| self.new_packet())
    }

    /// Packets the peer's window allows in flight: at least one while it is open at all.
    fn peer_window_packets(&self) -> usize {
        if self.peer_window == 0 { 0 } else { (self.peer_window as usize / self.payload_capacity()).max(1) }
    }

    fn new_packet(&self) -> Next {
        let capacity = if self.is_first_packet { first_capacity(&self.mtu) } else { self.payload_capacity() };
        let len = self.buffer.unsent().min(capacity);
        // What is lost near the end is missed late.
        let is_followed = self.buffer.unsent() - len >= PROBE_FOLLOWED_BY * capacity;
        let may_probe = is_followed && !self.timers.is_probe_due && !self.remotes.is_changing();
        let padding = if may_probe { self.mtu.probe_padding(len, self.is_ipv6()) } else { None };
        Next::New { len, padding }
    }

    /// Adds a new packet to the batch, if it fits there.
    fn send_new(
        &mut self,
        now: Instant,
        len: usize,
        padding: Option<u8>,
        batch: &mut Option<Batch>,
        out: &mut Vec<u8>,
    ) -> bool {
        let version = self.remotes.version();
        let Some(remote) = self.remotes.current() else { return false };
        let offset = padding.unwrap_or(0);
        let size = HEADER_LEN + usize::from(offset) + len;
        // Where a path carries less, a system can drop the whole batch.
        let is_alone = padding.is_some();
        if !fits(batch, version, size, Fit { may_fragment: false, is_alone }, out.len()) {
            return false;
        }
        let mut flags = if len > 0 { Flags::DATA } else { Flags::NONE };
        let seq = self.outstanding.next();
        if self.end == End::Queued && len == self.buffer.unsent() {
            flags |= Flags::END;
            self.end = End::Sent(seq);
        }
        let is_idle = self.outstanding.is_empty();
        if is_idle && self.rate.is_app_limited() {
            self.congestion.on_idle_restart(now, self.rate.delivered(), self.measured.1.into());
        }
        let snapshot = self.rate.on_sent(now, is_idle);
        self.header(remote, flags, offset, seq as u32).encode(out);
        out.resize(out.len() + usize::from(offset), 0);
        let stream_offset = self.buffer.unsent_offset();
        self.buffer.send_new(len, out);
        self.outstanding.push(SentPacket {
            offset: stream_offset,
            // At most a datagram.
            len: len as u16,
            capacity: self.payload_capacity() as u16,
            flags,
            state: PacketState::InFlight,
            probe: padding,
            is_retransmitted: false,
            sent_at: now,
            remote: version,
            snapshot,
        });
        if padding.is_some() {
            self.mtu.on_probe_sent(overhead(self.is_ipv6()) + usize::from(offset) + len);
        }
        self.is_first_packet = false;
        self.after_send(now, HEADER_LEN + len, version);
        if std::mem::take(&mut self.timers.is_probe_due) {
            self.on_tail_probe_sent(now);
        } else {
            self.restart_tail(now);
        }
        true
    }

    /// Adds a packet that was sent before to the batch, if it fits there.
    fn resend(&mut self, now: Instant, seq: u64, batch: &mut Option<Batch>, out: &mut Vec<u8>) -> bool {
        if self.timers.is_probe_due && self.outstanding.unpad(seq) {
            self.mtu.on_probe_lost(false);
        }
        let Some(packet) = self.outstanding.get(seq) else { return false };
        let (flags, stream_offset, len, version) =
            (packet.flags, packet.offset, usize::from(packet.len), packet.remote);
        let padding = packet.probe.unwrap_or(0);
        let Some(remote) = self.remotes.get(version) else { return false };
        let size = HEADER_LEN + usize::from(padding) + len;
        // It was cut when the path carried more, and cannot be cut anew.
        let may_fragment = packet.probe.is_none() && self.is_too_large(len);
        // The system does not cut the segments of a batch.
        let is_alone = may_fragment || packet.probe.is_some();
        if !fits(batch, version, size, Fit { may_fragment, is_alone }, out.len()) {
            return false;
        }
        let is_idle = self.outstanding.in_flight() == 0;
        let snapshot = self.rate.on_sent(now, is_idle && self.outstanding.len() == self.outstanding.lost());
        self.header(remote, flags, padding, seq as u32).encode(out);
        out.resize(out.len() + usize::from(padding), 0);
        self.buffer.resend(stream_offset, len, out);
        if let Some(packet) = self.outstanding.resend(seq) {
            packet.sent_at = now;
            packet.snapshot = snapshot;
        }
        self.stats.resent += 1;
        self.after_send(now, HEADER_LEN + len, version);
        if std::mem::take(&mut self.timers.is_probe_due) {
            self.on_tail_probe_sent(now);
        } else {
            self.restart_tail(now);
        }
        true
    }

    fn after_send(&mut self, now: Instant, bytes: usize, version: u32) {
        self.pacer.take(bytes);
        self.stats.packets_sent += 1;
        self.restart_keepalive(now);
        // Any packet tells the current remote what arrived; blocks it cannot tell.
        if version == self.remotes.version() && !self.assembler.has_holes() {
            self.ack.on_sent();
        }
    }

    fn on_tail_probe_sent(&mut self, now: Instant) {
        self.stats.tail_probes += 1;
        self.timers.probe_end = Some(self.outstanding.next());
        self.timers.has_delivered = false;
        self.timers.tail = None;
        self.restart_rto(now);
    }

    /// Notes that an application, not the network, limits us: little is queued here, or the peer takes no
    /// more, and the window is not full.
    fn check_app_limited(&mut self) {
        let in_flight = self.outstanding.in_flight();
        let is_limited =
            self.buffer.unsent() < self.payload_capacity() || in_flight >= self.peer_window_packets();
        if is_limited
            && self.outstanding.lost() == 0
            && in_flight < self.congestion.window()
            && self.phase != Phase::Loss
        {
            self.rate.on_app_limited(in_flight);
        }
    }
}

/// How a datagram may be sent.
#[derive(Clone, Copy)]
struct Fit {
    may_fragment: bool,
    /// No other in its batch.
    is_alone: bool,
}

/// Whether a datagram can join the batch; counts it if so.
fn fits(batch: &mut Option<Batch>, remote: u32, size: usize, fit: Fit, used: usize) -> bool {
    let Fit { may_fragment, is_alone } = fit;
    match batch {
        None => {
            *batch = Some(Batch { remote, segment: size, may_fragment, is_full: is_alone, segments: 1 });
            true
        }
        Some(batch) => {
            if batch.is_full
                || batch.remote != remote
                || is_alone
                || size > batch.segment
                || used + size > MAX_BATCH
            {
                return false;
            }
            batch.is_full = size < batch.segment;
            batch.segments += 1;
            true
        }
    }
}
