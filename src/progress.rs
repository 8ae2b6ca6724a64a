//! Progress, at a pace that a listener can follow.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The shortest time between two reports: ten a second are smooth to the eye and free to the machine.
const INTERVAL: Duration = Duration::from_millis(100);

/// Passes the latest of a stream of counts on, at most ten times a second, and always the last one.
#[derive(Debug)]
pub(crate) struct Progress {
    sender: watch::Sender<u64>,
    task: JoinHandle<()>,
    /// The last count was given: nothing is waited for any more.
    ending: CancellationToken,
}

impl Progress {
    /// Reports to `report`, on a task of its own.
    pub(crate) fn start(report: impl Fn(u64) + Send + 'static) -> Self {
        let (sender, mut receiver) = watch::channel(0);
        let ending = CancellationToken::new();
        let ended = ending.clone();
        let task = tokio::spawn(async move {
            while receiver.changed().await.is_ok() {
                let bytes = *receiver.borrow_and_update();
                report(bytes);
                // Either way it is time for the next report.
                let _ = timeout(INTERVAL, ended.cancelled()).await;
            }
        });
        Self { sender, task, ending }
    }

    /// Where counts go in.
    pub(crate) fn sender(&self) -> watch::Sender<u64> {
        self.sender.clone()
    }

    /// Reports what is left, once all other senders are gone, and ends.
    pub(crate) async fn finish(self) {
        drop(self.sender);
        self.ending.cancel();
        // A report that panicked has nothing left to say.
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_no_interval() {
        let started = Instant::now();
        let progress = Progress::start(|_| {});
        let sender = progress.sender();
        sender.send_replace(1);
        tokio::task::yield_now().await;
        sender.send_replace(2);
        drop(sender);
        progress.finish().await;
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn many_counts_become_few_reports_and_the_last_one_is_among_them() {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let seen = reports.clone();
        let progress = Progress::start(move |bytes| seen.lock().unwrap().push(bytes));
        let sender = progress.sender();
        for bytes in 1..=1000 {
            sender.send_replace(bytes);
            sleep(Duration::from_millis(1)).await;
        }
        drop(sender);
        progress.finish().await;
        let reports = reports.lock().unwrap();
        assert!((10..=12).contains(&reports.len()), "{} reports", reports.len());
        assert_eq!(reports.last(), Some(&1000));
    }
}
