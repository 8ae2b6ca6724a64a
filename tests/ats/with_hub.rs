//! The client and the hub together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ats_p2p::ats::{
    AtsEvent, Client, EventKind, Events, ListQuery, Listener, Lost, NewTask, P2pHealth, Part, Renewal,
    Settings, Status, Subscription, Task, TunnelHealth,
};
use hub::{Hub, HubConfig};
use serde_json::json;
use tokio::time::timeout;

use crate::fake::{policy, settings};

const PATIENCE: Duration = Duration::from_secs(10);

async fn hub(dir: &Path, port: u16) -> Hub {
    let listen = SocketAddr::from(([127, 0, 0, 1], port));
    Hub::start(HubConfig { listen, dht: false, ..HubConfig::new(dir.join("hub")) }).await.expect("a hub")
}

fn client(hub: &Hub, actor: &str) -> Client {
    let mut settings = settings(&format!("http://{}", hub.local_addr()));
    settings.actor.id = actor.into();
    Client::with_policy(settings, policy()).expect("a client")
}

fn offer(transfer: &str) -> NewTask {
    NewTask {
        title: format!("Offer {transfer}"),
        kind: "file_offer".into(),
        channel: "c".into(),
        description: Some(format!("transfer {transfer}")),
        payload: Some(json!({"transfer_id": transfer})),
        ..NewTask::default()
    }
}

async fn event(events: &mut Listener) -> AtsEvent {
    timeout(PATIENCE, events.next()).await.expect("an event in time")
}

async fn task_event(events: &mut Listener) -> (EventKind, Arc<Task>) {
    match event(events).await {
        AtsEvent::Task { kind, task, .. } => (kind, task),
        other => panic!("no task but {other:?}"),
    }
}

#[tokio::test]
async fn an_offer_is_made_seen_claimed_and_completed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path(), 0).await;
    let (a, b) = (client(&hub, "a"), client(&hub, "b"));
    let subscribed =
        Events::start(&b, Subscription { channels: vec!["c".into()], ..Subscription::default() });
    let (mut events, _) = subscribed.listen();
    assert!(matches!(event(&mut events).await, AtsEvent::Connected));

    let made = a.create(&offer("T-1"), "T-1").await.expect("made");
    let (kind, seen) = task_event(&mut events).await;
    assert_eq!(
        (kind, &seen.id, &seen.payload),
        (EventKind::Created, &made.id, &json!({"transfer_id": "T-1"}))
    );
    let query =
        ListQuery { status: Some(Status::Pending), search: Some("T-1".into()), ..ListQuery::default() };
    assert_eq!(b.list(&query).await.expect("a list").len(), 1);

    let parts = vec![Part::data(&json!({"transfer_id": "T-1", "p2p": {"version": 2}}))];
    b.add_message(&made.id, parts.clone()).await.expect("posted");
    let claimed = b.claim(&made.id, Duration::from_secs(60)).await.expect("claimed");
    assert!(claimed.is_held_by("b"));
    let refused = a.claim(&made.id, Duration::from_secs(60)).await.expect_err("taken");
    assert!(refused.is_already_claimed(), "{refused}");
    b.claim(&made.id, Duration::from_secs(60)).await.expect("renewed");

    let read = a.get(&made.id).await.expect("read");
    assert_eq!(read.messages[0].parts, parts);
    assert_eq!(read.messages[0].actor.as_ref().expect("an actor").id, "b");
    assert_eq!(a.messages(&made.id).await.expect("messages"), read.messages);
    let lease = SystemTime::from(read.lease_expires().expect("a lease"));
    let left = lease.duration_since(a.clock()).expect("ahead");
    assert!(left > Duration::from_secs(50) && left < Duration::from_secs(62), "{left:?}");

    let done = b.complete(&made.id, vec![json!({"verified": true})]).await.expect("completed");
    assert_eq!((done.status, done.outputs), (Status::Completed, vec![json!({"verified": true})]));
    hub.shutdown().await;
}

#[tokio::test]
async fn a_hub_takes_a_message_with_a_claim_that_is_no_renewal_and_with_the_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path(), 0).await;
    let (a, b) = (client(&hub, "a"), client(&hub, "b"));
    let id = a.create(&offer("T-1"), "T-1").await.expect("made").id;
    assert!(!b.takes_messages(), "it was not heard yet");
    b.list(&ListQuery::default()).await.expect("a list");
    assert!(b.takes_messages());

    let (lease, first, last) = (Duration::from_secs(60), vec![Part::text("here")], vec![Part::text("there")]);
    let claimed = b.claim_first(&id, lease, first.clone()).await.expect("claimed");
    assert!(claimed.is_held_by("b"));
    // Another process of the same actor, and another actor.
    for late in [&client(&hub, "b"), &a] {
        let refused = late.claim_first(&id, lease, vec![Part::text("late")]).await.expect_err("taken");
        assert!(refused.is_already_claimed(), "{refused}");
    }
    let done = b.complete_saying(&id, vec![json!(1)], last.clone()).await.expect("completed");
    assert_eq!((done.status, done.outputs), (Status::Completed, vec![json!(1)]));
    let said: Vec<_> = a.messages(&id).await.expect("read").into_iter().map(|said| said.parts).collect();
    assert_eq!(said, [first, last]);
    hub.shutdown().await;
}

#[tokio::test]
async fn reasons_reach_the_other_side() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path(), 0).await;
    let (a, b) = (client(&hub, "a"), client(&hub, "b"));
    for (n, status) in [Status::Rejected, Status::Failed].into_iter().enumerate() {
        let id = a.create(&offer(&n.to_string()), &n.to_string()).await.expect("made").id;
        match status {
            Status::Rejected => b.reject(&id, "not mine").await,
            _ => {
                b.claim(&id, Duration::from_secs(60)).await.expect("claimed");
                b.fail(&id, "not mine").await
            }
        }
        .expect("ended");
        let task = a.get(&id).await.expect("read");
        assert_eq!((task.status, task.reason.as_deref()), (status, Some("not mine")));
        assert!(a.cancel(&id).await.is_err());
    }
    hub.shutdown().await;
}

#[tokio::test]
async fn a_project_is_a_world_of_its_own() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path(), 0).await;
    let plain = client(&hub, "a");
    let scoped = Settings { organization: Some("acme".into()), ..plain.settings().clone() };
    let scoped = Client::with_policy(scoped, policy()).expect("a client");
    assert_eq!(scoped.list(&ListQuery::default()).await.expect("a list").len(), 0);
    let made = scoped.create(&offer("T-1"), "T-1").await.expect("made");
    assert!(plain.get(&made.id).await.expect_err("elsewhere").is_not_found());
    assert_eq!(scoped.get(&made.id).await.expect("here").title, "Offer T-1");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_subscription_outlives_a_restart_of_the_hub() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let first = hub(dir.path(), 0).await;
    let a = client(&first, "a");
    let subscribed = Events::start(&a, Subscription::default());
    let (mut events, _) = subscribed.listen();
    assert!(matches!(event(&mut events).await, AtsEvent::Connected));
    let port = first.local_addr().port();
    first.shutdown().await;
    match event(&mut events).await {
        AtsEvent::Disconnected { error } => assert!(error.to_string().contains("shutting down"), "{error}"),
        other => panic!("not disconnected but {other:?}"),
    }
    let second = hub(dir.path(), port).await;
    assert!(matches!(event(&mut events).await, AtsEvent::Connected));
    // A connection that was kept from before the restart does no harm.
    let made = a.create(&offer("T-1"), "T-1").await.expect("made");
    assert_eq!(task_event(&mut events).await.1.id, made.id);
    second.shutdown().await;
}

#[tokio::test]
async fn a_claim_is_kept_until_it_is_lost() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path(), 0).await;
    let (a, b) = (client(&hub, "a"), client(&hub, "b"));
    let id = a.create(&offer("T-1"), "T-1").await.expect("made").id;
    let subscribed = Events::start(&a, Subscription::default());
    let (mut events, _) = subscribed.listen();
    assert!(matches!(event(&mut events).await, AtsEvent::Connected));

    let lease = Duration::from_millis(600);
    b.claim(&id, lease).await.expect("claimed");
    let mut renewal = Renewal::start(&b, id.clone(), lease);
    assert_eq!(task_event(&mut events).await.0, EventKind::Claimed);
    // Five renewals last longer than one lease does.
    for _ in 0..5 {
        assert_eq!(task_event(&mut events).await.0, EventKind::Updated);
    }
    assert!(a.get(&id).await.expect("read").is_held_by("b"));

    a.fail(&id, "enough").await.expect("failed");
    match timeout(PATIENCE, renewal.lost()).await.expect("lost in time") {
        Lost::Taken(task) => assert_eq!(task.status, Status::Failed),
        other => panic!("not taken but {other:?}"),
    }
    hub.shutdown().await;
}

#[tokio::test]
async fn a_claim_that_lapsed_while_the_hub_was_away_is_taken_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let first = hub(dir.path(), 0).await;
    let (a, b) = (client(&first, "a"), client(&first, "b"));
    let id = a.create(&offer("T-1"), "T-1").await.expect("made").id;
    let lease = Duration::from_millis(300);
    b.claim(&id, lease).await.expect("claimed");
    let _renewal = Renewal::start(&b, id.clone(), lease);
    let port = first.local_addr().port();
    first.shutdown().await;
    tokio::time::sleep(lease).await;

    let second = hub(dir.path(), port).await;
    let subscribed = Events::start(&a, Subscription::default());
    let (mut events, _) = subscribed.listen();
    assert!(matches!(event(&mut events).await, AtsEvent::Connected));
    while !a.get(&id).await.expect("read").is_held_by("b") {
        event(&mut events).await;
    }
    second.shutdown().await;
}

#[tokio::test]
async fn a_dropped_renewal_lets_the_claim_lapse() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path(), 0).await;
    let a = client(&hub, "a");
    let id = a.create(&offer("T-1"), "T-1").await.expect("made").id;
    let subscribed = Events::start(&a, Subscription::default());
    let (mut events, _) = subscribed.listen();
    assert!(matches!(event(&mut events).await, AtsEvent::Connected));
    let lease = Duration::from_millis(200);
    a.claim(&id, lease).await.expect("claimed");
    drop(Renewal::start(&a, id, lease));
    assert_eq!(task_event(&mut events).await.0, EventKind::Claimed);
    assert_eq!(task_event(&mut events).await.0, EventKind::LeaseExpired);
    hub.shutdown().await;
}

#[tokio::test]
async fn ten_at_once_get_a_task_each() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path(), 0).await;
    let makers = (0..10).map(|n| {
        let client = client(&hub, "a");
        async move { client.create(&offer(&n.to_string()), &n.to_string()).await.expect("made").id }
    });
    let mut ids: Vec<String> =
        futures_util::future::join_all(makers).await.iter().map(|id| id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    let health = client(&hub, "a").health().await.expect("health");
    let (bootstrap, tunnel) = (Some(Vec::new()), Some(TunnelHealth::Here));
    let p2p = P2pHealth { bootstrap, tunnel, ..P2pHealth::default() };
    assert_eq!((health.status.as_deref(), health.p2p), (Some("ok"), Some(p2p)));
    hub.shutdown().await;
}
