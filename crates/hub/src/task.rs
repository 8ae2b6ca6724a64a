//! Tasks and their states. Pure: the time and the actor are passed in, nothing is stored or sent here.

mod permissions;

use std::time::Duration;

use protocol::offer;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::time::Millis;

pub(crate) use permissions::{By, Parties, Rights, View};

/// How long a claim holds by default.
pub(crate) const DEFAULT_LEASE: Duration = Duration::from_secs(60);
/// The longest claim: a worker that dies must not keep a task for ever.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a pending offer past its expiry is left to its sender, which usually ends the offer itself and
/// reports that nobody accepted it.
const OFFER_GRACE: Duration = Duration::from_secs(5);
/// How long an offer that was claimed, reopened or edited is kept from then on, be it past its expiry or not:
/// a receiver that was killed may come back for the file, and a sender waits two minutes for that by default.
const OFFER_RETURN_TIME: Duration = Duration::from_secs(5 * 60);

/// Who sent a request, according to its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) name: String,
}

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Pending,
    InProgress,
    Completed,
    Cancelled,
    Failed,
    Rejected,
}

impl Status {
    pub(crate) const ALL: [Self; 6] =
        [Self::Pending, Self::InProgress, Self::Completed, Self::Cancelled, Self::Failed, Self::Rejected];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::InProgress)
    }
}

/// What happened to a task, as events name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    Created,
    Claimed,
    Updated,
    Completed,
    Cancelled,
    Failed,
    Rejected,
    Reopened,
    Message,
    LeaseExpired,
}

impl EventKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "task.created",
            Self::Claimed => "task.claimed",
            Self::Updated => "task.updated",
            Self::Completed => "task.completed",
            Self::Cancelled => "task.cancelled",
            Self::Failed => "task.failed",
            Self::Rejected => "task.rejected",
            Self::Reopened => "task.reopened",
            Self::Message => "task.message",
            Self::LeaseExpired => "task.lease_expired",
        }
    }
}

/// What somebody wants done with a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Claim {
        lease: Duration,
        /// The claim is no renewal: it is refused where this actor has the task already.
        only_pending: bool,
    },
    Complete {
        outputs: Vec<Value>,
    },
    Cancel {
        reason: Option<String>,
    },
    Fail {
        reason: Option<String>,
    },
    Reject {
        reason: Option<String>,
    },
    Reopen {
        reason: Option<String>,
    },
    /// Gives a claim back, or opens an ended task again.
    MakePending,
    Edit(Box<Edit>),
}

/// The fields of a task that its source may change; `None` leaves one as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Edit {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) priority: Option<i64>,
    pub(crate) payload: Option<Value>,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Task {
    pub(crate) id: i64,
    pub(crate) organization: String,
    pub(crate) project: String,
    pub(crate) project_id: i64,
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: String,
    pub(crate) channel: String,
    pub(crate) priority: i64,
    pub(crate) status: Status,
    pub(crate) payload: Value,
    pub(crate) outputs: Vec<Value>,
    /// Why it failed, was rejected, cancelled or reopened.
    pub(crate) reason: Option<String>,
    pub(crate) source: Actor,
    pub(crate) assignee: Option<Actor>,
    pub(crate) lease_expires: Option<Millis>,
    pub(crate) created_at: Millis,
    pub(crate) updated_at: Millis,
    pub(crate) completed_at: Option<Millis>,
}

impl Task {
    /// Does what `by` asks for. [`Task::elapse`] must be called first, so that claims and offers whose time
    /// is over have ended.
    ///
    /// # Errors
    /// With the task unchanged: a conflict where its state does not allow the action, and else a refusal
    /// where it is not this actor's to take.
    pub(crate) fn apply(&mut self, action: Action, by: &By, now: Millis) -> Result<EventKind, Refusal> {
        self.check_state(&action, &by.actor)?;
        permissions::check(self, &action, by)?;
        let event = match action {
            Action::Claim { lease, .. } => self.claim(lease, &by.actor, now),
            Action::Complete { outputs } => self.complete(outputs, now),
            Action::Cancel { reason } => self.end(Status::Cancelled, reason, EventKind::Cancelled),
            Action::Fail { reason } => self.end(Status::Failed, reason, EventKind::Failed),
            Action::Reject { reason } => self.end(Status::Rejected, reason, EventKind::Rejected),
            Action::Reopen { reason } => self.reopen(reason),
            Action::MakePending if !self.status.is_open() => self.reopen(None),
            Action::MakePending => {
                self.release();
                EventKind::Updated
            }
            Action::Edit(edit) => self.edit(*edit),
        };
        self.updated_at = now;
        Ok(event)
    }

    /// Whom the task is meant for, if it is for one actor alone: only offers are.
    pub(crate) fn recipient(&self) -> Option<String> {
        (self.kind == offer::TASK_TYPE).then(|| offer::recipient_id(&self.payload)).flatten()
    }

    /// The bytes of the file that an offer is of, if it says so.
    pub(crate) fn file_size(&self) -> Option<i64> {
        let size = (self.kind == offer::TASK_TYPE).then(|| offer::size(&self.payload)).flatten()?;
        i64::try_from(size).ok()
    }

    /// When the task changes without a request: [`Task::elapse`] does nothing before, and something from then
    /// on.
    pub(crate) fn due(&self) -> Option<Millis> {
        match self.status {
            Status::InProgress => self.lease_expires,
            Status::Pending if self.kind == offer::TASK_TYPE => self.offer_ends(),
            _ => None,
        }
    }

    /// Ends a claim or an offer whose time is over.
    pub(crate) fn elapse(&mut self, now: Millis) -> Option<EventKind> {
        if self.due()? > now {
            return None;
        }
        self.updated_at = now;
        if self.status == Status::InProgress {
            self.release();
            return Some(EventKind::LeaseExpired);
        }
        self.status = Status::Cancelled;
        self.reason = Some("the offer expired: nobody took it in time".into());
        Some(EventKind::Cancelled)
    }

    /// Ends an offer that nobody touched for as long as the hub keeps what is over.
    pub(crate) fn abandon(&mut self, now: Millis) -> EventKind {
        self.status = Status::Cancelled;
        self.updated_at = now;
        self.reason = Some("the offer was abandoned: nobody took it or changed it for too long".into());
        EventKind::Cancelled
    }

    /// The task as it is sent, without its messages.
    pub(crate) fn to_value(&self) -> Value {
        json!(self)
    }

    /// When an offer that stays pending is ended; `None`, for never, where no expiry can be read.
    fn offer_ends(&self) -> Option<Millis> {
        let expiry = Millis::from(offer::expires_at(&self.payload)?).plus(OFFER_GRACE);
        let was_touched = self.updated_at > self.created_at;
        Some(if was_touched { expiry.max(self.updated_at.plus(OFFER_RETURN_TIME)) } else { expiry })
    }

    /// Refuses what nobody may do to a task in this state.
    fn check_state(&self, action: &Action, by: &Actor) -> Result<(), Refusal> {
        let is_pending = self.status == Status::Pending;
        match action {
            Action::Claim { only_pending, .. } if self.status == Status::InProgress => match &self.assignee {
                // A worker keeps a task by claiming it again.
                Some(assignee) if assignee.id == by.id && !only_pending => Ok(()),
                assignee => {
                    let who = assignee.as_ref().map_or("somebody", |assignee| &assignee.id);
                    Err(self.conflict(&format!("already claimed by {who} (in_progress)")))
                }
            },
            Action::Reopen { .. } if self.status.is_open() => Err(self.conflict("open already")),
            Action::Reopen { .. } | Action::MakePending => Ok(()),
            _ if !self.status.is_open() => Err(self.conflict(self.status.name())),
            Action::Complete { .. } if is_pending => Err(self.conflict("pending: claim it first")),
            Action::Edit(_) if !is_pending => {
                Err(self.conflict("in_progress: only a pending task is changed"))
            }
            _ => Ok(()),
        }
    }

    fn claim(&mut self, lease: Duration, by: &Actor, now: Millis) -> EventKind {
        let event = match self.status {
            Status::InProgress => EventKind::Updated,
            _ => EventKind::Claimed,
        };
        self.status = Status::InProgress;
        self.assignee = Some(by.clone());
        self.lease_expires = Some(now.plus(lease.min(LONGEST_LEASE)));
        self.reason = None;
        event
    }

    fn complete(&mut self, outputs: Vec<Value>, now: Millis) -> EventKind {
        self.status = Status::Completed;
        self.lease_expires = None;
        self.outputs = outputs;
        self.completed_at = Some(now);
        EventKind::Completed
    }

    fn end(&mut self, status: Status, reason: Option<String>, as_what: EventKind) -> EventKind {
        self.status = status;
        self.lease_expires = None;
        self.reason = reason;
        as_what
    }

    fn reopen(&mut self, reason: Option<String>) -> EventKind {
        self.release();
        self.outputs = Vec::new();
        self.completed_at = None;
        self.reason = reason;
        EventKind::Reopened
    }

    fn release(&mut self) {
        self.status = Status::Pending;
        self.assignee = None;
        self.lease_expires = None;
    }

    fn edit(&mut self, edit: Edit) -> EventKind {
        let Edit { title, description, kind, channel, priority, payload } = edit;
        if let Some(title) = title {
            self.title = title;
        }
        if description.is_some() {
            self.description = description;
        }
        if let Some(kind) = kind {
            self.kind = kind;
        }
        if let Some(channel) = channel {
            self.channel = channel;
        }
        if let Some(priority) = priority {
            self.priority = priority;
        }
        if let Some(payload) = payload {
            self.payload = payload;
        }
        EventKind::Updated
    }

    fn conflict(&self, why: &str) -> Refusal {
        Refusal::conflict(format!("task {} is {why}", self.id))
    }
}

/// As a task is sent, without its messages.
impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let assignee = self.assignee.as_ref();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("title", &self.title)?;
        map.serialize_entry("description", &self.description)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("channel", &self.channel)?;
        map.serialize_entry("priority", &self.priority)?;
        map.serialize_entry("status", self.status.name())?;
        map.serialize_entry("payload", &self.payload)?;
        map.serialize_entry("outputs", &self.outputs)?;
        map.serialize_entry("reason", &self.reason)?;
        map.serialize_entry("source_type", &self.source.kind)?;
        map.serialize_entry("source_id", &self.source.id)?;
        map.serialize_entry("source_name", &self.source.name)?;
        map.serialize_entry("assignee_type", &assignee.map(|actor| &actor.kind))?;
        map.serialize_entry("assignee_id", &assignee.map(|actor| &actor.id))?;
        map.serialize_entry("assignee_name", &assignee.map(|actor| &actor.name))?;
        map.serialize_entry("lease_expires", &self.lease_expires.map(Millis::to_text))?;
        map.serialize_entry("project_id", &self.project_id)?;
        map.serialize_entry("org_slug", &self.organization)?;
        map.serialize_entry("project_slug", &self.project)?;
        map.serialize_entry("created_at", &self.created_at.to_text())?;
        map.serialize_entry("updated_at", &self.updated_at.to_text())?;
        map.serialize_entry("completed_at", &self.completed_at.map(Millis::to_text))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use proptest::prelude::*;

    fn actor(id: &str) -> Actor {
        Actor { kind: "agent".into(), id: id.into(), name: id.to_uppercase() }
    }

    fn by(id: &str) -> By {
        By { actor: actor(id), rights: Rights::Unproven }
    }

    fn pending() -> Task {
        Task {
            id: 5,
            organization: "default".into(),
            project: "main".into(),
            project_id: 1,
            title: "t".into(),
            description: None,
            kind: "task".into(),
            channel: "default".into(),
            priority: 5,
            status: Status::Pending,
            payload: json!({}),
            outputs: Vec::new(),
            reason: None,
            source: actor("a"),
            assignee: None,
            lease_expires: None,
            created_at: Millis(0),
            updated_at: Millis(0),
            completed_at: None,
        }
    }

    fn claimed() -> Task {
        let mut task = pending();
        task.apply(claim(1000), &by("b"), Millis(10)).expect("claimed");
        task
    }

    fn claim(millis: u64) -> Action {
        Action::Claim { lease: Duration::from_millis(millis), only_pending: false }
    }

    fn fail() -> Action {
        Action::Fail { reason: Some("why".into()) }
    }

    #[test]
    fn a_claim_holds_for_its_time_and_then_lapses() {
        let mut task = claimed();
        assert_eq!((task.status, task.lease_expires), (Status::InProgress, Some(Millis(1010))));
        assert_eq!(task.elapse(Millis(1009)), None);
        assert_eq!(task.elapse(Millis(1010)), Some(EventKind::LeaseExpired));
        assert_eq!((task.status, &task.assignee, task.lease_expires), (Status::Pending, &None, None));
        assert_eq!(task.elapse(Millis(5000)), None);
    }

    fn offer(expires_at: &str) -> Task {
        let payload = json!({ "expires_at": expires_at });
        Task { kind: "file_offer".into(), payload, ..pending() }
    }

    #[test]
    fn an_offer_that_nobody_took_ends_a_moment_after_its_expiry() {
        let mut task = offer("1970-01-01T00:00:10Z");
        assert_eq!(task.due(), Some(Millis(15_000)));
        assert_eq!(task.elapse(Millis(14_999)), None);
        assert_eq!(task.status, Status::Pending);
        assert_eq!(task.elapse(Millis(15_000)), Some(EventKind::Cancelled));
        assert_eq!((task.status, task.updated_at, task.due()), (Status::Cancelled, Millis(15_000), None));
        assert!(task.reason.as_ref().is_some_and(|reason| reason.contains("expired")));
    }

    #[test]
    fn what_is_no_pending_offer_with_a_readable_expiry_does_not_end_by_itself() {
        let long_ago = "1960-01-01T00:00:00Z";
        let work = Task { kind: "task".into(), ..offer(long_ago) };
        let of_an_original = Task { payload: json!({ "transfer_id": "t" }), ..offer(long_ago) };
        let ended = Task { status: Status::Rejected, ..offer(long_ago) };
        for mut task in [work, of_an_original, ended, offer("soon")] {
            assert_eq!((task.due(), task.elapse(Millis(i64::MAX))), (None, None), "{task:?}");
        }
    }

    #[test]
    fn an_offer_whose_claim_lapsed_stays_for_the_claimant_to_come_back() {
        let mut task = offer("1970-01-01T00:00:10Z");
        task.apply(claim(60_000), &by("b"), Millis(9_000)).expect("claimed");
        assert_eq!(task.elapse(Millis(30_000)), None);
        assert_eq!(task.elapse(Millis(69_000)), Some(EventKind::LeaseExpired));
        assert_eq!(task.due(), Some(Millis(69_000).plus(OFFER_RETURN_TIME)));
        task.apply(claim(60_000), &by("b"), Millis(200_000)).expect("claimed again");
        task.apply(Action::MakePending, &by("b"), Millis(210_000)).expect("given back");
        let end = Millis(210_000).plus(OFFER_RETURN_TIME);
        assert_eq!((task.due(), task.elapse(end)), (Some(end), Some(EventKind::Cancelled)));
    }

    #[test]
    fn claiming_again_extends_and_another_is_refused() {
        let mut task = claimed();
        assert_eq!(task.apply(claim(1000), &by("b"), Millis(500)), Ok(EventKind::Updated));
        assert_eq!(task.lease_expires, Some(Millis(1500)));
        let refusal = task.apply(claim(1000), &by("c"), Millis(600)).expect_err("another's");
        assert_eq!(refusal.status, StatusCode::CONFLICT);
        assert_eq!(refusal.message, "task 5 is already claimed by b (in_progress)");
        assert_eq!(task.lease_expires, Some(Millis(1500)));
    }

    #[test]
    fn a_claim_that_is_no_renewal_is_refused_where_the_actor_has_the_task() {
        let first = || Action::Claim { lease: Duration::from_secs(1), only_pending: true };
        let mut task = pending();
        assert_eq!(task.apply(first(), &by("b"), Millis(10)), Ok(EventKind::Claimed));
        let refusal = task.apply(first(), &by("b"), Millis(500)).expect_err("no renewal");
        assert_eq!(refusal.status, StatusCode::CONFLICT);
        assert_eq!(
            (refusal.message.as_str(), task.lease_expires),
            ("task 5 is already claimed by b (in_progress)", Some(Millis(1010)),)
        );
    }

    #[test]
    fn a_claim_is_never_for_ever() {
        let mut task = pending();
        task.apply(Action::Claim { lease: Duration::MAX, only_pending: false }, &by("b"), Millis(0))
            .expect("claimed");
        assert_eq!(task.lease_expires, Some(Millis(0).plus(LONGEST_LEASE)));
    }

    #[test]
    fn only_the_claimant_completes() {
        let complete = || Action::Complete { outputs: vec![json!({"ok": true})] };
        let mut task = pending();
        assert!(task.apply(complete(), &by("b"), Millis(1)).is_err());
        let mut task = claimed();
        assert!(task.apply(complete(), &by("a"), Millis(20)).is_err());
        assert_eq!(task.apply(complete(), &by("b"), Millis(20)), Ok(EventKind::Completed));
        assert_eq!((task.completed_at, task.lease_expires), (Some(Millis(20)), None));
        assert_eq!(task.outputs, [json!({"ok": true})]);
        assert!(task.apply(complete(), &by("b"), Millis(30)).is_err());
    }

    #[test]
    fn open_tasks_can_be_cancelled_failed_and_rejected_and_ended_ones_cannot() {
        let ends = [
            ("a", Action::Cancel { reason: None }, Status::Cancelled, EventKind::Cancelled),
            ("a", fail(), Status::Failed, EventKind::Failed),
            ("b", Action::Reject { reason: None }, Status::Rejected, EventKind::Rejected),
        ];
        for (who, action, status, event) in ends {
            for mut task in [pending(), claimed()] {
                let assignee = task.assignee.clone();
                assert_eq!(task.apply(action.clone(), &by(who), Millis(20)), Ok(event));
                assert_eq!((task.status, task.lease_expires, &task.assignee), (status, None, &assignee));
                for again in [action.clone(), claim(1)] {
                    let refusal = task.apply(again, &by(who), Millis(30)).expect_err("over");
                    assert_eq!(refusal.status, StatusCode::CONFLICT, "{refusal:?}");
                }
            }
        }
    }

    #[test]
    fn an_ended_task_reopens_clean() {
        let mut task = claimed();
        assert!(task.apply(Action::Reopen { reason: None }, &by("a"), Millis(20)).is_err());
        task.apply(fail(), &by("a"), Millis(20)).expect("failed");
        assert_eq!(task.reason.as_deref(), Some("why"));
        let reopened = task.apply(Action::Reopen { reason: None }, &by("a"), Millis(30));
        assert_eq!(reopened, Ok(EventKind::Reopened));
        assert_eq!((task.status, &task.assignee, &task.reason), (Status::Pending, &None, &None));
    }

    #[test]
    fn a_refusal_names_who_may() {
        let for_b = Task { payload: json!({ "recipientId": "b" }), ..offer("2100-01-01T00:00:00Z") };
        let cancel = || Action::Cancel { reason: None };
        for (mut task, action, who) in [
            (for_b.clone(), claim(1), "claim: only b, whom it is meant for, may"),
            (for_b, cancel(), "cancel: only a, who made it, may"),
            (claimed(), fail(), "fail: only a, who made it, or b, who has claimed it, may"),
            (claimed(), Action::MakePending, "make pending: only b, who has claimed it, may"),
        ] {
            let refusal = task.apply(action, &by("c"), Millis(20)).expect_err("not c's");
            let expected = format!("task 5 is not for c to {who}");
            assert_eq!((refusal.status, refusal.message), (StatusCode::FORBIDDEN, expected));
        }
    }

    #[test]
    fn only_an_offer_is_for_one_actor_alone() {
        let payload = json!({ "recipient_id": "b" });
        let offer = Task { payload: payload.clone(), ..offer("") };
        assert_eq!(offer.recipient().as_deref(), Some("b"));
        assert_eq!(Task { payload, ..pending() }.recipient(), None);
        for nobody in [json!({}), json!({ "recipient_id": null }), json!({ "recipient_id": "" })] {
            assert_eq!(Task { payload: nobody, ..offer.clone() }.recipient(), None);
        }
    }

    #[test]
    fn a_claim_can_be_given_back() {
        let mut task = claimed();
        assert_eq!(task.apply(Action::MakePending, &by("b"), Millis(20)), Ok(EventKind::Updated));
        assert_eq!((task.status, task.lease_expires), (Status::Pending, None));
    }

    #[test]
    fn an_edit_changes_what_it_names() {
        let mut task = pending();
        let edit = Edit { title: Some("new".into()), priority: Some(9), ..Edit::default() };
        assert_eq!(task.apply(Action::Edit(Box::new(edit)), &by("a"), Millis(7)), Ok(EventKind::Updated));
        assert_eq!((task.title.as_str(), task.priority, task.updated_at), ("new", 9, Millis(7)));
        assert_eq!(task.channel, "default");
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..5000u64, any::<bool>()).prop_map(|(millis, only_pending)| Action::Claim {
                lease: Duration::from_millis(millis),
                only_pending,
            }),
            Just(Action::Complete { outputs: vec![json!(1)] }),
            Just(Action::Cancel { reason: None }),
            Just(fail()),
            Just(Action::Reject { reason: None }),
            Just(Action::Reopen { reason: None }),
            Just(Action::MakePending),
            Just(Action::Edit(Box::default())),
        ]
    }

    fn any_actor() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b")]
    }

    proptest! {
        /// Whatever is asked by whomever whenever: a task has a lease exactly while it is in progress, and
        /// has an assignee then. A refused request changes nothing. A claim ends by its time or with the
        /// task, and is never passed to another actor. A task that has just elapsed is not due at once again.
        #[test]
        fn no_order_of_requests_breaks_a_task(
            steps in prop::collection::vec((any_action(), any_actor(), 0..3000u64), 0..40),
            mut task in prop_oneof![Just(pending()), Just(offer("1970-01-01T00:00:10Z"))],
        ) {
            let mut now = Millis(0);
            for (action, who, passed) in steps {
                now = now.plus(Duration::from_millis(passed));
                task.elapse(now);
                prop_assert!(task.due().is_none_or(|due| due > now));
                let before = task.clone();
                match task.apply(action.clone(), &by(who), now) {
                    Ok(_) => prop_assert_eq!(task.updated_at, now),
                    Err(_) => prop_assert_eq!(&task, &before),
                }
                prop_assert_eq!(task.status == Status::InProgress, task.lease_expires.is_some());
                prop_assert!(task.status != Status::InProgress || task.assignee.is_some());
                prop_assert_eq!(task.completed_at.is_some(), task.status == Status::Completed);
                if before.status == Status::InProgress && task.status == Status::InProgress {
                    prop_assert_eq!(&task.assignee, &before.assignee);
                }
            }
        }
    }
}
