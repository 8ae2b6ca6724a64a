//! Ids of tasks and messages.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde_json::Value;

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
