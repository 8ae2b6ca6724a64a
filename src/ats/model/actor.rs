//! Who made, claimed or wrote something.

use serde_json::Value;

use super::read::optional_text;

/// Somebody, as a task or a message names them. A claim that nobody checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorRef {
    /// The actor id.
    pub id: String,
    /// `agent`, `human` or `system`, where given.
    pub kind: Option<String>,
    /// A name for people, where given.
    pub name: Option<String>,
}

impl ActorRef {
    /// Reads `{prefix}_id`, `_type` and `_name`, or an object under `prefix` with these.
    pub(super) fn read(value: &Value, prefix: &str) -> Option<Self> {
        let id_text = |id: &Value| match id {
            Value::String(id) if !id.is_empty() => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        };
        let field = |name: &str| format!("{prefix}_{name}");
        if let Some(id) = value.get(field("id")).and_then(id_text) {
            let kind = optional_text(value, &field("type"));
            return Some(Self { id, kind, name: optional_text(value, &field("name")) });
        }
        let nested = value.get(prefix)?;
        let id = nested.get("id").and_then(id_text)?;
        Some(Self { id, kind: optional_text(nested, "type"), name: optional_text(nested, "name") })
    }
}
