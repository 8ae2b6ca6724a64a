//! The offers that wait for an answer, and the tasks that had theirs.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::{Expiry, Offer};
use crate::ats::{Task, TaskId};
use crate::error::{Code, Error, Result};
use crate::event::{Direction, Transfer};
use crate::files::{self, SafeName};
use crate::sync::lock;

/// Offers that wait for an answer or are being received at once; more are left on the service until there
/// is room again.
pub(crate) const MAX_LIVE: usize = 1024;

/// Tasks remembered as dealt with, so that no list or repeated event brings them back.
const MAX_REMEMBERED: usize = 16 * 1024;

/// An offer that this node may take.
#[derive(Clone, Debug)]
pub(crate) struct OpenOffer {
    pub(crate) task: Task,
    pub(crate) offer: Offer,
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
            peer_id: self.offer.sender_id.clone(),
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
    open: HashMap<u64, OpenOffer>,
    /// Open or running: not to be offered again.
    live: HashMap<TaskId, Phase>,
    /// Received or declined: not to be offered again.
    over: HashSet<TaskId>,
    /// The first task that was seen with a transfer id; another one with the same id is no offer.
    first: HashMap<String, TaskId>,
    /// There was no room for an offer.
    left_some: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open(u64),
    Running,
}

impl Inbox {
    /// Puts an offer into the inbox and returns its handle; `None` if it was seen before or the inbox is
    /// full. For lack of room, those that are stale by now are swept off.
    pub(crate) fn put(&self, open: OpenOffer, is_stale: impl Fn(&OpenOffer) -> bool) -> Option<u64> {
        let mut offers = lock(&self.offers);
        if !offers.is_new(&open) {
            return None;
        }
        if offers.live.len() >= MAX_LIVE {
            offers.sweep(is_stale);
        }
        if offers.live.len() >= MAX_LIVE {
            offers.left_some = true;
            return None;
        }
        offers.make_room();
        offers.last_handle += 1;
        let handle = offers.last_handle;
        offers.live.insert(open.task.id.clone(), Phase::Open(handle));
        offers.first.insert(open.offer.transfer_id.clone(), open.task.id.clone());
        offers.open.insert(handle, open);
        Some(handle)
    }

    /// Notes that a transfer goes on whose offer was accepted before; `false` if it is at work already.
    pub(crate) fn begin(&self, task: &TaskId) -> bool {
        let mut offers = lock(&self.offers);
        let is_new = !offers.live.contains_key(task);
        if is_new {
            offers.live.insert(task.clone(), Phase::Running);
        }
        is_new
    }

    /// Takes an offer out of the inbox to answer it.
    pub(crate) fn take(&self, handle: u64) -> Result<OpenOffer> {
        let mut offers = lock(&self.offers);
        let open = offers.open.remove(&handle).ok_or_else(answered)?;
        offers.live.insert(open.task.id.clone(), Phase::Running);
        Ok(open)
    }

    /// The name under which an open offer's file is saved in a folder.
    pub(crate) fn name_of(&self, handle: u64) -> Result<SafeName> {
        let offers = lock(&self.offers);
        offers.open.get(&handle).map(|open| SafeName::from_offered(&open.offer.name)).ok_or_else(answered)
    }

    /// Puts an offer back whose acceptance failed before it was claimed: it can be answered once more.
    pub(crate) fn put_back(&self, handle: u64, open: OpenOffer) {
        let mut offers = lock(&self.offers);
        offers.live.insert(open.task.id.clone(), Phase::Open(handle));
        offers.open.insert(handle, open);
    }

    /// Notes that a task was declined here: it is not offered again.
    pub(crate) fn declined(&self, task: &TaskId) {
        self.ended(task, true);
    }

    /// Notes that a transfer has ended; a task that failed may come back as a new offer.
    pub(crate) fn ended(&self, task: &TaskId, done: bool) {
        let mut offers = lock(&self.offers);
        if let Some(Phase::Open(handle)) = offers.live.remove(task) {
            offers.open.remove(&handle);
        }
        if done {
            offers.over.insert(task.clone());
        }
    }

    /// Notes that a task is no longer pending on the service, for whatever reason.
    pub(crate) fn gone(&self, task: &TaskId) {
        let mut offers = lock(&self.offers);
        if let Some(Phase::Open(handle)) = offers.live.get(task).copied() {
            offers.open.remove(&handle);
            offers.live.remove(task);
        }
    }

    /// Whether offers were left on the service for which there is room now; asks to be asked once.
    pub(crate) fn has_room_for_left(&self) -> bool {
        let mut offers = lock(&self.offers);
        offers.live.len() < MAX_LIVE && std::mem::take(&mut offers.left_some)
    }
}

impl OpenOffers {
    fn is_new(&self, open: &OpenOffer) -> bool {
        !self.live.contains_key(&open.task.id)
            && !self.over.contains(&open.task.id)
            && self.first.get(&open.offer.transfer_id).is_none_or(|first| *first == open.task.id)
    }

    fn sweep(&mut self, is_stale: impl Fn(&OpenOffer) -> bool) {
        let live = &mut self.live;
        self.open.retain(|_, open| {
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
    Error::new(Code::AlreadyAnswered, "this offer was accepted, rejected or withdrawn before")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(task: usize, transfer_id: &str) -> OpenOffer {
        let payload = json!({
            "transfer_id": transfer_id,
            "filename": "f",
            "size": 1,
            "hash": "0".repeat(64),
            "sender_id": "a",
        });
        let offer = Offer::from_payload(&payload).unwrap();
        OpenOffer { task: Task::from_value(json!({ "id": task, "payload": payload })).unwrap(), offer }
    }

    fn put(inbox: &Inbox, task: usize) -> Option<u64> {
        inbox.put(open(task, &task.to_string()), |_| false)
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
    fn a_flood_of_offers_is_left_on_the_service_until_there_is_room() {
        let inbox = Inbox::default();
        let handles: Vec<u64> = (0..MAX_LIVE).map(|task| put(&inbox, task).unwrap()).collect();
        assert!(!inbox.has_room_for_left());
        // Those that are being received take room as well.
        inbox.take(handles[0]).unwrap();
        assert_eq!(put(&inbox, MAX_LIVE), None);
        assert!(!inbox.has_room_for_left());
        inbox.ended(&open(0, "0").task.id, true);
        assert!(inbox.has_room_for_left());
        assert!(put(&inbox, MAX_LIVE).is_some());
        assert!(!inbox.has_room_for_left());
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
