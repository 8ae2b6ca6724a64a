//! What this user has received, remembered on disk: so that two processes of one actor do not take the
//! same file at once, and a completion that the task service missed is made up for at the next start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How long a finished transfer is remembered: as long as a partial file is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The largest record read back, bytes: a path, two ids and a few numbers fit many times.
const MAX_RECORD_LEN: u64 = 64 * 1024;

/// Names a transfer on this disk: the same offer of the same task of the same service, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordId(String);

impl RecordId {
    /// SHA-256 of the parts, each behind its length as a big-endian u32, so that no two lists collide.
    pub(crate) fn of(parts: &[&str]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Self(hex::encode(hasher.finalize()))
    }

    /// The id in lower-case hex, 64 digits.
    pub(crate) fn as_hex(&self) -> &str {
        &self.0
    }

    /// The first 16 digits, as partial files carry them in their names.
    pub(crate) fn short(&self) -> &str {
        &self.0[..16]
    }
}

/// A file that arrived whole, and how its task is to be completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The service, organization and project that the task lives in.
    pub scope: String,
    /// As the service gave it.
    pub task_id: Value,
    /// As the sender chose it.
    pub transfer_id: String,
    /// Where the file is.
    pub file_path: PathBuf,
    /// What the task is completed with.
    pub outputs: Vec<Value>,
    /// Whether the service has taken the completion.
    pub completed: bool,
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

/// The right to receive one transfer, held against other processes until dropped.
#[derive(Debug)]
pub(crate) struct RecordLock {
    _file: File,
}

impl Records {
    /// Opens `home/transfers`, making both for this user alone where they are missing.
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        let dir = home.join("transfers");
        private_dir(home)?;
        private_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Finds out whether records can be written, by writing and removing one of nothing.
    pub(crate) fn try_write(&self) -> io::Result<()> {
        let path = self.dir.join(format!("try.{}.tmp", std::process::id()));
        private_file().create(true).truncate(true).open(&path)?.write_all(b"{}")?;
        fs::remove_file(&path)
    }

    /// Takes the lock of a transfer; `None` while another process holds it.
    ///
    /// The lock file stays when the lock goes: removing it could leave two processes holding one lock, on
    /// two files of the same name.
    pub(crate) fn lock(&self, id: &RecordId) -> io::Result<Option<RecordLock>> {
        let path = self.dir.join(format!("{}.lock", id.as_hex()));
        let file = private_file().create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RecordLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What is remembered of a finished transfer.
    pub(crate) fn read(&self, id: &RecordId) -> Option<Done> {
        read_record(&self.path(id))
    }

    /// Remembers a finished transfer, whatever becomes of this process. A machine that loses power may
    /// forget it: the file, which is on the disk, is then received once more if its offer still stands.
    pub(crate) fn write(&self, id: &RecordId, done: &Done) -> io::Result<()> {
        let text = serde_json::to_vec(done)?;
        let temporary = self.dir.join(format!("{}.{}.tmp", id.as_hex(), std::process::id()));
        let result = private_file().create(true).truncate(true).open(&temporary).and_then(|mut file| {
            file.write_all(&text)?;
            fs::rename(&temporary, self.path(id))
        });
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    /// The finished transfers of `scope` whose tasks the service has not seen completed, and their ids.
    /// Forgets, on the way, what finished long ago.
    pub(crate) fn unreported(&self, scope: &str) -> Vec<(RecordId, Done)> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if age(&path).is_some_and(|age| age > KEPT) {
                let _ = fs::remove_file(&path);
            } else if let Some(id) = record_id(&path)
                && let Some(done) = read_record(&path)
                && !done.completed
                && done.scope == scope
            {
                found.push((id, done));
            }
        }
        found
    }

    fn path(&self, id: &RecordId) -> PathBuf {
        self.dir.join(format!("{}.json", id.as_hex()))
    }
}

fn record_id(path: &Path) -> Option<RecordId> {
    let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
    crate::offer::is_sha256_hex(name).then(|| RecordId(name.to_owned()))
}

fn read_record(path: &Path) -> Option<Done> {
    if fs::metadata(path).ok()?.len() > MAX_RECORD_LEN {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Makes a folder that only this user can look into.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(scope: &str, completed: bool) -> Done {
        Done {
            scope: scope.into(),
            task_id: Value::from(7),
            transfer_id: "t".into(),
            file_path: "/in/data.csv".into(),
            outputs: vec![serde_json::json!({"verified": true})],
            completed,
        }
    }

    #[test]
    fn ids_differ_where_only_the_cut_between_parts_does() {
        assert_ne!(RecordId::of(&["ab", "c"]), RecordId::of(&["a", "bc"]));
        assert_eq!(RecordId::of(&["ab", "c"]), RecordId::of(&["ab", "c"]));
    }

    #[test]
    fn a_lock_is_held_once_and_free_after_its_drop() {
        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        let id = RecordId::of(&["x"]);
        let lock = records.lock(&id).unwrap().expect("free");
        assert!(records.lock(&id).unwrap().is_none());
        drop(lock);
        assert!(records.lock(&id).unwrap().is_some());
    }

    #[test]
    fn what_the_service_missed_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        let (missed, told, elsewhere) = (RecordId::of(&["1"]), RecordId::of(&["2"]), RecordId::of(&["3"]));
        records.write(&missed, &done("here", false)).unwrap();
        records.write(&told, &done("here", true)).unwrap();
        records.write(&elsewhere, &done("there", false)).unwrap();
        assert_eq!(records.unreported("here"), vec![(missed.clone(), done("here", false))]);
        records.write(&missed, &done("here", true)).unwrap();
        assert_eq!(records.unreported("here"), vec![]);
        assert_eq!(records.read(&missed), Some(done("here", true)));
    }
}
