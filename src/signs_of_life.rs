//! Signs of life: what a peer says on the task while it reads what it has, or is to send, so that the other
//! one, which waits no longer than its `timeout`, begins to wait anew.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use crate::ats::{Client, Part, TaskId};

/// The shortest and the longest pause between two of them. Else it is a third of this side's `timeout`: the
/// other one's is mostly the same.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How many are shown at most: those of both sides leave room among the thousand messages that a hub takes on
/// a task. With the longest pauses they last more than two hours.
const MOST: usize = 400;

/// Shows signs of life on a task, each of them a new `word`, for as long as this is waited for, by a node
/// that itself waits `timeout` for others.
pub(crate) async fn show(
    client: &Client,
    task_id: &TaskId,
    timeout: Duration,
    word: impl Fn() -> Part,
) -> Infallible {
    for _ in 0..MOST {
        if let Err(error) = client.add_message(task_id, vec![word()]).await {
            tracing::debug!("no sign of life could be shown on task {task_id}: {error}");
            if !error.is_retryable() {
                break;
            }
        }
        sleep(pause(timeout)).await;
    }
    pending().await
}

fn pause(timeout: Duration) -> Duration {
    (timeout / 3).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_several_times_in_each_wait_but_flood_nobody() {
        for (timeout, expected) in [(0, 500), (6_000, 2_000), (60_000, 20_000), (120_000, 20_000)] {
            assert_eq!(pause(Duration::from_millis(timeout)), Duration::from_millis(expected));
        }
    }
}
