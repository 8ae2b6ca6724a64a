//! When a transfer dials, looks for its peer, waits and gives up: one state machine for both directions,
//! without I/O. Events and the time go in; [`Reconnect::poll`] says what to do next.
//!
//! # The roles
//! - A sender with a key [accepts](Reconnect::accepting): the recipient alone dials.
//! - A recipient with the sender's key [dials](Reconnect::dialing), again and again with longer pauses.
//! - On a topic sender and recipient [search](Reconnect::searching): each is dialled by whoever looked first,
//!   looks again and again itself, and after a while dials whom it finds. The swarm dials, and dials again
//!   whom it lost, with the pauses of `hyperswarm`'s `retry`; this machine says when that begins, and when to
//!   look.
//!
//! In all of them the wait for the peer lasts `limit`, and begins anew whenever bytes have moved on a
//! connection that was lost, and whenever a peer with a key says on the task that it is there. After a peer
//! that refused, another has fifteen seconds.
//!
//! So a peer that speaks for ever is waited for as long. That is no more than one has that brings a byte now
//! and then: who speaks was checked, a recipient has to renew its claim as well, others have the transfer's
//! place meanwhile (see `places`), and its task's end or its owner ends it at any time.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses before redials; the last one repeats.
const REDIAL: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The share of each pause that chance decides, so that those whom one cut has hit do not all come back at
/// once.
const JITTER: f64 = 0.25;

/// The shortest time between the beginnings of two dials, however often one is asked for.
const DIAL_INTERVAL: Duration = REDIAL[0];

/// How long one dial may take before another is begun, with what is known by then: punching and the relay
/// take their time once the peer has answered.
const DIAL_LIMIT: Duration = Duration::from_secs(20);

/// How long a dial may go without an answer before another is begun: longer than a sender holds a handshake
/// while it reads the task, and two round trips of any path.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A dial that failed after this long went a way on which nothing came back; others fail sooner.
const DEAD_WAY: Duration = Duration::from_secs(10);

/// Pauses between the first lookups of a topic; the last one repeats. The original looks again only after ten
/// minutes, so whoever comes second has to be the one that finds.
const LOOKUPS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(10),
];

/// How long, after the only candidate on a topic has refused, another one may still come.
const SECOND_CHANCE: Duration = Duration::from_secs(15);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Dial the peer's key now, for no longer than `until`; through the relay at once where `direct` is
    /// false.
    Dial {
        /// Whether to try a direct way first.
        direct: bool,
        /// When to give this dial up.
        until: Instant,
    },
    /// From now on, dial whom lookups of the topic find.
    DialFound,
    /// Look the topic up once more.
    LookUp,
    /// Wait for what comes; ask again at this time.
    Wait(Instant),
    /// The peer did not come in time.
    GiveUp,
}

/// The machine of one transfer.
#[derive(Debug)]
pub(crate) struct Reconnect {
    /// How long each wait for the peer lasts.
    limit: Duration,
    deadline: Instant,
    role: Role,
    /// Connections on which bytes are due.
    in_use: usize,
    /// Somebody says that the file has arrived; only its task has to say so too.
    acknowledged: bool,
}

/// How the peers meet.
#[derive(Debug)]
enum Role {
    Accept,
    Dial(Dialing),
    Search(Searching),
}

#[derive(Debug)]
struct Dialing {
    /// When the next dial is due; `None` while one is under way or a connection is in use.
    due: Option<Instant>,
    /// When the last one began.
    began: Option<Instant>,
    /// Pauses since bytes moved last.
    pauses: usize,
    direct: bool,
    has_relay: bool,
}

#[derive(Debug)]
struct Searching {
    /// When this side begins to dial; `None` once it does.
    dial_at: Option<Instant>,
    look_up_at: Instant,
    lookups: usize,
}

impl Reconnect {
    /// For a side that waits to be dialled on its key.
    pub(crate) fn accepting(limit: Duration, now: Instant) -> Self {
        Self::new(limit, now, Role::Accept)
    }

    /// For a side that dials a key, at once and after each failure. `has_relay`: where no direct way opens,
    /// there is another.
    pub(crate) fn dialing(limit: Duration, has_relay: bool, now: Instant) -> Self {
        let dialing = Dialing { due: Some(now), began: None, pauses: 0, direct: true, has_relay };
        Self::new(limit, now, Role::Dial(dialing))
    }

    /// For a side of a topic that has just looked it up once, and dials whom it finds from `dial_at` on.
    pub(crate) fn searching(limit: Duration, dial_at: Instant, now: Instant) -> Self {
        let searching = Searching { dial_at: Some(dial_at), look_up_at: now + LOOKUPS[0], lookups: 1 };
        Self::new(limit, now, Role::Search(searching))
    }

    fn new(limit: Duration, now: Instant, role: Role) -> Self {
        Self { limit, deadline: now + limit, role, in_use: 0, acknowledged: false }
    }

    /// What to do now. To be asked again after each event, and when the time of [`Action::Wait`] has come.
    pub(crate) fn poll(&mut self, now: Instant) -> Action {
        if now >= self.deadline {
            if self.in_use == 0 {
                return Action::GiveUp;
            }
            // A connection ends by itself when it moves no byte.
            self.deadline = now + self.limit;
        }
        let due = match &mut self.role {
            Role::Accept => None,
            Role::Dial(_) if self.in_use > 0 => None,
            Role::Dial(dialing) => match dialing.due {
                Some(due) if due >= self.deadline => return Action::GiveUp,
                Some(due) if due <= now => {
                    (dialing.due, dialing.began) = (None, Some(now));
                    let until = self.deadline.min(now + DIAL_LIMIT);
                    return Action::Dial { direct: dialing.direct, until };
                }
                due => due,
            },
            Role::Search(searching) => match searching.dial_at {
                Some(at) if at <= now => {
                    searching.dial_at = None;
                    searching.start_lookups(now);
                    return Action::DialFound;
                }
                _ if searching.look_up_at <= now => {
                    searching.look_up_at = now + pause(&LOOKUPS, searching.lookups);
                    searching.lookups += 1;
                    return Action::LookUp;
                }
                at => Some(at.map_or(searching.look_up_at, |at| at.min(searching.look_up_at))),
            },
        };
        Action::Wait(due.map_or(self.deadline, |due| due.min(self.deadline)))
    }

    /// A connection came about, and bytes are due on it.
    pub(crate) fn connected(&mut self) {
        self.in_use += 1;
        if let Role::Dial(dialing) = &mut self.role {
            dialing.due = None;
        }
    }

    /// A connection in use was lost; `moved` says whether bytes of the file had moved on it. `chance` is a
    /// number from 0 up to 1.
    pub(crate) fn lost(&mut self, moved: bool, chance: f64, now: Instant) {
        self.in_use = self.in_use.saturating_sub(1);
        if moved {
            self.begin_anew(now);
        }
        self.plan_dial(chance, now);
    }

    /// The peer on a connection in use will not bring the transfer to its end; another may.
    pub(crate) fn refused(&mut self, moved: bool, now: Instant) {
        self.in_use = self.in_use.saturating_sub(1);
        let second = now + SECOND_CHANCE.min(self.limit);
        if moved {
            // The bytes took their time; the wait for another begins when they have ended.
            self.deadline = second;
        } else if self.in_use == 0 && !self.acknowledged {
            self.deadline = self.deadline.min(second);
        }
    }

    /// A dial came to nothing. `chance` is a number from 0 up to 1.
    pub(crate) fn dial_failed(&mut self, chance: f64, now: Instant) {
        if let Role::Dial(dialing) = &mut self.role {
            // A direct way that seemed open may lead nowhere, and then the relay had no turn.
            let was_dead = dialing.began.is_some_and(|began| now - began >= DEAD_WAY);
            dialing.direct = !(dialing.direct && dialing.has_relay && was_dead);
        }
        self.plan_dial(chance, now);
    }

    /// Something says that the peer may be reached now: its word on the task, or a change of the network.
    pub(crate) fn wake(&mut self, now: Instant) {
        if let Role::Dial(dialing) = &mut self.role
            && let Some(due) = dialing.due
        {
            let earliest = dialing.began.map_or(now, |began| now.max(began + DIAL_INTERVAL));
            dialing.due = Some(due.min(earliest));
        }
    }

    /// Somebody on the topic says that the file has arrived; the task has as long as a peer to say so too.
    pub(crate) fn acknowledged(&mut self, now: Instant) {
        self.in_use = self.in_use.saturating_sub(1);
        self.acknowledged = true;
        self.deadline = now + self.limit;
    }

    /// Whether somebody said so.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// The wait for the peer begins anew: this node comes back to the network, or the peer says that it is
    /// there.
    pub(crate) fn begin_anew(&mut self, now: Instant) {
        self.deadline = now + self.limit;
        if let Role::Dial(dialing) = &mut self.role {
            dialing.pauses = 0;
        }
    }

    fn plan_dial(&mut self, chance: f64, now: Instant) {
        if let Role::Dial(dialing) = &mut self.role {
            let nominal = redial_pause(dialing.pauses);
            dialing.pauses += 1;
            dialing.due = Some(now + nominal.mul_f64(1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0)));
        }
    }
}

impl Searching {
    /// Joining a topic as a client looks it up by itself; the next lookups follow that one.
    fn start_lookups(&mut self, now: Instant) {
        self.look_up_at = now + LOOKUPS[0];
        self.lookups = 1;
    }
}

/// The pause before another dial after `done` of them, without what chance adds to it.
pub(crate) fn redial_pause(done: usize) -> Duration {
    pause(&REDIAL, done)
}

/// The pause after `done` of them; the last one repeats.
fn pause(pauses: &[Duration], done: usize) -> Duration {
    pauses.get(done).or(pauses.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(120);
    /// No pause is lengthened or shortened.
    const EVEN: f64 = 0.5;

    /// Seconds since `start` at which the machine did what `wanted` picks, as long as nothing happens.
    fn times(machine: &mut Reconnect, start: Instant, wanted: impl Fn(Action) -> bool) -> Vec<f64> {
        let (mut now, mut seen) = (start, Vec::new());
        loop {
            let action = machine.poll(now);
            if wanted(action) {
                seen.push((now - start).as_secs_f64());
            }
            match action {
                Action::Wait(until) => {
                    assert!(until > now, "a wait ends in the future");
                    now = until;
                }
                Action::Dial { .. } => machine.dial_failed(EVEN, now),
                Action::GiveUp => return seen,
                Action::DialFound | Action::LookUp => {}
            }
        }
    }

    #[test]
    fn who_is_not_dialled_gives_up_at_the_limit() {
        let start = Instant::now();
        let mut machine = Reconnect::accepting(LIMIT, start);
        assert_eq!(times(&mut machine, start, |action| action == Action::GiveUp), [120.0]);
    }

    #[test]
    fn redials_thin_out_to_one_in_four_seconds() {
        let start = Instant::now();
        let mut machine = Reconnect::dialing(13 * SECOND, true, start);
        let dials = times(&mut machine, start, |action| matches!(action, Action::Dial { .. }));
        assert_eq!(dials, [0.0, 0.5, 1.5, 3.5, 7.5, 11.5]);
    }

    #[test]
    fn a_dial_that_would_come_too_late_is_not_waited_for() {
        let start = Instant::now();
        let mut machine = Reconnect::dialing(2 * SECOND, true, start);
        assert_eq!(times(&mut machine, start, |action| action == Action::GiveUp), [1.5]);
    }

    #[test]
    fn chance_moves_a_pause_by_a_quarter_at_most() {
        let start = Instant::now();
        for (chance, ms) in [(0.0, 375), (0.5, 500), (1.0, 625), (7.0, 625)] {
            let mut machine = Reconnect::dialing(LIMIT, true, start);
            machine.poll(start);
            machine.dial_failed(chance, start);
            assert_eq!(machine.poll(start), Action::Wait(start + Duration::from_millis(ms)));
        }
    }

    #[test]
    fn bytes_that_moved_begin_the_wait_anew() {
        let start = Instant::now();
        let mut machine = Reconnect::dialing(10 * SECOND, true, start);
        machine.poll(start);
        for _ in 0..3 {
            machine.dial_failed(EVEN, start);
        }
        machine.connected();
        let end = start + 100 * SECOND;
        assert!(matches!(machine.poll(end), Action::Wait(_)), "nobody gives up what is in use");
        machine.lost(true, EVEN, end);
        assert_eq!(machine.poll(end), Action::Wait(end + REDIAL[0]));
        machine.poll(end + REDIAL[0]);
        machine.connected();
        machine.lost(false, EVEN, end + 9 * SECOND);
        assert_eq!(machine.poll(end + 9 * SECOND), Action::GiveUp, "a peer that moves nothing wins no time");
    }

    #[test]
    fn after_a_direct_way_that_leads_nowhere_the_relay_has_its_turn() {
        let start = Instant::now();
        for (has_relay, took, direct) in
            [(true, DEAD_WAY, false), (true, DEAD_WAY - SECOND, true), (false, DEAD_WAY, true)]
        {
            let mut machine = Reconnect::dialing(LIMIT, has_relay, start);
            assert_eq!(machine.poll(start), Action::Dial { direct: true, until: start + DIAL_LIMIT });
            machine.dial_failed(EVEN, start + took);
            let again = start + took + REDIAL[0];
            assert_eq!(machine.poll(again), Action::Dial { direct, until: again + DIAL_LIMIT });
            machine.dial_failed(EVEN, again + DEAD_WAY);
            let third = again + DEAD_WAY + REDIAL[1];
            // The ways take turns.
            let direct = !direct || !has_relay;
            assert_eq!(machine.poll(third), Action::Dial { direct, until: third + DIAL_LIMIT });
        }
    }

    #[test]
    fn a_word_of_the_peer_brings_the_next_dial_forward_but_floods_nobody() {
        let start = Instant::now();
        let mut machine = Reconnect::dialing(LIMIT, true, start);
        machine.poll(start);
        for _ in 0..4 {
            machine.dial_failed(EVEN, start);
        }
        machine.wake(start);
        assert_eq!(machine.poll(start), Action::Wait(start + DIAL_INTERVAL));
        let later = start + 2 * SECOND;
        machine.wake(later);
        assert!(matches!(machine.poll(later), Action::Dial { .. }));
        // While a dial is under way there is nothing to bring forward.
        machine.wake(later);
        assert!(matches!(machine.poll(later), Action::Wait(_)));
    }

    #[test]
    fn a_topic_is_looked_up_often_and_then_one_time_in_ten_seconds() {
        let start = Instant::now();
        let mut machine = Reconnect::searching(40 * SECOND, start + LIMIT, start);
        let lookups = times(&mut machine, start, |action| action == Action::LookUp);
        assert_eq!(lookups, [1.0, 3.0, 7.0, 15.0, 25.0, 35.0]);
    }

    #[test]
    fn dialling_begins_once_and_with_it_the_lookups() {
        let start = Instant::now();
        let mut machine = Reconnect::searching(20 * SECOND, start + 5 * SECOND, start);
        let dials = times(&mut machine, start, |action| action == Action::DialFound);
        assert_eq!(dials, [5.0]);
        let mut machine = Reconnect::searching(20 * SECOND, start + 5 * SECOND, start);
        let lookups = times(&mut machine, start, |action| action == Action::LookUp);
        assert_eq!(lookups, [1.0, 3.0, 6.0, 8.0, 12.0]);
    }

    #[test]
    fn a_candidate_that_refuses_shortens_no_wait_for_the_others() {
        let start = Instant::now();
        let mut machine = Reconnect::searching(LIMIT, start + LIMIT, start);
        machine.connected();
        machine.connected();
        machine.refused(false, start);
        assert_ne!(machine.poll(start + LIMIT), Action::GiveUp);
        machine.refused(false, start + LIMIT);
        assert_eq!(machine.poll(start + LIMIT + SECOND_CHANCE), Action::GiveUp);
    }

    #[test]
    fn a_topic_ends_a_second_chance_after_the_only_candidate_refused() {
        let start = Instant::now();
        for (moved, acknowledged, seconds) in
            [(false, false, 15.0), (true, false, 15.0), (false, true, 120.0), (true, true, 15.0)]
        {
            let mut machine = Reconnect::searching(LIMIT, start + LIMIT, start);
            machine.connected();
            machine.connected();
            if acknowledged {
                machine.acknowledged(start);
            } else {
                machine.lost(false, EVEN, start);
            }
            machine.refused(moved, start);
            assert_eq!(machine.is_acknowledged(), acknowledged);
            let ends = times(&mut machine, start, |action| action == Action::GiveUp);
            assert_eq!(ends, [seconds], "moved {moved}, acknowledged {acknowledged}");
        }
    }

    /// Something that may happen to a machine.
    #[derive(Clone, Copy, Debug)]
    enum Happens {
        Connected,
        Lost(bool),
        Refused(bool),
        Acknowledged,
        DialFailed,
        Wake,
        BeginAnew,
        Nothing,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            Just(Happens::Connected),
            any::<bool>().prop_map(Happens::Lost),
            any::<bool>().prop_map(Happens::Refused),
            Just(Happens::Acknowledged),
            Just(Happens::DialFailed),
            Just(Happens::Wake),
            Just(Happens::BeginAnew),
            Just(Happens::Nothing),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order, time goes on, dials keep their distance, and once nothing is
        /// in use and nothing happens any more, the machine gives up within its limit.
        #[test]
        fn nobody_waits_for_ever_or_dials_without_pause(
            kind in 0..3,
            events in prop::collection::vec((happens(), 0.0..1.0, 0..30_000u64), 0..60),
        ) {
            let start = Instant::now();
            let mut machine = match kind {
                0 => Reconnect::accepting(LIMIT, start),
                1 => Reconnect::dialing(LIMIT, true, start),
                _ => Reconnect::searching(LIMIT, start + 5 * SECOND, start),
            };
            let (mut now, mut in_use, mut last_dial) = (start, 0usize, None::<Instant>);
            for (event, chance, ms) in events {
                match event {
                    Happens::Connected => machine.connected(),
                    Happens::Lost(moved) => machine.lost(moved, chance, now),
                    Happens::Refused(moved) => machine.refused(moved, now),
                    Happens::Acknowledged => machine.acknowledged(now),
                    Happens::DialFailed => machine.dial_failed(chance, now),
                    Happens::Wake => machine.wake(now),
                    Happens::BeginAnew => machine.begin_anew(now),
                    Happens::Nothing => {}
                }
                match event {
                    Happens::Connected => in_use += 1,
                    Happens::Lost(_) | Happens::Refused(_) | Happens::Acknowledged => {
                        in_use = in_use.saturating_sub(1);
                    }
                    _ => {}
                }
                let end = now + Duration::from_millis(ms);
                // Each turn does something or waits; a hundred are far more than a pause can hold.
                for turn in 0.. {
                    prop_assert!(turn < 200, "it turns without end");
                    match machine.poll(now) {
                        Action::Dial { until, .. } => {
                            prop_assert!(until > now);
                            if let Some(last) = last_dial {
                                let least = REDIAL[0].mul_f64(1.0 - JITTER) - Duration::from_micros(1);
                                prop_assert!(now - last >= least);
                            }
                            last_dial = Some(now);
                            machine.dial_failed(chance, now);
                        }
                        Action::Wait(until) if until > end => break,
                        Action::Wait(until) => { prop_assert!(until > now); now = until }
                        Action::GiveUp => { prop_assert_eq!(in_use, 0); return Ok(()) }
                        Action::DialFound | Action::LookUp => {}
                    }
                }
                now = end;
            }
            for _ in 0..in_use {
                machine.refused(false, now);
            }
            let ends = times(&mut machine, now, |action| action == Action::GiveUp);
            prop_assert!(ends.iter().all(|seconds| *seconds <= LIMIT.as_secs_f64()) && ends.len() == 1);
        }
    }
}
