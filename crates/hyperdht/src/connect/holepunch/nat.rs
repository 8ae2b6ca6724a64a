//! What the NAT before one socket does to its port (spec/connect.md §8).

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::connect::payload::Firewall;

/// Views of different nodes that are needed for a conclusion. With fewer, one liar decides.
pub(super) const SAMPLES: usize = 4;
/// Number of views after which a first conclusion is drawn.
const FIRST_SAMPLES: usize = 3;

/// Collects how nodes of the DHT see one socket, and finds out where a peer can reach it.
#[derive(Clone, Debug, Default)]
pub(super) struct NatView {
    hosts: Counts<Ipv4Addr>,
    addresses: Counts<SocketAddrV4>,
    seen_by: HashSet<SocketAddrV4>,
    sampled: usize,
    is_frozen: bool,
    firewall: Firewall,
    conclusion: Option<Vec<SocketAddrV4>>,
}

impl NatView {
    /// A node sees the socket at `seen_as`. Each node counts once.
    pub(super) fn add(&mut self, seen_as: SocketAddrV4, node: SocketAddrV4) {
        if !self.seen_by.insert(node) {
            return;
        }
        self.sampled += 1;
        self.hosts.add(*seen_as.ip());
        self.addresses.add(seen_as);
        if self.sampled >= FIRST_SAMPLES && !self.is_frozen {
            self.conclude();
        }
    }

    /// Fixes the conclusion, because the peer was told of it.
    pub(super) fn freeze(&mut self) {
        self.is_frozen = true;
    }

    pub(super) fn firewall(&self) -> Firewall {
        self.firewall
    }

    /// The address of the socket; the port is 0 if it differs for everybody. `None` while that is not known.
    pub(super) fn addresses(&self) -> Option<&[SocketAddrV4]> {
        self.conclusion.as_deref()
    }

    /// Everybody sees the socket at the same address.
    pub(super) fn is_consistent(&self) -> bool {
        self.firewall == Firewall::Consistent
    }

    /// More samples would not change the conclusion.
    pub(super) fn is_settled(&self) -> bool {
        self.is_consistent() || self.sampled >= SAMPLES
    }

    /// Nodes that were counted.
    pub(super) fn sampled(&self) -> usize {
        self.sampled
    }

    fn conclude(&mut self) {
        self.firewall = match (self.addresses.hits(0), self.addresses.hits(1)) {
            (3.., _) => Firewall::Consistent,
            (..=1, _) => Firewall::Random,
            _ if self.hosts.len() == 1 && self.sampled > FIRST_SAMPLES => Firewall::Random,
            // Two addresses that several nodes agree on: a network with two ways out.
            (_, 2..) if self.hosts.len() > 1 => Firewall::Consistent,
            _ if self.sampled > SAMPLES => Firewall::Random,
            _ => self.firewall,
        };
        self.conclusion = match self.firewall {
            Firewall::Random => self.hosts.first().map(|host| vec![SocketAddrV4::new(host, 0)]),
            Firewall::Consistent => {
                let all = self.addresses.0.iter().enumerate();
                Some(all.filter(|(i, (_, hits))| *i < 2 || *hits >= 2).map(|(_, (addr, _))| *addr).collect())
            }
            Firewall::Unknown | Firewall::Open => None,
        };
    }
}

/// Values with the number of times each was added, the most frequent first.
#[derive(Clone, Debug)]
struct Counts<T>(Vec<(T, usize)>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + PartialEq> Counts<T> {
    fn add(&mut self, value: T) {
        let Some(at) = self.0.iter().position(|(known, _)| *known == value) else {
            return self.0.push((value, 1));
        };
        self.0[at].1 += 1;
        let hits = self.0[at].1;
        // After those with the same count.
        let to = self.0.iter().position(|(_, others)| *others < hits).unwrap_or(at).min(at);
        self.0[to..=at].rotate_right(1);
    }

    fn hits(&self, rank: usize) -> usize {
        self.0.get(rank).map_or(0, |(_, hits)| *hits)
    }

    fn first(&self) -> Option<T> {
        self.0.first().map(|(value, _)| *value)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::connect::case;

    fn node(i: usize) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(u32::try_from(0x0808_0000 + i).unwrap()), 1)
    }

    fn view(samples: &[&str]) -> NatView {
        let mut view = NatView::default();
        for (i, sample) in samples.iter().enumerate() {
            view.add(sample.parse().unwrap(), node(i));
        }
        view
    }

    #[test]
    fn conclusions_are_those_of_the_vector() {
        for (id, expect) in case("nat-classification")["expect"].as_object().unwrap() {
            let samples: Vec<&str> =
                expect["samples"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
            let view = view(&samples);
            assert_eq!(view.firewall().to_uint(), expect["firewall"].as_u64().unwrap(), "{id}");
            let addresses = expect["addresses"].as_array().map(|list| {
                list.iter().map(|a| a.as_str().unwrap().parse().unwrap()).collect::<Vec<SocketAddrV4>>()
            });
            assert_eq!(view.addresses().map(<[_]>::to_vec), addresses, "{id}");
        }
    }

    #[test]
    fn each_node_has_one_say() {
        let mut view = NatView::default();
        for _ in 0..5 {
            view.add("1.1.1.1:10".parse().unwrap(), node(0));
        }
        assert_eq!(view.firewall(), Firewall::Unknown);
        assert!(!view.is_settled());
    }

    #[test]
    fn what_was_told_stands() {
        let mut view = view(&["1.1.1.1:10", "1.1.1.1:11", "1.1.1.1:12"]);
        view.freeze();
        for i in 3..9 {
            view.add("1.1.1.1:10".parse().unwrap(), node(i));
        }
        assert_eq!(view.firewall(), Firewall::Random);
    }
}
