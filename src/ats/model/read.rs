//! The fields of the service's JSON, in the forms in which services write them.

use serde_json::Value;

use super::super::answer::{self, LISTED_TASK, Read};
use super::super::clock::parse_time;

/// What stands under `key`, if the value is an object that wraps such a thing.
pub(super) fn unwrap(mut value: Value, key: &str) -> Value {
    match value.get_mut(key) {
        Some(inner @ (Value::Object(_) | Value::Array(_))) => inner.take(),
        _ => value,
    }
}

/// Takes what stands under `key` out of an object and leaves null in its place; null where there is none.
pub(super) fn take(value: &mut Value, key: &str) -> Value {
    value.get_mut(key).map(Value::take).unwrap_or_default()
}

/// A value, or the object or array that it holds as text: some stores keep JSON so.
pub(super) fn json_within(value: Value) -> Value {
    match &value {
        // What it costs is bounded here: a budget that was kept to with the text knows nothing of it.
        Value::String(text) => match answer::read(text.as_bytes(), LISTED_TASK, None) {
            Some(Read { value: inner @ (Value::Object(_) | Value::Array(_)), .. }) => inner,
            _ => value,
        },
        _ => value,
    }
}

/// The text under `key`, unless it is empty.
pub(super) fn optional_text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The text under `key`; empty where there is none.
pub(super) fn text(value: &Value, key: &str) -> String {
    optional_text(value, key).unwrap_or_default()
}

/// A time as it was given, if it reads as one.
pub(super) fn when(value: &Value, key: &str) -> Option<String> {
    let given = value.get(key)?;
    parse_time(given)?;
    Some(given.as_str().map_or_else(|| given.to_string(), str::to_owned))
}
