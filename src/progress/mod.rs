//! The progress of one transfer, at a pace that a listener can follow.
//!
//! # Layout
//! - `track`: phases, rate and time left, without I/O
//! - here: what is told when

mod track;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::track::Track;
use crate::event::{Phase, ProgressReport};
use crate::sync::lock;

/// The shortest time between two reports: ten a second are smooth to the eye and free to the machine.
const INTERVAL: Duration = Duration::from_millis(100);

/// The time between two reports of a transfer that stands still, until its rate has fallen to nothing.
const STILL: Duration = Duration::from_secs(1);

/// Told of the progress; it must not block.
type Report = Box<dyn Fn(&ProgressReport) + Send>;

/// Tells of one transfer's progress: each phase when it begins, and in it the latest of a stream of counts,
/// ten times a second at most.
pub(crate) struct Progress {
    course: Arc<Mutex<Course>>,
    bytes: watch::Sender<u64>,
    ending: CancellationToken,
}

/// What is told of, one thing after another.
struct Course {
    track: Track,
    report: Report,
    is_over: bool,
}

impl Course {
    /// Tells what `see` makes of the track; `false` if that is nothing.
    fn tell(&mut self, see: impl FnOnce(&mut Track) -> Option<ProgressReport>) -> bool {
        let report = see(&mut self.track).filter(|_| !self.is_over);
        if let Some(report) = &report {
            (self.report)(report);
        }
        report.is_some()
    }
}

impl Progress {
    /// Reports on a file of `total` bytes. What is counted is told on a task of its own, until the end.
    pub(crate) fn start(total: u64, report: impl Fn(&ProgressReport) + Send + 'static) -> Self {
        let (bytes, counted) = watch::channel(0);
        let track = Track::new(total, Instant::now());
        let course = Arc::new(Mutex::new(Course { track, report: Box::new(report), is_over: false }));
        let ending = CancellationToken::new();
        tokio::spawn(follow(course.clone(), counted, ending.clone()));
        Self { course, bytes, ending }
    }

    /// Where the bytes that have moved are counted.
    pub(crate) fn bytes(&self) -> watch::Sender<u64> {
        self.bytes.clone()
    }

    /// Comes to a phase, unless that has been left for good.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut course = lock(&self.course);
        let bytes = *self.bytes.borrow();
        if course.tell(|track| track.enter(phase, bytes, Instant::now())) && phase == Phase::Waiting {
            // Bytes that were hashed have not moved.
            self.bytes.send_replace(0);
        }
    }

    /// So many bytes of `goal` are hashed.
    pub(crate) fn hashed(&self, bytes: u64, goal: u64) {
        let mut course = lock(&self.course);
        if !course.track.is_in(Phase::Hashing) {
            course.tell(|track| track.enter(Phase::Hashing, 0, Instant::now()));
        }
        if course.track.is_in(Phase::Hashing) {
            course.track.aim(goal);
            self.bytes.send_replace(bytes);
        }
    }

    /// Tells nothing from now on.
    pub(crate) fn end(&self) {
        lock(&self.course).is_over = true;
        self.ending.cancel();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("bytes", &*self.bytes.borrow()).finish_non_exhaustive()
    }
}

/// Tells of what is counted.
async fn follow(course: Arc<Mutex<Course>>, mut counted: watch::Receiver<u64>, ending: CancellationToken) {
    loop {
        let changes_alone = lock(&course).track.changes_alone();
        tokio::select! {
            () = ending.cancelled() => return,
            changed = counted.changed() => if changed.is_err() { return },
            () = sleep(STILL), if changes_alone => {}
        }
        // What is counted belongs to the phase only as long as that does not change.
        let told = {
            let mut course = lock(&course);
            let bytes = *counted.borrow_and_update();
            course.tell(|track| track.look(bytes, Instant::now()))
        };
        if told {
            // Either way it is time for the next report.
            let _ = timeout(INTERVAL, ending.cancelled()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A progress, and what it told.
    fn told(total: u64) -> (Progress, Arc<Mutex<Vec<ProgressReport>>>) {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let seen = reports.clone();
        (Progress::start(total, move |report| seen.lock().unwrap().push(*report)), reports)
    }

    #[tokio::test(start_paused = true)]
    async fn many_counts_become_few_reports_and_each_phase_is_told_at_once() {
        let (progress, reports) = told(1000);
        progress.enter(Phase::Connecting);
        progress.enter(Phase::Transferring);
        let bytes = progress.bytes();
        for count in 1..=1000 {
            bytes.send_replace(count);
            sleep(Duration::from_millis(1)).await;
        }
        progress.enter(Phase::Verifying);
        progress.end();
        bytes.send_replace(1001);
        progress.enter(Phase::Connecting);
        sleep(INTERVAL * 3).await;
        let reports = reports.lock().unwrap();
        let of = |phase| reports.iter().filter(move |report| report.phase == phase).count();
        assert!((11..=13).contains(&of(Phase::Transferring)), "{reports:?}");
        assert_eq!((of(Phase::Connecting), of(Phase::Verifying)), (1, 1));
        assert!(reports.is_sorted_by_key(|report| (report.phase, report.bytes)), "{reports:?}");
        let last = reports.last().unwrap();
        assert_eq!((last.phase, last.bytes, last.moved), (Phase::Verifying, 1000, 1000));
        let rate = reports[reports.len() - 2].rate.unwrap();
        assert!((950..=1050).contains(&rate), "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_stands_still_says_so_and_then_nothing() {
        let (progress, reports) = told(1000);
        progress.enter(Phase::Transferring);
        for count in 1..=20 {
            progress.bytes().send_replace(count);
            sleep(INTERVAL).await;
        }
        let before = reports.lock().unwrap().len();
        sleep(STILL * 60).await;
        let reports = reports.lock().unwrap();
        assert_eq!(reports.last().map(|report| (report.bytes, report.rate)), Some((20, Some(0))));
        assert!((before + 3..=before + 6).contains(&reports.len()), "{} then {}", before, reports.len());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_were_hashed_have_not_moved() {
        let (progress, reports) = told(10);
        progress.hashed(4, 8);
        sleep(INTERVAL).await;
        progress.hashed(8, 8);
        sleep(INTERVAL).await;
        progress.enter(Phase::Waiting);
        progress.hashed(8, 8);
        progress.enter(Phase::Connecting);
        // Too late: nobody waits for that any more.
        progress.hashed(9, 9);
        assert_eq!(*progress.bytes().borrow(), 8);
        let told: Vec<_> =
            reports.lock().unwrap().iter().map(|report| (report.phase, report.bytes)).collect();
        let hashing = [(Phase::Hashing, 0), (Phase::Hashing, 4), (Phase::Hashing, 8)];
        assert!(told.starts_with(&hashing), "{told:?}");
        assert!(reports.lock().unwrap().iter().all(|report| report.moved == 0));
    }
}
