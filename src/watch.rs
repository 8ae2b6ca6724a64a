//! Watching a channel: which tasks are offers for this node, and what becomes of each.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use crate::ats::{self, Status, Task, TaskId};
use crate::error::{Code, Error, Result};
use crate::event::{Direction, Event, Transfer};
use crate::feed::{Link, Notice, POLL_INTERVAL};
use crate::files::{self, SafeName, Target};
use crate::node::{Inner, lock};
use crate::offer::{self, Offer};
use crate::receive::{self, Acceptance};

/// Offers that wait for an answer or are being received at once; more are left on the service until there
/// is room again.
const MAX_LIVE: usize = 1024;

/// Tasks remembered as dealt with, so that no list or repeated event brings them back.
const MAX_REMEMBERED: usize = 16 * 1024;

/// How long the remains of a transfer that never ended are kept.
const MAX_PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Tasks read at a time when a channel is listed.
const PAGE: u32 = 100;

/// Pages read of one list: what a flood of offers can make this node read in one go.
const MAX_PAGES: u32 = 20;

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// The channel.
    pub(crate) channel: String,
    /// Where every file goes; without, each is asked about.
    pub(crate) save_dir: Option<PathBuf>,
}

/// An offer that this node may take.
#[derive(Clone, Debug)]
pub(crate) struct OpenOffer {
    pub(crate) task: Task,
    pub(crate) offer: Offer,
}

/// The offers that wait for an answer, and the tasks that had theirs.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    last_handle: AtomicU64,
    inner: Mutex<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
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

impl Desk {
    /// Puts an offer on the desk and returns its handle; `None` if it was seen before or the desk is full.
    /// For lack of room, those that are stale by now are swept off.
    fn put(&self, open: OpenOffer, is_stale: impl Fn(&OpenOffer) -> bool) -> Option<u64> {
        let mut shelves = lock(&self.inner);
        if !shelves.is_new(&open) {
            return None;
        }
        if shelves.live.len() >= MAX_LIVE {
            shelves.sweep(is_stale);
        }
        if shelves.live.len() >= MAX_LIVE {
            shelves.left_some = true;
            return None;
        }
        shelves.make_room();
        let handle = self.last_handle.fetch_add(1, Ordering::Relaxed) + 1;
        shelves.live.insert(open.task.id.clone(), Phase::Open(handle));
        shelves.first.insert(open.offer.transfer_id.clone(), open.task.id.clone());
        shelves.open.insert(handle, open);
        Some(handle)
    }

    /// Takes an offer off the desk to answer it.
    pub(crate) fn take(&self, handle: u64) -> Result<OpenOffer> {
        let mut shelves = lock(&self.inner);
        let open = shelves.open.remove(&handle).ok_or_else(answered)?;
        shelves.live.insert(open.task.id.clone(), Phase::Running);
        Ok(open)
    }

    /// The name under which an open offer's file is saved in a folder.
    pub(crate) fn name_of(&self, handle: u64) -> Result<SafeName> {
        let shelves = lock(&self.inner);
        shelves.open.get(&handle).map(|open| SafeName::from_offered(&open.offer.name)).ok_or_else(answered)
    }

    /// Puts an offer back whose acceptance failed before it was claimed: it can be answered once more.
    pub(crate) fn put_back(&self, handle: u64, open: OpenOffer) {
        let mut shelves = lock(&self.inner);
        shelves.live.insert(open.task.id.clone(), Phase::Open(handle));
        shelves.open.insert(handle, open);
    }

    /// Notes that a task was declined here: it is not offered again.
    pub(crate) fn declined(&self, task: &TaskId) {
        self.ended(task, true);
    }

    /// Notes that a transfer has ended; a task that failed may come back as a new offer.
    pub(crate) fn ended(&self, task: &TaskId, done: bool) {
        let mut shelves = lock(&self.inner);
        if let Some(Phase::Open(handle)) = shelves.live.remove(task) {
            shelves.open.remove(&handle);
        }
        if done {
            shelves.over.insert(task.clone());
        }
    }

    /// Notes that a task is no longer pending on the service, for whatever reason.
    fn gone(&self, task: &TaskId) {
        let mut shelves = lock(&self.inner);
        if let Some(Phase::Open(handle)) = shelves.live.get(task).copied() {
            shelves.open.remove(&handle);
            shelves.live.remove(task);
        }
    }

    /// Whether offers were left on the service for which there is room now; asks to be asked once.
    fn has_room_for_left(&self) -> bool {
        let mut shelves = lock(&self.inner);
        shelves.live.len() < MAX_LIVE && std::mem::take(&mut shelves.left_some)
    }
}

impl Shelves {
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

/// Watches until the node is destroyed.
pub(crate) async fn run(node: Arc<Inner>, watch: Watch) {
    let cancel = node.cancel.clone();
    if let Some(dir) = watch.save_dir.clone() {
        tokio::task::spawn_blocking(move || files::sweep(&dir, MAX_PARTIAL_AGE));
    }
    tokio::select! {
        () = cancel.cancelled() => {}
        ((), ()) = async { tokio::join!(receive::report_missed(&node), follow(&node, &watch)) } => {}
    }
}

async fn follow(node: &Arc<Inner>, watch: &Watch) {
    let feed = node.feed(&watch.channel);
    // Subscribed before the first list, so that nothing falls between the two.
    let mut listener = feed.listen();
    let link = feed.link();
    let mut connected = link == Link::Up;
    let mut refused = false;
    let tell_connected = || {
        if feed.is_news(true) {
            node.emit(Event::Connected {
                ats_url: node.settings.url.clone(),
                channel: watch.channel.clone(),
                actor_id: node.actor_id().to_owned(),
            });
        }
    };
    let tell_lost = |reason| {
        if feed.is_news(false) {
            node.emit(Event::Disconnected { reason });
        }
    };
    match link {
        Link::Starting => {}
        Link::Up => {
            tell_connected();
            list(node, watch, &mut refused).await;
        }
        Link::Down(reason) => tell_lost(reason),
    }
    let mut next_list = Instant::now() + POLL_INTERVAL;
    loop {
        match timeout_at(next_list, listener.next()).await {
            Ok(None) => return,
            Ok(Some(Notice::Connected)) => {
                connected = true;
                tell_connected();
                list(node, watch, &mut refused).await;
            }
            Ok(Some(Notice::Lagged)) => list(node, watch, &mut refused).await,
            Ok(Some(Notice::Disconnected(reason))) => {
                connected = false;
                tell_lost(reason);
            }
            Ok(Some(Notice::Task(task))) => {
                consider(node, watch, &task);
                continue;
            }
            // While events flow there is nothing to list.
            Err(_) if connected && !node.desk.has_room_for_left() => {}
            Err(_) => list(node, watch, &mut refused).await,
        }
        next_list = Instant::now() + POLL_INTERVAL;
    }
}

async fn list(node: &Arc<Inner>, watch: &Watch, refused: &mut bool) {
    let mut query = ats::ListQuery {
        status: Some(Status::Pending),
        kind: Some(offer::TASK_TYPE.into()),
        channel: Some(watch.channel.clone()),
        limit: Some(PAGE),
        sort_by: Some("created_at".into()),
        sort_dir: Some("asc".into()),
        ..Default::default()
    };
    for page in 0..MAX_PAGES {
        query.offset = Some(page * PAGE);
        match node.client.list(&query).await {
            Ok(tasks) => {
                *refused = false;
                let more = tasks.len() >= PAGE as usize;
                for task in tasks {
                    consider(node, watch, &task);
                }
                if !more {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!("listing {} failed: {error}", watch.channel);
                // A refused key will not mend itself; it is told once, not at every poll.
                if error.is_refused() && !std::mem::replace(refused, true) {
                    node.emit(Event::Error { error: error.into() });
                }
                return;
            }
        }
    }
}

/// Looks at a task that is pending, or was, and does what the watch is to do with it.
fn consider(node: &Arc<Inner>, watch: &Watch, task: &Task) {
    if task.status != Status::Pending {
        node.desk.gone(&task.id);
        return;
    }
    if task.kind != offer::TASK_TYPE || task.channel != watch.channel {
        return;
    }
    let offer = match Offer::from_payload(&task.payload) {
        Ok(offer) => offer,
        Err(error) => {
            tracing::debug!("task {} is no offer: {error}", task.id);
            return;
        }
    };
    let me = node.actor_id();
    let for_me = match &offer.recipient_id {
        Some(recipient) if recipient == me => true,
        Some(_) => return,
        None if offer.sender_id == me => return,
        None => false,
    };
    let open = OpenOffer { task: task.clone(), offer };
    if is_stale(node, &open) {
        tracing::debug!("offer in task {} has expired", open.task.id);
        return;
    }
    let refusal = refusal(node, &open);
    let Some(handle) = node.desk.put(open.clone(), |other| is_stale(node, other)) else { return };
    let name = SafeName::from_offered(&open.offer.name);
    let transfer = transfer_of(&open, name.as_str().to_owned());
    if refusal.is_none() {
        reserve(node, &open);
    }
    if let Some(error) = refusal {
        node.desk.declined(&open.task.id);
        if for_me {
            decline(node, open, error, transfer);
        }
        return;
    }
    match &watch.save_dir {
        None => node.emit(Event::File { transfer, offer: handle, task: open.task.raw.clone() }),
        Some(dir) => {
            take_all(node, handle, Target::InFolder { dir: dir.clone(), name });
        }
    }
}

/// Keeps the idle connection that an offer names until the offer is answered, or is stale.
fn reserve(node: &Inner, OpenOffer { task, offer }: &OpenOffer) {
    if let Some(p2p) = offer.p2p.as_ref().filter(|p2p| p2p.features.reuse) {
        let longest = node.options.max_offer_age;
        let left = offer.expires_at.map_or(longest, |expires_at| {
            Duration::try_from(expires_at - OffsetDateTime::from(node.client.clock())).unwrap_or_default()
        });
        node.incoming.reserve(&offer.sender_id, &p2p.key, &task.id, Instant::now() + left.min(longest));
    }
}

/// Why this node does not take an offer, whatever its owner says.
fn refusal(node: &Inner, open: &OpenOffer) -> Option<Error> {
    let OpenOffer { task, offer } = open;
    if offer.p2p.is_some() && task.source.as_ref().is_some_and(|source| source.id != offer.sender_id) {
        return Some(Error::new(
            Code::Identity,
            format!("the offer names {} as its sender, the task another", files::display(&offer.sender_id)),
        ));
    }
    if let Some(allowed) = &node.options.allowed_peers {
        let is_allowed = |id: &String| allowed.contains(id);
        let source_allowed = task.source.as_ref().is_none_or(|source| is_allowed(&source.id));
        if !is_allowed(&offer.sender_id) || !source_allowed {
            return Some(Error::new(
                Code::NotAllowed,
                format!("{} is not on the list of allowed peers", files::display(&offer.sender_id)),
            ));
        }
    }
    match node.options.max_file_size {
        Some(max) if offer.size > max => Some(Error::new(
            Code::TooLarge,
            format!(
                "{} has {} bytes, more than the {max} that are accepted here",
                files::display(&offer.name),
                offer.size
            ),
        )),
        _ => None,
    }
}

/// Whether nobody waits for an answer to this offer any more.
pub(crate) fn is_stale(node: &Inner, OpenOffer { task, offer }: &OpenOffer) -> bool {
    let now = OffsetDateTime::from(node.client.clock());
    match (offer.expires_at, task.created_at()) {
        (Some(expires_at), _) => now > expires_at,
        (None, Some(created_at)) => now - created_at > node.options.max_offer_age,
        (None, None) => false,
    }
}

fn decline(node: &Arc<Inner>, open: OpenOffer, error: Error, transfer: Transfer) {
    let error = error.of(&open.offer.transfer_id, Some(&open.task.id.to_string()));
    node.emit(Event::TransferFailed { transfer, error: error.clone() });
    let Ok(turn) = node.declining.clone().try_acquire_owned() else { return };
    let client = node.client.clone();
    node.spawn(async move {
        let _turn = turn;
        if let Err(failed) = client.reject(&open.task.id, &error.message).await {
            tracing::debug!("task {} could not be rejected: {failed}", open.task.id);
        }
    });
}

fn take_all(node: &Arc<Inner>, handle: u64, target: Target) {
    let Ok(open) = node.desk.take(handle) else { return };
    let node = node.clone();
    node.clone().spawn(async move {
        let (task, declinable) = (open.task.id.clone(), open.offer.recipient_id.is_some());
        let acceptance = Acceptance { target, cancel: node.cancel.clone() };
        if let Err(failure) = receive::run(node.clone(), handle, open, acceptance).await
            && !failure.claimed
            && !matches!(failure.error.code, Code::Aborted | Code::AlreadyClaimed | Code::OfferExpired)
        {
            // Nobody is asked who could answer better: the sender is told now rather than left waiting.
            node.desk.declined(&task);
            if declinable {
                let _ = node.client.reject(&task, failure.error.code.public_reason()).await;
            }
        }
    });
}

/// The parts of a transfer's events that its offer settles.
pub(crate) fn transfer_of(open: &OpenOffer, file_name: String) -> Transfer {
    Transfer {
        direction: Direction::Receive,
        transfer_id: open.offer.transfer_id.clone(),
        task_id: Some(open.task.id.clone()),
        file_name,
        original_name: files::display(&open.offer.name),
        size: open.offer.size,
        hash: open.offer.hash.clone(),
        peer_id: open.offer.sender_id.clone(),
    }
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

    fn put(desk: &Desk, task: usize) -> Option<u64> {
        desk.put(open(task, &task.to_string()), |_| false)
    }

    #[test]
    fn an_offer_is_answered_once() {
        let desk = Desk::default();
        let handle = put(&desk, 1).unwrap();
        assert_eq!(put(&desk, 1), None);
        let taken = desk.take(handle).unwrap();
        assert_eq!(desk.take(handle).unwrap_err().code, Code::AlreadyAnswered);
        assert_eq!(put(&desk, 1), None);
        desk.put_back(handle, taken);
        desk.take(handle).unwrap();
        desk.ended(&open(1, "1").task.id, false);
        assert!(put(&desk, 1).is_some(), "a task that failed may come back");
        desk.ended(&open(1, "1").task.id, true);
        assert_eq!(put(&desk, 1), None);
    }

    #[test]
    fn a_transfer_id_belongs_to_the_first_task_that_had_it() {
        let desk = Desk::default();
        desk.put(open(1, "x"), |_| false).unwrap();
        assert_eq!(desk.put(open(2, "x"), |_| false), None);
        desk.gone(&open(1, "x").task.id);
        assert_eq!(desk.put(open(2, "x"), |_| false), None);
        assert!(desk.put(open(1, "x"), |_| false).is_some());
    }

    #[test]
    fn a_flood_of_offers_is_left_on_the_service_until_there_is_room() {
        let desk = Desk::default();
        let handles: Vec<u64> = (0..MAX_LIVE).map(|task| put(&desk, task).unwrap()).collect();
        assert!(!desk.has_room_for_left());
        // Those that are being received take room as well.
        desk.take(handles[0]).unwrap();
        assert_eq!(put(&desk, MAX_LIVE), None);
        assert!(!desk.has_room_for_left());
        desk.ended(&open(0, "0").task.id, true);
        assert!(desk.has_room_for_left());
        assert!(put(&desk, MAX_LIVE).is_some());
        assert!(!desk.has_room_for_left());
    }

    #[test]
    fn offers_that_nobody_waits_for_make_room() {
        let desk = Desk::default();
        let handles: Vec<u64> = (0..MAX_LIVE).map(|task| put(&desk, task).unwrap()).collect();
        let late = open(MAX_LIVE, "late");
        assert!(desk.put(late, |other| other.offer.transfer_id == "5").is_some());
        assert_eq!(desk.take(handles[5]).unwrap_err().code, Code::AlreadyAnswered);
        desk.take(handles[6]).unwrap();
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let desk = Desk::default();
        for task in 0..2 * MAX_REMEMBERED {
            put(&desk, task).unwrap();
            desk.ended(&open(task, "x").task.id, true);
        }
        let shelves = lock(&desk.inner);
        assert!(shelves.over.len() <= MAX_REMEMBERED && shelves.first.len() <= MAX_REMEMBERED);
        assert!(shelves.live.is_empty() && shelves.open.is_empty());
    }
}
