//! Tasks.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::clock::parse_time;
use super::actor::ActorRef;
use super::id::TaskId;
use super::message::Message;
use super::read::{json_within, optional_text, text, unwrap, when};
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
            source: ActorRef::read(&value, "source"),
            assignee: ActorRef::read(&value, "assignee"),
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
        TaskPage::from_value(value).map(|page| page.tasks)
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

/// One page of a list of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPage {
    /// The tasks on it. What is no task in the answer is left out.
    pub tasks: Vec<Task>,
    /// How many entries the answer has: the next page begins so many further.
    pub len: u32,
    /// Whether there is another page. A service that does not say so may end pages wherever it likes, and
    /// then only an empty one is known to be the last.
    pub has_more: bool,
}

impl TaskPage {
    /// Reads a list, bare or wrapped in `{tasks}`; `None` if there is none.
    pub fn from_value(value: Value) -> Option<Self> {
        let value = unwrap(value, "data");
        let has_more = value.get("has_more").and_then(Value::as_bool);
        match unwrap(value, "tasks") {
            Value::Array(entries) => Some(Self {
                len: u32::try_from(entries.len()).unwrap_or(u32::MAX),
                has_more: !entries.is_empty() && has_more.unwrap_or(true),
                tasks: entries.into_iter().filter_map(Task::from_value).collect(),
            }),
            _ => None,
        }
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
    fn a_list_leaves_out_what_is_no_task() {
        let tasks = Task::list(json!({"tasks": [{"id": 1}, {"no": "id"}, 7, null], "count": 4}));
        assert_eq!(tasks.expect("a list").len(), 1);
        assert_eq!(Task::list(json!([{"id": 1}])).expect("a list").len(), 1);
        assert!(Task::list(json!({"error": "x"})).is_none());
    }

    #[test]
    fn a_page_counts_what_is_no_task_and_is_the_last_when_it_says_so_or_is_empty() {
        let page =
            |value| TaskPage::from_value(value).map(|page| (page.tasks.len(), page.len, page.has_more));
        assert_eq!(page(json!({"tasks": [{"id": 1}, 7]})), Some((1, 2, true)));
        assert_eq!(page(json!({"tasks": [{"id": 1}], "has_more": false})), Some((1, 1, false)));
        assert_eq!(page(json!({"data": {"tasks": [{"id": 1}], "has_more": true}})), Some((1, 1, true)));
        assert_eq!(page(json!({"tasks": [], "has_more": true})), Some((0, 0, false)));
        assert_eq!(page(json!([])), Some((0, 0, false)));
    }
}
