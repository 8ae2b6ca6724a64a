//! Messages on a task.

use serde_json::{Value, json};

use super::actor::ActorRef;
use super::id::TaskId;
use super::read::{json_within, take, text, unwrap, when};

/// One part of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// `text`, `data` or another type.
    pub kind: String,
    /// What it holds: a text, or JSON.
    pub content: Value,
}

/// A message on a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id, where the service gives it one.
    pub id: Option<TaskId>,
    /// Who posted it, as far as the service knows.
    pub actor: Option<ActorRef>,
    /// What it says.
    pub parts: Vec<Part>,
    /// When it was posted, as the service wrote it.
    pub created_at: Option<String>,
    /// What else the service sent about it: all but the parts.
    rest: Value,
}

impl Message {
    /// Reads a message, bare or wrapped in `{message}`.
    pub fn from_value(value: Value) -> Option<Self> {
        let mut value = unwrap(value, "message");
        value.is_object().then(|| Self {
            id: value.get("id").and_then(TaskId::from_value),
            actor: ActorRef::read(&value, "actor"),
            parts: match json_within(take(&mut value, "parts")) {
                Value::Array(parts) => parts.into_iter().filter_map(Part::from_value).collect(),
                _ => Vec::new(),
            },
            created_at: when(&value, "created_at"),
            rest: value,
        })
    }

    /// Reads a list of messages, bare or wrapped in `{messages}`; nothing else counts as a message.
    pub fn list(value: Value) -> Vec<Self> {
        match unwrap(value, "messages") {
            Value::Array(messages) => messages.into_iter().filter_map(Self::from_value).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether this is what the actor of this id said, where the service tells who did.
    pub(crate) fn is_said_by(&self, actor_id: &str, parts: &[Part]) -> bool {
        self.parts == parts && self.actor.as_ref().is_none_or(|actor| actor.id == actor_id)
    }

    /// The message as the service sent it.
    pub(super) fn to_value(&self) -> Value {
        let mut value = self.rest.clone();
        if let Some(place) = value.get_mut("parts") {
            *place = Part::to_values(&self.parts);
        }
        value
    }
}

impl Part {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: "text".into(), content: Value::String(text.into()) }
    }

    /// A part of data, whose content is the JSON text of `data`.
    pub fn data(data: &Value) -> Self {
        Self { kind: "data".into(), content: Value::String(data.to_string()) }
    }

    /// The content as JSON: an object as it stands, a text that holds JSON read.
    pub fn json(&self) -> Option<Value> {
        match &self.content {
            Value::String(text) => serde_json::from_str(text).ok(),
            Value::Null => None,
            other => Some(other.clone()),
        }
    }

    /// The part as it is sent.
    pub fn to_value(&self) -> Value {
        json!({ "type": self.kind, "content": self.content })
    }

    /// The parts of a message as they are sent.
    pub(crate) fn to_values(parts: &[Self]) -> Value {
        parts.iter().map(Self::to_value).collect()
    }

    fn from_value(mut value: Value) -> Option<Self> {
        let kind = text(&value, "type");
        let key = ["content", "data", "text"].into_iter().find(|key| value.get(key).is_some())?;
        let content = take(&mut value, key);
        Some(Self { kind, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_text_object_or_data() {
        let inner = json!({"transfer_id": "t"});
        for part in [
            json!({"type": "data", "content": inner.to_string()}),
            json!({"type": "data", "content": inner}),
            json!({"type": "data", "data": inner}),
        ] {
            let message = Message::from_value(json!({"parts": [part]})).expect("a message");
            assert_eq!(message.parts[0].json(), Some(inner.clone()));
        }
        assert_eq!(Part::data(&inner).json(), Some(inner));
        assert_eq!(Part::text("not json").json(), None);
    }
}
