//! The page at `/` as a browser's requests see it: its files, signing in, and what it reads.

use futures_util::StreamExt as _;
use hub::HubConfig;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::database;
use crate::support::{Caller, Listener, PATIENCE, TestHub, start_in};

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A hub behind a proxy on this machine, so that its callers come from elsewhere, over TLS.
async fn behind_a_proxy(change: impl FnOnce(&mut HubConfig)) -> TestHub {
    TestHub::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        change(config);
    })
    .await
}

/// A browser elsewhere: it names no actor.
fn browser(hub: &TestHub) -> Caller {
    hub.caller("").elsewhere().encrypted()
}

/// The same once it has a cookie.
fn with_cookie(hub: &TestHub, cookie: &str) -> Caller {
    let mut browser = browser(hub);
    browser.headers.push(("cookie", cookie.to_owned()));
    browser
}

async fn send(caller: &Caller, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = caller.http.request(method, format!("{}{path}", caller.base)).body(body.to_owned());
    let own = caller.headers.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in own.chain(headers.iter().copied()) {
        request = request.header(name, value);
    }
    request.send().await.expect("an answer")
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

/// Signs in; gives the cookie as a browser sends it, and the whole line that set it.
async fn sign_in(hub: &TestHub, key: &str) -> (String, String) {
    let answer = send(&browser(hub), Method::POST, "/page/sign-in", &[], &format!("key={key}")).await;
    assert_eq!(answer.status(), 200);
    let line = header(&answer, "set-cookie").to_owned();
    (line.split(';').next().unwrap_or_default().to_owned(), line)
}

async fn status(caller: &Caller, path: &str) -> u16 {
    send(caller, Method::GET, path, &[], "").await.status().as_u16()
}

fn offer(name: &str, to: Value) -> Value {
    let payload = json!({
        "transfer_id": format!("t-{name}"), "filename": name, "size": 1000, "hash": HASH, "sender_id": "a",
        "recipient_id": to,
    });
    json!({ "title": format!("File {name}"), "type": "file_offer", "channel": "c", "payload": payload })
}

fn names(list: &Value) -> Vec<&str> {
    let transfers = list["transfers"].as_array().expect("a list");
    transfers.iter().map(|transfer| transfer["file"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn the_page_is_for_browsers_and_a_strict_policy_comes_with_all_of_it() {
    let hub = TestHub::start().await;
    let a = hub.caller("a");
    let html = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    let page = send(&a, Method::GET, "/", &[("accept", html)], "").await;
    assert_eq!((page.status().as_u16(), header(&page, "vary")), (200, "accept"));
    let text = page.text().await.expect("a page");
    for (accept, expected) in [("*/*", 404), ("application/json", 404), ("", 404), ("TEXT/HTML", 200)] {
        let answer = send(&a, Method::GET, "/", &[("accept", accept)], "").await;
        assert_eq!(answer.status().as_u16(), expected, "{accept}");
    }
    // Nothing in it that the policy forbids, and every file that it names is there.
    for inline in [" style=", "<style", "onload=", "onclick=", "onsubmit=", "javascript:", "http:", "https:"]
    {
        assert!(!text.contains(inline), "{inline}");
    }
    let mut files: Vec<&str> = text.split('"').filter(|part| part.starts_with("/page/")).collect();
    files.retain(|file| file.contains('.'));
    files.extend(["/page/calls.js", "/page/trail.js", "/"]);
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let answer = send(&a, Method::GET, file, &[("accept", html)], "").await;
        assert_eq!(answer.status(), 200, "{file}");
        let policy = header(&answer, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{file}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{file}");
        assert_eq!(header(&answer, "referrer-policy"), "same-origin", "{file}");
        assert_eq!(header(&answer, "cache-control"), "no-cache", "{file}");
        let tag = header(&answer, "etag").to_owned();
        let again = send(&a, Method::GET, file, &[("accept", html), ("if-none-match", &tag)], "").await;
        assert_eq!((again.status().as_u16(), again.text().await.expect("no body")), (304, String::new()));
    }
    let data = send(&a, Method::GET, "/page/transfers", &[], "").await;
    assert_eq!((data.status().as_u16(), header(&data, "cache-control")), (200, "no-store"));
}

#[tokio::test]
async fn a_stranger_gets_the_page_and_the_way_in_and_nothing_that_is_in_the_hub() {
    let hub = behind_a_proxy(|_| {}).await;
    let stranger = browser(&hub);
    let page = send(&stranger, Method::GET, "/", &[("accept", "text/html")], "").await;
    assert_eq!(page.status(), 200);
    assert_eq!(status(&stranger, "/page/app.js").await, 200);
    let session = stranger.get("/page/session").await;
    let nobody = json!({ "needs_key": true, "is_signed_in": false, "actor": null, "sees_all": false });
    assert_eq!(session, nobody);
    for path in ["/page/transfers", "/page/transfers/1", "/page/days", "/page/connected", "/page/x", "/ws"] {
        assert_eq!(status(&stranger, path).await, 401, "{path}");
    }
    // On this machine nobody is asked.
    let here = TestHub::start().await;
    let session = here.caller("").get("/page/session").await;
    assert_eq!((&session["needs_key"], &session["sees_all"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn a_browser_signs_in_with_a_key_and_holds_a_session_in_its_place() {
    let hub = behind_a_proxy(|_| {}).await;
    let key = hub.key("b", false).await;
    let (cookie, line) = sign_in(&hub, &key).await;
    assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{line}");
    assert!(cookie.starts_with("__Host-ats_p2p_session=atsp2p_session_"), "{cookie}");
    assert!(!cookie.contains(&key["atsp2p_key_".len()..]));
    let signed_in = with_cookie(&hub, &cookie);
    let session = signed_in.get("/page/session").await;
    let b = json!({ "needs_key": false, "is_signed_in": true, "actor": "b", "sees_all": false });
    assert_eq!(session, b);
    assert_eq!(status(&signed_in, "/page/transfers").await, 200);

    let wrong = format!("atsp2p_key_{}", "0".repeat(64));
    for (form, expected) in
        [(format!("key={wrong}"), 401), ("key=guess".into(), 401), ("k=1".into(), 400), (String::new(), 400)]
    {
        let answer = send(&browser(&hub), Method::POST, "/page/sign-in", &[], &form).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "set-cookie")), (expected, ""), "{form}");
        assert!(!answer.text().await.expect("a body").contains(&wrong));
    }
    // Where others can read it, no key is taken.
    let plain = hub.caller("").elsewhere();
    let answer = send(&plain, Method::POST, "/page/sign-in", &[], &format!("key={key}")).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "set-cookie")), (403, ""));
    // On this machine they cannot, so that the cookie goes without TLS.
    let here = TestHub::start().await;
    let key = here.key("root", true).await;
    let answer = send(&here.caller(""), Method::POST, "/page/sign-in", &[], &format!("key={key}")).await;
    let line = header(&answer, "set-cookie");
    assert!(line.starts_with("ats_p2p_session=") && line.ends_with("; HttpOnly; SameSite=Strict"), "{line}");
}

#[tokio::test]
async fn a_session_opens_the_page_and_its_events_alone_and_ends_when_somebody_signs_out() {
    let hub = behind_a_proxy(|_| {}).await;
    let (cookie, _) = sign_in(&hub, &hub.key("b", false).await).await;
    let (other, _) = sign_in(&hub, &hub.key("b", false).await).await;
    let signed_in = with_cookie(&hub, &cookie);
    for path in ["/tasks", "/tasks/1", "/orgs", "/metrics", "/openapi.json"] {
        assert_eq!(status(&signed_in, path).await, 401, "{path}");
    }
    let made = send(&signed_in, Method::POST, "/tasks", &[], "{\"title\": \"t\"}").await;
    assert_eq!(made.status(), 401);
    let everything = json!({ "type": "subscribe", "id": "page" });
    let mut events = signed_in.subscribe(everything.clone()).await;
    let mut others_events = with_cookie(&hub, &other).subscribe(everything).await;
    let a = hub.caller("a").elsewhere().encrypted().with_key(&hub.key("a", false).await);
    a.make_task(offer("for-c", json!("c"))).await;
    let id = a.make_task(offer("for-b", json!("b"))).await;
    assert_eq!(events.next_event().await, ("task.created".into(), id));
    assert_eq!(others_events.next_event().await, ("task.created".into(), id));

    let left = send(&signed_in, Method::POST, "/page/sign-out", &[], "").await;
    assert!(header(&left, "set-cookie").ends_with("Secure; Max-Age=0"), "{left:?}");
    assert_eq!(ending(&mut events).await, "the session is over");
    assert_eq!(status(&signed_in, "/page/transfers").await, 401);
    // Another session of the same actor goes on.
    assert_eq!(status(&with_cookie(&hub, &other), "/page/transfers").await, 200);
    let id = a.make_task(offer("again", json!("b"))).await;
    assert_eq!(others_events.next_event().await, ("task.created".into(), id));
}

/// Why a connection is closed.
async fn ending(listener: &mut Listener) -> String {
    loop {
        match timeout(PATIENCE, listener.0.next()).await.expect("an end in time") {
            Some(Ok(Message::Close(Some(frame)))) => return frame.reason.to_string(),
            Some(Ok(_)) => {}
            other => panic!("no reason but {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let hub = behind_a_proxy(|_| {}).await;
    let mut keys = hub.keys().await;
    let key = keys.create("b", false, None).await.expect("a key");
    let (cookie, _) = sign_in(&hub, key.expose()).await;
    let signed_in = with_cookie(&hub, &cookie);
    let mut events = signed_in.subscribe(json!({ "type": "subscribe", "id": "page" })).await;
    keys.revoke(key.id).await.expect("revoked");
    assert_eq!(ending(&mut events).await, "the key was revoked or has expired");
    assert_eq!(status(&signed_in, "/page/transfers").await, 401);
    assert_eq!(signed_in.get("/page/session").await["needs_key"], true);
    let form = format!("key={}", hub.key_that_is_over("b").await);
    let answer = send(&browser(&hub), Method::POST, "/page/sign-in", &[], &form).await;
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn a_session_does_not_outlive_the_hub() {
    let hub = behind_a_proxy(|_| {}).await;
    let (cookie, _) = sign_in(&hub, &hub.key("b", false).await).await;
    let hub = hub.restart().await;
    // It speaks to the hub from its own machine now, where an unknown cookie is as good as none.
    let session = with_cookie(&hub, &cookie).get("/page/session").await;
    assert_eq!(session["is_signed_in"], false);
}

#[tokio::test]
async fn no_other_page_gets_anything_by_the_cookie() {
    let hub = behind_a_proxy(|_| {}).await;
    let key = hub.key("b", false).await;
    let (cookie, _) = sign_in(&hub, &key).await;
    let signed_in = with_cookie(&hub, &cookie);
    let own = format!("http://{}", hub.hub.local_addr());
    let form = format!("key={key}");
    for (headers, expected) in [
        (&[("sec-fetch-site", "same-origin"), ("origin", own.as_str())][..], 200),
        (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], 403),
        (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], 403),
        (&[("origin", "http://127.0.0.1:1")], 403),
        (&[("origin", "null")], 403),
    ] {
        for path in ["/page/transfers", "/page/session"] {
            let answer = send(&signed_in, Method::GET, path, headers, "").await;
            assert_eq!(answer.status().as_u16(), expected, "{path} {headers:?}");
        }
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        let upgrade = [&upgrade[..], &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], headers].concat();
        let answer = send(&signed_in, Method::GET, "/ws", &upgrade, "").await;
        assert_eq!(answer.status().as_u16(), if expected == 200 { 101 } else { 403 }, "{headers:?}");
        // Nobody is signed in by another page, either, as whoever that pleases.
        let answer = send(&browser(&hub), Method::POST, "/page/sign-in", headers, &form).await;
        let is_let = expected == 200 || !headers.iter().any(|(name, _)| *name == "origin");
        assert_eq!(answer.status() == 200, is_let, "{headers:?}");
    }
}

#[tokio::test]
async fn an_actor_sees_its_own_transfers_totals_and_connections_and_an_admin_those_of_all() {
    let hub = behind_a_proxy(|_| {}).await;
    let by_key =
        async |actor: &str| hub.caller(actor).elsewhere().encrypted().with_key(&hub.key(actor, false).await);
    let (a, b, c) = (by_key("a").await, by_key("b").await, by_key("c").await);
    let for_b = a.make_task(offer("for-b", json!("b"))).await;
    a.make_task(offer("for-anybody", json!(null))).await;
    b.make_task(offer("for-c", json!("c"))).await;
    a.make_task(json!({ "title": "no offer" })).await;
    let everything = json!({ "type": "subscribe", "id": "s", "channels": ["c"] });
    let _listeners = (a.subscribe(everything.clone()).await, b.subscribe(everything).await);

    let mut signed_in = Vec::new();
    for (actor, is_admin) in [("a", false), ("b", false), ("c", false), ("root", true)] {
        signed_in.push(with_cookie(&hub, &sign_in(&hub, &hub.key(actor, is_admin).await).await.0));
    }
    let expected: [(&[&str], u64, &[&str]); 4] = [
        (&["for-anybody", "for-b"], 404, &["a"]),
        (&["for-c", "for-anybody", "for-b"], 200, &["b"]),
        (&["for-c", "for-anybody"], 404, &[]),
        (&["for-c", "for-anybody", "for-b"], 200, &["b", "a"]),
    ];
    for (who, (seen, _, present)) in signed_in.iter().zip(expected) {
        assert_eq!(names(&who.get("/page/transfers").await), seen);
        let days = who.get("/page/days").await;
        let offered: u64 = days["days"]
            .as_array()
            .expect("days")
            .iter()
            .map(|day| day["offered"].as_u64().expect("a count"))
            .sum();
        assert_eq!(offered, seen.len() as u64);
        let connected = who.get("/page/connected").await;
        let actors = connected["actors"].as_array().expect("actors").iter();
        let mut actors: Vec<&str> = actors.map(|one| one["actor"]["id"].as_str().expect("an id")).collect();
        let mut present = present.to_vec();
        actors.sort();
        present.sort();
        assert_eq!(actors, present);
    }
    for (who, expected) in signed_in.iter().zip([200, 200, 404, 200]) {
        assert_eq!(status(who, &format!("/page/transfers/{for_b}")).await, expected);
    }
    // By somebody else's name nobody sees more.
    assert_eq!(names(&signed_in[2].get("/page/transfers?actor=a").await), ["for-anybody"]);
    drop(c);
}

#[tokio::test]
async fn the_list_goes_on_behind_a_page_and_is_narrowed_by_filters() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    for n in 0..5 {
        a.make_task(offer(&format!("file-{n}"), json!("b"))).await;
    }
    let open = a.make_task(offer("Open.csv", json!(null))).await;
    let elsewhere =
        json!({ "title": "t", "type": "file_offer", "channel": "other", "payload": { "size": "x" } });
    let odd = b.post("/orgs/o/projects/p/tasks", elsewhere).await["task"]["id"].as_i64().expect("an id");
    b.post(&format!("/tasks/{open}/claim"), json!({})).await;
    a.post(&format!("/tasks/{open}/fail"), json!({ "reason": "no\nroom" })).await;

    let mut seen = Vec::new();
    let mut path = "/page/transfers?limit=3".to_owned();
    loop {
        let page = a.get(&path).await;
        let transfers = page["transfers"].as_array().expect("a list");
        seen.extend(transfers.iter().map(|transfer| transfer["id"].as_i64().expect("an id")));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(transfers.len(), 3);
        path = format!("/page/transfers?limit=3&cursor={next}");
    }
    assert_eq!(seen, [odd, open, 5, 4, 3, 2, 1]);

    let today = time::OffsetDateTime::now_utc().date().to_string();
    for (query, expected) in [
        ("state=failed", vec![open]),
        ("state=open&limit=2", vec![odd, 5]),
        ("actor=b&state=in_progress", vec![]),
        ("actor=a&channel=c&text=FILE-3", vec![4]),
        ("channel=other", vec![odd]),
        ("text=open", vec![open]),
        ("text=t-file-0", vec![1]),
        (&format!("text={}&state=failed", &HASH[..10]), vec![open]),
        (&format!("day={today}&actor=b&limit=1"), vec![odd]),
        ("day=2020-01-01", vec![]),
        ("actor=nobody", vec![]),
    ] {
        let page = a.get(&format!("/page/transfers?{query}")).await;
        let transfers = page["transfers"].as_array().expect("a list");
        let ids: Vec<i64> = transfers.iter().filter_map(|transfer| transfer["id"].as_i64()).collect();
        assert_eq!(ids, expected, "{query}");
    }
    let failed = a.get("/page/transfers?state=failed").await["transfers"][0].clone();
    assert_eq!((&failed["reason"], &failed["to"]["id"]), (&json!("no room"), &json!("b")));
    for query in ["state=done", "cursor=x", "limit=many", "day=1"] {
        assert_eq!(status(&a, &format!("/page/transfers?{query}")).await, 400, "{query}");
    }
    for id in ["0", "x", "99999999999999999999"] {
        assert_eq!(status(&a, &format!("/page/transfers/{id}")).await, 404, "{id}");
    }
}

#[tokio::test]
async fn the_trail_tells_what_happened_and_who_measured_what() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let id = a.make_task(offer("x.bin", json!("b"))).await;
    let parts = json!({ "parts": [{ "type": "text", "content": "on my way\u{202e}" }] });
    b.post(&format!("/tasks/{id}/messages"), parts).await;
    b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    for _ in 0..3 {
        b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    }
    let output = json!({ "verified": true, "hash": HASH, "duration_ms": 500, "path": "lan" });
    b.post(&format!("/tasks/{id}/complete"), json!({ "outputs": [output] })).await;

    let told = a.get(&format!("/page/transfers/{id}")).await;
    let transfer = &told["transfer"];
    assert_eq!((&transfer["state"], &transfer["is_verified"]), (&json!("completed"), &json!(true)));
    assert_eq!((&transfer["duration_ms"], &transfer["rate"]), (&json!(500), &json!(2000)));
    assert_eq!((&transfer["duration_from"], &transfer["path"]), (&json!("receiver"), &json!("lan")));
    assert_eq!(told["signatures"], json!({ "state": "missing" }));
    let trail = told["trail"].as_array().expect("a trail");
    let short = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        (
            text("event"),
            entry["actor"]["id"].as_str().unwrap_or_default().to_owned(),
            entry["repeated"].clone(),
        )
    };
    let entry = |event: &str, who: &str, repeated: u64| (event.to_owned(), who.to_owned(), json!(repeated));
    let expected = [
        entry("task.created", "a", 1),
        entry("task.message", "b", 1),
        entry("task.claimed", "b", 1),
        entry("task.updated", "b", 3),
        entry("task.completed", "b", 1),
    ];
    assert_eq!(trail.iter().map(short).collect::<Vec<_>>(), expected);
    assert_eq!((&trail[1]["message"], &told["is_cut"]), (&json!(r"on my way\u{202e}"), &json!(false)));

    // Where the receiver says nothing of it, the hub tells what it has seen itself.
    let id = a.make_task(offer("y.bin", json!("b"))).await;
    b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    b.post(&format!("/tasks/{id}/complete"), json!({ "outputs": [{ "hash": HASH }] })).await;
    let told = a.get(&format!("/page/transfers/{id}")).await;
    let transfer = &told["transfer"];
    assert_eq!((&transfer["duration_from"], &transfer["is_verified"]), (&json!("service"), &json!(false)));
    assert_eq!(transfer["path"], json!(null));
}

#[tokio::test]
async fn totals_add_up_what_arrived_and_what_did_not_by_day() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    for (n, verb) in ["complete", "complete", "fail", "reject", "cancel", ""].into_iter().enumerate() {
        let id = a.make_task(offer(&format!("f{n}"), json!("b"))).await;
        if ["complete", "fail"].contains(&verb) {
            b.post(&format!("/tasks/{id}/claim"), json!({})).await;
        }
        let who = if verb == "cancel" { &a } else { &b };
        if !verb.is_empty() {
            who.post(&format!("/tasks/{id}/{verb}"), json!({})).await;
        }
    }
    let told = a.get("/page/days").await;
    let days = told["days"].as_array().expect("days");
    assert_eq!(days.len(), 30);
    // At midnight they may be of two days.
    let sum = |name: &str| days.iter().map(|day| day[name].as_f64().expect("a number")).sum::<f64>();
    assert_eq!(["offered", "arrived", "failed", "ended"].map(sum), [6.0, 2.0, 1.0, 2.0]);
    assert_eq!(sum("bytes"), 2000.0);
    let dates: Vec<&str> = days.iter().map(|day| day["day"].as_str().expect("a date")).collect();
    assert!(dates.windows(2).all(|pair| pair[0] < pair[1]), "{dates:?}");
}

#[tokio::test]
async fn sizes_that_no_sum_can_hold_are_added_up_all_the_same() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let mut huge = offer("huge", json!("b"));
    huge["payload"]["size"] = json!((1_u64 << 53) - 1);
    let id = a.make_task(huge.clone()).await;
    b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    b.post(&format!("/tasks/{id}/complete"), json!({})).await;
    let dir = hub.dir;
    hub.hub.shutdown().await;
    database::edit(dir.path(), "UPDATE offer_days SET bytes = bytes * 1024 WHERE status = 'completed'").await;
    let hub = TestHub { hub: start_in(dir.path(), 0).await, dir };
    let (a, b) = (hub.caller("a"), hub.caller("b"));
    let id = a.make_task(huge).await;
    b.post(&format!("/tasks/{id}/claim"), json!({})).await;
    b.post(&format!("/tasks/{id}/complete"), json!({})).await;
    let told = hub.caller("a").get("/page/days").await;
    let days = told["days"].as_array().expect("days").iter();
    let bytes: f64 = days.map(|day| day["bytes"].as_f64().expect("a number")).sum();
    assert!(bytes > 9.2e18, "{bytes}");
}
