//! Services that are slow, broken, or not there.

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use ats_p2p::ats::{AtsError, Client, ListQuery, NewTask, Part, Policy, Settings, Status, TaskId};
use serde_json::json;

use crate::fake::{Act, Fake, answer, client, error, json as ok, policy, settings};
use crate::http;

fn id() -> TaskId {
    TaskId::from_text("7").expect("an id")
}

fn offer() -> NewTask {
    NewTask {
        title: "Offer".into(),
        kind: "file_offer".into(),
        channel: "c".into(),
        description: Some("transfer T-1".into()),
        payload: Some(json!({"transfer_id": "T-1"})),
        ..NewTask::default()
    }
}

fn cut_short() -> Act {
    Act::Send(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"task\":"
            .to_vec(),
    )
}

fn made(source: &str) -> serde_json::Value {
    json!({
        "id": 7, "status": "pending", "type": "file_offer", "channel": "c", "description": "transfer T-1",
        "source_id": source,
    })
}

#[tokio::test]
async fn errors_of_the_service_pass_when_they_pass() {
    let fake = Fake::start([
        error("500 Internal Server Error", "oops"),
        answer("502 Bad Gateway", "text/html", "<h1>502</h1>"),
        Act::Close,
        ok(json!({"task": {"id": 7}})),
    ])
    .await;
    assert_eq!(fake.client().get(&id()).await.expect("a task").id, id());
    assert_eq!(fake.lines(), ["GET /tasks/7"; 4]);
}

#[tokio::test]
async fn attempts_end_with_the_last_error() {
    let fake = Fake::start((0..9).map(|n| error("503 Service Unavailable", &format!("try {n}")))).await;
    let found = fake.client().get(&id()).await.expect_err("four errors");
    assert!(matches!(&found, AtsError::Status { status: 503, message, .. } if message == "try 3"), "{found}");
    assert!(found.is_retryable());
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn too_many_requests_are_answered_by_waiting() {
    let busy =
        |after: &str| Act::Send(http::answer("429 Too Many Requests", &[("Retry-After", after)], "{}"));
    let fake = Fake::start([busy("1"), ok(json!({"tasks": []}))]).await;
    let started = Instant::now();
    assert_eq!(fake.client().list(&ListQuery::default()).await.expect("a list").len(), 0);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());

    // A date is one of the service's clock, whatever that of this machine says.
    let headers =
        [("Date", "Sun, 06 Nov 2033 08:49:37 GMT"), ("Retry-After", "Sun, 06 Nov 2033 08:49:38 GMT")];
    let dated = Act::Send(http::answer("503 Service Unavailable", &headers, "{}"));
    let fake = Fake::start([dated, ok(json!({"tasks": []}))]).await;
    assert_eq!(fake.client().list(&ListQuery::default()).await.expect("a list").len(), 0);

    let fake = Fake::start([busy("3600"), ok(json!({"tasks": []}))]).await;
    let found = fake.client().list(&ListQuery::default()).await.expect_err("too long a wait");
    assert_eq!(found.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_web_page_is_said_to_be_one_and_not_asked_again() {
    let fake = Fake::start([answer("200 OK", "text/html", "<!doctype html><title>Welcome</title>")]).await;
    let found = fake.client().list(&ListQuery::default()).await.expect_err("a page");
    assert!(matches!(found, AtsError::NotJson { .. }), "{found:?}");
    let text = found.to_string();
    for part in [&fake.url(), "text/html", "<!doctype html>", "ATS_URL"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn json_of_another_kind_is_said_to_be_so() {
    let fake = Fake::start([ok(json!({"hello": 1})), ok(json!([1])), ok(json!("x"))]).await;
    let client = fake.client();
    assert!(matches!(client.list(&ListQuery::default()).await, Err(AtsError::Unexpected { .. })));
    assert!(matches!(client.get(&id()).await, Err(AtsError::Unexpected { .. })));
    assert!(matches!(client.health().await, Err(AtsError::Unexpected { .. })));
}

fn moved(status: &str, to: &str) -> Act {
    Act::Send(http::answer(status, &[("Location", to)], ""))
}

#[tokio::test]
async fn a_redirection_within_the_host_is_followed_with_all_that_was_asked() {
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect"] {
        let fake = Fake::start([moved(status, "v2/tasks/7?x=1#y"), ok(made("me"))]).await;
        assert_eq!(fake.client().get(&id()).await.expect("a task").id, id());
        let seen = fake.seen();
        assert_eq!(seen[1].line, "GET /tasks/v2/tasks/7?x=1", "{status}");
        assert!(seen[1].head.to_lowercase().contains("authorization: bearer hush-hush"));
    }
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let fake = Fake::start([moved(status, "/v2/tasks"), ok(made("me"))]).await;
        let absolute = format!("{}/v2/tasks", fake.url());
        fake.client().create(&offer(), "T-1").await.expect("made");
        let seen = fake.seen();
        assert_eq!((seen[1].line.as_str(), &seen[1].body), ("POST /v2/tasks", &seen[0].body));
        let fake = Fake::start([moved(status, &absolute)]).await;
        // That was the address of another service.
        assert_eq!(
            fake.client().create(&offer(), "T-1").await.expect_err("moved").status(),
            Some(status_of(status))
        );
    }
}

fn status_of(line: &str) -> u16 {
    line[..3].parse().expect("a status")
}

#[tokio::test]
async fn a_redirection_elsewhere_or_of_a_change_into_a_look_is_told_and_not_followed() {
    let other = Fake::start([ok(made("me"))]).await;
    for to in [
        "https://elsewhere.example/tasks",
        "//elsewhere.example/tasks",
        &format!("{}/tasks", other.url()),
        "http://me:hush@127.0.0.1/",
        "ftp://127.0.0.1/",
    ] {
        let fake = Fake::start([moved("307 Temporary Redirect", to)]).await;
        let text = fake.client().get(&id()).await.expect_err("moved").to_string();
        assert!(text.contains(&format!("moved to {to}")) && text.contains("ATS_URL"), "{text}");
        assert_eq!(fake.seen().len(), 1, "{to}");
    }
    assert!(other.seen().is_empty());
    for status in ["301 Moved Permanently", "302 Found", "303 See Other"] {
        let fake = Fake::start([moved(status, "/v2/tasks"), ok(made("me"))]).await;
        let found = fake.client().create(&offer(), "T-1").await.expect_err("moved");
        assert_eq!(found.status(), Some(status_of(status)), "{found}");
        assert_eq!(fake.lines(), ["POST /tasks"]);
    }
}

#[tokio::test]
async fn a_redirection_in_circles_ends() {
    let fake = Fake::start((0..9).map(|n| moved("302 Found", &format!("/{n}")))).await;
    let found = fake.client().get(&id()).await.expect_err("moved");
    assert_eq!(found.status(), Some(302), "{found}");
    assert_eq!(fake.lines(), ["GET /tasks/7", "GET /0", "GET /1", "GET /2", "GET /3"]);
}

/// What is packed as gzip.
fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).expect("packed");
    encoder.finish().expect("packed")
}

#[tokio::test]
async fn compressed_answers_are_read() {
    let gzip = [("Content-Encoding", "gzip"), ("Content-Type", "application/json")];
    let tasks: Vec<_> = (0..100).map(|n| json!({"id": n, "status": "pending", "type": "t"})).collect();
    let list = packed(&json!({ "tasks": tasks }).to_string());
    let cut = packed(&made("me").to_string());
    let fake = Fake::start([
        Act::Send(http::answer("200 OK", &gzip, list)),
        Act::Send(http::answer("200 OK", &gzip, &cut[..cut.len() / 2])),
        Act::Send(http::answer("200 OK", &gzip, packed(&made("me").to_string()))),
        Act::Send(http::answer("403 Forbidden", &gzip, packed("{\"error\":\"not you\"}"))),
    ])
    .await;
    let client = fake.client();
    assert_eq!(client.list(&ListQuery::default()).await.expect("a list").len(), 100);
    // One that breaks off is asked for again.
    assert_eq!(client.get(&id()).await.expect("a task").id, id());
    assert!(client.cancel(&id()).await.expect_err("refused").to_string().contains("not you"));
    assert!(fake.seen()[0].head.to_lowercase().contains("accept-encoding: gzip\r\n"));
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn refusals_are_final_and_printable() {
    let fake = Fake::start([error("403 Forbidden", "no\u{1b}[2J\u{202e} way")]).await;
    let found = fake.client().cancel(&id()).await.expect_err("refused");
    assert!(found.is_refused() && !found.is_retryable());
    let text = found.to_string();
    assert!(text.contains(r"no\u{1b}[2J\u{202e} way") && text.contains("ATS_API_KEY"), "{text}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address_and_what_to_do() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let found = client(&url).create(&offer(), "T-1").await.expect_err("nobody");
    assert!(matches!(found, AtsError::Unreachable { .. }) && found.is_retryable());
    let text = found.to_string();
    assert!(text.contains(&url) && text.to_lowercase().contains("refused") && text.contains("hub"), "{text}");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_given_up_in_time() {
    let drip = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec();
    for act in [Act::Stall, Act::SendAndStall(drip), Act::SendAndStall(b"HTTP/1.1 2".to_vec())] {
        let fake = Fake::start([act]).await;
        let patience = Policy { timeout: Duration::from_millis(200), attempts: 1, ..policy() };
        let client = Client::with_policy(settings(&fake.url()), patience).expect("a client");
        let started = Instant::now();
        let found = client.get(&id()).await.expect_err("no answer");
        assert!(matches!(found, AtsError::Timeout { .. }), "{found:?}");
        assert!(found.to_string().contains("0.2 s"), "{found}");
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n[".to_vec();
    bytes.resize(33 * 1024 * 1024, b' ');
    let fake = Fake::start([Act::Send(bytes)]).await;
    let patience = Policy { timeout: Duration::from_secs(20), ..policy() };
    let client = Client::with_policy(settings(&fake.url()), patience).expect("a client");
    let found = client.list(&ListQuery::default()).await.expect_err("too long");
    assert!(matches!(found, AtsError::TooLarge { .. }), "{found:?}");
}

#[tokio::test]
async fn a_task_made_before_the_connection_broke_is_not_made_twice() {
    let fake = Fake::start([cut_short(), ok(json!({"tasks": [made("other"), made("me")]}))]).await;
    let task = fake.client().create(&offer(), "T-1").await.expect("found");
    assert_eq!(task.source.expect("a source").id, "me");
    assert_eq!(fake.lines(), ["POST /tasks", "GET /tasks"]);
    let search = &fake.seen()[1].line;
    assert!(search.contains("search=T-1") && search.contains("channel=c"), "{search}");
}

#[tokio::test]
async fn a_task_that_search_does_not_find_is_looked_for_among_the_newest() {
    let fake = Fake::start([Act::Close, ok(json!({"tasks": []})), ok(json!([made("me")]))]).await;
    fake.client().create(&offer(), "T-1").await.expect("found");
    assert_eq!(fake.lines(), ["POST /tasks", "GET /tasks", "GET /tasks"]);
}

#[tokio::test]
async fn a_task_that_was_not_made_is_made_after_looking() {
    let none = || ok(json!({"tasks": [], "count": 0}));
    let fake = Fake::start([
        error("500 Internal Server Error", "oops"),
        Act::Close,
        none(),
        none(),
        answer("201 Created", "application/json", &json!({"task": made("me")}).to_string()),
    ])
    .await;
    fake.client().create(&offer(), "T-1").await.expect("made");
    assert_eq!(fake.lines(), ["POST /tasks", "GET /tasks", "GET /tasks", "GET /tasks", "POST /tasks"]);
    let body = &fake.seen()[0].body;
    assert_eq!(body["type"], "file_offer");
    assert_eq!((&body["priority"], &body["payload"]["transfer_id"]), (&json!(5), &json!("T-1")));
}

#[tokio::test]
async fn what_was_certainly_not_done_is_repeated_without_looking() {
    let fake = Fake::start([error("429 Too Many Requests", "busy"), ok(made("me"))]).await;
    fake.client().create(&offer(), "T-1").await.expect("made");
    assert_eq!(fake.lines(), ["POST /tasks", "POST /tasks"]);
}

#[tokio::test]
async fn no_error_of_a_server_or_a_proxy_hides_a_task_that_was_made() {
    for status in ["500 Oops", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"] {
        let found = ok(json!({"tasks": [made("me")]}));
        let fake = Fake::start([answer(status, "text/html", "<h1>no"), found]).await;
        fake.client().create(&offer(), "T-1").await.expect("found");
        assert_eq!(fake.lines(), ["POST /tasks", "GET /tasks"], "{status}");
    }
}

#[tokio::test]
async fn a_claim_refused_after_a_lost_answer_may_be_ours() {
    let refusal = || error("409 Conflict", "task 7 is already claimed by me");
    let held = |by: &str| ok(json!({"task": {"id": 7, "status": "in_progress", "assignee_id": by}}));
    let lease = Duration::from_secs(60);

    let fake = Fake::start([cut_short(), refusal(), held("me")]).await;
    assert!(fake.client().claim(&id(), lease).await.expect("ours").is_held_by("me"));
    assert_eq!(fake.lines(), ["POST /tasks/7/claim", "POST /tasks/7/claim", "GET /tasks/7"]);
    assert_eq!(fake.seen()[0].body, json!({"lease_duration": 60_000}));

    let fake = Fake::start([cut_short(), refusal(), held("other")]).await;
    let found = fake.client().claim(&id(), lease).await.expect_err("another's");
    assert!(found.is_already_claimed(), "{found}");

    // Where every answer is lost, the task is read between two attempts.
    let fake = Fake::start([cut_short(), cut_short(), held("me")]).await;
    assert!(fake.client().claim(&id(), lease).await.expect("ours").is_held_by("me"));
    assert_eq!(fake.lines(), ["POST /tasks/7/claim", "POST /tasks/7/claim", "GET /tasks/7"]);

    // Without a lost answer a refusal is one.
    let fake = Fake::start([refusal(), held("me")]).await;
    assert!(fake.client().claim(&id(), lease).await.is_err());
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn of_two_processes_of_an_actor_a_claim_is_that_of_the_one_whose_words_stand_there() {
    let (lease, parts) = (Duration::from_secs(60), vec![Part::text("here")]);
    let refusal = || error("409 Conflict", "task 7 is already claimed by me (in_progress)");
    let held = |words: &str| {
        let message = json!({"actor_id": "me", "parts": [{"type": "text", "content": words}]});
        let task = json!({"id": 7, "status": "in_progress", "assignee_id": "me", "messages": [message]});
        ok(json!({ "task": task }))
    };
    let fake = Fake::start([cut_short(), refusal(), held("here")]).await;
    assert!(fake.client().claim_first(&id(), lease, parts.clone()).await.expect("ours").is_held_by("me"));
    assert_eq!(fake.lines(), ["POST /tasks/7/claim", "POST /tasks/7/claim", "GET /tasks/7"]);
    let words = json!([{"type": "text", "content": "here"}]);
    let body = json!({"lease_duration": 60_000, "only_pending": true, "parts": words});
    assert!(fake.seen()[..2].iter().all(|seen| seen.body == body), "{:?}", fake.seen());

    let fake = Fake::start([cut_short(), refusal(), held("there")]).await;
    let taken = fake.client().claim_first(&id(), lease, parts.clone()).await.expect_err("the other's");
    assert!(taken.is_already_claimed(), "{taken}");
}

#[tokio::test]
async fn words_that_a_service_did_not_take_with_a_claim_are_posted_after_it() {
    let claimed = ok(json!({"task": {"id": 7, "status": "in_progress", "assignee_id": "me"}}));
    let fake = Fake::start([claimed, ok(json!({"message": {"id": 1}}))]).await;
    let lease = Duration::from_secs(60);
    fake.client().claim_first(&id(), lease, vec![Part::text("here")]).await.expect("claimed");
    assert_eq!(fake.lines(), ["POST /tasks/7/claim", "POST /tasks/7/messages"]);
    assert!(!fake.client().takes_messages());
}

#[tokio::test]
async fn an_end_reached_before_the_answer_was_lost_counts() {
    let fake = Fake::start([
        Act::Close,
        error("409 Conflict", "task 7 is completed"),
        ok(json!({"id": 7, "status": "completed", "assignee_id": "me", "outputs": [1]})),
    ])
    .await;
    let task = fake.client().complete(&id(), vec![json!(1)]).await.expect("completed");
    assert_eq!(task.status, Status::Completed);
    assert_eq!(fake.seen()[0].body, json!({"outputs": [1]}));
}

#[tokio::test]
async fn an_answer_without_a_task_is_completed_by_reading_it() {
    let fake = Fake::start([ok(json!({"ok": true})), ok(json!({"id": 7, "status": "cancelled"}))]).await;
    assert_eq!(fake.client().cancel(&id()).await.expect("cancelled").status, Status::Cancelled);
    let no_content = Act::Send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec());
    let fake = Fake::start([no_content, ok(json!({"id": 7, "status": "rejected"}))]).await;
    assert_eq!(fake.client().reject(&id(), "no").await.expect("rejected").status, Status::Rejected);
}

#[tokio::test]
async fn a_message_posted_before_the_answer_was_lost_is_not_posted_twice() {
    let parts = vec![Part::data(&json!({"transfer_id": "T-1"}))];
    let part = json!({"type": "data", "content": "{\"transfer_id\":\"T-1\"}"});
    let posted = json!({"id": 3, "actor_id": "me", "parts": [part]});
    let fake = Fake::start([cut_short(), ok(json!({"messages": [posted]}))]).await;
    let message = fake.client().add_message(&id(), parts.clone()).await.expect("found");
    assert_eq!(message.parts, parts);
    assert_eq!(fake.lines(), ["POST /tasks/7/messages", "GET /tasks/7/messages"]);

    let fake = Fake::start([cut_short(), ok(json!({"messages": []})), ok(json!({"message": posted}))]).await;
    fake.client().add_message(&id(), parts).await.expect("posted");
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn every_request_says_who_asks_and_none_shows_the_key() {
    let fake = Fake::start([ok(json!({"tasks": []})), error("401 Unauthorized", "key?")]).await;
    let client = fake.client();
    client.list(&ListQuery::default()).await.expect("a list");
    let found = client.list(&ListQuery::default()).await.expect_err("refused");
    let head = fake.seen()[0].head.to_lowercase();
    assert!(head.contains("x-actor-type: agent\r\n") && head.contains("x-actor-id: me\r\n"), "{head}");
    // UTF-8, read here byte by byte.
    assert!(head.contains("x-actor-name: k\u{e3}\u{a4}the\r\n"), "{head}");
    assert!(head.contains("authorization: bearer hush-hush\r\n"), "{head}");
    for text in [format!("{client:?}"), format!("{found:?}"), found.to_string()] {
        assert!(!text.contains("hush"), "{text}");
    }
}

#[tokio::test]
async fn paths_follow_the_settings_and_hold_any_id() {
    let odd = TaskId::from_value(&json!("a/b?c#d %é")).expect("an id");
    let cases = [
        (None, None, "/prefix/tasks"),
        (Some("o"), None, "/prefix/orgs/o/projects/main/tasks"),
        (None, Some("p"), "/prefix/orgs/default/projects/p/tasks"),
        (Some("o/x"), Some("p"), "/prefix/orgs/o%2Fx/projects/p/tasks"),
    ];
    for (organization, project, path) in cases {
        let fake = Fake::start([ok(json!({"id": odd.to_value()}))]).await;
        let settings = Settings {
            organization: organization.map(str::to_owned),
            project: project.map(str::to_owned),
            ..settings(&format!("{}/prefix/", fake.url()))
        };
        let client = Client::with_policy(settings, policy()).expect("a client");
        assert_eq!(client.get(&odd).await.expect("a task").id, odd);
        assert_eq!(fake.seen()[0].line, format!("GET {path}/a%2Fb%3Fc%23d%20%25%C3%A9"));
    }
}

#[tokio::test]
async fn the_clock_is_the_services() {
    let date = [("Date", "Sun, 06 Nov 2033 08:49:37 GMT")];
    let fake = Fake::start([Act::Send(http::answer("404 Not Found", &date, "{}"))]).await;
    let client = fake.client();
    let found = client.get(&id()).await.expect_err("not there");
    assert!(found.is_not_found());
    let ahead = client.clock().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((2_014_879_777..2_014_879_787).contains(&ahead), "{ahead}");
}

#[tokio::test]
async fn settings_that_allow_no_request_are_refused_before_one() {
    for url in ["", "localhost:1", "ftp://h", "http://me:hush@h"] {
        let found = Client::new(settings(url)).expect_err(url);
        assert!(matches!(&found, AtsError::Settings(text) if !text.contains("hush")), "{found}");
    }
    let found = Client::new(settings("http://h")).expect_err("a key over plain HTTP").to_string();
    assert!(found.contains("https") && found.contains("--insecure") && !found.contains("hush"), "{found}");
    for fine in ["https://h", "http://localhost:1", "http://127.9.9.9", "http://[::1]"] {
        Client::new(settings(fine)).expect(fine);
    }
    Client::new(Settings { insecure: true, ..settings("http://h") }).expect("allowed");
    Client::new(Settings { api_key: None, ..settings("http://h") }).expect("no key");
    let mut wrong = settings("http://h");
    wrong.actor.id = "a\nb".into();
    assert!(Client::new(wrong).expect_err("a line end").to_string().contains("x-actor-id"));
}
