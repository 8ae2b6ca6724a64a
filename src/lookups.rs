//! When to look a topic up again while nobody has come.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Seconds between the first lookups; afterwards [`STEADY`]. The original looks again only after ten
/// minutes, so whoever comes second has to be the one that finds.
const FIRST: [u64; 4] = [1, 2, 4, 8];

/// Time between later lookups.
const STEADY: Duration = Duration::from_secs(10);

/// A schedule of repeated lookups, begun just after a first one.
#[derive(Debug)]
pub(crate) struct Lookups {
    next: Instant,
    done: usize,
}

impl Lookups {
    /// A schedule whose first lookup is being made now.
    pub(crate) fn start() -> Self {
        Self { next: Instant::now() + pause(0), done: 0 }
    }

    /// Waits until another lookup is due. Dropping the future loses nothing.
    pub(crate) async fn due(&mut self) {
        sleep_until(self.next).await;
        self.done += 1;
        self.next += pause(self.done);
    }
}

fn pause(done: usize) -> Duration {
    FIRST.get(done).map_or(STEADY, |seconds| Duration::from_secs(*seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lookups_thin_out_to_one_in_ten_seconds() {
        let start = Instant::now();
        let mut lookups = Lookups::start();
        let mut at = Vec::new();
        for _ in 0..6 {
            lookups.due().await;
            at.push(start.elapsed().as_secs());
        }
        assert_eq!(at, [1, 3, 7, 15, 25, 35]);
    }
}
