//! Transfers whose task service is away for a while, and comes back or does not.

use std::time::Duration;

use ats_p2p::ats::{ListQuery, Status, Task};
use ats_p2p::error::Code;
use ats_p2p::event::Event;
use ats_p2p::files::Target;
use ats_p2p::node::Options;
use ats_p2p::receive::Acceptance;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, StandIn};
use crate::lab::{Agent, Lab, PATIENCE, content, sha256};
use crate::peer::{Sender, dialled, offered, until};
use crate::resume::{LEN, Mortal, SOME, finish, finish_with_anyone, resuming};
use crate::senders::request;
use crate::signs_of_life::BRIEF;

const SECOND: Duration = Duration::from_secs(1);

/// Once more than a command tries to reach the service at first.
const TRIES: usize = 5;

/// Takes the hub away from an agent that has spoken with it.
async fn away(lab: &mut Lab, agent: &Agent, actor_id: &str) -> StandIn {
    assert_eq!(agent.node.status("x").await.unwrap_err().code, Code::UnknownTransfer);
    lab.stop_hub().await;
    StandIn::start(lab.address(), actor_id).await
}

async fn back(lab: &mut Lab, stand_in: StandIn) {
    stand_in.leave().await;
    lab.start_hub().await;
}

/// Two agents whose network is up.
async fn acquainted(lab: &Lab) -> (Agent, Agent) {
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let sending = a.sending(lab.file("first", 10), "b");
    let (offer, _) = b.offer().await;
    b.accept(offer, lab.path("first of a")).await.unwrap();
    sending.await.unwrap().unwrap();
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_made_once_the_service_is_back() {
    let mut lab = Lab::new().await;
    let (a, b) = acquainted(&lab).await;
    let mut stand_in = away(&mut lab, &a, "a").await;
    let sending = a.sending(lab.file("f", 10), "b");
    stand_in.tried(TRIES).await;
    back(&mut lab, stand_in).await;
    let (offer, _) = b.offer().await;
    let received = b.accept(offer, lab.path("received")).await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap().hash, sha256(&received.file_path.unwrap()));
    assert_eq!(lab.client("a").list(&ListQuery::default()).await.unwrap().len(), 2, "each is offered once");
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_while_the_service_is_away_is_claimed_once_it_is_back() {
    let mut lab = Lab::new().await;
    let (a, b) = acquainted(&lab).await;
    let sending = a.sending(lab.file("f", 10), "b");
    let (offer, _) = b.offer().await;
    let mut stand_in = away(&mut lab, &b, "b").await;
    let accepting = {
        let (b, path) = (b.clone(), lab.path("received"));
        tokio::spawn(async move { b.accept(offer, path).await })
    };
    stand_in.tried(TRIES).await;
    back(&mut lab, stand_in).await;
    let received = accepting.await.unwrap().unwrap();
    assert_eq!(sending.await.unwrap().unwrap().hash, sha256(&received.file_path.unwrap()));
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_could_not_be_claimed_is_left_and_taken_later() {
    let lab = Lab::new().await;
    let gate = Gate::start(lab.address()).await;
    assert_left_and_taken_later(lab, gate, &["/claim"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_could_not_be_claimed_of_a_plain_service_is_left_and_taken_later() {
    let lab = Lab::new().await;
    let gate = Gate::start_plain(lab.address()).await;
    assert_left_and_taken_later(lab, gate, &["/messages", "/claim"]).await;
}

/// An agent's options, to go to the hub by a gate.
fn through(lab: &Lab, gate: &Gate) -> impl FnOnce(&mut Options) + use<> {
    let (url, bootstrap) = (gate.url(), lab.bootstrap());
    move |options| {
        options.ats.url = Some(url);
        options.bootstrap = Some(bootstrap);
    }
}

/// Whether an offer comes to no harm by a way to the service that breaks off before any of these requests.
async fn assert_left_and_taken_later(lab: Lab, gate: Gate, words: &[&'static str]) {
    let a = lab.agent("a", |_| {});
    let b = lab.agent("b", |options| {
        through(&lab, &gate)(options);
        options.timeout = SECOND;
    });
    b.watch(Some(lab.path("in")));
    b.event_named("connected").await;
    for word in words {
        gate.cut_before(word);
        let sending = a.sending(lab.file(&word[1..], 10), "b");
        let task = offered(&a, &lab.client("a")).await;
        let error = b
            .event(|event| match event {
                Event::TransferFailed { error, .. } => Some(error),
                _ => None,
            })
            .await;
        assert_eq!(error.code, Code::AtsUnreachable);
        assert!(error.message.contains("could not be claimed, and still stands"), "{error}");
        assert!(error.message.contains(&gate.url()), "{error}");
        assert_eq!(lab.client("a").get(&task.id).await.unwrap().status, Status::Pending);
        gate.open();
        sending.await.unwrap().unwrap();
        until(&lab.client("a"), &task.id, Status::Completed).await;
    }
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_service_is_told_in_the_end_what_it_was_for() {
    let mut lab = Lab::new().await;
    let a = lab.agent("a", |options| options.timeout = 2 * SECOND);
    let b = lab.agent("b", |options| options.timeout = SECOND);
    b.watch(None);
    let _sending = a.sending(lab.file("f", 10), "b");
    let (offer, _) = b.offer().await;
    let stand_in = away(&mut lab, &b, "b").await;
    let error = b.accept(offer, lab.path("received")).await.unwrap_err();
    assert_eq!(error.code, Code::AtsUnreachable);
    assert!(error.message.contains("f could not be claimed, and still stands"), "{error}");
    assert!(error.message.contains(&lab.url()), "{error}");
    let error = a.send(&lab.path("f"), "b").await.unwrap_err();
    assert_eq!(error.code, Code::AtsUnreachable);
    assert!(error.message.contains("f could not be offered to b"), "{error}");
    assert!(error.message.contains(&lab.url()), "{error}");
    stand_in.leave().await;
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_or_destroys_waits_for_no_service() {
    let mut lab = Lab::new().await;
    let (a, b) = acquainted(&lab).await;
    let _sending = a.sending(lab.file("f", 10), "b");
    let (offer, _) = b.offer().await;
    let mut stand_in = away(&mut lab, &b, "b").await;
    let cancel = CancellationToken::new();
    let target = Target::Exact { path: lab.path("received"), overwrite: true };
    let acceptance = Acceptance { destination: target.into(), max_rate: None, cancel: cancel.clone() };
    let accepting = {
        let node = b.node.clone();
        tokio::spawn(async move { node.accept(offer, acceptance).await })
    };
    stand_in.tried(TRIES).await;
    cancel.cancel();
    let error = timeout(PATIENCE, accepting).await.expect("sooner").unwrap().unwrap_err();
    assert_eq!(error.code, Code::Aborted);
    stand_in.leave().await;

    let mut stand_in = StandIn::start(lab.address(), "a").await;
    let cancel = CancellationToken::new();
    let sending = {
        let (a, file, cancel) = (a.clone(), lab.file("g", 10), cancel.clone());
        tokio::spawn(async move { a.send_until(&file, "b", cancel).await })
    };
    stand_in.tried(TRIES).await;
    cancel.cancel();
    let error = timeout(PATIENCE, sending).await.expect("sooner").unwrap().unwrap_err();
    assert_eq!(error.code, Code::Aborted);
    assert_eq!(a.failure().await, Code::Aborted);

    let another = a.sending(lab.file("h", 10), "b");
    stand_in.tried(2 * TRIES).await;
    timeout(PATIENCE, a.node.destroy()).await.expect("sooner");
    assert_eq!(another.await.unwrap().unwrap_err().code, Code::Aborted);
    // Only a transfer that ended by itself tells.
    assert_eq!(a.failure().await, Code::Aborted);
    stand_in.leave().await;
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_to_an_offer_while_the_service_was_away_counts() {
    let mut lab = Lab::new().await;
    // Less than the pause between two readings of the task.
    let a = lab.agent("a", |options| options.timeout = 4 * SECOND);
    let sending = a.sending(lab.file("f", 10), "nobody");
    offered(&a, &lab.client("a")).await;
    let mut stand_in = away(&mut lab, &a, "a").await;
    // The first is when the offer's time is over.
    stand_in.tried(2).await;
    back(&mut lab, stand_in).await;
    let error = sending.await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::OfferExpired, "{error}");
    lab.close([a]).await;
}

/// A recipient behind a gate that had some of a file when it died, and of which something is left.
async fn died_behind(lab: &Lab, gate: &Gate, a: &mut Sender, file: &[u8]) -> Task {
    let b = Mortal::with(lab, through(lab, gate), Some(lab.path("in")));
    b.dies_receiving(a, file, None).await
}

/// The recipient that came back, and could not tell its sender so, has kept all that it has.
async fn kept(lab: &Lab, gate: &Gate, a: &Sender, task: &Task, timeout: Duration) -> (Agent, Code) {
    let b = lab.agent("b", |options| {
        through(lab, gate)(options);
        options.timeout = timeout;
    });
    b.watch(Some(lab.path("in")));
    let code = b.failure().await;
    assert_eq!(a.client.get(&task.id).await.unwrap().status, Status::InProgress);
    assert_eq!(lab.listing("in").len(), 1);
    (b, code)
}

/// The claim of a task runs out.
async fn lapse(lab: &Lab, task: &Task) {
    request(lab, "b", "PATCH", &format!("/tasks/{}", task.id), r#"{"status":"pending"}"#).await;
}

/// The next transfer to begin has some of its bytes already.
async fn assert_resumes(b: &Agent) {
    let start = b.event_named("transfer_start").await;
    assert!(matches!(start, Event::TransferStart { resumed_from: 200_000, .. }), "{start:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_recipient_left_is_gone_on_with_once_the_service_is_back_that_went_away_again() {
    let lab = Lab::new().await;
    let (mut a, gate, file) = (Sender::new(&lab).await, Gate::start(lab.address()).await, content(LEN));
    let task = died_behind(&lab, &gate, &mut a, &file).await;
    gate.cut_before("/messages");
    let (b, code) = kept(&lab, &gate, &a, &task, BRIEF).await;
    assert_eq!(code, Code::AtsUnreachable);
    // It finds the offer when it reaches the service again.
    lapse(&lab, &task).await;
    gate.open();
    finish_with_anyone(&mut a, &task, &file, SOME).await;
    assert_resumes(&b).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    assert_eq!(lab.listing("in"), ["f"]);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_recipient_left_and_the_service_put_off_is_gone_on_with_at_the_next_start() {
    let lab = Lab::new().await;
    let (mut a, gate, file) = (Sender::new(&lab).await, Gate::start(lab.address()).await, content(LEN));
    let task = died_behind(&lab, &gate, &mut a, &file).await;
    gate.put_off("/messages");
    let (b, code) = kept(&lab, &gate, &a, &task, SECOND).await;
    assert_eq!(code, Code::AtsError);
    b.node.destroy().await;
    gate.open();
    let b = lab.agent("b", through(&lab, &gate));
    b.watch(Some(lab.path("in")));
    finish(&mut a, &task, &file, SOME).await;
    assert_resumes(&b).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    lab.close([b]).await;
}

/// What a sender of some bytes hears, and its recipient tells, once all that is asked of their task is
/// answered as `by` the gate.
async fn stopped(
    lab: &Lab,
    gate: &Gate,
    a: &mut Sender,
    file: &[u8],
    by: fn(&Gate, &'static str),
) -> (Task, bool, Code) {
    let b = lab.agent("b", through(lab, gate));
    b.watch(Some(lab.path("in")));
    let task = a.offer(file, resuming(&a.keys, 1)).await;
    let mut peer = dialled(&mut a.server).await;
    peer.ask(&task.payload).await;
    peer.hand_over(&file[..SOME]).await;
    peer.flush().await;
    by(gate, "/tasks/");
    let is_told = peer.piece().await.is_some();
    let code = b.failure().await;
    b.node.destroy().await;
    gate.open();
    (task, is_told, code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_come_is_gone_on_with_after_a_refusal_of_the_service_and_removed_once_the_task_is_gone() {
    // Both are seen at a renewal only.
    tokio::join!(assert_kept_when_refused(), assert_removed_when_gone());
}

async fn assert_kept_when_refused() {
    let lab = Lab::new().await;
    let (mut a, gate, file) = (Sender::new(&lab).await, Gate::start(lab.address()).await, content(LEN));
    let (task, is_told, code) = stopped(&lab, &gate, &mut a, &file, Gate::refuse).await;
    assert_eq!((is_told, code), (false, Code::AtsError), "its sender waits for it");
    assert_eq!(a.client.get(&task.id).await.unwrap().status, Status::InProgress);
    assert_eq!(lab.listing("in").len(), 1);
    lapse(&lab, &task).await;
    let b = lab.agent("b", through(&lab, &gate));
    b.watch(Some(lab.path("in")));
    finish_with_anyone(&mut a, &task, &file, SOME).await;
    assert_resumes(&b).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    lab.close([b]).await;
}

async fn assert_removed_when_gone() {
    let lab = Lab::new().await;
    let (mut a, gate, file) = (Sender::new(&lab).await, Gate::start(lab.address()).await, content(LEN));
    let (_, is_told, code) = stopped(&lab, &gate, &mut a, &file, Gate::lose).await;
    assert_eq!((is_told, code), (true, Code::Cancelled));
    lab.until_empty("in").await;
    lab.close([]).await;
}
