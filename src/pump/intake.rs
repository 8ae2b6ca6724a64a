//! Where the bytes of a file go that is received: to the disk, or to a reader in this process.

use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::PumpError;
use crate::{
    files::{Partial, Sink, TargetError},
    sync::spawn_blocking,
};

/// Batches that wait for a reader.
const QUEUE: usize = 2;

/// What takes the bytes of one transfer, on one connection after another.
#[derive(Debug)]
pub enum Intake {
    /// A file, or a folder, beside its place.
    Disk(Box<Sink>),
    /// A reader.
    Outlet(Outlet),
}

/// Hands bytes to a reader as it takes them, and holds the sender back meanwhile; nothing of it is written to
/// a disk.
#[derive(Debug)]
pub struct Outlet {
    batches: mpsc::Sender<Vec<Bytes>>,
    /// Of all bytes that were handed over, and how many these are.
    hasher: Sha256,
    handed_over: u64,
    /// Bytes of the file that have come. Fewer than were handed over where a sender has to begin anew, which
    /// are left out then.
    written: u64,
}

/// The other end of an outlet. Dropped, it ends the transfer.
#[derive(Debug)]
pub struct OutletReader(mpsc::Receiver<Vec<Bytes>>);

impl From<Sink> for Intake {
    fn from(sink: Sink) -> Self {
        Self::Disk(Box::new(sink))
    }
}

impl From<Partial> for Intake {
    fn from(partial: Partial) -> Self {
        Sink::from(partial).into()
    }
}

impl From<Outlet> for Intake {
    fn from(outlet: Outlet) -> Self {
        Self::Outlet(outlet)
    }
}

impl Intake {
    /// Bytes of the file that it has taken.
    pub fn written(&self) -> u64 {
        match self {
            Self::Disk(partial) => partial.written(),
            Self::Outlet(outlet) => outlet.written,
        }
    }

    /// SHA-256 of what it has taken, lower-case hex.
    pub fn hash(&self) -> String {
        match self {
            Self::Disk(partial) => partial.hash(),
            Self::Outlet(outlet) => hex::encode(outlet.hasher.clone().finalize()),
        }
    }

    /// Begins with the first byte again. A reader is not given what it has already; whether that was the same
    /// shows in the hash. Blocks.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn clear(&mut self) -> Result<(), TargetError> {
        match self {
            Self::Disk(partial) => partial.clear(),
            Self::Outlet(outlet) => {
                outlet.written = 0;
                Ok(())
            }
        }
    }

    /// Whether nothing that it has taken can be taken back.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Outlet(_))
    }

    /// All bytes have come: brings a file to its place, and returns its path; waits until a reader has them.
    ///
    /// # Errors
    /// `Target`; `Cancelled` where the reader is gone, or by `cancel` while it is waited for.
    pub(super) async fn commit(self, cancel: &CancellationToken) -> Result<Option<PathBuf>, PumpError> {
        match self {
            Self::Disk(partial) => {
                let committed = spawn_blocking(move || partial.commit());
                Ok(Some(committed.await.map_err(|_| PumpError::Thread)??))
            }
            Self::Outlet(outlet) => tokio::select! {
                biased;
                () = cancel.cancelled() => Err(PumpError::Cancelled),
                taken = outlet.batches.reserve_many(QUEUE) => {
                    taken.map(|_| None).map_err(|_| PumpError::Cancelled)
                }
            },
        }
    }
}

impl Outlet {
    /// An outlet and the reader at its other end.
    pub fn new() -> (Self, OutletReader) {
        let (batches, reader) = mpsc::channel(QUEUE);
        (Self { batches, hasher: Sha256::new(), handed_over: 0, written: 0 }, OutletReader(reader))
    }

    /// Hands over the next bytes once the reader has room for them; `false` if `stop` came first, and none of
    /// them was taken. Blocks.
    ///
    /// # Errors
    /// `Cancelled` where the reader is gone.
    pub(super) fn write(
        &mut self,
        mut pieces: Vec<Bytes>,
        stop: &CancellationToken,
    ) -> Result<bool, PumpError> {
        let room = Handle::current().block_on(async {
            tokio::select! {
                biased;
                room = self.batches.reserve() => Some(room),
                () = stop.cancelled() => None,
            }
        });
        let Some(room) = room else { return Ok(false) };
        let room = room.map_err(|_| PumpError::Cancelled)?;
        for piece in &mut pieces {
            let len = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let known = self.handed_over.saturating_sub(self.written).min(len);
            let _ = piece.split_to(usize::try_from(known).unwrap_or(usize::MAX).min(piece.len()));
            self.hasher.update(&*piece);
            self.written += len;
            self.handed_over = self.handed_over.max(self.written);
        }
        pieces.retain(|piece| !piece.is_empty());
        // What is all known gives the room back.
        if !pieces.is_empty() {
            room.send(pieces);
        }
        Ok(true)
    }
}

impl OutletReader {
    /// The next bytes; `None` once there are no more, because all have come or because of what went wrong.
    pub async fn read(&mut self) -> Option<Vec<Bytes>> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(texts: &[&'static str]) -> Vec<Bytes> {
        texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
    }

    async fn write(mut outlet: Outlet, texts: &[&'static str], stop: &CancellationToken) -> (Outlet, bool) {
        let (pieces, stop) = (pieces(texts), stop.clone());
        let write = move || {
            let taken = outlet.write(pieces, &stop).expect("a reader");
            (outlet, taken)
        };
        tokio::task::spawn_blocking(write).await.expect("no panic")
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_holds_the_bytes_back_and_lets_go_when_told() {
        let (outlet, mut reader) = Outlet::new();
        let stop = CancellationToken::new();
        let (outlet, _) = write(outlet, &["ab"], &stop).await;
        let (outlet, taken) = write(outlet, &["cd"], &stop).await;
        assert!(taken);
        stop.cancel();
        let (outlet, taken) = write(outlet, &["ef"], &stop).await;
        assert!(!taken && outlet.written == 4);
        assert_eq!(reader.read().await, Some(pieces(&["ab"])));
        let (outlet, taken) = write(outlet, &["ef"], &stop).await;
        assert!(taken && outlet.written == 6);
        let sink = Intake::from(outlet);
        assert_eq!(sink.hash(), hex::encode(Sha256::digest("abcdef")));
        // Not before the reader has all of it.
        let cancel = CancellationToken::new();
        let committed = tokio::spawn(async move { sink.commit(&cancel).await });
        assert_eq!(reader.read().await, Some(pieces(&["cd"])));
        assert!(!committed.is_finished());
        assert_eq!(reader.read().await, Some(pieces(&["ef"])));
        assert!(matches!(committed.await.expect("no panic"), Ok(None)));
        assert_eq!(reader.read().await, None);
    }

    #[tokio::test]
    async fn what_comes_once_more_is_left_out_and_counts_for_the_hash_as_it_first_came() {
        let (outlet, mut reader) = Outlet::new();
        let stop = CancellationToken::new();
        let (outlet, _) = write(outlet, &["abc", "de"], &stop).await;
        let mut sink = Intake::from(outlet);
        sink.clear().expect("cleared");
        assert_eq!(sink.written(), 0);
        let Intake::Outlet(outlet) = sink else { unreachable!() };
        let (outlet, _) = write(outlet, &["XY"], &stop).await;
        let (outlet, _) = write(outlet, &["Z", "defg"], &stop).await;
        let sink = Intake::from(outlet);
        assert_eq!((sink.written(), sink.hash()), (7, hex::encode(Sha256::digest("abcdefg"))));
        assert_eq!(reader.read().await, Some(pieces(&["abc", "de"])));
        assert_eq!(reader.read().await, Some(pieces(&["fg"])));
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_ends_it() {
        let (mut outlet, reader) = Outlet::new();
        drop(reader);
        let cancelled = tokio::task::spawn_blocking(move || {
            let write = outlet.write(pieces(&["a"]), &CancellationToken::new());
            (write.is_err(), outlet)
        });
        let (failed, outlet) = cancelled.await.expect("no panic");
        assert!(failed);
        let committed = Intake::from(outlet).commit(&CancellationToken::new()).await;
        assert!(matches!(committed, Err(PumpError::Cancelled)));
    }
}
