//! Whom the tunnel joins: by default two peers whose keys stand in one open task of the hub.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::rendezvous::Name;
use super::socket::Reason;
use crate::announced;
use crate::sql::Pool;

/// Whom the tunnel of a hub serves. Everybody proves the key that they go by in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TunnelAccess {
    /// Two peers if the keys of both stand in one open task of this hub.
    #[default]
    Tasks,
    /// Whoever may use the hub otherwise: with a key for it, or from where none is needed.
    Keys,
    /// Everybody.
    Open,
    /// Nobody: there is none.
    Off,
}

/// How long an end may be there before a task names it: what tells it to come may overtake what it says.
const HOLD: Duration = Duration::from_secs(5);
/// How long to wait before the tasks are looked at again, however often they change.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What decides whom the tunnel joins.
#[derive(Debug, Clone)]
pub(super) struct TunnelAdmission {
    pub(super) access: TunnelAccess,
    /// Of the hub's tasks.
    pub(super) readers: Pool,
    /// Told whenever a task has changed.
    pub(super) changes: Arc<Notify>,
}

impl TunnelAdmission {
    /// Waits until an end may be here by the tasks: by itself, or joined with the end that it names.
    ///
    /// # Errors
    /// Why it is to be closed, once that took too long.
    pub(super) async fn permitted(self, name: Name, is_pair: bool) -> Result<(), Reason> {
        if self.access != TunnelAccess::Tasks {
            return Ok(());
        }
        let mut reason = Reason::NotAllowed;
        let permitted = async {
            loop {
                let changed = self.changes.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                match self.is_named(name, is_pair).await {
                    Ok(true) => return,
                    Ok(false) => reason = Reason::NotAllowed,
                    Err(error) => {
                        tracing::warn!("whom the tunnel joins cannot be read: {error}");
                        reason = Reason::DatabaseAway;
                    }
                }
                // A database that was away tells of no change when it is back.
                let _ = timeout(Duration::from_secs(1), changed).await;
                sleep(LOOK_PAUSE).await;
            }
        };
        let in_time = timeout(HOLD, permitted).await;
        in_time.map_err(|_| reason)
    }

    async fn is_named(&self, name: Name, is_pair: bool) -> sqlx::Result<bool> {
        let mut connection = self.readers.acquire().await?;
        match is_pair {
            true => announced::are_in_one_task(&mut connection, &name.key, &name.peer).await,
            false => announced::is_announced(&mut connection, &name.key).await,
        }
    }
}
