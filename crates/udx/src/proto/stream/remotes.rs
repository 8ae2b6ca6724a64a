//! Where a stream's packets go, now and before.

use std::collections::VecDeque;

use super::Remote;

/// Changes of the remote that still have packets of the old one outstanding; beyond it the oldest is
/// forgotten, and its packets go to the next one.
const MAX_PAST: usize = 8;

/// The current remote and those that outstanding packets still belong to.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    /// Version, number of the first packet sent to it, remote. The last is current.
    known: VecDeque<(u32, u64, Remote)>,
    version: u32,
}

impl Remotes {
    pub(super) fn current(&self) -> Option<Remote> {
        self.known.back().map(|&(_, _, remote)| remote)
    }

    /// Version of the current remote, stored with packets.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// The remote of a packet's version, or the oldest known after it.
    pub(super) fn get(&self, version: u32) -> Option<Remote> {
        self.known.iter().find(|known| known.0 >= version).map(|&(_, _, remote)| remote)
    }

    /// Makes `remote` current for packets from number `next` on.
    pub(super) fn set(&mut self, remote: Remote, next: u64) {
        self.version += 1;
        self.known.push_back((self.version, next, remote));
        if self.known.len() > MAX_PAST {
            self.known.pop_front();
        }
    }

    /// Makes `remote` the one of all packets, those on their way too.
    pub(super) fn replace(&mut self, remote: Remote) {
        self.version += 1;
        self.known.clear();
        self.known.push_back((self.version, 0, remote));
    }

    /// Whether a change is under way.
    pub(super) fn is_changing(&self) -> bool {
        self.known.len() > 1
    }

    /// All packets before `first` are acknowledged: forgets remotes that only they needed. True if that
    /// completes a change.
    pub(super) fn on_acked(&mut self, first: u64) -> bool {
        let mut is_complete = false;
        while self.known.get(1).is_some_and(|&(_, start, _)| start <= first) {
            self.known.pop_front();
            is_complete = self.known.len() == 1;
        }
        is_complete
    }
}
