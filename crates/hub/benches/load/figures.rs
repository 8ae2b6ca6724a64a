//! Times, and what they come to.

use std::time::Duration;

/// The times that something took.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Below which a share of them lies, milliseconds.
    pub(crate) fn quantile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() as f64 * share) as usize;
        let time = self.0.get(at.min(self.0.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }

    /// Half and 99 % of them, as text.
    pub(crate) fn summary(&mut self) -> String {
        format!("p50 {:.2} ms, p99 {:.2} ms", self.quantile(0.5), self.quantile(0.99))
    }
}
