//! Telling the service of files that arrived: at once, and later where it missed that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::sleep;

use super::claim::LEASE;
use super::record::{Done, RecordId, Records};
use crate::ats::{Client, Part, Status, TaskId};
use crate::context::Context;
use crate::error::{Code, Error};
use crate::files;
use crate::sync::{blocking, spawn_blocking};

/// Completions that are made up for at once.
const MAX_REPORTING: usize = 16;

/// First pause between attempts to report a completion that the service missed; doubles to the last.
const REPORT_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Completes the task of a file that is here, with a `remark` for people who read there, and goes on trying
/// if the service does not take it now. `name` is the file's, fit to be shown.
pub(super) async fn complete(
    context: &Arc<Context>,
    records: &Records,
    id: &RecordId,
    done: Done,
    name: &str,
    remark: String,
) {
    let Some(task_id) = TaskId::from_value(&done.task_id) else { return };
    let (client, outputs) = (&context.client, done.outputs.clone());
    let completed = if client.takes_messages() {
        match client.complete_saying(&task_id, outputs.clone(), vec![Part::text(remark)]).await {
            // What people would read there must not keep it.
            Err(error) if error.status() == Some(413) => client.complete(&task_id, outputs).await,
            completed => completed,
        }
    } else {
        let completed = client.complete(&task_id, outputs).await;
        context.remarks.post(&task_id, remark);
        completed
    };
    match completed {
        Ok(_) => {
            settle(records, id).await;
        }
        Err(error) => {
            tracing::warn!("the task of {name} could not be completed yet: {error}");
            let (context, records, id) = (context.clone(), records.clone(), id.clone());
            context.clone().spawn(async move {
                let report = report(&context, records, id, done);
                context.cancel().run_until_cancelled(report).await
            });
        }
    }
}

/// Writes down that a file has arrived. `name` is the file's, fit to be shown.
pub(super) async fn remember(records: &Records, id: &RecordId, done: Done, name: &str) {
    let (records, id) = (records.clone(), id.clone());
    let written = blocking(move || {
        records.write(&id, &done).map_err(|error| Error::new(Code::State, error.to_string()))
    });
    if let Err(error) = written.await {
        tracing::warn!("{name} arrived, but could not be recorded: {error}");
    }
}

/// Notes that the service knows of a file that has arrived.
async fn settle(records: &Records, id: &RecordId) {
    let (records, id) = (records.clone(), id.clone());
    let _ = spawn_blocking(move || records.settle(&id)).await;
}

/// Forgets a transfer that came to nothing.
pub(super) async fn forget(records: &Records, id: &RecordId) {
    let (records, id) = (records.clone(), id.clone());
    let _ = spawn_blocking(move || records.forget(&id)).await;
}

/// Completes the tasks of files that arrived earlier, and whose completion the service missed.
pub(crate) async fn report_missed(context: &Context) {
    let scope = context.scope();
    let records = match Records::open(&context.options.home) {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!("{}: {error}", files::display_path(&context.options.home));
            return;
        }
    };
    let missed = {
        let records = records.clone();
        spawn_blocking(move || records.unreported(&scope)).await.unwrap_or_default()
    };
    // One that the service does not get done must not hold up the others.
    let reports = missed.into_iter().map(|(id, done)| report(context, records.clone(), id, done));
    futures_util::stream::iter(reports).buffer_unordered(MAX_REPORTING).collect::<()>().await;
}

/// Completes one task, trying again until the service takes it or says that it never will.
async fn report(context: &Context, records: Records, id: RecordId, done: Done) {
    let Some(task_id) = TaskId::from_value(&done.task_id) else { return };
    let client = context.client.patient(LEASE, context.cancel().clone());
    let mut pause = REPORT_PAUSE.0;
    while !is_settled(&client, &task_id, &done).await {
        sleep(pause).await;
        pause = (pause * 2).min(REPORT_PAUSE.1);
    }
    settle(&records, &id).await;
}

/// Completes one task. Whether that is done, or will never be.
async fn is_settled(client: &Client, task_id: &TaskId, done: &Done) -> bool {
    match client.complete(task_id, done.outputs.clone()).await {
        Ok(_) => return true,
        Err(error) if error.is_retryable() => return false,
        Err(refused) => tracing::debug!("the completion of task {task_id} was refused: {refused}"),
    }
    match client.get(task_id).await {
        // The lease lapsed while nobody reported: claimed again, the task can be completed.
        Ok(task) if task.status == Status::Pending => match client.claim(task_id, LEASE).await {
            Ok(_) => client.complete(task_id, done.outputs.clone()).await.is_ok(),
            Err(error) => !error.is_retryable(),
        },
        // It is this actor's yet: what keeps the service from taking it may pass.
        Ok(task) => !task.is_held_by(&client.settings().actor.id),
        Err(error) => !error.is_retryable(),
    }
}
