//! What a sender says of a file in words of its own.

use std::sync::Arc;

use serde_json::Value;

/// The longest metadata, bytes of JSON text: what an offer carries on every list of the task service.
pub const MAX_METADATA_LEN: usize = 4096;

/// Any JSON value, as text of at most 4 KiB; its levels are at most 127, and its text whole characters. It is
/// kept as it was said, because that is what a signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(Arc<str>);

impl Metadata {
    /// Reads JSON text; `None` where it is none, or too much.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_METADATA_LEN {
            return None;
        }
        // Whoever is shown it parses it: what can't be is found here, deep nesting included.
        serde_json::from_str::<Value>(text).ok()?;
        Some(Self(text.into()))
    }

    /// The text as it was said: JSON, and not safe to print.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether another says the same, in whatever order and spelling.
    pub fn is_same(&self, other: &Self) -> bool {
        let value = |metadata: &Self| serde_json::from_str::<Value>(&metadata.0).ok();
        self.0 == other.0 || value(self) == value(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_json_is_metadata_as_it_was_said_and_nothing_else_is() {
        for text in ["{}", "null", "1e3", "\"x\"", " [1, 2]\n", r#"{"a":{"b":[true]},"a":0}"#, "\"\u{202e}\""]
        {
            assert_eq!(Metadata::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "x", "{", "{} {}", "NaN", "1e999", "'x'", "[1,]", "\"\u{1b}\"", r#""\ud800""#] {
            assert_eq!(Metadata::parse(text), None, "{text}");
        }
    }

    #[test]
    fn metadata_is_bounded_in_length_and_depth() {
        let long = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
        assert!(Metadata::parse(&long(MAX_METADATA_LEN)).is_some());
        assert_eq!(Metadata::parse(&long(MAX_METADATA_LEN + 1)), None);
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Metadata::parse(&deep(127)).is_some());
        assert_eq!(Metadata::parse(&deep(128)), None);
        assert_eq!(Metadata::parse(&"[".repeat(MAX_METADATA_LEN)), None);
    }

    #[test]
    fn the_same_is_said_in_any_order_and_spelling() {
        let is_same = |a: &str, b: &str| Metadata::parse(a).unwrap().is_same(&Metadata::parse(b).unwrap());
        assert!(is_same(r#"{"a":1,"b":["x"]}"#, r#"{ "b": ["\u0078"], "a": 1 }"#));
        assert!(!is_same(r#"{"a":1}"#, r#"{"a":2}"#) && !is_same("[1,2]", "[2,1]") && !is_same("1", "\"1\""));
    }

    proptest! {
        #[test]
        fn whatever_text_comes_is_judged(text in "[\\[\\]{}\":,0-9a-z\\\\ ]{0,64}") {
            if let Some(metadata) = Metadata::parse(&text) {
                prop_assert_eq!(metadata.as_str(), &text);
                prop_assert!(metadata.is_same(&metadata));
            }
        }
    }
}
