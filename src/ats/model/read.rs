//! The fields of the service's JSON, in the forms in which services write them.

use serde_json::Value;

use super::super::clock::parse_time;

/// What stands under `key`, if the value is an object that wraps such a thing.
pub(super) fn unwrap(mut value: Value, key: &str) -> Value {
    match value.get_mut(key) {
        Some(inner @ (Value::Object(_) | Value::Array(_))) => inner.take(),
        _ => value,
    }
}

/// A value, or the object or array that it holds as text: some stores keep JSON so.
pub(super) fn json_within(value: &Value) -> Value {
    match value {
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => inner,
            _ => value.clone(),
        },
        other => other.clone(),
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
