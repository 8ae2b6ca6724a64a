//! What a node does to one of its servers.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::announcer::Order;

/// Orders that wait for the server's task, which does little else than follow them.
const MAX_QUEUED_ORDERS: usize = 4;

/// Controls a server. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    orders: mpsc::Sender<Order>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Control {
    /// The control of a server whose task gets these orders.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders, server_orders) = mpsc::channel(MAX_QUEUED_ORDERS);
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        (Self { orders, closing, closed }, server_orders)
    }

    /// Cancelled once the server is to end.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// For the server's task: it has ended when this is dropped.
    pub(crate) fn running(&self) -> DropGuard {
        self.closed.clone().drop_guard()
    }

    /// Announces the server again now.
    pub(crate) async fn refresh(&self) {
        let _ = self.orders.send(Order::Refresh).await;
    }

    /// Withdraws the announces and ends the server.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.closed.cancelled().await;
    }

    /// Withdraws the announces. Until [`Control::resume`] nobody is answered.
    pub(crate) async fn suspend(&self) {
        let (done, suspended) = oneshot::channel();
        if self.orders.send(Order::Suspend(done)).await.is_ok() {
            let _ = suspended.await;
        }
    }

    /// Ends the suspension.
    pub(crate) async fn resume(&self) {
        let _ = self.orders.send(Order::Resume).await;
    }

    /// Whether the server has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}
