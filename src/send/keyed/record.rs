//! What is known of an idempotency key, on disk: which transfer it stands for, and how that ended.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Code, Error};
use crate::offer::Metadata;
use crate::private::{LockFile, private_dir, private_file};

/// The largest record read back, bytes.
const MAX_RECORD_LEN: u64 = 64 * 1024;

/// What the name of a record ends in.
const SUFFIX: &str = "key";

/// How long a key is remembered after it was used last, at least.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an idempotency key stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeyRecord {
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
    #[expect(dead_code, reason = "it is held")]
    lock: LockFile,
    path: PathBuf,
    /// What stands there.
    pub(super) record: Option<KeyRecord>,
}

impl KeyRecord {
    /// What is said of the file besides.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        self.metadata.as_deref().and_then(Metadata::parse)
    }

    /// The hash of what the key stands for; none where that was not read, or was not what it had been taken
    /// for.
    pub(super) fn offered_hash(&self) -> Option<&String> {
        let changed = |error: &Error| error.code == Code::SourceChanged;
        let is_none = matches!(&self.ended, Some(Ended::Failed(error)) if changed(error));
        self.hash.as_ref().filter(|_| !is_none)
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
        let Some(lock) = LockFile::try_take(lock_of(&path))? else { return Ok(None) };
        let record = match read_at(&path) {
            Ok(content) => serde_json::from_slice(&content).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // It is used now.
        let _ = private_file().open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(KeyLock { lock, path, record }))
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
                let Ok(Some(_lock)) = LockFile::try_take(lock_of(&path)) else { continue };
                // Somebody may have used it in between.
                if age_of(&path).is_some_and(|age| age > KEPT) {
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
    pub(super) fn write(&mut self, record: KeyRecord) -> io::Result<()> {
        let temporary = self.path.with_extension(format!("{SUFFIX}.{}.tmp", std::process::id()));
        let written = private_file().create(true).truncate(true).open(&temporary).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(&record)?)?;
            file.sync_data()?;
            fs::rename(&temporary, &self.path)
        });
        match written {
            Ok(()) => {
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

/// The lock of a record.
fn lock_of(path: &Path) -> PathBuf {
    path.with_extension(format!("{SUFFIX}.lock"))
}

fn read_at(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_RECORD_LEN).read_to_end(&mut content)?;
    Ok(content)
}

fn age_of(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(transfer_id: &str) -> KeyRecord {
        KeyRecord {
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
        assert_eq!(found.transfer_id, "u");
        assert!(matches!(found.ended, Some(Ended::Failed(error)) if error.code == Code::Rejected));
    }

    #[test]
    fn what_changed_while_it_was_sent_binds_nobody() {
        let ended = |code| Some(Ended::Failed(Error::new(code, "over")));
        let of = |ended| KeyRecord { hash: Some("h".into()), ended, ..record("t") };
        assert_eq!(of(ended(Code::SourceChanged)).offered_hash(), None);
        assert_eq!(of(ended(Code::Rejected)).offered_hash(), Some(&"h".into()));
        assert_eq!(of(None).offered_hash(), Some(&"h".into()));
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
        for name in ["new", "old", "used", "busy"] {
            records.try_lock(name).unwrap().unwrap().write(record("t")).unwrap();
        }
        age("old");
        age("used");
        drop(records.try_lock("used").unwrap());
        let _busy = records.try_lock("busy").unwrap();
        age("busy");
        records.sweep();
        for name in ["new", "used", "busy"] {
            assert!(records.peek(name).is_some(), "{name}");
        }
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
