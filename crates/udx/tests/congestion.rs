//! How much of a link streams get, under virtual time.

// Each test program uses its part of what the tests share.
#[path = "common/link.rs"]
mod link;
#[path = "common/pattern.rs"]
mod pattern;
#[path = "common/simulator.rs"]
mod simulator;

use simulator::{Link, MILLISECOND, SECOND, Simulation};

/// More than any of these links moves.
const ENDLESS: usize = 4 << 30;

/// Bytes with which a receiver opens a connection: from their acknowledgement it learns the round trip.
const GREETING: usize = 56;

/// Mbit/s of payload that each stream gets over so much time from now on.
fn rates(sim: &mut Simulation, time: u64) -> Vec<f64> {
    let received = |sim: &Simulation| -> Vec<usize> {
        sim.ends.iter().skip(1).step_by(2).map(|end| end.received()).collect()
    };
    let before = received(sim);
    sim.run_for(time);
    let after = received(sim);
    after.iter().zip(before).map(|(after, before)| (after - before) as f64 * 8.0 / time as f64).collect()
}

/// Mbit/s of a transfer of so many bytes, its slow start and its end included.
fn transfer(sim: &mut Simulation, bytes: usize) -> f64 {
    let start = sim.now;
    let wanted = sim.ends[1].received() + bytes;
    sim.ends[0].send(bytes, false);
    assert!(sim.run_until(start + 100 * SECOND, |sim| sim.ends[1].received() == wanted));
    bytes as f64 * 8.0 / (sim.now - start) as f64
}

/// Whether or not the receiver has measured the round trip.
#[test]
fn a_gigabit_over_a_tenth_of_a_second_is_filled_within_ten_seconds() {
    for greeting in [GREETING, 0] {
        let link = Link::new(1000.0, 50 * MILLISECOND);
        let mut sim = Simulation::new(link.clone(), link, 1);
        sim.turn = 100;
        sim.ends[1].send(greeting, false);
        sim.ends[0].send(ENDLESS, false);
        sim.run_for(SECOND / 10);
        assert!(sim.ends[0].stream.peer_window() <= 4 << 20);
        sim.run_for(3 * SECOND);
        let rate = rates(&mut sim, 2 * SECOND)[0];
        let stats = sim.ends[0].stream.stats();
        assert!(rate > 850.0, "{rate} Mbit/s of 1000: {stats:?}");
        assert!(stats.peer_window > 12_000_000, "{stats:?}");
        assert!(sim.overflows() < 3000, "{} packets overflowed: {stats:?}", sim.overflows());
    }
}

/// While one packet is repaired, everything that arrives must be held, and the sender must go on sending.
#[test]
fn losses_do_not_hold_back_a_long_and_fast_path() {
    let link = Link { loss: 0.001, ..Link::new(1000.0, 50 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.turn = 100;
    sim.ends[0].send(ENDLESS, false);
    sim.run_for(3 * SECOND);
    let rate = rates(&mut sim, 3 * SECOND)[0];
    let stats = sim.ends[0].stream.stats();
    assert!(rate > 850.0 && stats.timeouts == 0, "{rate} Mbit/s of 1000: {stats:?}");
}

/// A hundred megabytes as a transfer, its slow start and its end included.
#[test]
fn a_transfer_fills_a_link_with_a_buffer_of_one_product_whatever_it_loses() {
    for (loss, least) in [(0.0, 93.0), (0.001, 92.0), (0.01, 90.0)] {
        for seed in 1..3 {
            let link = Link { loss, ..Link::new(100.0, 25 * MILLISECOND) };
            let mut sim = Simulation::new(link.clone(), link, seed);
            sim.turn = 100;
            let rate = transfer(&mut sim, 100_000_000);
            assert!(rate > least, "{rate} Mbit/s of 100 at loss {loss}: {:?}", sim.ends[0].stream.stats());
            let (stats, dropped) = (sim.ends[0].stream.stats(), sim.overflows() + sim.losses());
            assert_eq!(stats.timeouts, 0);
            assert!(stats.resent <= dropped + dropped / 4, "resent {} for {dropped}", stats.resent);
        }
    }
}

/// Ends that are sometimes late measure a higher rate than the link has. A buffer of a third of a product
/// must not cost much either.
#[test]
fn once_a_link_is_filled_its_buffer_does_not_overflow() {
    let link = Link::new(100.0, 25 * MILLISECOND);
    let short = Link { queue: link.queue / 3, ..link.clone() };
    for link in [Link { jitter: 3 * MILLISECOND, ..link }, short] {
        let mut sim = Simulation::new(link.clone(), link.clone(), 1);
        sim.turn = 3 * MILLISECOND;
        sim.ends[0].send(ENDLESS, false);
        sim.run_for(2 * SECOND);
        let filled = sim.overflows();
        assert!(filled < 1500, "{filled} packets overflowed when the link was found full: {link:?}");
        let rate = rates(&mut sim, 6 * SECOND)[0];
        let overflowed = sim.overflows() - filled;
        assert!(rate > 95.0 && overflowed < 500, "{rate} Mbit/s of 100, {overflowed} overflowed: {link:?}");
    }
}

/// The window is what the small socket buffer holds, and twice what is seen to fit the path. A receiver
/// learns the length of the path from what it sends; if it sends nothing, from when the bytes arrive that
/// it made room for.
#[test]
fn a_small_receive_buffer_does_not_hold_back_a_long_path() {
    for (greeting, most) in [(GREETING, 1_300_000), (0, 4_000_000)] {
        let link = Link::new(200.0, 10 * MILLISECOND);
        let mut sim = Simulation::new(link.clone(), link, 1);
        sim.turn = 100;
        sim.ends[1].stream.set_receive_window(180_000);
        sim.ends[1].send(greeting, false);
        sim.ends[0].send(ENDLESS, false);
        sim.run_for(2 * SECOND);
        let rate = rates(&mut sim, 2 * SECOND)[0];
        let stats = sim.ends[0].stream.stats();
        assert!(rate > 180.0, "{rate} Mbit/s of 200: {stats:?}");
        assert!((900_000..most).contains(&stats.peer_window), "{stats:?}");
    }
}

/// Payload bytes and packets that a receive buffer of 208 KiB takes: what Linux gives to one who asks for
/// more.
const USUAL_BUFFER: (u32, usize) = (200_000, 184);

/// A gigabit brings half of such a buffer between two looks at it, however much more is on the way.
#[test]
fn a_small_receive_buffer_does_not_hold_back_a_wide_path() {
    for (rtt, greeting, bytes) in [(20, GREETING, 200), (20, 0, 200), (100, GREETING, 500)] {
        let link = Link::new(1000.0, rtt * MILLISECOND / 2);
        let mut sim = Simulation::new(link.clone(), link, 1);
        (sim.turn, sim.socket) = (MILLISECOND, USUAL_BUFFER.1);
        sim.ends[1].stream.set_receive_window(USUAL_BUFFER.0);
        sim.ends[1].send(greeting, false);
        let share = transfer(&mut sim, bytes * 1_000_000) / 1000.0;
        let stats = sim.ends[0].stream.stats();
        assert!(share > if rtt == 20 { 0.8 } else { 0.7 }, "{share} of 1 Gbit/s at {rtt} ms: {stats:?}");
        assert_eq!((sim.unseen, stats.timeouts), (0, 0));
    }
}

/// Where a hole is filled, much arrives in order at once, which says nothing of how long the path is.
#[test]
fn losses_do_not_hide_how_long_a_path_is() {
    for seed in 1..3 {
        let link = Link { loss: 0.001, ..Link::new(1000.0, 10 * MILLISECOND) };
        let mut sim = Simulation::new(link.clone(), link, seed);
        (sim.turn, sim.socket) = (MILLISECOND, USUAL_BUFFER.1);
        sim.ends[1].stream.set_receive_window(USUAL_BUFFER.0);
        let share = transfer(&mut sim, 200_000_000) / 1000.0;
        assert!(share > 0.8, "{share} of 1 Gbit/s: {:?}", sim.ends[0].stream.stats());
    }
}

/// From a fifth of a second away, with losses from the first packets on.
#[test]
fn losses_on_a_long_path_do_not_hold_back_a_transfer() {
    for seed in 1..4 {
        let link = Link { loss: 0.02, ..Link::new(100.0, 100 * MILLISECOND) };
        let mut sim = Simulation::new(link.clone(), link, seed);
        sim.turn = 100;
        let rate = transfer(&mut sim, 200_000_000);
        assert!(rate > 80.0, "{rate} Mbit/s of 100: {:?}", sim.ends[0].stream.stats());
        assert_eq!(sim.ends[0].stream.stats().timeouts, 0);
    }
}

/// A stream that was slow to start, beside another that overran the queue just then, gets its part in the
/// end.
#[test]
fn streams_share_wide_and_long_links() {
    for (megabits, rtt, loss, settle) in [(1000.0, 20, 0.0, 2), (1000.0, 100, 0.0, 4), (100.0, 200, 0.02, 12)]
    {
        for offset in [0, SECOND] {
            let link = Link { loss, ..Link::new(megabits, rtt * MILLISECOND / 2) };
            let mut sim = Simulation::with_streams(&[0, 0], link.clone(), link, 1);
            sim.turn = MILLISECOND;
            sim.ends[0].send(ENDLESS, false);
            sim.run_for(offset);
            sim.ends[2].send(ENDLESS, false);
            sim.run_for(settle * SECOND);
            let shares = rates(&mut sim, 4 * SECOND).iter().map(|rate| rate / megabits).collect::<Vec<_>>();
            let (least, all) = (shares[0].min(shares[1]), shares[0] + shares[1]);
            assert!(
                least > 0.35 && all > 0.8,
                "{shares:?} of {megabits} Mbit/s at {rtt} ms, {offset} us apart"
            );
        }
    }
}

/// Small messages that are answered at once, while the other stream does what it wants: the time that 99
/// of 100 answers take at most.
fn answer_time(sim: &mut Simulation, time: u64) -> u64 {
    const MESSAGE: usize = 64;
    let until = sim.now + time;
    let mut took = Vec::new();
    while sim.now < until {
        let start = sim.now;
        for (from, to) in [(2, 3), (3, 2)] {
            let wanted = sim.ends[to].received() + MESSAGE;
            sim.ends[from].send(MESSAGE, false);
            assert!(sim.run_until(start + 20 * SECOND, |sim| sim.ends[to].received() == wanted));
        }
        took.push(sim.now - start);
        sim.run_for(20 * MILLISECOND);
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[test]
fn a_stream_beside_a_transfer_is_answered_soon() {
    for (megabits, rtt, loss) in [(1000.0, 20, 0.0), (100.0, 50, 0.0), (100.0, 200, 0.02), (20.0, 10, 0.0)] {
        let link = Link { loss, ..Link::new(megabits, rtt * MILLISECOND / 2) };
        let mut sim = Simulation::with_streams(&[0, 0], link.clone(), link, 1);
        sim.turn = 200;
        let idle = answer_time(&mut sim, 20 * SECOND);
        sim.ends[0].send(ENDLESS, false);
        let busy = answer_time(&mut sim, 20 * SECOND);
        assert!(
            busy <= 3 * idle,
            "{idle} us, and {busy} beside a transfer at {megabits} Mbit/s and {rtt} ms"
        );
    }
}

/// A path that turns out to be ten times as wide is soon used, and not a quarter more every eight round
/// trips.
#[test]
fn a_path_that_widens_is_filled_soon() {
    let link = Link::new(10.0, 25 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.turn = 200;
    sim.ends[0].send(ENDLESS, false);
    sim.run_for(3 * SECOND);
    sim.links.iter_mut().for_each(|link| *link = Link::new(100.0, 25 * MILLISECOND));
    sim.run_for(2 * SECOND);
    let rate = rates(&mut sim, SECOND)[0];
    assert!(rate > 85.0, "{rate} Mbit/s of 100: {:?}", sim.ends[0].stream.stats());
}

#[test]
fn a_small_receive_buffer_is_guarded_on_a_short_path() {
    for greeting in [GREETING, 0] {
        let link = Link { queue: 300_000, ..Link::new(2000.0, 50) };
        let mut sim = Simulation::new(link.clone(), link, 1);
        sim.turn = 20;
        sim.ends[1].stream.set_receive_window(180_000);
        sim.ends[1].send(greeting, false);
        sim.ends[0].send(ENDLESS, false);
        let rate = rates(&mut sim, SECOND)[0];
        let stats = sim.ends[0].stream.stats();
        assert!(rate > 1700.0, "{rate} Mbit/s of 2000: {stats:?}");
        assert_eq!((stats.peer_window, stats.resent), (180_000, 0));
    }
}

#[test]
fn streams_share_a_link_whenever_they_start() {
    for delay in [5, 25] {
        for offset in [0, SECOND, 4 * SECOND] {
            let link = Link::new(50.0, delay * MILLISECOND);
            let mut sim = Simulation::with_streams(&[0, 0], link.clone(), link, 1);
            sim.turn = 200;
            sim.ends[0].send(ENDLESS, false);
            sim.run_for(offset);
            sim.ends[2].send(ENDLESS, false);
            sim.run_for(2 * SECOND);
            let rates = rates(&mut sim, 20 * SECOND);
            let (least, all) = (rates[0].min(rates[1]), rates[0] + rates[1]);
            assert!(least > 17.5 && all > 45.0, "{rates:?} of 50 Mbit/s at {delay} ms, {offset} us apart");
        }
    }
}

/// Twice the round trip: neither pushes the other aside.
#[test]
fn streams_of_different_length_share_a_link() {
    for (megabits, first, seed) in [(50.0, 0, 1), (50.0, 1, 2), (100.0, 0, 3), (100.0, 1, 4)] {
        let link = Link::new(megabits, 25 * MILLISECOND);
        let mut sim = Simulation::with_streams(&[0, 25 * MILLISECOND], link.clone(), link, seed);
        sim.turn = 200;
        sim.ends[2 * first].send(ENDLESS, false);
        sim.run_for(3 * SECOND);
        sim.ends[2 * (1 - first)].send(ENDLESS, false);
        sim.run_for(2 * SECOND);
        let shares = rates(&mut sim, 20 * SECOND).iter().map(|rate| rate / megabits).collect::<Vec<_>>();
        let (least, all) = (shares[0].min(shares[1]), shares[0] + shares[1]);
        assert!(least > 0.35 && all > 0.9, "{shares:?} of {megabits} Mbit/s, {first} first");
    }
}

/// For five seconds a stream is given less than it could send: what it sends meanwhile says nothing about the
/// path.
#[test]
fn a_stream_that_has_little_to_send_keeps_its_rate() {
    let link = Link::new(100.0, 25 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.turn = 200;
    sim.ends[0].send(20_000_000, false);
    sim.run_for(4 * SECOND);
    let before = sim.ends[0].stream.stats().pacing_rate;
    // 8 Mbit/s for 5 s.
    for _ in 0..50 {
        sim.ends[0].send(100_000, false);
        sim.run_for(SECOND / 10);
    }
    let after = sim.ends[0].stream.stats().pacing_rate;
    assert!(after * 10 > before * 7, "{before} then {after}");
    sim.ends[0].send(10_000_000, false);
    let rate = rates(&mut sim, SECOND)[0];
    assert!(rate > 75.0, "{rate} Mbit/s of 100");
}

/// The round trip is measured anew every ten seconds, at the price of less than a twentieth of the time.
#[test]
fn the_round_trip_is_measured_anew_at_a_small_price() {
    let link = Link::new(20.0, 25 * MILLISECOND);
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.turn = 200;
    sim.ends[0].send(ENDLESS, false);
    sim.run_for(3 * SECOND);
    let rate = rates(&mut sim, 30 * SECOND)[0];
    assert!(rate > 18.0, "{rate} Mbit/s of 20");
    // A longer path is believed, a shorter one at once.
    sim.links.iter_mut().for_each(|link| link.delay = 75 * MILLISECOND);
    sim.links[0].queue *= 3;
    sim.run_for(25 * SECOND);
    let rate = rates(&mut sim, 9 * SECOND)[0];
    assert!(rate > 18.0, "{rate} Mbit/s of 20 at thrice the delay");
}

#[test]
fn microseconds_of_delay_do_not_collapse_the_rate() {
    for (delay, turn) in [(5, 0), (20, 50), (50, 500)] {
        let link = Link { queue: 1_000_000, ..Link::new(3000.0, delay) };
        let mut sim = Simulation::new(link.clone(), link, 1);
        sim.turn = turn;
        sim.ends[1].send(GREETING, false);
        sim.ends[0].send(ENDLESS, false);
        sim.run_for(SECOND / 10);
        let rate = rates(&mut sim, SECOND / 2)[0];
        assert!(rate > 2000.0, "{rate} Mbit/s of 3000 at {delay} us, looking every {turn} us");
    }
}

#[test]
fn jitter_is_not_taken_for_congestion() {
    let link = Link { jitter: 10 * MILLISECOND, ..Link::new(100.0, 20 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.turn = 100;
    sim.ends[0].send(ENDLESS, false);
    sim.run_for(2 * SECOND);
    let rate = rates(&mut sim, 4 * SECOND)[0];
    assert!(rate > 85.0, "{rate} Mbit/s of 100");
}

/// The path changes under way, to one with another delay, and drops packets before and after.
#[test]
fn a_stream_that_moves_amid_losses_arrives_whole() {
    let link = Link { loss: 0.01, ..Link::new(100.0, 10 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.turn = 100;
    sim.ends[0].send(30_000_000, true);
    sim.ends[1].send(GREETING, true);
    for delay in [25, 5, 50] {
        sim.run_for(SECOND / 2);
        sim.links.iter_mut().for_each(|link| link.delay = delay * MILLISECOND);
        for end in &mut sim.ends {
            let mut remote = end.stream.remote().unwrap();
            remote.address.set_port(remote.address.port() + 1);
            end.stream.change_remote(remote).unwrap();
        }
    }
    let start = sim.now;
    assert_eq!(sim.run_to_close(20 * SECOND), [Ok(()); 2]);
    assert_eq!(sim.ends[1].received(), 30_000_000);
    assert!(sim.now - start < 6 * SECOND, "{} s", (sim.now - start) / SECOND);
    assert_eq!(sim.ends[0].stream.stats().mtu, 1500);
}

/// Large packets vanish from one moment on, and small ones are lost at random.
#[test]
fn a_black_hole_for_large_packets_amid_losses_is_survived() {
    let link = Link { loss: 0.01, ..Link::new(100.0, 10 * MILLISECOND) };
    let mut sim = Simulation::new(link.clone(), link, 1);
    sim.turn = 100;
    sim.ends[0].send(20_000_000, true);
    sim.ends[1].send(GREETING, true);
    sim.run_for(SECOND);
    sim.links[0].mtu = 1300;
    let start = sim.now;
    assert_eq!(sim.run_to_close(60 * SECOND), [Ok(()); 2]);
    assert_eq!(sim.ends[1].received(), 20_000_000);
    let mtu = sim.ends[0].stream.stats().mtu;
    assert!((1200..=1300).contains(&mtu), "{mtu}");
    assert!(sim.now - start < 20 * SECOND, "{} s", (sim.now - start) / SECOND);
}
