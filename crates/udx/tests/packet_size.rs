//! Paths that carry only small packets, from the start or from some time on, under virtual time.

// Each test program uses its part of what the tests share.
#[path = "common/link.rs"]
mod link;
#[path = "common/pattern.rs"]
mod pattern;
#[path = "common/simulator.rs"]
mod simulator;

use proptest::prelude::*;
use simulator::{Link, MILLISECOND, SECOND, Simulation};

const SIZES: [usize; 7] = [1199, 1000, 800, 700, 600, 577, 576];
const BYTES: usize = 5_000_000;

/// Seconds until all is delivered from left to right, from now on; panics if it is not within a minute.
fn seconds(sim: &mut Simulation) -> f64 {
    let start = sim.now;
    let is_over = sim.run_until(start + 60 * SECOND, |sim| sim.ends[1].received() == BYTES);
    assert!(is_over, "{} of {BYTES}: {:?}", sim.ends[1].received(), sim.ends[0].stream.stats());
    (sim.now - start) as f64 / SECOND as f64
}

fn path(mtu: usize) -> Link {
    Link { mtu, queue: 10_000_000, ..Link::new(100.0, 10 * MILLISECOND) }
}

/// Nothing is sent that could not arrive but probes, which are sent again without their padding.
#[test]
fn a_path_that_carries_little_is_filled_from_the_start_even_where_fragments_vanish() {
    for mtu in SIZES {
        for size_back in [mtu, 1500] {
            let forth = Link { drops_fragments: true, ..path(mtu) };
            let mut sim = Simulation::new(forth, path(size_back), 1);
            sim.ends[0].send(BYTES, false);
            let seconds = seconds(&mut sim);
            let stats = sim.ends[0].stream.stats();
            assert!(seconds < 1.0, "{seconds} s at {mtu}: {stats:?}");
            assert_eq!((stats.timeouts, stats.recoveries), (0, 0), "{mtu}");
            assert!(stats.resent <= 15, "{} probes lost at {mtu}", stats.resent);
            assert!(
                usize::from(stats.mtu) <= mtu && mtu < usize::from(stats.mtu) + 64,
                "{} of {mtu}",
                stats.mtu
            );
        }
    }
}

/// Nothing is behind the last packet that would show its loss, and so it must not be lost as a probe again.
#[test]
fn transfers_of_any_length_take_no_timeout_on_a_path_that_carries_little() {
    for mtu in SIZES {
        for bytes in (500..60_000).step_by(1777) {
            let mut sim = Simulation::new(path(mtu), path(mtu), 1);
            sim.drops_batches = true;
            sim.ends[1].send(56, false);
            sim.ends[0].send(56, false);
            sim.run_for(SECOND / 10);
            sim.ends[0].send(bytes, false);
            let start = sim.now;
            sim.run_until(start + SECOND, |sim| sim.ends[0].stream.is_flushed());
            let stats = sim.ends[0].stream.stats();
            assert_eq!(
                (sim.ends[1].received(), stats.timeouts),
                (56 + bytes, 0),
                "{bytes} at {mtu}: {stats:?}"
            );
            assert!(sim.now - start < SECOND / 4, "{} us for {bytes} at {mtu}: {stats:?}", sim.now - start);
        }
    }
}

/// What is on its way when the path shrinks is cut by the network.
#[test]
fn a_path_that_comes_to_carry_little_is_found_out_soon() {
    for mtu in SIZES {
        for is_refused in [false, true] {
            let mut sim = Simulation::new(path(1500), path(1500), 1);
            sim.ends[0].send(BYTES, false);
            sim.run_for(SECOND / 4);
            assert_eq!(sim.ends[0].stream.stats().mtu, 1500);
            sim.links.iter_mut().for_each(|link| link.mtu = mtu);
            sim.first_hop = is_refused.then_some(mtu);
            let seconds = seconds(&mut sim);
            let stats = sim.ends[0].stream.stats();
            // A timeout is a second, and what the peer answers to a heartbeat then settles it.
            assert!(seconds < if is_refused { 1.0 } else { 2.5 }, "{seconds} s at {mtu}: {stats:?}");
            assert!(stats.timeouts <= u64::from(!is_refused), "{stats:?}");
            assert!(usize::from(stats.mtu) <= mtu, "{} of {mtu}", stats.mtu);
        }
    }
}

/// Peers before February 2026 do not answer heartbeats: a second timeout tells as much.
#[test]
fn a_path_that_shrinks_is_found_out_without_an_answer_to_the_heartbeat() {
    let mut sim = Simulation::new(path(1500), path(1500), 1);
    sim.swallows_heartbeats = true;
    sim.ends[0].send(BYTES, false);
    sim.run_for(SECOND / 4);
    sim.links[0].mtu = 1000;
    let seconds = seconds(&mut sim);
    assert!((3.0..5.0).contains(&seconds), "{seconds} s");
    assert_eq!(sim.ends[0].stream.stats().timeouts, 2);
}

/// Small packets go on arriving, so that no timeout fires while the large ones between them vanish.
#[test]
fn large_packets_that_vanish_between_small_ones_are_found_out() {
    let mut sim = Simulation::new(path(1500), path(1500), 1);
    sim.ends[0].send(BYTES / 2, false);
    sim.run_for(SECOND);
    let mut sent = BYTES / 2;
    sim.links[0].mtu = 900;
    // Of six packets, the last is small.
    for _ in 0..500 {
        let write = 5 * 1452 + 40;
        sim.ends[0].send(write, false);
        sent += write;
        sim.run_for(5 * MILLISECOND);
    }
    let start = sim.now;
    let is_over = sim.run_until(start + SECOND, |sim| sim.ends[1].received() == sent);
    assert!(is_over, "{:?}", sim.ends[0].stream.stats());
}

#[test]
fn an_outage_is_not_taken_for_a_small_path_for_long() {
    let mut sim = Simulation::new(path(1500), path(1500), 1);
    sim.ends[0].send(1 << 30, false);
    sim.run_for(SECOND);
    sim.links[0].is_down = true;
    sim.run_for(4 * SECOND);
    sim.links[0].is_down = false;
    sim.run_for(4 * SECOND);
    assert_eq!(sim.ends[0].stream.stats().mtu, 1500);
}

/// What was sent before the move goes there too, though it was cut for the old path.
#[test]
fn a_stream_moves_to_a_path_that_carries_little() {
    for mtu in SIZES {
        let mut sim = Simulation::new(path(1500), path(1500), 1);
        sim.ends[0].send(BYTES, false);
        sim.run_for(SECOND / 4);
        sim.links.iter_mut().for_each(|link| link.mtu = mtu);
        let now = sim.instant();
        for end in &mut sim.ends {
            let mut remote = end.stream.remote().unwrap();
            remote.address.set_port(remote.address.port() + 1);
            end.stream.redirect(now, remote).unwrap();
        }
        let seconds = seconds(&mut sim);
        assert!(seconds < 1.5, "{seconds} s at {mtu}: {:?}", sim.ends[0].stream.stats());
    }
}

/// The lists of what arrived are long when the path back shrinks, and cutting does not help.
#[test]
fn what_the_peer_holds_behind_holes_is_heard_when_the_path_back_shrinks() {
    let link = Link { loss: 0.05, ..path(1500) };
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.ends[0].send(BYTES, false);
    sim.run_for(SECOND / 4);
    sim.links[1].mtu = 576;
    sim.links[1].drops_fragments = true;
    let seconds = seconds(&mut sim);
    assert!(seconds < 6.0, "{seconds} s: {:?}", sim.ends[0].stream.stats());
}

/// Lists of what arrived behind holes must pass too.
#[test]
fn losses_are_repaired_on_a_path_that_carries_little_both_ways() {
    let link = Link { loss: 0.05, drops_fragments: true, ..path(576) };
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.ends[0].send(BYTES, false);
    let seconds = seconds(&mut sim);
    let stats = sim.ends[0].stream.stats();
    assert!(seconds < 3.0 && stats.timeouts == 0, "{seconds} s: {stats:?}");
    let lost = sim.losses() + sim.overflows();
    assert!(stats.resent < lost + lost / 4, "resent {} for {lost}", stats.resent);
}

/// What beginning with small packets costs where large ones would have passed: nothing that counts.
#[test]
fn a_usual_path_is_filled_as_soon_as_if_its_size_were_known() {
    for (bytes, spare) in [(3_000, 0.0), (30_000, 0.0), (300_000, 0.2), (3_000_000, 0.1)] {
        let time = |is_known: bool| {
            let mut sim = Simulation::new(path(1500), path(1500), 1);
            if is_known {
                sim.ends[0].stream.set_known_mtu(1200);
            }
            // As transfers do: a few bytes first.
            sim.ends[0].send(56, false);
            sim.run_for(SECOND / 10);
            let start = sim.now;
            sim.ends[0].send(bytes, false);
            assert!(sim.run_until(start + 10 * SECOND, |sim| sim.ends[1].received() == bytes + 56));
            (sim.now - start) as f64 / MILLISECOND as f64
        };
        let (small, known) = (time(false), time(true));
        assert!(
            small <= known * (1.0 + spare) + 2.0,
            "{bytes} bytes: {small} ms, {known} ms with 1200 known"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the path's size changes, and whether the system says so: bytes arrive whole and in order.
    #[test]
    fn everything_arrives_however_the_size_changes(
        seed in any::<u64>(),
        sizes in prop::collection::vec((576_usize..1600, 1..3 * SECOND, any::<bool>()), 1..4),
        megabits in 1.0_f64..300.0,
        delay in 0..60 * MILLISECOND,
        loss in 0.0_f64..0.05,
        bytes in 1_usize..3_000_000,
    ) {
        let link = Link { loss, ..Link::new(megabits, delay) };
        let mut sim = Simulation::new(link.clone(), link, seed);
        sim.ends[0].send(bytes, true);
        sim.ends[1].send(bytes / 10, true);
        for (mtu, time, is_refused) in sizes {
            sim.links.iter_mut().for_each(|link| link.mtu = mtu);
            sim.first_hop = is_refused.then_some(mtu);
            sim.run_for(time);
        }
        // A last acknowledgement can be lost: then one side has closed, and the other does not learn of it.
        let results = sim.run_to_close(600 * SECOND);
        prop_assert!(results.iter().any(Result::is_ok), "{:?}", results);
        prop_assert_eq!((sim.ends[1].received(), sim.ends[0].received()), (bytes, bytes / 10));
    }
}
