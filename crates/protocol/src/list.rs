//! Lists of short texts as they stand in a `p2p` object, kept whole: a signature covers all of them, in their
//! order, also those that mean nothing here.

use serde_json::Value;

/// Texts in one list: many times what any version names.
const MAX_ENTRIES: usize = 32;

/// The longest text of a list, in bytes: above any address or feature's name.
const MAX_ENTRY_LEN: usize = 64;

/// Reads a list, whose absence is one of nothing; `None` for anything else, and for texts that could not be
/// told apart once they are joined by commas.
pub(crate) fn read(value: Option<&Value>) -> Option<Vec<String>> {
    let entries = match value {
        None | Some(Value::Null) => return Some(Vec::new()),
        Some(entries) => entries.as_array().filter(|entries| entries.len() <= MAX_ENTRIES)?,
    };
    let entry = |entry: &Value| {
        let text = entry.as_str()?;
        let is_one = !text.is_empty() && text.len() <= MAX_ENTRY_LEN && !text.contains(',');
        is_one.then(|| text.to_owned())
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_texts_are_kept_as_they_stand() {
        assert_eq!(read(None), Some(vec![]));
        assert_eq!(read(Some(&json!(["b", "a", "b", " A"]))).unwrap(), ["b", "a", "b", " A"]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_list() {
        let long = "x".repeat(MAX_ENTRY_LEN + 1);
        for list in [
            json!("a"),
            json!({}),
            json!(7),
            json!(["a", 7]),
            json!(["a", ""]),
            json!(["a,b"]),
            json!([["a"]]),
            json!([long]),
            json!(vec!["a"; MAX_ENTRIES + 1]),
        ] {
            assert_eq!(read(Some(&list)), None, "{list}");
        }
    }
}
