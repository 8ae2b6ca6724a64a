//! Who sees a task, and who may change it in which way. Pure; docs/permissions.md has it as a table, and a
//! test holds every cell of that against a hub.

use std::borrow::Cow;

use super::{Action, Actor, Status, Task};
use crate::error::Refusal;

/// What a request may see and do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// No key was needed and none was shown, so that the actor is a claim: it sees all, and changes what is
    /// that actor's.
    Unproven,
    /// With the key of the actor: it sees what that has to do with, and changes what is that actor's.
    Key,
    /// With a key that sees and changes all.
    Admin,
}

/// Who changes something, and with what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) actor: Actor,
    pub(crate) rights: Rights,
}

/// Which tasks somebody sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    All,
    /// Those that the actor of this id made, has claimed or is meant to have, and those for anybody.
    Of(String),
}

impl View {
    /// What an actor of this id sees with a right.
    pub(crate) fn of(id: &str, rights: Rights) -> Self {
        match rights {
            Rights::Key => Self::Of(id.to_owned()),
            Rights::Unproven | Rights::Admin => Self::All,
        }
    }

    /// Whether a task is among them. [`crate::list`] says the same in SQL.
    pub(crate) fn shows(&self, task: &Task) -> bool {
        *self == Self::All || self.shows_to(&Parties::of(task))
    }

    /// Whether a task of these is among them.
    pub(crate) fn shows_to(&self, parties: &Parties<'_>) -> bool {
        let Self::Of(id) = self else { return true };
        parties.source == id
            || parties.assignee.is_some_and(|assignee| assignee == id)
            || parties.recipient.as_ref().is_none_or(|recipient| recipient == id)
    }
}

/// The ids of those whom a task is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parties<'t> {
    pub(crate) source: &'t str,
    pub(crate) assignee: Option<&'t str>,
    /// None where it is for anybody.
    pub(crate) recipient: Option<Cow<'t, str>>,
}

impl<'t> Parties<'t> {
    pub(crate) fn of(task: &'t Task) -> Self {
        Self {
            source: &task.source.id,
            assignee: task.assignee.as_ref().map(|actor| actor.id.as_str()),
            recipient: task.recipient().map(Cow::Owned),
        }
    }
}

impl By {
    /// The hub itself, for what no request asks for.
    pub(crate) fn hub() -> Self {
        let actor = Actor { kind: "system".into(), id: "hub".into(), name: "hub".into() };
        Self { actor, rights: Rights::Admin }
    }

    /// Which tasks there are for them.
    pub(crate) fn view(&self) -> View {
        View::of(&self.actor.id, self.rights)
    }
}

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

/// Refuses an action that the task's state allows but that is not theirs to take.
///
/// # Errors
/// A refusal that names who may.
pub(super) fn check(task: &Task, action: &Action, by: &By) -> Result<(), Refusal> {
    let allowed = allowed(task, action);
    let by_id = &by.actor.id;
    if by.rights == Rights::Admin || allowed.iter().any(|party| is(task, *party, by_id)) {
        return Ok(());
    }
    let named: Vec<String> = allowed.iter().filter_map(|party| name(task, *party)).collect();
    let (id, verb, who) = (task.id, verb(action), named.join(" or "));
    Err(Refusal::forbidden(format!("task {id} is not for {by_id} to {verb}: only {who} may")))
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
