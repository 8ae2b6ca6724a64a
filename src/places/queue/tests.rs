//! The queue, in virtual time.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: PlaceLimits = PlaceLimits { places: 16, aside: 64, aside_of_one: 16 };

/// Bytes a second of a transfer that moves.
const QUICK: u64 = 1 << 20;

/// A queue and what its transfers do.
struct Lab {
    queue: PlaceQueue,
    now: Instant,
    bytes: HashMap<Id, u64>,
    /// Bytes a second.
    rates: HashMap<Id, u64>,
    admitted: Vec<Id>,
    given_up: Vec<Id>,
}

impl Lab {
    fn new(limits: PlaceLimits) -> Self {
        Self {
            queue: PlaceQueue::new(limits),
            now: Instant::now(),
            bytes: HashMap::new(),
            rates: HashMap::new(),
            admitted: Vec::new(),
            given_up: Vec::new(),
        }
    }

    /// A transfer that moves so many bytes a second once it has begun.
    fn enter(&mut self, actor: &str, rate: u64) -> Id {
        let id = self.queue.enter(actor);
        self.rates.insert(id, rate);
        self.poll();
        id
    }

    fn leave(&mut self, id: Id) {
        self.queue.leave(id);
        self.poll();
    }

    fn begin(&mut self, id: Id, rate: u64) {
        self.queue.begin(id);
        self.rates.insert(id, rate);
        self.poll();
    }

    fn poll(&mut self) {
        let bytes = &self.bytes;
        for change in self.queue.poll(self.now, |id| bytes.get(&id).copied().unwrap_or_default()) {
            match change {
                Turn::Admitted(id) => self.admitted.push(id),
                Turn::GivenUp(id) => self.given_up.push(id),
            }
        }
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let next = self.queue.next(self.now).unwrap_or(end).min(end);
            let step = next - self.now;
            for (id, rate) in &self.rates {
                if self.admitted.contains(id) && self.queue.is_admitted(*id) {
                    let moved = u64::try_from(step.as_micros()).unwrap() * rate / 1_000_000;
                    *self.bytes.entry(*id).or_default() += moved;
                }
            }
            self.now = next;
            self.poll();
        }
    }

    /// Lets time pass until a transfer has begun, and says how much that was.
    fn wait_for(&mut self, id: Id) -> Duration {
        let from = self.now;
        while !self.admitted.contains(&id) {
            assert!(self.now - from < 1000 * SECOND, "it never has a place");
            self.run(Duration::from_millis(50));
        }
        self.now - from
    }

    fn with_a_place(&self) -> usize {
        self.queue.count(QueuedTransfer::has_place)
    }

    fn running(&self) -> usize {
        self.queue.count(QueuedTransfer::is_running)
    }
}

#[test]
fn the_rest_wait_and_go_by_the_order_in_which_they_came() {
    let mut lab = Lab::new(PlaceLimits { places: 2, ..LIMITS });
    let ids: Vec<Id> = ["a", "b", "c", "d"].map(|actor| lab.enter(actor, QUICK)).into();
    lab.run(100 * SECOND);
    assert_eq!(lab.admitted, ids[..2]);
    for id in &ids[..2] {
        lab.leave(*id);
    }
    assert_eq!(lab.admitted, ids);
    lab.leave(ids[2]);
    lab.leave(ids[3]);
    assert!(lab.queue.transfers.is_empty() && lab.queue.waiting.is_empty());
}

#[test]
fn one_actor_never_has_all_places_and_always_one() {
    for (places, share) in [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (256, 192)] {
        let mut lab = Lab::new(PlaceLimits { places, ..LIMITS });
        for _ in 0..300 {
            lab.enter("a", QUICK);
        }
        assert_eq!(lab.admitted.len(), share, "of {places}");
        if places > 1 {
            let other = lab.enter("b", QUICK);
            assert!(lab.admitted.contains(&other), "of {places}");
        }
    }
}

#[test]
fn an_actor_with_little_under_way_goes_before_one_with_much() {
    let mut lab = Lab::new(PlaceLimits { places: 4, ..LIMITS });
    let many: Vec<Id> = (0..10).map(|_| lab.enter("a", QUICK)).collect();
    let others = [lab.enter("b", QUICK), lab.enter("b", QUICK), lab.enter("c", QUICK)];
    assert_eq!(lab.admitted, [many[0], many[1], many[2], others[0]]);
    lab.leave(many[0]);
    lab.leave(many[1]);
    assert_eq!(lab.admitted[4..], [others[2], many[3]], "then the one that came first");
}

#[test]
fn beside_forty_dead_keys_of_one_actor_another_has_its_place_at_once() {
    let mut lab = Lab::new(LIMITS);
    for _ in 0..40 {
        lab.enter("dead", 0);
    }
    let honest = lab.enter("honest", QUICK);
    assert_eq!(lab.wait_for(honest), Duration::ZERO);
}

#[test]
fn beside_forty_dead_keys_under_forty_names_another_has_its_place_in_two_seconds() {
    for head_start in [0, 100, 400, 900, 60_000] {
        let mut lab = Lab::new(LIMITS);
        for dead in 0..40 {
            lab.enter(&format!("dead {dead}"), 0);
        }
        lab.run(Duration::from_millis(head_start));
        let honest = lab.enter("honest", QUICK);
        let waited = lab.wait_for(honest);
        assert!(waited <= 2 * SECOND, "{waited:?} after {head_start} ms");
    }
}

#[test]
fn beside_sixteen_that_trickle_another_has_its_place_in_two_seconds() {
    for rate in [1, 100, 20_000] {
        for head_start in [0, 600, 60_000] {
            let mut lab = Lab::new(LIMITS);
            for name in 0..16 {
                lab.enter(&format!("trickler {name}"), rate);
            }
            lab.run(Duration::from_millis(head_start));
            let honest = lab.enter("honest", QUICK);
            let waited = lab.wait_for(honest);
            assert!(waited <= 2 * SECOND, "{waited:?} after {head_start} ms beside {rate} B/s");
        }
    }
}

#[test]
fn who_moves_keeps_its_place_however_many_wait() {
    let mut lab = Lab::new(LIMITS);
    let first: Vec<Id> = (0..16).map(|name| lab.enter(&format!("{name}"), QUICK)).collect();
    for name in 0..1000 {
        lab.enter(&format!("late {name}"), QUICK);
    }
    lab.run(1000 * SECOND);
    assert_eq!(lab.admitted, first);
    assert!(lab.given_up.is_empty());
}

#[test]
fn who_works_on_this_side_keeps_its_place() {
    let mut lab = Lab::new(PlaceLimits { places: 1, ..LIMITS });
    let working = lab.enter("a", 0);
    lab.queue.set_working(working, true, lab.now);
    let next = lab.enter("b", QUICK);
    lab.run(1000 * SECOND);
    assert_eq!(lab.admitted, [working]);
    lab.queue.set_working(working, false, lab.now);
    assert!(lab.wait_for(next) <= SECOND);
}

#[test]
fn who_was_set_aside_before_it_moved_waits_for_a_place_before_its_bytes() {
    let mut lab = Lab::new(PlaceLimits { places: 1, ..LIMITS });
    let (late, next) = (lab.enter("late", 0), lab.enter("next", QUICK));
    lab.wait_for(next);
    let after = lab.enter("late", QUICK);
    lab.begin(late, QUICK);
    lab.run(100 * SECOND);
    assert!(!lab.queue.is_admitted(late), "all places are taken");
    lab.leave(next);
    assert!(lab.queue.is_admitted(late) && !lab.queue.is_admitted(after), "who has begun goes first");
    assert_eq!(lab.with_a_place(), 1);
}

#[test]
fn who_has_its_place_still_begins_at_once() {
    let mut lab = Lab::new(PlaceLimits { places: 1, ..LIMITS });
    let id = lab.enter("a", 0);
    lab.run(100 * SECOND);
    lab.begin(id, QUICK);
    assert!(lab.queue.is_admitted(id), "nobody waited");
}

#[test]
fn who_moved_and_slowed_down_is_held_back_no_more() {
    let mut lab = Lab::new(PlaceLimits { places: 1, ..LIMITS });
    let slow = lab.enter("slow", QUICK);
    let next = lab.enter("next", QUICK);
    lab.run(10 * SECOND);
    assert_eq!(lab.admitted, [slow]);
    lab.rates.insert(slow, 1000);
    lab.wait_for(next);
    lab.begin(slow, QUICK);
    assert!(lab.queue.is_admitted(slow));
    let third = lab.enter("third", QUICK);
    lab.run(10 * SECOND);
    assert_eq!(lab.with_a_place(), 2, "it takes a place again by moving");
    lab.leave(next);
    lab.run(10 * SECOND);
    assert!(!lab.admitted.contains(&third), "and none begins before it is free");
    lab.leave(slow);
    assert!(lab.admitted.contains(&third));
}

#[test]
fn what_waits_for_peers_is_bounded_and_who_never_comes_is_given_up_for_the_next() {
    let mut lab = Lab::new(LIMITS);
    for name in 0..1000 {
        lab.enter(&format!("dead {name}"), 0);
    }
    lab.run(5 * SECOND);
    assert_eq!(lab.running(), 80);
    assert!(lab.given_up.is_empty(), "each has its time");
    lab.run(20 * SECOND);
    assert!(!lab.given_up.is_empty() && lab.given_up[0] == 1, "the oldest first");
    for _ in 0..200 {
        for id in std::mem::take(&mut lab.given_up) {
            lab.leave(id);
        }
        lab.run(SECOND);
        assert!(lab.running() <= 80);
    }
    assert!(lab.admitted.len() > 1000 - 200, "others were tried: {}", lab.admitted.len());
}

#[test]
fn of_those_who_never_come_the_actor_with_most_loses_first() {
    let mut lab = Lab::new(PlaceLimits { places: 4, aside: 4, aside_of_one: 4 });
    let alone = lab.enter("alone", 0);
    lab.run(SECOND);
    for _ in 0..20 {
        lab.enter("many", 0);
    }
    lab.run(30 * SECOND);
    let honest = lab.enter("honest", QUICK);
    lab.run(SECOND);
    assert!(!lab.given_up.contains(&alone) && !lab.given_up.is_empty(), "{:?}", lab.given_up);
    lab.leave(lab.given_up[0]);
    lab.wait_for(honest);
}

#[test]
fn another_connection_of_a_transfer_counts_from_its_own_first_byte() {
    let mut lab = Lab::new(PlaceLimits { places: 1, ..LIMITS });
    let id = lab.enter("a", QUICK);
    let next = lab.enter("b", QUICK);
    for _ in 0..20 {
        lab.run(2 * SECOND);
        lab.bytes.insert(id, 0);
    }
    assert!(!lab.admitted.contains(&next));
}

/// Something that may happen.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Enter(u8, u64),
    Leave(usize),
    Begin(usize),
    Working(usize, bool),
    Time(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let rate = prop_oneof![Just(0), Just(10), Just(QUICK)];
    prop_oneof![
        (0..6u8, rate).prop_map(|(actor, rate)| Happens::Enter(actor, rate)),
        (0..50usize).prop_map(Happens::Leave),
        (0..50usize).prop_map(Happens::Begin),
        (0..50usize, any::<bool>()).prop_map(|(at, works)| Happens::Working(at, works)),
        (0..15_000u64).prop_map(Happens::Time),
    ]
}

proptest! {
    /// Whatever happens in whatever order: what is under way is bounded, an admission never takes a place
    /// that is not free or not its actor's, and when all who hold a place have left, nobody waits.
    #[test]
    fn places_are_bounded_and_nobody_is_forgotten(
        events in prop::collection::vec(happens(), 0..120),
    ) {
        let limits = PlaceLimits { places: 4, aside: 6, aside_of_one: 3 };
        let mut lab = Lab::new(limits);
        let mut here: Vec<Id> = Vec::new();
        for event in events {
            let admitted = lab.admitted.len();
            let pick = |at: usize| here.get(at % here.len().max(1)).copied();
            match event {
                Happens::Enter(actor, rate) => here.push(lab.enter(&actor.to_string(), rate)),
                Happens::Leave(at) => if let Some(id) = pick(at) {
                    here.retain(|other| *other != id);
                    lab.leave(id);
                },
                Happens::Begin(at) => if let Some(id) = pick(at) {
                    lab.begin(id, QUICK);
                },
                Happens::Working(at, works) => if let Some(id) = pick(at) {
                    lab.queue.set_working(id, works, lab.now);
                    lab.poll();
                },
                Happens::Time(ms) => lab.run(Duration::from_millis(ms)),
            }
            prop_assert!(lab.running() <= limits.places + limits.aside);
            if lab.admitted.len() > admitted {
                // Who wakes up beside them can be more; an admission adds none to what is full.
                prop_assert!(lab.with_a_place() <= limits.places || matches!(event, Happens::Time(_)));
            }
            let waiting: usize = lab.queue.waiting.values().map(VecDeque::len).sum();
            let said = here.iter().filter(|id| !lab.queue.is_admitted(**id)).count();
            prop_assert_eq!(waiting, said);
            prop_assert!(lab.queue.waiting.values().all(|queue| !queue.is_empty()));
        }
        while let Some(id) = here.iter().copied().find(|id| lab.queue.is_admitted(*id)) {
            here.retain(|other| *other != id);
            lab.leave(id);
        }
        prop_assert!(here.is_empty() && lab.queue.transfers.is_empty());
    }
}
