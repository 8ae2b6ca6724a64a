//! What this user receives and has received, remembered on disk: so that two processes of one actor do not
//! take the same file at once, a transfer whose process died goes on at the next start, and a completion
//! that the task service missed is made up for then.
//!
//! Of each transfer there are up to three files, named by its id: `.lock` while a process works on it,
//! `.sums`, what is remembered of the bytes so far, and `.json`, what is to become of them; that is `.done`
//! once the service knows of the file, and then one of the last few. All go when the transfer is over, and
//! otherwise in time.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::files::{Existing, SafeName, Target};
use crate::private::{
    LockFile, Room, has_extension, make_room_at_times, private_dir, try_to_write, write_private,
};

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

/// Files that arrived, and whose completion the service has taken, that are remembered at most.
const MAX_SETTLED: usize = 64;

/// What their records end with.
const SETTLED: &str = "done";

/// Transfers of dead processes that are taken up at one start at most.
const MAX_OPEN: usize = 1024;

/// A transfer that a process works on, or worked on when it died.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Open {
    /// The service, organization and project that the task lives in.
    pub scope: String,
    /// Who receives.
    pub actor_id: String,
    /// As the service gave it.
    pub task_id: Value,
    /// Where the file is to go.
    pub place: OpenPlace,
    /// Names this side's part in the transfer, lower-case hex.
    pub instance: String,
    /// What the key pair is made of by which the sender knows this side, lower-case hex.
    pub seed: String,
    /// Whether the transfer failed here: whoever asked for it knows, and does not wait for it any more.
    pub failed: bool,
}

/// Where a file is to go; its folder stands whatever the working directory becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OpenPlace {
    /// To this very path.
    Exact {
        #[serde(with = "crate::files::json_path")]
        path: PathBuf,
        overwrite: bool,
    },
    /// Into this folder, under the name that is offered.
    InFolder {
        #[serde(with = "crate::files::json_path")]
        dir: PathBuf,
        /// Earlier versions knew one way.
        #[serde(default)]
        existing: Existing,
    },
}

/// What the record of a transfer holds.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Done(Done),
    Open(Open),
}

/// A file that arrived whole, and how its task is to be completed; it is forgotten once the service has
/// taken that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The service, organization and project that the task lives in.
    pub scope: String,
    /// As the service gave it.
    pub task_id: Value,
    /// As the sender chose it.
    pub transfer_id: String,
    /// Where the file is; `None` where a reader had it.
    #[serde(default, with = "crate::files::json_path::optional")]
    pub file_path: Option<PathBuf>,
    /// What the task is completed with.
    pub outputs: Vec<Value>,
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens `home/transfers`, making both for this user alone where they are missing.
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        let dir = home.join("transfers");
        private_dir(home)?;
        private_dir(&dir)?;
        Ok(Self { dir })
    }

    /// The records in `home`, where there are any.
    pub(crate) fn existing(home: &Path) -> Option<Self> {
        let dir = home.join("transfers");
        dir.is_dir().then_some(Self { dir })
    }

    /// Finds out whether records can be written.
    pub(crate) fn try_write(&self) -> io::Result<()> {
        try_to_write(&self.dir)
    }

    /// Takes the lock of a transfer; `None` while another process holds it.
    pub(crate) fn lock(&self, id: &RecordId) -> io::Result<Option<LockFile>> {
        LockFile::try_take(self.dir.join(format!("{}.lock", id.as_hex())))
    }

    /// Where the bytes of a transfer are remembered.
    pub(crate) fn sums(&self, id: &RecordId) -> PathBuf {
        self.dir.join(format!("{}.sums", id.as_hex()))
    }

    /// What is remembered of a finished transfer.
    pub(crate) fn read(&self, id: &RecordId) -> Option<Done> {
        match read_entry(&self.path(id)).or_else(|| read_entry(&self.settled_path(id)))? {
            Entry::Done(done) => Some(done),
            Entry::Open(_) => None,
        }
    }

    /// What is remembered of a transfer that is not finished.
    pub(crate) fn read_open(&self, id: &RecordId) -> Option<Open> {
        match read_entry(&self.path(id))? {
            Entry::Open(open) => Some(open),
            Entry::Done(_) => None,
        }
    }

    /// Remembers a finished transfer, whatever becomes of this process. A machine that loses power may
    /// forget it: the file, which is on the disk, is then received once more if its offer still stands.
    pub(crate) fn write(&self, id: &RecordId, done: &Done) -> io::Result<()> {
        self.write_entry(id, &Entry::Done(done.clone()))
    }

    /// Remembers a transfer that begins.
    pub(crate) fn write_open(&self, id: &RecordId, open: &Open) -> io::Result<()> {
        self.write_entry(id, &Entry::Open(open.clone()))
    }

    /// Notes that the service has taken a completion. The file that arrived is remembered a while longer: its
    /// task may be opened again.
    pub(crate) fn settle(&self, id: &RecordId) {
        if fs::rename(self.path(id), self.settled_path(id)).is_err() {
            let _ = fs::remove_file(self.path(id));
        }
        let _ = fs::remove_file(self.sums(id));
        make_room_at_times(&self.dir, SETTLED, Room::for_files(MAX_SETTLED));
    }

    /// Forgets a transfer. What it has left beside its target is another matter.
    pub(crate) fn forget(&self, id: &RecordId) {
        let _ = fs::remove_file(self.path(id));
        let _ = fs::remove_file(self.sums(id));
    }

    fn write_entry(&self, id: &RecordId, entry: &Entry) -> io::Result<()> {
        write_private(&self.path(id), &serde_json::to_vec(entry)?)
    }

    /// The finished transfers of `scope` whose tasks the service has not seen completed, and their ids.
    pub(crate) fn unreported(&self, scope: &str) -> Vec<(RecordId, Done)> {
        let done = self.entries().filter_map(|(id, entry)| match entry {
            Entry::Done(done) if done.scope == scope => Some((id, done)),
            Entry::Done(_) | Entry::Open(_) => None,
        });
        done.collect()
    }

    /// The ids of transfers of `scope` to this actor that nobody here works on any more, if their processes
    /// died; some of them may yet be worked on by others.
    pub(crate) fn unfinished(&self, scope: &str, actor_id: &str) -> Vec<RecordId> {
        let open = self.open_of(scope, actor_id).into_iter();
        open.filter_map(|(id, open)| (!open.failed).then_some(id)).collect()
    }

    /// All transfers of `scope` to this actor that are not finished, those that failed here included.
    pub(crate) fn open_of(&self, scope: &str, actor_id: &str) -> Vec<(RecordId, Open)> {
        let open = self.entries().filter_map(|(id, entry)| match entry {
            Entry::Open(open) if open.scope == scope && open.actor_id == actor_id => Some((id, open)),
            Entry::Done(_) | Entry::Open(_) => None,
        });
        open.take(MAX_OPEN).collect()
    }

    /// Forgets what was written `age` ago and that nobody works on, and tells `left` of each transfer that
    /// had begun and was not finished.
    pub(crate) fn expire(&self, age: Duration, mut left: impl FnMut(&RecordId, &Open)) {
        for path in self.paths() {
            if age_of(&path).is_none_or(|old| old < age) {
                continue;
            }
            let Some(id) = id_of(&path) else {
                // Half written, or none of ours.
                if has_extension(&path, "tmp") {
                    let _ = fs::remove_file(&path);
                }
                continue;
            };
            // Dropped, the lock takes its file away.
            let Ok(Some(_lock)) = self.lock(&id) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => {
                    if let Some(open) = self.read_open(&id) {
                        left(&id, &open);
                    }
                    self.forget(&id);
                }
                Some(SETTLED) => {
                    let _ = fs::remove_file(&path);
                }
                // Without a record nobody asks for it any more.
                Some("sums") if !self.path(&id).exists() => self.forget(&id),
                _ => {}
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = (RecordId, Entry)> {
        let records = self.paths().filter(|path| has_extension(path, "json"));
        records.filter_map(|path| Some((id_of(&path)?, read_entry(&path)?)))
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> + use<> {
        fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    fn settled_path(&self, id: &RecordId) -> PathBuf {
        self.dir.join(id.as_hex()).with_extension(SETTLED)
    }

    fn path(&self, id: &RecordId) -> PathBuf {
        self.dir.join(format!("{}.json", id.as_hex()))
    }
}

impl Open {
    /// What names this side's part in the transfer, and the seed of its key pair; `None` where they can't be
    /// read.
    pub(crate) fn keys(&self) -> Option<([u8; 16], [u8; 32])> {
        let (mut instance, mut seed) = ([0; 16], [0; 32]);
        hex::decode_to_slice(&self.instance, &mut instance).ok()?;
        hex::decode_to_slice(&self.seed, &mut seed).ok()?;
        Some((instance, seed))
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("task_id", &self.task_id)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl OpenPlace {
    /// The place that a target names.
    pub(crate) fn of(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Exact { path, overwrite } => {
                Self::Exact { path: std::path::absolute(path)?, overwrite: *overwrite }
            }
            Target::InFolder { dir, existing, .. } => {
                Self::InFolder { dir: std::path::absolute(dir)?, existing: *existing }
            }
        })
    }

    /// The target there, for a file that is to have this name in a folder.
    pub(crate) fn target(&self, name: SafeName) -> Target {
        match self {
            Self::Exact { path, overwrite } => Target::Exact { path: path.clone(), overwrite: *overwrite },
            Self::InFolder { dir, existing } => {
                Target::InFolder { dir: dir.clone(), name, existing: *existing }
            }
        }
    }
}

/// The transfer that a file of the folder belongs to.
fn id_of(path: &Path) -> Option<RecordId> {
    let name = path.file_stem()?.to_str()?;
    crate::offer::is_sha256_hex(name).then(|| RecordId(name.to_owned()))
}

fn read_entry(path: &Path) -> Option<Entry> {
    if fs::metadata(path).ok()?.len() > MAX_RECORD_LEN {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn age_of(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private::make_room;

    fn done(scope: &str) -> Done {
        Done {
            scope: scope.into(),
            task_id: Value::from(7),
            transfer_id: "t".into(),
            file_path: Some("/in/data.csv".into()),
            outputs: vec![serde_json::json!({"verified": true})],
        }
    }

    #[test]
    fn ids_differ_where_only_the_cut_between_parts_does() {
        assert_ne!(RecordId::of(&["ab", "c"]), RecordId::of(&["a", "bc"]));
        assert_eq!(RecordId::of(&["ab", "c"]), RecordId::of(&["ab", "c"]));
    }

    /// One of two took the other's file away, and its owner was told of trouble that was none.
    #[test]
    fn many_find_out_at_once_whether_records_can_be_written() {
        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| records.try_write().unwrap()));
            }
        });
        assert_eq!(names(&records), [""; 0]);
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

    fn open(scope: &str) -> Open {
        Open {
            scope: scope.into(),
            actor_id: "b".into(),
            task_id: Value::from(7),
            place: OpenPlace::InFolder { dir: "/in".into(), existing: Existing::Skip },
            instance: "01".repeat(16),
            seed: "02".repeat(32),
            failed: false,
        }
    }

    fn names(records: &Records) -> Vec<String> {
        let mut names: Vec<String> =
            records.paths().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_begun_is_found_again_by_its_own_actor_until_it_is_done() {
        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        let (begun, failed, elsewhere) = (RecordId::of(&["1"]), RecordId::of(&["2"]), RecordId::of(&["3"]));
        records.write_open(&begun, &open("here")).unwrap();
        records.write_open(&failed, &Open { failed: true, ..open("here") }).unwrap();
        records.write_open(&elsewhere, &open("there")).unwrap();
        assert_eq!(records.unfinished("here", "b"), std::slice::from_ref(&begun));
        assert_eq!(records.unfinished("here", "c"), []);
        let read = records.read_open(&begun).unwrap();
        assert_eq!((read.keys(), &read), (Some(([1; 16], [2; 32])), &open("here")));
        assert_eq!(records.read(&begun), None);
        records.write(&begun, &done("here")).unwrap();
        assert_eq!(records.unfinished("here", "b"), []);
        assert_eq!(records.read_open(&begun), None);
    }

    #[cfg(unix)]
    #[test]
    fn of_a_lock_nothing_is_left_and_no_two_hold_it_meanwhile() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        let id = RecordId::of(&["x"]);
        let holders = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Some(lock) = records.lock(&id).unwrap() else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(names(&records), [""; 0]);
    }

    #[test]
    fn what_nobody_works_on_any_more_goes_in_time() {
        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        let (begun, over, locked) = (RecordId::of(&["1"]), RecordId::of(&["2"]), RecordId::of(&["3"]));
        records.write_open(&begun, &open("here")).unwrap();
        records.write(&over, &done("here")).unwrap();
        records.write_open(&locked, &open("here")).unwrap();
        for id in [&begun, &locked, &RecordId::of(&["4"])] {
            fs::write(records.sums(id), "x").unwrap();
        }
        // Left by processes that died.
        fs::write(records.dir.join(format!("{}.lock", over.as_hex())), "").unwrap();
        fs::write(records.dir.join(format!("{}.7.tmp", over.as_hex())), "").unwrap();
        let _lock = records.lock(&locked).unwrap().unwrap();
        let mut left = Vec::new();
        records.expire(Duration::from_secs(3600), |id, _| left.push(id.clone()));
        assert!(left.is_empty() && names(&records).len() == 9, "{:?}", names(&records));
        records.expire(Duration::ZERO, |id, open| {
            assert_eq!(open.actor_id, "b");
            left.push(id.clone());
        });
        assert_eq!(left, [begun]);
        let hex = locked.as_hex();
        assert_eq!(names(&records), [format!("{hex}.json"), format!("{hex}.lock"), format!("{hex}.sums")]);
    }

    #[test]
    fn what_the_service_missed_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        let (missed, elsewhere) = (RecordId::of(&["1"]), RecordId::of(&["2"]));
        records.write(&missed, &done("here")).unwrap();
        records.write(&elsewhere, &done("there")).unwrap();
        assert_eq!(records.unreported("here"), vec![(missed.clone(), done("here"))]);
        assert_eq!(records.read(&missed), Some(done("here")));
        records.settle(&missed);
        assert_eq!(records.unreported("here"), vec![]);
        assert_eq!(records.read(&missed), Some(done("here")), "its task may be opened again");
        records.forget(&elsewhere);
        for number in 0..2 * MAX_SETTLED {
            let id = RecordId::of(&[&number.to_string()]);
            records.write(&id, &done("here")).unwrap();
            records.settle(&id);
        }
        make_room(&records.dir, SETTLED, Room::for_files(MAX_SETTLED));
        assert_eq!(names(&records).len(), MAX_SETTLED);
    }
}
