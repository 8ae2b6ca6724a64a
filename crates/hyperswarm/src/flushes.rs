//! Calls that wait until all peers known at their time were tried. No I/O.

use std::collections::HashSet;

use secret_stream::PublicKey;

/// Names one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlushId(pub(crate) u64);

/// All calls that wait.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    waiting: Vec<Flush>,
}

#[derive(Debug)]
struct Flush {
    id: FlushId,
    /// Peers not tried yet.
    untried: HashSet<PublicKey>,
}

impl Flushes {
    pub(crate) fn add(&mut self, id: FlushId, untried: HashSet<PublicKey>) {
        self.waiting.push(Flush { id, untried });
    }

    /// The peer was dialled, has come by itself, or was given up.
    pub(crate) fn tried(&mut self, key: &PublicKey) {
        for flush in &mut self.waiting {
            flush.untried.remove(key);
        }
    }

    /// Nobody is to be tried any more.
    pub(crate) fn give_up(&mut self) {
        for flush in &mut self.waiting {
            flush.untried.clear();
        }
    }

    /// Takes out those that wait for nobody any more.
    pub(crate) fn take_done(&mut self) -> impl Iterator<Item = FlushId> {
        self.waiting.extract_if(.., |flush| flush.untried.is_empty()).map(|flush| flush.id)
    }

    /// Takes out all.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = FlushId> {
        self.waiting.drain(..).map(|flush| flush.id)
    }
}
