//! What each command of the public command line of ATS (`ats` 1.3.0) sends, and that it finds what it looks
//! for.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestHub;

/// A command, the request that it sends below the task path or elsewhere, the status, and where in the answer
/// it looks.
pub(crate) type Command = (&'static str, Method, &'static str, Option<Value>, u16, &'static str);

/// Commands that make, list and change tasks.
pub(crate) fn made_and_listed() -> Vec<Command> {
    let full = json!({"title": "t", "type": "build", "channel": "ci", "priority": 7, "description": "d",
        "payload": {"x": [1]}});
    let defaults = json!({"title": "t", "type": "task", "channel": "default", "priority": 5});
    vec![
        ("ats create", Method::POST, "", Some(defaults), 201, "/task/id"),
        ("ats create with everything", Method::POST, "", Some(full), 201, "/task/payload/x/0"),
        ("ats get", Method::GET, "/1", None, 200, "/task/messages"),
        ("ats list", Method::GET, "?status=pending&limit=50", None, 200, "/tasks/1/id"),
        ("ats list of a channel", Method::GET, "?channel=ci&type=build", None, 200, "/tasks/0/id"),
        (
            "ats list with all filters",
            Method::GET,
            "?status=pending&type=build&channel=ci&limit=10&offset=0\
            &created_after=2020-01-01T00:00:00Z&updated_after=2020-01-01T00:00:00Z&priority=7&min_priority=1\
            &max_priority=10&search=t&sort_by=priority&sort_dir=asc",
            None,
            200,
            "/count",
        ),
        ("ats update", Method::PATCH, "/1", Some(json!({"title": "u", "priority": 9})), 200, "/task/title"),
        (
            "ats update of the payload",
            Method::PATCH,
            "/1",
            Some(json!({"payload": {"y": 1}})),
            200,
            "/task/payload/y",
        ),
    ]
}

/// Those of somebody who works on the first of them.
pub(crate) fn worked_on() -> Vec<Command> {
    let text = |text: &str| json!({"parts": [{"type": "text", "content": text}]});
    vec![
        ("ats claim", Method::POST, "/1/claim", Some(json!({})), 200, "/task/lease_expires"),
        (
            "ats claim again",
            Method::POST,
            "/1/claim",
            Some(json!({"lease_duration": 30_000})),
            200,
            "/task/assignee_id",
        ),
        (
            "ats list of an assignee",
            Method::GET,
            "?assignee_id=a&status=in_progress",
            None,
            200,
            "/tasks/0/assignee_name",
        ),
        (
            "ats message add",
            Method::POST,
            "/1/messages",
            Some(text("hello")),
            201,
            "/message/parts/0/content",
        ),
        (
            "ats message add of data",
            Method::POST,
            "/1/messages",
            Some(json!({"parts": [{"type": "data", "content": {"x": 1}}]})),
            201,
            "/message/parts/0/content/x",
        ),
        ("ats message list", Method::GET, "/1/messages", None, 200, "/messages/1/actor_name"),
    ]
}

/// Those that end the tasks.
pub(crate) fn ended() -> Vec<Command> {
    vec![
        (
            "ats complete",
            Method::POST,
            "/1/complete",
            Some(json!({"outputs": [{"ok": true}]})),
            200,
            "/task/outputs/0/ok",
        ),
        ("ats reopen", Method::POST, "/1/reopen", Some(json!({"reason": "again"})), 200, "/task/id"),
        ("ats fail", Method::POST, "/1/fail", Some(json!({"reason": "broken"})), 200, "/task/reason"),
        ("ats reopen without a reason", Method::POST, "/1/reopen", None, 200, "/task/id"),
        ("ats reject", Method::POST, "/1/reject", Some(json!({"reason": "no"})), 200, "/task/reason"),
        ("ats cancel", Method::POST, "/2/cancel", None, 200, "/task/status"),
    ]
}

/// Those that are not about one project's tasks.
pub(crate) fn elsewhere() -> Vec<Command> {
    vec![
        ("ats stats", Method::GET, "/tasks/stats", None, 200, "/stats/recent/completed_7d"),
        ("ats health", Method::GET, "/health", None, 200, "/timestamp"),
        ("ats org list", Method::GET, "/orgs", None, 200, "/organizations/0/slug"),
        (
            "ats org create",
            Method::POST,
            "/orgs",
            Some(json!({"slug": "acme", "name": "Acme"})),
            201,
            "/organization/name",
        ),
        ("ats org get", Method::GET, "/orgs/acme", None, 200, "/organization/id"),
        (
            "ats org rename",
            Method::PATCH,
            "/orgs/acme",
            Some(json!({"name": "ACME", "slug": "ajax"})),
            200,
            "/organization/slug",
        ),
        (
            "ats project list",
            Method::GET,
            "/orgs/default/projects?counts=true",
            None,
            200,
            "/projects/0/total_count",
        ),
        (
            "ats project create",
            Method::POST,
            "/orgs/ajax/projects",
            Some(json!({"slug": "p", "name": "P", "description": "d"})),
            201,
            "/project/description",
        ),
        ("ats project get", Method::GET, "/orgs/ajax/projects/p", None, 200, "/project/slug"),
        (
            "ats project rename",
            Method::PATCH,
            "/orgs/ajax/projects/p",
            Some(json!({"name": "Q", "slug": "q"})),
            200,
            "/project/name",
        ),
        (
            "ats list of a project",
            Method::GET,
            "/orgs/ajax/projects/q/tasks?status=pending",
            None,
            200,
            "/count",
        ),
    ]
}

#[tokio::test]
async fn every_command_finds_what_it_looks_for() {
    // With an organization or a project configured, and with neither.
    for base in ["/tasks", "/orgs/default/projects/main/tasks"] {
        let hub = TestHub::start().await;
        let a = hub.caller("a");
        for (command, method, path, body, status, found) in
            [made_and_listed(), worked_on(), ended(), elsewhere()].concat()
        {
            let is_elsewhere = ["/tasks", "/orgs", "/health"].iter().any(|start| path.starts_with(start));
            let path = if is_elsewhere { path.to_owned() } else { format!("{base}{path}") };
            let (answered, answer) = a.call(method, &path, body).await;
            assert_eq!(answered, status, "{command}: {answer}");
            let value = answer.pointer(found);
            assert!(value.is_some_and(|value| !value.is_null()), "{command}: no {found} in {answer}");
        }
    }
}

/// `ats watch` subscribes by channel, by type, and by event.
#[tokio::test]
async fn every_way_to_watch_is_told_what_it_asked_for() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let task = json!({"title": "t", "channel": "ci", "type": "build"});
    for (filter, expected) in [
        (json!({}), ["task.created", "task.claimed"]),
        (json!({"channels": ["ci"]}), ["task.created", "task.claimed"]),
        (json!({"task_types": ["build"], "channels": ["x", "ci"]}), ["task.created", "task.claimed"]),
        (json!({"event_types": ["task.claimed", "task.cancelled"]}), ["task.claimed", "task.cancelled"]),
    ] {
        let mut subscription = json!({"type": "subscribe", "id": "1"});
        for (name, value) in filter.as_object().expect("fields") {
            subscription[name] = value.clone();
        }
        let mut listener = a.subscribe(subscription).await;
        let id = a.make_task(task.clone()).await;
        a.post(&format!("/tasks/{id}/claim"), json!({})).await;
        a.post(&format!("/tasks/{id}/cancel"), json!({})).await;
        for expected in expected {
            assert_eq!(listener.next_event().await, (expected.to_owned(), id), "{filter}");
        }
    }
}

/// A newcomer's first command need not be one that makes a task.
#[tokio::test]
async fn the_usual_project_is_there_from_the_start() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    assert_eq!(a.get("/orgs").await["organizations"][0]["slug"], "default");
    assert_eq!(a.get("/orgs/default/projects").await["projects"][0]["slug"], "main");
    assert_eq!(a.get("/orgs/default/projects/main").await["project"]["slug"], "main");
}
