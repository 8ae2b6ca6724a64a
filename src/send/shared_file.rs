//! A file that several are sent: opened once, and read once to be hashed.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, watch};

use super::SendSource;
use crate::files::Source;

/// An open file, for the sends of it that have it in their requests.
#[derive(Clone, Debug)]
pub struct SharedFile(Arc<SharedInner>);

#[derive(Debug)]
struct SharedInner {
    source: Source,
    /// What was asked for.
    origin: SendSource,
    /// Whose turn it is to hash.
    turn: Mutex<()>,
    /// Bytes that are hashed.
    read: watch::Sender<u64>,
}

impl SharedFile {
    /// Shares what is open, which `origin` has asked for.
    pub(super) fn new(source: Source, origin: SendSource) -> Self {
        Self(Arc::new(SharedInner { source, origin, turn: Mutex::default(), read: watch::Sender::new(0) }))
    }

    pub(super) fn origin(&self) -> &SendSource {
        &self.0.origin
    }

    pub(super) fn source(&self) -> &Source {
        &self.0.source
    }

    /// Waits for the turn to hash the file, of which `told` is told meanwhile. Whoever comes after one that
    /// has done so finds it done.
    pub(super) async fn turn(&self, told: impl Fn(u64)) -> MutexGuard<'_, ()> {
        let mut read = self.0.read.subscribe();
        loop {
            tokio::select! {
                biased;
                turn = self.0.turn.lock() => return turn,
                // Its sender is here, so that it does not end.
                _ = read.changed() => told(*read.borrow_and_update()),
            }
        }
    }

    /// What whoever has the turn tells of the bytes that are hashed.
    pub(super) fn hashed(&self, bytes: u64) {
        self.0.read.send_replace(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::future::join_all;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::files::HashCache;

    #[tokio::test]
    async fn a_file_that_several_are_sent_is_read_once_and_all_are_told_how_far_that_is() {
        const SIZE: u64 = 3_000_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, vec![7; SIZE as usize]).unwrap();
        let never = CancellationToken::new();
        let file = SharedFile::new(Source::open(&path).unwrap(), SendSource::from(path));
        let read = AtomicU64::new(0);
        let sends = (0..5).map(|_| async {
            let told = AtomicU64::new(0);
            let _turn = file.turn(|bytes| told.store(bytes, Ordering::Relaxed)).await;
            let mut before = 0;
            let hash = file.source().hash_once(
                &HashCache::off(),
                |bytes| {
                    // Of what was hashed already all is told at once.
                    before = bytes;
                    file.hashed(bytes);
                    read.fetch_add(1, Ordering::Relaxed);
                },
                &never,
            );
            (hash.unwrap(), before.max(told.into_inner()))
        });
        let hashes = join_all(sends).await;
        assert!(hashes.iter().all(|(hash, told)| *hash == hashes[0].0 && *told == SIZE), "{hashes:?}");
        let alone = AtomicU64::new(0);
        let source = Source::open(&dir.path().join("x")).unwrap();
        source.hash(|_| _ = alone.fetch_add(1, Ordering::Relaxed), &never).unwrap();
        assert!(alone.load(Ordering::Relaxed) > 1);
        assert_eq!(
            read.into_inner(),
            alone.into_inner() + 4,
            "what is read, and once for each of the others"
        );
    }
}
