//! Keys, invitations, and who is let in without.

use std::time::Duration;

use futures_util::StreamExt as _;
use hub::HubConfig;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::database;
use crate::support::{Caller, PATIENCE, TestHub};

/// A hub behind a proxy on this machine, whose word on addresses and TLS is taken.
async fn behind_a_proxy(change: impl FnOnce(&mut HubConfig)) -> TestHub {
    TestHub::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        change(config);
    })
    .await
}

/// An actor elsewhere, over TLS.
fn elsewhere(hub: &TestHub, actor: &str) -> Caller {
    hub.caller(actor).elsewhere().encrypted()
}

async fn status(caller: &Caller, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
    let (status, answer) = caller.call(method, path, body).await;
    (status, answer["error"].as_str().unwrap_or_default().to_owned())
}

async fn list(caller: &Caller) -> (u16, String) {
    status(caller, Method::GET, "/tasks", None).await
}

#[tokio::test]
async fn without_a_key_nothing_but_its_health_is_open_to_other_machines() {
    let hub = TestHub::start_with(|config| config.dht = true).await;
    let stranger = hub.caller("a").elsewhere();
    for (method, path) in [
        (Method::GET, "/tasks"),
        (Method::POST, "/tasks"),
        (Method::GET, "/tasks/stats"),
        (Method::GET, "/tasks/1"),
        (Method::PATCH, "/tasks/1"),
        (Method::POST, "/tasks/1/claim"),
        (Method::GET, "/tasks/1/messages"),
        (Method::GET, "/orgs/default/projects/main/tasks"),
        (Method::GET, "/orgs"),
        (Method::POST, "/orgs"),
        (Method::GET, "/orgs/default/projects?counts=true"),
        (Method::GET, "/ws"),
        (Method::GET, "/auth/me"),
        (Method::POST, "/p2p/guests"),
        (Method::GET, "/nothing-there"),
    ] {
        let body = (method != Method::GET).then(|| json!({ "title": "t" }));
        let (found, said) = status(&stranger, method.clone(), path, body).await;
        assert_eq!(found, 401, "{method} {path}: {said}");
        assert!(said.contains("ats-p2p hub key create"), "{said}");
    }
    let health = stranger.get("/health").await;
    assert_eq!((&health["status"], &health["p2p"]), (&json!("ok"), &Value::Null));
    // On this machine, and with a key, all of it is told.
    assert!(hub.caller("a").get("/health").await["p2p"]["bootstrap"].is_array());
    let key = hub.key("a", false).await;
    assert!(hub.caller("a").with_key(&key).get("/health").await["p2p"]["relay"].is_string());
}

#[tokio::test]
async fn a_key_that_is_made_while_the_hub_runs_opens_it_and_one_that_is_revoked_opens_nothing() {
    let hub = TestHub::start_with(|config| config.access.insecure = true).await;
    let mut keys = hub.keys().await;
    let (first, second) = (keys.create("b", false, None).await, keys.create("b", false, None).await);
    let (first, second) = (first.expect("a key"), second.expect("a key"));
    let b = elsewhere(&hub, "b").with_key(first.expose());
    let made = b.post("/tasks", json!({ "title": "t" })).await;
    assert_eq!(made["task"]["source_id"], "b");
    let revoked = keys.revoke(first.id).await.expect("revoked").expect("there");
    assert!(revoked.revoked_at.is_some());
    let (found, said) = list(&b).await;
    assert!(found == 401 && said.contains("revoked") && !said.contains(first.expose()), "{found} {said}");
    // Nor on this machine, where none is needed.
    assert_eq!(list(&hub.caller("b").with_key(first.expose())).await.0, 401);
    assert_eq!(list(&elsewhere(&hub, "b").with_key(second.expose())).await.0, 200);
    assert!(keys.revoke(99).await.expect("asked").is_none());
}

#[tokio::test]
async fn a_key_holds_for_its_time_and_one_that_was_guessed_never() {
    let hub = TestHub::start_with(|config| config.access.insecure = true).await;
    let mut keys = hub.keys().await;
    let over = hub.key_that_is_over("b").await;
    let long = keys.create("b", false, Some(Duration::from_secs(3600))).await.expect("a key");
    assert_eq!(list(&elsewhere(&hub, "b").with_key(&over)).await.0, 401);
    assert_eq!(list(&elsewhere(&hub, "b").with_key(long.expose())).await.0, 200);
    let guessed = format!("atsp2p_key_{}", "0".repeat(64));
    for wrong in [&guessed, "of-another-service", ""] {
        assert_eq!(list(&elsewhere(&hub, "b").with_key(wrong)).await.0, 401, "{wrong}");
    }
    // One for another service does no harm where none is needed.
    assert_eq!(list(&hub.caller("b").with_key("of-another-service")).await.0, 200);
}

#[tokio::test]
async fn whoever_asks_is_told_whom_the_hub_takes_them_for() {
    let hub = TestHub::start_with(|config| config.access.insecure = true).await;
    let me = elsewhere(&hub, "b").with_key(&hub.key("b", true).await).get("/auth/me").await;
    assert_eq!((&me["actor"]["id"], &me["admin"]), (&json!("b"), &json!(true)));
    assert!(me["key"].is_i64());
    // Where none is needed, it is a claim.
    let claimed = hub.caller("c").get("/auth/me").await;
    assert_eq!((&claimed["actor"]["id"], &claimed["key"]), (&json!("c"), &Value::Null));
    let of_b = hub.key("b", false).await;
    let (found, said) = status(&hub.caller("a").with_key(&of_b), Method::GET, "/auth/me", None).await;
    assert!(found == 403 && said.contains("the key is that of the actor b"), "{found} {said}");
}

#[tokio::test]
async fn a_borrowed_actor_id_does_nothing() {
    let hub = behind_a_proxy(|_| {}).await;
    let (of_a, of_b) = (hub.key("a", false).await, hub.key("b", false).await);
    let a = elsewhere(&hub, "a").with_key(&of_a);
    let id = a.make_task(json!({ "title": "t" })).await;
    for (method, path) in [
        (Method::GET, format!("/tasks/{id}")),
        (Method::POST, format!("/tasks/{id}/cancel")),
        (Method::POST, "/tasks".to_owned()),
    ] {
        let body = (method == Method::POST).then(|| json!({ "title": "t" }));
        let (found, said) = status(&elsewhere(&hub, "a").with_key(&of_b), method, &path, body).await;
        assert!(found == 403 && said.contains("that of the actor b"), "{found} {said}");
    }
    assert_eq!(a.get(&format!("/tasks/{id}")).await["task"]["status"], "pending");
    // Who names nobody is whom the key is for.
    let nameless = elsewhere(&hub, "").with_key(&of_b);
    let made = nameless.post("/tasks", json!({ "title": "t" })).await;
    assert_eq!((&made["task"]["source_id"], &made["task"]["source_name"]), (&json!("b"), &json!("b")));
}

#[tokio::test]
async fn an_actor_sees_what_concerns_it_in_every_answer() {
    let hub = behind_a_proxy(|_| {}).await;
    let by_key = async |actor: &str| elsewhere(&hub, actor).with_key(&hub.key(actor, false).await);
    let (a, b, c) = (by_key("a").await, by_key("b").await, by_key("c").await);
    let admin = elsewhere(&hub, "root").with_key(&hub.key("root", true).await);
    let everything = json!({ "type": "subscribe", "id": "s" });
    let (mut heard_b, mut heard_c) = (b.subscribe(everything.clone()).await, c.subscribe(everything).await);

    let offer = |recipient: Value| {
        let payload = json!({ "recipientId": recipient });
        json!({ "title": "t", "type": "file_offer", "channel": "x", "payload": payload })
    };
    let for_b = a.make_task(offer(json!("b"))).await;
    a.post(&format!("/tasks/{for_b}/messages"), json!({ "parts": [{ "type": "text", "content": "m" }] }))
        .await;
    let open = a.make_task(offer(json!(null))).await;
    assert_eq!(heard_b.next_event().await, ("task.created".into(), for_b));
    assert_eq!(heard_b.next_event().await, ("task.message".into(), for_b));
    assert_eq!(heard_b.next_event().await, ("task.created".into(), open));
    assert_eq!(heard_c.next_event().await, ("task.created".into(), open));

    for (caller, seen) in [(&a, 2), (&b, 2), (&c, 1), (&admin, 2)] {
        let who = &caller.actor;
        assert_eq!(caller.get("/tasks").await["count"], seen, "{who}");
        assert_eq!(caller.get("/orgs/default/projects/main/tasks?channel=x").await["count"], seen, "{who}");
        for path in ["/tasks/stats", "/orgs/default/projects/main/tasks/stats"] {
            let stats = &caller.get(path).await["stats"];
            assert_eq!((&stats["total"], &stats["by_channel"]["x"]), (&json!(seen), &json!(seen)), "{who}");
        }
        let projects = caller.get("/orgs/default/projects?counts=true").await;
        assert_eq!(projects["projects"][0]["total_count"], seen, "{who}");
        let messages = format!("/tasks/{for_b}/messages");
        assert_eq!(list_status(caller, &messages).await, if seen == 2 { 200 } else { 404 }, "{who}");
    }
    // What is taken from everybody is no longer shown to all that could have had it.
    assert_eq!(a.call(Method::PATCH, &format!("/tasks/{open}"), Some(offer(json!("b")))).await.0, 200);
    assert_eq!(c.get("/tasks").await["count"], 0);
}

async fn list_status(caller: &Caller, path: &str) -> u16 {
    caller.call(Method::GET, path, None).await.0
}

#[tokio::test]
async fn projects_are_renamed_by_an_admin_alone_where_keys_are_shown() {
    let hub = TestHub::start().await;
    let (b, admin) = (hub.key("b", false).await, hub.key("root", true).await);
    hub.caller("b").with_key(&b).make_task(json!({ "title": "t" })).await;
    hub.caller("b").with_key(&b).post("/orgs/default/projects", json!({ "slug": "x" })).await;
    let renamed = Some(json!({ "name": "other" }));
    for path in ["/orgs/default", "/orgs/default/projects/x"] {
        let (found, said) = status(&hub.caller("b").with_key(&b), Method::PATCH, path, renamed.clone()).await;
        assert!(found == 403 && said.contains("admin"), "{found} {said}");
        let by_admin = hub.caller("root").with_key(&admin).call(Method::PATCH, path, renamed.clone()).await;
        assert_eq!(by_admin.0, 200);
        assert_eq!(hub.caller("b").call(Method::PATCH, path, renamed.clone()).await.0, 200);
    }
}

#[tokio::test]
async fn the_connections_of_a_key_that_is_revoked_are_cut_and_no_others() {
    let hub = TestHub::start_with(|config| config.access.insecure = true).await;
    let mut keys = hub.keys().await;
    let (first, second) = (keys.create("b", false, None).await, keys.create("b", false, None).await);
    let (first, second) = (first.expect("a key"), second.expect("a key"));
    let everything = json!({ "type": "subscribe" });
    let mut cut = elsewhere(&hub, "b").with_key(first.expose()).subscribe(everything.clone()).await;
    let mut stays = elsewhere(&hub, "b").with_key(second.expose()).subscribe(everything).await;
    keys.revoke(first.id).await.expect("revoked");
    match timeout(PATIENCE, cut.0.next()).await.expect("cut in time") {
        Some(Ok(Message::Close(Some(frame)))) => assert!(frame.reason.contains("key"), "{frame:?}"),
        other => panic!("not cut but {other:?}"),
    }
    let id = hub.caller("b").make_task(json!({ "title": "t" })).await;
    assert_eq!(stays.next_event().await, ("task.created".into(), id));
}

#[tokio::test]
async fn when_a_key_was_used_is_kept_across_a_restart() {
    let hub = TestHub::start().await;
    let key = hub.key("b", false).await;
    assert_eq!(hub.keys().await.list().await.expect("a list")[0].last_used, None);
    assert_eq!(list(&hub.caller("b").with_key(&key)).await.0, 200);
    let hub = hub.restart().await;
    let listed = hub.keys().await.list().await.expect("a list");
    assert!(listed[0].last_used.is_some(), "{listed:?}");
    assert_eq!((listed.len(), listed[0].actor.as_str(), listed[0].is_admin), (1, "b", false));
    assert_eq!(list(&hub.caller("b").with_key(&key)).await.0, 200);
}

#[tokio::test]
async fn keys_are_refused_over_plain_http_from_other_machines() {
    let hub = behind_a_proxy(|_| {}).await;
    let key = hub.key("b", false).await;
    let plain = hub.caller("b").elsewhere().with_key(&key);
    let (found, said) = list(&plain).await;
    assert!(found == 403 && said.contains("https"), "{found} {said}");
    assert_eq!(list(&plain.encrypted()).await.0, 200);
    // Who is no proxy says what it likes.
    let bare = TestHub::start().await;
    let key = bare.key("b", false).await;
    assert_eq!(list(&elsewhere(&bare, "b").with_key(&key)).await.0, 403);

    let hub = behind_a_proxy(|config| config.access.insecure = true).await;
    let key = hub.key("b", false).await;
    assert_eq!(list(&hub.caller("b").elsewhere().with_key(&key)).await.0, 200);
}

#[tokio::test]
async fn an_open_hub_and_a_trusted_network_need_no_key() {
    let hub = behind_a_proxy(|config| config.access.open = true).await;
    assert_eq!(list(&hub.caller("a").elsewhere()).await.0, 200);
    let trusting = |network: &str| {
        let network = network.parse().expect("a network");
        behind_a_proxy(move |config| config.access.trust = vec![network])
    };
    let hub = trusting("203.0.113.0/24").await;
    assert_eq!(list(&hub.caller("a").elsewhere()).await.0, 200);
    // A key that is shown counts all the same.
    let key = hub.key("b", false).await;
    assert_eq!(list(&elsewhere(&hub, "a").with_key(&key)).await.0, 403);
    let hub = trusting("198.51.100.0/24").await;
    assert_eq!(list(&hub.caller("a").elsewhere()).await.0, 401);
}

#[tokio::test]
async fn an_invitation_gives_a_key_once_and_to_one_of_two_at_once() {
    let hub = behind_a_proxy(|_| {}).await;
    let mut keys = hub.keys().await;
    let invitation = keys.invite("b", false, Some(Duration::from_secs(3600))).await.expect("an invitation");
    let join = || {
        let guest = elsewhere(&hub, "").with_key(invitation.expose());
        async move { guest.call(Method::POST, "/p2p/join", None).await }
    };
    let answers = futures_util::future::join_all((0..8).map(|_| join())).await;
    let mut joined = answers.iter().filter(|(status, _)| *status == 200);
    let (_, answer) = joined.next().expect("one that joined");
    assert!(joined.next().is_none(), "{answers:?}");
    assert!(answers.iter().all(|(status, _)| [200, 403].contains(status)), "{answers:?}");
    assert_eq!((&answer["actor"], &answer["admin"]), (&json!("b"), &json!(false)));
    let key = answer["key"].as_str().expect("a key");
    assert_eq!(list(&elsewhere(&hub, "b").with_key(key)).await.0, 200);
    // The invitation itself is none, and the key ends in its time.
    assert_eq!(list(&elsewhere(&hub, "b").with_key(invitation.expose())).await.0, 401);
    let listed = keys.list().await.expect("a list");
    assert_eq!(listed.len(), 1);
    assert!(listed[0].expires_at.is_some());
}

#[tokio::test]
async fn an_invitation_is_over_after_an_hour_and_is_not_taken_over_plain_http() {
    let hub = behind_a_proxy(|_| {}).await;
    let mut keys = hub.keys().await;
    let late = keys.invite("b", false, None).await.expect("an invitation");
    let early = keys.invite("b", false, None).await.expect("an invitation");
    assert!(late.expires_at.contains('T'));
    let post = async |caller: Caller| status(&caller, Method::POST, "/p2p/join", None).await;
    let (found, said) = post(hub.caller("").elsewhere().with_key(early.expose())).await;
    assert!(found == 403 && said.contains("https"), "{found} {said}");
    assert_eq!(post(elsewhere(&hub, "")).await.0, 401);
    let guessed = format!("atsp2p_invitation_{}", "0".repeat(64));
    assert_eq!(post(elsewhere(&hub, "").with_key(&guessed)).await.0, 403);
    keys.close().await.expect("closed");
    let past = "UPDATE invitations SET expires_at = 1, created_at = 0 WHERE id = 1";
    database::edit(hub.dir.path(), past).await;
    assert_eq!(post(elsewhere(&hub, "").with_key(late.expose())).await.0, 403);
    assert_eq!(post(elsewhere(&hub, "").with_key(early.expose())).await.0, 200);
}

#[tokio::test]
async fn what_became_of_keys_is_noted_and_no_secret_is_in_the_files() {
    let hub = behind_a_proxy(|_| {}).await;
    let mut keys = hub.keys().await;
    let key = keys.create("b", true, None).await.expect("a key");
    let invitation = keys.invite("c", false, None).await.expect("an invitation");
    let guest = elsewhere(&hub, "").with_key(invitation.expose());
    let joined = guest.post("/p2p/join", json!({})).await;
    keys.revoke(key.id).await.expect("revoked");
    keys.revoke(key.id).await.expect("revoked before");
    keys.close().await.expect("closed");
    let TestHub { hub, dir } = hub;
    hub.shutdown().await;
    let noted =
        database::rows(dir.path(), "SELECT what || ' ' || actor_id FROM access_log ORDER BY id").await;
    assert_eq!(noted, ["key.created b", "invitation.created c", "invitation.redeemed c", "key.revoked b"]);
    let secrets = [key.expose(), invitation.expose(), joined["key"].as_str().expect("a key")];
    for entry in std::fs::read_dir(dir.path().join("hub")).expect("the folder") {
        let path = entry.expect("an entry").path();
        let content = std::fs::read(&path).expect("a file");
        let text = String::from_utf8_lossy(&content);
        for secret in secrets {
            let digits = secret.rsplit('_').next().expect("digits");
            assert!(!text.contains(digits), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn no_key_is_made_for_what_is_no_actor() {
    let hub = TestHub::start().await;
    let mut keys = hub.keys().await;
    for wrong in ["", "  ", "a\nb", &"x".repeat(257)] {
        assert!(matches!(keys.create(wrong, false, None).await, Err(hub::Error::Actor(_))), "{wrong:?}");
        assert!(matches!(keys.invite(wrong, false, None).await, Err(hub::Error::Actor(_))), "{wrong:?}");
    }
}
