//! Packets sent and not yet acknowledged cumulatively.

use std::collections::{BTreeSet, VecDeque};

use super::packet::Flags;
use super::rate::SendSnapshot;
use crate::time::Instant;

/// Where a sent packet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketState {
    InFlight,
    /// Deemed lost, waits for retransmission.
    Lost,
    /// The peer holds it.
    Sacked,
}

/// What is remembered of a packet; its bytes stay in the send buffer.
#[derive(Debug, Clone)]
pub(super) struct SentPacket {
    /// Stream offset of the payload.
    pub offset: u64,
    pub len: u16,
    /// Payload bytes of a full packet when this one left first.
    pub capacity: u16,
    pub flags: Flags,
    pub state: PacketState,
    /// Size probe that is still padded; the padding may be zero.
    pub probe: Option<u8>,
    pub is_retransmitted: bool,
    pub sent_at: Instant,
    /// Which remote it was first sent to; retransmissions keep it.
    pub remote: u32,
    pub snapshot: SendSnapshot,
}

/// The packets from the first unacknowledged one on, by number.
#[derive(Debug)]
pub(super) struct Outstanding {
    packets: VecDeque<SentPacket>,
    first: u64,
    in_flight: usize,
    sacked: usize,
    lost: BTreeSet<u64>,
    /// Number after the highest selectively or cumulatively acknowledged packet.
    highest_acked: u64,
    /// Number after the highest packet that was retransmitted.
    retransmitted_below: u64,
}

impl Outstanding {
    pub(super) fn new(first: u64) -> Self {
        Self {
            packets: VecDeque::new(),
            first,
            in_flight: 0,
            sacked: 0,
            lost: BTreeSet::new(),
            highest_acked: first,
            retransmitted_below: first,
        }
    }

    /// First unacknowledged number, or the next unused one.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Next unused number.
    pub(super) fn next(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Packets sent and neither acknowledged nor deemed lost.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn sacked(&self) -> usize {
        self.sacked
    }

    pub(super) fn lost(&self) -> usize {
        self.lost.len()
    }

    pub(super) fn highest_acked(&self) -> u64 {
        self.highest_acked
    }

    /// No packet from this number on was ever retransmitted, so their times ascend.
    pub(super) fn retransmitted_below(&self) -> u64 {
        self.retransmitted_below
    }

    pub(super) fn get(&self, seq: u64) -> Option<&SentPacket> {
        self.packets.get(seq.checked_sub(self.first)? as usize)
    }

    /// The packets from the first on, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &SentPacket)> {
        (self.first..).zip(&self.packets)
    }

    /// The lowest packet that waits for retransmission.
    pub(super) fn first_lost(&self) -> Option<u64> {
        self.lost.first().copied()
    }

    /// The highest packet the peer is not known to hold.
    pub(super) fn last_unsacked(&self) -> Option<u64> {
        let index = self.packets.iter().rposition(|packet| packet.state != PacketState::Sacked)?;
        Some(self.first + index as u64)
    }

    pub(super) fn push(&mut self, packet: SentPacket) {
        self.in_flight += 1;
        self.packets.push_back(packet);
    }

    /// Takes a packet's padding off. True if it was a size probe.
    pub(super) fn unpad(&mut self, seq: u64) -> bool {
        let index = seq.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let packet = index.and_then(|index| self.packets.get_mut(index));
        packet.is_some_and(|packet| packet.probe.take().is_some())
    }

    /// Sends a packet once more: gives it for update, counted as in flight.
    pub(super) fn resend(&mut self, seq: u64) -> Option<&mut SentPacket> {
        let index = seq.checked_sub(self.first)? as usize;
        let packet = self.packets.get_mut(index)?;
        if packet.state == PacketState::Lost {
            self.lost.remove(&seq);
            self.in_flight += 1;
        }
        packet.state = PacketState::InFlight;
        packet.is_retransmitted = true;
        self.retransmitted_below = self.retransmitted_below.max(seq + 1);
        Some(packet)
    }

    /// Deems a packet lost. Gives it, if it was in flight.
    pub(super) fn mark_lost(&mut self, seq: u64) -> Option<&mut SentPacket> {
        let index = seq.checked_sub(self.first)? as usize;
        let packet = self.packets.get_mut(index)?;
        if packet.state != PacketState::InFlight {
            return None;
        }
        packet.state = PacketState::Lost;
        self.in_flight -= 1;
        self.lost.insert(seq);
        Some(packet)
    }

    /// Takes the first packet out if its number is below `ack`, with whether the peer was not known to hold
    /// it.
    pub(super) fn pop_acked(&mut self, ack: u64) -> Option<(u64, SentPacket, bool)> {
        if self.first >= ack {
            return None;
        }
        let packet = self.packets.pop_front()?;
        let seq = self.first;
        self.first += 1;
        let is_news = match packet.state {
            PacketState::InFlight => {
                self.in_flight -= 1;
                true
            }
            PacketState::Lost => {
                self.lost.remove(&seq);
                true
            }
            PacketState::Sacked => {
                self.sacked -= 1;
                false
            }
        };
        if is_news {
            self.highest_acked = self.highest_acked.max(seq + 1);
        }
        Some((seq, packet, is_news))
    }

    /// Notes that the peer holds a packet. Gives it, if that is news.
    pub(super) fn mark_sacked(&mut self, seq: u64) -> Option<&SentPacket> {
        let index = seq.checked_sub(self.first)? as usize;
        let packet = self.packets.get_mut(index)?;
        match packet.state {
            PacketState::Sacked => return None,
            PacketState::InFlight => self.in_flight -= 1,
            PacketState::Lost => {
                self.lost.remove(&seq);
            }
        }
        packet.state = PacketState::Sacked;
        self.sacked += 1;
        self.highest_acked = self.highest_acked.max(seq + 1);
        Some(packet)
    }

    pub(super) fn clear(&mut self) {
        self.first = self.next();
        self.packets.clear();
        self.lost.clear();
        self.in_flight = 0;
        self.sacked = 0;
    }
}
