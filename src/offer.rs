//! Offers as tasks carry them: what [`protocol`] reads from payloads and messages, on the client's tasks.
//!
//! # Layout
//! - `inbox`: the offers that wait for an answer
//! - `judge`: who is behind what stands in a task
//! - `find`: the task of a transfer, by its id; `outcome`: how that ended, as far as the task tells

mod find;
pub(crate) mod inbox;
pub(crate) mod judge;
mod outcome;

use crate::ats::Task;

pub(crate) use find::{find, find_made};
pub(crate) use outcome::failure;
pub(crate) use protocol::completion::Completion;
pub(crate) use protocol::metadata::Metadata;
pub(crate) use protocol::offer::{Attributes, Expiry, Offer, TASK_TYPE, Tree, is_sha256_hex, topic};
pub(crate) use protocol::p2p::{Features, Nodes, P2p, Said};

/// Whether another process than `instance` speaks for `actor` on a task.
pub(crate) fn is_said_by_another(task: &Task, actor: &str, transfer_id: &str, instance: &[u8; 16]) -> bool {
    messages(task, actor, transfer_id)
        .any(|said| matches!(said, Said::Valid(p2p) if p2p.instance != *instance))
}

/// Whether the latest word on a task that `actor` says is another process's than `instance`.
pub(crate) fn is_last_said_by_another(
    task: &Task,
    actor: &str,
    transfer_id: &str,
    instance: &[u8; 16],
) -> bool {
    let said = messages(task, actor, transfer_id).filter_map(|said| match said {
        Said::Valid(p2p) => Some(p2p),
        Said::Nothing | Said::Malformed => None,
    });
    said.max_by_key(|p2p| p2p.seq).is_some_and(|last| last.instance != *instance)
}

/// What each message of `actor` says, oldest first.
fn messages(task: &Task, actor: &str, transfer_id: &str) -> impl Iterator<Item = Said> {
    task.messages
        .iter()
        .filter(move |message| message.actor.as_ref().is_some_and(|author| author.id == actor))
        .flat_map(|message| &message.parts)
        .filter_map(|part| part.json())
        .map(move |content| Said::from_message(&content, transfer_id))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::ats::Part;

    use super::*;

    fn p2p(seq: u64) -> P2p {
        let (nodes, features) = (Nodes::default(), Features::ours(false));
        P2p {
            key: [7; 32],
            nodes,
            instance: [1; 16],
            seq,
            features,
            service: None,
            tunnel: None,
            proof: None,
            handover: Vec::new(),
        }
    }

    fn task(messages: &[Value]) -> Task {
        Task::from_value(json!({ "id": 1, "messages": messages })).expect("a task")
    }

    #[test]
    fn a_message_is_read_as_text_and_as_an_object() {
        let message = p2p(1).to_message("t");
        for part in [Part::data(&message), Part { kind: "data".into(), content: message }] {
            let task = task(&[json!({ "actor_id": "b", "parts": [part.to_value()] })]);
            assert_eq!(messages(&task, "b", "t").collect::<Vec<_>>(), [Said::Valid(p2p(1))]);
            assert_eq!(messages(&task, "b", "another").collect::<Vec<_>>(), [Said::Malformed]);
        }
        let chat = task(&[json!({ "actor_id": "b", "parts": [Part::text("hello").to_value()] })]);
        assert!(messages(&chat, "b", "t").all(|said| said == Said::Nothing));
    }

    #[test]
    fn only_the_actor_itself_says_how_it_is_reached() {
        let part = json!({ "type": "data", "content": p2p(1).to_message("t") });
        let task = task(&[json!({ "actor_id": "b", "parts": [part] })]);
        assert_eq!(messages(&task, "c", "t").count(), 0);
        assert!(is_said_by_another(&task, "b", "t", &[2; 16]));
        assert!(!is_said_by_another(&task, "b", "t", &[1; 16]));
        assert!(!is_said_by_another(&task, "c", "t", &[2; 16]));
    }
}
