//! What the database keeps, and what goes from it.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use hub::{Error, Hub, HubConfig};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::database::{edit, refusal, rows};
use crate::support::{Caller, PATIENCE, TestHub, config, start_in};

#[tokio::test]
async fn every_transition_stands_in_the_audit_trail_in_its_order() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let mut listener = a.subscribe(json!({"type": "subscribe", "event_types": ["task.lease_expired"]})).await;
    let id = a.make_task(json!({"title": "t"})).await;
    b.post(&format!("/tasks/{id}/messages"), json!({"parts": [{"type": "text", "content": "m"}]})).await;
    b.post(&format!("/tasks/{id}/claim"), json!({"lease_duration": 1})).await;
    listener.next_event().await;
    b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    b.post(&format!("/tasks/{id}/complete"), json!({})).await;
    // What is refused leaves no trace.
    assert_eq!(b.call(Method::POST, &format!("/tasks/{id}/claim"), Some(json!({}))).await.0, 409);
    a.post(&format!("/tasks/{id}/reopen"), json!({})).await;
    let trail = rows(
        hub.dir.path(),
        "SELECT event || ' ' || coalesce(from_status, '-') || ' ' || to_status || ' ' \
         || coalesce(actor_id, '-') || ' ' || coalesce(CAST(message_id AS TEXT), '-') FROM audit ORDER BY id",
    );
    assert_eq!(
        trail.await,
        [
            "task.created - pending a -",
            "task.message pending pending b 1",
            "task.claimed pending in_progress b -",
            "task.lease_expired in_progress pending - -",
            "task.claimed pending in_progress b -",
            "task.completed in_progress completed b -",
            "task.reopened completed pending a -",
        ]
    );
    hub.hub.shutdown().await;
}

/// They share a transaction: what one of them did before it was refused must not stay in it.
#[tokio::test]
async fn of_changes_that_are_made_together_each_stands_alone() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let made = join_all((0..20).map(|n| a.make_task(json!({"title": n.to_string()})))).await;
    // Completing what nobody claimed is refused, after the title was changed.
    let refused = made.iter().map(|id| {
        let path = format!("/tasks/{id}");
        let change = Some(json!({"title": "changed", "status": "completed"}));
        let a = &a;
        async move { a.call(Method::PATCH, &path, change).await.0 }
    });
    let others = (0..20).map(|n| a.make_task(json!({"title": "other", "priority": 1 + n % 10})));
    let (refused, others) = tokio::join!(join_all(refused), join_all(others));
    assert!(refused.iter().all(|status| *status == 409), "{refused:?}");
    let mut ids: Vec<i64> = made.iter().chain(&others).copied().collect();
    ids.sort_unstable();
    assert_eq!(ids, Vec::from_iter(1..=40));
    let titles = rows(hub.dir.path(), "SELECT DISTINCT title FROM tasks WHERE title IN ('changed', 'other')");
    assert_eq!(titles.await, ["other"]);
    assert_eq!(rows(hub.dir.path(), "SELECT DISTINCT event FROM audit").await, ["task.created"]);
    hub.hub.shutdown().await;
}

async fn keeping(dir: &Path, keep: Duration) -> Hub {
    let config = HubConfig { keep: Some(keep), ..config(dir, 0).await };
    Hub::start(config).await.expect("a hub")
}

async fn until_gone(caller: &Caller, id: i64) {
    let gone = async {
        while caller.call(Method::GET, &format!("/tasks/{id}"), None).await.0 != 404 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("deleted in time");
}

#[tokio::test]
async fn what_is_over_goes_after_its_time_and_what_is_open_stays() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = keeping(dir.path(), Duration::from_millis(500)).await;
    let a = Caller::new(hub.local_addr(), "a");
    let mut listener = a.subscribe(json!({"type": "subscribe", "task_types": ["file_offer"]})).await;
    let open = a.make_task(json!({"title": "open"})).await;
    let ended = a.make_task(json!({"title": "ended", "payload": {"p2p": {"key": "ab".repeat(32)}}})).await;
    let message = json!({"parts": [{"type": "text", "content": "m"}]});
    a.post(&format!("/tasks/{ended}/messages"), message).await;
    a.post(&format!("/tasks/{ended}/cancel"), json!({})).await;
    // An original's offer has no expiry.
    let offer = a.make_task(json!({"title": "offer", "type": "file_offer"})).await;
    assert_eq!(listener.next_event().await, ("task.created".into(), offer));
    assert_eq!(listener.next_event().await, ("task.cancelled".into(), offer));
    until_gone(&a, ended).await;
    until_gone(&a, offer).await;
    assert_eq!(a.get(&format!("/tasks/{open}")).await["task"]["status"], "pending");
    assert_eq!(rows(dir.path(), "SELECT 'm' FROM messages").await, Vec::<String>::new());
    assert_eq!(
        rows(dir.path(), "SELECT DISTINCT title FROM audit JOIN tasks ON tasks.id = task_id").await,
        ["open"]
    );
    assert_eq!(
        rows(dir.path(), "SELECT DISTINCT CAST(task_id AS TEXT) FROM audit").await,
        [open.to_string()]
    );
    check_totals(dir.path()).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn the_database_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = keeping(dir.path(), Duration::from_millis(100)).await;
    let a = Caller::new(hub.local_addr(), "a");
    let payload = json!({"x": "x".repeat(20_000)});
    let mut sizes = Vec::new();
    for _ in 0..8 {
        let made = join_all((0..100).map(|_| a.make_task(json!({"title": "t", "payload": payload})))).await;
        for id in made.iter() {
            a.post(&format!("/tasks/{id}/cancel"), json!({})).await;
        }
        for id in made {
            until_gone(&a, id).await;
        }
        let pages = rows(dir.path(), "SELECT CAST(page_count AS TEXT) FROM pragma_page_count").await;
        sizes.push(pages[0].parse::<u64>().expect("a number"));
    }
    // The space of what went is used again; a round of tasks takes about five hundred pages.
    assert!(sizes[7] < sizes[1] + 500, "{sizes:?}");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_costs_itself_alone() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for title in ["broken", "whole"] {
        let id = a.make_task(json!({ "title": title })).await;
        a.post(&format!("/tasks/{id}/claim"), json!({})).await;
    }
    let TestHub { hub, dir } = hub;
    hub.shutdown().await;
    let broken =
        "UPDATE tasks SET payload = '{' WHERE title = 'broken'; UPDATE tasks SET due = 1, lease_expires = 1";
    edit(dir.path(), broken).await;
    let hub = timeout(PATIENCE, start_in(dir.path(), 0)).await.expect("a hub in time");
    let a = Caller::new(hub.local_addr(), "a");
    assert_eq!(a.get("/tasks/2").await["task"]["status"], "pending");
    let page = a.get("/tasks?limit=1&sort_dir=asc").await;
    assert_eq!((&page["count"], &page["next"]), (&json!(0), &json!(1)));
    assert_eq!(a.get("/tasks?offset=1&sort_dir=asc").await["tasks"][0]["title"], "whole");
    a.make_task(json!({"title": "next"})).await;
    hub.shutdown().await;
}

async fn announced(dir: &Path) -> Vec<String> {
    rows(dir, "SELECT substr(key, 1, 2) FROM announced_keys ORDER BY 1").await
}

#[tokio::test]
async fn the_keys_of_open_tasks_are_known_and_no_others() {
    let hub = TestHub::start().await;
    let dir = hub.dir.path().to_owned();
    let a = hub.caller("a");
    let key = |digits: &str| digits.repeat(32);
    let payload = json!({"p2p": {"key": key("a1")}, "hash": key("ff")});
    let id = a.make_task(json!({"title": "t", "payload": payload})).await;
    let said = json!({"p2p": {"key": key("b2")}}).to_string();
    let message = json!({"parts": [{"type": "data", "content": said}]});
    a.post(&format!("/tasks/{id}/messages"), message.clone()).await;
    assert_eq!(announced(&dir).await, ["a1", "b2"]);
    let change = json!({"payload": {"p2p": {"key": key("c3")}}});
    a.call(Method::PATCH, &format!("/tasks/{id}"), Some(change)).await;
    assert_eq!(announced(&dir).await, ["b2", "c3"]);
    a.post(&format!("/tasks/{id}/cancel"), json!({})).await;
    a.post(&format!("/tasks/{id}/messages"), message).await;
    assert_eq!(announced(&dir).await, Vec::<String>::new());
    a.post(&format!("/tasks/{id}/reopen"), json!({})).await;
    assert_eq!(announced(&dir).await, ["b2", "c3"]);

    // A database from before there was such a table.
    let TestHub { hub, dir: folder } = hub;
    hub.shutdown().await;
    edit(&dir, "DELETE FROM announced_keys; UPDATE tasks SET due = 0").await;
    let hub = start_in(&dir, 0).await;
    assert_eq!(announced(&dir).await, ["b2", "c3"]);
    hub.shutdown().await;
    drop(folder);
}

#[tokio::test]
async fn a_backup_is_made_while_the_hub_runs_and_serves_as_its_data() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let before = join_all((0..50).map(|n| a.make_task(json!({"title": n.to_string()})))).await;
    let (data, other) = (hub.dir.path().join("hub"), tempfile::tempdir().expect("a temporary folder"));
    std::fs::create_dir(other.path().join("hub")).expect("a folder");
    let file = other.path().join("hub/hub.sqlite");
    let meanwhile = join_all((0..50).map(|_| a.make_task(json!({"title": "meanwhile"}))));
    let (copied, meanwhile) = tokio::join!(hub::backup(&data, &file, false), meanwhile);
    copied.expect("copied");
    assert_eq!(meanwhile.len(), 50);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = hub::backup(&data, &file, false).await.expect_err("there is one");
    assert!(matches!(again, Error::BackupExists { .. }) && again.to_string().contains("--force"), "{again}");
    hub::backup(&data, &file, true).await.expect("replaced");
    let names: Vec<_> = std::fs::read_dir(other.path().join("hub")).expect("a folder").collect();
    assert_eq!(names.len(), 1, "{names:?}");

    let copy = start_in(other.path(), 0).await;
    let reader = Caller::new(copy.local_addr(), "a");
    for id in before.iter().chain(&meanwhile) {
        reader.get(&format!("/tasks/{id}")).await;
    }
    copy.shutdown().await;
    hub.hub.shutdown().await;
}

#[tokio::test]
async fn a_backup_that_cannot_be_made_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("backup");
    let error = hub::backup(&dir.path().join("nowhere"), &file, false).await.expect_err("no database");
    assert!(error.to_string().contains("nowhere"), "{error}");
    let error = hub::backup(dir.path(), &dir.path().join("no/folder"), false).await.expect_err("no folder");
    assert!(matches!(error, Error::Backup { .. }), "{error}");
    let left: Vec<Value> = std::fs::read_dir(dir.path())
        .expect("a folder")
        .map(|entry| json!(entry.expect("an entry").file_name().to_string_lossy()))
        .collect();
    assert_eq!(left, Vec::<Value>::new());
}

/// The totals are kept with each change; counted anew, they must be the same.
#[tokio::test]
async fn the_totals_are_what_the_tasks_add_up_to() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = keeping(dir.path(), Duration::from_secs(3600)).await;
    let (a, b) = (Caller::new(hub.local_addr(), "a"), Caller::new(hub.local_addr(), "b"));
    let tasks = (0..40).map(|n| {
        let (a, b) = (&a, &b);
        let kind = if n % 2 == 0 { "file_offer" } else { "task" };
        let recipient = if n % 4 == 0 { json!("b") } else { Value::Null };
        let payload = json!({"size": n * 10, "recipient_id": recipient});
        let task = json!({"title": "t", "type": kind, "channel": format!("c{}", n % 3), "payload": payload});
        let path = if n % 5 == 0 { "/orgs/o/projects/p/tasks" } else { "/tasks" };
        async move {
            let id = &a.post(path, task).await["task"]["id"];
            let mut steps = vec![(a, Method::PATCH, "", json!({"channel": "d", "payload": {"size": 7}}))];
            steps.push((
                b,
                Method::POST,
                "/claim",
                json!({"lease_duration": if n % 7 == 0 { 1 } else { 60_000 }}),
            ));
            steps.push((b, Method::POST, "/messages", json!({"parts": [{"type": "text", "content": "m"}]})));
            steps.push((b, Method::POST, "/complete", json!({})));
            steps.push((a, Method::POST, "/reopen", json!({})));
            steps.push((a, Method::PATCH, "", json!({"title": "u", "status": "cancelled"})));
            // Some of them are refused, as those of claims that are over.
            for (who, method, verb, body) in steps.into_iter().take(n % 8).skip(usize::from(n % 3 == 0)) {
                who.call(method, &format!("{path}/{id}{verb}"), Some(body)).await;
            }
        }
    });
    join_all(tasks).await;
    check_totals(dir.path()).await;
    let stats = a.get("/tasks/stats").await;
    assert_eq!(stats["stats"]["total"], 40);
    assert_eq!(stats["stats"]["recent"]["created_24h"], 40);
    hub.shutdown().await;
}

/// Counts the tasks anew.
async fn check_totals(dir: &Path) {
    let counts = |zero: &str| {
        format!(
            "SELECT CAST(project_id AS TEXT) || channel || status || CAST(is_directed AS TEXT) || ' ' || \
             CAST(count AS TEXT) || ' ' || CAST(completed_ms AS TEXT) FROM {zero} ORDER BY 1"
        )
    };
    let kept = rows(dir, &counts("task_counts WHERE count <> 0")).await;
    let counted = "(SELECT project_id, channel, status, is_directed, COUNT(*) AS count,
            CAST(COALESCE(SUM(completed_at - created_at), 0) AS BIGINT) AS completed_ms
        FROM (SELECT tasks.*, CASE WHEN recipient_id IS NULL THEN 0 ELSE 1 END AS is_directed
            FROM tasks) AS tasks
        GROUP BY project_id, channel, status, is_directed) AS counted";
    assert_eq!(kept, rows(dir, &counts(counted)).await);
    for (kept, counted) in [
        ("SUM(bytes)|offer_days", "SUM(file_size)|tasks WHERE type = 'file_offer'"),
        ("SUM(count)|offer_days", "COUNT(*)|tasks WHERE type = 'file_offer'"),
        ("SUM(created)|task_minutes", "COUNT(*)|tasks"),
        ("SUM(completed)|task_minutes", "COUNT(completed_at)|tasks"),
    ] {
        let (what, from) = kept.split_once('|').expect("two parts");
        let kept = format!("SELECT CAST(CAST(COALESCE({what}, 0) AS BIGINT) AS TEXT) FROM {from}");
        let (what, from) = counted.split_once('|').expect("two parts");
        let counted = format!("SELECT CAST(CAST(COALESCE({what}, 0) AS BIGINT) AS TEXT) FROM {from}");
        assert_eq!(rows(dir, &kept).await, rows(dir, &counted).await, "{kept}");
    }
}

/// Not even whoever has the database's connection rewrites it by a slip.
#[tokio::test]
async fn the_audit_trail_is_not_changed_and_goes_with_its_task_alone() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    a.make_task(json!({"title": "t"})).await;
    for statement in ["UPDATE audit SET actor_id = 'b'", "DELETE FROM audit"] {
        let refused = refusal(hub.dir.path(), statement).await;
        assert!(refused.contains("the audit trail"), "{refused}");
    }
    assert_eq!(rows(hub.dir.path(), "SELECT actor_id FROM audit").await, ["a"]);
    hub.hub.shutdown().await;
}
