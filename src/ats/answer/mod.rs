//! Answers and events of the service, read part by part within fixed bounds.
//!
//! A service may be hostile, and an honest one passes on what hostile actors wrote. So an answer is never
//! held whole: what it lists is cut out as it arrives, entry by entry, and each entry is read by itself.
//! One that is too large, too deep or malformed is left out and counted, and costs no other its place.
//!
//! # Layout
//! - `scan`: cuts the entries of lists out of JSON that arrives in pieces
//! - `lenient`: reads JSON within a budget and leaves out the parts that cannot be had
//! - `fair`: keeps messages within a bound that no single author can fill

mod fair;
mod lenient;
mod scan;

use serde_json::Value;

use self::fair::FairMessages;
pub(super) use self::lenient::{Budget, Read, read};
use self::scan::{ListKey, Scanner};
use super::settings::Secret;

/// The most bytes of an answer: more than a page of tasks with large payloads has. None of it is held longer
/// than it takes to read the entry that it belongs to.
pub(super) const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// The most entries of one list: what a flood of offers can make this client read in one go.
const MAX_ENTRIES: u32 = 4_000;
/// The longest name of the place where a list goes on, in bytes.
const MAX_CURSOR: usize = 256;
/// What is kept of a task in a list or an event: several times an honest offer with all its fields, and
/// little enough that a node may hold a thousand.
pub(super) const LISTED_TASK: Budget = Budget { bytes: 16 * 1024, values: 256 };
/// What is kept of an answer besides the messages in it: each transfer reads one at a time.
const ONE_TASK: Budget = Budget { bytes: 128 * 1024, values: 1024 };

/// Where services put the list of tasks in an answer.
const TASK_LISTS: &[&[ListKey]] =
    &[&[], &[ListKey::Tasks], &[ListKey::Data], &[ListKey::Data, ListKey::Tasks]];
/// Where services put the messages of a task in an answer.
const MESSAGE_LISTS: &[&[ListKey]] = &[
    &[],
    &[ListKey::Messages],
    &[ListKey::Data],
    &[ListKey::Data, ListKey::Messages],
    &[ListKey::Task, ListKey::Messages],
    &[ListKey::Data, ListKey::Task, ListKey::Messages],
];

/// What an answer that is no JSON began with.
pub(super) struct NotJson(pub(super) Vec<u8>);

/// Reads an answer of which no list of tasks is expected.
pub(super) struct AnswerReader<'a> {
    scanner: Scanner,
    messages: FairMessages,
    secret: Option<&'a Secret>,
}

/// An answer that was read.
pub(super) struct Answer {
    /// What it says; null if it is empty.
    pub(super) value: Value,
    /// How many parts were left out.
    pub(super) left_out: u32,
}

impl<'a> AnswerReader<'a> {
    /// `secret` is taken out of whatever the answer says.
    pub(super) fn new(secret: Option<&'a Secret>) -> Self {
        Self { scanner: Scanner::new(MESSAGE_LISTS), messages: FairMessages::default(), secret }
    }

    /// Takes the next bytes of the answer; `false` if it is longer than can be read.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let (messages, secret) = (&mut self.messages, self.secret);
        self.scanner.feed(bytes, |entry| {
            match entry.and_then(|entry| read(entry, LISTED_TASK, secret)) {
                Some(read) => messages.add(read),
                None => messages.leave_out(),
            }
            true
        });
        !self.scanner.is_full()
    }

    /// The whole answer.
    ///
    /// # Errors
    /// The beginning of what is no JSON.
    pub(super) fn finish(self) -> Result<Answer, NotJson> {
        let rest = self.scanner.into_rest();
        if rest.is_empty() {
            return Ok(Answer { value: Value::Null, left_out: 0 });
        }
        let Some(mut read) = read(&rest, ONE_TASK, self.secret) else { return Err(NotJson(rest)) };
        let (messages, left_out) = self.messages.finish();
        if let Some(Value::Array(place)) = messages_of(&mut read.value) {
            *place = messages;
        }
        let left_out = left_out.saturating_add(u32::from(!read.is_whole));
        Ok(Answer { value: read.value, left_out })
    }
}

/// The list of messages in an answer.
fn messages_of(mut value: &mut Value) -> Option<&mut Value> {
    for key in ["data", "task"] {
        if value.get(key).is_some_and(|inner| inner.is_object() || inner.is_array()) {
            value = value.get_mut(key)?;
        }
    }
    if value.is_array() { Some(value) } else { value.get_mut("messages") }
}

/// Reads a list of tasks, and tells of each as it comes.
pub(super) struct ListReader<'a, F> {
    scanner: Scanner,
    secret: Option<&'a Secret>,
    each: F,
    entries: u32,
    left_out: u32,
}

/// What a list was besides its tasks.
#[derive(Debug, PartialEq)]
pub(super) struct ListEnd {
    /// How many entries it has.
    pub(super) entries: u32,
    /// How many of them were left out, wholly or in part.
    pub(super) left_out: u32,
    /// Whether the list goes on, as far as the service said so.
    pub(super) has_more: Option<bool>,
    /// What the service calls the place where it goes on.
    pub(super) cursor: Option<String>,
    /// Whether it was cut short.
    pub(super) is_cut: bool,
}

/// Why an answer is no list of tasks.
pub(super) enum NoList {
    /// It is no JSON; its beginning.
    NotJson(Vec<u8>),
    /// It is JSON of another kind.
    OtherJson,
}

impl<'a, F: FnMut(Value) -> bool> ListReader<'a, F> {
    /// `each` is given every task, and says whether it is one.
    pub(super) fn new(secret: Option<&'a Secret>, each: F) -> Self {
        Self { scanner: Scanner::new(TASK_LISTS), secret, each, entries: 0, left_out: 0 }
    }

    /// Takes the next bytes of the list; `false` if no more of it can be read.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let Self { scanner, secret, each, entries, left_out } = self;
        scanner.feed(bytes, |entry| {
            *entries += 1;
            let read = entry.and_then(|entry| read(entry, LISTED_TASK, *secret));
            let is_whole = read.is_some_and(|read| each(read.value) && read.is_whole);
            *left_out += u32::from(!is_whole);
            *entries < MAX_ENTRIES
        }) && !scanner.is_full()
    }

    /// Ends the list, which may have been cut short: the tasks that came whole stand.
    ///
    /// # Errors
    /// If there was no list.
    pub(super) fn finish(mut self) -> Result<ListEnd, NoList> {
        if let Some(read) = self.scanner.take_last().and_then(|entry| read(&entry, LISTED_TASK, self.secret))
            && (self.each)(read.value)
        {
            self.entries += 1;
        }
        let (entries, left_out) = (self.entries, self.left_out);
        let has_list = self.scanner.has_found();
        let rest = self.scanner.into_rest();
        match read(&rest, ONE_TASK, None) {
            Some(read) if has_list => {
                let said = |name| read.value.get(name).or_else(|| read.value.get("data")?.get(name));
                let has_more = said("has_more").and_then(Value::as_bool);
                let cursor = said("cursor").and_then(Value::as_str).filter(|at| at.len() <= MAX_CURSOR);
                let cursor = cursor.map(str::to_owned);
                Ok(ListEnd { entries, left_out, has_more, cursor, is_cut: false })
            }
            Some(_) => Err(NoList::OtherJson),
            // What is missing stands on the next page, which begins where this one ends.
            None if entries > 0 => {
                let left_out = left_out.saturating_add(1);
                Ok(ListEnd { entries, left_out, has_more: None, cursor: None, is_cut: true })
            }
            None => Err(NoList::NotJson(rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The end of a list that said nothing of what follows.
    fn ended(entries: u32, left_out: u32) -> ListEnd {
        ListEnd { entries, left_out, has_more: None, cursor: None, is_cut: false }
    }

    fn list(json: &[u8], cuts: &[usize]) -> (Vec<Value>, Option<ListEnd>) {
        let mut tasks = Vec::new();
        let mut reader = ListReader::new(None, |task| {
            let is_task = task.get("id").is_some();
            if is_task {
                tasks.push(task);
            }
            is_task
        });
        let mut from = 0;
        for cut in cuts.iter().copied().chain([json.len()]) {
            let to = cut.clamp(from, json.len());
            if !reader.feed(&json[from..to]) {
                break;
            }
            from = to;
        }
        let end = reader.finish().ok();
        (tasks, end)
    }

    fn answer(json: &[u8]) -> Option<(Value, u32)> {
        let mut reader = AnswerReader::new(None);
        assert!(reader.feed(json));
        reader.finish().ok().map(|answer| (answer.value, answer.left_out))
    }

    #[test]
    fn one_bad_task_costs_itself_alone() {
        let deep = format!("{{\"id\":2,\"payload\":{}{}}}", "[".repeat(500), "]".repeat(500));
        let unbalanced = "{\"id\":\"x\",\"payload\":{\"a\":]}}";
        for bad in [
            &deep,
            r#"{"id":2,"title":"\ud800"}"#,
            unbalanced,
            &format!("{{\"id\":2,\"payload\":\"{}\"}}", "x".repeat(3_000_000)),
            &format!("{{\"id\":2,\"payload\":[{}0]}}", "0,".repeat(300_000)),
            "7",
            "null",
            "{\"id\":nope}",
            "\"\\\"]}\"",
        ] {
            let json = format!("{{\"tasks\":[{{\"id\":1}},{bad},{{\"id\":3}}],\"has_more\":false}}");
            let (tasks, end) = list(json.as_bytes(), &[]);
            let ids: Vec<u64> = tasks.iter().filter_map(|task| task["id"].as_u64()).collect();
            assert!(ids.contains(&1) && ids.contains(&3), "{ids:?} of {:.80}", bad);
            assert_eq!(end, Some(ListEnd { has_more: Some(false), ..ended(3, 1) }), "{:.80}", bad);
        }
    }

    #[test]
    fn a_list_is_found_where_services_put_it() {
        let end = |json: Value| list(json.to_string().as_bytes(), &[]).1;
        let page = |has_more| Some(ListEnd { has_more, ..ended(1, 0) });
        assert_eq!(end(json!([{"id": 1}])), page(None));
        assert_eq!(end(json!({"data": [{"id": 1}], "has_more": true})), page(Some(true)));
        assert_eq!(end(json!({"data": {"tasks": [{"id": 1}], "has_more": true}})), page(Some(true)));
        assert_eq!(end(json!({"count": [[1]], "tasks": [{"id": 1}]})), page(None));
        let cursor = Some("5.7".to_owned());
        assert_eq!(
            end(json!({"tasks": [{"id": 1}], "cursor": "5.7"})),
            Some(ListEnd { cursor, ..ended(1, 0) })
        );
        for no in [json!(5), json!("x".repeat(MAX_CURSOR + 1)), Value::Null] {
            assert_eq!(end(json!({"tasks": [{"id": 1}], "cursor": no})), page(None));
        }
        assert_eq!(end(json!({"error": "no"})), None);
        assert_eq!(end(json!({"nested": {"tasks": [{"id": 1}]}})), None);
    }

    #[test]
    fn what_came_of_a_list_that_was_cut_short_stands() {
        let json = br#"{"tasks":[{"id":1},{"id":2},{"id":3"#;
        let (tasks, end) = list(json, &[]);
        assert_eq!(tasks, [json!({"id": 1}), json!({"id": 2})]);
        assert_eq!(end, Some(ListEnd { is_cut: true, ..ended(2, 1) }));
        let (tasks, end) = list(br#"{"tasks":[{"id":1}"#, &[]);
        assert_eq!(
            (tasks, end.map(|end| (end.entries, end.is_cut))),
            (vec![json!({"id": 1})], Some((1, true)))
        );
        assert_eq!(list(b"<html>", &[]).1, None);
        let endless = "{},".repeat(100_000);
        let (_, end) = list(format!("[{endless}").as_bytes(), &[]);
        assert_eq!(end.map(|end| end.entries), Some(MAX_ENTRIES));
    }

    #[test]
    fn one_deep_message_costs_itself_alone() {
        let deep = format!("{{\"actor_id\":\"c\",\"parts\":{}{}}}", "[".repeat(500), "]".repeat(500));
        let good = r#"{"actor_id":"b","parts":[{"type":"text","content":"hi"}]}"#;
        for (before, after) in [("{\"task\":", "}"), ("", ""), ("{\"data\":{\"task\":", "}}")] {
            let json =
                format!("{before}{{\"id\":1,\"messages\":[{deep},{good}],\"status\":\"pending\"}}{after}");
            let (mut value, left_out) = answer(json.as_bytes()).expect("JSON");
            assert_eq!(left_out, 1);
            let messages = messages_of(&mut value).and_then(|list| list.as_array()).expect("messages");
            assert_eq!(messages.last().expect("one")["parts"][0]["content"], "hi");
        }
    }

    #[test]
    fn our_own_key_is_in_nothing_that_was_read() {
        let secret = Secret::new("hush-hush");
        let mut reader = AnswerReader::new(Some(&secret));
        reader.feed(br#"{"id":1,"title":"Bearer hush\u002dhush","messages":[{"parts":"hush-hush"}]}"#);
        let value = reader.finish().ok().expect("JSON").value;
        assert!(!value.to_string().contains("hush"), "{value}");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_list_is_cut_into_pieces(
            json in r#"(\{"tasks":|\{"data":|)\[(\{"id":[0-9]\}|,|[\[\]{}":,\\a1 ]){0,12}\]?\}?"#,
            mut cuts in prop::collection::vec(0usize..80, 0..6),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(list(json.as_bytes(), &cuts), list(json.as_bytes(), &[]));
            let _ = answer(json.as_bytes());
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (list(&bytes, &[]), answer(&bytes));
        }
    }
}
