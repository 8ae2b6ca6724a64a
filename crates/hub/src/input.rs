//! Requests, read and checked once: bodies, headers, the texts in them.

use std::time::Duration;

use axum::http::HeaderMap;
use secret_stream::PublicKey;
use serde_json::{Map, Value};

use crate::bus::Filter;
use crate::error::Refusal;
use crate::task::{Action, Actor, DEFAULT_LEASE, Edit, LONGEST_LEASE, Status};

/// The most bytes of a title, and of a name of anything.
const MAX_TITLE: usize = 1024;
/// The most bytes of a channel, a type, an actor's id or name.
const MAX_NAME: usize = 256;
/// The most bytes of a description.
const MAX_DESCRIPTION: usize = 64 * 1024;
/// The most bytes of a reason.
const MAX_REASON: usize = 4 * 1024;
/// The most bytes of the slug of an organization or a project.
const MAX_SLUG: usize = 64;
/// The most parts of a message, and the most outputs of a task.
const MAX_PARTS: usize = 32;
const MAX_OUTPUTS: usize = 1024;
/// How deep a payload, an output or a part may be nested: what other JSON readers take without a thought.
const MAX_DEPTH: usize = 64;
/// The most bytes of what is searched for: SQLite takes no pattern above 50,000.
const MAX_SEARCH: usize = 1024;
/// The most names in one list of a subscription.
const MAX_FILTER_NAMES: usize = 64;

/// A task to be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewTask {
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: String,
    pub(crate) channel: String,
    pub(crate) priority: i64,
    pub(crate) payload: Value,
}

/// An organization or a project to be made or changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) slug: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
}

/// The fields of a JSON object that a caller sent. A field that is null counts as not there.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body; an empty one has no fields.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        // Half a surrogate pair, which other languages write, is no text: it is an error here already.
        let fields = match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(Refusal::bad_request("the body must be a JSON object")),
            Err(error) => return Err(Refusal::bad_request(format!("the body is not JSON: {error}"))),
        };
        for (name, value) in &fields {
            if holds_nul(name) {
                return Err(Refusal::bad_request("the name of a field holds a NUL character"));
            }
            check_value(value, MAX_DEPTH).map_err(|problem| {
                let name: String = name.chars().take(MAX_NAME).collect();
                Refusal::bad_request(format!("{name} {problem}"))
            })?;
        }
        Ok(Self(fields))
    }

    /// A task to be made, with the service's defaults.
    pub(crate) fn new_task(mut self) -> Result<NewTask, Refusal> {
        Ok(NewTask {
            title: self.name("title", MAX_TITLE)?.ok_or_else(|| Refusal::bad_request("title is missing"))?,
            description: self.text("description", MAX_DESCRIPTION)?,
            kind: self.name("type", MAX_NAME)?.unwrap_or_else(|| "task".into()),
            channel: self.name("channel", MAX_NAME)?.unwrap_or_else(|| "default".into()),
            priority: self.priority()?.unwrap_or(5),
            payload: self.payload()?.unwrap_or_else(|| Value::Object(Map::new())),
        })
    }

    /// What a change of a task asks for: the changes of its fields first, then that of its state.
    pub(crate) fn changes(mut self) -> Result<Vec<Action>, Refusal> {
        let edit = Edit {
            title: self.name("title", MAX_TITLE)?,
            description: self.text("description", MAX_DESCRIPTION)?,
            kind: self.name("type", MAX_NAME)?,
            channel: self.name("channel", MAX_NAME)?,
            priority: self.priority()?,
            payload: self.payload()?,
        };
        let status = match self.text("status", MAX_NAME)? {
            Some(name) => Some(status(&name)?),
            None => None,
        };
        let mut actions = Vec::new();
        if edit != Edit::default() {
            actions.push(Action::Edit(Box::new(edit)));
        }
        actions.extend(status.map(|status| match status {
            Status::Pending => Action::MakePending,
            Status::InProgress => Action::Claim { lease: DEFAULT_LEASE, only_pending: false },
            Status::Completed => Action::Complete { outputs: Vec::new() },
            Status::Cancelled => Action::Cancel { reason: None },
            Status::Failed => Action::Fail { reason: None },
            Status::Rejected => Action::Reject { reason: None },
        }));
        match actions.is_empty() {
            true => Err(Refusal::bad_request("nothing to change was named")),
            false => Ok(actions),
        }
    }

    /// What is asked by `POST …/{verb}`; `None` if there is no such verb.
    pub(crate) fn action(&mut self, verb: &str) -> Option<Result<Action, Refusal>> {
        let mut reason = || self.text("reason", MAX_REASON);
        let action = match verb {
            "claim" => self.claim(),
            "complete" => self.outputs().map(|outputs| Action::Complete { outputs }),
            "cancel" => reason().map(|reason| Action::Cancel { reason }),
            "fail" => reason().map(|reason| Action::Fail { reason }),
            "reject" => reason().map(|reason| Action::Reject { reason }),
            "reopen" => reason().map(|reason| Action::Reopen { reason }),
            _ => return None,
        };
        Some(action)
    }

    /// The parts of a message.
    pub(crate) fn parts(mut self) -> Result<Vec<Value>, Refusal> {
        let parts = self.parts_if_any()?;
        parts.ok_or_else(|| Refusal::bad_request("parts must be an array"))
    }

    /// The parts of the message that goes along with something else, if any does.
    pub(crate) fn parts_if_any(&mut self) -> Result<Option<Vec<Value>>, Refusal> {
        let parts = match self.take("parts") {
            None => return Ok(None),
            Some(Value::Array(parts)) => parts,
            Some(_) => return Err(Refusal::bad_request("parts must be an array")),
        };
        if parts.is_empty() || parts.len() > MAX_PARTS {
            return Err(Refusal::bad_request(format!("parts must hold 1 to {MAX_PARTS} parts")));
        }
        let is_type = |kind: &Value| kind.as_str().is_some_and(|kind| kind.len() <= MAX_NAME);
        if !parts.iter().all(|part| part.is_object() && part.get("type").is_some_and(is_type)) {
            let message =
                format!("each of the parts must be an object with a type of at most {MAX_NAME} bytes");
            return Err(Refusal::bad_request(message));
        }
        Ok(Some(parts))
    }

    /// An organization or a project.
    pub(crate) fn profile(mut self) -> Result<Profile, Refusal> {
        let slug = self.text("slug", MAX_SLUG)?;
        if let Some(slug) = &slug {
            check_slug(slug)?;
        }
        Ok(Profile {
            slug,
            name: self.name("name", MAX_TITLE)?,
            description: self.text("description", MAX_DESCRIPTION)?,
        })
    }

    /// A peer's key, in hex.
    pub(crate) fn public_key(mut self) -> Result<PublicKey, Refusal> {
        let mut key = [0; 32];
        let text = self.text("key", 2 * key.len())?;
        match text.map(|text| hex::decode_to_slice(text, &mut key)) {
            Some(Ok(())) => Ok(key),
            _ => Err(Refusal::bad_request("key must be 64 hex digits")),
        }
    }

    /// The id and the filter of a subscription.
    pub(crate) fn subscription(mut self) -> Result<(String, Filter), Refusal> {
        let id = self.subscription_id()?;
        Ok((
            id,
            Filter {
                channels: self.names("channels")?,
                task_types: self.names("task_types")?,
                event_types: self.names("event_types")?,
            },
        ))
    }

    /// The id of a subscription; those of a connection that name none have one id, the empty text.
    pub(crate) fn subscription_id(&mut self) -> Result<String, Refusal> {
        Ok(match self.0.get("id") {
            Some(Value::Number(id)) => id.to_string(),
            _ => self.text("id", MAX_NAME)?.unwrap_or_default(),
        })
    }

    /// A field of text.
    pub(crate) fn text(&mut self, name: &str, limit: usize) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= limit => Ok(Some(text)),
            Some(Value::String(_)) => {
                Err(Refusal::bad_request(format!("{name} is longer than {limit} bytes")))
            }
            Some(_) => Err(Refusal::bad_request(format!("{name} must be a text"))),
        }
    }

    /// A field of text on one line that is not empty.
    fn name(&mut self, name: &str, limit: usize) -> Result<Option<String>, Refusal> {
        match self.text(name, limit)? {
            Some(text) if text.trim().is_empty() => Err(Refusal::bad_request(format!("{name} is empty"))),
            Some(text) if text.chars().any(char::is_control) => {
                Err(Refusal::bad_request(format!("{name} holds a control character")))
            }
            text => Ok(text),
        }
    }

    fn names(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let wrong =
            || Refusal::bad_request(format!("{name} must be a list of at most {MAX_FILTER_NAMES} names"));
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(names)) if names.len() <= MAX_FILTER_NAMES => {
                let name = |name: Value| name.as_str().filter(|n| n.len() <= MAX_NAME).map(str::to_owned);
                names.into_iter().map(name).collect::<Option<_>>().ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }

    fn priority(&mut self) -> Result<Option<i64>, Refusal> {
        match self.take("priority") {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(priority @ 1..=10) => Ok(Some(priority)),
                _ => Err(Refusal::bad_request("priority must be a whole number from 1 to 10")),
            },
        }
    }

    fn payload(&mut self) -> Result<Option<Value>, Refusal> {
        match self.take("payload") {
            Some(payload) if !payload.is_object() => Err(Refusal::bad_request("payload must be an object")),
            payload => Ok(payload),
        }
    }

    fn claim(&mut self) -> Result<Action, Refusal> {
        let only_pending = match self.take("only_pending") {
            None => false,
            Some(Value::Bool(only_pending)) => only_pending,
            Some(_) => return Err(Refusal::bad_request("only_pending must be true or false")),
        };
        Ok(Action::Claim { lease: self.lease()?, only_pending })
    }

    fn lease(&mut self) -> Result<Duration, Refusal> {
        let Some(value) = self.take("lease_duration") else { return Ok(DEFAULT_LEASE) };
        match value.as_f64() {
            Some(millis) if millis >= 1.0 => {
                let seconds = (millis / 1000.0).min(LONGEST_LEASE.as_secs_f64());
                Ok(Duration::from_secs_f64(seconds))
            }
            _ => Err(Refusal::bad_request("lease_duration must be a number of milliseconds above 0")),
        }
    }

    fn outputs(&mut self) -> Result<Vec<Value>, Refusal> {
        match self.take("outputs") {
            None => Ok(Vec::new()),
            Some(Value::Array(outputs)) if outputs.len() <= MAX_OUTPUTS => Ok(outputs),
            Some(_) => {
                Err(Refusal::bad_request(format!("outputs must be an array of at most {MAX_OUTPUTS} items")))
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }
}

/// Checks the query of a URL or the names in its path: how long each is, and what it holds.
pub(crate) fn check_pairs<'a>(
    pairs: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Refusal> {
    for (name, value) in pairs {
        let limit = if name == "search" { MAX_SEARCH } else { MAX_NAME };
        let shown: String = name.chars().take(MAX_NAME).collect();
        if name.len() > MAX_NAME || value.len() > limit {
            return Err(Refusal::bad_request(format!("{shown} is longer than {limit} bytes")));
        }
        if holds_nul(name) || holds_nul(value) {
            return Err(Refusal::bad_request(format!("{shown} holds a NUL character")));
        }
    }
    Ok(())
}

/// Checks the texts and the nesting of a value; says what is wrong with it.
fn check_value(value: &Value, depth_left: usize) -> Result<(), String> {
    let Some(inside) = depth_left.checked_sub(1) else {
        return Err(format!("is nested more than {MAX_DEPTH} levels deep"));
    };
    match value {
        Value::String(text) if holds_nul(text) => Err("holds a NUL character".into()),
        Value::Object(fields) if fields.keys().any(|name| holds_nul(name)) => {
            Err("holds a NUL character".into())
        }
        Value::Object(fields) => fields.values().try_for_each(|value| check_value(value, inside)),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, inside)),
        _ => Ok(()),
    }
}

/// No database holds this character in a text for sure.
fn holds_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Reads the name of a state.
pub(crate) fn status(name: &str) -> Result<Status, Refusal> {
    Status::from_name(name).ok_or_else(|| {
        let names = Status::ALL.map(Status::name).join(", ");
        Refusal::bad_request(format!("status must be one of {names}"))
    })
}

/// Checks the slug of an organization or a project: what can stand in a path as it is.
pub(crate) fn check_slug(slug: &str) -> Result<(), Refusal> {
    let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_slug = (1..=MAX_SLUG).contains(&slug.len()) && slug.bytes().all(fit) && !slug.starts_with('.');
    match is_slug {
        true => Ok(()),
        false => Err(Refusal::bad_request(format!(
            "a slug is 1 to {MAX_SLUG} letters, digits, '-', '_' or '.', not '.' first"
        ))),
    }
}

/// Checks the id of an actor: what a header can carry as it is.
pub(crate) fn actor_id(id: &str) -> Result<String, Refusal> {
    let id = id.trim();
    match id {
        "" => Err(Refusal::bad_request("an actor's id is empty")),
        id if id.len() > MAX_NAME => {
            Err(Refusal::bad_request(format!("an actor's id is longer than {MAX_NAME} bytes")))
        }
        id if id.chars().any(char::is_control) => {
            Err(Refusal::bad_request("an actor's id holds a control character"))
        }
        id => Ok(id.to_owned()),
    }
}

/// Who a request claims to come from; `None` if it does not say.
pub(crate) fn actor(headers: &HeaderMap) -> Result<Option<Actor>, Refusal> {
    let header = |name: &str| -> Result<Option<String>, Refusal> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        // Header values are bytes: UTF-8 from clients of ours, Latin-1 from those that follow HTTP strictly.
        let text = match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => value.as_bytes().iter().map(|&byte| char::from(byte)).collect(),
        };
        match text {
            text if text.len() > MAX_NAME => {
                Err(Refusal::bad_request(format!("{name} is longer than {MAX_NAME} bytes")))
            }
            text if text.is_empty() => Ok(None),
            text if text.chars().any(char::is_control) => {
                Err(Refusal::bad_request(format!("{name} holds a control character")))
            }
            text => Ok(Some(text)),
        }
    };
    let Some(id) = header("x-actor-id")? else { return Ok(None) };
    let kind = header("x-actor-type")?.unwrap_or_else(|| "agent".into());
    let name = header("x-actor-name")?.unwrap_or_else(|| id.clone());
    Ok(Some(Actor { kind, id, name }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::parse(value.to_string().as_bytes()).expect("an object")
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        result.expect_err("refused").message
    }

    #[test]
    fn a_new_task_has_defaults() {
        let task = fields(json!({"title": "t", "description": null})).new_task().expect("a task");
        let expected = NewTask {
            title: "t".into(),
            description: None,
            kind: "task".into(),
            channel: "default".into(),
            priority: 5,
            payload: json!({}),
        };
        assert_eq!(task, expected);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (body, said) in [
            (json!({}), "title is missing"),
            (json!({"title": " "}), "title is empty"),
            (json!({"title": 5}), "title must be a text"),
            (json!({"title": "x".repeat(1025)}), "title is longer"),
            (json!({"title": "a\u{1b}b"}), "title holds a control"),
            (json!({"title": "t", "priority": 11}), "priority must be"),
            (json!({"title": "t", "priority": 1.5}), "priority must be"),
            (json!({"title": "t", "payload": []}), "payload must be"),
            (json!({"title": "t", "channel": ""}), "channel is empty"),
        ] {
            let message = refused(fields(body.clone()).new_task());
            assert!(message.contains(said), "{body}: {message}");
        }
        assert!(refused(Fields::parse(b"{").map(|_| ())).contains("not JSON"));
        assert!(refused(Fields::parse(b"[]").map(|_| ())).contains("object"));
        assert!(Fields::parse(b" \n").is_ok());
    }

    #[test]
    fn verbs_become_actions() {
        let action = |verb: &str, body: Value| fields(body).action(verb).expect("a verb");
        let claim = |lease| Ok(Action::Claim { lease, only_pending: false });
        assert_eq!(action("claim", json!({})), claim(DEFAULT_LEASE));
        assert_eq!(action("claim", json!({"lease_duration": 1500})), claim(Duration::from_millis(1500)));
        let longest = action("claim", json!({"lease_duration": 1e300}));
        assert_eq!(longest, claim(LONGEST_LEASE));
        let first = Action::Claim { lease: DEFAULT_LEASE, only_pending: true };
        assert_eq!(action("claim", json!({"only_pending": true})), Ok(first));
        assert!(action("claim", json!({"only_pending": "yes"})).is_err());
        for wrong in [json!(0), json!(-5), json!("60"), json!(true)] {
            assert!(action("claim", json!({"lease_duration": wrong})).is_err());
        }
        assert_eq!(
            action("complete", json!({"outputs": [1]})),
            Ok(Action::Complete { outputs: vec![json!(1)] })
        );
        assert!(action("complete", json!({"outputs": {}})).is_err());
        assert_eq!(action("fail", json!({"reason": "r"})), Ok(Action::Fail { reason: Some("r".into()) }));
        assert!(fields(json!({})).action("explode").is_none());
    }

    #[test]
    fn a_change_of_state_comes_after_the_fields() {
        let actions = fields(json!({"title": "n", "status": "cancelled"})).changes().expect("changes");
        assert!(matches!(actions[..], [Action::Edit(_), Action::Cancel { .. }]));
        assert!(refused(fields(json!({})).changes()).contains("nothing"));
        assert!(refused(fields(json!({"status": "done"})).changes()).contains("in_progress"));
    }

    #[test]
    fn slugs_fit_a_path() {
        for right in ["default", "a", "A-b_c.9"] {
            assert_eq!(check_slug(right), Ok(()), "{right}");
        }
        for wrong in ["", ".", "..", ".x", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(check_slug(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn actors_are_read_in_utf8_and_latin1() {
        let mut headers = HeaderMap::new();
        assert_eq!(actor(&headers), Ok(None));
        let value = |bytes: &[u8]| axum::http::HeaderValue::from_bytes(bytes).expect("a header value");
        headers.insert("x-actor-id", value("käthe".as_bytes()));
        headers.insert("x-actor-name", value(b"K\xe4the"));
        let read = actor(&headers).expect("fit").expect("there");
        let expected = Actor { kind: "agent".into(), id: "käthe".into(), name: "Käthe".into() };
        assert_eq!(read, expected);
        headers.insert("x-actor-id", value(&[b'x'; 257]));
        assert!(actor(&headers).is_err());
    }

    #[test]
    fn text_that_cannot_be_kept_is_refused_where_it_is_made() {
        for (body, said) in [
            (r#"{"title": "t\ud800"}"#, "not JSON"),
            (r#"{"title": "t", "payload": {"x": "\udc00\ud800"}}"#, "not JSON"),
            (r#"{"title": "t", "payload": {"x": ["a\u0000b"]}}"#, "payload holds a NUL"),
            (r#"{"title": "t", "payload": {"a\u0000b": 1}}"#, "payload holds a NUL"),
            (r#"{"title": "t", "description": "\u0000"}"#, "description holds a NUL"),
            (r#"{"title": "t", "x\u0000": 1}"#, "name of a field"),
            (r#"{"title": "t", "payload": {"x": 1e999}}"#, "not JSON"),
        ] {
            let message = refused(Fields::parse(body.as_bytes()).and_then(Fields::new_task));
            assert!(message.contains(said), "{body}: {message}");
        }
        assert!(Fields::parse(b"{\"title\": \"\xff\"}").is_err());
        let pair = Fields::parse(br#"{"title": "\ud83d\ude00"}"#).and_then(Fields::new_task);
        assert_eq!(pair.expect("a task").title, "\u{1f600}");
    }

    #[test]
    fn nesting_is_bounded_where_it_is_made() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let payload = |depth: usize| format!(r#"{{"title": "t", "payload": {{"x": {}}}}}"#, nested(depth));
        let read = |body: String| Fields::parse(body.as_bytes()).and_then(Fields::new_task);
        assert!(read(payload(63)).is_ok());
        assert!(refused(read(payload(64))).contains("payload is nested more than 64"));
        for depth in [65, 100_000] {
            for name in ["outputs", "parts"] {
                assert!(Fields::parse(format!(r#"{{"{name}": {}}}"#, nested(depth)).as_bytes()).is_err());
            }
        }
    }

    #[test]
    fn what_a_query_may_hold_is_bounded() {
        let check = |name: &str, value: &str| check_pairs([(&name.to_owned(), &value.to_owned())]);
        assert_eq!(check("search", &"x".repeat(1024)), Ok(()));
        assert_eq!(refused(check("search", &"x".repeat(60_000))), "search is longer than 1024 bytes");
        assert_eq!(refused(check("channel", &"x".repeat(257))), "channel is longer than 256 bytes");
        assert_eq!(refused(check("type", "a\0b")), "type holds a NUL character");
        assert!(refused(check(&"n".repeat(5000), "")).len() < 400);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,30}".prop_map(Value::from),
            ".{0,4}".prop_map(Value::from),
            (0_usize..2000).prop_map(|length| Value::from("x".repeat(length))),
        ];
        leaf.prop_recursive(80, 200, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\0]{1,5}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn depth(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => fields.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_keeps_to_the_bounds(
            title in any_json(),
            channel in any_json(),
            payload in any_json(),
        ) {
            let body = json!({"title": title, "channel": channel, "payload": payload}).to_string();
            if let Ok(task) = Fields::parse(body.as_bytes()).and_then(Fields::new_task) {
                prop_assert!(task.title.len() <= MAX_TITLE && !task.title.contains(char::is_control));
                prop_assert!(task.channel.len() <= MAX_NAME && !task.channel.trim().is_empty());
                prop_assert!(depth(&task.payload) <= MAX_DEPTH);
                prop_assert!(!task.payload.to_string().contains("\\u0000"));
            }
        }

        #[test]
        fn no_value_of_any_field_makes_reading_panic(value in any_json()) {
            let names = ["title", "priority", "payload", "lease_duration", "outputs", "reason", "parts", "id",
                "channels", "status", "slug", "name", "description", "key", "type", "channel"];
            let body: Value = names.iter().map(|name| ((*name).to_owned(), value.clone())).collect();
            let read = || Fields::parse(body.to_string().as_bytes());
            let _ = read().and_then(Fields::new_task);
            let _ = read().and_then(Fields::changes);
            let _ = read().and_then(Fields::parts);
            let _ = read().and_then(Fields::profile);
            let _ = read().and_then(Fields::subscription);
            let _ = read().and_then(Fields::public_key);
            for verb in ["claim", "complete", "fail", "reject", "cancel", "reopen"] {
                let _ = read().map(|mut fields| fields.action(verb));
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(fields) = Fields::parse(&body) {
                let _ = fields.new_task();
            }
        }
    }
}
