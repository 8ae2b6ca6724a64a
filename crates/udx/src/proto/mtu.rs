//! The search for the path's packet size (spec §8).
//!
//! Sizes are of IP packets, as libudx counts them.

/// Every path is taken to carry this.
pub(super) const BASE: u16 = 1200;
/// Ethernet's size: nothing larger is tried unless the first hop is known to carry it.
const ETHERNET: u16 = 1500;
/// What a probe adds to the last size that worked, up to Ethernet's size and beyond, where paths differ less
/// finely.
const STEP: u16 = 32;
const LARGE_STEP: u16 = 192;
/// Losses of one probe size after which the search ends.
const TRIES: u8 = 3;
/// Padding has to fit the header's one-byte offset.
const MAX_PADDING: usize = u8::MAX as usize;

/// Bytes around a packet's payload: IPv4 or IPv6 header, UDP header, UDX header.
pub const fn overhead(ipv6: bool) -> usize {
    if ipv6 { 40 + 8 + super::packet::HEADER_LEN } else { 20 + 8 + super::packet::HEADER_LEN }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Before the first acknowledgement.
    Idle,
    Searching {
        tries: u8,
        in_flight: bool,
    },
    Done,
    /// Packets above the base vanish.
    BlackHole,
}

/// Packet size of one path, growing by probes.
#[derive(Debug, Clone)]
pub(super) struct Mtu {
    current: u16,
    probe: u16,
    max: u16,
    search: Search,
}

impl Mtu {
    pub(super) fn new() -> Self {
        Self { current: BASE, probe: BASE, max: ETHERNET, search: Search::Idle }
    }

    /// The first hop carries IP packets of so many bytes. Nothing larger is tried, nor anything that libudx
    /// could not receive.
    pub(super) fn set_first_hop(&mut self, bytes: usize, ipv6: bool) {
        let most = super::MAX_DATAGRAM + overhead(ipv6) - super::packet::HEADER_LEN;
        self.max = u16::try_from(bytes.min(most)).unwrap_or(u16::MAX);
        if self.max <= BASE {
            self.search = Search::Done;
        }
    }

    pub(super) fn current(&self) -> u16 {
        self.current
    }

    /// Payload bytes a packet carries.
    pub(super) fn capacity(&self, ipv6: bool) -> usize {
        usize::from(self.current) - overhead(ipv6)
    }

    /// The path works: the search may begin.
    pub(super) fn on_ack(&mut self) {
        if self.search == Search::Idle {
            self.probe = BASE;
            self.search = Search::Searching { tries: 0, in_flight: false };
        }
    }

    /// Padding that makes a new packet of `payload` bytes a probe, if one is due and the packet is near
    /// enough.
    pub(super) fn probe_padding(&self, payload: usize, ipv6: bool) -> Option<u8> {
        if !matches!(self.search, Search::Searching { in_flight: false, .. }) {
            return None;
        }
        let padding = usize::from(self.probe).checked_sub(overhead(ipv6) + payload)?;
        if padding > MAX_PADDING { None } else { u8::try_from(padding).ok() }
    }

    pub(super) fn on_probe_sent(&mut self) {
        if let Search::Searching { in_flight, .. } = &mut self.search {
            *in_flight = true;
        }
    }

    pub(super) fn on_probe_acked(&mut self) {
        let Search::Searching { in_flight: true, .. } = self.search else { return };
        self.current = self.current.max(self.probe);
        self.search = if self.probe >= self.max {
            Search::Done
        } else {
            self.probe = match self.probe {
                ..ETHERNET => (self.probe + STEP).min(ETHERNET),
                _ => self.probe + LARGE_STEP,
            }
            .min(self.max);
            Search::Searching { tries: 0, in_flight: false }
        };
    }

    /// A probe was lost; `counts` if probably for its size.
    pub(super) fn on_probe_lost(&mut self, counts: bool) {
        let Search::Searching { tries, in_flight: true } = self.search else { return };
        let tries = tries + u8::from(counts);
        self.search =
            if tries >= TRIES { Search::Done } else { Search::Searching { tries, in_flight: false } };
    }

    /// Packets of the current size no longer arrive: back to the size that every path carries, for good.
    pub(super) fn on_black_hole(&mut self) {
        self.current = BASE;
        self.search = Search::BlackHole;
    }

    /// Whether packets above the base must be assumed to vanish.
    pub(super) fn is_black_hole(&self) -> bool {
        self.search == Search::BlackHole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbs_in_steps_to_the_cap() {
        let mut mtu = Mtu::new();
        assert_eq!(mtu.probe_padding(1152, false), None);
        mtu.on_ack();
        let mut sizes = Vec::new();
        while let Some(padding) = mtu.probe_padding(mtu.capacity(false), false) {
            sizes.push(mtu.capacity(false) + 20 + usize::from(padding));
            mtu.on_probe_sent();
            assert_eq!(mtu.probe_padding(1152, false), None);
            mtu.on_probe_acked();
        }
        assert_eq!(sizes, [1172, 1204, 1236, 1268, 1300, 1332, 1364, 1396, 1428, 1460, 1472]);
        assert_eq!(mtu.current(), 1500);
    }

    #[test]
    fn where_the_first_hop_carries_more_it_climbs_to_what_libudx_receives() {
        let climb = |hop, is_ipv6| {
            let mut mtu = Mtu::new();
            mtu.set_first_hop(hop, is_ipv6);
            mtu.on_ack();
            while mtu.probe_padding(mtu.capacity(is_ipv6), is_ipv6).is_some() {
                mtu.on_probe_sent();
                mtu.on_probe_acked();
            }
            mtu.current()
        };
        assert_eq!(climb(65_536, false), 2076);
        assert_eq!(climb(65_536, true), 2096);
        assert_eq!(climb(1600, false), 1600);
        assert_eq!(climb(1280, false), 1280);
        assert_eq!(climb(576, false), 1200);
    }

    #[test]
    fn the_third_lost_probe_ends_the_search() {
        let mut mtu = Mtu::new();
        mtu.on_ack();
        for _ in 0..3 {
            assert_eq!(mtu.probe_padding(1152, false), Some(0));
            mtu.on_probe_sent();
            mtu.on_probe_lost(true);
        }
        assert_eq!(mtu.probe_padding(1152, false), None);
        assert_eq!(mtu.current(), 1200);
    }

    #[test]
    fn small_packets_are_no_probes() {
        let mut mtu = Mtu::new();
        mtu.on_ack();
        assert_eq!(mtu.probe_padding(1152 - 255, false), Some(255));
        assert_eq!(mtu.probe_padding(1152 - 256, false), None);
    }
}
