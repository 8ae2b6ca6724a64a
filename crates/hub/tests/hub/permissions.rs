//! docs/permissions.md, cell by cell.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, TestHub};

const DOCUMENT: &str = include_str!("../../../../docs/permissions.md");
const CALLS: [&str; 10] =
    ["read", "post", "claim", "complete", "reject", "cancel", "fail", "change", "release", "reopen"];
const WHO: [&str; 6] = ["source", "recipient", "claimant", "named", "by key", "admin"];

/// A cell of the table.
struct Cell {
    task: &'static str,
    call: &'static str,
    who: &'static str,
    says: &'static str,
}

/// The cells of the table, those of somebody whom a task has not apart.
fn cells() -> Vec<Cell> {
    let split = |line: &'static str| line.trim_matches('|').split('|').map(str::trim);
    let mut rows = DOCUMENT.lines().filter(|line| line.starts_with('|'));
    let head = rows.next().expect("a head");
    let mut found = Vec::new();
    for row in rows.skip(1) {
        assert_eq!(split(row).count(), split(head).count(), "{row}");
        let row: HashMap<_, _> = split(head).zip(split(row)).collect();
        for call in row["calls"].split(", ") {
            assert!(CALLS.contains(&call), "{call}");
            found.extend(WHO.map(|who| Cell { task: row["task"], call, who, says: row[who] }));
        }
    }
    found
}

/// A hub with a task of `a` for each cell, and callers that show their keys.
struct Place {
    hub: TestHub,
    keys: HashMap<&'static str, String>,
}

impl Place {
    async fn new() -> Self {
        let hub = TestHub::start().await;
        let mut keys = HashMap::new();
        for actor in ["a", "b", "c"] {
            keys.insert(actor, hub.key(actor, false).await);
        }
        keys.insert("admin", hub.key("root", true).await);
        Self { hub, keys }
    }

    /// Everybody that a column stands for; a recipient is `b`, and so is a claimant.
    fn callers(&self, who: &str) -> Vec<Caller> {
        let by_key = |name: &str, actor: &str| self.hub.caller(actor).with_key(&self.keys[name]);
        match who {
            "source" => vec![self.hub.caller("a"), by_key("a", "a")],
            "recipient" | "claimant" => vec![self.hub.caller("b"), by_key("b", "b")],
            "named" => vec![self.hub.caller("c")],
            "by key" => vec![by_key("c", "c")],
            "admin" => vec![by_key("admin", "root")],
            other => panic!("{other}"),
        }
    }

    /// Makes a task as the table names it.
    async fn make(&self, task: &str) -> i64 {
        let (state, for_whom) = task.split_once(", ").expect("a state and for whom");
        let payload = match for_whom {
            "for one" => json!({ "recipient_id": "b" }),
            "for anybody" => json!({}),
            other => panic!("{other}"),
        };
        let (a, b) = (self.hub.caller("a"), self.hub.caller("b"));
        let id = a.make_task(json!({ "title": "t", "type": "file_offer", "payload": payload })).await;
        match state {
            "pending" => {}
            "claimed" => drop(b.post(&format!("/tasks/{id}/claim"), json!({})).await),
            // By its source: who had claimed it would still be shown it.
            "ended" => drop(a.post(&format!("/tasks/{id}/cancel"), json!({})).await),
            other => panic!("{other}"),
        }
        id
    }
}

async fn call(by: &Caller, call: &str, id: i64) -> (u16, Value) {
    let path = format!("/tasks/{id}");
    match call {
        "read" => by.call(Method::GET, &path, None).await,
        "post" => {
            let parts = json!({ "parts": [{ "type": "text", "content": "hello" }] });
            by.call(Method::POST, &format!("{path}/messages"), Some(parts)).await
        }
        "change" => by.call(Method::PATCH, &path, Some(json!({ "title": "changed" }))).await,
        "release" => by.call(Method::PATCH, &path, Some(json!({ "status": "pending" }))).await,
        verb => by.call(Method::POST, &format!("{path}/{verb}"), Some(json!({}))).await,
    }
}

fn status(call: &str, says: &str) -> u16 {
    match says {
        "yes" if call == "post" => 201,
        "yes" => 200,
        "no" => 403,
        "not now" => 409,
        "hidden" => 404,
        other => panic!("{other:?} is no answer"),
    }
}

#[test]
fn the_table_has_every_call_on_every_task_once() {
    let name = |cell: &Cell| format!("{} {} {}", cell.task, cell.call, cell.who);
    let mut named: Vec<String> = cells().iter().map(name).collect();
    let whole = 3 * 2 * CALLS.len() * WHO.len();
    assert_eq!(named.len(), whole);
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), whole);
}

#[tokio::test]
async fn every_cell_holds() {
    let place = Place::new().await;
    let mut held = 0;
    for Cell { task, call: what, who, says } in cells().into_iter().filter(|cell| cell.says != "–") {
        for by in place.callers(who) {
            let id = place.make(task).await;
            let path = format!("/tasks/{id}");
            let before = place.hub.caller("a").get(&path).await;
            let (found, answer) = call(&by, what, id).await;
            let with = if by.key.is_some() { "a key" } else { "none" };
            assert_eq!(found, status(what, says), "{task}: {what} by {who} with {with}: {answer}");
            if found >= 400 {
                assert!(
                    answer["error"].as_str().is_some_and(|text| text.contains(&id.to_string())),
                    "{answer}"
                );
                assert_eq!(place.hub.caller("a").get(&path).await, before, "{task}: {what} by {who}");
            }
            held += 1;
        }
    }
    assert!(held > 300, "{held}");
}

#[tokio::test]
async fn without_a_key_where_one_is_needed_every_call_is_refused_on_every_task() {
    let place = Place::new().await;
    let mut tasks: Vec<&str> = cells().iter().map(|cell| cell.task).collect();
    tasks.dedup();
    for task in tasks {
        let id = place.make(task).await;
        for what in CALLS {
            for actor in ["a", "b", "c"] {
                let stranger = place.hub.caller(actor).elsewhere();
                let (found, answer) = call(&stranger, what, id).await;
                assert_eq!(found, 401, "{task}: {what}: {answer}");
                assert!(answer["error"].as_str().is_some_and(|text| text.contains("hub invite")), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn work_is_not_for_one_whatever_its_payload_says() {
    let hub = TestHub::start().await;
    let id = hub.caller("a").make_task(json!({ "title": "t", "payload": { "recipient_id": "b" } })).await;
    hub.caller("c").post(&format!("/tasks/{id}/claim"), json!({})).await;
}
