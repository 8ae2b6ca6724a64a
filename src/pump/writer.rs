//! The thread that hashes the file that is received, and writes it or hands it to its reader.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::PumpError;
use super::budget::{Share, portion};
use super::intake::Intake;
use crate::sync::spawn_blocking;

/// Bytes handed to the thread at a time, at least, while more are coming: enough that a hand-over costs
/// nothing beside its bytes.
const BATCH_LEN: usize = 1024 * 1024;

/// The same where many transfers run.
const LEAST_BATCH_LEN: usize = 128 * 1024;

/// Batches that wait for the disk.
const QUEUE: usize = 2;

/// Pieces shorter than this are copied together: cheaper than a write each, and a short piece may hold
/// much more memory than its own.
const SHORT: usize = 8 * 1024;

/// Pieces hashed and then written in one call: what fits a processor's nearest caches, where they mostly are
/// 64 KiB.
const PIECES: usize = 4;

/// Bytes of the file in the order they came.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pieces: Vec<Bytes>,
    /// Short pieces copied together, behind all of `pieces`.
    tail: BytesMut,
    len: usize,
}

impl Batch {
    /// Adds the next bytes.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        if piece.len() < SHORT {
            self.tail.extend_from_slice(&piece);
        } else {
            self.close_tail();
            self.pieces.push(piece);
        }
    }

    /// Whether it is worth handing over while more is coming.
    pub(super) fn is_full(&self) -> bool {
        self.len >= portion(BATCH_LEN, LEAST_BATCH_LEN)
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The batch so far, leaving an empty one.
    pub(super) fn take(&mut self) -> Self {
        self.close_tail();
        let tail = std::mem::take(&mut self.tail);
        std::mem::replace(self, Self { tail, ..Self::default() })
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

/// Where all that came was written.
pub(super) type Written = Result<Intake, PumpError>;

/// Writes and hashes what comes, on a thread of its own, until there is no more or the disk fails; or until
/// `stop` says that no reader need be waited for, of which the rest is left out then.
///
/// The thread owns the file, so that a run given up can write nothing into another's.
pub(super) fn start(sink: Intake, stop: CancellationToken) -> (mpsc::Sender<Batch>, JoinHandle<Written>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, spawn_blocking(move || write(sink, receiver, &stop)))
}

fn write(mut sink: Intake, mut batches: mpsc::Receiver<Batch>, stop: &CancellationToken) -> Written {
    let _share = Share::take();
    while let Some(batch) = batches.blocking_recv() {
        match &mut sink {
            Intake::Disk(partial) => {
                for pieces in batch.pieces.chunks(PIECES) {
                    let mut pieces: Vec<IoSlice<'_>> =
                        pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                    partial.write_all_vectored(&mut pieces)?;
                }
                partial.remember();
            }
            Intake::Outlet(outlet) => {
                if !outlet.write(batch.pieces, stop)? {
                    break;
                }
            }
        }
    }
    if let Intake::Disk(partial) = &mut sink {
        partial.settle();
    }
    Ok(sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_and_short_ones_are_joined() {
        let mut batch = Batch::default();
        let long = Bytes::from(vec![9; SHORT]);
        for piece in [&b"a"[..], b"b", &long, b"c"] {
            batch.push(Bytes::copy_from_slice(piece));
        }
        assert_eq!(batch.len(), SHORT + 3);
        let taken = batch.take();
        assert_eq!(taken.pieces, [Bytes::from_static(b"ab"), long, Bytes::from_static(b"c")]);
        assert_eq!((batch.len(), batch.pieces.len()), (0, 0));
    }
}
