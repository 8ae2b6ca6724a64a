//! Tells from answers and timeouts whether the network is there (spec/dht.md §8).

/// Ticks looked at together.
const WINDOW: usize = 4;
/// Answers and timeouts that a tick must have to count.
const IDLE: u64 = 4;
/// Ticks without any answer that mean offline.
const OFFLINE_TICKS: u32 = 2;

/// The state of the network, as the last ticks show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    #[default]
    Online,
    /// Most requests time out.
    Degraded,
    /// Nothing is answered.
    Offline,
}

/// Compares the counters of each tick with the last.
#[derive(Clone, Debug, Default)]
pub(super) struct HealthMonitor {
    /// Ticks seen; the first three do not count.
    ticks: usize,
    responses: u64,
    timeouts: u64,
    /// Whether each of the latest ticks was degraded; `None` for a tick that does not count.
    marks: [Option<bool>; WINDOW],
    offline_ticks: u32,
    health: Health,
}

impl HealthMonitor {
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Forgets everything, because the network may be another one now.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A tick has passed. The counters have counted since the start.
    pub(super) fn update(&mut self, responses: u64, timeouts: u64) -> Health {
        let answered = responses - self.responses;
        let timed_out = timeouts - self.timeouts;
        (self.responses, self.timeouts) = (responses, timeouts);
        self.marks.rotate_right(1);
        self.marks[0] = None;
        self.ticks += 1;
        if self.ticks < WINDOW || answered + timed_out < IDLE {
            return self.health;
        }

        if answered == 0 {
            self.offline_ticks += 1;
            if self.offline_ticks >= OFFLINE_TICKS {
                self.health = Health::Offline;
            }
            return self.health;
        }
        self.offline_ticks = 0;
        self.marks[0] = Some(timed_out > answered);
        let all = |degraded| self.marks.iter().all(|mark| *mark == Some(degraded));
        self.health = match self.health {
            _ if all(true) => Health::Degraded,
            Health::Degraded if !all(false) => Health::Degraded,
            _ => Health::Online,
        };
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds ticks of (answers, timeouts).
    fn after(ticks: &[(u64, u64)]) -> Health {
        let mut monitor = HealthMonitor::default();
        let mut counters = (0, 0);
        for (answered, timed_out) in ticks {
            counters = (counters.0 + answered, counters.1 + timed_out);
            monitor.update(counters.0, counters.1);
        }
        monitor.health()
    }

    #[test]
    fn two_ticks_without_answers_are_offline_and_one_answer_is_online() {
        let quiet = [(0, 0); 3];
        assert_eq!(after(&[&quiet[..], &[(0, 9)]].concat()), Health::Online);
        assert_eq!(after(&[&quiet[..], &[(0, 9), (0, 9)]].concat()), Health::Offline);
        assert_eq!(after(&[&quiet[..], &[(0, 9), (0, 3), (0, 9)]].concat()), Health::Offline);
        assert_eq!(after(&[&quiet[..], &[(0, 9), (0, 9), (1, 9)]].concat()), Health::Online);
    }

    #[test]
    fn the_first_ticks_say_nothing() {
        assert_eq!(after(&[(0, 9), (0, 9), (0, 9)]), Health::Online);
    }

    #[test]
    fn four_ticks_of_mostly_timeouts_are_degraded_until_four_good_ones() {
        let bad = [(1, 9); 7];
        assert_eq!(after(&bad[..6]), Health::Online);
        assert_eq!(after(&bad), Health::Degraded);
        let good = |count| [&bad[..], &vec![(9, 1); count]].concat();
        assert_eq!(after(&good(3)), Health::Degraded);
        assert_eq!(after(&good(4)), Health::Online);
    }
}
