//! Who has a place and who is next: a state machine without I/O. See the [module](super) for the rules.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How long a transfer counts as one that moves before any byte has: connecting takes a round trip or two.
const FRESH: Duration = Duration::from_millis(500);

/// How long it is looked at before it counts as one that does not move, or moves again.
const WINDOW: Duration = Duration::from_secs(1);

/// Bytes in a [`WINDOW`] below which a transfer takes no place from others.
const SLOW: u64 = 32 * 1024;

/// How long a peer that has moved nothing yet may keep others from being tried when no more can wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the queue has to be polled while somebody waits.
const TICK: Duration = Duration::from_millis(250);

/// How many may do what at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceLimits {
    /// Transfers that move.
    pub(crate) places: usize,
    /// Transfers beside them that have begun and do not move.
    pub(crate) aside: usize,
    /// Those of one actor.
    pub(crate) aside_of_one: usize,
}

impl PlaceLimits {
    /// Places that one actor may have: all but a quarter of them, and always one.
    fn share(&self) -> usize {
        (self.places - self.places.div_ceil(4).min(self.places)).max(1)
    }
}

/// A transfer, by the order in which it came.
pub(super) type Id = u64;

/// What becomes of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has a place now.
    Admitted(Id),
    /// It has to end: its peer does not come, and others wait.
    GivenUp(Id),
}

/// The queue of one node in one direction.
#[derive(Debug)]
pub(super) struct PlaceQueue {
    limits: PlaceLimits,
    last_id: Id,
    transfers: HashMap<Id, QueuedTransfer>,
    /// Of each actor those that wait for a place, the next in front.
    waiting: HashMap<String, VecDeque<Id>>,
}

#[derive(Debug)]
struct QueuedTransfer {
    actor: String,
    state: TransferState,
    /// It has had a place before.
    has_begun: bool,
    has_moved: bool,
    /// Bytes at the beginning of its window.
    from: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferState {
    Waiting,
    /// Its bytes move, or may be about to; its window began then.
    Moving(Instant),
    /// It works on this side, however long that takes.
    Working,
    /// It waits for its peer, or moves slowly; its window began then, and the wait at the second time.
    Aside(Instant, Instant),
    GivenUp,
}

impl PlaceQueue {
    pub(super) fn new(limits: PlaceLimits) -> Self {
        Self { limits, last_id: 0, transfers: HashMap::new(), waiting: HashMap::new() }
    }

    /// Queues a transfer with this actor.
    pub(super) fn enter(&mut self, actor: &str) -> Id {
        self.last_id += 1;
        let transfer = QueuedTransfer {
            actor: actor.to_owned(),
            state: TransferState::Waiting,
            has_begun: false,
            has_moved: false,
            from: 0,
        };
        self.transfers.insert(self.last_id, transfer);
        self.waiting.entry(actor.to_owned()).or_default().push_back(self.last_id);
        self.last_id
    }

    /// Bytes of a transfer are due. Where it has waited for them so long that its place is another's, it is
    /// queued again, before those of its actor that have not begun; who has moved before goes on.
    pub(super) fn begin(&mut self, id: Id) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if !matches!(transfer.state, TransferState::Aside(..)) || transfer.has_moved {
            return;
        }
        transfer.state = TransferState::Waiting;
        let queue = self.waiting.entry(transfer.actor.clone()).or_default();
        let begun = |id: &Id| self.transfers.get(id).is_some_and(|transfer| transfer.has_begun);
        let at = queue.iter().take_while(|id| begun(id)).count();
        queue.insert(at, id);
    }

    /// Whether a transfer may go on.
    pub(super) fn is_admitted(&self, id: Id) -> bool {
        self.transfers.get(&id).is_none_or(|transfer| transfer.state != TransferState::Waiting)
    }

    /// A transfer that has a place works on this side from now on (`true`), or is its peer's to move.
    pub(super) fn set_working(&mut self, id: Id, works: bool, now: Instant) {
        if let Some(transfer) = self.transfers.get_mut(&id)
            && !matches!(transfer.state, TransferState::Waiting | TransferState::GivenUp)
        {
            transfer.state = if works { TransferState::Working } else { TransferState::Moving(now) };
        }
    }

    /// Forgets a transfer.
    pub(super) fn leave(&mut self, id: Id) {
        let Some(transfer) = self.transfers.remove(&id) else { return };
        if let Some(queue) = self.waiting.get_mut(&transfer.actor) {
            queue.retain(|waiting| *waiting != id);
            if queue.is_empty() {
                self.waiting.remove(&transfer.actor);
            }
        }
    }

    /// Looks who moves (`bytes` of each so far), and whose turn it is. To be asked after each event, and at
    /// the time that [`Self::next`] names.
    pub(super) fn poll(&mut self, now: Instant, bytes: impl Fn(Id) -> u64) -> Vec<Turn> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        for (id, transfer) in &mut self.transfers {
            transfer.look(bytes(*id), now);
        }
        let mut changes = Vec::new();
        while let Some(change) = self.next_change(now) {
            match change {
                Turn::Admitted(id) => self.admit(id, bytes(id), now),
                Turn::GivenUp(id) => {
                    if let Some(transfer) = self.transfers.get_mut(&id) {
                        transfer.state = TransferState::GivenUp;
                    }
                }
            }
            changes.push(change);
        }
        changes
    }

    /// When to ask again; `None` while nobody waits.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| now + TICK)
    }

    fn next_change(&self, now: Instant) -> Option<Turn> {
        let places = self.count(|transfer| transfer.has_place());
        if places >= self.limits.places {
            return None;
        }
        let mut of_actors: HashMap<&str, (usize, usize)> = HashMap::new();
        for transfer in self.transfers.values() {
            let (places, running) = of_actors.entry(&transfer.actor).or_default();
            *places += usize::from(transfer.has_place());
            *running += usize::from(transfer.is_running());
        }
        let most = self.limits.share() + self.limits.aside_of_one;
        let front = |(actor, queue): (&String, &VecDeque<Id>)| {
            let (places, running) = of_actors.get(actor.as_str()).copied().unwrap_or_default();
            let id = *queue.front()?;
            let has_begun = self.transfers.get(&id)?.has_begun;
            let may = places < self.limits.share() && (has_begun || running < most);
            may.then_some((running, id, has_begun))
        };
        let (running, id, has_begun) = self.waiting.iter().filter_map(front).min()?;
        if has_begun || self.count(QueuedTransfer::is_running) < self.limits.places + self.limits.aside {
            return Some(Turn::Admitted(id));
        }
        let weight = |transfer: &QueuedTransfer| {
            of_actors.get(transfer.actor.as_str()).map_or(0, |(_, running)| *running)
        };
        let hopeless = self.transfers.iter().filter_map(|(id, transfer)| match transfer.state {
            TransferState::Aside(_, since) if !transfer.has_moved && now - since >= PATIENCE => {
                let weight = weight(transfer);
                (weight > running).then_some((weight, std::cmp::Reverse(*id), *id))
            }
            _ => None,
        });
        hopeless.max().map(|(.., id)| Turn::GivenUp(id))
    }

    fn admit(&mut self, id: Id, bytes: u64, now: Instant) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        (transfer.state, transfer.has_begun, transfer.from) = (TransferState::Moving(now), true, bytes);
        if let Some(queue) = self.waiting.get_mut(&transfer.actor) {
            queue.pop_front();
            if queue.is_empty() {
                self.waiting.remove(&transfer.actor);
            }
        }
    }

    fn count(&self, is_it: impl Fn(&QueuedTransfer) -> bool) -> usize {
        self.transfers.values().filter(|transfer| is_it(transfer)).count()
    }
}

impl QueuedTransfer {
    /// Sees how much has moved, and whether that is enough to keep a place, or to take one.
    fn look(&mut self, bytes: u64, now: Instant) {
        // Each connection counts from its own first byte.
        self.from = self.from.min(bytes);
        let moved = bytes - self.from;
        self.has_moved |= moved > 0;
        let (began, since) = match self.state {
            TransferState::Moving(began) => (began, now),
            TransferState::Aside(began, since) => (began, since),
            TransferState::Waiting | TransferState::Working | TransferState::GivenUp => return,
        };
        if moved >= SLOW {
            (self.state, self.from) = (TransferState::Moving(now), bytes);
        } else if now - began >= if self.has_moved { WINDOW } else { FRESH } {
            (self.state, self.from) = (TransferState::Aside(now, since), bytes);
        }
    }

    fn has_place(&self) -> bool {
        matches!(self.state, TransferState::Moving(_) | TransferState::Working)
    }

    fn is_running(&self) -> bool {
        self.has_begun && self.state != TransferState::GivenUp
    }
}

#[cfg(test)]
mod tests;
