//! What this node keeps for others (spec/dht.md §10, §11).

mod forwards;
mod generations;
pub mod message;
mod records;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use secret_stream::PublicKey;

use crate::command;
use crate::crypto::hash;
use crate::encoding::Reader;
use crate::id::Id;
use crate::rpc::{Answer, Incoming};
pub use forwards::{Forward, Forwards};
pub use generations::Generations;
use message::{Announce, AnnounceKind, LookupReply, MAX_RELAYS, MutableRecord, Peer, announce_signable};
use records::Records;

/// Entries a generation holds (JavaScript's values).
const MAX_RECORDS: usize = 65_536;
const MAX_VALUES: usize = 32_768;
/// How long records and values live unless renewed.
const RECORD_AGE: Duration = Duration::from_secs(20 * 60);
const VALUE_AGE: Duration = Duration::from_secs(48 * 60 * 60);
/// Peers in an answer to LOOKUP.
pub(crate) const MAX_PEERS: usize = 20;
/// Bytes of a mutable or immutable value: a reply with it, a token and 20 closer nodes stays
/// within the 1200 bytes that every path carries.
pub(crate) const MAX_VALUE_SIZE: usize = 1000;
/// How far ahead of our clock a bump may be, in milliseconds.
const MAX_BUMP_DRIFT: u64 = 60_000;

/// The moment a request is handled at.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    /// Milliseconds since 1970, which bumps are compared with.
    pub unix_millis: u64,
}

/// Records, and values that anybody may store.
#[derive(Debug)]
pub struct Store {
    pub(crate) records: Records,
    bumps: Generations<Id, u64>,
    refreshes: Generations<[u8; 32], Refresh>,
    mutables: Generations<Id, MutableRecord>,
    immutables: Generations<Id, Bytes>,
    rng: StdRng,
}

/// What the next preimage of a hash chain renews.
#[derive(Clone, Debug)]
struct Refresh {
    target: Id,
    public_key: PublicKey,
    record: Bytes,
    announce_self: bool,
}

impl Store {
    /// `limit_sources`: no IP address may fill a topic alone.
    pub fn new(now: Instant, limit_sources: bool, seed: [u8; 32]) -> Self {
        Self {
            records: Records::new(now, MAX_RECORDS, RECORD_AGE, limit_sources),
            bumps: Generations::new(now, MAX_RECORDS, RECORD_AGE),
            refreshes: Generations::new(now, MAX_RECORDS, RECORD_AGE),
            mutables: Generations::new(now, MAX_VALUES, VALUE_AGE),
            immutables: Generations::new(now, MAX_VALUES, VALUE_AGE),
            rng: StdRng::from_seed(seed),
        }
    }

    /// The answer of a persistent node with the id `own_id`. `None` is silence, which is what a
    /// request meets that is malformed or not properly signed.
    pub fn handle(
        &mut self,
        now: Now,
        own_id: &Id,
        incoming: &Incoming,
        forwards: &mut Forwards,
    ) -> Option<Answer> {
        let target = incoming.target.as_ref();
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
            _ => Some(Answer::Error(command::UNKNOWN_COMMAND)),
        }
    }

    /// Forgets a peer of this node itself.
    pub fn forget(&mut self, target: &Id, public_key: &PublicKey, forwards: &mut Forwards) {
        if hash(&[public_key]) == *target {
            forwards.remove(target);
        }
        self.records.remove(target, public_key);
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

    /// The preimage of what was announced proves that it comes from the same peer.
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
