//! Keeps a claim alive.
//!
//! A lease is short, so that a task whose worker died is soon free again, and is renewed by claiming again.
//! A refusal means little: some services refuse every renewal. What counts is whether the task still reads
//! as ours; if its lease ran out in between, it is claimed anew. A service that is away is asked again as
//! soon as it is back.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::error::AtsError;
use super::model::{Status, Task, TaskId};

/// A lease is renewed when this part of it has passed: two renewals may be lost before it runs out.
const RENEWED_AT: u32 = 3;

/// A claim that is being renewed. Dropping it stops that; the claim then runs out by itself.
#[derive(Debug)]
pub struct Renewal {
    lost: oneshot::Receiver<Lost>,
    renewing: JoinHandle<()>,
}

/// Why a claim cannot be kept.
#[derive(Debug)]
pub enum Lost {
    /// The task is another's now, or has come to an end.
    Taken(Box<Task>),
    /// The service says that it will not: the task is gone, or we are not let in.
    Refused(AtsError),
}

impl Renewal {
    /// Keeps the claim of a task alive by claiming again at a third of its time, until it is dropped; must be
    /// called within a tokio runtime.
    pub fn start(client: &Client, id: TaskId, lease: Duration) -> Self {
        let client = client.patient(lease, CancellationToken::new());
        let (sender, lost) = oneshot::channel();
        let renewing = tokio::spawn(async move {
            let reason = renew(&client, &id, lease).await;
            let _ = sender.send(reason);
        });
        Self { lost, renewing }
    }

    /// Waits until the claim is lost; while the service is away, it may be ours yet. May be cancelled and
    /// called again, but not after it has returned.
    pub async fn lost(&mut self) -> Lost {
        match (&mut self.lost).await {
            Ok(lost) => lost,
            // Only a runtime that is shutting down ends the task before it has told.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(client: &Client, id: &TaskId, lease: Duration) -> Lost {
    let me = &client.settings().actor.id;
    loop {
        sleep(lease / RENEWED_AT).await;
        let refusal = match client.claim(id, lease).await {
            Ok(_) => continue,
            Err(error) if error.is_retryable() => {
                tracing::debug!("task {id} could not be renewed: {error}");
                continue;
            }
            Err(error) => error,
        };
        match client.get(id).await {
            Ok(task) if task.is_held_by(me) => {}
            // It ran out between the two requests; the next round claims it, unless another does.
            Ok(task) if task.status == Status::Pending => {
                tracing::debug!("task {id} lapsed: {refusal}");
                if let Err(error) = client.claim(id, lease).await {
                    tracing::debug!("task {id} could not be claimed again: {error}");
                }
            }
            Ok(task) => return Lost::Taken(Box::new(task)),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Lost::Refused(error),
        }
    }
}
