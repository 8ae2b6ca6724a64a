//! What one transfer tells its owner while it runs.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::{ConnectionInfo, PeerLink};
use crate::context::Context;
use crate::event::{Event, Phase, ProgressListener, Transfer};
use crate::progress::Progress;
use crate::pump::Control;
use crate::sync::lock;

/// Tells of the phases and the connections of one transfer, and remembers the last connection.
#[derive(Debug)]
pub(crate) struct TransferEvents {
    context: Arc<Context>,
    transfer: Arc<Mutex<Transfer>>,
    progress: Progress,
    /// The byte of the file from which on bytes moved here at first.
    resumed_from: OnceLock<u64>,
    link: Mutex<Option<PeerLink>>,
}

impl TransferEvents {
    pub(crate) fn new(
        context: &Arc<Context>,
        transfer: &Transfer,
        listener: Option<ProgressListener>,
    ) -> Self {
        let size = transfer.size;
        let transfer = Arc::new(Mutex::new(transfer.clone()));
        let (node, known) = (context.clone(), transfer.clone());
        let progress = Progress::start(size, move |progress| {
            if let Some(listener) = &listener {
                listener(progress);
            }
            node.emit(Event::TransferProgress { transfer: lock(&known).clone(), progress: *progress });
        });
        Self {
            context: context.clone(),
            transfer,
            progress,
            resumed_from: OnceLock::new(),
            link: Mutex::default(),
        }
    }

    /// The transfer as its events name it.
    pub(crate) fn transfer(&self) -> Transfer {
        lock(&self.transfer).clone()
    }

    /// More is known of the transfer.
    pub(crate) fn update(&self, transfer: &Transfer) {
        *lock(&self.transfer) = transfer.clone();
    }

    /// The transfer comes to this phase; one that has been left for good is not told again.
    pub(crate) fn enter(&self, phase: Phase) {
        self.progress.enter(phase);
    }

    /// So many bytes of `goal` are hashed.
    pub(crate) fn hashed(&self, bytes: u64, goal: u64) {
        self.progress.hashed(bytes, goal);
    }

    /// Where the bytes that move are counted.
    pub(crate) fn bytes(&self) -> watch::Sender<u64> {
        self.progress.bytes()
    }

    /// What watches over the bytes of this transfer, which tells of them here. `idle` is how long nothing may
    /// move, and `max_rate` how many bytes a second may, beside the node's limit.
    pub(crate) fn control(
        self: &Arc<Self>,
        cancel: CancellationToken,
        idle: Duration,
        max_rate: Option<u64>,
    ) -> Control {
        let (begun, sent) = (self.clone(), self.clone());
        let throttle = self.context.throttle(&self.transfer().peer_id, max_rate);
        Control::new(self.progress.bytes(), cancel, idle)
            .throttled(throttle)
            .on_begin(move |from| begun.started(from))
            .on_sent(move || sent.enter(Phase::Verifying))
    }

    /// Tells of no more progress.
    pub(crate) fn end_progress(&self) {
        self.progress.end();
    }

    /// A connection to the peer came about.
    pub(crate) fn connected(&self, link: &PeerLink) {
        let connection = link.info();
        self.context.emit(Event::PeerConnected { transfer: self.transfer(), connection });
        self.uses(link);
    }

    /// The bytes go over this connection.
    pub(crate) fn uses(&self, link: &PeerLink) {
        *lock(&self.link) = Some(link.clone());
    }

    /// Bytes are due from this one on: told once, since another connection begins nothing new.
    fn started(&self, from: u64) {
        if self.resumed_from.set(from).is_ok() {
            self.context.emit(Event::TransferStart { transfer: self.transfer(), resumed_from: from });
        }
        self.enter(Phase::Transferring);
    }

    /// Whether bytes were ever due.
    pub(crate) fn has_started(&self) -> bool {
        self.resumed_from.get().is_some()
    }

    /// The byte of the file from which on bytes moved here; its size, where it had all moved before.
    pub(crate) fn resumed_from(&self) -> u64 {
        self.resumed_from.get().copied().unwrap_or_else(|| lock(&self.transfer).size)
    }

    /// The connection in use, or the last one.
    pub(crate) fn connection(&self) -> Option<ConnectionInfo> {
        lock(&self.link).as_ref().map(PeerLink::info)
    }
}
