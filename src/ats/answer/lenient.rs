//! Reads JSON within a budget and leaves out the parts that cannot be had.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::settings::Secret;

/// How deep into a value parts may be left out: an event, its data, the task, its payload, what is in that.
/// Below, a value is had whole or not at all.
const MAX_LEVELS: u8 = 6;
/// The most parts that are looked at of one object or array.
const MAX_PARTS: usize = 4096;

/// How much of a value may be kept.
#[derive(Clone, Copy, Debug)]
pub(in crate::ats) struct Budget {
    /// The most bytes of JSON.
    pub(in crate::ats) bytes: usize,
    /// The most values and names in it, for what each costs in memory besides its bytes.
    pub(in crate::ats) values: usize,
}

/// A value that was read.
#[derive(Debug)]
pub(in crate::ats) struct Read {
    pub(in crate::ats) value: Value,
    /// Whether nothing of it was left out.
    pub(in crate::ats) is_whole: bool,
    /// What it took of the budget.
    pub(in crate::ats) cost: Budget,
}

/// Reads a JSON value and takes `secret` out of it. Where it does not fit the budget, is nested deeper than
/// can be read, or holds text that is none, it is read part by part, the small parts first, and what still
/// does not fit is left out. `None` if nothing could be had.
pub(in crate::ats) fn read(json: &[u8], budget: Budget, secret: Option<&Secret>) -> Option<Read> {
    let text = String::from_utf8_lossy(json);
    let mut left = budget;
    let (value, is_whole) = take(text.trim_ascii(), &mut left, MAX_LEVELS);
    let mut value = value?;
    if let Some(secret) = secret {
        secret.redact(&mut value);
    }
    let cost = Budget { bytes: budget.bytes - left.bytes, values: budget.values - left.values };
    Some(Read { value, is_whole: is_whole && matches!(text, Cow::Borrowed(_)), cost })
}

impl Budget {
    /// Takes the cost of a value off, if it fits.
    fn afford(&mut self, cost: Self) -> bool {
        match (self.bytes.checked_sub(cost.bytes), self.values.checked_sub(cost.values)) {
            (Some(bytes), Some(values)) => {
                *self = Self { bytes, values };
                true
            }
            _ => false,
        }
    }
}

/// What a value costs.
fn cost(json: &str) -> Budget {
    let (mut is_text, mut is_escaped, mut values) = (false, false, 1);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b',' | b':' | b'[' | b'{' if !is_text => values += 1,
            _ => {}
        }
    }
    Budget { bytes: json.len(), values }
}

/// The value, or what can be had of it, and whether that is all.
fn take(json: &str, budget: &mut Budget, levels: u8) -> (Option<Value>, bool) {
    let before = *budget;
    if budget.afford(cost(json)) {
        if let Ok(value) = serde_json::from_str(json) {
            return (Some(value), true);
        }
        *budget = before;
    }
    if levels == 0 || !budget.afford(Budget { bytes: 2, values: 1 }) {
        return (None, false);
    }
    match json.as_bytes().first() {
        Some(b'{') => {
            let Ok(Parts(parts)) = serde_json::from_str::<Parts<(String, &RawValue)>>(json) else {
                return (None, false);
            };
            let raws = parts.iter().map(|(_, raw)| raw.get()).collect();
            let values = take_parts(raws, budget, levels);
            let named = parts.into_iter().map(|(name, _)| name).zip(values);
            let kept = named.filter_map(|(name, value)| Some((name, value?)));
            (Some(Value::Object(kept.collect::<Map<_, _>>())), false)
        }
        Some(b'[') => {
            let Ok(Parts(parts)) = serde_json::from_str::<Parts<&RawValue>>(json) else {
                return (None, false);
            };
            let values = take_parts(parts.into_iter().map(RawValue::get).collect(), budget, levels);
            (Some(Value::Array(values.into_iter().flatten().collect())), false)
        }
        _ => (None, false),
    }
}

/// What can be had of some parts, the small ones first.
fn take_parts(raws: Vec<&str>, budget: &mut Budget, levels: u8) -> Vec<Option<Value>> {
    let mut order: Vec<usize> = (0..raws.len()).collect();
    order.sort_by_key(|&index| raws.get(index).map_or(0, |raw| raw.len()));
    let mut values = vec![None; raws.len()];
    for index in order {
        if let (Some(raw), Some(value)) = (raws.get(index), values.get_mut(index)) {
            *value = take(raw, budget, levels - 1).0;
        }
    }
    values
}

/// The parts of an object or an array, unread.
struct Parts<T>(Vec<T>);

impl<'de> Deserialize<'de> for Parts<(String, &'de RawValue)> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Parts<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while members.len() < MAX_PARTS {
                    match map.next_entry()? {
                        Some(member) => members.push(member),
                        None => return Ok(Parts(members)),
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Parts(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Parts<&'de RawValue> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Parts<&'de RawValue>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while elements.len() < MAX_PARTS {
                    match seq.next_element()? {
                        Some(element) => elements.push(element),
                        None => return Ok(Parts(elements)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Parts(elements))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SMALL: Budget = Budget { bytes: 200, values: 20 };

    fn read_small(json: &str) -> Option<(Value, bool)> {
        read(json.as_bytes(), SMALL, None).map(|read| (read.value, read.is_whole))
    }

    #[test]
    fn what_fits_is_read_whole() {
        let value = json!({"a": [1, "x,y:[{", {"b": null}]});
        let read = read(value.to_string().as_bytes(), SMALL, None).expect("JSON");
        assert_eq!((read.value, read.is_whole), (value, true));
        assert!(read.cost.values <= 10, "{:?}", read.cost);
    }

    #[test]
    fn parts_that_cannot_be_had_are_left_out() {
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        for bad in [
            deep.as_str(),
            r#""\ud800""#,
            &format!("{:?}", "x".repeat(300)),
            &format!("[{}0]", "0,".repeat(50)),
        ] {
            let found = read_small(&format!("{{\"id\":1,\"bad\":{bad},\"status\":\"pending\"}}"));
            let (value, is_whole) = found.expect("the rest");
            assert_eq!((&value["id"], &value["status"]), (&json!(1), &json!("pending")), "{bad}");
            assert!(!is_whole && value.to_string().len() < 250, "{value}");
        }
        let (list, _) = read_small(&format!("[1,{deep},2]")).expect("the rest");
        assert_eq!(
            (list.get(0), list.as_array().and_then(|list| list.last())),
            (Some(&json!(1)), Some(&json!(2)))
        );
        for nothing in ["", "{", "[1", "nope", "{\"a\":1,}", r#"{"\ud800":1}"#] {
            assert!(read_small(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_cost_their_own_string() {
        let read = read(b"{\"id\":1,\"title\":\"a\xff\"}", SMALL, None).expect("JSON");
        assert_eq!((read.value, read.is_whole), (json!({"id": 1, "title": "a\u{fffd}"}), false));
    }

    #[test]
    fn however_many_parts_there_are_little_is_kept() {
        let many = format!("[{}0]", "[0],".repeat(100_000));
        let (value, _) = read_small(&many).expect("some");
        assert!(value.as_array().is_some_and(|list| list.len() <= SMALL.values), "{value}");
    }
}
