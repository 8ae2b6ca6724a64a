//! What one transfer tells its owner while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hyperdht::connect::Link;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::event::{Event, Transfer};
use crate::sync::lock;

/// Tells of the connections of one transfer, and remembers the last one.
#[derive(Debug)]
pub(crate) struct TransferEvents {
    context: Arc<Context>,
    transfer: Transfer,
    started: AtomicBool,
    link: Mutex<Option<Link>>,
}

impl TransferEvents {
    pub(crate) fn new(context: &Arc<Context>, transfer: &Transfer) -> Self {
        Self {
            context: context.clone(),
            transfer: transfer.clone(),
            started: AtomicBool::new(false),
            link: Mutex::default(),
        }
    }

    /// The transfer as its events name it.
    pub(crate) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// A connection to the peer came about.
    pub(crate) fn connected(&self, link: &Link) {
        let connection = ConnectionInfo::of(link);
        self.context.emit(Event::PeerConnected { transfer: self.transfer.clone(), connection });
        self.uses(link);
    }

    /// The bytes go over this connection.
    pub(crate) fn uses(&self, link: &Link) {
        *lock(&self.link) = Some(link.clone());
    }

    /// Bytes are due: told once, since another connection begins nothing new.
    pub(crate) fn started(&self) {
        if !self.started.swap(true, Ordering::Relaxed) {
            self.context.emit(Event::TransferStart { transfer: self.transfer.clone() });
        }
    }

    /// Whether bytes were ever due.
    pub(crate) fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// The connection in use, or the last one.
    pub(crate) fn connection(&self) -> Option<ConnectionInfo> {
        lock(&self.link).as_ref().map(ConnectionInfo::of)
    }
}
