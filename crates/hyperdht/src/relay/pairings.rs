//! Who waits at a relay for whom, as a state machine without I/O.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::message::{Pair, PairingToken};

/// Tokens that one client may wait for at once: one for each connection that it is making.
const MAX_WAITING_PER_SESSION: usize = 16;

/// How long a client may stay without a pair. Peers give a relay 15 s to find the other
/// (hyperdht/lib/connect.js relayConnection).
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// What a relay does for its clients at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Clients connected at once. Beyond, new ones are sent away.
    pub sessions: usize,
    /// Of these, those from one address.
    pub sessions_per_host: usize,
    /// Pairs at once. Beyond, clients wait in vain.
    pub pairs: usize,
    /// Bytes a second that a pair sends, both directions together.
    pub bytes_per_second: u64,
    /// Bytes that a pair sends until it is ended.
    pub bytes_per_pair: u64,
    /// How long a pair may send nothing until it is ended. Peers of the network send something every five
    /// seconds.
    pub idle: Duration,
}

impl Default for RelayLimits {
    /// Enough for a team's files through one machine: 64 pairs at 32 MiB a second each, 256 GiB a pair, a
    /// minute of silence; 512 clients, 64 of them from one address.
    fn default() -> Self {
        Self {
            sessions: 512,
            sessions_per_host: 64,
            pairs: 64,
            bytes_per_second: 32 << 20,
            bytes_per_pair: 256 << 30,
            idle: Duration::from_secs(60),
        }
    }
}

/// Names a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(pub u64);

/// One side of a pair, or of one to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub session: SessionId,
    pub pair: Pair,
    /// The client is one that the relay is there for.
    is_known: bool,
}

/// The sessions of a relay, the tokens they wait for, and the pairs they are in.
#[derive(Debug)]
pub(crate) struct Pairings {
    limits: RelayLimits,
    sessions: HashMap<SessionId, Session>,
    waiting: HashMap<PairingToken, Side>,
    pairs: HashMap<PairingToken, [SessionId; 2]>,
    next: u64,
}

#[derive(Debug)]
struct Session {
    host: IpAddr,
    waiting: usize,
    pairs: usize,
    /// Since when it is in no pair.
    idle_since: Instant,
}

impl Pairings {
    pub(crate) fn new(limits: RelayLimits) -> Self {
        Self { limits, sessions: HashMap::new(), waiting: HashMap::new(), pairs: HashMap::new(), next: 0 }
    }

    /// Adds a client that has connected; nothing if there are too many.
    pub(crate) fn open(&mut self, now: Instant, host: IpAddr) -> Option<SessionId> {
        let of_host = self.sessions.values().filter(|session| session.host == host).count();
        if self.sessions.len() >= self.limits.sessions || of_host >= self.limits.sessions_per_host {
            return None;
        }
        let id = SessionId(self.next);
        self.next += 1;
        self.sessions.insert(id, Session { host, waiting: 0, pairs: 0, idle_since: now });
        Some(id)
    }

    /// A client wants to be paired; `is_known` if the relay is there for it. Of two sides one must be. The
    /// other side, if it waits already: they are a pair now.
    pub(crate) fn pair(&mut self, session: SessionId, pair: Pair, is_known: bool) -> Option<Side> {
        if self.pairs.contains_key(&pair.token) {
            return None;
        }
        let own = self.sessions.get_mut(&session)?;
        let Some(other) = self.waiting.get(&pair.token).copied() else {
            if own.waiting < MAX_WAITING_PER_SESSION {
                own.waiting += 1;
                self.waiting.insert(pair.token, Side { session, pair, is_known });
            }
            return None;
        };
        let fits = other.pair.is_initiator != pair.is_initiator && (is_known || other.is_known);
        if !fits || self.pairs.len() >= self.limits.pairs {
            return None;
        }
        own.pairs += 1;
        self.waiting.remove(&pair.token);
        if let Some(session) = self.sessions.get_mut(&other.session) {
            session.waiting = session.waiting.saturating_sub(1);
            session.pairs += 1;
        }
        self.pairs.insert(pair.token, [session, other.session]);
        Some(other)
    }

    /// A client wants to be paired no more. True if it was, and the pair is over.
    pub(crate) fn unpair(&mut self, now: Instant, session: SessionId, token: &PairingToken) -> bool {
        if self.waiting.get(token).is_some_and(|side| side.session == session) {
            self.waiting.remove(token);
            if let Some(session) = self.sessions.get_mut(&session) {
                session.waiting = session.waiting.saturating_sub(1);
            }
        }
        let is_its = self.pairs.get(token).is_some_and(|sessions| sessions.contains(&session));
        if is_its {
            self.end(now, token);
        }
        is_its
    }

    /// A pair is over. Those of the two clients that are in no other.
    pub(crate) fn end(&mut self, now: Instant, token: &PairingToken) -> Vec<SessionId> {
        let mut without = Vec::new();
        for id in self.pairs.remove(token).into_iter().flatten() {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.pairs = session.pairs.saturating_sub(1);
                session.idle_since = now;
                if session.pairs == 0 && session.waiting == 0 {
                    without.push(id);
                }
            }
        }
        without
    }

    /// A client is gone. The pairs that are over with it.
    pub(crate) fn close(&mut self, now: Instant, session: SessionId) -> Vec<PairingToken> {
        self.sessions.remove(&session);
        self.waiting.retain(|_, side| side.session != session);
        let is_its = |sessions: &[SessionId; 2]| sessions.contains(&session);
        let over: Vec<_> =
            self.pairs.iter().filter(|(_, sessions)| is_its(sessions)).map(|(token, _)| *token).collect();
        for token in &over {
            self.end(now, token);
        }
        over
    }

    /// Entries held for all clients together.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held(&self) -> usize {
        self.sessions.len() + self.waiting.len() + self.pairs.len()
    }

    /// The clients that have been in no pair for too long.
    pub(crate) fn idle(&self, now: Instant) -> Vec<SessionId> {
        let is_idle = |session: &Session| {
            session.pairs == 0 && now.saturating_duration_since(session.idle_since) >= IDLE_LIMIT
        };
        self.sessions.iter().filter(|(_, session)| is_idle(session)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn limits() -> RelayLimits {
        RelayLimits { sessions: 4, sessions_per_host: 3, pairs: 1, ..RelayLimits::default() }
    }

    fn side(is_initiator: bool, token: u8) -> Pair {
        Pair { is_initiator, token: [token; 32], stream: u32::from(token) }
    }

    fn opened(count: u8) -> (Pairings, Instant, Vec<SessionId>) {
        let (mut pairings, now) = (Pairings::new(limits()), Instant::now());
        let sessions = (0..count).map(|_| pairings.open(now, HOST).unwrap()).collect();
        (pairings, now, sessions)
    }

    #[test]
    fn two_sides_of_one_token_are_a_pair_if_one_is_known() {
        for (first, second, paired) in
            [(true, true, true), (true, false, true), (false, true, true), (false, false, false)]
        {
            let (mut pairings, _, ids) = opened(2);
            assert_eq!(pairings.pair(ids[0], side(true, 1), first), None);
            assert_eq!(pairings.pair(ids[1], side(true, 1), second), None, "the same side");
            let other = pairings.pair(ids[1], side(false, 1), second);
            assert_eq!(other.map(|other| other.session), paired.then_some(ids[0]));
            assert_eq!(pairings.pair(ids[0], side(true, 1), true), None, "taken");
        }
    }

    #[test]
    fn no_more_clients_or_pairs_than_the_limits() {
        let (mut pairings, now, ids) = opened(3);
        assert_eq!(pairings.open(now, HOST), None);
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        let other = pairings.open(now, elsewhere).unwrap();
        assert_eq!(pairings.open(now, elsewhere), None);
        for token in [1, 2] {
            pairings.pair(ids[0], side(true, token), true);
        }
        assert!(pairings.pair(ids[1], side(false, 1), true).is_some());
        assert!(pairings.pair(other, side(false, 2), true).is_none());
        assert_eq!(pairings.close(now, ids[1]), [[1; 32]]);
        assert!(pairings.pair(other, side(false, 2), true).is_some());
        for token in 10..100 {
            pairings.pair(ids[2], side(true, token), true);
        }
        assert_eq!(pairings.waiting.len(), MAX_WAITING_PER_SESSION);
    }

    #[test]
    fn a_token_is_given_up_by_its_owner_alone() {
        let (mut pairings, now, ids) = opened(3);
        pairings.pair(ids[0], side(true, 1), true);
        assert!(!pairings.unpair(now, ids[1], &[1; 32]));
        assert_eq!(pairings.waiting.len(), 1);
        assert!(!pairings.unpair(now, ids[0], &[1; 32]));
        assert_eq!(pairings.waiting.len(), 0);
        pairings.pair(ids[0], side(true, 1), true);
        pairings.pair(ids[1], side(false, 1), true);
        assert!(!pairings.unpair(now, ids[2], &[1; 32]));
        assert!(pairings.unpair(now, ids[1], &[1; 32]));
        assert!(pairings.pairs.is_empty());
    }

    #[test]
    fn clients_without_a_pair_are_idle_after_a_while() {
        let (mut pairings, now, ids) = opened(3);
        pairings.pair(ids[0], side(true, 1), true);
        pairings.pair(ids[1], side(false, 1), true);
        assert_eq!(pairings.idle(now + IDLE_LIMIT / 2), []);
        assert_eq!(pairings.idle(now + IDLE_LIMIT), [ids[2]]);
        pairings.end(now + IDLE_LIMIT, &[1; 32]);
        let mut idle = pairings.idle(now + 2 * IDLE_LIMIT);
        idle.sort();
        assert_eq!(idle, ids);
    }

    proptest! {
        #[test]
        fn counts_hold_whatever_happens(
            steps in proptest::collection::vec((0..5u8, 0..6u64, 0..6u8, any::<bool>()), 0..200)
        ) {
            let now = Instant::now();
            let mut pairings = Pairings::new(limits());
            for (what, session, token, flag) in steps {
                let session = SessionId(session);
                match what {
                    0 => drop(pairings.open(now, HOST)),
                    1 => drop(pairings.pair(session, side(flag, token), true)),
                    2 => drop(pairings.unpair(now, session, &[token; 32])),
                    3 => drop(pairings.close(now, session)),
                    _ => drop(pairings.end(now, &[token; 32])),
                }
                let waiting: usize = pairings.sessions.values().map(|session| session.waiting).sum();
                prop_assert_eq!(waiting, pairings.waiting.len());
                let pairs: usize = pairings.sessions.values().map(|session| session.pairs).sum();
                prop_assert!(pairs == 2 * pairings.pairs.len() && pairings.pairs.len() <= 1);
            }
        }
    }
}
