//! What a received file has of its source beside the content: who may do what with it, and its time.

use std::time::{Duration, SystemTime};

/// Those that a received file may have: never to run as another user, nor for everybody to write.
pub(super) const ALLOWED: u32 = 0o775;

/// The same without those to run it.
const NOT_TO_RUN: u32 = 0o664;

/// The right that an owner always has: a file that its own node can't read is not found again.
const OWN_TO_READ: u32 = 0o400;

/// The rights of a file whose sender has a way to tell them and does not: it is for its owner alone.
const PRIVATE: u32 = 0o600;

/// The earliest time that every file system in use can hold: December 1901, -2^31 s.
const EARLIEST: Duration = Duration::from_secs(1 << 31);

/// What a received file is to have of its source; by default it is like any new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preserved {
    /// Who may do what with it.
    pub rights: Rights,
    /// When its content was changed last, Unix milliseconds; `None`: now.
    pub mtime: Option<i64>,
}

/// Who may do what with a received file. Whatever the source has, the umask takes away what it takes from
/// every new file, and nobody gets a right that lets everybody write or runs the file as another user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// Nothing is known of the source: those of a new file, or of the one that is replaced.
    #[default]
    New,
    /// Those of the source; of a file that is replaced none is read or written by more than before.
    AsSent(u32),
    /// As `New`, but nothing that the source does not have.
    WithinSent(u32),
}

impl Preserved {
    /// What is kept of a file that was offered with these permission bits and this time, in Unix
    /// milliseconds, by a sender which could tell them.
    pub fn of_sent(mode: Option<u16>, mtime: Option<i64>) -> Self {
        Self { rights: Rights::AsSent(mode.map_or(PRIVATE, u32::from)), mtime }
    }

    /// What is kept of the same file where nothing is to be: it is still for nobody who may not read its
    /// source.
    pub fn within_sent(mode: Option<u16>) -> Self {
        Self { rights: Rights::WithinSent(mode.map_or(PRIVATE, u32::from)), mtime: None }
    }

    /// The time that the file is to have, if not now: none that is to come, and none before 1901.
    pub(super) fn modified(&self, now: SystemTime) -> Option<SystemTime> {
        let mtime = self.mtime?;
        let distance = Duration::from_millis(mtime.unsigned_abs());
        let at = match mtime < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(distance.min(EARLIEST)),
            false => SystemTime::UNIX_EPOCH.checked_add(distance),
        };
        // A source that seems newer than all that comes after it misleads whoever goes by times.
        Some(at.unwrap_or(now).min(now))
    }
}

impl Rights {
    /// The permission bits of the file where a new one gets `usual` of [`ALLOWED`], and the one that it
    /// replaces, if there is one, has `replaced`.
    pub(super) fn mode(self, usual: u32, replaced: Option<u32>) -> u32 {
        let new = replaced.unwrap_or(usual) & NOT_TO_RUN;
        match (self, replaced) {
            (Self::New, _) => new,
            (Self::WithinSent(sent), _) => new & (sent | PRIVATE),
            (Self::AsSent(sent), None) => sent & usual & ALLOWED | OWN_TO_READ,
            (Self::AsSent(sent), Some(replaced)) => {
                let sent = sent & usual & ALLOWED | OWN_TO_READ;
                let read_and_written = sent & (replaced | PRIVATE) & 0o666;
                let may_run = (read_and_written & 0o444) >> 2;
                read_and_written | sent & may_run
            }
        }
    }
}

/// Milliseconds between 1970 and a time, rounded down.
pub(super) fn unix_millis(at: SystemTime) -> Option<i64> {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).ok(),
        Err(before) => {
            let millis = before.duration().as_nanos().div_ceil(1_000_000);
            i64::try_from(millis).ok().map(|millis| -millis)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_has_the_rights_of_its_source_and_none_that_a_new_file_would_not_have() {
        let as_sent = |sent, usual| Rights::AsSent(sent).mode(usual, None);
        for (sent, usual, rights) in [
            (0o600, 0o755, 0o600),
            (0o644, 0o755, 0o644),
            (0o755, 0o755, 0o755),
            (0o777, 0o775, 0o775),
            (0o711, 0o755, 0o711),
            (0o755, 0o700, 0o700),
            (0o444, 0o755, 0o444),
            (0o000, 0o755, 0o400),
        ] {
            assert_eq!(as_sent(sent, usual), rights, "{sent:o} under {usual:o}");
        }
        assert_eq!(Rights::New.mode(0o755, None), 0o644);
        for (sent, rights) in [(0o755, 0o644), (0o600, 0o600), (0o444, 0o644), (0o750, 0o640)] {
            assert_eq!(Rights::WithinSent(sent).mode(0o755, None), rights, "{sent:o}");
        }
        assert_eq!(Preserved::of_sent(None, None).rights.mode(0o755, None), 0o600);
        assert_eq!(Preserved::within_sent(None).rights.mode(0o755, None), 0o600);
    }

    #[test]
    fn a_file_that_is_replaced_lends_its_rights_to_no_more_than_may_read_the_new_one() {
        let replacing = |sent, replaced| Rights::AsSent(sent).mode(0o755, Some(replaced));
        for (sent, replaced, rights) in [
            (0o600, 0o644, 0o600),
            (0o644, 0o600, 0o600),
            (0o755, 0o644, 0o755),
            (0o755, 0o600, 0o700),
            (0o644, 0o755, 0o644),
            (0o644, 0o444, 0o644),
            (0o755, 0o6777, 0o755),
        ] {
            assert_eq!(replacing(sent, replaced), rights, "{sent:o} in place of {replaced:o}");
        }
        assert_eq!(Rights::New.mode(0o755, Some(0o600)), 0o600);
        assert_eq!(Rights::WithinSent(0o600).mode(0o755, Some(0o644)), 0o600);
    }

    #[test]
    fn a_time_is_kept_unless_it_is_to_come_or_no_file_system_holds_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let modified =
            |mtime| Preserved { mtime, ..Preserved::default() }.modified(now).and_then(unix_millis);
        assert_eq!(modified(None), None);
        for kept in [0, 1, -1, 1_600_000_000_123, -2_000_000_000_000] {
            assert_eq!(modified(Some(kept)), Some(kept));
        }
        for late in [1_800_000_000_001, 32_503_680_000_000, (1 << 53) - 1, i64::MAX] {
            assert_eq!(modified(Some(late)), Some(1_800_000_000_000));
        }
        for early in [-2_208_988_800_000, 1 - (1 << 53), i64::MIN] {
            assert_eq!(modified(Some(early)), Some(-(1 << 31) * 1000));
        }
    }

    proptest! {
        #[test]
        fn no_file_is_more_open_than_its_source_or_runs_as_another_user(
            sent in 0_u32..=0o7777,
            usual in 0_u32..=0o777,
            replaced in proptest::option::of(0_u32..=0o7777),
            is_kept in any::<bool>(),
        ) {
            let rights = if is_kept { Rights::AsSent(sent) } else { Rights::WithinSent(sent) };
            let mode = rights.mode(usual, replaced);
            prop_assert_eq!(mode & !ALLOWED, 0);
            // The owner alone may get what the source does not have.
            prop_assert_eq!(mode & 0o077 & !sent, 0);
            prop_assert_eq!(mode & 0o100 & !sent, 0);
        }
    }
}
