//! Notices that the machine slept, or has other addresses than before.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// How often to look.
const EVERY: Duration = Duration::from_secs(5);
/// How far the wall clock has to run ahead of ours, which may stand still in sleep, to show
/// that there was one.
const SLEPT: Duration = Duration::from_secs(10);

/// What the machine was like at the last look.
#[derive(Debug)]
pub struct Surroundings {
    looked: Instant,
    wall: SystemTime,
    addresses: Vec<IpAddr>,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The machine slept.
    pub slept: bool,
    /// It has other addresses.
    pub moved: bool,
}

impl Surroundings {
    pub fn new(now: Instant) -> Self {
        Self { looked: now, wall: SystemTime::now(), addresses: addresses() }
    }

    /// When to look again.
    pub fn next(&self) -> Instant {
        self.looked + EVERY
    }

    /// Looks, if it is time to.
    pub fn look(&mut self, now: Instant) -> Change {
        if now < self.next() {
            return Change::default();
        }
        let wall = SystemTime::now();
        let ours = now.saturating_duration_since(self.looked);
        // A wall clock set back says nothing.
        let walls = wall.duration_since(self.wall).unwrap_or_default();
        let addresses = addresses();
        let change = Change { slept: walls > ours + SLEPT, moved: addresses != self.addresses };
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
