//! Peers that are started again, have much to read before they meet, and say so.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ats_p2p::ats::{Client, Status, Task};
use ats_p2p::error::Code;
use ats_p2p::event::{Event, Phase};
use ats_p2p::node::Options;
use ats_p2p::wire::FrameType;
use secret_stream::KeyPair;
use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::lab::{Agent, Lab, PATIENCE, content, sha256};
use crate::open_offers::Process;
use crate::peer::{Recipient, Sender, dial, dialled, offered, p2p, say, until, until_said};
use crate::resume::{LEN, Mortal, SOME, finish, resuming};
use crate::senders::request;

/// How long the agents here wait for others: far longer than anything is held up by others' load.
pub(crate) const BRIEF: Duration = Duration::from_secs(6);

/// An agent whose disk can be made to stand still, until it is let go.
struct SlowDisk {
    agent: Agent,
    /// All that blocks takes turns on one thread.
    runtime: Runtime,
    standstill: Arc<Standstill>,
    let_go: mpsc::Sender<()>,
}

/// What the disk has to do next, so that all else waits for it.
struct Standstill {
    disk: Handle,
    held: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Standstill {
    fn begin(&self) {
        if let Some(held) = self.held.lock().unwrap().take() {
            self.disk.spawn_blocking(move || held.recv());
        }
    }
}

impl SlowDisk {
    /// With a disk that stands still once it begins to read what it has.
    fn reading(lab: &Lab, actor_id: &str) -> Self {
        let is_reading = |event: &Event| match event {
            Event::TransferProgress { progress, .. } => progress.phase == Phase::Hashing,
            _ => false,
        };
        Self::new(lab, actor_id, |options| options.timeout = BRIEF, is_reading)
    }

    /// With a disk that stands still after an event that `begins` that.
    fn new(
        lab: &Lab,
        actor_id: &str,
        change: impl FnOnce(&mut Options),
        begins: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Self {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (let_go, held) = mpsc::channel();
        let standstill =
            Arc::new(Standstill { disk: runtime.handle().clone(), held: Mutex::new(Some(held)) });
        let beginning = standstill.clone();
        let agent = {
            let _inside = runtime.enter();
            lab.agent_that_tells(actor_id, change, move |event| {
                if begins(event) {
                    beginning.begin();
                }
            })
        };
        // Nobody asks the disk for it from now on.
        agent.node.trust().identity().unwrap();
        Self { agent, runtime, standstill, let_go }
    }

    fn let_go(&self) {
        self.let_go.send(()).unwrap();
    }

    async fn end(self) {
        self.agent.node.destroy().await;
        tokio::task::spawn_blocking(move || self.runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }
}

/// Says on a task again and again that a peer is there, for longer than anybody waits who does not hear it.
async fn say_for_long(client: &Client, task: &Task, word: impl Fn(u64) -> Value) {
    let began = Instant::now();
    for seq in 2.. {
        say(client, task, word(seq)).await;
        if began.elapsed() > BRIEF * 2 {
            return;
        }
        sleep(BRIEF / 12).await;
    }
}

/// Dials, takes the whole file and says that it has it.
async fn take_all(b: &Recipient, task: &Task) {
    let mut peer = dial(&b.dht, task, &b.keys).await;
    peer.say(FrameType::Resume, br#"{"offset":0}"#).await;
    assert_eq!(peer.take_until(FrameType::Done).await.0, content(LEN));
    peer.say(FrameType::Ack, b"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_says_that_it_is_there_is_waited_for() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = BRIEF), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", LEN), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, resuming(&b.keys, 1)).await;
    let mut lost = dial(&b.dht, &task, &b.keys).await;
    lost.take_until(FrameType::Meta).await;
    drop(lost);
    say_for_long(&b.client, &task, |seq| resuming(&b.keys, seq)).await;
    take_all(&b, &task).await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_recipient_says_beside_a_connection_that_brings_nothing_counts_once_that_is_lost() {
    let lab = Lab::new().await;
    // The first connection comes in the middle of the first wait, and is lost when that would be over.
    let limit = 3 * BRIEF;
    let (a, b) = (lab.agent("a", |options| options.timeout = limit), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", LEN), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, resuming(&b.keys, 1)).await;
    let taken = Instant::now();
    sleep(limit / 2).await;
    let mut lost = dial(&b.dht, &task, &b.keys).await;
    lost.take_until(FrameType::Meta).await;
    for seq in 2.. {
        say(&b.client, &task, resuming(&b.keys, seq)).await;
        sleep(BRIEF / 12).await;
        if taken.elapsed() > limit + BRIEF / 2 {
            break;
        }
    }
    drop(lost);
    take_all(&b, &task).await;
    sending.await.unwrap().unwrap();
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_say_does_not_keep_a_sender_waiting() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = BRIEF), Recipient::new(&lab).await);
    let sending = a.sending(lab.file("f", LEN), "b");
    let task = offered(&a, &b.client).await;
    b.take(&task, p2p(&b.keys, 1)).await;
    let (c, other) = (lab.client("c"), KeyPair::generate());
    // In its own name with the recipient's key, and in the recipient's with another key.
    let saying = async {
        for seq in 2.. {
            say(&c, &task, p2p(&b.keys, seq)).await;
            say(&b.client, &task, p2p(&other, seq)).await;
            sleep(BRIEF / 12).await;
        }
    };
    let sent = tokio::select! { sent = sending => sent.unwrap(), () = saying => unreachable!() };
    assert_eq!(sent.unwrap_err().code, Code::PeerUnreachable);
    lab.close([a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_says_that_it_is_there_is_waited_for() {
    let lab = Lab::new().await;
    let (mut a, b) = (Sender::new(&lab).await, lab.agent("b", |options| options.timeout = BRIEF));
    b.watch(Some(lab.path("in")));
    let file = content(LEN);
    let task = a.offer(&file, resuming(&a.keys, 1)).await;
    let mut lost = dialled(&mut a.server).await;
    lost.ask(&task.payload).await;
    lost.hand_over(&file[..SOME]).await;
    lost.flush().await;
    a.server.close().await;
    drop(lost);
    say_for_long(&a.client, &task, |seq| resuming(&a.keys, seq)).await;
    a.come_back().await;
    let mut peer = dialled(&mut a.server).await;
    assert_eq!(peer.ask(&task.payload).await, SOME);
    peer.hand_over(&file[SOME..]).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    b.event_named("transfer_complete").await;
    assert_eq!(b.seen(), ["transfer_start", "transfer_complete"]);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_was_started_again_says_so_and_keeps_its_claim_while_it_reads_what_it_has() {
    let lab = Lab::new().await;
    let mut a = Sender::new(&lab).await;
    let b = Mortal::new(&lab, Some(lab.path("in")));
    let file = content(LEN);
    let task = b.dies_receiving(&mut a, &file, None).await;

    let b = SlowDisk::reading(&lab, "b");
    {
        let _inside = b.runtime.enter();
        b.agent.watch(Some(lab.path("in")));
    }
    let said = until_said(&a.client, &task.id, "b", 3).await;
    assert!(said.iter().all(|p2p| p2p["key"] == said[0]["key"] && p2p["instance"] == said[0]["instance"]));
    // A claim that has run out is made again.
    request(&lab, "b", "PATCH", &format!("/tasks/{}", task.id), r#"{"status":"pending"}"#).await;
    until(&a.client, &task.id, Status::InProgress).await;
    assert_eq!(b.agent.phases(), [Phase::Hashing], "it reads yet");
    b.let_go();
    finish(&mut a, &task, &file, SOME).await;
    assert_eq!(sha256(&lab.path("in/f")), task.payload["hash"]);
    b.end().await;
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_was_started_again_says_so_while_it_reads_what_it_has_offered() {
    let lab = Lab::new().await;
    let b = Recipient::new(&lab).await;
    let file = lab.file("f", LEN);
    let brief = |options: &mut Options| options.timeout = BRIEF;
    let send = |agent: Agent| async move { agent.send(&file, "b").await };
    let (process, _, task_id) = Process::that_sends(&lab, brief, send).await;
    let task = b.client.get(&task_id).await.unwrap();
    b.take(&task, p2p(&b.keys, 1)).await;
    process.die().await;

    let a = SlowDisk::reading(&lab, "a");
    let agent = a.agent.clone();
    let resuming = a.runtime.spawn(async move { agent.node.resume_offers(CancellationToken::new()).await });
    let said = until_said(&b.client, &task.id, "a", 2).await;
    assert!(said.iter().all(|p2p| p2p["key"] == task.payload["p2p"]["key"]));
    assert_eq!(a.agent.phases(), [Phase::Hashing], "it reads yet");
    a.let_go();
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    assert_eq!(peer.take_until(FrameType::Done).await.0, content(LEN));
    peer.say(FrameType::Ack, b"").await;
    let offers = resuming.await.unwrap().unwrap();
    assert!(offers[0].result.is_ok(), "{offers:?}");
    drop(offers);
    a.end().await;
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_under_a_key_that_is_asked_for_again_says_so_while_it_reads_what_it_has_offered() {
    let lab = Lab::new().await;
    let (b, gate) = (Recipient::new(&lab).await, Gate::start(lab.address()).await);
    let (url, bootstrap, file) = (gate.url(), lab.bootstrap(), lab.file("f", LEN));
    let through_gate = |options: &mut Options| {
        options.ats.url = Some(url.clone());
        options.bootstrap = Some(bootstrap.clone());
    };
    let sent = file.clone();
    let send = |agent: Agent| async move { agent.send_under("key", &sent, "b").await };
    let (process, _, task_id) = Process::that_sends(&lab, through_gate, send).await;
    let task = b.client.get(&task_id).await.unwrap();
    b.take(&task, p2p(&b.keys, 1)).await;
    process.die().await;

    let a = SlowDisk::new(&lab, "a", through_gate, |_| false);
    // It looks for its task, and reads nothing before it has it.
    gate.close_after("GET /tasks?");
    let agent = a.agent.clone();
    let sending = a.runtime.spawn(async move { agent.send_under("key", &file, "b").await });
    gate.closed().await;
    a.standstill.begin();
    gate.open();
    until_said(&b.client, &task.id, "a", 1).await;
    a.let_go();
    let mut peer = dial(&b.dht, &task, &b.keys).await;
    assert_eq!(peer.take_until(FrameType::Done).await.0, content(LEN));
    peer.say(FrameType::Ack, b"").await;
    sending.await.unwrap().unwrap();
    a.end().await;
    lab.close([]).await;
}
