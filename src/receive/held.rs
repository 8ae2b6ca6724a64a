//! Files that are offered and are here already: such a one is copied, and no byte of it moves.
//!
//! Who offers a file and sees that no byte is wanted knows that it is here. So it is looked for only where
//! its sender is known by its identity, and only in the folder that it is to be saved in, and where files
//! came to that the same sender has sent. Those are remembered by a file each, named by all that must be the
//! same. Whatever is found counts only once the copy has the hash that is offered.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::record::RecordId;
use crate::context::Context;
use crate::error::Result;
use crate::event::{PeerIdentity, Phase};
use crate::files::{self, JsonPath, Partial, Source, Target};
use crate::offer::inbox::OpenOffer;
use crate::private::{Room, make_room_at_times, private_dir, write_private};
use crate::sync::{blocking, spawn_blocking};
use crate::transfer::TransferEvents;
use crate::trust::Standing;

/// The smallest file that is looked for, bytes: one that is smaller comes as soon as it is found.
const LEAST_SIZE: u64 = 1024 * 1024;

/// Files of a folder that are read, of those which have the right size.
const MAX_TRIED: usize = 2;

/// The part of the longest wait that looking may take: the sender waits for its offer to be claimed.
const SHARE_OF_WAIT: u32 = 4;

/// Places that are remembered at most, the newest.
const MAX_PLACES: usize = 4096;

/// What the entry of one ends with.
const EXTENSION: &str = "json";

/// The largest entry read back, bytes: a path fits several times.
const MAX_ENTRY_LEN: u64 = 64 * 1024;

/// Where files are that have come.
#[derive(Clone, Debug)]
struct PlaceIndex {
    home: PathBuf,
    dir: PathBuf,
}

/// Fills a file of which nothing has come with the same one that is here already, if its sender may know that
/// it is.
pub(super) async fn fill(
    context: &Context,
    open: &OpenOffer,
    target: &Target,
    mut partial: Partial,
    events: &Arc<TransferEvents>,
    cancel: &CancellationToken,
) -> Result<Partial> {
    let (hash, size) = (open.offer.hash.clone(), open.offer.size);
    if partial.written() > 0 || size < LEAST_SIZE || !may_know(context, open) {
        return Ok(partial);
    }
    let (index, name) = (PlaceIndex::new(context), name_of(context, open));
    let (hashes, until) = (context.hashes.clone(), Instant::now() + context.options.timeout / SHARE_OF_WAIT);
    let (target, events, stop) = (target.clone(), events.clone(), cancel.child_token());
    let arrivals = context.arrivals.clone();
    blocking(move || {
        let read = |bytes| {
            events.hashed(bytes, size);
            if Instant::now() >= until {
                stop.cancel();
            }
        };
        let before = name.and_then(|name| index.find(&name));
        if let Some(source) = before.as_deref().and_then(|path| candidate(path, size)) {
            events.enter(Phase::Hashing);
            if partial.adopt(&source, &hash, read, &stop)? {
                return Ok(partial);
            }
        }
        let others = files::of_size(&target, size).into_iter();
        let others = others.filter(|path| Some(path) != before.as_ref() && arrivals.may_be(path, &hash));
        for source in others.take(MAX_TRIED).filter_map(|path| candidate(&path, size)) {
            events.enter(Phase::Hashing);
            // One that only has the same size is read once, and not copied for that.
            let is_it = source.hash_once(&hashes, read, &stop).is_ok_and(|there| there == hash);
            if is_it && partial.adopt(&source, &hash, read, &stop)? {
                return Ok(partial);
            }
        }
        Ok(partial)
    })
    .await
}

/// Remembers what a file is that has come, and where.
pub(super) async fn remember(context: &Context, open: &OpenOffer, path: &Path) {
    if open.offer.size < LEAST_SIZE {
        return;
    }
    let (index, name) = (PlaceIndex::new(context), name_of(context, open));
    let (arrivals, hash, path) = (context.arrivals.clone(), open.offer.hash.clone(), path.to_owned());
    let written = spawn_blocking(move || {
        arrivals.add(&path, &hash);
        name.map_or(Ok(()), |name| index.write(&name, &path))
    });
    if let Ok(Err(error)) = written.await {
        tracing::debug!(%error, "where a received file is could not be remembered");
    }
}

/// Whether the sender of an offer may learn that the file is here: it has shown its identity, and the owner
/// has named its actor, or it is the one that is known. It must also be able to leave bytes out.
fn may_know(context: &Context, open: &OpenOffer) -> bool {
    let PeerIdentity { identity, standing } = open.peer;
    let is_named = || {
        let named = context.options.allowed_peers.iter().flatten();
        named.into_iter().any(|peer| peer.actor == open.offer.sender_id)
    };
    identity.is_some()
        && (matches!(standing, Standing::Known | Standing::HandedOver) || is_named())
        && open.offer.p2p.as_ref().is_some_and(|p2p| p2p.features.resume)
}

/// What names the entry of a file of this sender; `None` without an identity.
fn name_of(context: &Context, open: &OpenOffer) -> Option<RecordId> {
    let identity = hex::encode(open.peer.identity?);
    let (offer, scope) = (&open.offer, context.scope());
    let size = offer.size.to_string();
    Some(RecordId::of(&[&scope, context.actor_id(), &offer.sender_id, &identity, &offer.hash, &size]))
}

/// A regular file of this size, open.
fn candidate(path: &Path, size: u64) -> Option<Source> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    Source::open(path).ok().filter(|source| is_file && source.size() == size)
}

impl PlaceIndex {
    fn new(context: &Context) -> Self {
        Self::within(&context.options.home)
    }

    fn within(home: &Path) -> Self {
        Self { home: home.to_owned(), dir: home.join("received") }
    }

    /// Where a file came to that may be there yet.
    fn find(&self, name: &RecordId) -> Option<PathBuf> {
        let mut entry = Vec::new();
        let file = File::open(self.path(name)).ok()?;
        file.take(MAX_ENTRY_LEN).read_to_end(&mut entry).ok()?;
        let JsonPath(path) = serde_json::from_slice(&entry).ok()?;
        Some(path)
    }

    fn write(&self, name: &RecordId, path: &Path) -> io::Result<()> {
        private_dir(&self.home)?;
        private_dir(&self.dir)?;
        let entry = serde_json::to_vec(&JsonPath(std::path::absolute(path)?))?;
        write_private(&self.path(name), &entry)?;
        make_room_at_times(&self.dir, EXTENSION, Room::for_files(MAX_PLACES));
        Ok(())
    }

    fn path(&self, name: &RecordId) -> PathBuf {
        self.dir.join(name.as_hex()).with_extension(EXTENSION)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::private::make_room;

    #[test]
    fn the_places_of_so_many_files_are_remembered_the_newest() {
        let home = tempfile::tempdir().unwrap();
        let index = PlaceIndex::within(home.path());
        let name = |number: u64| RecordId::of(&[&number.to_string()]);
        for number in 0..4 {
            let path = PathBuf::from(format!("/in/größe {number}"));
            assert_eq!(index.find(&name(number)), None);
            index.write(&name(number), &path).unwrap();
            assert_eq!(index.find(&name(number)), Some(path));
            let file = File::options().write(true).open(index.path(&name(number))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100 - number)).unwrap();
        }
        make_room(&index.dir, EXTENSION, Room::for_files(2));
        assert_eq!(
            [0, 1, 2, 3].map(|number| index.find(&name(number)).is_some()),
            [false, false, true, true]
        );
        for damaged in ["", "{", "7", "{\"bytes\":\"x\"}"] {
            fs::write(index.path(&name(3)), damaged).unwrap();
            assert_eq!(index.find(&name(3)), None, "{damaged}");
        }
        fs::write(index.path(&name(3)), format!("\"{}\"", "x".repeat(100_000))).unwrap();
        assert_eq!(index.find(&name(3)), None);
    }
}
