//! Room on the disks.

use std::path::Path;

use super::{Finding, Verdict};
use crate::files::{display_path, free_space};

const CHECK: &str = "disk";

/// Bytes below which even records and a small file may not fit.
const TOO_LITTLE: u64 = 64 << 20;
/// Bytes below which a large file will not fit.
const LITTLE: u64 = 1 << 30;

/// Looks at the disk of this user's state, and at that of the folder that files are saved below.
pub(super) fn check(home: &Path, cwd: &Path) -> Finding {
    let places = [("home", home), ("cwd", cwd)].map(|(name, path)| (name, path, free_space(path)));
    let least =
        places.iter().filter_map(|(_, path, free)| Some((path, (*free)?))).min_by_key(|(_, free)| *free);
    let finding = match least {
        None => Finding::ok(CHECK, "this system does not say how much room there is"),
        Some((path, free)) => {
            let found = format!("{} MiB free for {}", free >> 20, display_path(path));
            Finding::new(CHECK, judge(free), found)
        }
    };
    let finding = match finding.verdict {
        Verdict::Ok => finding,
        _ => finding.advise("make room: a file needs its whole size there before it is accepted"),
    };
    places.into_iter().fold(finding, |finding, (name, _, free)| match free {
        Some(free) => finding.fact(&format!("{name}FreeBytes"), free),
        None => finding,
    })
}

fn judge(free: u64) -> Verdict {
    match free {
        0..TOO_LITTLE => Verdict::Failed,
        TOO_LITTLE..LITTLE => Verdict::Warning,
        _ => Verdict::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        assert_eq!(judge(0), Verdict::Failed);
        assert_eq!(judge(TOO_LITTLE), Verdict::Warning);
        assert_eq!(judge(LITTLE), Verdict::Ok);
    }

    #[test]
    fn a_folder_that_is_yet_to_be_made_counts_as_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let finding = check(&dir.path().join("not/there"), dir.path());
        assert_eq!(finding.facts.get("homeFreeBytes").is_some(), cfg!(unix), "{finding:?}");
    }
}
