//! Tasks and what they hold, as the service tells of them.
//!
//! Services differ in their answers, so everything is read liberally: a field that is missing or of another
//! kind is left out. Only a task without an id is not taken for one.
//!
//! # Layout
//! - `task`, `status`: a task, and one to be made
//! - `query`: which tasks to list
//! - `message`: a message on a task
//! - `actor`: who made, claimed or wrote it
//! - `id`: what names a task or a message
//! - `read`: the fields of JSON that these share

mod actor;
mod id;
mod message;
mod query;
mod read;
mod status;
mod task;

pub use actor::ActorRef;
pub use id::TaskId;
pub use message::{Message, Part};
pub use query::ListQuery;
pub use status::Status;
pub use task::{NewTask, Task, TaskPage};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

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
            let _ = Message::list(value.clone());
            if let Some(task) = Task::from_value(value) {
                let _ = (task.created_at(), task.lease_expires(), task.to_value());
                prop_assert_eq!(TaskId::from_value(&task.id.to_value()), Some(task.id));
            }
        }
    }
}
