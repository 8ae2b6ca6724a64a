//! What this user has offered and not seen the end of, remembered on disk: so that a process that starts
//! later can take an offer up again, or withdraw it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use secret_stream::KeyPair;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::files::{self, ARCHIVE_SUFFIX, JsonPath, TreeOptions, TreeSize};
use crate::offer::Metadata;
use crate::private::{private_dir, private_file};

/// The largest record, bytes: paths as many as a command line holds, some ids and a few numbers.
const MAX_RECORD_LEN: u64 = 4 * 1024 * 1024;

/// What the name of a record ends in.
const SUFFIX: &str = ".offer";

/// An offer whose end was not seen.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OfferRecord {
    /// The service, organization and project that the task lives in, and who offers.
    pub scope: String,
    pub actor_id: String,
    pub channel: String,
    pub transfer_id: String,
    pub recipient_id: String,
    /// The file, which must still hold what was offered; `None` for bytes that went with their process.
    #[serde(default, with = "crate::files::json_path::optional")]
    pub file_path: Option<PathBuf>,
    /// Where several are that are offered as one, which has no path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_paths: Vec<JsonPath>,
    /// The name that it was offered under; earlier versions took it from the path.
    #[serde(default)]
    pub file_name: Option<String>,
    /// Which parts of a folder are offered, and how much that is.
    #[serde(default)]
    pub tree: Option<(TreeOptions, TreeSize)>,
    pub size: u64,
    pub hash: String,
    /// What is said of it besides, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// How many bytes a second may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<u64>,
    /// When the offer ends, Unix seconds of the service.
    pub expires_at: i64,
    /// How long each wait for the other side lasts, milliseconds.
    pub timeout_ms: u64,
    /// Names this side's part in the transfer, whichever process plays it.
    #[serde(with = "hex_bytes")]
    pub instance: [u8; 16],
    /// The connection's key pair, which the recipient may know already.
    #[serde(with = "hex_bytes")]
    pub seed: [u8; 32],
    /// The transfer is over, but the service could not be told.
    pub is_over: bool,
}

impl OfferRecord {
    /// Whether nobody waits for the offer any more, at this time of the service in Unix seconds.
    pub(crate) fn is_over_at(&self, now: i64) -> bool {
        self.is_over || now > self.expires_at
    }

    /// What is said of the file besides.
    pub(crate) fn metadata(&self) -> Option<Metadata> {
        self.metadata.as_deref().and_then(Metadata::parse)
    }

    /// The name that it was offered under.
    pub(crate) fn file_name(&self) -> String {
        let of_path = || self.file_path.as_deref().and_then(Path::file_name).unwrap_or_default();
        self.file_name.clone().unwrap_or_else(|| of_path().to_string_lossy().into_owned())
    }

    /// The name that the file or the folder has here.
    pub(crate) fn local_name(&self) -> String {
        let name = self.file_name();
        let folder = self.tree.as_ref().and_then(|_| name.strip_suffix(ARCHIVE_SUFFIX).map(str::to_owned));
        folder.unwrap_or(name)
    }

    /// Where what is offered is; nowhere, of bytes that went with their process.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let several = self.file_paths.iter().map(|JsonPath(path)| path);
        self.file_path.iter().chain(several).cloned().collect()
    }

    /// The file as errors call it.
    pub(crate) fn shown(&self) -> String {
        self.file_path.as_deref().map_or_else(|| files::display(&self.local_name()), files::display_path)
    }

    /// The connection's key pair.
    pub(crate) fn key_pair(&self) -> KeyPair {
        KeyPair::from_seed(&self.seed)
    }
}

/// The record of an offer that has come to its end. It stays until this is dropped, by whoever was told of
/// the end: a process that dies before leaves it to the next, which tells.
#[derive(Debug)]
pub(crate) struct EndedRecord(Option<OpenRecord>);

/// What is found of an offer.
pub(crate) enum FoundOffer {
    /// Nothing.
    Nothing,
    /// A process goes on with it, or is just forgetting it.
    Busy,
    /// No process goes on with it but this one, now.
    Free(OpenRecord, Box<OfferRecord>),
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(crate) struct OfferRecords {
    dir: PathBuf,
}

/// The record of an offer that this process alone goes on with. It stays on the disk until it is forgotten.
#[derive(Debug)]
pub(crate) struct OpenRecord {
    /// Locked while it is open.
    file: File,
    path: PathBuf,
}

impl OfferRecords {
    /// The records in `home/transfers`.
    pub(crate) fn new(home: &Path) -> Self {
        Self { dir: home.join("transfers") }
    }

    /// Remembers an offer. No machine that loses power has to find it again: the offer ends at its time.
    pub(crate) fn write(&self, record: &OfferRecord) -> io::Result<OpenRecord> {
        if let Some(home) = self.dir.parent() {
            private_dir(home)?;
        }
        private_dir(&self.dir)?;
        let path = self.path(&record.transfer_id);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = private_file().create(true).truncate(true).open(&temporary).and_then(|file| {
            // Nobody finds it before it is locked.
            file.try_lock().map_err(io::Error::from)?;
            let mut open = OpenRecord { file, path: path.clone() };
            open.rewrite(record)?;
            fs::rename(&temporary, &path)?;
            Ok(open)
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// The offers that are `wanted` and that no process goes on with. One that can't be read is removed.
    pub(crate) fn left_behind(
        &self,
        wanted: impl Fn(&OfferRecord) -> bool,
    ) -> Vec<(OpenRecord, OfferRecord)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let is_record = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
        // What is not wanted is not locked: another process may want it at this moment.
        let is_wanted = |path: &PathBuf| {
            File::open(path).ok().and_then(|file| read(&file)).is_none_or(|record| wanted(&record))
        };
        paths
            .filter(is_record)
            .filter(is_wanted)
            .filter_map(|path| OpenRecord::open(path).ok().flatten())
            .collect()
    }

    /// The offer of a transfer.
    pub(crate) fn find(&self, transfer_id: &str) -> FoundOffer {
        let path = self.path(transfer_id);
        match OpenRecord::open(path.clone()) {
            Ok(Some((open, record))) => FoundOffer::Free(open, Box::new(record)),
            Ok(None) if path.exists() => FoundOffer::Busy,
            Ok(None) | Err(_) => FoundOffer::Nothing,
        }
    }

    fn path(&self, transfer_id: &str) -> PathBuf {
        self.dir.join(format!("{}{SUFFIX}", hex::encode(Sha256::digest(transfer_id))))
    }
}

impl OpenRecord {
    /// Opens a record and locks it; `None` while another process has it, or once it is gone.
    fn open(path: PathBuf) -> io::Result<Option<(Self, OfferRecord)>> {
        let file = private_file().open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Who had it may have forgotten it between the two: then nothing is at the path any more.
        if !path.exists() {
            return Ok(None);
        }
        match read(&file) {
            Some(record) => Ok(Some((Self { file, path }, record))),
            None => {
                fs::remove_file(&path)?;
                Ok(None)
            }
        }
    }

    /// Writes the record anew.
    pub(crate) fn rewrite(&mut self, record: &OfferRecord) -> io::Result<()> {
        let text = serde_json::to_vec(record)?;
        if u64::try_from(text.len()).is_ok_and(|len| len > MAX_RECORD_LEN) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there are too many paths"));
        }
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&text)
    }

    /// The record of an offer that has ended, until that was told.
    pub(crate) fn ended(self) -> EndedRecord {
        EndedRecord(Some(self))
    }

    /// Removes the record: the offer has come to its end.
    pub(crate) fn forget(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("the record of an offer stays behind: {error}");
        }
    }
}

impl Drop for EndedRecord {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.forget();
        }
    }
}

fn read(file: &File) -> Option<OfferRecord> {
    let mut text = Vec::new();
    file.take(MAX_RECORD_LEN).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Bytes as lower-case hex.
mod hex_bytes {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes).map_err(D::Error::custom)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(transfer_id: &str) -> OfferRecord {
        OfferRecord {
            scope: "scope".into(),
            actor_id: "a".into(),
            channel: "c".into(),
            transfer_id: transfer_id.into(),
            recipient_id: "b".into(),
            file_path: Some("/f".into()),
            file_paths: Vec::new(),
            file_name: None,
            tree: None,
            size: 1,
            hash: "0".repeat(64),
            metadata: Some("{}".into()),
            max_rate: None,
            expires_at: 1,
            timeout_ms: 1,
            instance: [7; 16],
            seed: [9; 32],
            is_over: false,
        }
    }

    fn of(scope: &'static str, actor_id: &'static str) -> impl Fn(&OfferRecord) -> bool {
        move |record| record.scope == scope && record.actor_id == actor_id
    }

    #[test]
    fn an_offer_that_is_open_here_is_left_to_this_process() {
        let home = tempfile::tempdir().unwrap();
        let records = OfferRecords::new(home.path());
        let open = records.write(&record("t")).unwrap();
        assert!(records.left_behind(of("scope", "a")).is_empty());
        assert!(
            matches!(records.find("t"), FoundOffer::Busy) && matches!(records.find("u"), FoundOffer::Nothing)
        );
        drop(open);
        assert!(matches!(records.find("t"), FoundOffer::Free(_, record) if record.transfer_id == "t"));
        let mut found = records.left_behind(of("scope", "a"));
        let (open, read) = found.pop().unwrap();
        assert_eq!((read.seed, read.instance), ([9; 32], [7; 16]));
        assert_eq!((read.metadata(), read.hash), (Metadata::parse("{}"), "0".repeat(64)));
        assert!(found.is_empty() && records.left_behind(of("scope", "a")).is_empty());
        open.forget();
        assert!(fs::read_dir(home.path().join("transfers")).unwrap().next().is_none());
    }

    #[test]
    fn offers_of_others_and_what_is_no_record_are_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let records = OfferRecords::new(home.path());
        drop(records.write(&record("t")).unwrap());
        let damaged = home.path().join("transfers").join("x.offer");
        fs::write(&damaged, b"{").unwrap();
        assert!(records.left_behind(of("scope", "b")).is_empty());
        assert!(records.left_behind(of("another", "a")).is_empty());
        assert_eq!(records.left_behind(of("scope", "a")).len(), 1);
        assert!(!damaged.exists());
    }

    #[test]
    fn an_offer_of_several_is_found_with_all_their_paths_unless_those_are_too_many() {
        let home = tempfile::tempdir().unwrap();
        let records = OfferRecords::new(home.path());
        let of = |count: u32| {
            let file_paths = (0..count).map(|number| JsonPath(format!("/{number:0>199}").into())).collect();
            OfferRecord { file_path: None, file_paths, ..record("t") }
        };
        drop(records.write(&of(5000)).unwrap());
        let FoundOffer::Free(open, found) = records.find("t") else { panic!("it is not found") };
        assert_eq!(found.paths(), of(5000).paths());
        open.forget();
        records.write(&of(25_000)).unwrap_err();
        assert!(fs::read_dir(home.path().join("transfers")).unwrap().next().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_record_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let open = OfferRecords::new(home.path()).write(&record("t")).unwrap();
        assert_eq!(fs::metadata(&open.path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
