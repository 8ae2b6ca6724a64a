//! Who announced itself for which topic.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use rand::seq::IteratorRandom;
use secret_stream::PublicKey;

use crate::id::Id;

/// Records of one target that a generation holds. A lookup returns 20 at random; whoever wants to push the
/// others out must store as many.
const MAX_PER_TARGET: usize = 512;
/// Records of one target from one IP, if sources are limited: as many as a household needs.
const MAX_PER_SOURCE: usize = 16;

type Peers = HashMap<PublicKey, Record>;

/// Peer records by target and key, in two generations. Reading does not renew them, because peers announce
/// themselves again.
#[derive(Debug)]
pub(crate) struct Records {
    max_size: usize,
    turn_every: Duration,
    turned: Instant,
    limit_sources: bool,
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    targets: HashMap<Id, Peers>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Record {
    bytes: Bytes,
    source: Ipv4Addr,
}

impl Records {
    /// `max_size`: of a generation. `limit_sources`: no IP may fill a target alone.
    pub(crate) fn new(now: Instant, max_size: usize, max_age: Duration, limit_sources: bool) -> Self {
        Self {
            max_size,
            turn_every: max_age * 2 / 3,
            turned: now,
            limit_sources,
            young: Generation::default(),
            old: Generation::default(),
        }
    }

    /// Adds a record or replaces the one of the same target and key. False if there is no room.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        target: Id,
        public_key: PublicKey,
        bytes: Bytes,
        source: Ipv4Addr,
    ) -> bool {
        self.expire(now);
        let peers = self.young.targets.entry(target).or_default();
        if !peers.contains_key(&public_key) {
            let of_source = peers.values().filter(|record| record.source == source);
            let source_full = self.limit_sources && of_source.count() >= MAX_PER_SOURCE;
            if source_full || peers.len() >= MAX_PER_TARGET {
                return false;
            }
            self.young.len += 1;
        }
        peers.insert(public_key, Record { bytes, source });
        self.old.remove(&target, &public_key);
        if self.young.len > self.max_size {
            self.turn(now);
        }
        true
    }

    /// At most `count` records of a target, drawn at random.
    pub(crate) fn sample(
        &mut self,
        now: Instant,
        target: &Id,
        count: usize,
        rng: &mut impl Rng,
    ) -> Vec<Bytes> {
        self.expire(now);
        let generations = [&self.young, &self.old];
        let peers = generations.into_iter().filter_map(|generation| generation.targets.get(target));
        let records = peers.flat_map(Peers::values).map(|record| &record.bytes);
        records.sample(rng, count).into_iter().cloned().collect()
    }

    pub(crate) fn remove(&mut self, target: &Id, public_key: &PublicKey) {
        self.young.remove(target, public_key);
        self.old.remove(target, public_key);
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.young.len + self.old.len
    }

    fn expire(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age >= self.turn_every * 2 {
            self.young = Generation::default();
            self.turn(now);
        } else if age >= self.turn_every {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.turned = now;
    }
}

impl Generation {
    fn remove(&mut self, target: &Id, public_key: &PublicKey) {
        if let Some(peers) = self.targets.get_mut(target) {
            self.len -= usize::from(peers.remove(public_key).is_some());
            if peers.is_empty() {
                self.targets.remove(target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const TARGET: Id = [7; 32];
    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const AGE: Duration = Duration::from_secs(30);

    struct Cache {
        now: Instant,
        records: Records,
        rng: StdRng,
    }

    impl Cache {
        fn new(max_size: usize, limit_sources: bool) -> Self {
            let now = Instant::now();
            let records = Records::new(now, max_size, AGE, limit_sources);
            Self { now, records, rng: StdRng::from_seed([0; 32]) }
        }

        fn add(&mut self, key: u16, value: &'static str) -> bool {
            let mut public_key = [0; 32];
            public_key[..2].copy_from_slice(&key.to_le_bytes());
            self.records.add(self.now, TARGET, public_key, value.into(), SOURCE)
        }

        fn all(&mut self) -> Vec<Bytes> {
            let mut all = self.records.sample(self.now, &TARGET, 1000, &mut self.rng);
            all.sort_unstable();
            all
        }
    }

    /// The steps of the trace `record-cache`, but for "second", which JavaScript would ignore: a peer that
    /// has moved could not be reached for minutes.
    #[test]
    fn generations_turn_as_in_the_trace_and_news_are_taken() {
        let mut cache = Cache::new(2, false);
        cache.add(1, "first");
        cache.add(1, "second");
        assert_eq!(cache.all(), ["second"]);
        cache.add(2, "p2");
        assert_eq!((cache.records.young.len, cache.records.old.len), (2, 0));
        cache.add(3, "p3");
        assert_eq!((cache.records.young.len, cache.records.old.len), (0, 3));
        cache.add(1, "third");
        assert_eq!((cache.records.young.len, cache.records.old.len), (1, 2));
        assert_eq!(cache.all(), ["p2", "p3", "third"]);
        cache.now += AGE * 2 / 3;
        assert_eq!(cache.all(), ["third"]);
        cache.now += AGE * 2 / 3;
        assert!(cache.all().is_empty());
    }

    #[test]
    fn a_sample_is_of_the_size_asked_for() {
        let mut cache = Cache::new(100, false);
        for key in 0..30 {
            cache.add(key, "record");
        }
        assert_eq!(cache.records.sample(cache.now, &TARGET, 20, &mut cache.rng).len(), 20);
        assert!(cache.records.sample(cache.now, &[8; 32], 20, &mut cache.rng).is_empty());
    }

    #[test]
    fn nobody_fills_a_target_alone() {
        let mut cache = Cache::new(10_000, true);
        let taken = (0..1000).filter(|key| cache.add(*key, "record")).count();
        assert_eq!(taken, MAX_PER_SOURCE);
        assert!(cache.add(0, "again"), "who is there may renew");

        let mut cache = Cache::new(10_000, false);
        let taken = (0..1000).filter(|key| cache.add(*key, "record")).count();
        assert_eq!(taken, MAX_PER_TARGET);
    }
}
