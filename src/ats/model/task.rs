//! Tasks.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::answer::{AnswerReader, ListEnd, ListReader};
use super::super::clock::parse_time;
use super::actor::ActorRef;
use super::id::TaskId;
use super::message::{Message, Part};
use super::read::{json_within, optional_text, take, text, unwrap, when};
use super::status::Status;

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What the service calls it by.
    pub id: TaskId,
    /// A line for people; empty where there is none.
    pub title: String,
    /// A text for people; empty where there is none.
    pub description: String,
    /// The task's `type`.
    pub kind: String,
    /// Where it was posted; empty where the service does not tell.
    pub channel: String,
    /// How far it is.
    pub status: Status,
    /// The payload; null where there is none.
    pub payload: Value,
    /// What it was completed with.
    pub outputs: Vec<Value>,
    /// Why it failed or was rejected, where the service tells.
    pub reason: Option<String>,
    /// Who made it.
    pub source: Option<ActorRef>,
    /// Who has claimed it.
    pub assignee: Option<ActorRef>,
    /// Until when the claim holds, as the service wrote it.
    pub lease_expires: Option<String>,
    /// When it was made, as the service wrote it.
    pub created_at: Option<String>,
    /// When it last changed, as the service wrote it.
    pub updated_at: Option<String>,
    /// The messages on it, where the service sent them along.
    pub messages: Vec<Message>,
    /// What else the service sent about it: all but the payload, the outputs and the messages.
    rest: Value,
}

impl Task {
    /// Reads a task, bare or wrapped in `{task}` or `{data: {task}}`; `None` if there is no id.
    pub fn from_value(value: Value) -> Option<Self> {
        let mut value = unwrap(unwrap(value, "data"), "task");
        let id = TaskId::from_value(value.get("id")?)?;
        let reason = ["reason", "failure_reason", "rejection_reason", "cancel_reason", "error"];
        Some(Self {
            id,
            title: text(&value, "title"),
            description: text(&value, "description"),
            kind: text(&value, "type"),
            channel: text(&value, "channel"),
            status: Status::from_name(value.get("status").and_then(Value::as_str).unwrap_or_default()),
            payload: json_within(take(&mut value, "payload")),
            outputs: match json_within(take(&mut value, "outputs")) {
                Value::Array(outputs) => outputs,
                Value::Null => Vec::new(),
                single => vec![single],
            },
            reason: reason.iter().find_map(|key| optional_text(&value, key)),
            source: ActorRef::read(&value, "source"),
            assignee: ActorRef::read(&value, "assignee"),
            lease_expires: when(&value, "lease_expires"),
            created_at: when(&value, "created_at"),
            updated_at: when(&value, "updated_at"),
            messages: Message::list(take(&mut value, "messages")),
            rest: value,
        })
    }

    /// Reads a task from the JSON of an answer, as the client does: what is too large or malformed in it is
    /// left out. `None` if what remains is no task.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let mut reader = AnswerReader::new(None);
        let fits = reader.feed(json);
        let answer = reader.finish().ok().filter(|_| fits)?;
        Self::from_value(answer.value)
    }

    /// The task as the service sent it, without what was left out when it was read.
    pub fn to_value(&self) -> Value {
        let mut value = self.rest.clone();
        if let Value::Object(fields) = &mut value {
            // In the place of what was taken out of it.
            let parts = [
                ("payload", self.payload.clone()),
                ("outputs", self.outputs.clone().into()),
                ("messages", self.messages.iter().map(Message::to_value).collect()),
            ];
            for (name, part) in parts {
                if let Some(place) = fields.get_mut(name) {
                    *place = part;
                }
            }
        }
        value
    }

    /// When it was made.
    pub fn created_at(&self) -> Option<OffsetDateTime> {
        self.rest.get("created_at").and_then(parse_time)
    }

    /// When it was changed last.
    pub fn updated_at(&self) -> Option<OffsetDateTime> {
        self.rest.get("updated_at").and_then(parse_time)
    }

    /// Until when the claim holds.
    pub fn lease_expires(&self) -> Option<OffsetDateTime> {
        self.rest.get("lease_expires").and_then(parse_time)
    }

    /// Whether the actor of this id has it claimed.
    pub fn is_held_by(&self, actor_id: &str) -> bool {
        self.status == Status::InProgress && self.assignee.as_ref().is_some_and(|a| a.id == actor_id)
    }

    /// Whether a message of these parts stands on it, of the actor of this id where the service tells whose.
    pub(crate) fn has_said(&self, actor_id: &str, parts: &[Part]) -> bool {
        self.messages.iter().any(|message| message.is_said_by(actor_id, parts))
    }

    /// Whether the actor of this id has completed it, where the service tells who did.
    pub(crate) fn is_completed_by(&self, actor_id: &str) -> bool {
        self.status == Status::Completed && self.assignee.as_ref().is_none_or(|a| a.id == actor_id)
    }
}

/// One page of a list of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPage<T = Task> {
    /// What was made of the tasks on it.
    pub tasks: Vec<T>,
    /// How many entries the answer has: the next page begins so many further.
    pub len: u32,
    /// How many of them were left out, wholly or in part, because they were too large or malformed.
    pub left_out: u32,
    /// Whether the answer was cut short, by the service or because it was too long.
    pub is_cut: bool,
    /// Whether there is another page. A service that does not say so may end pages wherever it likes, and
    /// then only an empty one is known to be the last. Where it says by a cursor how to go on, an empty one
    /// need not be: of a filter that fits few, some pages have none.
    pub has_more: bool,
    /// What the service calls the place where the next page begins.
    pub cursor: Option<String>,
}

impl TaskPage {
    /// Reads a page from the JSON of an answer that arrives in these pieces, as the client does: what is too
    /// large or malformed in it is left out. `None` if there is no list.
    pub fn from_json<'j>(pieces: impl IntoIterator<Item = &'j [u8]>) -> Option<Self> {
        let mut tasks = Vec::new();
        let mut reader = ListReader::new(None, |value| {
            let task = Task::from_value(value);
            let is_task = task.is_some();
            tasks.extend(task);
            is_task
        });
        let _ = pieces.into_iter().all(|piece| reader.feed(piece));
        let end = reader.finish().ok()?;
        Some(Self::new(tasks, &end))
    }
}

impl<T> TaskPage<T> {
    /// The page of a list that ended so.
    pub(in crate::ats) fn new(tasks: Vec<T>, end: &ListEnd) -> Self {
        let ListEnd { entries, left_out, is_cut, ref cursor, .. } = *end;
        let has_more = match end.has_more {
            Some(has_more) => has_more && (entries > 0 || cursor.is_some()),
            None => entries > 0,
        };
        Self { tasks, len: entries, left_out, is_cut, has_more, cursor: cursor.clone() }
    }
}

/// A task to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTask {
    /// A line for people.
    pub title: String,
    /// The task's `type`.
    pub kind: String,
    /// Where it is posted.
    pub channel: String,
    /// 1 to 10; the service takes 5 where none is given.
    pub priority: Option<u8>,
    /// A text for people.
    pub description: Option<String>,
    /// What the task is about; JSON to this client.
    pub payload: Option<Value>,
}

impl NewTask {
    /// The body of the request.
    pub(in crate::ats) fn to_value(&self) -> Value {
        let mut value = json!({ "title": self.title, "type": self.kind, "channel": self.channel });
        value["priority"] = json!(self.priority.unwrap_or(5));
        if let Some(description) = &self.description {
            value["description"] = json!(description);
        }
        if let Some(payload) = &self.payload {
            value["payload"] = payload.clone();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_task_is_told_as_it_was_sent() {
        let sent = json!({
            "id": 5, "payload": {"a": [1]}, "outputs": [{"hash": "x"}], "extra": {"b": null},
            "messages": [{"id": 1, "actor_id": "b", "parts": [{"type": "text", "content": "hi"}], "c": 1}],
        });
        assert_eq!(Task::from_value(sent.clone()).expect("a task").to_value(), sent);
        assert_eq!(Task::from_value(json!({"id": 5})).expect("a task").to_value(), json!({"id": 5}));
    }

    #[test]
    fn json_kept_as_text_costs_no_more_than_other_json() {
        let text = format!("{{\"a\":1,\"b\":[{}0]}}", "[0],".repeat(4_000));
        let task = Task::from_value(json!({"id": 5, "payload": text})).expect("a task");
        assert_eq!(task.payload["a"], 1);
        assert!(task.payload.to_string().len() < 2_000, "{}", task.payload);
    }
}
