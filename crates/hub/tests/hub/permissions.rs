//! docs/permissions.md, cell by cell.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, TestHub};

const DOCUMENT: &str = include_str!("../../../../docs/permissions.md");
const CALLS: [&str; 8] = ["claim", "complete", "reject", "cancel", "fail", "change", "release", "reopen"];

/// A cell of the first table.
struct Cell {
    task: &'static str,
    call: &'static str,
    who: &'static str,
    says: &'static str,
}

/// The rows of the table whose first column has this name, each as its cells by column.
fn table(first: &str) -> Vec<HashMap<&'static str, &'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim);
    let head = DOCUMENT.lines().find(|line| line.starts_with(&format!("| {first} |"))).expect("the table");
    let after = DOCUMENT.lines().skip_while(|line| *line != head).skip(2);
    let rows = after.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        assert_eq!(cells(row).count(), cells(head).count(), "{row}");
        cells(head).zip(cells(row)).collect()
    })
    .collect()
}

fn cells() -> Vec<Cell> {
    let mut found = Vec::new();
    for row in table("task") {
        for call in row["calls"].split(", ") {
            assert!(CALLS.contains(&call), "{call}");
            for who in ["source", "recipient", "claimant", "anybody else"] {
                found.push(Cell { task: row["task"], call, who, says: row[who] });
            }
        }
    }
    found
}

/// Makes a task of `a` as the table names it; a recipient is `b`, and so is a claimant.
async fn make(hub: &TestHub, task: &str) -> i64 {
    let (state, for_whom) = task.split_once(", ").expect("a state and for whom");
    let payload = match for_whom {
        "for one" => json!({ "recipient_id": "b" }),
        "for anybody" => json!({}),
        other => panic!("{other}"),
    };
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let id = a.make_task(json!({ "title": "t", "type": "file_offer", "payload": payload })).await;
    if state != "pending" {
        b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    }
    if state == "ended" {
        b.post(&format!("/tasks/{id}/complete"), json!({})).await;
    }
    id
}

async fn call(by: &Caller, call: &str, id: i64) -> (u16, Value) {
    let path = format!("/tasks/{id}");
    match call {
        "change" => by.call(Method::PATCH, &path, Some(json!({ "title": "changed" }))).await,
        "release" => by.call(Method::PATCH, &path, Some(json!({ "status": "pending" }))).await,
        verb => by.call(Method::POST, &format!("{path}/{verb}"), Some(json!({}))).await,
    }
}

fn status(says: &str) -> u16 {
    match says {
        "yes" => 200,
        "no" => 403,
        "not now" => 409,
        other => panic!("{other:?} is no answer"),
    }
}

#[test]
fn the_table_has_every_call_on_every_task_once() {
    let mut named: Vec<String> =
        cells().iter().map(|cell| format!("{} {} {}", cell.task, cell.call, cell.who)).collect();
    let states = ["pending", "claimed", "ended"];
    assert_eq!(named.len(), states.len() * 2 * CALLS.len() * 4);
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), states.len() * 2 * CALLS.len() * 4);
}

#[tokio::test]
async fn every_cell_holds() {
    let hub = TestHub::start().await;
    let mut held = 0;
    for Cell { task, call: what, who, says } in cells().into_iter().filter(|cell| cell.says != "–") {
        let id = make(&hub, task).await;
        let actor = match who {
            "source" => "a",
            "recipient" | "claimant" => "b",
            _ => "c",
        };
        let before = hub.caller("a").get(&format!("/tasks/{id}")).await;
        let (found, answer) = call(&hub.caller(actor), what, id).await;
        assert_eq!(found, status(says), "{task}: {what} by {who}: {answer}");
        if found != 200 {
            assert!(answer["error"].as_str().is_some_and(|text| text.contains(&id.to_string())), "{answer}");
            assert_eq!(hub.caller("a").get(&format!("/tasks/{id}")).await, before, "{task}: {what} by {who}");
        }
        held += 1;
    }
    assert!(held > 100, "{held}");
}

#[tokio::test]
async fn work_is_not_for_one_whatever_its_payload_says() {
    let hub = TestHub::start().await;
    let id = hub.caller("a").make_task(json!({ "title": "t", "payload": { "recipient_id": "b" } })).await;
    hub.caller("c").post(&format!("/tasks/{id}/claim"), json!({})).await;
}
