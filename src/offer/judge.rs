//! Who is behind what stands in a task. An actor's id there is a claim; what an identity signed is not.

use protocol::handover::Handover;
use protocol::identity::IdentityKey;
use protocol::statement::{Role, Statement};
use serde_json::Value;

use super::{Completion, Offer, P2p, Said, messages};
use crate::ats::Task;
use crate::error::{Code, Error, Result};
use crate::event::PeerIdentity;
use crate::files;
use crate::options::Options;
use crate::trust::{Standing, Trust};

/// Signatures checked in one reading of a task, the latest first: many times what its peers post, and a few
/// milliseconds of work.
const MAX_CHECKED: usize = 256;

/// Judges what stands in tasks by what this node knows, and by what its owner demands.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    trust: &'a Trust,
    options: &'a Options,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(trust: &'a Trust, options: &'a Options) -> Self {
        Self { trust, options }
    }

    /// Signs what this node says in a task, if it has an identity.
    pub(crate) fn sign(
        self,
        key: Option<&IdentityKey>,
        role: Role,
        task_id: &str,
        offer: &Offer,
        p2p: P2p,
    ) -> P2p {
        let Some(key) = key else { return p2p };
        let signed = self.statement(role, task_id, offer).sign(p2p, key);
        // Without their word the peers that know an identity before will say what is wrong.
        let handover = self.trust.handovers(&key.public_key()).unwrap_or_default();
        P2p { handover, ..signed }
    }

    /// Who makes an offer.
    ///
    /// # Errors
    /// `IDENTITY` where it is not by whom it says, or by another than the one who is known; `NOT_ALLOWED`;
    /// `STATE` where it can't be read who is known.
    pub(crate) fn sender(self, task: &Task, offer: &Offer) -> Result<PeerIdentity> {
        self.judge_sender(task, offer, |p2p| self.statement(Role::Sender, "", offer).is_signed(p2p))
    }

    /// Who makes an offer whose signature was checked before: who is known may have changed since.
    ///
    /// # Errors
    /// Those of [`Self::sender`].
    pub(crate) fn sender_again(self, task: &Task, offer: &Offer) -> Result<PeerIdentity> {
        self.judge_sender(task, offer, |_| true)
    }

    fn judge_sender(
        self,
        task: &Task,
        offer: &Offer,
        is_signed: impl FnOnce(&P2p) -> bool,
    ) -> Result<PeerIdentity> {
        let sender = || files::display(&offer.sender_id);
        if let Some(flaw) = offer.flaw {
            return Err(refused(format!("the offer of {} is not taken: {flaw}", sender())));
        }
        let source = task.source.as_ref().map_or(offer.sender_id.as_str(), |source| &source.id);
        if offer.p2p.is_some() && source != offer.sender_id {
            return Err(refused(format!("the offer names {} as its sender, the task another", sender())));
        }
        if !self.is_allowed(&offer.sender_id) || !self.is_allowed(source) {
            let message = format!("{} is not on the list of allowed peers", sender());
            return Err(Error::new(Code::NotAllowed, message));
        }
        let Some(p2p) = &offer.p2p else {
            // The two may differ, but neither may be somebody who shows an identity.
            self.peer(source, None, &[])?;
            return self.peer(&offer.sender_id, None, &[]);
        };
        if p2p.proof.is_some() && !is_signed(p2p) {
            return Err(refused(format!(
                "the offer in the name of {} is not what its identity signed: somebody has changed it",
                sender()
            )));
        }
        self.peer(&offer.sender_id, p2p.identity().as_ref(), &p2p.handover)
    }

    /// How the claimant of an offer dials, by its messages on the task, and who it is; `None` for a peer of
    /// the original's kind. `own` is this side's part in the transfer.
    ///
    /// # Errors
    /// `IDENTITY` where no message is by whom it says, or all are by others than the one who is known;
    /// `STATE`.
    pub(crate) fn claimant(
        self,
        task: &Task,
        claimant: &str,
        offer: &Offer,
        own: &[u8; 16],
    ) -> Result<Option<(P2p, PeerIdentity)>> {
        let (said, is_anything_said) = latest_first(task, claimant, &offer.transfer_id);
        if !is_anything_said {
            return self.peer(claimant, None, &[]).map(|_| None);
        }
        let task_id = task.id.to_string();
        let statement = self.statement(Role::Receiver, &task_id, offer);
        let mut refusal = None;
        // Where an agent sends to itself, what this side said is its recipient's word as well.
        for p2p in said.into_iter().filter(|p2p| p2p.instance != *own).take(MAX_CHECKED) {
            if p2p.proof.is_some() && !statement.is_signed(&p2p) {
                continue;
            }
            match self.peer(claimant, p2p.identity().as_ref(), &p2p.handover) {
                Ok(peer) => return Ok(Some((p2p, peer))),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| {
            let claimant = files::display(claimant);
            refused(format!(
                "what {claimant} says of its connection can't be read, or is not what its identity signed"
            ))
        }))
    }

    /// What the claimant of an offer, known as `known`, says of itself since. `own` is this side's part.
    pub(crate) fn newer_claimant(
        self,
        task: &Task,
        claimant: &str,
        offer: &Offer,
        own: &[u8; 16],
        known: &P2p,
    ) -> Option<P2p> {
        self.newer(task, claimant, Role::Receiver, offer, known).into_iter().find(|p2p| p2p.instance != *own)
    }

    /// What the sender of an offer, known as `known`, says of itself since.
    pub(crate) fn newer_sender(self, task: &Task, offer: &Offer, known: &P2p) -> Option<P2p> {
        let newer = self.newer(task, &offer.sender_id, Role::Sender, offer, known);
        // Where an agent sends to itself, this side's own word stands there as well.
        newer.into_iter().find(|p2p| p2p.instance == known.instance)
    }

    /// What the same peer says on a task after `known`, the latest first.
    fn newer(self, task: &Task, actor: &str, role: Role, offer: &Offer, known: &P2p) -> Vec<P2p> {
        let task_id = task.id.to_string();
        let statement = self.statement(role, &task_id, offer);
        let (said, _) = latest_first(task, actor, &offer.transfer_id);
        let newer = said.into_iter().filter(|p2p| p2p.seq > known.seq && is_same_peer(p2p, known));
        let newer = newer.take(MAX_CHECKED).filter(|p2p| p2p.proof.is_none() || statement.is_signed(p2p));
        newer.collect()
    }

    /// Whether a completed task says so by the word of the peer that was admitted as `known`.
    pub(crate) fn is_completed_by(
        self,
        known: &P2p,
        outputs: &[Value],
        task_id: &str,
        offer: &Offer,
    ) -> bool {
        let scope = self.trust.scope();
        outputs.iter().take(MAX_CHECKED).any(|output| match known.identity() {
            Some(identity) => Completion::from_output(output, offer).is_some_and(|completion| {
                completion.p2p.identity() == Some(identity) && completion.is_signed(scope, task_id, offer)
            }),
            None => output.get("p2p").and_then(P2p::from_value).is_some_and(|p2p| p2p.key == known.key),
        })
    }

    /// Whether an actor is one whose peer shows an identity, so that no other kind of it is dealt with.
    pub(crate) fn must_prove_itself(self, actor: &str) -> bool {
        self.peer(actor, None, &[]).is_err()
    }

    /// Who an actor is that shows this identity, whose signature was checked already, and what those before
    /// say for it.
    fn peer(self, actor: &str, identity: Option<&[u8; 32]>, handover: &[Handover]) -> Result<PeerIdentity> {
        let standing = self.trust.judge(actor, identity, handover)?;
        let named = self.options.identities_of(actor).collect::<Vec<_>>();
        let standing = match identity {
            _ if named.is_empty() => standing,
            Some(identity) if named.contains(&identity) => Standing::Known,
            Some(identity)
                if named.iter().any(|named| handover.iter().any(|word| word.is_of(named, identity))) =>
            {
                Standing::HandedOver
            }
            _ => {
                let actor = files::display(actor);
                return Err(refused(format!(
                    "{actor} does not show the identity that allowedPeers names for it; `ats-p2p id` shows \
                     it there"
                )));
            }
        };
        if identity.is_none() && self.options.require_verified {
            let actor = files::display(actor);
            return Err(refused(format!(
                "{actor} shows no identity, and requireVerified takes no peer without one: it runs an older \
                 version, or with `identity: false`"
            )));
        }
        Ok(PeerIdentity { identity: identity.copied(), standing })
    }

    fn is_allowed(self, actor: &str) -> bool {
        self.options.allowed_peers.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer.actor == actor))
    }

    fn statement<'s>(&self, role: Role, task_id: &'s str, offer: &'s Offer) -> Statement<'s>
    where
        'a: 's,
    {
        Statement { scope: self.trust.scope(), role, task_id, offer }
    }
}

/// Whether two objects are by one peer, if they are by whom they say: of one identity, or without any and of
/// one key.
fn is_same_peer(p2p: &P2p, known: &P2p) -> bool {
    match known.identity() {
        None => p2p.identity().is_none() && p2p.key == known.key,
        identity => p2p.identity() == identity,
    }
}

/// All that an actor says on a task of how its peer is reached, the latest first, and whether it says
/// anything.
fn latest_first(task: &Task, actor: &str, transfer_id: &str) -> (Vec<P2p>, bool) {
    let (mut said, mut is_anything_said) = (Vec::new(), false);
    for word in messages(task, actor, transfer_id) {
        is_anything_said |= word != Said::Nothing;
        if let Said::Valid(p2p) = word {
            said.push(p2p);
        }
    }
    said.reverse();
    said.sort_by_key(|p2p| std::cmp::Reverse(p2p.seq));
    (said, is_anything_said)
}

fn refused(message: String) -> Error {
    Error::new(Code::Identity, message)
}

#[cfg(test)]
mod tests {
    use protocol::scope::Scope;
    use serde_json::json;

    use super::*;
    use crate::ats::Part;
    use crate::trust::SeedChoice;

    const OWN: [u8; 16] = [9; 16];

    struct Bench {
        _home: tempfile::TempDir,
        trust: Trust,
        options: Options,
        offer: Offer,
    }

    impl Bench {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let scope = Scope::new("http://localhost", "o", "p");
            let trust = Trust::new(home.path().to_owned(), SeedChoice::Nobody, scope, "a".into());
            let options = Options::new(home.path().to_owned());
            let payload = json!({
                "transfer_id": "t", "filename": "f", "size": 1, "hash": "0".repeat(64), "sender_id": "a",
            });
            Self { _home: home, trust, options, offer: Offer::from_payload(&payload).unwrap() }
        }

        fn judge(&self) -> Judge<'_> {
            Judge::new(&self.trust, &self.options)
        }

        /// What a process with this identity or none says; its key and its part are of this number.
        fn said(&self, number: u8, seq: u64, key: Option<&IdentityKey>) -> P2p {
            let p2p = json!({
                "version": 2, "key": hex::encode([number; 32]), "instance": hex::encode([number; 16]),
                "seq": seq,
            });
            self.judge().sign(key, Role::Receiver, "7", &self.offer, P2p::from_value(&p2p).unwrap())
        }

        /// The claimant's key by these messages, or why it has none.
        fn claimant(&self, said: &[P2p]) -> Result<Option<u8>, Code> {
            let claimant = self.judge().claimant(&task(said), "b", &self.offer, &OWN);
            claimant.map(|claimant| claimant.map(|(p2p, _)| p2p.key[0])).map_err(|error| error.code)
        }
    }

    fn task(said: &[P2p]) -> Task {
        let message =
            |p2p: &P2p| json!({ "actor_id": "b", "parts": [Part::data(&p2p.to_message("t")).to_value()] });
        let messages = said.iter().map(message).collect::<Vec<_>>();
        Task::from_value(json!({ "id": 7, "messages": messages })).unwrap()
    }

    fn key(seed: u8) -> IdentityKey {
        IdentityKey::from_seed(&[seed; 32])
    }

    #[test]
    fn of_several_messages_the_highest_that_is_by_whom_it_says_counts() {
        let bench = Bench::new();
        assert_eq!(bench.claimant(&[]), Ok(None));
        let (one, two) = (bench.said(1, 5, Some(&key(1))), bench.said(2, 6, None));
        assert_eq!(bench.claimant(&[one.clone(), two.clone()]), Ok(Some(2)));
        assert_eq!(bench.claimant(&[two.clone(), one.clone()]), Ok(Some(2)));
        let changed = P2p { seq: 7, ..one.clone() };
        assert_eq!(bench.claimant(&[two, changed.clone()]), Ok(Some(2)));
        assert_eq!(bench.claimant(&[changed]), Err(Code::Identity));
    }

    #[test]
    fn a_known_recipient_is_found_among_what_others_say_in_its_name() {
        let bench = Bench::new();
        bench.trust.pin("b", &key(1).public_key(), &[]).unwrap();
        let others = [bench.said(2, 8, None), bench.said(3, 9, Some(&key(3)))];
        let right = bench.said(1, 5, Some(&key(1)));
        assert_eq!(bench.claimant(&[&others[..], &[right]].concat()), Ok(Some(1)));
        for said in [&others[..1], &others[1..], &others[..], &[]] {
            assert_eq!(bench.claimant(said), Err(Code::Identity), "{said:?}");
        }
    }

    #[test]
    fn a_peer_is_followed_by_its_identity_or_else_its_key() {
        let bench = Bench::new();
        let signed = bench.said(1, 5, Some(&key(1)));
        let unsigned = bench.said(2, 5, None);
        let own = P2p { instance: OWN, ..bench.said(4, 9, None) };
        let said = [
            bench.said(5, 6, Some(&key(1))),
            P2p { seq: 9, ..bench.said(6, 7, Some(&key(1))) },
            bench.said(7, 8, Some(&key(2))),
            bench.said(2, 7, None),
            bench.said(8, 8, None),
            own,
        ];
        let newer = |known: &P2p| {
            let newer = bench.judge().newer_claimant(&task(&said), "b", &bench.offer, &OWN, known);
            newer.map(|p2p| (p2p.key[0], p2p.seq))
        };
        assert_eq!((newer(&signed), newer(&unsigned)), (Some((5, 6)), Some((2, 7))));
        assert_eq!(newer(&P2p { seq: 7, ..unsigned }), None);
    }

    #[test]
    fn a_flood_of_messages_costs_no_more_than_so_many_signatures() {
        let bench = Bench::new();
        let flood = vec![P2p { seq: 9, ..bench.said(3, 8, Some(&key(3))) }; 20 * MAX_CHECKED];
        assert_eq!(bench.claimant(&flood), Err(Code::Identity));
    }
}
