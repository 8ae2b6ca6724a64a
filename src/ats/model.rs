//! Tasks and what they hold, as the service tells of them.
//!
//! The service is another's and its answers vary, so everything is read liberally: what is missing or of
//! another kind is left out, and only a task without an id is none.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde_json::Value;
use time::OffsetDateTime;

use super::clock::parse_time;

/// The most bytes an id may have: far above any seen, so that a path or a log line stays bounded.
const MAX_ID: usize = 128;

/// The id of a task or a message: a number or a text, kept as it was given.
///
/// Two ids are one if they read the same, whether written as a number or as a text.
#[derive(Clone)]
pub struct TaskId {
    text: String,
    is_number: bool,
}

impl TaskId {
    /// Reads an id from JSON: a whole number or a text fit to stand in a path.
    pub fn from_value(value: &Value) -> Option<Self> {
        /// Above it a JSON number does not name one integer any more.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match value {
            Value::String(text) => Self::checked(text.clone(), false),
            Value::Number(number) if number.is_f64() => {
                let float = number.as_f64()?;
                let whole = float.fract() == 0.0 && float.abs() < EXACT;
                whole.then(|| format!("{float:.0}")).and_then(|text| Self::checked(text, true))
            }
            Value::Number(number) => Self::checked(number.to_string(), true),
            _ => None,
        }
    }

    /// Reads an id that a person gave: digits are a number, as every service seen numbers its tasks.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_number = !text.is_empty() && text.len() < 19 && text.bytes().all(|b| b.is_ascii_digit());
        let is_number = is_number && (text == "0" || !text.starts_with('0'));
        Self::checked(text.to_owned(), is_number)
    }

    /// The id as JSON, as it was given.
    pub fn to_value(&self) -> Value {
        let number = self.is_number.then(|| serde_json::from_str(&self.text).ok()).flatten();
        number.unwrap_or_else(|| Value::String(self.text.clone()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Dots alone are refused because a path swallows them, controls because they end up in terminals.
    fn checked(text: String, is_number: bool) -> Option<Self> {
        let fit = !text.is_empty()
            && text.len() <= MAX_ID
            && text != "."
            && text != ".."
            && !text.chars().any(char::is_control);
        fit.then_some(Self { text, is_number })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for TaskId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TaskId {}

impl Hash for TaskId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Pending,
    InProgress,
    Completed,
    Cancelled,
    Failed,
    Rejected,
    /// One that this client does not know.
    Other(String),
}

impl Status {
    /// Reads a state by its name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "pending" => Self::Pending,
            "in_progress" => Self::InProgress,
            "completed" => Self::Completed,
            "cancelled" | "canceled" => Self::Cancelled,
            "failed" => Self::Failed,
            "rejected" => Self::Rejected,
            other => Self::Other(other.chars().take(MAX_ID).collect()),
        }
    }

    /// The state's name in the service's language.
    pub fn name(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Other(name) => name,
        }
    }

    /// Whether the task has come to one of its four ends.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed | Self::Rejected)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Somebody, as a task or a message names them. A claim that nobody checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorRef {
    pub id: String,
    /// `agent`, `human` or `system`, where given.
    pub kind: Option<String>,
    pub name: Option<String>,
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// `text`, `data` or another type.
    pub kind: String,
    pub content: Value,
}

/// A message on a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: Option<TaskId>,
    /// Who posted it, as far as the service knows.
    pub actor: Option<ActorRef>,
    pub parts: Vec<Part>,
    /// When it was posted, as the service wrote it.
    pub created_at: Option<String>,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub id: TaskId,
    pub title: String,
    pub description: String,
    /// The task's `type`.
    pub kind: String,
    pub channel: String,
    pub status: Status,
    /// The payload; null where there is none.
    pub payload: Value,
    pub outputs: Vec<Value>,
    /// Why it failed or was rejected, where the service tells.
    pub reason: Option<String>,
    /// Who made it.
    pub source: Option<ActorRef>,
    /// Who has claimed it.
    pub assignee: Option<ActorRef>,
    /// Until when the claim holds, as the service wrote it.
    pub lease_expires: Option<String>,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    pub messages: Vec<Message>,
    /// Everything the service sent about it.
    pub raw: Value,
}

impl Task {
    /// Reads a task, bare or wrapped in `{task}` or `{data: {task}}`; `None` if there is no id.
    pub fn from_value(value: Value) -> Option<Self> {
        let value = unwrap(unwrap(value, "data"), "task");
        let id = TaskId::from_value(value.get("id")?)?;
        let reason = ["reason", "failure_reason", "rejection_reason", "cancel_reason", "error"];
        Some(Self {
            id,
            title: text(&value, "title"),
            description: text(&value, "description"),
            kind: text(&value, "type"),
            channel: text(&value, "channel"),
            status: Status::from_name(value.get("status").and_then(Value::as_str).unwrap_or_default()),
            payload: value.get("payload").map(json_within).unwrap_or_default(),
            outputs: match value.get("outputs").map(json_within) {
                Some(Value::Array(outputs)) => outputs,
                None | Some(Value::Null) => Vec::new(),
                Some(single) => vec![single],
            },
            reason: reason.iter().find_map(|key| optional_text(&value, key)),
            source: actor(&value, "source"),
            assignee: actor(&value, "assignee"),
            lease_expires: when(&value, "lease_expires"),
            created_at: when(&value, "created_at"),
            updated_at: when(&value, "updated_at"),
            messages: Message::list(value.get("messages").unwrap_or(&Value::Null)),
            raw: value,
        })
    }

    /// Reads a list of tasks, bare or wrapped in `{tasks}`. What is no task in it is left out; `None` if
    /// there is no list.
    pub fn list(value: Value) -> Option<Vec<Self>> {
        match unwrap(unwrap(value, "data"), "tasks") {
            Value::Array(tasks) => Some(tasks.into_iter().filter_map(Self::from_value).collect()),
            _ => None,
        }
    }

    /// When it was made.
    pub fn created_at(&self) -> Option<OffsetDateTime> {
        self.raw.get("created_at").and_then(parse_time)
    }

    /// Until when the claim holds.
    pub fn lease_expires(&self) -> Option<OffsetDateTime> {
        self.raw.get("lease_expires").and_then(parse_time)
    }

    /// Whether the actor of this id has it claimed.
    pub fn is_held_by(&self, actor_id: &str) -> bool {
        self.status == Status::InProgress && self.assignee.as_ref().is_some_and(|a| a.id == actor_id)
    }
}

impl Message {
    /// Reads a message, bare or wrapped in `{message}`.
    pub fn from_value(value: Value) -> Option<Self> {
        let value = unwrap(value, "message");
        value.is_object().then(|| Self {
            id: value.get("id").and_then(TaskId::from_value),
            actor: actor(&value, "actor"),
            parts: match value.get("parts").map(json_within) {
                Some(Value::Array(parts)) => parts.iter().filter_map(Part::from_value).collect(),
                _ => Vec::new(),
            },
            created_at: when(&value, "created_at"),
        })
    }

    /// Reads a list of messages, bare or wrapped in `{messages}`; nothing else counts as a message.
    pub fn list(value: &Value) -> Vec<Self> {
        let list = value.get("messages").unwrap_or(value).as_array();
        list.into_iter().flatten().cloned().filter_map(Self::from_value).collect()
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
        serde_json::json!({ "type": self.kind, "content": self.content })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let content = ["content", "data", "text"].iter().find_map(|key| value.get(key))?.clone();
        Some(Self { kind: text(value, "type"), content })
    }
}

/// What stands under `key`, if the value is an object that wraps such a thing.
fn unwrap(mut value: Value, key: &str) -> Value {
    match value.get_mut(key) {
        Some(inner @ (Value::Object(_) | Value::Array(_))) => inner.take(),
        _ => value,
    }
}

/// A value, or the object or array that it holds as text: some stores keep JSON so.
fn json_within(value: &Value) -> Value {
    match value {
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => inner,
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

fn optional_text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn text(value: &Value, key: &str) -> String {
    optional_text(value, key).unwrap_or_default()
}

/// A time as it was given, if it reads as one.
fn when(value: &Value, key: &str) -> Option<String> {
    let given = value.get(key)?;
    parse_time(given)?;
    Some(given.as_str().map_or_else(|| given.to_string(), str::to_owned))
}

/// `{prefix}_id`, `_type` and `_name`, or an object under `prefix` with these.
fn actor(value: &Value, prefix: &str) -> Option<ActorRef> {
    let id_text = |id: &Value| match id {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    let field = |name: &str| format!("{prefix}_{name}");
    if let Some(id) = value.get(field("id")).and_then(id_text) {
        let kind = optional_text(value, &field("type"));
        return Some(ActorRef { id, kind, name: optional_text(value, &field("name")) });
    }
    let nested = value.get(prefix)?;
    let id = nested.get("id").and_then(id_text)?;
    Some(ActorRef { id, kind: optional_text(nested, "type"), name: optional_text(nested, "name") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn ids_keep_their_form_and_compare_by_text() {
        let number = TaskId::from_value(&json!(17)).expect("an id");
        let text = TaskId::from_value(&json!("17")).expect("an id");
        assert_eq!(number, text);
        assert_eq!((number.to_value(), text.to_value()), (json!(17), json!("17")));
        assert_eq!(TaskId::from_value(&json!(17.0)).expect("an id").to_string(), "17");
        assert_eq!(TaskId::from_text(" 17 ").expect("an id").to_value(), json!(17));
        assert_eq!(TaskId::from_text("017").expect("an id").to_value(), json!("017"));
        let long = "b1946ac9-2492-4d2a-8d3d-000000000000";
        assert_eq!(TaskId::from_text(long).expect("an id").to_value(), json!(long));
    }

    #[test]
    fn what_cannot_stand_in_a_path_is_no_id() {
        for wrong in [
            json!(""),
            json!("."),
            json!(".."),
            json!("a\nb"),
            json!(1.5),
            json!(1e30),
            json!(null),
            json!([]),
        ] {
            assert_eq!(TaskId::from_value(&wrong), None, "{wrong}");
        }
        assert_eq!(TaskId::from_text(&"9".repeat(129)), None);
    }

    #[test]
    fn a_task_is_read_bare_and_wrapped() {
        let bare = json!({
            "id": 5, "title": "t", "type": "file_offer", "channel": "c", "status": "in_progress",
            "payload": {"size": 1}, "outputs": [], "source_type": "agent", "source_id": "a",
            "assignee_id": "b", "assignee_name": "B", "lease_expires": "2026-01-01T00:00:00Z",
            "created_at": 1_700_000_000_000_u64, "messages": [{"id": 1, "actor_id": "b", "parts": []}],
        });
        for given in [bare.clone(), json!({"task": bare}), json!({"data": {"task": bare}})] {
            let task = Task::from_value(given).expect("a task");
            assert_eq!(task.id.as_str(), "5");
            assert_eq!(task.status, Status::InProgress);
            assert_eq!(task.source.as_ref().map(|a| a.id.as_str()), Some("a"));
            assert!(task.is_held_by("b") && !task.is_held_by("a"));
            assert_eq!(task.created_at().map(|t| t.unix_timestamp()), Some(1_700_000_000));
            assert_eq!(task.messages.len(), 1);
        }
    }

    #[test]
    fn json_kept_as_text_is_read() {
        let task = Task::from_value(json!({"id": "x", "payload": "{\"a\":1}", "outputs": "[1,2]"}));
        let task = task.expect("a task");
        assert_eq!(task.payload, json!({"a": 1}));
        assert_eq!(task.outputs, [json!(1), json!(2)]);
    }

    #[test]
    fn a_list_leaves_out_what_is_no_task() {
        let tasks = Task::list(json!({"tasks": [{"id": 1}, {"no": "id"}, 7, null], "count": 4}));
        assert_eq!(tasks.expect("a list").len(), 1);
        assert_eq!(Task::list(json!([{"id": 1}])).expect("a list").len(), 1);
        assert!(Task::list(json!({"error": "x"})).is_none());
    }

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

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("id"),
            Just("task"),
            Just("data"),
            Just("payload"),
            Just("messages"),
            Just("parts"),
            Just("source"),
            Just("source_id"),
            Just("created_at"),
            Just("outputs"),
            Just("content"),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(|fields| {
                    fields
                        .into_iter()
                        .map(|(k, v)| (k.to_owned(), v))
                        .collect::<serde_json::Map<_, _>>()
                        .into()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_makes_reading_panic(value in arbitrary_json()) {
            let _ = Message::list(&value);
            let _ = Task::list(value.clone());
            if let Some(task) = Task::from_value(value) {
                let _ = (task.created_at(), task.lease_expires());
                prop_assert_eq!(TaskId::from_value(&task.id.to_value()), Some(task.id));
            }
        }
    }
}
