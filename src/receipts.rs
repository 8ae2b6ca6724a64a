//! The receipts of the transfers that this user took part in, as files: a task service may forget.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use protocol::receipt::Receipt;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::private::{Room, make_room_at_times, newest_first, private_dir, write_private};

/// The largest receipt that is read, bytes: an offer with all that it may say, and a completion, fit several
/// times.
const MAX_LEN: u64 = 64 * 1024;

/// What the file of one ends with.
const EXTENSION: &str = "json";

/// The folder of receipts.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    dir: PathBuf,
    /// How many are kept, the newest of all; none for 0.
    keep: usize,
}

impl Receipts {
    /// Those in this home. Touches no disk.
    pub(crate) fn new(home: &Path, keep: usize) -> Self {
        Self { dir: home.join("receipts"), keep }
    }

    /// Keeps the receipt of a transfer that this side took part in, if both ends have signed it, in place of
    /// the oldest ones. Of these some more than are to be kept may stay for a while.
    pub(crate) fn keep(&self, receipt: &Receipt) -> io::Result<()> {
        if self.keep == 0 {
            return Ok(());
        }
        let Some(value) = receipt.to_value() else { return Ok(()) };
        private_dir(&self.dir)?;
        let path = self.dir.join(name_of(&value)).with_extension(EXTENSION);
        let written = write_private(&path, &serde_json::to_vec_pretty(&value)?);
        make_room_at_times(&self.dir, EXTENSION, Room::for_files(self.keep));
        written
    }

    /// The newest receipt of a transfer, by its id or its task's.
    pub(crate) fn find(&self, id: &str) -> Option<Receipt> {
        let is_it = |value: &Value| {
            let is_number =
                |id: &str| value["taskId"].as_u64().is_some_and(|number| number.to_string() == id);
            value["offer"]["transfer_id"] == id || value["taskId"] == id || is_number(id)
        };
        let read = |(_, _, path): (_, _, PathBuf)| read(&path).ok().filter(is_it);
        let found = newest_first(&self.dir, EXTENSION).into_iter().find_map(read);
        found.and_then(|value| Receipt::from_value(&value).ok())
    }
}

/// Reads what may be a receipt.
pub(crate) fn read(path: &Path) -> io::Result<Value> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_LEN + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long for a receipt"));
    }
    Ok(serde_json::from_slice(&text)?)
}

/// SHA-256 of what names the transfer, as hex.
fn name_of(value: &Value) -> String {
    let task_id = value["taskId"].to_string();
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let transfer_id = value["offer"]["transfer_id"].as_str().unwrap_or_default();
    let mut hasher = Sha256::new();
    for part in [text("url"), text("organization"), text("project"), &task_id, transfer_id] {
        hasher.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use protocol::completion::Completion;
    use protocol::identity::IdentityKey;
    use protocol::offer::Offer;
    use protocol::p2p::P2p;
    use protocol::scope::Scope;
    use protocol::statement::{Role, Statement};
    use serde_json::json;

    use super::*;

    fn receipt(transfer_id: &str, task_id: Value) -> Receipt {
        let [sender, receiver] = [1, 2].map(|seed| IdentityKey::from_seed(&[seed; 32]));
        let scope = Scope::new("http://localhost:8787", "o", "p");
        let p2p = json!({ "version": 2, "key": "07".repeat(32), "instance": "01".repeat(16), "seq": 5 });
        let payload = json!({
            "transfer_id": transfer_id, "filename": "f", "size": 42, "hash": "ab".repeat(32),
            "sender_id": "a", "recipient_id": "b", "p2p": p2p,
        });
        let p2p = P2p::from_value(&p2p).unwrap();
        let offer = Offer::from_payload(&payload).unwrap();
        let statement = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &offer };
        let offer = Offer { p2p: Some(statement.sign(p2p.clone(), &sender)), ..offer.clone() };
        let id = task_id.as_str().map_or_else(|| task_id.to_string(), str::to_owned);
        let completion = Completion { duration_ms: 7, completed_at: 9, p2p };
        let outputs = vec![completion.sign(&scope, &id, &offer, &receiver).to_output(&offer, "b")];
        Receipt { scope, task_id, payload: offer.to_payload(), outputs }
    }

    fn files(receipts: &Receipts) -> Vec<(SystemTime, u64, PathBuf)> {
        newest_first(&receipts.dir, EXTENSION)
    }

    #[test]
    fn a_receipt_is_found_by_either_id() {
        let home = tempfile::tempdir().unwrap();
        let receipts = Receipts::new(home.path(), 100);
        for (transfer_id, task_id) in [("t", json!(17)), ("u", json!("x"))] {
            receipts.keep(&receipt(transfer_id, task_id)).unwrap();
        }
        for (id, transfer_id) in [("t", "t"), ("17", "t"), ("u", "u"), ("x", "u")] {
            let found = receipts.find(id).unwrap().check().unwrap();
            assert_eq!(found.offer.transfer_id, transfer_id);
        }
        assert_eq!(receipts.find("7"), None);
    }

    #[test]
    fn as_many_are_kept_as_is_said_the_newest_and_one_of_each_transfer() {
        let home = tempfile::tempdir().unwrap();
        let receipts = Receipts::new(home.path(), 2);
        for (age, id) in [(3, "1"), (2, "2"), (1, "3"), (0, "3")] {
            receipts.keep(&receipt(id, json!(id))).unwrap();
            let then = SystemTime::now() - std::time::Duration::from_secs(3600 * age);
            let [(_, _, newest), ..] = &files(&receipts)[..] else { panic!("none") };
            fs::File::options().write(true).open(newest).unwrap().set_modified(then).unwrap();
        }
        assert_eq!(files(&receipts).len(), 2);
        assert!(receipts.find("1").is_none() && receipts.find("2").is_some() && receipts.find("3").is_some());
        let none = Receipts::new(&home.path().join("none"), 0);
        none.keep(&receipt("t", json!(1))).unwrap();
        assert!(!home.path().join("none").exists());
    }

    #[test]
    fn what_is_not_signed_is_not_kept_and_what_is_no_receipt_not_read() {
        let home = tempfile::tempdir().unwrap();
        let receipts = Receipts::new(home.path(), 2);
        receipts.keep(&Receipt { task_id: json!(18), ..receipt("t", json!(17)) }).unwrap();
        assert!(files(&receipts).is_empty());
        receipts.keep(&receipt("t", json!(17))).unwrap();
        let (_, _, path) = files(&receipts).pop().unwrap();
        fs::write(&path, "x".repeat(100_000)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(receipts.find("t"), None);
    }
}
