//! What a packet does to the stream, in libudx's order (spec §6).

use std::ops::Range;

use bytes::Bytes;

use super::super::assembler::{Arrival, Room};
use super::super::congestion::{Ack, Controller, Phase};
use super::super::mtu::overhead;
use super::super::outstanding::{PacketState, SentPacket};
use super::super::packet::{
    Flags, Header, LIBUDX_SACK_BLOCKS, MAX_SACK_BLOCKS, SACK_BLOCK_LEN, SAFE_SACK_BLOCKS, decode_sacks,
};
use super::super::seq;
use super::{End, Error, MAX_MESSAGES, StreamMachine};
use crate::time::{Instant, Micros};

/// Bytes beyond the window that are still accepted, because libudx's tail probe ignores the window and
/// packets may cross a shrinking window on their way.
const WINDOW_SLACK: usize = 1 << 20;

/// What the acknowledgement being processed has delivered so far.
#[derive(Default)]
struct Delivered {
    packets: usize,
    /// Send time and round trip of the latest-sent packet that was sent only once.
    latest: Option<(Instant, Micros)>,
    /// With it, all that was sent to the remote before is acknowledged.
    has_moved: bool,
}

impl StreamMachine {
    /// Takes a packet whose header names this stream. `body` is where in `buffer` the bytes after the header
    /// lie; payload that is kept shares `buffer`.
    pub fn handle_packet(&mut self, now: Instant, header: &Header, buffer: &Bytes, body: Range<usize>) {
        if !self.is_open() {
            return;
        }
        self.stats.packets_received += 1;
        if header.flags.intersects(Flags::HEARTBEAT) {
            self.ack.on_heartbeat(now);
            return;
        }
        let Some(bytes) = buffer.get(body.clone()) else { return };
        let Some(layout) = header.layout(bytes.len()) else { return };
        let payload = body.start + layout.payload.start..body.start + layout.payload.end;
        let peer_seq = self.assembler.unwrap(header.seq);

        let arrival = header
            .flags
            .is_sequenced()
            .then(|| self.store(header.flags, peer_seq, buffer, payload.clone()))
            .filter(|arrival| *arrival != Arrival::Refused);
        if header.flags.intersects(Flags::DESTROY) && peer_seq >= self.assembler.next() {
            self.close(Err(Error::ConnectionReset));
            return;
        }
        if header.flags.intersects(Flags::MESSAGE) && self.messages_in.len() < MAX_MESSAGES {
            self.messages_in.push_back(buffer.slice(payload));
        }

        let ack = seq::unwrap(header.ack, self.outstanding.next());
        if ack > self.outstanding.next() {
            // It acknowledges what was never sent: its data is kept, nothing else of it is believed.
            return;
        }
        if let Some(arrival) = arrival {
            self.note_width(bytes.len(), arrival);
            self.ack.on_packet(arrival != Arrival::Next || header.flags.intersects(Flags::END));
            let received = self.received();
            let taken = received.saturating_sub(self.backlog as u64);
            self.receive_window.on_arrival(now, received, taken, self.rtt.min());
        }
        self.update_peer_window(header.rwnd, peer_seq, ack);
        self.handle_ack(now, ack, bytes.get(layout.sacks).unwrap_or_default());
        if !header.flags.is_sequenced() {
            self.check_black_hole(now);
        }
    }

    /// The packets that were waiting have all been handled: acknowledgements held back for more may go.
    pub fn handle_batch_end(&mut self, now: Instant) {
        self.ack.on_batch_end(now);
    }

    fn store(&mut self, flags: Flags, seq: u64, buffer: &Bytes, payload: Range<usize>) -> Arrival {
        let is_end = flags.intersects(Flags::END);
        // An END without DATA has no payload, whatever follows its header.
        let payload = if flags.intersects(Flags::DATA) { payload } else { payload.start..payload.start };
        // Not as far as memory allows now: the peer may use what it was told of before.
        let whole = self.receive_window.bytes(self.rtt.min()) as usize;
        let in_order = (whole + WINDOW_SLACK).saturating_sub(self.backlog);
        let room = Room { in_order, ahead: whole };
        let arrival = self.assembler.insert(seq, is_end, payload.len(), room, || buffer.slice(payload));
        if arrival == Arrival::Duplicate {
            self.stats.duplicates += 1;
        }
        arrival
    }

    /// Believes a window unless it is older than the one known (spec §6).
    fn update_peer_window(&mut self, window: u32, peer_seq: u64, ack: u64) {
        if ack < self.outstanding.first() || (peer_seq, ack) < self.peer_window_at {
            return;
        }
        self.peer_window_at = (peer_seq, ack);
        self.peer_window = window;
        if window > 0 {
            self.timers.window_probe = None;
        }
    }

    fn handle_ack(&mut self, now: Instant, ack: u64, sacks: &[u8]) {
        let had_outstanding = !self.outstanding.is_empty();
        let prior_in_flight = self.outstanding.in_flight();
        let mut delivered = Delivered::default();
        let is_advance = ack > self.outstanding.first();
        if is_advance {
            self.acknowledge(now, ack, &mut delivered);
            if self.end == End::Acked && self.outstanding.is_empty() {
                self.timers.rto = None;
            }
        }
        let blocks = sacks.len() / SACK_BLOCK_LEN;
        let is_list_full =
            [LIBUDX_SACK_BLOCKS, SAFE_SACK_BLOCKS].contains(&blocks) || blocks >= MAX_SACK_BLOCKS;
        if !sacks.is_empty() {
            self.acknowledge_selectively(now, sacks, &mut delivered);
        }
        if !had_outstanding {
            return;
        }
        if let Some((_, rtt)) = delivered.latest {
            self.rtt.sample(now, rtt);
        }
        if delivered.packets > 0 {
            self.timers.doubted_at = None;
            self.timers.has_delivered = true;
            self.mtu.on_ack();
            self.restart_rto(now);
        }
        self.detect_loss(now);
        if delivered.packets > 0 {
            self.restart_tail(now);
        }
        if is_list_full {
            let unnamed = self.outstanding.len() - self.outstanding.sacked();
            self.rate_trusted_from = self.rate.delivered() + unnamed as u64 + 1;
        }
        self.tell_congestion_control(now, &delivered, prior_in_flight);
        if delivered.has_moved {
            self.forget_path();
        }
    }

    fn acknowledge(&mut self, now: Instant, ack: u64, delivered: &mut Delivered) {
        let mut released = None;
        while let Some((seq, packet, is_news)) = self.outstanding.pop_acked(ack) {
            released = Some(packet.offset + u64::from(packet.len));
            if is_news {
                self.on_delivered(now, seq, &packet, delivered);
            }
        }
        if let Some(offset) = released {
            self.buffer.release(offset);
        }
        self.timers.timeouts = 0;
        let first = self.outstanding.first();
        if self.timers.probe_end.is_some_and(|end| first >= end) {
            self.timers.probe_end = None;
        }
        if self.phase != Phase::Open && first >= self.recovery_end {
            self.phase = Phase::Open;
        }
        if self.remotes.on_acked(first) {
            self.is_remote_changed = true;
            delivered.has_moved = true;
        }
        if let End::Sent(seq) = self.end
            && seq < first
        {
            self.end = End::Acked;
            // libudx answers the acknowledgement of its END with one more; so do we (spec §4). A peer that
            // has ended too is gone by then.
            if !self.assembler.is_ended() {
                self.ack.request();
            }
        }
    }

    fn acknowledge_selectively(&mut self, now: Instant, sacks: &[u8], delivered: &mut Delivered) {
        let (first, next) = (self.outstanding.first(), self.outstanding.next());
        for (start, end) in decode_sacks(sacks) {
            let (start, end) = (seq::unwrap(start, next), seq::unwrap(end, next));
            if start >= end || end > next || start < first {
                self.stats.bad_sacks += 1;
                continue;
            }
            for seq in start..end {
                let Some(packet) = self.outstanding.mark_sacked(seq).cloned() else { continue };
                self.on_delivered(now, seq, &packet, delivered);
            }
        }
    }

    fn on_delivered(&mut self, now: Instant, seq: u64, packet: &SentPacket, delivered: &mut Delivered) {
        let &SentPacket { sent_at, is_retransmitted, snapshot, .. } = packet;
        delivered.packets += 1;
        let size = self.size_of(packet);
        if packet.probe.is_some() {
            self.mtu.on_probe_acked(size);
        }
        self.mtu.on_arrived(size);
        self.measured = self.measured.max((sent_at, packet.capacity));
        if !is_retransmitted && delivered.latest.is_none_or(|(latest, _)| sent_at >= latest) {
            delivered.latest = Some((sent_at, now - sent_at));
        }
        if !is_retransmitted && seq + 1 < self.outstanding.highest_acked() {
            self.rack.on_reordering();
        }
        self.rack.on_acked(now, seq, sent_at, is_retransmitted, self.rtt.min());
        self.rate.on_acked(now, sent_at, snapshot);
    }

    /// Finds packets that later-sent ones overtook by too much (RACK).
    pub(super) fn detect_loss(&mut self, now: Instant) {
        self.timers.rack = None;
        let Some(reference) = self.rack.reference_time() else { return };
        let must_hurry = self.phase != Phase::Open || self.outstanding.sacked() >= 3;
        let window = self.rack.reordering_window(self.rtt.min(), self.rtt.smoothed(), must_hurry);
        let mut lost = Vec::new();
        let mut latest: Option<Instant> = None;
        for (seq, packet) in self.outstanding.iter() {
            if packet.sent_at > reference && seq >= self.outstanding.retransmitted_below() {
                break;
            }
            if packet.state != PacketState::InFlight || !self.rack.is_before_reference(seq, packet.sent_at) {
                continue;
            }
            let deadline = self.rack.deadline(packet.sent_at, window);
            if deadline <= now {
                lost.push(seq);
            } else {
                latest = Some(latest.map_or(deadline, |latest| latest.max(deadline)));
            }
        }
        self.timers.rack = latest;
        let is_congestion = self.mark_lost(&lost);
        if is_congestion && self.phase == Phase::Open {
            self.phase = Phase::Recovery;
            self.recovery_end = self.outstanding.next();
            self.congestion.on_recovery();
            self.stats.recoveries += 1;
            self.timers.tail = None;
        }
    }

    /// Deems packets in flight lost; whether that says something about congestion, as the loss of size probes
    /// alone does not.
    pub(super) fn mark_lost(&mut self, lost: &[u64]) -> bool {
        let is_ipv6 = self.is_ipv6();
        let mut probes = 0;
        let mut others = 0;
        let mut lost_again = None;
        for &seq in lost {
            let Some(packet) = self.outstanding.mark_lost(seq) else { continue };
            if packet.probe.take().is_some() {
                probes += 1;
                continue;
            }
            others += 1;
            if packet.is_retransmitted {
                let size = overhead(is_ipv6) + usize::from(packet.len);
                lost_again = lost_again.max(Some(size));
            }
        }
        if lost_again.is_some_and(|size| self.mtu.on_lost_again(size)) {
            self.must_check_hop = true;
            self.mtu.on_black_hole();
        }
        self.stats.lost += probes + others;
        self.newly_lost += (probes + others) as usize;
        if probes > 0 {
            // Lost among others, a probe says nothing about its size.
            self.mtu.on_probe_lost(others == 0);
        }
        others > 0
    }

    fn tell_congestion_control(&mut self, now: Instant, delivered: &Delivered, prior_in_flight: usize) {
        let rate = self.rate.finish(now, self.rtt.min());
        let rate_is_trusted = rate.is_none_or(|sample| sample.prior_delivered >= self.rate_trusted_from);
        self.congestion.on_ack(&Ack {
            now,
            rate,
            rate_is_trusted,
            delivered: self.rate.delivered(),
            acked: delivered.packets,
            lost: std::mem::take(&mut self.newly_lost),
            rtt: delivered.latest.map(|(_, rtt)| rtt),
            smoothed: self.rtt.smoothed(),
            in_flight: self.outstanding.in_flight(),
            prior_in_flight,
            phase: self.phase,
            payload: self.measured.1.into(),
        });
        if self.congestion.is_probing_rtt() {
            self.rate.on_app_limited(self.outstanding.in_flight());
        }
    }
}
