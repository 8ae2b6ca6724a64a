//! Who may change a task in which way. Pure; docs/permissions.md has it as a table, and a test holds every
//! cell of that against a hub.

use super::{Action, Actor, Status, Task};
use crate::error::Refusal;

/// Somebody's part in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Party {
    /// Who made it.
    Source,
    /// Whom it is meant for.
    Recipient,
    /// Who has claimed it.
    Assignee,
    Anybody,
}

/// Refuses an action that the task's state allows but that is not this actor's to take.
///
/// # Errors
/// A refusal that names who may.
pub(super) fn check(task: &Task, action: &Action, by: &Actor) -> Result<(), Refusal> {
    let allowed = allowed(task, action);
    if allowed.iter().any(|party| is(task, *party, &by.id)) {
        return Ok(());
    }
    let named: Vec<String> = allowed.iter().filter_map(|party| name(task, *party)).collect();
    let (id, by, verb, who) = (task.id, &by.id, verb(action), named.join(" or "));
    Err(Refusal::forbidden(format!("task {id} is not for {by} to {verb}: only {who} may")))
}

/// Who may take an action on a task whose state allows it.
fn allowed(task: &Task, action: &Action) -> &'static [Party] {
    let is_pending = task.status == Status::Pending;
    match action {
        Action::Claim { .. } | Action::Reject { .. } if is_pending => match task.recipient() {
            Some(_) => &[Party::Recipient],
            None => &[Party::Anybody],
        },
        Action::Claim { .. } | Action::Complete { .. } | Action::Reject { .. } => &[Party::Assignee],
        // A sender fails what it waits for in vain: the claimant may be gone.
        Action::Fail { .. } => &[Party::Source, Party::Assignee],
        Action::MakePending if task.status == Status::InProgress => &[Party::Assignee],
        Action::Cancel { .. } | Action::Reopen { .. } | Action::MakePending | Action::Edit(_) => {
            &[Party::Source]
        }
    }
}

fn is(task: &Task, party: Party, id: &str) -> bool {
    match party {
        Party::Source => task.source.id == id,
        Party::Recipient => task.recipient().as_deref() == Some(id),
        Party::Assignee => claimant(task).is_some_and(|assignee| assignee.id == id),
        Party::Anybody => true,
    }
}

fn name(task: &Task, party: Party) -> Option<String> {
    match party {
        Party::Source => Some(format!("{}, who made it,", task.source.id)),
        Party::Recipient => task.recipient().map(|id| format!("{id}, whom it is meant for,")),
        Party::Assignee => claimant(task).map(|assignee| format!("{}, who has claimed it,", assignee.id)),
        Party::Anybody => None,
    }
}

/// Who has the task now; an ended one still names who had it.
fn claimant(task: &Task) -> Option<&Actor> {
    task.assignee.as_ref().filter(|_| task.status == Status::InProgress)
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Claim { .. } => "claim",
        Action::Complete { .. } => "complete",
        Action::Cancel { .. } => "cancel",
        Action::Fail { .. } => "fail",
        Action::Reject { .. } => "reject",
        Action::Reopen { .. } => "reopen",
        Action::MakePending => "make pending",
        Action::Edit(_) => "change",
    }
}
