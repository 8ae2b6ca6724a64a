//! One direction of a network path: what becomes of each packet is decided when it enters. The simulator
//! applies it in virtual time, the emulator (`examples/link.rs`) to real packets.

use udx::Micros;

/// What a direction does to packets. May be changed while packets are under way.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Bytes per microsecond; one is 8 Mbit/s. Infinite if `None`.
    pub rate: Option<f64>,
    pub delay: Micros,
    /// Added to the delay at random, up to this much; packets stay in order.
    pub jitter: Micros,
    /// Bytes that wait for the link before it drops.
    pub queue: usize,
    /// Probabilities from 0 to 1.
    pub loss: f64,
    pub duplicate: f64,
    /// Delayed by up to this much more than the others, which overtake.
    pub reorder: f64,
    pub reorder_delay: Micros,
    /// Largest IP packet; larger ones vanish unless they may be cut.
    pub mtu: usize,
    /// What was cut vanishes too, as behind many firewalls.
    pub drops_fragments: bool,
    /// While set, everything vanishes.
    pub is_down: bool,
}

impl Link {
    /// A perfect link of this speed (Mbit/s) and one-way delay, with a queue of one bandwidth-delay product.
    pub(crate) fn new(megabits: f64, delay: Micros) -> Self {
        let rate = megabits / 8.0;
        let queue = (rate * 2.0 * delay as f64) as usize;
        Self {
            rate: Some(rate),
            delay,
            jitter: 0,
            queue: queue.max(30_000),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: 0,
            mtu: 1500,
            drops_fragments: false,
            is_down: false,
        }
    }
}

/// Packets that met each fate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// That entered, whatever became of them.
    pub packets: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
}

/// A direction at work. Everything follows from the seed and what enters when.
#[derive(Debug)]
pub(crate) struct Direction {
    pub counts: Counts,
    /// When the link has sent what it was given.
    free_at: f64,
    /// When the last packet in order arrives.
    last_at: Micros,
    random: u64,
}

impl Direction {
    pub(crate) fn new(seed: u64) -> Self {
        Self { counts: Counts::default(), free_at: 0.0, last_at: 0, random: seed }
    }

    /// An IP packet of `size` bytes enters; `may_cut` if the network may cut it to pieces. Gives when it
    /// arrives, and how many copies of it: none if it is lost.
    pub(crate) fn pass(
        &mut self,
        link: &Link,
        now: Micros,
        size: usize,
        may_cut: bool,
    ) -> Option<(Micros, usize)> {
        self.counts.packets += 1;
        if link.is_down || (size > link.mtu && (!may_cut || link.drops_fragments)) {
            return None;
        }
        let mut left_at = now;
        if let Some(rate) = link.rate {
            let free_at = self.free_at.max(now as f64);
            if (free_at - now as f64) * rate > link.queue as f64 {
                self.counts.overflowed += 1;
                return None;
            }
            self.free_at = free_at + size as f64 / rate;
            left_at = self.free_at as Micros;
        }
        // Lost behind the queue, as on the air: it has taken its time of the link.
        if self.chance() < link.loss {
            self.counts.lost += 1;
            return None;
        }
        let mut at = left_at + link.delay;
        if link.jitter > 0 {
            at += (self.chance() * link.jitter as f64) as Micros;
        }
        at = at.max(self.last_at);
        self.last_at = at;
        if link.reorder > 0.0 && self.chance() < link.reorder {
            at += (self.chance() * link.reorder_delay as f64) as Micros;
        }
        Some((at, 1 + usize::from(link.duplicate > 0.0 && self.chance() < link.duplicate)))
    }

    /// SplitMix64, as a number from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}
