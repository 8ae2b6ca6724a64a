//! The places of a node: how many transfers run at once, and whose turn is next.
//!
//! What is scarce are the places of transfers that move. A peer that does not come, or brings a byte now and
//! then, takes none from others, but keeps what it has:
//!
//! - A transfer enters a queue, and begins when a place is free. One that receives makes its claim then.
//! - In its first half second, while its bytes move and while this side works for it, it has the place. One
//!   whose peer does not come, or that moves less than 32 KiB a second, is set aside: it goes on, and its
//!   place is free. When the bytes of one that has moved nothing are due at last, it takes a place again
//!   before it takes them. One that has moved is held back no more; no other begins while more move than
//!   there are places.
//! - Of those who wait, the actor with the fewest transfers under way is next. One actor has at most three
//!   quarters of the places, rounded down (one at least), and a bounded number of transfers aside.
//! - Where no more can be set aside, whoever has waited longest for a peer that moved nothing, ten seconds at
//!   least, is given up for the next: one of the actor that has most.
//!
//! So with `p` places and `a` aside at most `p + a` transfers are under way. Next to peers that are dead or
//! slow, who is next waits half a second, or one, for each `p` such ones that came before it under names of
//! their own.
//!
//! # Layout
//! - `queue`: the rules, without I/O
//! - here: waiting for a place, and having one

mod queue;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

pub(crate) use self::queue::PlaceLimits;
use self::queue::{Id, PlaceQueue, Turn};
use crate::sync::{Spawner, lock};

/// The places of a node in one direction.
pub(crate) struct Places {
    state: Mutex<PlacesState>,
    spawner: Spawner,
}

struct PlacesState {
    queue: PlaceQueue,
    seats: HashMap<Id, Arc<Seat>>,
    /// Somebody looks at the queue from time to time.
    is_driven: bool,
}

/// What is shared with the holder of a place.
#[derive(Debug, Default)]
struct Seat {
    /// Bytes of the file that have moved.
    progress: Mutex<Option<watch::Receiver<u64>>>,
    admitted: Notify,
    given_up: Notify,
}

/// A transfer's place, until it is dropped.
pub(crate) struct HeldPlace {
    places: Arc<Places>,
    id: Id,
    seat: Arc<Seat>,
}

impl Places {
    /// Places within these limits; what looks after them ends with `spawner`.
    pub(crate) fn new(limits: PlaceLimits, spawner: Spawner) -> Arc<Self> {
        let state = PlacesState { queue: PlaceQueue::new(limits), seats: HashMap::new(), is_driven: false };
        Arc::new(Self { state: Mutex::new(state), spawner })
    }

    /// Waits for a place for a transfer with this actor.
    pub(crate) async fn enter(self: &Arc<Self>, actor: &str) -> HeldPlace {
        let seat = Arc::new(Seat::default());
        let place = {
            let mut state = lock(&self.state);
            let id = state.queue.enter(actor);
            state.seats.insert(id, seat.clone());
            HeldPlace { places: self.clone(), id, seat }
        };
        place.admitted().await;
        place
    }

    /// Gives out the places that are free.
    fn turn(&self) -> MutexGuard<'_, PlacesState> {
        let mut state = lock(&self.state);
        let PlacesState { queue, seats, .. } = &mut *state;
        let bytes = |id: Id| seats.get(&id).map_or(0, |seat| seat.moved());
        for change in queue.poll(Instant::now(), bytes) {
            let (Turn::Admitted(id) | Turn::GivenUp(id)) = change;
            if let Some(seat) = seats.get(&id) {
                let told = if change == Turn::Admitted(id) { &seat.admitted } else { &seat.given_up };
                told.notify_one();
            }
        }
        state
    }

    /// Looks at the queue as long as somebody waits.
    async fn drive(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.turn();
                let next = state.queue.next(Instant::now());
                state.is_driven = next.is_some();
                next
            };
            let Some(next) = next else { return };
            sleep_until(next).await;
        }
    }
}

impl HeldPlace {
    /// Says by what it is seen whether the transfer moves: bytes of the file.
    pub(crate) fn watch(&self, progress: watch::Receiver<u64>) {
        *lock(&self.seat.progress) = Some(progress);
    }

    /// This side works for the transfer from now on (`true`), so that it keeps its place, or it is its
    /// peer's to move.
    pub(crate) fn set_working(&self, works: bool) {
        lock(&self.places.state).queue.set_working(self.id, works, Instant::now());
    }

    /// Bytes of the file are due: waits for the place again if it is another's by now.
    pub(crate) async fn begin(&self) {
        lock(&self.places.state).queue.begin(self.id);
        self.admitted().await;
    }

    /// Waits until others need what this transfer holds, whose peer does not come.
    pub(crate) async fn given_up(&self) {
        self.seat.given_up.notified().await;
    }

    async fn admitted(&self) {
        loop {
            {
                let mut state = self.places.turn();
                if state.queue.is_admitted(self.id) {
                    return;
                }
                if !std::mem::replace(&mut state.is_driven, true) {
                    let places = self.places.clone();
                    self.places.spawner.spawn(places.drive());
                }
            }
            self.seat.admitted.notified().await;
        }
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.places.state);
            state.queue.leave(self.id);
            state.seats.remove(&self.id);
        }
        drop(self.places.turn());
    }
}

impl Seat {
    fn moved(&self) -> u64 {
        lock(&self.progress).as_ref().map_or(0, |progress| *progress.borrow())
    }
}

impl fmt::Debug for HeldPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldPlace").field("id", &self.id).finish_non_exhaustive()
    }
}
