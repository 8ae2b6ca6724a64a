//! The file of the actors that were met, which all processes of a user share.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use protocol::handover::Handover;
use protocol::scope::Scope;
use protocol::text::display;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::disk::{self, FileState, OTHERS_WRITE};
use super::known_peer::KnownPeer;
use crate::error::{Code, Error, Result};
use crate::private::private_dir;
use crate::sync::lock;

/// The version of the file that is written here, and the only one that is read.
const VERSION: u32 = 1;

/// Actors that are kept: strangers could fill a disk otherwise. Those that were met stay, since forgetting
/// one would take its next identity on faith.
const MAX_PEERS: usize = 4096;

/// The longest id of an actor that is kept, bytes; ids in offers are no longer.
const MAX_ACTOR_LEN: usize = 512;

/// The largest file that is read: the most actors with long ids and all their refused identities.
const MAX_LEN: u64 = 16 << 20;

/// How exact the time of the last transfer is: a file that is written for each one would slow all down.
const LAST_SEEN_STEP: Duration = Duration::HOUR;

/// The file of the actors that were met.
#[derive(Debug)]
pub(super) struct KnownPeers {
    home: PathBuf,
    path: PathBuf,
    last_read: Mutex<Option<LastRead>>,
}

/// What was read last, and the state that the file was in; that may be missing.
#[derive(Debug)]
struct LastRead {
    state: Option<FileState>,
    peers: Arc<Vec<KnownPeer>>,
}

#[derive(Serialize, Deserialize)]
struct Document<P> {
    version: u32,
    peers: P,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl KnownPeers {
    /// The file in this home.
    pub(super) fn new(home: PathBuf) -> Self {
        Self { path: home.join("known_peers.json"), home, last_read: Mutex::default() }
    }

    /// An actor, if it is known.
    pub(super) fn find(&self, scope: &Scope, actor: &str) -> Result<Option<KnownPeer>> {
        Ok(self.read()?.iter().find(|peer| peer.is(scope, actor)).cloned())
    }

    /// Whether anybody was ever met, other than by hand; so it seems, too, where that can't be read.
    pub(super) fn has_met_any(&self) -> bool {
        self.read().map_or(true, |peers| peers.iter().any(|peer| !peer.accepted))
    }

    /// All that are known in a scope, by their ids.
    pub(super) fn of(&self, scope: &Scope) -> Result<Vec<KnownPeer>> {
        let mut peers: Vec<_> = self.read()?.iter().filter(|peer| peer.is_in(scope)).cloned().collect();
        peers.sort_by(|one, other| one.actor.cmp(&other.actor));
        Ok(peers)
    }

    /// Whether an identity is pinned, and the time of its last transfer exact enough.
    pub(super) fn was_seen_lately(
        &self,
        scope: &Scope,
        actor: &str,
        identity: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<bool> {
        let peers = self.read()?;
        let peer = peers.iter().find(|peer| peer.is(scope, actor));
        Ok(peer
            .is_some_and(|peer| peer.identity == *identity && (now - peer.last_seen).abs() < LAST_SEEN_STEP))
    }

    /// Pins an identity, notes that it was seen again, or that it takes the place of the one before.
    pub(super) fn pin(
        &self,
        scope: &Scope,
        actor: &str,
        identity: &[u8; 32],
        handovers: &[Handover],
        now: OffsetDateTime,
    ) -> Result<()> {
        if self.was_seen_lately(scope, actor, identity, now)? {
            return Ok(());
        }
        self.change(|peers| {
            match peers.iter_mut().find(|peer| peer.is(scope, actor)) {
                Some(peer) if peer.identity == *identity => peer.last_seen = now,
                Some(peer) if peer.hands_over_to(identity, handovers) => {
                    let (actor, before) = (display(actor), hex::encode(peer.identity));
                    tracing::info!("{actor} is known by {} now, as {before} says", hex::encode(identity));
                    peer.hand_over(*identity, now);
                }
                Some(peer) => return Err(peer.refuses(Some(identity))),
                None => add(peers, KnownPeer::new(scope, actor, *identity, now))?,
            }
            Ok(((), true))
        })
    }

    /// Notes that a known actor showed another identity, so that it can be accepted.
    pub(super) fn refused(
        &self,
        scope: &Scope,
        actor: &str,
        identity: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<()> {
        // Whoever is refused again and again makes this write once.
        if self.find(scope, actor)?.is_none_or(|mut peer| !peer.note_refused(identity, now)) {
            return Ok(());
        }
        self.change(|peers| {
            let peer = peers.iter_mut().find(|peer| peer.is(scope, actor));
            let noted =
                peer.is_some_and(|peer| peer.identity != *identity && peer.note_refused(identity, now));
            Ok(((), noted))
        })
    }

    /// Pins an identity by hand; without one, the only one that was refused.
    pub(super) fn accept(
        &self,
        scope: &Scope,
        actor: &str,
        identity: Option<[u8; 32]>,
        now: OffsetDateTime,
    ) -> Result<KnownPeer> {
        self.change(|peers| {
            let known = peers.iter_mut().find(|peer| peer.is(scope, actor));
            let identity = match identity {
                Some(identity) => identity,
                None => only_refused(actor, known.as_deref())?,
            };
            let accepted = match known {
                Some(known) => {
                    if known.identity != identity {
                        (known.identity, known.first_seen) = (identity, now);
                    }
                    (known.accepted, known.last_seen) = (true, now);
                    known.refused.clear();
                    known.clone()
                }
                None => {
                    let accepted =
                        KnownPeer { accepted: true, ..KnownPeer::new(scope, actor, identity, now) };
                    add(peers, accepted.clone())?;
                    accepted
                }
            };
            Ok((accepted, true))
        })
    }

    /// Forgets an actor; returns what was known of it.
    pub(super) fn forget(&self, scope: &Scope, actor: &str) -> Result<Option<KnownPeer>> {
        if self.find(scope, actor)?.is_none() {
            return Ok(None);
        }
        self.change(|peers| {
            let at = peers.iter().position(|peer| peer.is(scope, actor));
            let forgotten = at.map(|at| peers.remove(at));
            let is_changed = forgotten.is_some();
            Ok((forgotten, is_changed))
        })
    }

    /// What the file says now. It is read again only where it was changed.
    fn read(&self) -> Result<Arc<Vec<KnownPeer>>> {
        let mut last_read = lock(&self.last_read);
        // Before the content, so that a change in between is read the next time.
        let state = disk::state(&self.path).map_err(|error| self.unreadable(&error))?;
        if let Some(last) = last_read.as_ref().filter(|last| last.state == state) {
            return Ok(last.peers.clone());
        }
        let content =
            disk::read(&self.path, MAX_LEN, OTHERS_WRITE).map_err(|error| self.unreadable(&error))?;
        let peers = Arc::new(content.map_or(Ok(Vec::new()), |content| self.parse(&content))?);
        *last_read = Some(LastRead { state, peers: peers.clone() });
        Ok(peers)
    }

    /// Changes the file, unless `change` says that nothing is to be written. No other process does meanwhile.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<KnownPeer>) -> Result<(T, bool)>) -> Result<T> {
        let failed = |error: io::Error| {
            self.trouble(
                &format!("can't be written: {error}"),
                "make its folder one that you own and may write to, or name another one by ATS_P2P_HOME",
            )
        };
        private_dir(&self.home).map_err(failed)?;
        let _lock = disk::lock(&disk::beside(&self.path, ".lock")).map_err(failed)?;
        let mut peers = Vec::clone(&*self.read()?);
        let (result, is_changed) = change(&mut peers)?;
        if is_changed {
            let document = Document { version: VERSION, peers: &peers };
            let mut text = serde_json::to_vec_pretty(&document).map_err(|error| failed(error.into()))?;
            text.push(b'\n');
            disk::replace(&self.path, &text).map_err(failed)?;
        }
        Ok(result)
    }

    fn parse(&self, content: &[u8]) -> Result<Vec<KnownPeer>> {
        let damaged = |error: serde_json::Error| {
            self.trouble(
                &format!("is damaged: {error}"),
                "mend it or restore it from a copy; if you move it away, every peer is taken on faith again",
            )
        };
        let Versioned { version } = serde_json::from_slice(content).map_err(damaged)?;
        if version != VERSION {
            return Err(
                self.trouble(&format!("has the form {version}, not {VERSION}"), "a newer version reads it")
            );
        }
        let document: Document<Vec<KnownPeer>> = serde_json::from_slice(content).map_err(damaged)?;
        Ok(document.peers)
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "look through it with `ats-p2p peers`, and keep it to yourself by `chmod 600`"
            }
            _ => "restore it from a copy",
        };
        self.trouble(&format!("can't be read: {error}"), advice)
    }

    fn trouble(&self, what: &str, advice: &str) -> Error {
        let path = display(&self.path.to_string_lossy());
        Error::new(Code::State, format!("the file of the peers that are known, {path}, {what}; {advice}"))
    }
}

fn add(peers: &mut Vec<KnownPeer>, peer: KnownPeer) -> Result<()> {
    let actor = display(&peer.actor);
    if peer.actor.len() > MAX_ACTOR_LEN {
        let message = format!("the id of {actor} is longer than the {MAX_ACTOR_LEN} bytes that can be kept");
        return Err(Error::new(Code::State, message));
    }
    if peers.len() >= MAX_PEERS {
        let message = format!(
            "{actor} can't be added to the {MAX_PEERS} peers that are known; forget some that you meet no \
             more: ats-p2p peers forget ACTOR"
        );
        return Err(Error::new(Code::State, message));
    }
    peers.push(peer);
    Ok(())
}

/// The only identity that was refused of an actor.
fn only_refused(actor: &str, known: Option<&KnownPeer>) -> Result<[u8; 32]> {
    let actor = display(actor);
    let message = match known.map(|known| known.refused.as_slice()) {
        Some([one]) => return Ok(one.identity),
        None => format!(
            "{actor} is not known yet: name its identity too, which `ats-p2p id` shows there, or let its \
             first transfer show it"
        ),
        Some([]) => {
            format!("{actor} has shown no other identity than the one that is known; name the new one")
        }
        Some(several) => {
            let several: Vec<_> = several.iter().map(|refused| hex::encode(refused.identity)).collect();
            format!(
                "{actor} has shown several identities, of which one at most is right: {}. Ask there for \
                 `ats-p2p id`, and name it",
                several.join(", ")
            )
        }
    };
    Err(Error::new(Code::InvalidArgument, message))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-26 08:00:00 UTC);

    fn scope() -> Scope {
        Scope::new("http://localhost:8787", "default", "main")
    }

    fn known(place: &tempfile::TempDir) -> KnownPeers {
        KnownPeers::new(place.path().join("home"))
    }

    #[test]
    fn the_file_is_for_people_too() {
        let place = tempfile::tempdir().unwrap();
        let known = known(&place);
        known.pin(&scope(), "b", &[1; 32], &[], NOW).unwrap();
        known.refused(&scope(), "b", &[2; 32], NOW).unwrap();
        let text = fs::read_to_string(place.path().join("home/known_peers.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "version": 1,
            "peers": [{
                "url": "http://localhost:8787", "organization": "default", "project": "main", "actor": "b",
                "identity": "01".repeat(32),
                "firstSeen": "2026-11-26T08:00:00Z", "lastSeen": "2026-11-26T08:00:00Z", "accepted": false,
                "refused": [{ "identity": "02".repeat(32), "at": "2026-11-26T08:00:00Z" }],
            }],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_says_what_to_do_and_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        known(&place).pin(&scope(), "b", &[1; 32], &[], NOW).unwrap();
        let path = place.path().join("home/known_peers.json");
        let whole = fs::read_to_string(&path).unwrap();
        for content in [
            String::new(),
            whole[..whole.len() / 2].to_owned(),
            whole.replace("\"01", "\"x1"),
            whole.replace("2026", "20x6"),
            whole.replace("\"version\": 1", "\"version\": 2"),
            "null".to_owned(),
        ] {
            fs::write(&path, &content).unwrap();
            let known = known(&place);
            for result in [
                known.find(&scope(), "b").map(drop),
                known.pin(&scope(), "b", &[1; 32], &[], NOW),
                known.accept(&scope(), "b", Some([1; 32]), NOW).map(drop),
            ] {
                let error = result.unwrap_err();
                assert_eq!(error.code, Code::State, "{error}");
                assert!(error.message.contains("known_peers.json"), "{error}");
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn processes_that_pin_at_once_lose_nothing() {
        let place = tempfile::tempdir().unwrap();
        std::thread::scope(|threads| {
            for process in 0..4u8 {
                let known = known(&place);
                threads.spawn(move || {
                    for actor in 0..8u8 {
                        let name = format!("{process}-{actor}");
                        known.pin(&scope(), &name, &[process; 32], &[], NOW).unwrap();
                    }
                });
            }
        });
        assert_eq!(known(&place).of(&scope()).unwrap().len(), 32);
    }

    #[test]
    fn the_last_transfer_is_noted_once_an_hour() {
        let place = tempfile::tempdir().unwrap();
        let known = known(&place);
        let pinned_at = |now: OffsetDateTime| {
            known.pin(&scope(), "b", &[1; 32], &[], now).unwrap();
            let peer = known.find(&scope(), "b").unwrap().unwrap();
            (peer.first_seen, peer.last_seen)
        };
        let later = NOW + Duration::HOUR;
        assert_eq!(pinned_at(NOW), (NOW, NOW));
        assert_eq!(pinned_at(NOW + Duration::minutes(59)), (NOW, NOW));
        assert_eq!(pinned_at(later), (NOW, later));
    }

    #[test]
    fn strangers_fill_neither_the_file_nor_push_anybody_out_of_it() {
        let place = tempfile::tempdir().unwrap();
        let known = known(&place);
        known.pin(&scope(), "b", &[1; 32], &[], NOW).unwrap();
        known
            .change(|peers| {
                let strangers = (peers.len()..MAX_PEERS).map(|i| i.to_string());
                peers.extend(strangers.map(|actor| KnownPeer::new(&scope(), &actor, [2; 32], NOW)));
                Ok(((), true))
            })
            .unwrap();
        let error = known.pin(&scope(), "one more", &[3; 32], &[], NOW).unwrap_err();
        assert!(error.message.contains("peers forget"), "{error}");
        assert_eq!(known.find(&scope(), "b").unwrap().unwrap().identity, [1; 32]);
        known.forget(&scope(), "7").unwrap().unwrap();
        known.pin(&scope(), "one more", &[3; 32], &[], NOW).unwrap();
        let long = "x".repeat(MAX_ACTOR_LEN + 1);
        known.forget(&scope(), "8").unwrap().unwrap();
        assert_eq!(known.pin(&scope(), &long, &[3; 32], &[], NOW).unwrap_err().code, Code::State);
        for identity in 10..99u8 {
            known.refused(&scope(), "b", &[identity; 32], NOW).unwrap();
        }
        assert_eq!(known.find(&scope(), "b").unwrap().unwrap().refused.len(), 4);
    }
}
