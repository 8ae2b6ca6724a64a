//! What this node keeps for others (spec/dht.md §10, §11).

mod forwards;
pub(crate) mod message;
mod records;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use secret_stream::PublicKey;

use crate::command;
use crate::crypto::hash;
use crate::encoding::Reader;
use crate::generations::Generations;
use crate::id::Id;
use crate::limit::RateLimit;
use crate::rpc::{Answer, Incoming};
pub(crate) use forwards::{Forward, Forwards};
use message::{
    Announce, AnnounceKind, LookupReply, MAX_RELAYS, MutableRecord, Peer, PluginRequest, announce_signable,
};
use records::Records;

/// Entries a generation holds (JavaScript's values).
const MAX_RECORDS: usize = 65_536;
const MAX_VALUES: usize = 32_768;
/// How long records and values live unless renewed.
const RECORD_AGE: Duration = Duration::from_secs(20 * 60);
const VALUE_AGE: Duration = Duration::from_secs(48 * 60 * 60);
/// Peers in an answer to LOOKUP.
pub(crate) const MAX_PEERS: usize = 20;
/// Bytes of a mutable or immutable value: a reply with it, a token and 20 closer nodes stays within the 1200
/// bytes that every path carries.
pub(crate) const MAX_VALUE_SIZE: usize = 1000;
/// Announces and values that one network may store, in a second and at once, if sources are limited. At these
/// rates it takes a network hours to push the entries of others out, which are renewed every ten minutes.
const ANNOUNCES_PER_SECOND: u32 = 5;
const ANNOUNCE_BURST: u32 = 1000;
const PUTS_PER_SECOND: u32 = 1;
const PUT_BURST: u32 = 500;
/// How far ahead of our clock a bump may be, in milliseconds.
const MAX_BUMP_DRIFT: u64 = 60_000;

/// The moment a request is handled at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub instant: Instant,
    /// Milliseconds since 1970, which bumps are compared with.
    pub unix_millis: u64,
}

/// Records, and values that anybody may store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) records: Records,
    bumps: Generations<Id, u64>,
    refreshes: Generations<[u8; 32], Refresh>,
    mutables: Generations<Id, MutableRecord>,
    immutables: Generations<Id, Bytes>,
    limits: Option<Limits>,
    rng: StdRng,
}

/// Limits of what one network may store.
#[derive(Debug)]
struct Limits {
    announces: RateLimit,
    puts: RateLimit,
}

/// What is renewed by the next preimage of a hash chain.
#[derive(Clone, Debug)]
struct Refresh {
    target: Id,
    public_key: PublicKey,
    record: Bytes,
    announce_self: bool,
}

impl Store {
    /// `limit_sources`: no IP address may fill a topic alone, and no network the store.
    pub(crate) fn new(now: Instant, limit_sources: bool, seed: [u8; 32]) -> Self {
        Self {
            records: Records::new(now, MAX_RECORDS, RECORD_AGE, limit_sources),
            bumps: Generations::new(now, MAX_RECORDS, RECORD_AGE),
            refreshes: Generations::new(now, MAX_RECORDS, RECORD_AGE),
            mutables: Generations::new(now, MAX_VALUES, VALUE_AGE),
            immutables: Generations::new(now, MAX_VALUES, VALUE_AGE),
            limits: limit_sources.then(|| Limits {
                announces: RateLimit::new(ANNOUNCES_PER_SECOND, ANNOUNCE_BURST),
                puts: RateLimit::new(PUTS_PER_SECOND, PUT_BURST),
            }),
            rng: StdRng::from_seed(seed),
        }
    }

    /// The answer of a persistent node with the id `own_id`. `None` for silence, if the request is malformed
    /// or not properly signed.
    pub(crate) fn handle(
        &mut self,
        now: Now,
        own_id: &Id,
        incoming: &Incoming,
        forwards: &mut Forwards,
    ) -> Option<Answer> {
        let target = incoming.target.as_ref();
        if !self.may_write(now.instant, incoming) {
            return None;
        }
        match incoming.command {
            command::FIND_PEER => Some(Answer::reply(forwards.record(now.instant, target?))),
            command::LOOKUP => Some(Answer::reply(self.lookup(now, target?, forwards))),
            command::ANNOUNCE => self.announce(now, own_id, incoming, forwards),
            command::UNANNOUNCE => self.unannounce(own_id, incoming, forwards),
            command::MUTABLE_PUT => self.mutable_put(now, incoming),
            command::MUTABLE_GET => self.mutable_get(now, incoming),
            command::IMMUTABLE_PUT => self.immutable_put(now, incoming),
            command::IMMUTABLE_GET => {
                let value = self.immutables.get(now.instant, target?).cloned();
                Some(Answer::reply(value))
            }
            command::PLUGIN => {
                // There are no plugins here. Without an answer the asker would wait in vain.
                PluginRequest::decode(incoming.value.as_ref()?).ok()?;
                Some(Answer::Error(command::UNKNOWN_COMMAND))
            }
            _ => Some(Answer::Error(command::UNKNOWN_COMMAND)),
        }
    }

    /// Forgets a peer of this node itself.
    pub(crate) fn forget(&mut self, target: &Id, public_key: &PublicKey, forwards: &mut Forwards) {
        if hash(&[public_key]) == *target {
            forwards.remove(target);
        }
        self.records.remove(target, public_key);
    }

    /// Number of records, values, and networks they came from.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        let limits = self.limits.as_ref();
        let sources = limits.map_or(0, |limits| limits.announces.held() + limits.puts.held());
        let values = self.mutables.len() + self.immutables.len();
        self.records.len() + self.bumps.len() + self.refreshes.len() + values + sources
    }

    fn may_write(&mut self, now: Instant, incoming: &Incoming) -> bool {
        let Some(limits) = &mut self.limits else { return true };
        match incoming.command {
            command::ANNOUNCE => limits.announces.allow(now, *incoming.from.ip()),
            command::MUTABLE_PUT | command::IMMUTABLE_PUT => limits.puts.allow(now, *incoming.from.ip()),
            _ => true,
        }
    }

    fn lookup(&mut self, now: Now, target: &Id, forwards: &mut Forwards) -> Option<Bytes> {
        let mut records = self.records.sample(now.instant, target, MAX_PEERS, &mut self.rng);
        if records.len() < MAX_PEERS {
            records.extend(forwards.record(now.instant, target));
        }
        if records.is_empty() {
            return None;
        }
        let bump = self.bumps.get(now.instant, target).map_or(0, |bump| *bump);
        Some(LookupReply::encode_records(&records, bump).into())
    }

    fn announce(
        &mut self,
        now: Now,
        own_id: &Id,
        incoming: &Incoming,
        forwards: &mut Forwards,
    ) -> Option<Answer> {
        let target = incoming.target?;
        let token = incoming.token.as_ref()?;
        let announce = Announce::decode(incoming.value.as_ref()?).ok()?;
        let Some(mut peer) = announce.peer else {
            return self.refresh(now, incoming, announce.refresh?, forwards);
        };
        let refresh = announce.refresh;
        let kind = AnnounceKind::Announce;
        let signable = announce_signable(kind, &target, token, own_id, &peer, refresh.as_ref());
        if !secret_stream::verify(&peer.public_key, &signable, &announce.signature?) {
            return None;
        }

        peer.relay_addresses.truncate(MAX_RELAYS);
        let entry = Refresh {
            target,
            public_key: peer.public_key,
            record: peer.encode().into(),
            announce_self: hash(&[&peer.public_key]) == target,
        };
        if !self.keep(now, incoming, &entry, forwards) {
            return None;
        }
        if !entry.announce_self && announce.bump <= now.unix_millis + MAX_BUMP_DRIFT {
            let current = self.bumps.get(now.instant, &target).map_or(0, |bump| *bump);
            if announce.bump > current {
                self.bumps.insert(now.instant, target, announce.bump);
            }
        }
        if let Some(refresh) = refresh {
            self.refreshes.insert(now.instant, refresh, entry);
        }
        Some(Answer::bare(None))
    }

    /// The preimage of the announced hash proves that the same peer sends it.
    fn refresh(
        &mut self,
        now: Now,
        incoming: &Incoming,
        preimage: [u8; 32],
        forwards: &mut Forwards,
    ) -> Option<Answer> {
        let head = hash(&[&preimage]);
        self.refreshes.get(now.instant, &head)?;
        let entry = self.refreshes.remove(&head)?;
        let kept = self.keep(now, incoming, &entry, forwards);
        self.refreshes.insert(now.instant, preimage, entry);
        kept.then(|| Answer::bare(None))
    }

    /// False if there is no room for it.
    fn keep(&mut self, now: Now, incoming: &Incoming, entry: &Refresh, forwards: &mut Forwards) -> bool {
        let record = entry.record.clone();
        if entry.announce_self {
            forwards.insert(now.instant, entry.target, Forward { relay: incoming.from, record });
            self.records.remove(&entry.target, &entry.public_key);
            return true;
        }
        let source = *incoming.from.ip();
        self.records.add(now.instant, entry.target, entry.public_key, record, source)
    }

    fn unannounce(&mut self, own_id: &Id, incoming: &Incoming, forwards: &mut Forwards) -> Option<Answer> {
        let target = incoming.target.as_ref()?;
        let token = incoming.token.as_ref()?;
        let announce = Announce::decode(incoming.value.as_ref()?).ok()?;
        let Peer { public_key, .. } = announce.peer.as_ref()?;
        let signable = announce_signable(
            AnnounceKind::Unannounce,
            target,
            token,
            own_id,
            announce.peer.as_ref()?,
            announce.refresh.as_ref(),
        );
        if !secret_stream::verify(public_key, &signable, &announce.signature?) {
            return None;
        }
        self.forget(target, public_key, forwards);
        Some(Answer::bare(None))
    }

    fn mutable_put(&mut self, now: Now, incoming: &Incoming) -> Option<Answer> {
        let target = incoming.target?;
        incoming.token?;
        let (public_key, put) = MutableRecord::decode_put(incoming.value.as_ref()?).ok()?;
        let too_large = put.value.len() > MAX_VALUE_SIZE;
        if too_large || hash(&[&public_key]) != target || !put.verify(&public_key) {
            return None;
        }
        if let Some(held) = self.mutables.get(now.instant, &target) {
            if held.seq == put.seq && held.value != put.value {
                return Some(Answer::Error(command::SEQ_REUSED));
            }
            if put.seq < held.seq {
                return Some(Answer::Error(command::SEQ_TOO_LOW));
            }
        }
        self.mutables.insert(now.instant, target, put);
        Some(Answer::reply(None))
    }

    fn mutable_get(&mut self, now: Now, incoming: &Incoming) -> Option<Answer> {
        let asked = Reader::new(incoming.value.as_ref()?).uint().ok()?;
        let held = self.mutables.get(now.instant, incoming.target.as_ref()?);
        let value = held.filter(|held| held.seq >= asked).map(|held| held.encode().into());
        Some(Answer::reply(value))
    }

    fn immutable_put(&mut self, now: Now, incoming: &Incoming) -> Option<Answer> {
        let target = incoming.target?;
        incoming.token?;
        let value = incoming.value.as_ref()?;
        if value.len() > MAX_VALUE_SIZE || hash(&[value]) != target {
            return None;
        }
        self.immutables.insert(now.instant, target, value.clone());
        Some(Answer::reply(None))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use secret_stream::KeyPair;

    use super::*;
    use crate::rpc::Via;
    use message::sign_announce;

    const OWN: Id = [9; 32];
    const TOKEN: [u8; 32] = [8; 32];

    struct TestStore {
        now: Now,
        store: Store,
        forwards: Forwards,
    }

    impl TestStore {
        fn new() -> Self {
            let instant = Instant::now();
            let now = Now { instant, unix_millis: 1_000_000 };
            Self { now, store: Store::new(instant, true, [0; 32]), forwards: Forwards::new(instant) }
        }

        fn ask(&mut self, command: u64, target: Id, value: Option<Vec<u8>>) -> Option<Answer> {
            self.ask_from(Ipv4Addr::new(8, 8, 8, 8), command, target, value)
        }

        fn ask_from(
            &mut self,
            ip: Ipv4Addr,
            command: u64,
            target: Id,
            value: Option<Vec<u8>>,
        ) -> Option<Answer> {
            let incoming = Incoming {
                via: Via::Server,
                from: SocketAddrV4::new(ip, 1),
                to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
                tid: 1,
                id: None,
                token: Some(TOKEN),
                command,
                target: Some(target),
                value: value.map(Bytes::from),
            };
            self.store.handle(self.now, &OWN, &incoming, &mut self.forwards)
        }

        fn announce(&mut self, target: Id, key_pair: &KeyPair, bump: u64) -> Option<Answer> {
            let kind = AnnounceKind::Announce;
            let value = sign_announce(kind, &target, &TOKEN, &OWN, key_pair, &[], bump);
            self.ask(command::ANNOUNCE, target, Some(value))
        }

        fn lookup(&mut self, target: Id) -> Option<LookupReply> {
            let Some(Answer::Reply { value, .. }) = self.ask(command::LOOKUP, target, None) else {
                panic!("an answer")
            };
            value.map(|value| LookupReply::decode(&value).unwrap())
        }
    }

    #[test]
    fn a_bump_only_rises_and_never_far_ahead_of_the_clock() {
        let (mut node, target) = (TestStore::new(), [1; 32]);
        for (bump, expected) in [(5, 5), (3, 5), (1_060_000, 1_060_000), (1_060_001, 1_060_000)] {
            assert!(node.announce(target, &KeyPair::generate(), bump).is_some());
            assert_eq!(node.lookup(target).unwrap().bump, expected);
        }
    }

    #[test]
    fn own_servers_are_found_and_never_overwritten() {
        let (mut node, key_pair) = (TestStore::new(), KeyPair::generate());
        let target = hash(&[&key_pair.public_key()]);
        let own =
            Peer { public_key: key_pair.public_key(), relay_addresses: vec!["1.2.3.4:5".parse().unwrap()] };
        node.forwards.insert_own(target, own.encode().into());
        node.announce(target, &key_pair, 0).unwrap();
        assert_eq!(node.forwards.get(node.now.instant, &target), None);
        assert_eq!(node.lookup(target).unwrap().peers, [own]);
        node.forwards.remove_own(&target);
        assert_eq!(node.lookup(target), None);
    }

    #[test]
    fn values_of_more_than_the_limit_are_not_stored() {
        let mut node = TestStore::new();
        for (size, stored) in [(MAX_VALUE_SIZE, true), (MAX_VALUE_SIZE + 1, false)] {
            let value = vec![1; size];
            let target = hash(&[&value]);
            assert_eq!(node.ask(command::IMMUTABLE_PUT, target, Some(value)).is_some(), stored);

            let key_pair = KeyPair::generate();
            let put = MutableRecord::sign(0, vec![1; size].into(), &key_pair);
            let public_key = key_pair.public_key();
            let put = put.encode_put(&public_key);
            let target = hash(&[&public_key]);
            assert_eq!(node.ask(command::MUTABLE_PUT, target, Some(put)).is_some(), stored);
        }
    }

    #[test]
    fn one_network_writes_no_more_than_its_share() {
        let mut node = TestStore::new();
        let mut put = |ip, i: u32| {
            let value = i.to_le_bytes().to_vec();
            node.ask_from(ip, command::IMMUTABLE_PUT, hash(&[&value]), Some(value)).is_some()
        };
        let stored = (0..1000).filter(|i| put(Ipv4Addr::new(8, 8, 8, *i as u8), *i)).count();
        assert_eq!(stored, PUT_BURST as usize);
        assert!(put(Ipv4Addr::new(8, 8, 9, 1), 0));
    }
}
