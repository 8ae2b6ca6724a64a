//! What the stream makes of the size that its path carries, and of signs that it carries less.

use super::super::assembler::Arrival;
use super::super::mtu::{BASE, Mtu, overhead};
use super::super::outstanding::{PacketState, SentPacket};
use super::super::packet::HEADER_LEN;
use super::{Remote, StreamMachine, new_congestion};
use crate::time::Instant;

impl StreamMachine {
    /// The first hop to the current remote carries IP packets of so many bytes; else Ethernet's 1500 are
    /// assumed. To be told anew after a change of the remote, and when [`Self::take_hop_doubt`] asks.
    pub fn set_first_hop_mtu(&mut self, bytes: usize) {
        self.mtu.set_first_hop(bytes, self.is_ipv6());
    }

    /// The path carries IP packets of so many bytes if its first hop does, and needs no search below that. To
    /// be told after [`Self::set_first_hop_mtu`].
    pub fn set_known_mtu(&mut self, bytes: usize) {
        self.mtu.set_known(bytes);
        if self.is_first_packet {
            self.begin_congestion();
        }
    }

    /// True once after packets seemed too large for the path: the first hop may have changed.
    pub fn take_hop_doubt(&mut self) -> bool {
        std::mem::take(&mut self.must_check_hop)
    }

    /// The system refused, just now, to send datagrams of so many bytes: the first hop does not carry them.
    pub fn handle_refused(&mut self, now: Instant, datagram: usize) {
        self.must_check_hop = true;
        if !self.mtu.on_refused(datagram + overhead(self.is_ipv6()) - HEADER_LEN) {
            return;
        }
        let lost: Vec<u64> = self
            .outstanding
            .iter()
            .filter(|(_, packet)| packet.state == PacketState::InFlight && packet.sent_at == now)
            .map(|(seq, _)| seq)
            .collect();
        self.mark_lost(&lost);
    }

    /// A packet came that carries nothing. If it answers the heartbeat behind a large packet that was sent
    /// again, and does not acknowledge that, the path is not down: it carries only smaller ones.
    pub(super) fn check_black_hole(&mut self, now: Instant) {
        // What was on its way here before takes half a round trip at most.
        let least = self.rtt.min().unwrap_or(0) * 3 / 4;
        if self.timers.doubted_at.take_if(|at| now - *at >= least).is_none() {
            return;
        }
        self.mtu.on_black_hole();
        self.mark_lost(&[self.outstanding.first()]);
        self.restart_rto(now);
    }

    /// A packet of so many bytes behind its header arrived: a large one shows that the path carries such, and
    /// perhaps back, too. One that was here before says that what acknowledged it did not get back.
    pub(super) fn note_width(&mut self, bytes: usize, arrival: Arrival) {
        if arrival == Arrival::Duplicate {
            self.is_wide = false;
        } else {
            self.is_wide |= overhead(self.is_ipv6()) + bytes >= BASE.into();
        }
    }

    /// What was learnt of one path's packet size says nothing of another's.
    pub(super) fn search_anew(&mut self, remote: Remote) {
        self.mtu = Mtu::new(Some(remote.address.ip()));
        self.is_wide = false;
        if self.is_first_packet {
            self.begin_congestion();
        }
    }

    /// Congestion control that knows nothing of the path yet.
    pub(super) fn begin_congestion(&mut self) {
        let capacity = self.payload_capacity();
        self.congestion = new_congestion(self.id, capacity);
        // A packet carries less than 64 KiB.
        self.measured.1 = capacity as u16;
    }

    /// Payload bytes of a full packet towards the current remote.
    pub fn payload_capacity(&self) -> usize {
        self.mtu.capacity(self.is_ipv6())
    }

    /// Whether a packet of so much payload is larger than the path is known to carry.
    pub(super) fn is_too_large(&self, payload: usize) -> bool {
        overhead(self.is_ipv6()) + payload > self.mtu.current().into()
    }

    /// Bytes of the IP packet that carries this one.
    pub(super) fn size_of(&self, packet: &SentPacket) -> usize {
        overhead(self.is_ipv6()) + usize::from(packet.len) + usize::from(packet.probe.unwrap_or(0))
    }

    /// Whether packets to the current remote have IPv6's overhead, as libudx counts it.
    pub(super) fn is_ipv6(&self) -> bool {
        self.remotes.current().is_some_and(|remote| remote.address.is_ipv6())
    }
}
