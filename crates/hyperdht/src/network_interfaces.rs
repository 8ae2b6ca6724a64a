//! Notices that the machine slept, or that its network interfaces have other addresses.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// A look this much later than planned means that the machine slept. The wall clock shows it, since ours may
/// stand still during sleep; ours shows it where only this process was stopped.
const SLEPT: Duration = Duration::from_secs(10);

/// What the machine was like at the last look.
#[derive(Debug)]
pub(crate) struct NetworkInterfaces {
    looked: Instant,
    wall: SystemTime,
    addresses: Vec<IpAddr>,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The machine slept.
    pub slept: bool,
    /// It has other addresses.
    pub moved: bool,
}

impl NetworkInterfaces {
    pub(crate) fn new(now: Instant) -> Self {
        Self { looked: now, wall: SystemTime::now(), addresses: addresses() }
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        self.looked + EVERY
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self, now: Instant) -> Change {
        if now < self.next() {
            return Change::default();
        }
        let wall = SystemTime::now();
        let ours = now.saturating_duration_since(self.looked);
        // A wall clock that was set back tells nothing.
        let walls = wall.duration_since(self.wall).unwrap_or_default();
        let addresses = addresses();
        let change = Change { slept: walls.max(ours) > EVERY + SLEPT, moved: addresses != self.addresses };
        *self = Self { looked: now, wall, addresses };
        change
    }
}

fn addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<_> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    addresses.retain(|ip| ip.is_ipv4() && !ip.is_loopback());
    addresses.sort_unstable();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_comes_late_by_either_clock_shows_a_sleep() {
        let now = Instant::now();
        let mut interfaces = NetworkInterfaces::new(now);
        assert!(!interfaces.look(now + EVERY).slept);
        assert!(!interfaces.look(now + 2 * EVERY + SLEPT / 2).slept, "a busy machine");
        let later = now + 4 * EVERY + 2 * SLEPT;
        assert!(interfaces.look(later).slept, "stopped");
        interfaces.wall -= EVERY + 2 * SLEPT;
        assert!(interfaces.look(later + EVERY).slept, "asleep");
        assert!(!interfaces.look(later + 2 * EVERY).slept);
    }
}
