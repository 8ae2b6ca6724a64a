//! Finding the task of a transfer.

use super::{Offer, TASK_TYPE};
use crate::ats::{Client, ListQuery, Task, TaskId};
use crate::error::{Error, Result};

/// Offers looked at to find the one of a transfer.
const LOOKED_AT: u32 = 100;
/// Pages asked for, until one has any: a service may look at only so many tasks for each.
const MAX_PAGES: usize = 200;

/// The task of a transfer that this package has offered, which carries the transfer's id where the service
/// searches, among those that are `wanted`.
pub(crate) async fn find_made(
    client: &Client,
    transfer_id: &str,
    wanted: impl Fn(&Task) -> bool,
) -> Result<Option<Task>> {
    let query = ListQuery { search: Some(transfer_id.to_owned()), ..offers() };
    let is_it = |task: &Task| offers_transfer(task, transfer_id) && wanted(task);
    let page = client.list_page(&query, |task| is_it(&task).then_some(task)).await?;
    Ok(page.tasks.into_iter().next())
}

/// The task of a transfer, by the transfer's id or its own.
pub(crate) async fn find(client: &Client, channel: &str, id: &str) -> Result<Option<Task>> {
    let is_it = |task: &Task| offers_transfer(task, id);
    let by_search = ListQuery { search: Some(id.to_owned()), ..offers() };
    let first = async |mut query: ListQuery| {
        for _ in 0..MAX_PAGES {
            let page = client.list_page(&query, |task| is_it(&task).then_some(task)).await?;
            query.go_on(&page);
            if page.len > 0 || !page.has_more {
                return Ok::<_, Error>(page.tasks.into_iter().next());
            }
        }
        Ok(None)
    };
    if let Some(task) = first(by_search).await? {
        return Ok(Some(task));
    }
    if let Some(task_id) = TaskId::from_text(id) {
        match client.get(&task_id).await {
            Ok(task) if task.kind == TASK_TYPE => return Ok(Some(task)),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    // An original's offer need not carry its id where the service searches.
    let on_channel = ListQuery { channel: Some(channel.to_owned()), ..offers() };
    first(on_channel).await
}

fn offers() -> ListQuery {
    ListQuery { kind: Some(TASK_TYPE.into()), limit: Some(LOOKED_AT), ..Default::default() }
}

/// Whether a task offers the file of that transfer.
fn offers_transfer(task: &Task, transfer_id: &str) -> bool {
    task.kind == TASK_TYPE
        && Offer::from_payload(&task.payload).is_ok_and(|offer| offer.transfer_id == transfer_id)
}
