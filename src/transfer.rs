//! What one transfer tells its owner while it runs.

use std::sync::{Arc, Mutex, OnceLock};

use crate::connection::{ConnectionInfo, PeerLink};
use crate::context::Context;
use crate::event::{Event, Transfer};
use crate::sync::lock;

/// Tells of the connections of one transfer, and remembers the last one.
#[derive(Debug)]
pub(crate) struct TransferEvents {
    context: Arc<Context>,
    transfer: Transfer,
    /// The byte of the file from which on bytes moved here at first.
    resumed_from: OnceLock<u64>,
    link: Mutex<Option<PeerLink>>,
}

impl TransferEvents {
    pub(crate) fn new(context: &Arc<Context>, transfer: &Transfer) -> Self {
        Self {
            context: context.clone(),
            transfer: transfer.clone(),
            resumed_from: OnceLock::new(),
            link: Mutex::default(),
        }
    }

    /// The transfer as its events name it.
    pub(crate) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// A connection to the peer came about.
    pub(crate) fn connected(&self, link: &PeerLink) {
        let connection = link.info();
        self.context.emit(Event::PeerConnected { transfer: self.transfer.clone(), connection });
        self.uses(link);
    }

    /// The bytes go over this connection.
    pub(crate) fn uses(&self, link: &PeerLink) {
        *lock(&self.link) = Some(link.clone());
    }

    /// Bytes are due from this one on: told once, since another connection begins nothing new.
    fn started(&self, from: u64) {
        if self.resumed_from.set(from).is_ok() {
            self.context.emit(Event::TransferStart { transfer: self.transfer.clone(), resumed_from: from });
        }
    }

    /// Tells of the start, as [`Self::started`].
    pub(crate) fn tells_start(self: Arc<Self>) -> impl Fn(u64) + Send + Sync + 'static {
        move |from| self.started(from)
    }

    /// Whether bytes were ever due.
    pub(crate) fn has_started(&self) -> bool {
        self.resumed_from.get().is_some()
    }

    /// The byte of the file from which on bytes moved here; its size, where it had all moved before.
    pub(crate) fn resumed_from(&self) -> u64 {
        self.resumed_from.get().copied().unwrap_or(self.transfer.size)
    }

    /// The connection in use, or the last one.
    pub(crate) fn connection(&self) -> Option<ConnectionInfo> {
        lock(&self.link).as_ref().map(PeerLink::info)
    }
}
