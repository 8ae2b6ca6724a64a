//! Lists of tasks that hold what makes no sense, against a node that watches.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::service::{Agent, Answer, KEY, Service, offer};

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{}{}", open.repeat(depth), close.repeat(depth))
}

/// A pending offer, apart from these fields of it.
fn offer_with(fields: Value) -> String {
    let mut task = offer("bad");
    for (name, value) in fields.as_object().unwrap() {
        task[name] = value.clone();
    }
    task.to_string()
}

/// A pending offer, apart from this text in the place of a field's value.
fn offer_with_raw(field: &str, raw: &str) -> String {
    offer_with(json!({ field: "THE PLACE" })).replace("\"THE PLACE\"", raw)
}

/// Values that no client should trust, as they stand in an answer.
fn bad_values() -> Vec<(&'static str, String)> {
    vec![
        ("arrays nested 126 deep", nested("[", "]", 126)),
        ("arrays nested 128 deep", nested("[", "]", 128)),
        ("arrays nested 200,000 deep", nested("[", "]", 200_000)),
        ("objects nested 10,000 deep", format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000))),
        ("a lone high surrogate", r#"{"filename":"\ud800"}"#.into()),
        ("a lone low surrogate", r#"{"filename":"\udc00x"}"#.into()),
        ("a lone surrogate in a name", r#"{"\ud800":1}"#.into()),
        ("surrogates in the wrong order", r#""\udc00\ud800""#.into()),
        ("an escape cut short", r#""\u12""#.into()),
        ("an escape that is none", r#""\q""#.into()),
        ("a control in a string", "\"a\u{0}b\u{1b}[2J\"".into()),
        ("a number with a million digits", "1".repeat(1_000_000)),
        ("a number beyond all", "1e999999999".into()),
        ("a number that is none", "NaN".into()),
        ("a number with a leading zero", "007".into()),
        ("a million numbers", format!("[{}0]", "0,".repeat(1_000_000))),
        ("100,000 empty objects", format!("[{}{{}}]", "{},".repeat(100_000))),
        (
            "100,000 names",
            format!("{{{}\"z\":0}}", (0..100_000).map(|n| format!("\"{n}\":0,")).collect::<String>()),
        ),
        ("100,000 times one name", format!("{{{}\"z\":0}}", "\"a\":0,".repeat(100_000))),
        ("a long text", format!("{:?}", "x".repeat(3_000_000))),
        ("a text that is deep JSON", format!("{:?}", nested("[", "]", 5_000))),
        ("a text that is much JSON", format!("{:?}", format!("[{}0]", "[0],".repeat(50_000)))),
        ("a comment", "/* , */ null".into()),
        ("a comma too many", "[1,]".into()),
        ("brackets that do not fit", "{\"a\":]}".into()),
        ("a word", "undefined".into()),
    ]
}

/// Entries of a list that no client should trust.
fn bad_entries() -> Vec<(&'static str, Vec<u8>)> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    for (name, raw) in bad_values() {
        for field in ["payload", "messages", "title", "outputs"] {
            entries.push((name, offer_with_raw(field, &raw)));
        }
        entries.push((name, raw));
    }
    entries.extend(bad_fields());
    let mut entries: Vec<(&str, Vec<u8>)> =
        entries.into_iter().map(|(name, entry)| (name, entry.into_bytes())).collect();
    entries.push(("bytes that are no text", b"{\"id\":1,\"title\":\"\xff\xfe\x80\"}".to_vec()));
    entries.push(("bytes that are no JSON", vec![0xff; 300]));
    entries
}

/// Offers with a field that makes no sense, and entries that are none.
fn bad_fields() -> Vec<(&'static str, String)> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    let mut add = |name, entry: String| entries.push((name, entry));
    for id in [
        json!(null),
        json!({}),
        json!([1]),
        json!(true),
        json!(1.5),
        json!(1e300),
        json!(-0.0),
        json!(""),
        json!("."),
        json!(".."),
        json!("a\nb"),
        json!("\u{0}"),
        json!("x".repeat(100_000)),
        json!(u64::MAX),
    ] {
        add("an id that is none", offer_with(json!({ "id": id })));
    }
    for date in [
        json!("9999-12-31T23:59:59.999999999Z"),
        json!("9999-12-31T23:59:59-23:59"),
        json!("0000-01-01T00:00:00Z"),
        json!("-9999-01-01T00:00:00Z"),
        json!("0000-01-01T00:00:00+23:59"),
        json!(1e308),
        json!(-1e308),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(253_402_300_799_u64),
        json!(253_402_300_800_000_u64),
        json!("now"),
    ] {
        let dates =
            json!({ "created_at": date, "updated_at": date, "lease_expires": date, "expires_at": date });
        add("a date of another age", offer_with(dates));
        let mut task = offer("bad");
        task["payload"]["expires_at"] = date;
        add("an expiry of another age", task.to_string());
    }
    for (name, value) in [("size", json!(-1)), ("size", json!(1e300)), ("size", json!("9".repeat(999)))] {
        let mut task = offer("bad");
        task["payload"][name] = value;
        add("a size that is none", task.to_string());
    }
    for (field, value) in [
        ("status", json!(7)),
        ("status", json!("x".repeat(100_000))),
        ("type", json!([])),
        ("channel", json!({})),
        ("source_id", json!([])),
        ("source", json!([[]])),
        ("assignee", json!("x")),
        ("messages", json!({})),
        ("messages", json!([[], 7, null, {"parts": 7}, {"parts": [7]}, {"message": {"message": {}}}])),
        ("task", json!({"task": {"task": {}}})),
        ("data", json!([])),
        ("payload", json!(null)),
    ] {
        add("a field of another kind", offer_with(json!({ field: value })));
    }
    for entry in ["null", "true", "7", "\"x\"", "[]", "{}", "{\"task\":null}", "\"]},{\\\"\""] {
        add("an entry that is no task", entry.into());
    }
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_offer_arrives_beside_each_entry_that_makes_no_sense() {
    let home = tempfile::tempdir().unwrap();
    for (n, (name, entry)) in bad_entries().into_iter().enumerate() {
        let mut body = b"{\"tasks\":[".to_vec();
        for (honest, comma) in [("first", ","), ("last", "")] {
            body.extend_from_slice(offer(honest).to_string().as_bytes());
            if honest == "first" {
                body.push(b',');
                body.extend_from_slice(&entry);
            }
            body.extend_from_slice(comma.as_bytes());
        }
        body.extend_from_slice(b"],\"has_more\":false}");
        let service = Service::start(move |request| list(request, Answer::body(&body))).await;
        let mut b = Agent::new(home.path(), &service.url(), |_| {});
        let _socket = b.watch_confirmed(&service).await;
        // The oldest, which stand last, are served first.
        let shown = String::from_utf8_lossy(&entry).chars().take(80).collect::<String>();
        eprintln!("{n}: {name}: {shown}");
        b.offered("last").await;
        b.offered("first").await;
        b.node.destroy().await;
    }
}

/// Answers lists so, once an event connection is asked for as well.
fn list(request: &crate::service::Request, answer: Answer) -> Option<Answer> {
    (request.method == "GET" && request.path == "/tasks").then_some(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_offer_arrives_in_each_list_that_is_odd() {
    let home = tempfile::tempdir().unwrap();
    let (honest, other) = (offer("honest").to_string(), offer_with(json!({ "channel": "other" })));
    for (name, body) in [
        ("a list without a frame", format!("[{honest}]")),
        ("a list in another frame", format!("{{\"data\":{{\"tasks\":[{honest}]}}}}")),
        ("a byte order mark", format!("\u{feff}{{\"tasks\":[{honest}]}}")),
        ("cut short within a task", format!("{{\"tasks\":[{honest},{}", &honest[..honest.len() / 2])),
        ("cut short within a string", format!("{{\"tasks\":[{honest},{{\"id\":\"x")),
        ("cut short behind a task", format!("{{\"tasks\":[{honest}")),
        ("something behind the end", format!("{{\"tasks\":[{honest}]}}]]]]{{{{\"\"")),
        ("a list twice", format!("{{\"tasks\":[{other}],\"tasks\":[{honest}]}}")),
        (
            "a count that is a lie",
            format!("{{\"count\":-1,\"total\":1e99,\"tasks\":[{honest}],\"has_more\":\"yes\"}}"),
        ),
        ("much beside the list", format!("{{\"x\":{:?},\"tasks\":[{honest}]}}", "x".repeat(400_000))),
        ("depth beside the list", format!("{{\"x\":{},\"tasks\":[{honest}]}}", nested("[", "]", 10_000))),
        ("a surrogate beside the list", format!("{{\"x\":\"\\ud800\",\"tasks\":[{honest}]}}")),
        ("a page that never ends", format!("{{\"tasks\":[{honest},{}", format!("{other},").repeat(20_000))),
        ("offers of others before it", format!("[{}{honest}]", format!("{other},").repeat(3_000))),
    ] {
        eprintln!("{name}");
        let service = Service::start(move |request| list(request, Answer::body(&body))).await;
        let mut b = Agent::new(home.path(), &service.url(), |_| {});
        let _socket = b.watch_confirmed(&service).await;
        b.offered("honest").await;
        b.node.destroy().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_without_end_are_not_read_without_end() {
    let home = tempfile::tempdir().unwrap();
    let same = json!({ "tasks": [offer("honest")], "has_more": true });
    let service = Service::start(move |request| list(request, Answer::json(&same))).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let _socket = b.watch_confirmed(&service).await;
    b.offered("honest").await;
    assert!(service.count("GET", "/tasks") <= 101, "{}", service.count("GET", "/tasks"));
    b.node.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_of_a_list_is_told_once() {
    let home = tempfile::tempdir().unwrap();
    let honest = offer("honest");
    let body = format!("{{\"tasks\":[{honest},{{\"id\":1,\"title\":\"\\ud800\"}},7],\"has_more\":false}}");
    let service = Service::start(move |request| list(request, Answer::body(&body))).await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let _socket = b.watch_confirmed(&service).await;
    let warning = b.warning().await;
    assert!(warning.contains("2 of the tasks on channel p2p-transfer"), "{warning}");
    b.offered("honest").await;
    b.node.destroy().await;
}

/// Begins of answers that are no list, and a word of what is told about each.
fn failures() -> Vec<(Answer, &'static str)> {
    let html = "<html>Bearer key-of-the-agent-b</html>";
    let echo = json!({ "error": format!("got Authorization: Bearer {KEY}") }).to_string();
    vec![
        (Answer::with_head("200 OK", &[("Content-Type", "text/html")], html), "no task service"),
        (Answer::with_head("400 Bad Request", &[], &echo), "400: got Authorization: Bearer (secret)"),
        (Answer::with_head("409 Conflict", &[], echo.replace('-', "\\u002d")), "Bearer (secret)"),
        (Answer::with_head("418 Teapot", &[("Content-Type", KEY)], "x"), "(secret)"),
        (
            Answer::with_head("302 Found", &[("Location", &format!("http://x/{KEY}"))], ""),
            "moved to http://x/(secret)",
        ),
        (Answer::with_head("200 OK", &[("Content-Type", KEY)], "no"), "(secret)"),
        (Answer::body("{\"tasks\":{}}"), "no list of tasks"),
        (Answer::body("{}"), "no list of tasks"),
        (Answer::body(""), "not JSON"),
        (Answer::body("\u{1b}[2J"), "not JSON"),
        (Answer::body([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]), "not JSON"),
        (Answer::pieces(&[("{\"x\":\"", 1), ("xxxxxxxxxxxxxxxx", 100_000)]), "no task service"),
        (Answer::with_head("401 No", &[], "[".repeat(100_000)), "401"),
        (Answer::with_head("429 Slow", &[("Retry-After", "99999999999999999999")], "{}"), "429"),
        (Answer::with_head("503 Down", &[("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")], "{}"), "503"),
        (Answer::raw("HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"), "999"),
        (Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n"), ""),
        (Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), ""),
        (Answer::raw(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1_000_000))), ""),
        (Answer::raw(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1_000))), ""),
        (Answer::raw("\u{0}\u{0}\u{0}"), ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_while_events_flow_is_told_and_asked_for_again() {
    use ats_p2p::event::Event;
    let home = tempfile::tempdir().unwrap();
    let cases = failures().into_iter().enumerate().map(|(n, (answer, said))| {
        let home = home.path().to_owned();
        async move {
            let service = Service::start(move |request| list(request, answer.clone())).await;
            let mut b = Agent::new(&home, &service.url(), |_| {});
            let _socket = b.watch_confirmed(&service).await;
            let told = b
                .event(|event| match event {
                    Event::Warning { message } => Some(message.clone()),
                    Event::Error { error } => Some(error.message.clone()),
                    _ => None,
                })
                .await;
            assert!(told.contains(said) && !told.contains('\u{1b}') && told.len() < 1_000, "{n}: {told}");
            b.node.destroy().await;
        }
    });
    futures_util::stream::iter(cases).buffer_unordered(8).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_first_list_failed_lists_again_though_events_flow() {
    let home = tempfile::tempdir().unwrap();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let service = Service::start(move |request| {
        let answer = match request.path.as_str() {
            "/tasks" if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => {
                Answer::body("<html>")
            }
            _ => Answer::json(&json!([offer("honest")])),
        };
        list(request, answer)
    })
    .await;
    let mut b = Agent::new(home.path(), &service.url(), |_| {});
    let _socket = b.watch_confirmed(&service).await;
    b.offered("honest").await;
    b.node.destroy().await;
}
