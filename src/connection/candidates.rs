//! Several connections of which one carries the file.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use crate::limits::CLOSE_LIMIT;

/// Lets connections that have noticed their cancellation say so before they go.
pub(crate) async fn close_all<F: Future>(candidates: &mut FuturesUnordered<F>) {
    let _ = timeout(CLOSE_LIMIT, async { while candidates.next().await.is_some() {} }).await;
}
