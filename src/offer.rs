//! Offers as tasks carry them: what [`protocol`] reads from payloads and messages, on the client's tasks.

pub(crate) mod inbox;

use crate::ats::Task;

pub(crate) use protocol::offer::{Attributes, Expiry, Offer, TASK_TYPE, is_sha256_hex, topic};
pub(crate) use protocol::p2p::{Features, Nodes, P2p, Said};

/// What `actor` said on a task about how its peer is reached. Messages of others say nothing.
pub(crate) fn said_by(task: &Task, actor: &str, transfer_id: &str) -> Said {
    messages(task, actor, transfer_id).fold(Said::Nothing, Said::and_then)
}

/// Whether another process than `instance` speaks for `actor` on a task.
pub(crate) fn is_said_by_another(task: &Task, actor: &str, transfer_id: &str, instance: &[u8; 16]) -> bool {
    messages(task, actor, transfer_id)
        .any(|said| matches!(said, Said::Valid(p2p) if p2p.instance != *instance))
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
        let (nodes, features) = (Nodes::default(), Features::ours());
        P2p { key: [7; 32], nodes, instance: [1; 16], seq, features, service: None, proof: None }
    }

    fn task(messages: &[Value]) -> Task {
        Task::from_value(json!({ "id": 1, "messages": messages })).expect("a task")
    }

    #[test]
    fn a_message_is_read_as_text_and_as_an_object() {
        let message = p2p(1).to_message("t");
        for part in [Part::data(&message), Part { kind: "data".into(), content: message }] {
            let task = task(&[json!({ "actor_id": "b", "parts": [part.to_value()] })]);
            assert_eq!(said_by(&task, "b", "t"), Said::Valid(p2p(1)));
            assert_eq!(said_by(&task, "b", "another"), Said::Malformed);
        }
        let chat = task(&[json!({ "actor_id": "b", "parts": [Part::text("hello").to_value()] })]);
        assert_eq!(said_by(&chat, "b", "t"), Said::Nothing);
    }

    #[test]
    fn only_the_actor_itself_says_how_it_is_reached_and_its_latest_word_counts() {
        let message = |actor: &str, content: Value| {
            let part = json!({ "type": "data", "content": content });
            json!({ "actor_id": actor, "parts": [part] })
        };
        let said = |messages: &[Value]| said_by(&task(messages), "b", "t");
        assert_eq!(said(&[message("c", p2p(1).to_message("t"))]), Said::Nothing);
        let (old, new) = (message("b", p2p(1).to_message("t")), message("b", p2p(2).to_message("t")));
        assert_eq!(said(&[old.clone(), new.clone()]), Said::Valid(p2p(2)));
        assert_eq!(said(&[new.clone(), old]), Said::Valid(p2p(2)));

        let task = task(&[new]);
        assert!(is_said_by_another(&task, "b", "t", &[2; 16]));
        assert!(!is_said_by_another(&task, "b", "t", &[1; 16]));
        assert!(!is_said_by_another(&task, "c", "t", &[2; 16]));
    }
}
