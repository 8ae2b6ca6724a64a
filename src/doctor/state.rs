//! The folder of this user's state.

use std::path::Path;

use super::Finding;
use crate::files::display_path;
use crate::receive::record::Records;

const CHECK: &str = "state";

/// Makes the folder as the first transfer would, and tries to write there.
pub(super) fn check(home: &Path) -> Finding {
    let shown = display_path(home);
    let finding = match Records::open(home).and_then(|records| records.try_write()) {
        Err(error) => Finding::failed(CHECK, format!("{shown} can't be used for this user's state: {error}"))
            .advise("make it a folder that you own and may write to, or name another one by ATS_P2P_HOME"),
        Ok(()) => match others_access(home) {
            Some(mode) => {
                Finding::warning(CHECK, format!("{shown} is open to other users (mode {mode:04o})"))
                    .advise(format!("chmod 700 {shown}"))
            }
            None => Finding::ok(CHECK, format!("{shown} is yours alone and can be written to")),
        },
    };
    finding.fact("home", shown)
}

/// The mode of a folder that others may look into.
#[cfg(unix)]
fn others_access(home: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(home).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn others_access(_home: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_folder_that_is_missing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        assert_eq!(check(&home).verdict, Verdict::Ok);
        assert!(std::fs::read_dir(home.join("transfers")).unwrap().next().is_none());
    }

    #[test]
    fn what_is_no_folder_cannot_hold_state() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::write(&home, "a file").unwrap();
        let finding = check(&home);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.advice.unwrap().contains("ATS_P2P_HOME"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_read_is_noticed() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let finding = check(dir.path());
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.found.contains("0755"), "{}", finding.found);
    }
}
