use rand::SeedableRng;

use super::*;
use crate::peers::MAX_KNOWN_PEERS;

const TOPIC: Topic = [9; 32];
const OWN: u8 = 100;

/// A swarm at a virtual time, with its dials on record.
struct Sim {
    state: SwarmState,
    now: Instant,
}

impl Sim {
    fn new(max_peers: usize) -> Self {
        let settings = Settings { public_key: key(OWN), max_peers, max_parallel: 3 };
        let mut state = SwarmState::new(settings, KeySet::default(), StdRng::seed_from_u64(7));
        state.add_topic(TOPIC);
        Self { state, now: Instant::now() }
    }

    fn find(&mut self, number: u8) {
        self.state.found(self.now, key(number), Vec::new(), TOPIC);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.state.next_action()).collect()
    }

    /// The dials to be made now, as names and numbers of peers.
    fn dials(&mut self) -> Vec<(LinkId, u8)> {
        let dial = |action| match action {
            Action::Dial { id, key, .. } => Some((id, key[0])),
            _ => None,
        };
        self.actions().into_iter().filter_map(dial).collect()
    }

    /// Connects a peer by a dial of ours.
    fn connect(&mut self, number: u8) -> LinkId {
        self.find(number);
        let (id, of) = self.dials()[0];
        assert_eq!(of, number);
        assert!(self.state.opened(self.now, id));
        assert!(matches!(self.actions()[..], [Action::Deliver { .. }]));
        id
    }

    fn sleep(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.state.deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline;
            self.state.wake(deadline);
            if !self.state.actions.is_empty() {
                return;
            }
        }
        self.now = end;
    }

    /// Seconds until the next dial of one peer, which fails at once; `None` if there is none in an hour.
    fn seconds_to_next_failure(&mut self) -> Option<f64> {
        let before = self.now;
        self.sleep(Duration::from_secs(3600));
        let (id, _) = *self.dials().first()?;
        self.state.closed(self.now, id);
        Some((self.now - before).as_secs_f64())
    }
}

fn key(number: u8) -> PublicKey {
    [number; 32]
}

#[test]
fn at_most_three_dials_at_once() {
    let mut sim = Sim::new(64);
    for number in 1..=10 {
        sim.find(number);
    }
    let dials = sim.dials();
    assert_eq!(dials.len(), 3);
    assert!(sim.state.opened(sim.now, dials[0].0));
    sim.state.closed(sim.now, dials[1].0);
    assert_eq!(sim.dials().len(), 2);
}

#[test]
fn known_and_own_keys_are_not_dialled() {
    let mut sim = Sim::new(64);
    sim.find(OWN);
    sim.connect(1);
    sim.find(1);
    sim.state.join_peer(sim.now, key(1));
    sim.state.join_peer(sim.now, key(OWN));
    assert_eq!(sim.actions(), []);
}

#[test]
fn no_dials_beyond_the_limit_and_explicit_peers_make_it_scarcer() {
    let mut sim = Sim::new(4);
    for number in 1..=4 {
        sim.connect(number);
    }
    sim.find(5);
    assert_eq!(sim.dials(), []);
    let id = sim.state.links.get(&key(1)).unwrap().id;
    sim.state.closed(sim.now, id);
    assert_eq!(sim.dials().len(), 1);

    let mut sim = Sim::new(4);
    sim.state.join_peer(sim.now, key(1));
    let (id, _) = sim.dials()[0];
    sim.state.opened(sim.now, id);
    sim.actions();
    sim.connect(2);
    sim.find(3);
    assert_eq!(sim.dials(), [], "2 × 2 connections fill 4 places");
    sim.state.join_peer(sim.now, key(4));
    assert_eq!(sim.dials().len(), 1, "who was asked for by key is dialled past the limit");
}

#[test]
fn a_peer_that_never_answers_is_tried_four_times() {
    let mut sim = Sim::new(64);
    sim.find(1);
    let (id, _) = sim.dials()[0];
    sim.state.closed(sim.now, id);
    let waits: Vec<f64> = std::iter::from_fn(|| sim.seconds_to_next_failure()).collect();
    assert_eq!(waits.len(), 3, "{waits:?}");
    for (wait, (least, most)) in waits.iter().zip([(3.3, 8.6), (9.9, 23.1), (9.9, 23.1)]) {
        assert!((least..most).contains(wait), "{waits:?}");
    }
    assert_eq!(sim.state.peers.len(), 0);
    sim.find(1);
    assert_eq!(sim.dials().len(), 1, "found again, it has a new chance");
}

#[test]
fn a_lost_connection_is_tried_again_sooner() {
    let mut sim = Sim::new(64);
    let id = sim.connect(1);
    sim.now += Duration::from_secs(20);
    sim.state.closed(sim.now, id);
    let waits: Vec<f64> = std::iter::from_fn(|| sim.seconds_to_next_failure()).collect();
    assert_eq!(waits.len(), 3, "{waits:?}");
    for (wait, (least, most)) in waits.iter().zip([(0.66, 2.7), (3.3, 8.6), (9.9, 23.1)]) {
        assert!((least..most).contains(wait), "{waits:?}");
    }
}

#[test]
fn nobody_is_tried_again_for_a_topic_that_was_left() {
    let mut sim = Sim::new(64);
    let id = sim.connect(1);
    sim.state.remove_topic(&TOPIC);
    sim.state.closed(sim.now, id);
    assert_eq!(sim.state.deadline(), None);
    assert_eq!(sim.state.peers.len(), 0);
}

#[test]
fn an_explicit_peer_is_never_given_up() {
    let mut sim = Sim::new(64);
    sim.state.join_peer(sim.now, key(1));
    let (id, _) = sim.dials()[0];
    sim.state.closed(sim.now, id);
    let waits: Vec<f64> = (0..8).map_while(|_| sim.seconds_to_next_failure()).collect();
    assert_eq!(waits.len(), 8, "{waits:?}");
    assert!(waits[4..].iter().all(|wait| (396.0..960.0).contains(wait)), "{waits:?}");

    sim.state.leave_peer(&key(1));
    assert_eq!(sim.seconds_to_next_failure(), None);
    assert_eq!(sim.state.peers.len(), 0);
}

#[test]
fn of_two_connections_the_larger_keys_dial_stays() {
    let mut sim = Sim::new(64);
    let held = sim.connect(1);
    let id = sim.state.incoming(key(1), |_| false);
    assert_eq!(sim.actions(), [Action::KeepAlive(held), Action::Refuse(id)]);

    let mut sim = Sim::new(64);
    sim.find(200);
    let (dial, _) = sim.dials()[0];
    let id = sim.state.incoming(key(200), |_| false);
    assert_eq!(sim.actions(), [Action::Destroy(dial)]);
    sim.state.closed(sim.now, dial);
    let topics = vec![TOPIC];
    assert_eq!(sim.actions(), [Action::Deliver { id, key: key(200), topics }]);
    assert!(!sim.state.opened(sim.now, dial));
    assert_eq!(sim.state.open_links().collect::<Vec<_>>(), [id]);
}

#[test]
fn a_connection_in_use_that_is_dialled_anew_was_lost_over_there() {
    let mut sim = Sim::new(64);
    let held = sim.connect(1);
    let id = sim.state.incoming(key(1), |of| of == held);
    assert_eq!(sim.actions(), [Action::Destroy(held)]);
    let newer = sim.state.incoming(key(1), |of| of == held);
    assert_eq!(sim.actions(), [Action::Refuse(id)]);
    sim.state.closed(sim.now, held);
    assert!(matches!(sim.actions()[..], [Action::Deliver { id, .. }] if id == newer));
}

#[test]
fn a_replacement_that_ends_first_replaces_nothing() {
    let mut sim = Sim::new(64);
    let held = sim.connect(1);
    let id = sim.state.incoming(key(1), |_| true);
    sim.actions();
    sim.state.replacement_closed(id);
    sim.state.closed(sim.now, held);
    assert_eq!(sim.actions(), []);
    assert_eq!(sim.state.links.len(), 0);
}

#[test]
fn strangers_are_welcome_unless_banned_or_ourselves() {
    let mut sim = Sim::new(1);
    for number in [1, 2, 3] {
        let id = sim.state.incoming(key(number), |_| false);
        let topics = Vec::new();
        assert_eq!(sim.actions(), [Action::Deliver { id, key: key(number), topics }]);
    }
    sim.state.bans.insert(key(4));
    for number in [4, OWN] {
        let id = sim.state.incoming(key(number), |_| false);
        assert_eq!(sim.actions(), [Action::Refuse(id)]);
    }
    let mut sim = Sim::new(64);
    sim.state.bans.insert(key(4));
    sim.find(4);
    sim.state.join_peer(sim.now, key(4));
    assert_eq!(sim.actions(), []);
}

#[test]
fn flush_waits_for_those_queued_and_dialled() {
    let mut sim = Sim::new(64);
    sim.state.flush(FlushId(0));
    assert_eq!(sim.actions(), [Action::Flushed(FlushId(0), true)]);
    for number in 1..=5 {
        sim.find(number);
    }
    let mut dials = sim.dials();
    sim.state.flush(FlushId(1));
    sim.find(6);
    let mut tried = 0;
    let answered = loop {
        let (id, number) = dials.remove(0);
        if number % 2 == 0 {
            sim.state.opened(sim.now, id);
        } else {
            sim.state.closed(sim.now, id);
        }
        tried += 1;
        let actions = sim.actions();
        dials.extend(actions.iter().filter_map(|action| match action {
            Action::Dial { id, key, .. } => Some((*id, key[0])),
            _ => None,
        }));
        if actions.contains(&Action::Flushed(FlushId(1), true)) {
            break tried;
        }
    };
    assert!((5..=6).contains(&answered), "{answered}");
}

#[test]
fn flush_is_over_when_there_is_no_room() {
    let mut sim = Sim::new(2);
    sim.connect(1);
    sim.find(2);
    sim.find(3);
    let dials = sim.dials();
    assert_eq!(dials.len(), 1);
    sim.state.flush(FlushId(1));
    assert_eq!(sim.actions(), []);
    sim.state.opened(sim.now, dials[0].0);
    assert!(sim.actions().contains(&Action::Flushed(FlushId(1), true)));
}

#[test]
fn flush_counts_one_who_came_while_queued_as_tried() {
    let mut sim = Sim::new(64);
    for number in 1..=4 {
        sim.find(number);
    }
    let dials = sim.dials();
    let queued = *sim.state.peers.queued().next().unwrap();
    sim.state.incoming(queued, |_| false);
    sim.state.flush(FlushId(1));
    for (id, _) in dials {
        sim.state.closed(sim.now, id);
    }
    assert!(sim.actions().contains(&Action::Flushed(FlushId(1), true)));
}

#[test]
fn destroying_fails_flushes_and_ends_dials() {
    let mut sim = Sim::new(64);
    sim.connect(1);
    sim.find(2);
    let (dial, _) = sim.dials()[0];
    sim.state.flush(FlushId(1));
    sim.state.destroy();
    assert_eq!(sim.actions(), [Action::Destroy(dial), Action::Flushed(FlushId(1), false)]);
    sim.find(3);
    sim.state.closed(sim.now, dial);
    assert_eq!(sim.actions(), []);
}

#[test]
fn suspended_nothing_is_dialled_and_resumed_peers_can_be() {
    let mut sim = Sim::new(64);
    sim.state.join_peer(sim.now, key(1));
    let (dial, _) = sim.dials()[0];
    sim.find(2);
    sim.dials();
    sim.state.suspend();
    assert_eq!(sim.actions().len(), 2);
    sim.state.closed(sim.now, dial);
    sim.find(3);
    assert_eq!((sim.actions(), sim.state.deadline()), (vec![], None));
    sim.now += Duration::from_secs(2);
    sim.state.resume(sim.now);
    assert_eq!(sim.dials().iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1]);
    sim.find(3);
    assert_eq!(sim.dials().len(), 1);
}

#[test]
fn held_nobody_is_dialled_and_released_all_who_were_found_are() {
    let mut sim = Sim::new(64);
    sim.find(1);
    let (under_way, _) = sim.dials()[0];
    sim.state.hold();
    sim.find(2);
    sim.state.join_peer(sim.now, key(3));
    sim.state.closed(sim.now, under_way);
    sim.sleep(Duration::from_secs(60));
    assert_eq!(sim.actions(), []);
    sim.state.flush(FlushId(1));
    let mut found = sim.state.found_for(&TOPIC);
    found.sort_unstable();
    assert_eq!(found, [key(1), key(2)]);
    assert_eq!(sim.state.found_for(&[0; 32]), [] as [PublicKey; 0]);
    sim.state.release(sim.now);
    let mut dials: Vec<u8> = sim.dials().iter().map(|(_, number)| *number).collect();
    dials.sort_unstable();
    assert_eq!(dials, [1, 2, 3]);
}

#[test]
fn a_flood_of_found_keys_leaves_a_newcomer_a_chance() {
    let mut sim = Sim::new(64);
    for number in 0..2 * MAX_KNOWN_PEERS {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        sim.state.found(sim.now, key, Vec::new(), TOPIC);
    }
    assert_eq!(sim.state.peers.len(), MAX_KNOWN_PEERS);
    sim.find(1);
    assert!(sim.state.peers.contains(&key(1)));
    assert_eq!(sim.state.peers.len(), MAX_KNOWN_PEERS);
}
