//! The stream's behaviour on networks of all kinds, under virtual time.

// Each test program uses its part of what the tests share.
#[path = "common/link.rs"]
mod link;
#[path = "common/pattern.rs"]
mod pattern;
#[path = "common/simulator.rs"]
mod simulator;

use proptest::prelude::*;
use simulator::{Link, MILLISECOND, SECOND, Simulation};
use udx::Error;

/// Goodput in Mbit/s between two points in time of an endless transfer.
fn goodput(sim: &mut Simulation, from: u64, to: u64) -> f64 {
    sim.ends[0].send(1 << 30, false);
    sim.run_for(from);
    let before = sim.ends[1].received();
    sim.run_for(to - from);
    (sim.ends[1].received() - before) as f64 * 8.0 / (to - from) as f64
}

#[test]
fn a_long_fat_link_is_filled() {
    for (delay, truncates) in [(5, false), (10, false), (25, false), (50, false), (25, true), (50, true)] {
        let link = Link::new(100.0, delay * MILLISECOND);
        let mut sim = Simulation::new(link.clone(), link, 1);
        sim.truncates_sacks = truncates;
        let rate = goodput(&mut sim, 3 * SECOND, 9 * SECOND);
        let stats = sim.ends[0].stream.stats();
        assert!(rate > 90.0, "{rate} Mbit/s of 100 at {delay} ms");
        assert_eq!(stats.timeouts, 0);
        assert_eq!(stats.mtu, 1500);
        if !truncates {
            assert!(stats.resent <= sim.overflows() + 50, "resent {} for {}", stats.resent, sim.overflows());
        }
    }
}

#[test]
fn a_fast_local_link_is_filled() {
    let link = Link { queue: 200_000, ..Link::new(1000.0, 100) };
    let mut sim = Simulation::new(link.clone(), link, 1);
    let rate = goodput(&mut sim, SECOND / 2, 2 * SECOND);
    assert!(rate > 900.0, "{rate} Mbit/s of 1000");
}

#[test]
fn a_slow_link_is_filled() {
    let link = Link::new(1.0, 50 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 1);
    let rate = goodput(&mut sim, 3 * SECOND, 13 * SECOND);
    assert!(rate > 0.85, "{rate} Mbit/s of 1");
}

#[test]
fn random_loss_does_not_collapse_the_rate() {
    for (loss, least) in [(0.01, 88.0), (0.02, 85.0), (0.05, 80.0)] {
        let link = Link { loss, ..Link::new(100.0, 25 * MILLISECOND) };
        let mut sim = Simulation::new(link.clone(), link, 2);
        let rate = goodput(&mut sim, 3 * SECOND, 9 * SECOND);
        let stats = sim.ends[0].stream.stats();
        let lost = sim.overflows() + sim.losses();
        assert!(stats.resent <= lost + lost / 10, "resent {} for {lost}", stats.resent);
        assert!(rate > least, "{rate} Mbit/s of 100 at loss {loss}");
    }
}

#[test]
fn a_shallow_queue_does_not_collapse_the_rate() {
    let link = Link { queue: 40_000, ..Link::new(100.0, 25 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 3);
    let rate = goodput(&mut sim, 3 * SECOND, 9 * SECOND);
    assert!(rate > 75.0, "{rate} Mbit/s of 100");
}

#[test]
fn reordering_is_not_taken_for_loss_forever() {
    let link = Link { reorder: 0.05, reorder_delay: 3 * MILLISECOND, ..Link::new(100.0, 10 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 4);
    let rate = goodput(&mut sim, 3 * SECOND, 9 * SECOND);
    let stats = sim.ends[0].stream.stats();
    assert!(rate > 85.0, "{rate} Mbit/s of 100");
    // What a test of the order of arrival costs in the end: little more than what the queue dropped.
    assert!(stats.resent <= sim.overflows() + 300, "resent {} for {}", stats.resent, sim.overflows());
}

#[test]
fn acknowledgements_are_thinned() {
    let link = Link { rate: None, ..Link::new(1000.0, 5 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 5);
    sim.ends[0].send(20_000_000, true);
    sim.ends[1].send(0, true);
    assert_eq!(sim.run_to_close(20 * SECOND), [Ok(()); 2]);
    let [sent, acks] = sim.datagrams[..] else { unreachable!() };
    assert!(acks * 8 < sent, "{acks} acknowledgements for {sent} packets");
}

#[test]
fn a_smaller_path_is_found() {
    let link = Link { mtu: 1300, queue: 10_000_000, ..Link::new(100.0, 10 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 6);
    sim.ends[0].send(5_000_000, true);
    sim.ends[1].send(0, true);
    assert_eq!(sim.run_to_close(20 * SECOND), [Ok(()); 2]);
    let stats = sim.ends[0].stream.stats();
    assert_eq!((stats.recoveries, stats.timeouts), (0, 0));
    assert!((1285..=1300).contains(&stats.mtu), "{}", stats.mtu);
}

#[test]
fn a_path_that_shrinks_is_survived() {
    let link = Link::new(100.0, 10 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 7);
    sim.ends[0].send(20_000_000, true);
    sim.ends[1].send(0, true);
    sim.run_for(SECOND);
    assert_eq!(sim.ends[0].stream.stats().mtu, 1500);
    sim.links[0].mtu = 1280;
    assert_eq!(sim.run_to_close(60 * SECOND), [Ok(()); 2]);
    assert_eq!(sim.ends[1].received(), 20_000_000);
    let stats = sim.ends[0].stream.stats();
    assert!((1265..=1280).contains(&stats.mtu), "{}", stats.mtu);
}

#[test]
fn an_outage_is_survived_and_a_long_one_times_out() {
    let link = Link::new(100.0, 10 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 8);
    sim.ends[0].send(40_000_000, true);
    sim.ends[1].send(0, true);
    sim.run_for(SECOND);
    sim.links[0].is_down = true;
    sim.run_for(5 * SECOND);
    sim.links[0].is_down = false;
    assert_eq!(sim.run_to_close(60 * SECOND), [Ok(()); 2]);
    assert_eq!(sim.ends[1].received(), 40_000_000);

    let link = Link::new(100.0, 10 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 9);
    sim.ends[0].send(40_000_000, false);
    sim.run_for(SECOND);
    sim.links.iter_mut().for_each(|link| link.is_down = true);
    sim.run_for(12 * SECOND);
    assert_eq!(sim.ends[0].stream.closed(), None);
    sim.run_for(3 * SECOND);
    assert_eq!(sim.ends[0].stream.closed(), Some(Err(Error::TimedOut)));
    // The receiver has nothing outstanding, and waits for ever.
    assert_eq!(sim.ends[1].stream.closed(), None);
}

#[test]
fn a_slow_reader_slows_the_sender_and_loses_nothing() {
    let link = Link { queue: 10_000_000, ..Link::new(100.0, 10 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 10);
    // 8 Mbit/s.
    sim.ends[1].read_rate = Some(1.0);
    sim.ends[0].send(20_000_000, true);
    sim.ends[1].send(0, true);
    sim.run_for(6 * SECOND);
    assert!(sim.ends[0].stream.peer_window() < 200_000, "{}", sim.ends[0].stream.peer_window());
    let received = sim.ends[1].received();
    assert!((9_000_000..11_500_000).contains(&received), "{received}");
    assert_eq!(sim.run_to_close(60 * SECOND), [Ok(()); 2]);
    assert_eq!(sim.ends[1].received(), 20_000_000);
    assert_eq!(sim.ends[0].stream.stats().resent, 0);
}

#[test]
fn a_stopped_reader_is_asked_and_resumes() {
    let link = Link::new(100.0, 10 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 11);
    sim.ends[1].read_rate = Some(0.0);
    sim.ends[0].send(10_000_000, true);
    sim.ends[1].send(0, true);
    sim.run_for(30 * SECOND);
    assert_eq!(sim.ends[0].stream.closed(), None);
    let stopped = sim.ends[1].received();
    assert!(stopped < 6_000_000, "{stopped}");
    sim.ends[1].read_rate = Some(100.0);
    assert_eq!(sim.run_to_close(10 * SECOND), [Ok(()); 2]);
    assert_eq!(sim.ends[1].received(), 10_000_000);
}

#[test]
fn both_directions_at_once() {
    let link = Link { loss: 0.01, ..Link::new(100.0, 10 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 12);
    for end in &mut sim.ends {
        end.send(10_000_000, true);
    }
    assert_eq!(sim.run_to_close(20 * SECOND), [Ok(()); 2]);
    assert!(sim.ends.iter().all(|end| end.received() == 10_000_000));
}

#[test]
fn after_idle_time_the_rate_is_kept() {
    let link = Link::new(100.0, 25 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 13);
    sim.ends[0].send(20_000_000, false);
    sim.run_for(5 * SECOND);
    assert_eq!(sim.ends[1].received(), 20_000_000);
    sim.run_for(3 * SECOND);
    sim.ends[0].send(10_000_000, false);
    sim.run_for(SECOND + SECOND / 5);
    assert_eq!(sim.ends[1].received(), 30_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the network does short of silence, bytes arrive whole, in order, and both sides close.
    #[test]
    fn everything_arrives(
        seed in any::<u64>(),
        sizes in [0_usize..400_000, 0..400_000],
        megabits in 0.5_f64..500.0,
        delay in 0..80 * MILLISECOND,
        loss in 0.0_f64..0.15,
        duplicate in 0.0_f64..0.2,
        reorder in 0.0_f64..0.3,
        mtu in 576_usize..1600,
    ) {
        let link = Link::new(megabits, delay);
        let link = Link { loss, duplicate, reorder, reorder_delay: 30 * MILLISECOND, mtu, ..link };
        let mut sim = Simulation::new(link.clone(), link, seed);
        for (end, size) in sim.ends.iter_mut().zip(sizes) {
            end.send(size, true);
        }
        // A last acknowledgement can be lost: then one side has closed, and the other does not learn of it.
        let results = sim.run_to_close(600 * SECOND);
        prop_assert!(results.iter().any(Result::is_ok), "{:?}", results);
        prop_assert_eq!(sim.ends[1].received(), sizes[0]);
        prop_assert_eq!(sim.ends[0].received(), sizes[1]);
    }
}

/// The end of a transfer has nothing behind it that would reveal its loss.
#[test]
fn lost_tails_seldom_cost_a_timeout() {
    let mut timeouts = 0;
    let mut time = 0;
    for seed in 0..200 {
        let link = Link { loss: 0.05, ..Link::new(100.0, 10 * MILLISECOND) };
        let mut sim = Simulation::new(link.clone(), link, seed);
        sim.ends[0].send(300_000, false);
        let start = sim.now;
        assert!(sim.run_until(start + 60 * SECOND, |sim| sim.ends[0].stream.is_flushed()));
        time += sim.now - start;
        timeouts += sim.ends[0].stream.stats().timeouts;
    }
    // With probes only where libudx has them, 25 timeouts and 295 ms.
    assert!(timeouts < 8, "{timeouts} timeouts");
    assert!(time / 200 < 220 * MILLISECOND, "{} ms on average", time / 200 / MILLISECOND);
}
