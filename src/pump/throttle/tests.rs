//! In virtual time, which stands still while anything runs.

use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;

const MIB: u64 = 1 << 20;
const STEP: u64 = 64 * 1024;

/// Moves steps as fast as it may for so many seconds, and `pause`s after each; gives the bytes that moved.
fn moving(throttle: &Throttle, seconds: u64, pause: Duration) -> JoinHandle<u64> {
    let throttle = throttle.clone();
    tokio::spawn(async move {
        let (end, mut moved) = (Instant::now() + Duration::from_secs(seconds), 0);
        loop {
            throttle.pass(STEP).await;
            if Instant::now() >= end {
                return moved;
            }
            moved += STEP;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    })
}

async fn all(moving: impl IntoIterator<Item = JoinHandle<u64>>) -> Vec<u64> {
    let mut moved = Vec::new();
    for one in moving {
        moved.push(one.await.unwrap());
    }
    moved
}

/// Whether this is that, to one part in fifty.
fn is_about(moved: u64, expected: u64) -> bool {
    moved.abs_diff(expected) <= expected / 50
}

#[tokio::test(start_paused = true)]
async fn a_transfer_moves_as_many_bytes_a_second_as_it_may() {
    for rate in [MIB, 10 * MIB, 300 * MIB, 20_000_000] {
        let throttle = Throttle::new("b", [RateLimit::new(rate)]);
        let moved = all([moving(&throttle, 10, Duration::ZERO)]).await[0];
        assert!(is_about(moved, 10 * rate), "{moved} of {}", 10 * rate);
    }
}

#[tokio::test(start_paused = true)]
async fn peers_have_equal_parts_and_so_have_the_transfers_with_each() {
    let limit = RateLimit::new(8 * MIB);
    let of = |peer: &str| Throttle::new(peer, [limit.clone()]);
    let (b, c) = (of("b"), of("c"));
    let transfers = [&b, &b, &b, &c].map(|throttle| moving(throttle, 12, Duration::ZERO));
    let moved = all(transfers).await;
    assert!(moved[..3].iter().all(|moved| is_about(*moved, 16 * MIB)), "{moved:?}");
    assert!(is_about(moved[3], 48 * MIB), "{moved:?}");
}

#[tokio::test(start_paused = true)]
async fn what_one_does_not_use_is_the_others() {
    let limit = RateLimit::new(8 * MIB);
    let [slow, quick, other] = ["slow", "quick", "other"].map(|peer| Throttle::new(peer, [limit.clone()]));
    // At most 1 MiB a second.
    let pause = Duration::from_millis(62);
    let transfers =
        [moving(&slow, 12, pause), moving(&quick, 12, Duration::ZERO), moving(&other, 12, Duration::ZERO)];
    let moved = all(transfers).await;
    let sum: u64 = moved.iter().sum();
    assert!(is_about(sum, 96 * MIB), "{moved:?}");
    assert!(moved[0] > 9 * MIB && moved[1].abs_diff(moved[2]) <= 2 * STEP, "{moved:?}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_later_has_its_part_at_once_and_wins_none_by_having_been_away() {
    let limit = RateLimit::new(MIB);
    let (b, c) = (Throttle::new("b", [limit.clone()]), Throttle::new("c", [limit]));
    let long = moving(&b, 60, Duration::ZERO);
    sleep(Duration::from_secs(30)).await;
    // A small file, next to a large one that has moved for long.
    let began = Instant::now();
    for _ in 0..4 {
        c.pass(STEP / 4).await;
    }
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    let late = all([moving(&c, 30, Duration::ZERO)]).await[0];
    assert!(is_about(late, 15 * MIB), "{late}");
    assert!(is_about(long.await.unwrap(), 45 * MIB));
}

#[tokio::test(start_paused = true)]
async fn of_two_limits_the_lower_holds() {
    let node = RateLimit::new(4 * MIB);
    let [low, free] = [Some(RateLimit::new(MIB)), None]
        .map(|own| Throttle::new("b", own.into_iter().chain([node.clone()])));
    let moved = all([&low, &free].map(|throttle| moving(throttle, 10, Duration::ZERO))).await;
    assert!(is_about(moved[0], 10 * MIB) && is_about(moved[1], 30 * MIB), "{moved:?}");
    assert!(low.step() < free.step() && low.ahead() < free.ahead());
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_gives_up_waiting_holds_up_nobody() {
    let limit = RateLimit::new(MIB);
    let (b, c) = (Throttle::new("b", [limit.clone()]), Throttle::new("c", [limit.clone()]));
    b.pass(MIB).await;
    let waiting = moving(&c, 4, Duration::ZERO);
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(20), b.pass(STEP)).await.is_err());
    }
    waiting.abort();
    assert!(waiting.await.is_err());
    let began = Instant::now();
    b.pass(STEP).await;
    assert!(began.elapsed() <= Duration::from_millis(605), "{:?}", began.elapsed());
    assert!(lock(&limit.state).waiting.is_empty() && lock(&limit.state).schedule.first().is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_without_a_limit() {
    let throttle = Throttle::default();
    assert_eq!((throttle.step(), throttle.pass(u64::MAX).await), (None, Duration::ZERO));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for, by whom and in whatever steps: no more passes than the rate allows.
    #[test]
    fn no_more_passes_than_the_rate_allows(
        rate in MIN_RATE..1 << 30,
        asked in prop::collection::vec((0..3usize, 1..MIB, 0..500u64), 1..100),
    ) {
        let mut schedule = schedule::RateSchedule::new(rate);
        let start = Instant::now();
        let peers = ["a", "b", "c"].map(Arc::from);
        let (mut now, mut moved) = (start, 0_u64);
        for (peer, bytes, pause) in asked {
            let ticket = schedule.ask(&peers[peer], bytes);
            match schedule.poll(ticket, now) {
                Passage::Now => {}
                Passage::At(time) => {
                    prop_assert!(time > now);
                    now = time;
                    prop_assert_eq!(schedule.poll(ticket, now), Passage::Now);
                }
                Passage::Later => prop_assert!(false, "nobody else asks"),
            }
            // All that was let pass before is through.
            let allowed = ((now - start).as_secs_f64() + 0.000_001) * rate as f64;
            prop_assert!(moved as f64 <= allowed, "{moved} of {allowed}");
            moved += bytes;
            now += Duration::from_millis(pause);
        }
        prop_assert!(schedule.first().is_none());
    }
}
