//! The offers that wait for an answer, and the tasks that had theirs.
//!
//! Room is shared: an actor may have as many offers here as room is left for others, so that one alone never
//! fills it. Where many have, the oldest unanswered offer of whoever has most gives way to the first of
//! another. What is left on the service, or gave way, is found again by a list when its actor has room.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Expiry, Offer, Tree};
use crate::ats::{Task, TaskId};
use crate::error::{Code, Error, Result};
use crate::event::{Direction, PeerIdentity, Transfer};
use crate::files::{self, ARCHIVE_SUFFIX, SafeName, TreeSize};
use crate::sync::lock;

/// Offers that wait for an answer or are being received at once; more are left on the service until there
/// is room again.
pub(crate) const MAX_LIVE: usize = 1024;

/// Tasks remembered as dealt with, so that no list or repeated event brings them back.
const MAX_REMEMBERED: usize = 16 * 1024;

/// Actors remembered for whose offers there was no room; beyond, any room is theirs.
const MAX_LEFT: usize = 256;

/// An offer that this node may take.
#[derive(Clone, Debug)]
pub(crate) struct OpenOffer {
    pub(crate) task: Task,
    pub(crate) offer: Offer,
    /// Who offers it.
    pub(crate) peer: PeerIdentity,
}

impl OpenOffer {
    /// Whether nobody waits for an answer to this offer any more, `now` being the service's time. An offer
    /// that names no end of its own has one at the age of `max_age`.
    pub(crate) fn is_stale(&self, now: SystemTime, max_age: Duration) -> bool {
        let now = OffsetDateTime::from(now);
        let expires_at = self.offer.expires_at.as_ref().map(Expiry::at);
        match (expires_at, self.task.created_at()) {
            (Some(expires_at), _) => now > expires_at,
            (None, Some(created_at)) => now - created_at > max_age,
            (None, None) => false,
        }
    }

    /// Who offers it: who made the task, as far as the service says.
    pub(crate) fn actor(&self) -> &str {
        self.task.source.as_ref().map_or(&self.offer.sender_id, |source| &source.id)
    }

    /// What the folder holds that is offered; `None` of a file, and of an archive that is received as one.
    pub(crate) fn tree(&self) -> Option<TreeSize> {
        let Offer { attributes, p2p, .. } = &self.offer;
        p2p.as_ref().filter(|p2p| p2p.features.tree)?;
        let tree = attributes.tree.as_ref().filter(|tree| tree.format == Tree::PAX)?;
        Some(TreeSize { entries: tree.entries, bytes: tree.bytes })
    }

    /// The name of the file or the folder, as its sender gave it.
    pub(crate) fn raw_name(&self) -> &str {
        let name = &self.offer.name;
        let folder = self.tree().and_then(|_| name.strip_suffix(ARCHIVE_SUFFIX));
        folder.unwrap_or(name)
    }

    /// The name under which it is saved in a folder.
    pub(crate) fn safe_name(&self) -> SafeName {
        SafeName::from_offered(self.raw_name())
    }

    /// What every event of the transfer says, with this name for the file.
    pub(crate) fn transfer(&self, file_name: String) -> Transfer {
        Transfer {
            direction: Direction::Receive,
            transfer_id: self.offer.transfer_id.clone(),
            task_id: Some(self.task.id.clone()),
            file_name,
            original_name: files::display(&self.offer.name),
            size: self.offer.size,
            hash: self.offer.hash.clone(),
            metadata: self.offer.attributes.metadata.clone(),
            tree: self.tree(),
            peer_id: self.offer.sender_id.clone(),
            peer: self.peer,
        }
    }
}

/// The offers that wait for an answer, and the tasks that had theirs.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    offers: Mutex<OpenOffers>,
}

#[derive(Debug, Default)]
struct OpenOffers {
    last_handle: u64,
    open: HashMap<u64, WaitingOffer>,
    /// Open or running: not to be offered again.
    live: HashMap<TaskId, LiveOffer>,
    /// Received or declined: not to be offered again.
    over: HashSet<TaskId>,
    /// The first task that was seen with a transfer id; another one with the same id is no offer.
    first: HashMap<String, TaskId>,
    /// Gave way once: not again at another's expense.
    gave_way: HashSet<TaskId>,
    /// Actors for whose offers there was no room.
    left: HashSet<String>,
}

/// An offer that waits for its answer.
#[derive(Debug)]
struct WaitingOffer {
    open: OpenOffer,
    /// Tells who waits with it that it is answered or gone.
    over: DropGuard,
}

#[derive(Debug)]
struct LiveOffer {
    actor: String,
    phase: LivePhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LivePhase {
    Open(u64),
    Running,
}

impl Inbox {
    /// Puts an offer into the inbox and returns its handle; `None` if it was seen before or there is no room
    /// for it. For lack of room, those that are stale by now are swept off.
    pub(crate) fn put(&self, open: OpenOffer, is_stale: impl Fn(&OpenOffer) -> bool) -> Option<u64> {
        let mut offers = lock(&self.offers);
        if !offers.is_new(&open) {
            return None;
        }
        if offers.live.len() >= MAX_LIVE {
            offers.sweep(is_stale);
        }
        if !offers.has_room(open.actor()) && !offers.give_way_to(&open) {
            offers.leave(open.actor());
            return None;
        }
        offers.make_room();
        offers.gave_way.remove(&open.task.id);
        offers.last_handle += 1;
        let handle = offers.last_handle;
        offers.first.insert(open.offer.transfer_id.clone(), open.task.id.clone());
        offers.wait(handle, open);
        Some(handle)
    }

    /// Notes that a transfer goes on whose offer was accepted before; `false` if it is at work already.
    pub(crate) fn begin(&self, task: &TaskId) -> bool {
        let mut offers = lock(&self.offers);
        let is_new = !offers.live.contains_key(task);
        if is_new {
            // It takes room, but from no actor in particular.
            let live = LiveOffer { actor: String::new(), phase: LivePhase::Running };
            offers.live.insert(task.clone(), live);
        }
        is_new
    }

    /// Notes that an offer of this actor was left on the service unread.
    pub(crate) fn leave(&self, actor: &str) {
        lock(&self.offers).leave(actor);
    }

    /// An offer that waits for its answer, and what is cancelled when it does so no more.
    pub(crate) fn waiting(&self, handle: u64) -> Option<(OpenOffer, CancellationToken)> {
        let mut offers = lock(&self.offers);
        let waiting = offers.open.remove(&handle)?;
        let (open, over) = (waiting.open.clone(), waiting.over.disarm());
        offers.open.insert(handle, WaitingOffer { open: waiting.open, over: over.clone().drop_guard() });
        Some((open, over))
    }

    /// Whether an offer waits for its answer.
    pub(crate) fn is_open(&self, handle: u64) -> bool {
        lock(&self.offers).open.contains_key(&handle)
    }

    /// Whether an offer would be one more, if there is room.
    pub(crate) fn is_new(&self, open: &OpenOffer) -> bool {
        lock(&self.offers).is_new(open)
    }

    /// Takes an offer out of the inbox to answer it.
    pub(crate) fn take(&self, handle: u64) -> Result<OpenOffer> {
        let mut offers = lock(&self.offers);
        let open = offers.open.remove(&handle).ok_or_else(answered)?.open;
        if let Some(live) = offers.live.get_mut(&open.task.id) {
            live.phase = LivePhase::Running;
        }
        Ok(open)
    }

    /// The name under which an open offer's file is saved in a folder.
    pub(crate) fn name_of(&self, handle: u64) -> Result<SafeName> {
        let offers = lock(&self.offers);
        let waiting = offers.open.get(&handle).ok_or_else(answered)?;
        Ok(waiting.open.safe_name())
    }

    /// Whether it is a folder that an open offer offers.
    pub(crate) fn is_of_folder(&self, handle: u64) -> Result<bool> {
        let offers = lock(&self.offers);
        Ok(offers.open.get(&handle).ok_or_else(answered)?.open.tree().is_some())
    }

    /// Puts an offer back whose acceptance failed before it was claimed: it can be answered once more.
    pub(crate) fn put_back(&self, handle: u64, open: OpenOffer) {
        lock(&self.offers).wait(handle, open);
    }

    /// Notes that a task was declined here: it is not offered again.
    pub(crate) fn declined(&self, task: &TaskId) {
        self.ended(task, true);
    }

    /// Notes that a transfer has ended; a task that failed may come back as a new offer.
    pub(crate) fn ended(&self, task: &TaskId, done: bool) {
        let mut offers = lock(&self.offers);
        if let Some(LiveOffer { phase: LivePhase::Open(handle), .. }) = offers.live.remove(task) {
            offers.open.remove(&handle);
        }
        if done {
            offers.over.insert(task.clone());
        }
    }

    /// Notes that a task is no longer pending on the service, for whatever reason.
    pub(crate) fn gone(&self, task: &TaskId) {
        let mut offers = lock(&self.offers);
        offers.gave_way.remove(task);
        if let Some(LivePhase::Open(handle)) = offers.live.get(task).map(|live| live.phase) {
            offers.open.remove(&handle);
            offers.live.remove(task);
        }
    }

    /// Whether offers were left on the service for which there is room now; asks to be asked once.
    pub(crate) fn has_room_for_left(&self) -> bool {
        let mut offers = lock(&self.offers);
        let has_room = match offers.left.len() {
            MAX_LEFT.. => offers.live.len() < MAX_LIVE,
            _ => offers.left.iter().any(|actor| offers.has_room(actor)),
        };
        if has_room {
            offers.left.clear();
        }
        has_room
    }
}

impl OpenOffers {
    fn is_new(&self, open: &OpenOffer) -> bool {
        !self.live.contains_key(&open.task.id)
            && !self.over.contains(&open.task.id)
            && self.first.get(&open.offer.transfer_id).is_none_or(|first| *first == open.task.id)
    }

    fn wait(&mut self, handle: u64, open: OpenOffer) {
        let live = LiveOffer { actor: open.actor().to_owned(), phase: LivePhase::Open(handle) };
        self.live.insert(open.task.id.clone(), live);
        self.open.insert(handle, WaitingOffer { open, over: CancellationToken::new().drop_guard() });
    }

    /// Whether an actor has fewer offers here than room is left.
    fn has_room(&self, actor: &str) -> bool {
        self.count(actor) < MAX_LIVE.saturating_sub(self.live.len())
    }

    fn count(&self, actor: &str) -> usize {
        self.live.values().filter(|live| live.actor == actor).count()
    }

    /// Takes away the oldest unanswered offer of the actor that has most, if that is more than the actor of
    /// `newcomer` has; says whether that was so.
    fn give_way_to(&mut self, newcomer: &OpenOffer) -> bool {
        if self.gave_way.contains(&newcomer.task.id) {
            return false;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for live in self.live.values() {
            *counts.entry(&live.actor).or_default() += 1;
        }
        let count = |actor: &str| counts.get(actor).copied().unwrap_or_default();
        let heaviest =
            self.open.iter().max_by_key(|(handle, waiting)| (count(waiting.open.actor()), Reverse(**handle)));
        let Some((handle, waiting)) = heaviest else { return false };
        if count(waiting.open.actor()) <= count(newcomer.actor()) {
            return false;
        }
        let (handle, task, actor) = (*handle, waiting.open.task.id.clone(), waiting.open.actor().to_owned());
        self.open.remove(&handle);
        self.live.remove(&task);
        if self.gave_way.len() >= MAX_REMEMBERED {
            self.gave_way.clear();
        }
        self.gave_way.insert(task);
        self.leave(&actor);
        true
    }

    fn leave(&mut self, actor: &str) {
        if self.left.len() < MAX_LEFT {
            self.left.insert(actor.to_owned());
        }
    }

    fn sweep(&mut self, is_stale: impl Fn(&OpenOffer) -> bool) {
        let live = &mut self.live;
        self.open.retain(|_, WaitingOffer { open, .. }| {
            let stale = is_stale(open);
            if stale {
                live.remove(&open.task.id);
            }
            !stale
        });
    }

    fn make_room(&mut self) {
        if self.over.len() >= MAX_REMEMBERED {
            self.over.clear();
        }
        if self.first.len() >= MAX_REMEMBERED {
            let (live, over) = (&self.live, &self.over);
            self.first.retain(|_, task| live.contains_key(task) || over.contains(task));
        }
        if self.first.len() >= MAX_REMEMBERED {
            self.over.clear();
            let live = &self.live;
            self.first.retain(|_, task| live.contains_key(task));
        }
    }
}

/// What whoever answers an offer twice, or too late, is told.
pub(crate) fn answered() -> Error {
    Error::new(
        Code::AlreadyAnswered,
        "this offer was accepted, rejected or withdrawn before, or gave way to others",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(task: usize, transfer_id: &str) -> OpenOffer {
        // Each task has a source of its own, unless a test says otherwise.
        from(&format!("source of {task}"), task, transfer_id)
    }

    fn from(source: &str, task: usize, transfer_id: &str) -> OpenOffer {
        let payload = json!({
            "transfer_id": transfer_id,
            "filename": "f",
            "size": 1,
            "hash": "0".repeat(64),
            "sender_id": "a",
        });
        let offer = Offer::from_payload(&payload).unwrap();
        let task = json!({ "id": task, "source_id": source, "payload": payload });
        let task = Task::from_value(task).unwrap();
        OpenOffer { task, offer, peer: PeerIdentity::UNKNOWN }
    }

    fn put(inbox: &Inbox, task: usize) -> Option<u64> {
        inbox.put(open(task, &task.to_string()), |_| false)
    }

    fn put_from(inbox: &Inbox, source: &str, task: usize) -> Option<u64> {
        inbox.put(from(source, task, &task.to_string()), |_| false)
    }

    #[test]
    fn an_offer_is_answered_once() {
        let inbox = Inbox::default();
        let handle = put(&inbox, 1).unwrap();
        assert_eq!(put(&inbox, 1), None);
        let taken = inbox.take(handle).unwrap();
        assert_eq!(inbox.take(handle).unwrap_err().code, Code::AlreadyAnswered);
        assert_eq!(put(&inbox, 1), None);
        inbox.put_back(handle, taken);
        inbox.take(handle).unwrap();
        inbox.ended(&open(1, "1").task.id, false);
        assert!(put(&inbox, 1).is_some(), "a task that failed may come back");
        inbox.ended(&open(1, "1").task.id, true);
        assert_eq!(put(&inbox, 1), None);
    }

    #[test]
    fn a_transfer_id_belongs_to_the_first_task_that_had_it() {
        let inbox = Inbox::default();
        inbox.put(open(1, "x"), |_| false).unwrap();
        assert_eq!(inbox.put(open(2, "x"), |_| false), None);
        inbox.gone(&open(1, "x").task.id);
        assert_eq!(inbox.put(open(2, "x"), |_| false), None);
        assert!(inbox.put(open(1, "x"), |_| false).is_some());
    }

    #[test]
    fn a_flood_of_one_actor_leaves_room_for_others_and_is_found_again() {
        let inbox = Inbox::default();
        let handles: Vec<u64> = (0..1200).filter_map(|task| put_from(&inbox, "flood", task)).collect();
        assert_eq!(handles.len(), MAX_LIVE / 2);
        assert!(!inbox.has_room_for_left());
        for task in 2000..2100 {
            assert!(put_from(&inbox, "honest", task).is_some());
        }
        // Those that are being received take room as well.
        inbox.take(handles[0]).unwrap();
        assert_eq!(put_from(&inbox, "flood", 1200), None);
        assert!(!inbox.has_room_for_left());
        for task in 0..200 {
            inbox.ended(&from("flood", task, "x").task.id, true);
        }
        assert!(inbox.has_room_for_left() && !inbox.has_room_for_left());
        assert!(put_from(&inbox, "flood", 1200).is_some());
    }

    #[test]
    fn of_many_actors_the_oldest_of_who_has_most_gives_way_and_is_found_again_when_there_is_room() {
        let inbox = Inbox::default();
        let two = [put_from(&inbox, "two", 5000).unwrap(), put_from(&inbox, "two", 5001).unwrap()];
        let (_, over) = inbox.waiting(two[0]).unwrap();
        let others: Vec<u64> = (0..MAX_LIVE).filter_map(|task| put(&inbox, task)).collect();
        assert_eq!(others.len(), MAX_LIVE, "each newcomer finds room");
        assert!(over.is_cancelled(), "who waits with it is told");
        assert_eq!(inbox.take(two[0]).unwrap_err().code, Code::AlreadyAnswered);
        // Then all have one, and the oldest of all is next.
        assert_eq!(inbox.take(two[1]).unwrap_err().code, Code::AlreadyAnswered);
        assert!(inbox.take(others[0]).is_ok());
        assert!(put_from(&inbox, "one more", 6000).is_some());
        assert_eq!(inbox.take(others[1]).unwrap_err().code, Code::AlreadyAnswered);
        // What gave way does not come back at another's expense.
        assert_eq!(put(&inbox, 1), None);
        assert!(!inbox.has_room_for_left());
        for task in 2..10 {
            inbox.gone(&open(task, "x").task.id);
        }
        assert!(inbox.has_room_for_left());
        assert!(put(&inbox, 1).is_some());
    }

    #[test]
    fn what_is_being_received_gives_way_to_nobody() {
        let inbox = Inbox::default();
        for task in 0..MAX_LIVE {
            inbox.take(put(&inbox, task).unwrap()).unwrap();
        }
        assert_eq!(put_from(&inbox, "late", 5000), None);
        inbox.ended(&open(3, "3").task.id, true);
        assert!(inbox.has_room_for_left());
    }

    #[test]
    fn offers_that_nobody_waits_for_make_room() {
        let inbox = Inbox::default();
        let handles: Vec<u64> = (0..MAX_LIVE).map(|task| put(&inbox, task).unwrap()).collect();
        let late = open(MAX_LIVE, "late");
        assert!(inbox.put(late, |other| other.offer.transfer_id == "5").is_some());
        assert_eq!(inbox.take(handles[5]).unwrap_err().code, Code::AlreadyAnswered);
        inbox.take(handles[6]).unwrap();
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let inbox = Inbox::default();
        for task in 0..2 * MAX_REMEMBERED {
            put(&inbox, task).unwrap();
            inbox.ended(&open(task, "x").task.id, true);
        }
        let offers = lock(&inbox.offers);
        assert!(offers.over.len() <= MAX_REMEMBERED && offers.first.len() <= MAX_REMEMBERED);
        assert!(offers.live.is_empty() && offers.open.is_empty());
    }
}
