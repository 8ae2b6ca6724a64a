//! Any bytes as the message of a task service's event connection. Fuzzing runs it.

use ats_p2p::ats::AtsEvent;

pub(crate) fn run(data: &[u8]) {
    if let Some(AtsEvent::Task { kind, task, .. }) = AtsEvent::from_json(data) {
        assert!(kind.name().len() <= 4 * 64, "a kind that is not known is cut");
        let _ = (task.created_at(), task.to_value());
    }
}
