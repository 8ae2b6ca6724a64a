//! Trouble of this machine: a state folder that can't be written, a full disk, no file left to open. Offers
//! wait until it has passed, and the owner is told once rather than for each of them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::{Code, Error};
use crate::sync::lock;

/// How long an offer waits before it is tried again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What keeps this machine from receiving at present.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// How many wait, by what keeps them.
    waiting: Mutex<HashMap<Code, usize>>,
    eased: Notify,
}

/// One that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct InTrouble {
    troubles: Arc<Troubles>,
    code: Code,
}

impl Troubles {
    /// Notes that one more waits because of `error`; also returns what the owner is to be told, where this is
    /// the first.
    pub(crate) fn enter(self: &Arc<Self>, error: &Error) -> (InTrouble, Option<String>) {
        let is_first = {
            let mut waiting = lock(&self.waiting);
            let count = waiting.entry(error.code).or_default();
            *count += 1;
            *count == 1
        };
        let message = || {
            format!(
                "{} ({}); what is offered waits, and is tried again as long as it stands",
                error.message,
                error.code.as_str()
            )
        };
        (InTrouble { troubles: self.clone(), code: error.code }, is_first.then(message))
    }

    /// Something of what was in use is free again: whoever waits longest is tried at once.
    pub(crate) fn ease(&self) {
        self.eased.notify_one();
    }

    /// Waits until it may be worth another attempt, after so many that failed.
    pub(crate) async fn pause(&self, attempts: u32) {
        let pause = PAUSE.0.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(PAUSE.1);
        let _ = timeout(pause, self.eased.notified()).await;
    }
}

impl InTrouble {
    /// Whether it is the same trouble.
    pub(crate) fn is(&self, error: &Error) -> bool {
        self.code == error.code
    }
}

impl Drop for InTrouble {
    fn drop(&mut self) {
        let mut waiting = lock(&self.troubles.waiting);
        if let Some(count) = waiting.get_mut(&self.code) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.code);
            }
        }
    }
}

/// What the system said of a file or folder, and what would help.
pub(crate) fn advised(error: &io::Error) -> String {
    let mut text = error.to_string();
    let _ = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            write!(text, "; make room on that disk, or name another folder (`home`, ATS_P2P_HOME)")
        }
        _ if is_out_of_files(error) => write!(text, "; let it open more files (`ulimit -n`)"),
        _ => write!(text, "; make it a folder that can be written, or name another (`home`, ATS_P2P_HOME)"),
    };
    text
}

/// Whether this process, or the whole system, may open no further file.
#[cfg(unix)]
fn is_out_of_files(error: &io::Error) -> bool {
    // ENFILE and EMFILE, which have these numbers on every Unix.
    matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(not(unix))]
fn is_out_of_files(_error: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn the_owner_is_told_of_each_trouble_once_until_it_has_passed() {
        let troubles = Arc::new(Troubles::default());
        let full = Error::new(Code::DiskFull, "no room");
        let state = Error::new(Code::State, "no state");
        let (first, told) = troubles.enter(&full);
        assert!(told.is_some_and(|told| told.starts_with("no room (ATS_P2P_DISK_FULL);")));
        let (second, told) = troubles.enter(&full);
        assert!(told.is_none() && second.is(&full) && !second.is(&state));
        assert!(troubles.enter(&state).1.is_some());
        drop(first);
        assert!(troubles.enter(&full).1.is_none());
        drop(second);
        assert!(troubles.enter(&full).1.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn each_pause_is_longer_and_what_comes_free_ends_one() {
        let troubles = Troubles::default();
        let begun = Instant::now();
        for attempts in 1..=8 {
            troubles.pause(attempts).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(1 + 2 + 4 + 8 + 16 + 3 * 30));
        let begun = Instant::now();
        troubles.ease();
        troubles.pause(8).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        troubles.pause(1).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[cfg(unix)]
    #[test]
    fn what_would_help_is_said() {
        let advice = |number| advised(&io::Error::from_raw_os_error(number));
        assert!(advice(24).ends_with("(`ulimit -n`)") && advice(23).ends_with("(`ulimit -n`)"));
        assert!(advice(28).contains("make room"), "{}", advice(28));
        assert!(advice(13).contains("can be written"), "{}", advice(13));
    }
}
