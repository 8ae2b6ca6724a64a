//! The HTTP API.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::database;
use crate::support::{Caller, TestHub};

#[tokio::test]
async fn a_task_goes_from_hand_to_hand() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));

    let offer = json!({
        "title": "Offer", "type": "file_offer", "channel": "p2p-transfer", "priority": 7,
        "description": "transfer 123", "payload": {"transfer_id": "123", "size": 5},
    });
    let (status, made) = a.call(Method::POST, "/tasks", Some(offer)).await;
    assert_eq!(status, 201);
    let task = &made["task"];
    let id = task["id"].as_i64().expect("an id");
    assert_eq!(task["status"], "pending");
    assert_eq!(task["payload"], json!({"transfer_id": "123", "size": 5}));
    assert_eq!(
        (&task["source_type"], &task["source_id"], &task["source_name"]),
        (&json!("agent"), &json!("a"), &json!("A"))
    );
    assert_eq!((&task["assignee_id"], &task["lease_expires"]), (&Value::Null, &Value::Null));

    let said = json!({"parts": [{"type": "data", "content": "{}"}]});
    let (status, message) = b.call(Method::POST, &format!("/tasks/{id}/messages"), Some(said)).await;
    assert_eq!((status, &message["message"]["actor_id"]), (201, &json!("b")));

    let claimed = b.post(&format!("/tasks/{id}/claim"), json!({"lease_duration": 30_000})).await;
    assert_eq!(claimed["task"]["status"], "in_progress");
    assert_eq!(claimed["task"]["assignee_name"], "B");
    let first_lease = claimed["task"]["lease_expires"].as_str().expect("a time").to_owned();

    let renewed = b.post(&format!("/tasks/{id}/claim"), json!({"lease_duration": 90_000})).await;
    assert!(renewed["task"]["lease_expires"].as_str().expect("a time") > first_lease.as_str());

    let (status, refused) = a.call(Method::POST, &format!("/tasks/{id}/claim"), Some(json!({}))).await;
    assert_eq!(status, 409);
    assert!(refused["error"].as_str().expect("a text").contains("already claimed by b"), "{refused}");

    let outputs = json!({"outputs": [{"verified": true}]});
    let done = b.post(&format!("/tasks/{id}/complete"), outputs).await;
    assert_eq!(done["task"]["status"], "completed");

    let task = &a.get(&format!("/tasks/{id}")).await["task"];
    assert_eq!(task["outputs"], json!([{"verified": true}]));
    assert_eq!(task["messages"].as_array().expect("messages").len(), 1);
    assert_eq!(task["messages"][0]["parts"], json!([{"type": "data", "content": "{}"}]));
    let messages = a.get(&format!("/tasks/{id}/messages")).await;
    assert_eq!(messages["messages"], task["messages"]);
}

#[tokio::test]
async fn tasks_end_in_every_way_and_reopen() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for (verb, status) in [("cancel", "cancelled"), ("fail", "failed"), ("reject", "rejected")] {
        let id = a.make_task(json!({"title": "t"})).await;
        let path = format!("/tasks/{id}/{verb}");
        let ended = a.post(&path, json!({"reason": "because"})).await;
        assert_eq!((&ended["task"]["status"], &ended["task"]["reason"]), (&json!(status), &json!("because")));
        assert_eq!(a.call(Method::POST, &path, Some(json!({}))).await.0, 409);
        let reopened = a.post(&format!("/tasks/{id}/reopen"), json!({})).await;
        assert_eq!(reopened["task"]["status"], "pending");
        // The public client cancels without a body.
        assert_eq!(a.call(Method::POST, &format!("/tasks/{id}/cancel"), None).await.0, 200);
    }
}

#[tokio::test]
async fn a_change_is_made_whole_or_not_at_all() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let id = a.make_task(json!({"title": "old"})).await;
    let path = format!("/tasks/{id}");
    let changed = json!({"title": "new", "priority": 1, "payload": {"x": 1}, "status": "in_progress"});
    let (status, task) = a.call(Method::PATCH, &path, Some(changed)).await;
    assert_eq!(
        (status, &task["task"]["title"], &task["task"]["assignee_id"]),
        (200, &json!("new"), &json!("a"))
    );

    a.post(&format!("/tasks/{id}/complete"), json!({})).await;
    let refused = json!({"title": "newer", "status": "cancelled"});
    assert_eq!(a.call(Method::PATCH, &path, Some(refused)).await.0, 409);
    assert_eq!(a.get(&path).await["task"]["title"], "new");
}

#[tokio::test]
async fn both_path_forms_lead_to_the_default_project_and_others_are_apart() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let id = a.make_task(json!({"title": "here"})).await;
    let same = a.get(&format!("/orgs/default/projects/main/tasks/{id}")).await;
    assert_eq!(same["task"]["title"], "here");

    // A project elsewhere is empty until its first task makes it.
    assert_eq!(
        a.get("/orgs/acme/projects/x/tasks").await,
        json!({"tasks": [], "count": 0, "has_more": false})
    );
    let other = a.post("/orgs/acme/projects/x/tasks", json!({"title": "there"})).await;
    let other_id = &other["task"]["id"];
    assert_eq!((&other["task"]["org_slug"], &other["task"]["project_slug"]), (&json!("acme"), &json!("x")));
    assert_eq!(a.call(Method::GET, &format!("/tasks/{other_id}"), None).await.0, 404);
    let stolen = format!("/orgs/acme/projects/x/tasks/{id}/cancel");
    assert_eq!(a.call(Method::POST, &stolen, Some(json!({}))).await.0, 404);
    assert_eq!(a.get("/tasks").await["count"], 1);
    let by_number = format!("/tasks?project_id={}", other["task"]["project_id"]);
    assert_eq!(a.get(&by_number).await["tasks"][0]["title"], "there");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    for (title, kind, channel, priority, description) in [
        ("Beta", "file_offer", "c1", 3, "holds 100%_sure"),
        ("alpha", "file_offer", "c2", 9, "plain"),
        ("Gamma", "task", "c1", 5, "needle in Hay"),
    ] {
        let task = json!({
            "title": title, "type": kind, "channel": channel,
            "priority": priority, "description": description,
        });
        a.make_task(task).await;
    }
    b.post("/tasks/3/claim", json!({})).await;

    let titles = |list: Value| -> Vec<String> {
        let tasks = list["tasks"].as_array().expect("tasks");
        assert_eq!(list["count"], tasks.len());
        tasks.iter().map(|task| task["title"].as_str().expect("a title").to_owned()).collect()
    };
    for (query, expected) in [
        ("", vec!["Gamma", "alpha", "Beta"]),
        ("?sort_dir=asc", vec!["Beta", "alpha", "Gamma"]),
        ("?sort_by=title", vec!["alpha", "Beta", "Gamma"]),
        ("?sort_by=priority", vec!["alpha", "Gamma", "Beta"]),
        ("?sort_by=updated_at", vec!["Gamma", "alpha", "Beta"]),
        ("?status=pending", vec!["alpha", "Beta"]),
        ("?status=pending,in_progress&limit=2", vec!["Gamma", "alpha"]),
        ("?limit=1&offset=2", vec!["Beta"]),
        ("?limit=0", vec![]),
        ("?type=file_offer&channel=c1", vec!["Beta"]),
        ("?assignee_id=b", vec!["Gamma"]),
        ("?search=NEEDLE", vec!["Gamma"]),
        ("?search=alph", vec!["alpha"]),
        ("?search=100%25_", vec!["Beta"]),
        ("?search=100x", vec![]),
        ("?search=0%25", vec!["Beta"]),
        ("?search=a%25a", vec![]),
        ("?priority=5", vec!["Gamma"]),
        ("?min_priority=5&max_priority=8", vec!["Gamma"]),
        ("?created_after=2000-01-01T00:00:00Z", vec!["Gamma", "alpha", "Beta"]),
        ("?updated_after=2999-01-01", vec![]),
    ] {
        assert_eq!(titles(a.get(&format!("/tasks{query}")).await), expected, "{query}");
    }
    for query in ["?limit=x", "?sort_by=id", "?status=done", "?created_after=soon"] {
        assert_eq!(a.call(Method::GET, &format!("/tasks{query}"), None).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn a_page_says_whether_there_is_more() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for n in 0..3 {
        a.make_task(json!({"title": n.to_string()})).await;
    }
    for (query, count, has_more) in [
        ("", 3, false),
        ("?limit=3", 3, false),
        ("?limit=2", 2, true),
        ("?limit=2&offset=1", 2, false),
        ("?limit=2&offset=2", 1, false),
        ("?offset=3", 0, false),
        ("?limit=0", 0, true),
    ] {
        let page = a.get(&format!("/tasks{query}")).await;
        assert_eq!((&page["count"], &page["has_more"]), (&json!(count), &json!(has_more)), "{query}");
    }
}

#[tokio::test]
async fn a_cursor_leads_through_the_whole_list_while_it_grows() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for n in 0..7 {
        a.make_task(json!({"title": format!("{}", 9 - n), "priority": 1 + n % 3})).await;
    }
    let mut first = 9999;
    for sort in ["created_at", "updated_at", "priority", "title"] {
        let whole = a.get(&format!("/tasks?search=&sort_by={sort}&limit=500")).await;
        let ids = |page: &Value| -> Vec<i64> {
            let tasks = page["tasks"].as_array().expect("tasks").iter();
            tasks.map(|task| task["id"].as_i64().expect("an id")).collect()
        };
        let (mut seen, mut path) = (Vec::new(), format!("/tasks?sort_by={sort}&limit=2"));
        loop {
            let page = a.get(&path).await;
            seen.extend(ids(&page));
            let Some(cursor) = page["cursor"].as_str() else { break };
            path = format!("/tasks?sort_by={sort}&limit=2&cursor={cursor}");
            // What comes to its beginning meanwhile moves no page.
            first -= 1;
            a.make_task(json!({"title": format!(" {first}"), "priority": 10})).await;
        }
        assert_eq!(seen, ids(&whole), "{sort}");
    }
    let (status, answer) = a.call(Method::GET, "/tasks?cursor=x", None).await;
    assert!(
        status == 400 && answer["error"].as_str().is_some_and(|error| error.contains("cursor")),
        "{answer}"
    );
}

/// An offset of 900,000 had that many tasks gone through.
#[tokio::test]
async fn an_offset_goes_so_far_and_no_further() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    a.make_task(json!({"title": "t"})).await;
    assert_eq!(a.get("/tasks?offset=20001").await["has_more"], false);
    database::edit(hub.dir.path(), "UPDATE task_counts SET count = 30000").await;
    let (status, answer) = a.call(Method::GET, "/tasks?offset=20001", None).await;
    assert!(
        status == 400 && answer["error"].as_str().is_some_and(|error| error.contains("cursor")),
        "{answer}"
    );
    assert_eq!(a.get("/tasks?offset=20000").await["count"], 0);
}

/// Such a page used to look like the last one.
#[tokio::test]
async fn a_page_that_ends_early_for_its_size_says_so_and_the_next_one_goes_on() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let payload = json!({"x": "x".repeat(250 * 1024)});
    for n in 0..80 {
        a.make_task(json!({"title": n.to_string(), "payload": payload})).await;
    }
    let mut titles = Vec::new();
    let mut offset = json!(0);
    loop {
        let page = a.get(&format!("/tasks?sort_dir=asc&offset={offset}")).await;
        let tasks = page["tasks"].as_array().expect("tasks");
        titles.extend(tasks.iter().map(|task| task["title"].as_str().expect("a title").to_owned()));
        assert!(!tasks.is_empty() && tasks.len() < 80, "{} tasks", tasks.len());
        if page["has_more"] == false {
            assert_eq!(page.get("next"), None);
            break;
        }
        offset = page["next"].clone();
    }
    assert_eq!(titles, Vec::from_iter((0..80).map(|n: usize| n.to_string())));
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_in_json() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let long = "x".repeat(300 * 1024);
    for (method, path, body, status, said) in [
        (Method::GET, "/nowhere", None, 404, "nothing at this path"),
        (Method::DELETE, "/tasks", None, 405, "method"),
        (Method::GET, "/tasks/99", None, 404, "no task"),
        (Method::GET, "/tasks/a%2Fb%20%1b", None, 404, "no task"),
        (Method::GET, "/tasks/99999999999999999999", None, 404, "no task"),
        (Method::POST, "/tasks/99/claim", Some(json!({})), 404, "no task"),
        (Method::POST, "/tasks/99/explode", Some(json!({})), 404, "explode"),
        (Method::POST, "/tasks", Some(json!({})), 400, "title"),
        (Method::POST, "/tasks", Some(json!([1])), 400, "object"),
        (Method::POST, "/tasks", Some(json!({"title": "t", "payload": {"x": long}})), 413, "longer than"),
        (Method::GET, "/orgs/none", None, 404, "no organization"),
        (Method::GET, "/orgs/default/projects/none", None, 404, "no project"),
        (Method::GET, "/orgs/a%20b/projects/x/tasks", None, 400, "slug"),
        (Method::GET, "/ws", None, 400, "Connection"),
    ] {
        let (found, answer) = a.call(method.clone(), path, body).await;
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert!(
            answer["error"].as_str().is_some_and(|text| text.contains(said)),
            "{method} {path}: {answer}"
        );
    }
    let nobody = Caller { actor: String::new(), ..hub.caller("") };
    let (status, answer) = nobody.call(Method::POST, "/tasks", Some(json!({"title": "t"}))).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().is_some_and(|text| text.contains("X-Actor-ID")), "{answer}");
}

#[tokio::test]
async fn web_pages_of_others_are_refused() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for (header, value, status) in
        [("origin", "http://evil.example", 403), ("host", "evil.example:8787", 421)]
    {
        let request = a.http.get(format!("{}/tasks", a.base)).header(header, value);
        assert_eq!(request.send().await.expect("an answer").status(), status, "{header}: {value}");
    }
}

#[tokio::test]
async fn statistics_add_up() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    for channel in ["c1", "c1", "c2"] {
        a.make_task(json!({"title": "t", "channel": channel})).await;
    }
    a.post("/tasks/1/claim", json!({})).await;
    a.post("/tasks/1/complete", json!({})).await;
    a.post("/orgs/o/projects/p/tasks", json!({"title": "elsewhere", "channel": "c3"})).await;

    let stats = &a.get("/tasks/stats").await["stats"];
    assert_eq!(stats["total"], 4);
    assert_eq!(stats["by_status"]["pending"], 3);
    assert_eq!(stats["by_status"]["rejected"], 0);
    assert_eq!(stats["by_channel"], json!({"c1": 2, "c2": 1, "c3": 1}));
    assert_eq!(stats["completed_count"], 1);
    assert!(stats["avg_completion_seconds"].as_f64().is_some_and(|seconds| seconds < 10.0), "{stats}");
    assert_eq!(
        stats["recent"],
        json!({
            "created_24h": 4, "completed_24h": 1, "created_7d": 4, "completed_7d": 1,
        })
    );
    let stats = &a.get("/orgs/o/projects/p/tasks/stats").await["stats"];
    assert_eq!((&stats["total"], &stats["avg_completion_seconds"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn organizations_and_projects_are_made_shown_and_renamed() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let made = a.post("/orgs", json!({"slug": "acme", "name": "Acme"})).await;
    assert_eq!(made["organization"]["slug"], "acme");
    assert_eq!(a.call(Method::POST, "/orgs", Some(json!({"slug": "acme"}))).await.0, 409);
    assert_eq!(a.call(Method::POST, "/orgs", Some(json!({"slug": "a/b"}))).await.0, 400);

    let made = a.post("/orgs/acme/projects", json!({"slug": "x", "name": "X", "description": "d"})).await;
    assert_eq!(made["project"]["description"], "d");
    assert_eq!(a.call(Method::POST, "/orgs/acme/projects", Some(json!({"slug": "x"}))).await.0, 409);
    assert_eq!(a.call(Method::POST, "/orgs/none/projects", Some(json!({"slug": "x"}))).await.0, 404);

    a.post("/orgs/acme/projects/x/tasks", json!({"title": "t"})).await;
    let projects = a.get("/orgs/acme/projects?counts=true").await;
    let counts =
        ["pending_count", "in_progress_count", "total_count"].map(|key| &projects["projects"][0][key]);
    assert_eq!(counts, [&json!(1), &json!(0), &json!(1)]);

    let (status, renamed) = a.call(Method::PATCH, "/orgs/acme", Some(json!({"slug": "ajax"}))).await;
    assert_eq!((status, &renamed["organization"]["slug"]), (200, &json!("ajax")));
    let change = json!({"slug": "y", "name": "Y"});
    let (status, renamed) = a.call(Method::PATCH, "/orgs/ajax/projects/x", Some(change)).await;
    assert_eq!((status, &renamed["project"]["name"]), (200, &json!("Y")));
    assert_eq!(a.get("/orgs/ajax/projects/y/tasks").await["count"], 1);
    assert_eq!(a.call(Method::GET, "/orgs/acme", None).await.0, 404);
    let slugs: Vec<Value> = a.get("/orgs").await["organizations"]
        .as_array()
        .expect("organizations")
        .iter()
        .map(|organization| organization["slug"].clone())
        .collect();
    assert_eq!(slugs, ["ajax", "default"]);
}

#[tokio::test]
async fn of_many_who_claim_at_once_one_wins() {
    let hub = TestHub::start().await;
    let id = hub.caller("a").make_task(json!({"title": "t"})).await;
    let claims = (0..20).map(|n| {
        let caller = hub.caller(&format!("b{n}"));
        async move { caller.call(Method::POST, &format!("/tasks/{id}/claim"), Some(json!({}))).await.0 }
    });
    let mut answers = futures_util::future::join_all(claims).await;
    answers.sort_unstable();
    assert_eq!(answers[0], 200);
    assert!(answers[1..].iter().all(|status| *status == 409), "{answers:?}");
}

#[tokio::test]
async fn messages_on_a_task_are_bounded() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let id = a.make_task(json!({"title": "t"})).await;
    let path = format!("/tasks/{id}/messages");
    let long = json!({"parts": [{"type": "text", "content": "x".repeat(200 * 1024)}]});
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(a.call(Method::POST, &path, Some(long.clone())).await.0);
    }
    assert_eq!((statuses[0], statuses[24]), (201, 413));
    assert_eq!(a.call(Method::POST, &path, Some(json!({"parts": []}))).await.0, 400);
    assert_eq!(a.call(Method::POST, &path, Some(json!({"parts": [5]}))).await.0, 400);
}

/// Time jumps here whenever nothing else is left to do, so that half minutes pass at once.
#[tokio::test]
async fn callers_that_dawdle_are_sent_away() {
    let hub = TestHub::start().await;
    let head = "POST /tasks HTTP/1.1\r\nHost: localhost\r\nX-Actor-ID: a\r\n";
    for (sent, expected) in
        [(head.to_owned(), ""), (format!("{head}Content-Length: 100\r\n\r\n{{"), "HTTP/1.1 408")]
    {
        let mut stream = TcpStream::connect(hub.hub.local_addr()).await.expect("a connection");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        // It has been accepted once another's request was answered.
        hub.caller("a").get("/health").await;
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an end");
        assert!(answer.starts_with(expected), "{answer}");
        assert!(started.elapsed().as_secs() <= 61, "{:?}", started.elapsed());
        tokio::time::resume();
    }
    hub.hub.shutdown().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let hub = TestHub::start().await;
    let mut stream = TcpStream::connect(hub.hub.local_addr()).await.expect("a connection");
    let request = "POST /tasks HTTP/1.1\r\nHost: localhost\r\nX-Actor-ID: a\r\nContent-Length: 100\r\n\r\n\
        {\"title\":\"t\"}";
    stream.write_all(request.as_bytes()).await.expect("sent");
    drop(stream);
    let a = hub.caller("a");
    assert_eq!(a.make_task(json!({"title": "t"})).await, 1);
    assert_eq!(a.get("/tasks").await["count"], 1);
}

#[tokio::test]
async fn prometheus_is_told_what_happened() {
    let hub = TestHub::start_with(|config| config.requests_per_second = 1).await;
    let a = hub.caller("a");
    let mut listener = a.subscribe(json!({"type": "subscribe"})).await;
    let id = a.make_task(json!({"title": "t"})).await;
    listener.next_event().await;
    a.get(&format!("/tasks/{id}")).await;
    a.call(Method::GET, "/made/up", None).await;
    let metrics = || async {
        let answer = a.http.get(format!("{}/metrics", a.base)).send().await.expect("an answer");
        answer.text().await.expect("a text")
    };
    let text = metrics().await;
    for line in [
        r#"ats_hub_requests_total{method="POST",call="/tasks",status="201"} 1"#,
        r#"ats_hub_requests_total{method="GET",call="/tasks/{id}",status="200"} 1"#,
        r#"ats_hub_requests_total{method="",call="other",status="404"} 1"#,
        "ats_hub_events_total 1",
        "ats_hub_watchers 1",
        r#"ats_hub_tasks{status="pending"} 1"#,
        r#"ats_hub_tasks{status="failed"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    // This machine has a hundred requests a second, five hundred in hand.
    while a.call(Method::GET, "/tasks", None).await.0 != 429 {}
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(metrics().await.contains(r#"ats_hub_refused_total{limit="rate"} 1"#));
}
