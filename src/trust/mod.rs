//! Who this node is to others, and by what it knows them again.
//!
//! An actor's id on the task service is a claim. What stands behind it is an identity, a lasting key: this
//! user's are derived from one secret seed, those of others are pinned when they were met for the first time.
//!
//! # Layout
//! - `seed`: the secret, what is derived from it and its text; `seed_file`: its place on the disk
//! - `known_peer`: one actor that was met; `known_peers`: the file of all of them
//! - `disk`: small files that are whole or not there
//!
//! Everything here that touches a disk blocks, for a moment where nothing is written.

mod disk;
mod known_peer;
mod known_peers;
mod seed;
mod seed_file;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use protocol::handover::Handover;
use protocol::identity::IdentityKey;
use protocol::scope::Scope;
use protocol::text::display;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};
use crate::sync::lock;
use disk::FileState;
use known_peers::KnownPeers;
use seed::Seed;
use seed_file::SeedFile;

pub use known_peer::{KnownPeer, OtherIdentity};
pub use seed_file::SeedChoice;

/// The id of every node that was given none. It is nobody's, and never pinned.
pub const UNNAMED_ACTOR: &str = "p2p-node";

/// The identity of one actor, and what that actor knows of others in its scope.
#[derive(Debug)]
pub struct Trust {
    scope: Scope,
    actor: String,
    seed: Option<SeedFile>,
    /// What ids are derived from that nobody may guess: the same, or where there is to be no identity that of
    /// this user's home.
    ids: SeedFile,
    own: Mutex<Option<Own>>,
    known: KnownPeers,
}

/// What an actor signs with.
#[derive(Debug)]
struct Own {
    /// That of the seed's file when it was read.
    state: FileState,
    key: IdentityKey,
    /// What the identities before say for it.
    handovers: Vec<Handover>,
}

/// What an actor's identity is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that is pinned.
    Known,
    /// The one that is pinned says that this one takes its place.
    HandedOver,
    /// None is pinned; this one is taken on faith.
    FirstUse,
    /// The actor shows none, and none is pinned.
    Unverified,
}

/// By what an identity is known to be an actor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// It is derived from this user's seed.
    Own,
    /// It is pinned, or was until it handed over to another one.
    Known,
}

impl Trust {
    /// What `actor` is and knows in this scope, with state in `home`. Touches no disk.
    pub fn new(home: PathBuf, seed: SeedChoice, scope: Scope, actor: String) -> Self {
        Self {
            scope,
            actor,
            ids: SeedFile::new(&home, seed.clone()).unwrap_or_else(|| SeedFile::of_home(&home)),
            seed: SeedFile::new(&home, seed),
            own: Mutex::default(),
            known: KnownPeers::new(home),
        }
    }

    /// Within which bounds all of this holds.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whose identity it is.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The key that this node signs with; `None` where it was told to have none. The first use makes the
    /// seed.
    ///
    /// # Errors
    /// `STATE` for a seed that is damaged, missing where it was said to be, or open to other users.
    pub fn identity(&self) -> Result<Option<IdentityKey>> {
        self.own(|own| own.key.clone())
    }

    /// The same, where nothing has to be read for it; `None` as well where there is none.
    pub fn identity_at_hand(&self) -> Option<IdentityKey> {
        let state = self.seed.as_ref()?.state()?;
        lock(&self.own).as_ref().filter(|own| own.state == state).map(|own| own.key.clone())
    }

    /// What the identities that this node had before say for the one that it signs with now.
    ///
    /// # Errors
    /// Those of [`Self::identity`].
    pub fn handovers(&self, to: &[u8; 32]) -> Result<Vec<Handover>> {
        let own = self.own(|own| (own.key.public_key() == *to).then(|| own.handovers.clone()))?;
        Ok(own.flatten().unwrap_or_default())
    }

    /// The id of the transfer that an idempotency key stands for, after so many that failed.
    ///
    /// # Errors
    /// `STATE` for a seed that is damaged, missing where it was said to be, or open to other users.
    pub(crate) fn transfer_id(&self, key: &str, attempt: u32) -> Result<uuid::Uuid> {
        let seed = self.ids.load(|| self.seed.is_some() && self.known.has_met_any())?;
        let bytes = seed.transfer_id(&self.scope, &self.actor, key, attempt);
        Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// What the owner should know of the seed: that the one before was gone, so that peers which knew its
    /// identities refuse the new ones.
    pub fn seed_trouble(&self) -> Option<String> {
        let file = self.seed.as_ref().filter(|file| file.is_lost())?;
        let path = display(&file.path().to_string_lossy());
        Some(format!(
            "the seed before was gone, and a new one was made, {path}: peers that knew this agent by an \
             earlier identity refuse it; restore the old seed from a copy (`ats-p2p id import FILE \
             --force`), or have each of them accept the new identity (`ats-p2p peers accept`), and then \
             remove {path}.lost"
        ))
    }

    /// Where the seed is; `None` where there is none.
    pub fn seed_path(&self) -> Option<&Path> {
        self.seed.as_ref().map(SeedFile::path)
    }

    /// The seed as text, by which another machine has the same identities. Whoever reads it can pass for this
    /// user.
    ///
    /// # Errors
    /// Those of [`Self::identity`]; `INVALID_ARGUMENT` where there is to be no identity.
    pub fn export_seed(&self) -> Result<Zeroizing<String>> {
        Ok(self.seed_file()?.load(|| self.known.has_met_any())?.to_text())
    }

    /// Takes over a seed that was exported elsewhere. Returns where the one before is kept, if it was
    /// another.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for text that is no seed; `ALREADY_EXISTS` where there is another seed and not
    /// `replace`; `STATE` where it can't be written.
    pub fn import_seed(&self, text: &str, replace: bool) -> Result<Option<PathBuf>> {
        let seed = Seed::from_text(text.as_bytes()).ok_or_else(|| {
            Error::new(
                Code::InvalidArgument,
                "this is no seed, or a character of it is wrong; `ats-p2p id export FILE` on the other \
                 machine writes one",
            )
        })?;
        self.seed_file()?.put(&seed, replace)
    }

    /// Makes a new seed, with which all identities are others. Returns where the one before is kept.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` where there is a seed and not `replace`; `STATE` where it can't be written.
    pub fn create_seed(&self, replace: bool) -> Result<Option<PathBuf>> {
        let file = self.seed_file()?;
        file.put(&file.new_seed()?, replace)
    }

    /// Makes a new seed, whose identities take the places of those before: peers that know one of them accept
    /// the new one by its word.
    ///
    /// # Errors
    /// Those of [`Self::export_seed`].
    pub fn rotate_seed(&self) -> Result<()> {
        self.seed_file()?.rotate()
    }

    /// Judges an actor by the identity that it shows, whose signature was verified already, and by what those
    /// before say for it.
    ///
    /// # Errors
    /// `IDENTITY` where another one is pinned, or one is pinned and none shown; `STATE` where what is pinned
    /// can't be read.
    pub fn judge(
        &self,
        actor: &str,
        identity: Option<&[u8; 32]>,
        handovers: &[Handover],
    ) -> Result<Standing> {
        let known = match actor {
            UNNAMED_ACTOR => None,
            _ => self.known.find(&self.scope, actor)?,
        };
        match (known, identity) {
            (None, None) => Ok(Standing::Unverified),
            (None, Some(_)) => Ok(Standing::FirstUse),
            (Some(known), Some(identity)) if known.identity == *identity => Ok(Standing::Known),
            (Some(known), Some(identity)) if known.hands_over_to(identity, handovers) => {
                Ok(Standing::HandedOver)
            }
            (Some(known), identity) => {
                if let Some(identity) = identity {
                    // That it was refused is told here; only its note for `peers accept` is missing.
                    let _ = self.known.refused(&self.scope, actor, identity, now());
                }
                Err(known.refuses(identity))
            }
        }
    }

    /// Whether there is nothing to [`pin`](Self::pin): this identity was, and was seen within the hour.
    pub fn is_pinned(&self, actor: &str, identity: &[u8; 32]) -> bool {
        actor == UNNAMED_ACTOR
            || self.known.was_seen_lately(&self.scope, actor, identity, now()).unwrap_or(false)
    }

    /// Notes that a transfer with this identity was verified: the first one pins it, and one that the pinned
    /// one handed over to takes its place.
    ///
    /// # Errors
    /// `IDENTITY` where another one was pinned meanwhile; `STATE` where it can't be written down.
    pub fn pin(&self, actor: &str, identity: &[u8; 32], handovers: &[Handover]) -> Result<()> {
        match actor {
            UNNAMED_ACTOR => Ok(()),
            _ => self.known.pin(&self.scope, actor, identity, handovers, now()),
        }
    }

    /// By what it is known that an identity is an actor's, or was when something was signed. `service` is the
    /// address of the task service as the actor knew it then.
    ///
    /// # Errors
    /// `IDENTITY` where nothing vouches for it; `STATE` where what is known can't be read.
    pub fn vouch(
        &self,
        scope: &Scope,
        service: Option<&str>,
        actor: &str,
        identity: &[u8; 32],
    ) -> Result<Voucher> {
        let named = service.map(|url| Scope::new(url, scope.organization(), scope.project()));
        let scopes = [Some(scope), named.as_ref(), Some(&self.scope)].into_iter().flatten();
        let seed = self.seed.as_ref().map(SeedFile::read).transpose()?.flatten();
        if let Some(seed) = seed
            && scopes.clone().any(|scope| seed.has(scope, actor, identity))
        {
            return Ok(Voucher::Own);
        }
        let mut other = None;
        for scope in scopes {
            match self.known.find(scope, actor)? {
                Some(known) if known.is_or_was(identity) => return Ok(Voucher::Known),
                known => other = other.or(known),
            }
        }
        Err(known_peer::not_vouched_for(actor, identity, other.as_ref()))
    }

    /// The actors that are known in this scope, by their ids.
    ///
    /// # Errors
    /// `STATE` where the file of them can't be read.
    pub fn peers(&self) -> Result<Vec<KnownPeer>> {
        self.known.of(&self.scope)
    }

    /// Accepts an identity of an actor by hand, in place of any other; without one, the only one that was
    /// refused since the present one was pinned.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where it is not clear which identity is meant; `STATE` where it can't be written
    /// down.
    pub fn accept(&self, actor: &str, identity: Option<[u8; 32]>) -> Result<KnownPeer> {
        if actor == UNNAMED_ACTOR {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("{UNNAMED_ACTOR} is the id of every node that was given none, and has no identity"),
            ));
        }
        self.known.accept(&self.scope, actor, identity, now())
    }

    /// Forgets an actor: its next identity is taken on faith. Returns what was known of it.
    ///
    /// # Errors
    /// `STATE` where it can't be written down.
    pub fn forget(&self, actor: &str) -> Result<Option<KnownPeer>> {
        self.known.forget(&self.scope, actor)
    }

    /// Shows what this actor signs with; the seed is read where it was changed.
    fn own<T>(&self, see: impl FnOnce(&Own) -> T) -> Result<Option<T>> {
        let Some(file) = &self.seed else { return Ok(None) };
        let mut own = lock(&self.own);
        // Before the content, so that a change in between is read the next time.
        let state = file.state();
        if let Some(own) = own.as_ref().filter(|own| Some(own.state) == state) {
            return Ok(Some(see(own)));
        }
        let seed = file.load(|| self.known.has_met_any())?;
        let key = seed.key(&self.scope, &self.actor);
        let handovers = seed.handovers(&self.scope, &self.actor, &key.public_key());
        // A seed that was only just made is read once more the next time.
        let read = Own { state: state.unwrap_or_default(), key, handovers };
        Ok(Some(see(own.insert(read))))
    }

    fn seed_file(&self) -> Result<&SeedFile> {
        self.seed.as_ref().ok_or_else(|| {
            Error::new(Code::InvalidArgument, "there is no seed: this node was told to have no identity")
        })
    }
}

/// To the second, as it is written down.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn trust(&self, project: &str, actor: &str) -> Trust {
            let scope = Scope::new("http://127.0.0.1:8787", "o", project);
            Trust::new(self.0.path().join("home"), SeedChoice::Home, scope, actor.into())
        }
    }

    #[test]
    fn nothing_touches_the_disk_before_it_is_asked_for() {
        let place = Place::new();
        let trust = place.trust("p", "a");
        assert_eq!((trust.actor(), trust.scope().project()), ("a", "p"));
        assert_eq!(trust.judge("b", None, &[]).unwrap(), Standing::Unverified);
        assert_eq!(trust.peers().unwrap(), []);
        assert!(!place.0.path().join("home").exists());
    }

    #[test]
    fn an_actor_has_one_identity_in_a_scope_and_others_elsewhere() {
        let place = Place::new();
        let identity = |trust: &Trust| trust.identity().unwrap().unwrap().public_key();
        let one = identity(&place.trust("p", "a"));
        assert_eq!(one, identity(&place.trust("p", "a")));
        assert_ne!(one, identity(&place.trust("p", "b")));
        assert_ne!(one, identity(&place.trust("q", "a")));
        assert_ne!(one, identity(&Place::new().trust("p", "a")));
    }

    #[test]
    fn a_seed_moves_to_another_machine_as_text() {
        let (here, there) = (Place::new(), Place::new());
        let identity = |trust: &Trust| trust.identity().unwrap().unwrap().public_key();
        let (here, there) = (here.trust("p", "a"), there.trust("p", "a"));
        let text = here.export_seed().unwrap();
        assert_eq!(there.import_seed(&text, false).unwrap(), None);
        assert_eq!(identity(&here), identity(&there));
        assert_eq!(there.create_seed(false).unwrap_err().code, Code::AlreadyExists);
        let kept = there.create_seed(true).unwrap().unwrap();
        assert_ne!(identity(&here), identity(&there));
        assert_eq!(std::fs::read_to_string(kept).unwrap(), *text);
        assert_eq!(there.import_seed("ats-p2p seed 1\n00", true).unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn a_node_that_was_told_to_have_no_identity_has_none() {
        let place = Place::new();
        let scope = Scope::new("http://localhost", "o", "p");
        let trust = Trust::new(place.0.path().join("home"), SeedChoice::Nobody, scope, "a".into());
        assert!(trust.identity().unwrap().is_none() && trust.seed_path().is_none());
        assert_eq!(trust.export_seed().unwrap_err().code, Code::InvalidArgument);
        assert_eq!(trust.create_seed(true).unwrap_err().code, Code::InvalidArgument);
        assert!(!place.0.path().join("home").exists());
    }

    #[test]
    fn the_first_identity_that_was_verified_stands_and_no_other_and_none_is_no_other() {
        let place = Place::new();
        let trust = place.trust("p", "a");
        let (first, other) = ([1; 32], [2; 32]);
        assert_eq!(trust.judge("b", Some(&first), &[]).unwrap(), Standing::FirstUse);
        assert_eq!(
            trust.judge("b", Some(&other), &[]).unwrap(),
            Standing::FirstUse,
            "nothing was pinned yet"
        );
        trust.pin("b", &first, &[]).unwrap();
        assert_eq!(trust.judge("b", Some(&first), &[]).unwrap(), Standing::Known);
        for shown in [Some(&other), None] {
            let error = trust.judge("b", shown, &[]).unwrap_err();
            assert_eq!(error.code, Code::Identity);
            assert!(error.message.contains(&hex::encode(first)), "{error}");
        }
        assert_eq!(trust.pin("b", &other, &[]).unwrap_err().code, Code::Identity);
        assert_eq!(trust.judge("c", Some(&other), &[]).unwrap(), Standing::FirstUse, "another actor");
        let elsewhere = place.trust("q", "a");
        assert_eq!(elsewhere.judge("b", Some(&other), &[]).unwrap(), Standing::FirstUse, "another scope");
    }

    #[test]
    fn an_identity_that_the_known_one_hands_over_to_takes_its_place() {
        let (place, elsewhere) = (Place::new(), Place::new());
        let (a, b) = (place.trust("p", "a"), elsewhere.trust("p", "b"));
        let identity = |trust: &Trust| trust.identity().unwrap().unwrap().public_key();
        let old = identity(&b);
        a.pin("b", &old, &[]).unwrap();
        assert_eq!(b.handovers(&old).unwrap(), []);
        b.rotate_seed().unwrap();
        b.rotate_seed().unwrap();
        let (new, handovers) = (identity(&b), b.handovers(&identity(&b)).unwrap());
        assert_eq!((old == new, handovers.len()), (false, 2));
        assert_eq!(a.judge("b", Some(&new), &handovers).unwrap(), Standing::HandedOver);
        assert_eq!(a.judge("b", Some(&[9; 32]), &handovers).unwrap_err().code, Code::Identity);
        assert_eq!(a.judge("b", Some(&old), &[]).unwrap(), Standing::Known, "nothing was verified yet");
        a.pin("b", &new, &handovers).unwrap();
        assert_eq!(a.judge("b", Some(&new), &[]).unwrap(), Standing::Known);
        assert_eq!(a.judge("b", Some(&old), &handovers).unwrap_err().code, Code::Identity);
        for (identity, by_b, by_a) in
            [(new, Voucher::Own, Voucher::Known), (old, Voucher::Own, Voucher::Known)]
        {
            assert_eq!(b.vouch(b.scope(), None, "b", &identity).unwrap(), by_b);
            assert_eq!(a.vouch(a.scope(), None, "b", &identity).unwrap(), by_a);
        }
        for (actor, identity) in [("b", [9; 32]), ("c", new)] {
            assert_eq!(a.vouch(a.scope(), None, actor, &identity).unwrap_err().code, Code::Identity);
        }
        // A new seed that is not the old one's word is a stranger's.
        b.create_seed(true).unwrap();
        assert_eq!(
            a.judge("b", Some(&identity(&b)), &b.handovers(&identity(&b)).unwrap()).unwrap_err().code,
            Code::Identity
        );
    }

    #[test]
    fn a_refusal_says_how_to_accept_the_change_and_the_command_does() {
        let place = Place::new();
        let trust = place.trust("p", "a");
        trust.pin("b", &[1; 32], &[]).unwrap();
        let error = trust.judge("b", Some(&[2; 32]), &[]).unwrap_err();
        let command = format!("ats-p2p peers accept b {}", "02".repeat(32));
        assert!(error.message.contains(&command), "{error}");
        // What another process accepts, a node that runs already sees.
        let accepted = place.trust("p", "another").accept("b", Some([2; 32])).unwrap();
        assert!(accepted.accepted && accepted.refused.is_empty());
        assert_eq!(trust.judge("b", Some(&[2; 32]), &[]).unwrap(), Standing::Known);
        assert_eq!(trust.judge("b", Some(&[1; 32]), &[]).unwrap_err().code, Code::Identity);
        let error = trust.judge("b", None, &[]).unwrap_err();
        assert!(error.message.contains("ats-p2p peers forget b"), "{error}");
        assert_eq!(trust.forget("b").unwrap().unwrap().identity, [2; 32]);
        assert_eq!(trust.forget("b").unwrap(), None);
        assert_eq!(trust.judge("b", None, &[]).unwrap(), Standing::Unverified);
    }

    #[test]
    fn without_an_identity_the_only_one_that_was_refused_is_accepted() {
        let place = Place::new();
        let trust = place.trust("p", "a");
        assert_eq!(trust.accept("b", None).unwrap_err().code, Code::InvalidArgument, "nobody is known");
        trust.pin("b", &[1; 32], &[]).unwrap();
        let error = trust.accept("b", None).unwrap_err();
        assert!(error.message.contains("no other identity"), "{error}");
        trust.judge("b", Some(&[2; 32]), &[]).unwrap_err();
        trust.judge("b", Some(&[2; 32]), &[]).unwrap_err();
        assert_eq!(trust.accept("b", None).unwrap().identity, [2; 32]);
        trust.judge("b", Some(&[3; 32]), &[]).unwrap_err();
        trust.judge("b", Some(&[4; 32]), &[]).unwrap_err();
        let error = trust.accept("b", None).unwrap_err();
        assert!(
            error.message.contains(&"03".repeat(32)) && error.message.contains(&"04".repeat(32)),
            "{error}"
        );
    }

    #[test]
    fn whom_everybody_may_call_itself_is_never_pinned() {
        let place = Place::new();
        let trust = place.trust("p", "a");
        trust.pin(UNNAMED_ACTOR, &[1; 32], &[]).unwrap();
        assert_eq!(trust.judge(UNNAMED_ACTOR, Some(&[2; 32]), &[]).unwrap(), Standing::FirstUse);
        assert_eq!(trust.judge(UNNAMED_ACTOR, None, &[]).unwrap(), Standing::Unverified);
        assert_eq!(trust.peers().unwrap(), []);
        assert_eq!(trust.accept(UNNAMED_ACTOR, Some([1; 32])).unwrap_err().code, Code::InvalidArgument);
    }
}
