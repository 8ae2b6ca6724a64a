//! Transfers while the task service, or the node itself, goes away.

use std::time::Duration;

use ats_p2p::ats::Status;
use ats_p2p::error::Code;
use ats_p2p::event::Event;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::lab::{Lab, PATIENCE, sha256};
use crate::peer::{offer_payload, post, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_flow_survive_the_service_and_the_task_is_completed_later() {
    let mut lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let sending = a.sending(lab.file("f", 100_000_000), "b");
    b.moving().await;
    lab.stop_hub().await;
    let sent = sending.await.unwrap().unwrap();
    assert_eq!(sha256(&lab.path("in").join("f")), sent.hash);
    b.event_named("transfer_complete").await;
    lab.start_hub().await;
    let id = ats_p2p::ats::TaskId::from_value(&sent.task_id).unwrap();
    until(&lab.client("a"), &id, Status::Completed).await;
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begun_while_the_service_is_known_to_be_down_is_told_so() {
    let mut lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    lab.stop_hub().await;
    // A transfer on the channel hears of it first, and tells nobody.
    b.send(&lab.file("f", 10), "a").await.unwrap_err();
    b.watch(None);
    b.event_named("disconnected").await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_told_to_be_heard_once_however_many_watch_it() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(None);
    let told = b.event_named("connected").await;
    assert!(
        matches!(&told, Event::Connected { ats_url, channel, actor_id }
            if *ats_url == lab.url() && channel == "p2p-transfer" && actor_id == "b"),
        "{told:?}"
    );
    b.watch(None);
    let payload = offer_payload("an id", "f", b"content", "a", Some("b"));
    post(&lab.client("a"), payload).await;
    b.event(|event| match event.name() {
        "connected" => panic!("told twice"),
        name => (name == "file").then_some(()),
    })
    .await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_meet_again_after_the_hub_was_restarted() {
    let mut lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    a.send(&lab.file("f", 10), "b").await.unwrap();
    lab.stop_hub().await;
    b.event_named("disconnected").await;
    lab.start_hub().await;
    b.event_named("connected").await;
    a.send(&lab.file("g", 10), "b").await.unwrap();
    assert_eq!(sha256(&lab.path("in").join("g")), sha256(&lab.path("g")));
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_there_is_said_to_be_unreachable() {
    let mut lab = Lab::new().await;
    lab.stop_hub().await;
    let a = lab.agent("a", |_| {});
    let error = a.send(&lab.file("f", 10), "b").await.unwrap_err();
    assert_eq!(error.code, Code::AtsUnreachable);
    assert_eq!(a.seen(), ["transfer_failed"]);
    assert_eq!(a.node.status("x").await.unwrap_err().code, Code::AtsUnreachable);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_on_its_way_when_it_is_aborted_is_withdrawn() {
    let lab = Lab::new().await;
    let gate = Gate::start(lab.address()).await;
    let through = gate.url();
    let bootstrap = lab.bootstrap();
    let a = lab.agent("a", |options| {
        options.ats.url = Some(through);
        options.bootstrap = Some(bootstrap);
    });
    // The clock is known, so that the next request is the offer.
    let _ = a.node.status("x").await;
    gate.close();
    let cancel = CancellationToken::new();
    let sending = {
        let (a, file, cancel) = (a.clone(), lab.file("f", 10), cancel.clone());
        tokio::spawn(async move { a.send_until(&file, "b", cancel).await })
    };
    let c = lab.client("c");
    let task = loop {
        let tasks = c.list(&Default::default()).await.unwrap();
        match tasks.into_iter().next() {
            Some(task) => break task,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    cancel.cancel();
    gate.open();
    assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Aborted);
    assert_eq!(c.get(&task.id).await.unwrap().status, Status::Cancelled);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_on_its_way_when_it_is_aborted_is_given_back() {
    let lab = Lab::new().await;
    let gate = Gate::start(lab.address()).await;
    let through = gate.url();
    let bootstrap = lab.bootstrap();
    let b = lab.agent("b", |options| {
        options.ats.url = Some(through);
        options.bootstrap = Some(bootstrap);
    });
    b.watch(None);
    let a = lab.client("a");
    let task = post(&a, offer_payload("t", "f", b"content", "a", Some("b"))).await;
    let (offer, _) = b.offer().await;
    // What is asked before the claim is answered; the claim is done, and its answer held.
    gate.close_after("/claim");
    let accepting = {
        let (b, path) = (b.clone(), lab.path("f"));
        tokio::spawn(async move { b.accept(offer, path).await })
    };
    until(&a, &task.id, Status::InProgress).await;
    let destroy = b.node.destroy();
    let answer = async {
        // The node has begun to end when it takes no more work.
        while b.node.safe_name(0).is_err_and(|error| error.code != Code::Destroyed) {
            tokio::task::yield_now().await;
        }
        gate.open();
    };
    tokio::join!(destroy, answer);
    assert_eq!(accepting.await.unwrap().unwrap_err().code, Code::Aborted);
    assert_eq!(a.get(&task.id).await.unwrap().status, Status::Failed);
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_node_runs_after_its_end() {
    let lab = Lab::new().await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    for name in ["f", "g", "h"] {
        a.send(&lab.file(name, 10), "b").await.unwrap();
    }
    let pending = a.sending(lab.file("i", 10), "nobody");
    a.event(|event| {
        matches!(event, Event::OfferSent { recipient_id, .. } if recipient_id == "nobody").then_some(())
    })
    .await;
    for agent in [a, b] {
        agent.node.destroy().await;
    }
    assert_eq!(pending.await.unwrap().unwrap_err().code, Code::Aborted);
    // Streams linger for a moment after their last word.
    let ends = async {
        while alive() > before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(PATIENCE / 4, ends).await.is_err() {
        panic!("{} tasks more than before", alive() - before);
    }
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_task_service_is_named_as_such() {
    let lab = Lab::new().await;
    for (answer, code) in [
        ("200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", Code::AtsProtocol),
        ("500 Oops\r\nContent-Length: 2\r\n\r\nno", Code::AtsError),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut visits = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                visits.spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
                });
            }
        });
        let a = lab.agent("a", |options| options.ats.url = Some(format!("http://{address}")));
        let error = a.send(&lab.file("f", 10), "b").await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(&address.to_string()), "{error}");
        a.node.destroy().await;
        serving.abort();
    }
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_hears_events_need_not_read_its_task() {
    let lab = Lab::new().await;
    let gate = Gate::start(lab.address()).await;
    let a = lab.agent("a", |options| {
        options.ats.url = Some(gate.url());
        options.bootstrap = Some(lab.bootstrap());
    });
    let others = ["b", "c"].map(|actor| lab.agent(actor, |_| {}));
    for other in &others {
        other.watch(Some(lab.path("in")));
    }
    let file = lab.file("f", 300_000);
    // By the end of the first one events flow.
    a.send(&file, "b").await.unwrap();
    gate.put_off("GET /tasks/");
    // On the connection that is there, and on a new one.
    for to in ["b", "c"] {
        a.send(&file, to).await.unwrap();
    }
    lab.close(others.into_iter().chain([a])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_without_nodes_holds_nobody_for_long() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |options| {
        options.bootstrap = Some(vec!["127.0.0.1:9".into()]);
        options.timeout = Duration::from_secs(1);
    });
    let error = a.send(&lab.file("f", 10), "b").await.unwrap_err();
    assert!(matches!(error.code, Code::Network | Code::OfferExpired), "{error}");
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_sent_is_refused_before_there_is_a_task() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |_| {});
    let file = lab.file("f", 10);
    for (path, to, code) in [
        (lab.path("missing"), "b", Code::FileNotFound),
        ("/dev/null".into(), "b", Code::NotAFile),
        (file, "", Code::InvalidArgument),
    ] {
        assert_eq!(a.send(&path, to).await.unwrap_err().code, code);
    }
    assert!(lab.client("a").list(&Default::default()).await.unwrap().is_empty());
    a.node.destroy().await;
    assert_eq!(a.send(&lab.path("f"), "b").await.unwrap_err().code, Code::Destroyed);
    lab.close([]).await;
}
