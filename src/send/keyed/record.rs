//! What is known of an idempotency key, on disk: which transfer it stands for, and how that ended.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::offer::Metadata;
use crate::private::{private_dir, private_file};

/// The largest record read back, bytes.
const MAX_RECORD_LEN: u64 = 64 * 1024;

/// What the name of a record ends in.
const SUFFIX: &str = "key";

/// How long a key is remembered after it was used last, at least.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an idempotency key stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeyRecord {
    /// Counts what is written, so that no two contents are the same.
    pub(super) revision: u64,
    /// Counts the transfers that the key stood for before this one, and that failed.
    pub(super) attempt: u32,
    pub(super) transfer_id: String,
    pub(super) recipient_id: String,
    pub(super) channel: String,
    pub(super) size: u64,
    /// Of the file; none until it was read. Nothing is offered before it stands here.
    pub(super) hash: Option<String>,
    /// What is said of the file besides, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<String>,
    /// How the transfer ended; none while a process sends, and where that died.
    pub(super) ended: Option<Ended>,
}

/// How a transfer ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ended {
    /// The recipient has the file.
    Delivered {
        /// As the service gave it.
        task_id: Value,
        /// The identity of the recipient, lower-case hex.
        identity: Option<String>,
        resumed_from: u64,
    },
    /// It came to nothing.
    Failed(Error),
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(super) struct KeyRecords {
    dir: PathBuf,
}

/// The right to send under a key, held against all others, those of this process too, until it is dropped.
#[derive(Debug)]
pub(super) struct KeyLock {
    /// Locked, each of them: the file of the record, and those that it has replaced.
    held: Vec<File>,
    path: PathBuf,
    /// What stands there.
    pub(super) record: Option<KeyRecord>,
}

impl KeyRecord {
    /// What is said of the file besides.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        self.metadata.as_deref().and_then(Metadata::parse)
    }
}

impl KeyRecords {
    /// The records in `home/transfers`.
    pub(super) fn new(home: &Path) -> Self {
        Self { dir: home.join("transfers") }
    }

    /// Takes the right to send under the key of this name; `None` while another has it.
    pub(super) fn try_lock(&self, name: &str) -> io::Result<Option<KeyLock>> {
        private_dir(&self.dir)?;
        let path = self.path(name);
        let file = private_file().create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let content = read(&file)?;
        // Who had it before may have put another file in its place, which counts.
        if read_at(&path).ok().as_ref() != Some(&content) {
            return Ok(None);
        }
        let record = serde_json::from_slice(&content).ok();
        Ok(Some(KeyLock { held: vec![file], path, record }))
    }

    /// What stands in the record of this name, while another may send under it.
    pub(super) fn peek(&self, name: &str) -> Option<KeyRecord> {
        serde_json::from_slice(&read_at(&self.path(name)).ok()?).ok()
    }

    /// Forgets the keys that nobody has used for long.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_record = path.extension().is_some_and(|extension| extension == SUFFIX);
            if is_record && age_of(&path).is_some_and(|age| age > KEPT) {
                let Ok(file) = File::open(&path) else { continue };
                if file.try_lock().is_ok() {
                    let _ = fs::remove_file(&path);
                }
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.{SUFFIX}"))
    }
}

impl KeyLock {
    /// Writes the record: whole, and on the disk, before this returns.
    pub(super) fn write(&mut self, mut record: KeyRecord) -> io::Result<()> {
        record.revision = self.record.as_ref().map_or(0, |record| record.revision).saturating_add(1);
        let temporary = self.path.with_extension(format!("{SUFFIX}.{}.tmp", std::process::id()));
        let written = private_file().create(true).truncate(true).open(&temporary).and_then(|mut file| {
            // Nobody finds it before it is locked.
            file.try_lock().map_err(io::Error::from)?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            file.sync_data()?;
            fs::rename(&temporary, &self.path)?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                self.held.push(file);
                self.record = Some(record);
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }
}

fn read_at(path: &Path) -> io::Result<Vec<u8>> {
    read(&File::open(path)?)
}

fn read(mut file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.rewind()?;
    file.take(MAX_RECORD_LEN).read_to_end(&mut content)?;
    Ok(content)
}

fn age_of(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn record(transfer_id: &str) -> KeyRecord {
        KeyRecord {
            revision: 0,
            attempt: 0,
            transfer_id: transfer_id.into(),
            recipient_id: "b".into(),
            channel: "c".into(),
            size: 1,
            hash: None,
            metadata: None,
            ended: None,
        }
    }

    #[test]
    fn one_alone_sends_under_a_key_and_the_next_finds_what_it_wrote() {
        let home = tempfile::tempdir().unwrap();
        let records = KeyRecords::new(home.path());
        let mut lock = records.try_lock("k").unwrap().unwrap();
        assert!(lock.record.is_none() && records.try_lock("k").unwrap().is_none());
        assert!(records.try_lock("another").unwrap().is_some());
        for transfer_id in ["t", "t", "u"] {
            lock.write(record(transfer_id)).unwrap();
            assert!(records.try_lock("k").unwrap().is_none());
            assert_eq!(records.peek("k").unwrap().transfer_id, transfer_id);
        }
        let ended = Ended::Failed(Error::new(Code::Rejected, "no"));
        lock.write(KeyRecord { ended: Some(ended), ..record("u") }).unwrap();
        drop(lock);
        let found = records.try_lock("k").unwrap().unwrap().record.unwrap();
        assert_eq!((found.revision, found.transfer_id.as_str()), (4, "u"));
        assert!(matches!(found.ended, Some(Ended::Failed(error)) if error.code == Code::Rejected));
    }

    #[test]
    fn a_record_that_was_replaced_meanwhile_is_no_lock() {
        let home = tempfile::tempdir().unwrap();
        let records = KeyRecords::new(home.path());
        drop(records.try_lock("k").unwrap().unwrap());
        let path = records.path("k");
        let before = File::open(&path).unwrap();
        let mut lock = records.try_lock("k").unwrap().unwrap();
        lock.write(record("t")).unwrap();
        drop(lock);
        before.try_lock().unwrap();
        assert!(records.try_lock("k").unwrap().is_some(), "the file before is nobody's concern");
    }

    #[test]
    fn keys_that_are_old_are_forgotten_unless_somebody_sends_under_them() {
        let home = tempfile::tempdir().unwrap();
        let records = KeyRecords::new(home.path());
        let long_ago = SystemTime::now() - KEPT - Duration::from_secs(60);
        let age = |name: &str| {
            let file = private_file().open(records.path(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        };
        for name in ["new", "old", "busy"] {
            records.try_lock(name).unwrap().unwrap().write(record("t")).unwrap();
        }
        age("old");
        let _busy = records.try_lock("busy").unwrap();
        age("busy");
        records.sweep();
        assert!(records.peek("new").is_some() && records.peek("busy").is_some());
        assert!(records.peek("old").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_record_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let mut lock = KeyRecords::new(home.path()).try_lock("k").unwrap().unwrap();
        lock.write(record("t")).unwrap();
        assert_eq!(fs::metadata(&lock.path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
