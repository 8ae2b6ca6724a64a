//! Offers whose sender died: taken up by the next process, or withdrawn.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use ats_p2p::ats::{ListQuery, Status, TaskId};
use ats_p2p::error::{Code, Error};
use ats_p2p::event::Event;
use ats_p2p::node::{Node, Options};
use ats_p2p::send::{SendRequest, Sent};
use ats_p2p::verify::ReceiptPlace;
use ats_p2p::wire::FrameType;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::lab::{Agent, Lab, PATIENCE, content, sha256};
use crate::peer::{Recipient, dial, p2p, until};

/// A process that sends, as far as it can be one within this.
pub(crate) struct Process {
    runtime: Runtime,
    agent: Agent,
}

impl Process {
    /// Begins to send; comes back when the offer is made.
    async fn sending(lab: &Lab, file: PathBuf, to: &'static str) -> (Self, String, TaskId) {
        Self::sending_several(lab, vec![file], to).await
    }

    async fn sending_several(lab: &Lab, files: Vec<PathBuf>, to: &'static str) -> (Self, String, TaskId) {
        Self::that_sends(lab, |_| {}, |agent| async move { agent.send_several(&files, to).await }).await
    }

    /// Begins to send by an agent that is set up otherwise, as `send` does.
    pub(crate) async fn that_sends<S>(
        lab: &Lab,
        change: impl FnOnce(&mut Options),
        send: impl FnOnce(Agent) -> S,
    ) -> (Self, String, TaskId)
    where
        S: Future<Output = Result<Sent, Error>> + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let agent = {
            let _inside = runtime.enter();
            lab.agent("a", change)
        };
        runtime.spawn(send(agent.clone()));
        let (transfer_id, task_id) = agent
            .event(|event| match event {
                Event::OfferSent { transfer, .. } => Some((transfer.transfer_id, transfer.task_id.unwrap())),
                _ => None,
            })
            .await;
        (Self { runtime, agent }, transfer_id, task_id)
    }

    /// Ends without a word to anybody; comes back when nothing of it is left.
    pub(crate) async fn die(self) {
        end(self.runtime).await;
        drop(self.agent);
    }
}

async fn end(runtime: Runtime) {
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
}

/// The files that a dead sender may leave in its state folder.
fn records(lab: &Lab) -> Vec<String> {
    lab.listing("home-a/transfers").into_iter().filter(|name| name.ends_with(".offer")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_a_dead_sender_is_taken_up_and_delivered() {
    let lab = Lab::new().await;
    let (process, transfer_id, _) = Process::sending(&lab, lab.file("f", 100_000), "b").await;
    process.die().await;
    assert_eq!(records(&lab).len(), 1);
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let offers = a.node.resume_offers(CancellationToken::new()).await.unwrap();
    let [offer] = &offers[..] else { panic!("{offers:?}") };
    let sent = offer.result.as_ref().unwrap();
    assert_eq!((&offer.transfer_id, &sent.transfer_id), (&transfer_id, &transfer_id));
    assert_eq!(sha256(&lab.path("in").join("f")), sent.hash);
    a.event_named("offer_resumed").await;
    a.event_named("transfer_complete").await;
    drop(offers);
    assert!(records(&lab).is_empty());
    assert!(a.node.resume_offers(CancellationToken::new()).await.unwrap().is_empty());
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_several_files_of_a_dead_sender_is_taken_up_with_all_of_them() {
    let lab = Lab::new().await;
    std::fs::create_dir_all(lab.path("sub/empty")).unwrap();
    let mut files = vec![lab.file("f", 100_000), lab.path("sub"), lab.file("sub/é", 10), lab.file("e", 0)];
    let (process, transfer_id, _) = Process::sending_several(&lab, files.clone(), "b").await;
    process.die().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let offers = a.node.resume_offers(CancellationToken::new()).await.unwrap();
    let [offer] = &offers[..] else { panic!("{offers:?}") };
    assert_eq!((&offer.transfer_id, offer.file_name.as_str()), (&transfer_id, "e and 3 more"));
    let sent = offer.result.as_ref().unwrap();
    for (received, file) in [("e", "e"), ("f", "f"), ("é", "sub/é"), ("sub/é", "sub/é")] {
        let received = lab.path("in").join("e and 3 more").join(received);
        assert_eq!(sha256(&received), sha256(&lab.path(file)));
    }
    assert!(lab.path("in/e and 3 more/sub/empty").is_dir());
    // In another order, they are the same, and what has arrived is it too.
    files.reverse();
    let again = a.send_several(&files, "b").await.unwrap();
    assert_eq!((&again.hash, again.size), (&sent.hash, sent.size));
    let received = lab.path("in").join("e and 3 more");
    for _ in [&sent.hash, &again.hash] {
        b.event_named("transfer_complete").await;
    }
    let place = ReceiptPlace::Transfer(again.transfer_id);
    assert!(b.node.verify(place, Some(received)).await.unwrap().is_file_checked);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_whose_sender_died_on_the_way_goes_on_with_the_next() {
    let lab = Lab::new().await;
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let file = lab.file("f", 100_000_000);
    let (process, ..) = Process::sending(&lab, file.clone(), "b").await;
    b.moving().await;
    process.die().await;
    let a = lab.agent("a", |_| {});
    let offers = a.node.resume_offers(CancellationToken::new()).await.unwrap();
    let sent = offers[0].result.as_ref().unwrap();
    assert_eq!(sha256(&lab.path("in").join("f")), sent.hash);
    b.event_named("transfer_complete").await;
    assert_eq!(lab.listing("in"), ["f"]);
    assert!((1..=sent.size).contains(&sent.resumed_from), "from {}", sent.resumed_from);
    let start = a.event_named("transfer_start").await;
    let Event::TransferStart { resumed_from, .. } = start else { panic!("{start:?}") };
    assert_eq!(resumed_from, sent.resumed_from);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_since_it_was_offered_is_not_sent_and_its_offer_withdrawn() {
    let lab = Lab::new().await;
    for (name, change) in
        [("same size", Some(content(10).iter().map(|byte| !byte).collect())), ("gone", None)]
    {
        let file = lab.file(name, 10);
        let (process, _, task_id) = Process::sending(&lab, file.clone(), "b").await;
        process.die().await;
        let code = match change {
            Some(changed) => {
                let changed: Vec<u8> = changed;
                std::fs::write(&file, changed).unwrap();
                Code::SourceChanged
            }
            None => {
                std::fs::remove_file(&file).unwrap();
                Code::FileNotFound
            }
        };
        let a = lab.agent("a", |_| {});
        let offers = a.node.resume_offers(CancellationToken::new()).await.unwrap();
        assert_eq!(offers[0].result.as_ref().unwrap_err().code, code);
        assert_eq!(a.failure().await, code);
        until(&lab.client("a"), &task_id, Status::Cancelled).await;
        assert!(records(&lab).is_empty());
        a.node.destroy().await;
    }
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_an_offer_while_its_sender_was_dead_is_told_as_what_it_is() {
    let lab = Lab::new().await;
    for end in [Status::Completed, Status::Cancelled, Status::Rejected] {
        let file = lab.file("f", 10);
        let (process, _, task_id) = Process::sending(&lab, file.clone(), "b").await;
        process.die().await;
        let b = lab.client("b");
        match end {
            Status::Completed => {
                b.claim(&task_id, Duration::from_secs(60)).await.unwrap();
                b.complete(&task_id, vec![json!({ "hash": sha256(&file) })]).await.unwrap();
            }
            Status::Cancelled => drop(lab.client("a").cancel(&task_id).await.unwrap()),
            _ => drop(b.reject(&task_id, "no").await.unwrap()),
        }
        let a = lab.agent("a", |_| {});
        let offers = a.node.resume_offers(CancellationToken::new()).await.unwrap();
        let code = offers[0].result.as_ref().err().map(|error| error.code);
        let expected = match end {
            Status::Completed => None,
            Status::Cancelled => Some(Code::Cancelled),
            _ => Some(Code::Rejected),
        };
        assert_eq!(code, expected);
        assert!(offers[0].result.as_ref().ok().is_none_or(|sent| sent.resumed_from == sent.size));
        a.event_named("offer_resumed").await;
        drop(offers);
        assert!(records(&lab).is_empty());
        a.node.destroy().await;
    }
    lab.close([]).await;
}

/// How long a process of [`Killable`] waits for others, and its offer for an answer.
const BRIEF: Duration = Duration::from_secs(4);

/// What [`sends_and_keeps_to_itself`] is told by.
const SENDER_ENV: [&str; 3] = ["ATS_P2P_TEST_URL", "ATS_P2P_TEST_HOME", "ATS_P2P_TEST_FILE"];

/// A process of its own that sends, to be killed.
struct Killable {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Killable {
    fn start(lab: &Lab, file: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let values = [lab.url().into(), lab.path("home-a"), file.to_owned()];
        let mut child = Command::new(program)
            .args(["--exact", "open_offers::sends_and_keeps_to_itself", "--ignored", "--nocapture"])
            .envs(SENDER_ENV.into_iter().zip(values))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Waits until it has sent the file.
    async fn sent(self) -> Self {
        let Self { child, said } = self;
        let said = tokio::task::spawn_blocking(move || {
            let mut said = said;
            let mut line = String::new();
            while !line.contains(SENT) {
                line.clear();
                assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended before");
            }
            said
        });
        Self { child, said: said.await.unwrap() }
    }

    async fn kill(mut self) {
        self.child.kill().unwrap();
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap();
    }
}

const SENT: &str = "the file is sent";

/// Sends a file, and tells nobody but the test what came of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of other tests, in a process of its own"]
async fn sends_and_keeps_to_itself() {
    let [url, home, file] = SENDER_ENV.map(|name| std::env::var(name).unwrap());
    let mut options = Options::new(home.into());
    options.timeout = BRIEF;
    (options.ats.url, options.ats.actor_id) = (Some(url), Some("a".into()));
    let node = Node::new(options, |_| {}).unwrap();
    let request = SendRequest {
        source: std::path::PathBuf::from(file).into(),
        recipient_id: "b".into(),
        channel: None,
        timeout: None,
        idempotency_key: None,
        metadata: None,
        max_rate: None,
        progress: None,
        cancel: CancellationToken::new(),
    };
    let _sent = node.send(request).await.unwrap();
    println!("{SENT}");
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_transfer_is_told_by_the_next_process_where_the_sender_was_killed_before_it_told() {
    let lab = Lab::new().await;
    let b = Recipient::new(&lab).await;
    for is_acknowledged in [false, true] {
        let file = lab.file("f", 100_000);
        let sender = Killable::start(&lab, &file);
        let task = loop {
            let open = ListQuery { status: Some(Status::Pending), ..Default::default() };
            match b.client.list(&open).await.unwrap().pop() {
                Some(task) => break task,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        b.take(&task, p2p(&b.keys, 1)).await;
        let mut peer = dial(&b.dht, &task, &b.keys).await;
        peer.take_until(FrameType::Done).await;
        if is_acknowledged {
            peer.say(FrameType::Ack, b"").await;
            sender.sent().await.kill().await;
        } else {
            sender.kill().await;
        }
        let output = json!({ "hash": task.payload["hash"], "p2p": p2p(&b.keys, 1) });
        b.client.complete(&task.id, vec![output]).await.unwrap();
        assert_eq!(records(&lab).len(), 1);
        // Whoever was told of the end may have put the file away; and the offer's time may be over.
        std::fs::remove_file(&file).unwrap();
        if is_acknowledged {
            tokio::time::sleep(BRIEF + Duration::from_secs(2)).await;
            // One that takes up nothing leaves it to the next.
            let another = lab.agent("a", |_| {});
            another.watch(None);
            another.event_named("connected").await;
            another.node.destroy().await;
        }
        let a = lab.agent("a", |_| {});
        let offers = a.node.resume_offers(CancellationToken::new()).await.unwrap();
        let sent = offers[0].result.as_ref().unwrap();
        assert_eq!((&json!(sent.hash), sent.resumed_from), (&task.payload["hash"], 100_000));
        for name in ["offer_resumed", "transfer_complete"] {
            a.event_named(name).await;
        }
        drop(offers);
        assert!(records(&lab).is_empty());
        assert!(a.node.resume_offers(CancellationToken::new()).await.unwrap().is_empty());
        a.node.destroy().await;
    }
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_that_a_known_peer_signed_is_believed_by_the_next_process() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let before = a.send(&lab.file("before", 10), "b").await.unwrap().peer;
    assert!(before.identity.is_some());
    Killable::start(&lab, &lab.file("f", 10)).sent().await.kill().await;
    let task_id = b
        .event(|event| match event {
            Event::TransferComplete { transfer, .. } if transfer.file_name == "f" => transfer.task_id,
            _ => None,
        })
        .await;
    until(&lab.client("a"), &task_id, Status::Completed).await;
    let offers = a.node.resume_offers(CancellationToken::new()).await.unwrap();
    let [offer] = &offers[..] else { panic!("{offers:?}") };
    assert_eq!(offer.result.as_ref().unwrap().peer.identity, before.identity);
    drop(offers);
    assert!(records(&lab).is_empty());
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_taken_up_by_one_process_alone() {
    let lab = Lab::new().await;
    let (process, ..) = Process::sending(&lab, lab.file("f", 10), "b").await;
    // Its own sender lives.
    let a = lab.agent("a", |_| {});
    assert!(a.node.resume_offers(CancellationToken::new()).await.unwrap().is_empty());
    process.die().await;
    let others = [lab.agent("a", |_| {}), lab.agent("a", |_| {})];
    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let (one, two) = tokio::join!(
        others[0].node.resume_offers(CancellationToken::new()),
        others[1].node.resume_offers(CancellationToken::new())
    );
    assert_eq!(one.unwrap().len() + two.unwrap().len(), 1);
    assert_eq!(lab.listing("in"), ["f"]);
    lab.close(others.into_iter().chain([a, b])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_a_dead_sender_is_withdrawn_by_the_next_start_once_its_time_is_over() {
    let lab = Lab::new().await;
    let runtime = Runtime::new().unwrap();
    let brief = {
        let _inside = runtime.enter();
        lab.agent("a", |options| options.timeout = Duration::from_secs(1))
    };
    let (sender, file) = (brief.clone(), lab.file("f", 10));
    runtime.spawn(async move { sender.send(&file, "b").await });
    let task_id = brief
        .event(|event| match event {
            Event::OfferSent { transfer, .. } => transfer.task_id,
            _ => None,
        })
        .await;
    end(runtime).await;
    let client = lab.client("a");
    // Each start looks; one of them is late enough.
    while client.get(&task_id).await.unwrap().status == Status::Pending {
        let a = lab.agent("a", |_| {});
        a.watch(None);
        a.event_named("connected").await;
        a.node.destroy().await;
    }
    until(&client, &task_id, Status::Cancelled).await;
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_is_ended_by_its_id_wherever_it_runs() {
    let lab = Lab::new().await;
    let client = lab.client("a");
    // Here, by the transfer's id and by the task's.
    for by_task in [false, true] {
        let a = lab.agent("a", |_| {});
        let sending = a.sending(lab.file("f", 10), "b");
        let (transfer_id, task_id) = a
            .event(|event| match event {
                Event::OfferSent { transfer, .. } => Some((transfer.transfer_id, transfer.task_id.unwrap())),
                _ => None,
            })
            .await;
        let id = if by_task { task_id.to_string() } else { transfer_id };
        assert_eq!(a.node.cancel(&id).await.unwrap().task.status, Status::Cancelled);
        assert_eq!(sending.await.unwrap().unwrap_err().code, Code::Aborted);
        a.node.destroy().await;
    }
    // Of a process that is dead, and of one that lives.
    for lives in [false, true] {
        let (process, transfer_id, task_id) = Process::sending(&lab, lab.file("f", 10), "b").await;
        let (a, c) = (lab.agent("a", |_| {}), lab.agent("c", |_| {}));
        let process = if lives {
            Some(process)
        } else {
            process.die().await;
            None
        };
        assert_eq!(c.node.cancel(&transfer_id).await.unwrap_err().code, Code::NotAllowed);
        assert_eq!(a.node.cancel(&transfer_id).await.unwrap().task.status, Status::Cancelled);
        assert_eq!(client.get(&task_id).await.unwrap().status, Status::Cancelled);
        if let Some(process) = process {
            assert_eq!(process.agent.failure().await, Code::Cancelled);
            process.die().await;
        }
        assert!(records(&lab).is_empty());
        // What is over stays as it is.
        assert_eq!(a.node.cancel(&transfer_id).await.unwrap().task.status, Status::Cancelled);
        assert_eq!(a.node.cancel("none").await.unwrap_err().code, Code::UnknownTransfer);
        a.node.destroy().await;
        c.node.destroy().await;
    }
    lab.close([]).await;
}
