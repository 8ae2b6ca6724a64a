//! The search for the path's packet size (spec §8), in the manner of RFC 8899.
//!
//! A packet keeps its number and its payload for ever: what was sent too large cannot be cut later. So a path
//! starts with packets that every path carries, and larger ones follow once a probe of their size arrived: a
//! packet that carries no more than the others, and padding. A lost probe is sent again without the padding.
//! Where a path shrinks under way, the size falls back, and what is on its way may be cut by the network.
//!
//! Sizes are of IP packets, as libudx counts them.

use std::net::IpAddr;

/// What every IPv4 host takes, and every path in use carries.
const FLOOR_IPV4: u16 = 576;
/// Where libudx starts. Every IPv6 path carries it.
pub(super) const BASE: u16 = 1200;
/// Ethernet's size: nothing larger is tried unless the first hop is known to carry it.
const ETHERNET: u16 = 1500;
/// Least size of packets, however little the first hop carries: there must be room for some payload.
const LEAST: u16 = 256;
/// A gain of fewer bytes is not worth the packets that probes for it may cost.
const GRAIN: u16 = 16;
/// Losses of one probe size after which it is taken for too large, those that tell most; and how much less a
/// probe tells that was lost among others.
const TRIES: u8 = 3 * ALONE;
const ALONE: u8 = 4;
const AMONG_OTHERS: u8 = 1;
/// Padding has to fit the header's one-byte offset.
const MAX_PADDING: usize = u8::MAX as usize;
/// Times that packets of a size are lost again, though sent again, and none arrives: then they vanish.
const BLACK_HOLE_LOSSES: u8 = 3;

/// Bytes around a packet's payload: IPv4 or IPv6 header, UDP header, UDX header.
pub const fn overhead(ipv6: bool) -> usize {
    if ipv6 { 40 + 8 + super::packet::HEADER_LEN } else { 20 + 8 + super::packet::HEADER_LEN }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Before the first acknowledgement.
    Idle,
    Searching,
    /// A probe of this size is in flight.
    Probing(u16),
    Done,
}

/// Packet size of one path, growing by probes.
#[derive(Debug, Clone)]
pub(super) struct Mtu {
    current: u16,
    /// Largest size that may still be found.
    high: u16,
    /// Whether a larger one was tried in vain.
    has_failed: bool,
    /// What losses say against the size being probed.
    tries: u8,
    search: Search,
    /// What the first hop carries.
    max: u16,
    /// Every path of this kind carries it.
    floor: u16,
    /// Least size of packets that were lost again, and how often.
    suspect: u16,
    suspicion: u8,
}

impl Mtu {
    pub(super) fn new(to: Option<IpAddr>) -> Self {
        let is_ipv6 = to.is_some_and(|ip| ip.to_canonical().is_ipv6());
        let floor = if is_ipv6 { BASE } else { FLOOR_IPV4 };
        Self {
            current: floor,
            high: ETHERNET,
            has_failed: false,
            tries: 0,
            search: Search::Idle,
            max: ETHERNET,
            floor,
            suspect: u16::MAX,
            suspicion: 0,
        }
    }

    /// The first hop carries IP packets of so many bytes, as far as the system knows. Nothing larger is
    /// tried, nor anything that libudx could not receive.
    pub(super) fn set_first_hop(&mut self, bytes: usize, ipv6: bool) {
        let most = super::MAX_DATAGRAM + overhead(ipv6) - super::packet::HEADER_LEN;
        let max = u16::try_from(bytes.min(most)).unwrap_or(u16::MAX).max(LEAST);
        if max == self.max {
            return;
        }
        let is_wider = max > self.max;
        self.max = max;
        self.floor = self.floor.min(max);
        self.current = self.current.min(max);
        self.high = if is_wider && !self.has_failed { max } else { self.high.min(max) };
        if is_wider && self.search == Search::Done && !self.has_failed {
            self.search = Search::Searching;
        }
    }

    /// The path carries IP packets of so many bytes for certain, if the first hop does.
    pub(super) fn set_known(&mut self, bytes: usize) {
        self.current = u16::try_from(bytes).unwrap_or(u16::MAX).clamp(self.floor, self.max);
    }

    pub(super) fn current(&self) -> u16 {
        self.current
    }

    /// What the first hop carries.
    pub(super) fn first_hop(&self) -> u16 {
        self.max
    }

    /// Payload bytes a packet carries.
    pub(super) fn capacity(&self, ipv6: bool) -> usize {
        usize::from(self.current) - overhead(ipv6)
    }

    /// The path works: the search may begin.
    pub(super) fn on_ack(&mut self) {
        if self.search == Search::Idle {
            self.search = Search::Searching;
        }
    }

    /// Padding that makes a new packet of `payload` bytes a probe, if one is due and the packet is near
    /// enough.
    pub(super) fn probe_padding(&self, payload: usize, ipv6: bool) -> Option<u8> {
        if self.search != Search::Searching || self.high <= self.current {
            return None;
        }
        // At first as far up as may be; between what works and what failed, the middle.
        let wanted = if self.has_failed { self.current.midpoint(self.high + 1) } else { self.high };
        let size = overhead(ipv6) + payload;
        let padding = usize::from(wanted).checked_sub(size)?.min(MAX_PADDING);
        let gain = (size + padding).saturating_sub(self.current.into());
        let is_worth = gain >= usize::from(GRAIN) / 2 || gain > 0 && size + padding == self.high.into();
        if is_worth { u8::try_from(padding).ok() } else { None }
    }

    /// A packet of this size left as a probe.
    pub(super) fn on_probe_sent(&mut self, size: usize) {
        self.search = Search::Probing(u16::try_from(size).unwrap_or(u16::MAX));
    }

    /// A probe of this size arrived.
    pub(super) fn on_probe_acked(&mut self, size: usize) {
        let Search::Probing(probe) = self.search else { return };
        if usize::from(probe) == size {
            self.current = self.current.max(probe.min(self.max));
            self.go_on();
        }
    }

    /// A probe was lost; `counts` if probably for its size.
    pub(super) fn on_probe_lost(&mut self, counts: bool) {
        let Search::Probing(probe) = self.search else { return };
        self.tries += if counts { ALONE } else { AMONG_OTHERS };
        self.search = Search::Searching;
        if self.tries >= TRIES {
            self.high = probe - 1;
            self.has_failed = true;
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        self.tries = 0;
        let gain = self.high.saturating_sub(self.current);
        let is_done = gain == 0 || self.has_failed && gain < GRAIN;
        self.search = if is_done { Search::Done } else { Search::Searching };
    }

    /// Whether packets of this size are lost, if they are, because the path shrank.
    pub(super) fn is_doubtful(&self, size: usize) -> bool {
        (usize::from(self.floor) + 1..=usize::from(self.current)).contains(&size)
    }

    /// A packet of this size that was sent again was lost again. True if such packets now count as vanishing.
    pub(super) fn on_lost_again(&mut self, size: usize) -> bool {
        if !self.is_doubtful(size) {
            return false;
        }
        self.suspect = self.suspect.min(u16::try_from(size).unwrap_or(u16::MAX));
        self.suspicion += 1;
        self.suspicion >= BLACK_HOLE_LOSSES
    }

    /// A packet of this size arrived, in one piece if it is no larger than the current size.
    pub(super) fn on_arrived(&mut self, size: usize) {
        if self.suspicion > 0 && (usize::from(self.suspect)..=self.current.into()).contains(&size) {
            self.suspect = u16::MAX;
            self.suspicion = 0;
        }
    }

    /// The first hop refused a packet of this size. False if nothing smaller would be sent.
    pub(super) fn on_refused(&mut self, size: usize) -> bool {
        if size <= self.floor.into() {
            return false;
        }
        if size <= self.current.into() {
            self.on_black_hole();
        }
        self.high = self.high.min(u16::try_from(size - 1).unwrap_or(u16::MAX));
        self.has_failed = true;
        if matches!(self.search, Search::Probing(probe) if usize::from(probe) >= size) {
            self.go_on();
        }
        true
    }

    /// Packets of the current size no longer arrive: back to the size that every path carries, and up again
    /// from there. What failed may have failed for another reason.
    pub(super) fn on_black_hole(&mut self) {
        *self = Self {
            current: self.floor,
            high: self.max,
            has_failed: false,
            tries: 0,
            search: Search::Idle,
            suspect: u16::MAX,
            suspicion: 0,
            ..*self
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the probes that full packets become on a path that carries `path` bytes, and the size found.
    fn climb(mtu: &mut Mtu, path: usize, is_ipv6: bool) -> (Vec<usize>, u16) {
        mtu.on_ack();
        let mut sizes = Vec::new();
        while let Some(padding) = mtu.probe_padding(mtu.capacity(is_ipv6), is_ipv6) {
            let size = usize::from(mtu.current()) + usize::from(padding);
            sizes.push(size);
            mtu.on_probe_sent(size);
            assert_eq!(mtu.probe_padding(mtu.capacity(is_ipv6), is_ipv6), None, "one at a time");
            if size <= path { mtu.on_probe_acked(size) } else { mtu.on_probe_lost(true) }
        }
        (sizes, mtu.current())
    }

    fn ipv4() -> Mtu {
        Mtu::new(Some([10, 0, 0, 1].into()))
    }

    fn ipv6() -> Mtu {
        Mtu::new(Some("2001:db8::1".parse().unwrap()))
    }

    #[test]
    fn nothing_is_probed_before_the_path_works() {
        assert_eq!(ipv4().probe_padding(528, false), None);
    }

    #[test]
    fn climbs_to_ethernets_size_in_few_steps() {
        assert_eq!(climb(&mut ipv4(), 1500, false), (vec![831, 1086, 1341, 1500], 1500));
        assert_eq!(climb(&mut ipv6(), 1500, true), (vec![1455, 1500], 1500));
    }

    #[test]
    fn ipv4_in_ipv6_form_is_ipv4() {
        assert_eq!(Mtu::new(Some("::ffff:10.0.0.1".parse().unwrap())).current(), 576);
        assert_eq!((ipv4().current(), ipv6().current(), Mtu::new(None).current()), (576, 1200, 576));
    }

    #[test]
    fn finds_what_any_path_carries_to_within_a_grain() {
        for path in 576..=1500 {
            let (probes, found) = climb(&mut ipv4(), path, false);
            assert!(usize::from(found) <= path && path - usize::from(found) < 16, "{found} of {path}");
            let lost = probes.iter().filter(|size| **size > path).count();
            assert!(lost <= 3 * 6, "{lost} lost probes at {path}");
        }
    }

    #[test]
    fn where_the_first_hop_carries_more_it_climbs_to_what_libudx_receives() {
        let climb = |hop, mut mtu: Mtu, is_ipv6| {
            mtu.set_first_hop(hop, is_ipv6);
            climb(&mut mtu, 100_000, is_ipv6).1
        };
        assert_eq!(climb(65_536, ipv4(), false), 2076);
        assert_eq!(climb(65_536, ipv6(), true), 2096);
        assert_eq!(climb(1600, ipv4(), false), 1600);
        assert_eq!(climb(1280, ipv4(), false), 1280);
        assert_eq!(climb(580, ipv4(), false), 580);
        assert_eq!(climb(500, ipv4(), false), 500);
        assert_eq!(climb(0, ipv4(), false), 256);
    }

    #[test]
    fn a_known_path_needs_no_search() {
        let mut mtu = ipv4();
        mtu.set_first_hop(65_536, false);
        mtu.set_known(65_536);
        assert_eq!(climb(&mut mtu, 100_000, false), (vec![], 2076));
        let mut mtu = ipv4();
        mtu.set_known(1200);
        assert_eq!(climb(&mut mtu, 1500, false), (vec![1455, 1500], 1500));
    }

    #[test]
    fn a_first_hop_that_narrows_is_believed_at_once_and_one_that_widens_is_searched() {
        let mut mtu = ipv4();
        climb(&mut mtu, 1500, false);
        mtu.set_first_hop(1000, false);
        assert_eq!(climb(&mut mtu, 1500, false), (vec![], 1000));
        mtu.set_first_hop(1500, false);
        assert_eq!(climb(&mut mtu, 1500, false), (vec![1255, 1500], 1500));
    }

    #[test]
    fn small_packets_are_no_probes() {
        let mut mtu = ipv4();
        mtu.on_ack();
        assert_eq!(mtu.probe_padding(576 - 48 - 255 + 7, false), None);
        assert_eq!(mtu.probe_padding(576 - 48 - 255 + 8, false), Some(255));
    }

    #[test]
    fn probes_lost_among_others_tell_less_but_not_nothing() {
        let mut mtu = ipv4();
        mtu.on_ack();
        for _ in 0..11 {
            mtu.on_probe_sent(831);
            mtu.on_probe_lost(false);
        }
        assert_eq!(mtu.probe_padding(528, false), Some(255));
        mtu.on_probe_sent(831);
        mtu.on_probe_lost(false);
        assert_eq!(mtu.probe_padding(528, false), Some(127));
    }

    #[test]
    fn a_late_answer_to_an_older_probe_raises_nothing() {
        let mut mtu = ipv4();
        mtu.on_ack();
        mtu.on_probe_sent(831);
        mtu.on_black_hole();
        mtu.on_ack();
        mtu.on_probe_sent(700);
        mtu.on_probe_acked(831);
        assert_eq!(mtu.current(), 576);
        mtu.on_probe_acked(700);
        assert_eq!(mtu.current(), 700);
    }

    #[test]
    fn packets_of_a_size_that_are_lost_again_and_again_vanish() {
        let mut mtu = ipv4();
        climb(&mut mtu, 1500, false);
        assert!(!mtu.on_lost_again(576) && !mtu.on_lost_again(1501), "neither tells anything");
        assert!(!mtu.on_lost_again(1400) && !mtu.on_lost_again(1500));
        mtu.on_arrived(1399);
        mtu.on_arrived(1501);
        assert!(mtu.on_lost_again(1500));
        mtu.on_black_hole();
        assert!((1285..=1300).contains(&climb(&mut mtu, 1300, false).1));
        assert!(!mtu.on_lost_again(1200) && !mtu.on_lost_again(1200));
        mtu.on_arrived(1200);
        assert!(!mtu.on_lost_again(1200));
    }
}
