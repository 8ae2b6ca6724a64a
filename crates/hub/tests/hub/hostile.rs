//! What no call of the API may be made to do by what it is sent: fail, or take it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestHub;

/// Texts that are no JSON object, or hold what no database keeps.
fn bad_bodies() -> Vec<(&'static str, String)> {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    vec![
        ("half a body", "{\"title\"".into()),
        ("no object", "[1]".into()),
        ("a number", "5".into()),
        ("half a surrogate pair", r#"{"title": "\ud800", "reason": "\udc00", "slug": "\ud800"}"#.into()),
        ("NUL", r#"{"title": "t", "reason": "\u0000", "payload": {}, "slug": "s", "key": "\u0000"}"#.into()),
        ("NUL in a name", r#"{"title": "t", "slug": "s", "x\u0000": 1}"#.into()),
        ("an endless number", r#"{"title": "t", "slug": "s", "priority": 1e999}"#.into()),
        ("deep nesting", format!(r#"{{"title": "t", "slug": "s", "x": {}}}"#, nested(100))),
        ("nesting without end", nested(100_000)),
        (
            "a body that is too long",
            format!(r#"{{"title": "t", "slug": "s", "x": "{}"}}"#, "x".repeat(300 * 1024)),
        ),
    ]
}

const WITH_BODIES: [(&str, &str); 16] = [
    ("POST", "/tasks"),
    ("PATCH", "/tasks/1"),
    ("POST", "/tasks/1/claim"),
    ("POST", "/tasks/1/complete"),
    ("POST", "/tasks/1/cancel"),
    ("POST", "/tasks/1/fail"),
    ("POST", "/tasks/1/reject"),
    ("POST", "/tasks/1/reopen"),
    ("POST", "/tasks/1/messages"),
    ("POST", "/orgs/default/projects/main/tasks"),
    ("PATCH", "/orgs/default/projects/main/tasks/1"),
    ("POST", "/orgs"),
    ("PATCH", "/orgs/default"),
    ("POST", "/orgs/default/projects"),
    ("PATCH", "/orgs/default/projects/main"),
    ("POST", "/orgs/default/projects/main/tasks/1/messages"),
];

#[tokio::test]
async fn no_body_gets_past_a_call_that_cannot_keep_it() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    a.make_task(json!({"title": "t"})).await;
    let before = a.get("/tasks/1").await;
    for (method, path) in WITH_BODIES {
        for (what, body) in bad_bodies() {
            let request = a.http.request(method.parse().expect("a method"), format!("{}{path}", a.base));
            let answer = request.header("x-actor-id", "a").body(body).send().await.expect("an answer");
            let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
            assert!(matches!(status, 400 | 413), "{what} at {method} {path}: {status} {text}");
            assert!(text.len() < 1000 && text.contains("error"), "{what} at {method} {path}: {text}");
        }
    }
    assert_eq!(a.get("/tasks/1").await, before);
    assert_eq!(a.get("/tasks").await["count"], 1);
}

/// Each field of each call, what does not fit it, and what is said of that.
fn bad_fields() -> Vec<(Method, &'static str, Value, &'static str)> {
    let (post, patch) = (Method::POST, Method::PATCH);
    let long = |length: usize| "x".repeat(length);
    let task = |name: &str, value: Value| {
        let mut task = json!({"title": "t"});
        task[name] = value;
        task
    };
    let mut cases = Vec::new();
    for (name, value, said) in [
        ("title", json!(long(1025)), "title is longer than 1024 bytes"),
        ("title", json!(""), "title is empty"),
        ("title", json!(["t"]), "title must be a text"),
        ("description", json!(long(65_537)), "description is longer than 65536 bytes"),
        ("description", json!({}), "description must be a text"),
        ("type", json!(long(257)), "type is longer than 256 bytes"),
        ("channel", json!(long(257)), "channel is longer than 256 bytes"),
        ("channel", json!("a\nb"), "channel holds a control character"),
        ("priority", json!(0), "priority must be a whole number from 1 to 10"),
        ("priority", json!("5"), "priority must be"),
        ("priority", json!(1e300), "priority must be"),
        ("payload", json!([1]), "payload must be an object"),
        ("payload", json!("{}"), "payload must be an object"),
    ] {
        cases.push((post.clone(), "/tasks", task(name, value.clone()), said));
        cases.push((patch.clone(), "/tasks/1", json!({name: value}), said));
    }
    for (path, body, said) in [
        ("/tasks/1/claim", json!({"lease_duration": -1}), "lease_duration must be"),
        ("/tasks/1/claim", json!({"lease_duration": "60"}), "lease_duration must be"),
        ("/tasks/1/complete", json!({"outputs": {}}), "outputs must be an array of at most 1024"),
        ("/tasks/1/complete", json!({"outputs": vec![0; 1025]}), "outputs must be an array of at most 1024"),
        ("/tasks/1/fail", json!({"reason": long(4097)}), "reason is longer than 4096 bytes"),
        ("/tasks/1/reject", json!({"reason": 5}), "reason must be a text"),
        ("/tasks/1/messages", json!({}), "parts must be an array"),
        ("/tasks/1/messages", json!({"parts": []}), "parts must hold 1 to 32"),
        ("/tasks/1/messages", json!({"parts": vec![json!({"type": "text"}); 33]}), "parts must hold 1 to 32"),
        ("/tasks/1/messages", json!({"parts": [{"type": long(257)}]}), "type of at most 256 bytes"),
        ("/orgs", json!({"name": "x"}), "slug is missing"),
        ("/orgs", json!({"slug": long(65)}), "slug is longer than 64 bytes"),
        ("/orgs", json!({"slug": "../x"}), "a slug is"),
        ("/orgs", json!({"slug": "s", "name": long(1025)}), "name is longer than 1024 bytes"),
        (
            "/orgs/default/projects",
            json!({"slug": "s", "description": long(65_537)}),
            "description is longer",
        ),
    ] {
        cases.push((post.clone(), path, body, said));
    }
    cases.push((patch.clone(), "/tasks/1", json!({"status": long(257)}), "status is longer than 256 bytes"));
    cases.push((patch, "/tasks/1", json!({"status": "done"}), "status must be one of"));
    cases
}

#[tokio::test]
async fn a_field_that_does_not_fit_is_named_with_its_bound() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    a.make_task(json!({"title": "t"})).await;
    for (method, path, body, said) in bad_fields() {
        let (status, answer) = a.call(method.clone(), path, Some(body)).await;
        let text = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && text.contains(said), "{method} {path}: {status} {answer}, not {said:?}");
    }
}

/// A search of 60,000 characters was more than SQLite takes, and answered with 500.
#[tokio::test]
async fn no_query_gets_past_a_list() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    a.make_task(json!({"title": "t"})).await;
    let long = "x".repeat(60_000);
    for base in ["/tasks", "/orgs/default/projects/main/tasks"] {
        for name in [
            "status",
            "type",
            "channel",
            "assignee_id",
            "limit",
            "offset",
            "created_after",
            "updated_after",
            "priority",
            "min_priority",
            "max_priority",
            "search",
            "sort_by",
            "sort_dir",
            "project_id",
        ] {
            for value in [long.as_str(), "%00", "a%00b"] {
                let (status, answer) = a.call(Method::GET, &format!("{base}?{name}={value}"), None).await;
                let text = answer["error"].as_str().unwrap_or_default();
                assert!(status == 400 && text.contains(name), "{name}={value:.9}: {status} {answer}");
            }
        }
        for query in [
            "limit=-1",
            "limit=0",
            "limit=99999999",
            "offset=9223372036854775807",
            "search=%25%5F%5C%27",
            "created_after=-9223372036854775808",
            "updated_after=9223372036854775807",
            "priority=-1",
            "x=%F0%9F%98%80",
            "min_priority=9223372036854775807",
            "project_id=-1",
            "search=%22%3B--",
            "limit=1&limit=2",
            "&&=&",
        ] {
            let (status, answer) = a.call(Method::GET, &format!("{base}?{query}"), None).await;
            assert_eq!(status, 200, "{query}: {answer}");
        }
    }
    for path in
        ["/tasks/%00", "/orgs/%00", "/orgs/default/projects/%00/tasks", "/tasks/%FF", "/orgs/%2e%2e/projects"]
    {
        let (status, answer) = a.call(Method::GET, path, None).await;
        assert!(matches!(status, 400 | 404), "{path}: {status} {answer}");
    }
    let (status, answer) = a.call(Method::GET, &format!("/tasks/{}", "9".repeat(5000)), None).await;
    assert!(status == 400 && answer.to_string().len() < 300, "{status} {answer}");
}

#[tokio::test]
async fn no_header_passes_for_an_actor_that_cannot_be_kept() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for (name, value, said) in [
        ("x-actor-id", "x".repeat(257), "x-actor-id is longer than 256 bytes"),
        ("x-actor-name", "x".repeat(257), "x-actor-name is longer than 256 bytes"),
        ("x-actor-type", "x".repeat(60_000), "x-actor-type is longer than 256 bytes"),
        ("x-actor-id", "a\tb".into(), "x-actor-id holds a control character"),
        ("x-actor-id", " ".into(), "X-Actor-ID is missing"),
    ] {
        let request = a.http.post(format!("{}/tasks", a.base)).body(r#"{"title": "t"}"#).header(name, value);
        let request = if name == "x-actor-id" { request } else { request.header("x-actor-id", "a") };
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        assert!(status == 400 && text.contains(said), "{name}: {status} {text}");
    }
    assert_eq!(a.get("/tasks").await["count"], 0);
}
