//! What files were that came to this process: none of them is read to see that it is another one than a file
//! of the same size that comes next.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::SystemTime,
};

use crate::sync::lock;

/// Files that are known at most, the latest.
const MAX_KNOWN: usize = 1024;

/// The files that came last, by their paths.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    files: HashMap<PathBuf, KnownFile>,
    /// Their paths, the latest last.
    order: VecDeque<PathBuf>,
}

#[derive(Debug)]
struct KnownFile {
    modified: SystemTime,
    hash: String,
}

impl Arrivals {
    /// A file with this SHA-256, lower-case hex, has come to `path`. Blocks.
    pub(crate) fn add(&self, path: &Path, hash: &str) {
        let Some(modified) = modified(path) else { return };
        let mut known = lock(&self.0);
        let known_file = KnownFile { modified, hash: hash.to_owned() };
        if known.files.insert(path.to_owned(), known_file).is_none() {
            known.order.push_back(path.to_owned());
        }
        if known.order.len() > MAX_KNOWN
            && let Some(oldest) = known.order.pop_front()
        {
            known.files.remove(&oldest);
        }
    }

    /// Whether the file at `path` may have this hash: nothing is known of it, or it has, or somebody has
    /// changed it since it came. Who does so without a change of its time is not noticed, and the file comes
    /// once more. Blocks.
    pub(crate) fn may_be(&self, path: &Path, hash: &str) -> bool {
        let modified = modified(path);
        let known = lock(&self.0);
        known.files.get(path).is_none_or(|there| there.hash == hash || Some(there.modified) != modified)
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_came_is_no_other_one_until_somebody_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let arrivals = Arrivals::default();
        arrivals.add(&path, "a");
        assert!(arrivals.may_be(&path, "b"), "there was none");
        fs::write(&path, "x").unwrap();
        assert!(arrivals.may_be(&path, "b"));
        arrivals.add(&path, "a");
        assert!(arrivals.may_be(&path, "a") && !arrivals.may_be(&path, "b"));
        arrivals.add(&path, "b");
        assert!(!arrivals.may_be(&path, "a") && arrivals.may_be(&path, "b"));
        assert!(arrivals.may_be(&dir.path().join("other"), "a"));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(5)).unwrap();
        assert!(arrivals.may_be(&path, "a"));
        fs::remove_file(&path).unwrap();
        assert!(arrivals.may_be(&path, "a"));
    }

    #[test]
    fn no_more_than_the_latest_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let arrivals = Arrivals::default();
        let path = |number: usize| dir.path().join(number.to_string());
        for number in 0..=MAX_KNOWN {
            fs::write(path(number), "").unwrap();
            arrivals.add(&path(number), "a");
            arrivals.add(&path(number), "a");
        }
        assert!(arrivals.may_be(&path(0), "b"));
        assert!([1, MAX_KNOWN].iter().all(|number| !arrivals.may_be(&path(*number), "b")));
        let known = lock(&arrivals.0);
        assert_eq!((known.files.len(), known.order.len()), (MAX_KNOWN, MAX_KNOWN));
    }
}
