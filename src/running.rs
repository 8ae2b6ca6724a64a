//! The transfers that run in this process, so that each can be ended by its id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ats::TaskId;
use crate::sync::lock;

/// The transfers that run in this process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningTransfers(Arc<Mutex<ById>>);

#[derive(Debug, Default)]
struct ById {
    last: u64,
    transfers: HashMap<u64, RunningTransfer>,
}

#[derive(Debug)]
struct RunningTransfer {
    transfer_id: String,
    task_id: Option<TaskId>,
    cancel: CancellationToken,
    /// Closed when the transfer has ended.
    ended: watch::Sender<()>,
}

/// A transfer that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningGuard {
    all: RunningTransfers,
    number: u64,
}

impl RunningTransfers {
    /// Notes that a transfer runs, which `cancel` ends.
    pub(crate) fn begin(
        &self,
        transfer_id: &str,
        task_id: Option<&TaskId>,
        cancel: &CancellationToken,
    ) -> RunningGuard {
        let mut running = lock(&self.0);
        running.last += 1;
        let number = running.last;
        let transfer = RunningTransfer {
            transfer_id: transfer_id.to_owned(),
            task_id: task_id.cloned(),
            cancel: cancel.clone(),
            ended: watch::Sender::new(()),
        };
        running.transfers.insert(number, transfer);
        RunningGuard { all: self.clone(), number }
    }

    /// The transfers' ids.
    pub(crate) fn ids(&self) -> Vec<String> {
        lock(&self.0).transfers.values().map(|transfer| transfer.transfer_id.clone()).collect()
    }

    /// Ends the transfers that go by this id, their own or their task's, and waits until they have ended;
    /// `false` if there is none.
    pub(crate) async fn cancel(&self, id: &str) -> bool {
        let ends: Vec<watch::Receiver<()>> = {
            let running = lock(&self.0);
            let is_it = |transfer: &&RunningTransfer| {
                transfer.transfer_id == id
                    || transfer.task_id.as_ref().is_some_and(|task| task.as_str() == id)
            };
            let matching = running.transfers.values().filter(is_it);
            matching
                .inspect(|transfer| transfer.cancel.cancel())
                .map(|transfer| transfer.ended.subscribe())
                .collect()
        };
        for mut end in ends.iter().cloned() {
            while end.changed().await.is_ok() {}
        }
        !ends.is_empty()
    }
}

impl RunningGuard {
    /// Notes the transfer's task, once there is one.
    pub(crate) fn has_task(&self, task_id: &TaskId) {
        if let Some(transfer) = lock(&self.all.0).transfers.get_mut(&self.number) {
            transfer.task_id = Some(task_id.clone());
        }
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        lock(&self.all.0).transfers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transfer_is_ended_by_its_id_or_its_tasks_and_waited_for() {
        let running = RunningTransfers::default();
        for id in ["t", "7"] {
            let (cancel, other) = (CancellationToken::new(), CancellationToken::new());
            let guard = running.begin("t", None, &cancel);
            guard.has_task(&TaskId::from_text("7").unwrap());
            assert_eq!(running.ids(), ["t"]);
            let _other = running.begin("u", None, &other);
            let ends = async {
                cancel.cancelled().await;
                drop(guard);
            };
            let (was_running, ()) = tokio::join!(running.cancel(id), ends);
            assert!(was_running && !other.is_cancelled());
            assert!(!running.cancel(id).await);
        }
    }
}
