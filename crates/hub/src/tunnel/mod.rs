//! The tunnel: two peers that no UDP leads to connect to the hub, each by a WebSocket, and the hub joins the
//! two. What they send each other is encrypted by them, and means nothing to the hub. [`protocol::tunnel`]
//! says how they meet.
//!
//! # Layout
//! - `frames`: what an end sends, taken out of its WebSocket frames; no I/O. `fuzzing`: what is fuzzed of it.
//! - `socket`: the WebSocket of one end, and why it is closed.
//! - `admission`: whom the tunnel joins.
//! - `rendezvous`: who waits for whom.
//! - `end`: an end, from its proof until it is joined.
//! - `pass`: two ends that were joined.

mod admission;
mod end;
mod frames;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzzing;
mod pass;
mod rendezvous;
mod socket;

use std::net::IpAddr;
use std::sync::Arc;

use hyperdht::relay::RelayLimits;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::guard::HeldKey;
use crate::http::connections::{InUse, NoPlace, Payer, Places, Shares};
use crate::metrics::TunnelCounters;
use crate::sql::Pool;

pub use admission::TunnelAccess;
use admission::TunnelAdmission;
use end::TunnelEnd;
pub(crate) use rendezvous::Name;
use rendezvous::Rendezvous;
pub(crate) use socket::Duplex;

/// How many ends that have proven nothing yet there may be, and how many of one address.
const UNPROVEN: Shares = Shares { total: 256, large: 192, usual: 16, reserve: 16 };

/// How many ends there may be for each pair that there may be: those of pairs, and as many that wait.
const ENDS_PER_PAIR: usize = 4;

/// A hub's tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    admission: TunnelAdmission,
    limits: RelayLimits,
    rendezvous: Rendezvous<TunnelEnd>,
    /// Places of ends: before they have proven their keys, and from then on.
    unproven: Places,
    proven: Places,
    pairs: Arc<Semaphore>,
    counters: TunnelCounters,
    shutdown: CancellationToken,
    abort: CancellationToken,
    ends: TaskTracker,
}

/// A tunnel, and what it has to do with the rest of its hub.
pub(crate) struct TunnelSetup {
    pub(crate) access: TunnelAccess,
    /// Those of the relay: it does the same by another way.
    pub(crate) limits: RelayLimits,
    pub(crate) readers: Pool,
    /// Told whenever a task has changed.
    pub(crate) changes: Arc<Notify>,
    pub(crate) counters: TunnelCounters,
    pub(crate) shutdown: CancellationToken,
    /// Cancelled after `shutdown` for who is left then.
    pub(crate) abort: CancellationToken,
}

/// Somebody who connects to the tunnel.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// What it says that it goes by.
    pub(crate) name: Name,
    /// What it may have called the hub, as it is signed.
    pub(crate) hosts: Vec<String>,
    pub(crate) client: IpAddr,
    /// Whether it is on the hub's own machine.
    pub(crate) is_local: bool,
    /// Whose place it takes, and whether that is a proxy's.
    pub(crate) payer: Payer,
    /// The key by which it may be here, where one is needed.
    pub(crate) key: Option<HeldKey>,
    /// Its place among those who have proven nothing yet.
    pub(crate) unproven: InUse,
    /// Its places among all connections and WebSockets.
    pub(crate) places: [InUse; 2],
}

impl Tunnel {
    pub(crate) fn new(setup: TunnelSetup) -> Self {
        let TunnelSetup { access, limits, readers, changes, counters, shutdown, abort } = setup;
        let pairs = limits.pairs.min(Semaphore::MAX_PERMITS / ENDS_PER_PAIR);
        let shares = Shares { usual: 2 * pairs, ..Shares::of(ENDS_PER_PAIR * pairs) };
        Self {
            admission: TunnelAdmission { access, readers, changes },
            limits,
            rendezvous: Rendezvous::default(),
            unproven: Places::new(UNPROVEN),
            proven: Places::new(shares),
            pairs: Arc::new(Semaphore::new(pairs)),
            counters,
            shutdown,
            abort,
            ends: TaskTracker::new(),
        }
    }

    pub(crate) fn access(&self) -> TunnelAccess {
        self.admission.access
    }

    /// A place for somebody who has proven nothing yet.
    pub(crate) fn place(&self, payer: Payer) -> Result<InUse, NoPlace> {
        self.unproven.take(payer, false).map(|place| place.in_use())
    }

    /// Serves a visitor once its WebSocket is there: `stream` gives it, with what was read of it already.
    pub(crate) fn serve<S>(self: &Arc<Self>, visitor: Visitor, stream: S)
    where
        S: Future<Output = Option<(Box<dyn Duplex>, Vec<u8>)>> + Send + 'static,
    {
        let (tunnel, abort) = (self.clone(), self.abort.clone());
        self.ends.spawn(abort.run_until_cancelled_owned(async move {
            if let Some((stream, read)) = stream.await {
                end::attend(tunnel, visitor, stream, &read).await;
            }
        }));
    }

    /// How many ends have proven their keys, and how many pairs of them were joined.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.rendezvous.len(), self.limits.pairs.saturating_sub(self.pairs.available_permits()))
    }

    /// Waits until all ends are closed. To be called when the hub ends.
    pub(crate) async fn ended(&self) {
        self.ends.close();
        self.ends.wait().await;
    }
}
