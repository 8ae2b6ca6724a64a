//! A moment from which time is counted. The time in which the machine sleeps counts too.
//!
//! `std::time::Instant` stands still on a sleeping Linux or macOS.

use std::time::Duration;

/// A moment of this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(Reading);

/// Time since some point in the past.
#[cfg(unix)]
type Reading = Duration;
/// Counts sleep on Windows, where it is the performance counter.
#[cfg(not(unix))]
type Reading = std::time::Instant;

impl Moment {
    /// Now.
    #[cfg(unix)]
    pub(super) fn now() -> Self {
        Self(Duration::try_from(rustix::time::clock_gettime(CLOCK)).unwrap_or_default())
    }

    /// Now.
    #[cfg(not(unix))]
    pub(super) fn now() -> Self {
        Self(std::time::Instant::now())
    }

    /// What has passed since.
    #[cfg(unix)]
    pub(super) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    /// What has passed since.
    #[cfg(not(unix))]
    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// Goes on while an Apple machine sleeps, unlike the clock that `Instant` reads there.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_runs_backwards() {
        let start = Moment::now();
        let first = start.elapsed();
        assert!(start.elapsed() >= first);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_the_clock_that_the_kernel_counts_sleep_on() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").expect("readable");
            let seconds = text.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
            Duration::from_secs_f64(seconds)
        };
        let (before, Moment(now), after) = (uptime(), Moment::now(), uptime());
        // The file has hundredths of a second.
        let digit = Duration::from_millis(10);
        assert!(now + digit >= before && now <= after + digit, "{before:?} {now:?} {after:?}");
    }
}
