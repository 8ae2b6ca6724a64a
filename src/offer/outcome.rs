//! How a transfer ended, as far as its task tells: for whoever did not take part, or was not there.

use time::{Duration, OffsetDateTime};

use super::Offer;
use crate::ats::{Status, Task};
use crate::error::Code;

/// How long before the end of its offer a task may be withdrawn for that: its sender goes by a clock that it
/// knows to a second or so.
const EARLY: Duration = Duration::seconds(2);

/// How long after its end an offer that still stands may be taken yet, by a recipient with another clock.
const LATE: Duration = Duration::seconds(5);

/// The failures whose words on a task say which they are. All others are the peer's own.
const TOLD: [Code; 8] = [
    Code::Integrity,
    Code::Stalled,
    Code::PeerUnreachable,
    Code::SourceChanged,
    Code::WrongClaimant,
    Code::Identity,
    Code::OfferExpired,
    Code::Cancelled,
];

/// What a transfer failed with, at this time of the service; `None` while it may come to something, and where
/// it did.
pub(crate) fn failure(task: &Task, offer: Option<&Offer>, now: OffsetDateTime) -> Option<Code> {
    let ends = offer.and_then(|offer| offer.expires_at.as_ref()).map(|end| end.at());
    let is_over_at = |time: OffsetDateTime| ends.is_some_and(|end| end <= time);
    let says = |code: &Code| task.reason.as_deref() == Some(code.public_reason());
    match task.status {
        Status::Completed | Status::InProgress => None,
        Status::Pending => is_over_at(now - LATE).then_some(Code::OfferExpired),
        Status::Cancelled => {
            let is_late = task.updated_at().is_some_and(|updated| is_over_at(updated + EARLY));
            Some(if is_late { Code::OfferExpired } else { Code::Cancelled })
        }
        Status::Rejected => Some(if says(&Code::OfferExpired) { Code::OfferExpired } else { Code::Rejected }),
        Status::Failed => Some(TOLD.into_iter().find(says).unwrap_or(Code::RemoteError)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ENDS: &str = "2030-01-01T00:02:00Z";

    /// What a task in this state says at a time of the minute in which its offer ends.
    fn told(status: &str, reason: Option<&str>, updated: &str, now: &str) -> Option<Code> {
        let payload = json!({
            "transfer_id": "t", "filename": "x", "size": 1, "hash": "0".repeat(64), "sender_id": "a",
            "expires_at": ENDS,
        });
        let task = json!({ "id": 1, "status": status, "reason": reason, "updated_at": updated });
        let (task, offer) = (Task::from_value(task).unwrap(), Offer::from_payload(&payload).unwrap());
        let now = OffsetDateTime::parse(now, &time::format_description::well_known::Rfc3339).unwrap();
        failure(&task, Some(&offer), now)
    }

    #[test]
    fn what_is_open_or_done_has_not_failed() {
        let at = "2030-01-01T00:01:00Z";
        for status in ["pending", "in_progress", "completed", "another"] {
            assert_eq!(told(status, None, at, at), None, "{status}");
        }
        assert_eq!(told("in_progress", None, at, "2031-01-01T00:00:00Z"), None);
    }

    #[test]
    fn an_offer_that_nobody_took_in_time_has_expired_however_its_task_ended() {
        let (at, after) = ("2030-01-01T00:01:59.5Z", "2030-01-01T00:02:06Z");
        let expired = Some(Code::OfferExpired);
        assert_eq!(told("pending", None, at, after), expired);
        assert_eq!(told("cancelled", None, at, at), expired);
        assert_eq!(told("rejected", Some(Code::OfferExpired.public_reason()), at, at), expired);
        assert_eq!(told("cancelled", None, "2030-01-01T00:01:00Z", after), Some(Code::Cancelled));
    }

    #[test]
    fn a_failure_goes_by_what_its_task_says() {
        let at = "2030-01-01T00:01:00Z";
        assert_eq!(told("rejected", Some("not today"), at, at), Some(Code::Rejected));
        for code in TOLD {
            assert_eq!(told("failed", Some(code.public_reason()), at, at), Some(code));
        }
        for reason in [None, Some("the receiver's disk is full"), Some("no idea")] {
            assert_eq!(told("failed", reason, at, at), Some(Code::RemoteError));
        }
    }
}
