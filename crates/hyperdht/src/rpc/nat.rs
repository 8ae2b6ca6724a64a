//! Finds out which address this node has, from what other nodes see (spec/dht.md §5).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Samples that count; older ones are forgotten.
const WINDOW: usize = 16;
/// How far back a sample looks for an equal one to join.
const LOOK_BACK: usize = 4;

/// Collects the addresses that other nodes see, and finds the one that most of them share.
#[derive(Clone, Debug, Default)]
pub(crate) struct NatSampler {
    /// Positions in `tallies` of each sample's address and of its host alone.
    samples: VecDeque<(usize, usize)>,
    tallies: Vec<Tally>,
    best_addr: Option<usize>,
    best_host: Option<usize>,
    conclusion: Option<SocketAddrV4>,
}

#[derive(Clone, Debug)]
struct Tally {
    host: Ipv4Addr,
    /// `None` where only the host is counted.
    port: Option<u16>,
    hits: usize,
}

impl NatSampler {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&mut self, addr: SocketAddrV4) {
        let recent: Vec<_> = self.samples.iter().rev().take(LOOK_BACK).copied().collect();
        let (host, port) = (*addr.ip(), addr.port());
        let by_addr = self.count(recent.iter().map(|sample| sample.0), host, Some(port));
        let by_host = self.count(recent.iter().map(|sample| sample.1), host, None);

        self.samples.push_back((by_addr, by_host));
        if self.samples.len() > WINDOW
            && let Some((old_addr, old_host)) = self.samples.pop_front()
        {
            self.tallies[old_addr].hits -= 1;
            self.tallies[old_host].hits -= 1;
        }

        let better = |best: Option<usize>, new: usize| match best {
            Some(best) if self.tallies[best].hits >= self.tallies[new].hits => Some(best),
            _ => Some(new),
        };
        self.best_addr = better(self.best_addr, by_addr);
        self.best_host = better(self.best_host, by_host);
        self.conclusion = self.conclude();
    }

    /// The own address. Its port is 0 if the host is known and the port differs for each observer. `None` if
    /// not even the host is agreed on.
    pub(crate) fn address(&self) -> Option<SocketAddrV4> {
        self.conclusion
    }

    /// The own address where its port is known as well.
    pub(crate) fn exact(&self) -> Option<SocketAddrV4> {
        self.conclusion.filter(|addr| addr.port() != 0)
    }

    fn conclude(&self) -> Option<SocketAddrV4> {
        let tally = |best: Option<usize>| best.map(|best| &self.tallies[best]);
        let enough = |tally: &&Tally| tally.hits >= self.threshold();
        let addr = tally(self.best_addr).filter(enough);
        let host = tally(self.best_host).filter(enough);
        addr.or(host).map(|tally| SocketAddrV4::new(tally.host, tally.port.unwrap_or(0)))
    }

    /// How many samples have to agree: all if there are few, all but three if there are many.
    fn threshold(&self) -> usize {
        let held = self.samples.len();
        let strays = match held {
            0..4 => 0,
            4..8 => 1,
            8..12 => 2,
            _ => 3,
        };
        held - strays
    }

    /// Adds a hit to the tally of an equal recent sample, or opens a new one.
    fn count(&mut self, mut recent: impl Iterator<Item = usize>, host: Ipv4Addr, port: Option<u16>) -> usize {
        if let Some(known) = recent.find(|&i| self.tallies[i].host == host && self.tallies[i].port == port) {
            self.tallies[known].hits += 1;
            return known;
        }
        let fresh = Tally { host, port, hits: 1 };
        match self.tallies.iter().position(|tally| tally.hits == 0) {
            Some(free) => {
                self.tallies[free] = fresh;
                free
            }
            None => {
                self.tallies.push(fresh);
                self.tallies.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::{text_addr, trace};

    #[test]
    fn conclusions_are_those_of_the_traces() {
        for id in ["nat-consistent", "nat-random-port", "nat-one-liar-early", "nat-two-hosts", "nat-window"] {
            let mut sampler = NatSampler::new();
            for (i, step) in trace(id)["steps"].as_array().unwrap().iter().enumerate() {
                sampler.add(text_addr(&step["add"]));
                let port = u16::try_from(step["port"].as_u64().unwrap()).unwrap();
                let host = step["host"].as_str().map(|host| host.parse().unwrap());
                let expected = host.map(|host| SocketAddrV4::new(host, port));
                assert_eq!(sampler.address(), expected, "{id}, step {i}");
                assert_eq!(sampler.samples.len() as u64, step["samples"].as_u64().unwrap());
                assert_eq!(sampler.threshold() as u64, step["threshold"].as_u64().unwrap());
            }
        }
    }
}
