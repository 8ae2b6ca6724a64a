//! Folders: what a sender that lies about one can do, and what becomes of one whose recipient died.

use ats_p2p::ats::{Status, Task};
use ats_p2p::error::Code;
use ats_p2p::wire::FrameType;
use serde_json::{Value, json};

use crate::header::header;
use crate::lab::{Agent, Lab};
use crate::peer::{Sender, dialled, offer_payload, p2p, post, until};
use crate::resume::{Mortal, what_is_left_goes_once_its_task_is_over};

/// What an archive is made of, whose headers are written down a second time.
fn folder(path: &str) -> Vec<u8> {
    header(path.as_bytes(), b'5', 0, b"").to_vec()
}

fn file(path: &str, content: &str) -> Vec<u8> {
    let mut bytes = header(path.as_bytes(), b'0', content.len(), b"").to_vec();
    bytes.extend(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn link(path: &str, target: &str) -> Vec<u8> {
    header(path.as_bytes(), b'2', 0, target.as_bytes()).to_vec()
}

/// An archive of these.
fn archive(entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.into_iter().flatten().collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

impl Sender {
    /// Offers a folder to `b`, which is to hold so many entries and bytes.
    async fn offer_folder(&self, archive: &[u8], entries: u64, bytes: u64) -> Task {
        let id = uuid::Uuid::new_v4().to_string();
        let mut payload = offer_payload(&id, "d.tar", archive, "a", Some("b"));
        payload["tree"] = json!({ "format": "pax-1", "entries": entries, "bytes": bytes });
        payload["p2p"] = p2p(&self.keys, 1);
        payload["p2p"]["features"] = json!(["resume", "tree"]);
        post(&self.client, payload).await
    }
}

/// Offers what is no folder as it was offered; both ends have to notice, and nothing may be left of it.
async fn lie(lab: &Lab, a: &mut Sender, b: &Agent, what: &str, archive: &[u8], entries: u64, bytes: u64) {
    let task = a.offer_folder(archive, entries, bytes).await;
    let mut peer = dialled(&mut a.server).await;
    assert_eq!(peer.ask(&task.payload).await, 0, "{what}");
    peer.hand_over(archive).await;
    peer.finish().await;
    let (_, word) = peer.take_until(FrameType::Nack).await;
    assert_eq!(word, b"INTEGRITY: the folder can't be unpacked", "{what}");
    assert_eq!(b.failure().await, Code::Integrity, "{what}");
    let task: Value = until(&a.client, &task.id, Status::Failed).await.payload;
    assert_eq!(task["filename"], "d.tar");
    for folder in ["in", "outside", "home-b/transfers"] {
        lab.until_empty(folder).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_lies_about_a_folder_leaves_nothing_and_both_ends_know() {
    let lab = Lab::new().await;
    let (mut a, b) = (Sender::new(&lab).await, lab.agent("b", |_| {}));
    std::fs::create_dir(lab.path("outside")).unwrap();
    b.watch(Some(lab.path("in")));
    let outside = lab.path("outside");
    let outside = outside.to_str().unwrap();
    let many = (0..3000).map(|number| file(&format!("d/{number:04}"), ""));
    let cases = [
        ("a path outside", archive([folder("d/"), file("d/../../outside/x", "x")]), 2, 1),
        ("an absolute path", archive([folder("d/"), file(&format!("{outside}/x"), "x")]), 2, 1),
        ("the same twice", archive([folder("d/"), file("d/x", "x"), file("d/x", "y")]), 3, 2),
        ("a file through a link", archive([folder("d/"), link("d/l", outside), file("d/l/x", "x")]), 3, 1),
        ("a link up", archive([folder("d/"), link("d/l", "../../outside"), file("d/l/x", "x")]), 3, 1),
        ("more entries than offered", archive([folder("d/")].into_iter().chain(many)), 1000, 0),
        ("fewer than offered", archive([folder("d/"), file("d/x", "x")]), 4, 1),
        ("a size of gigabytes", archive([folder("d/"), header(b"d/x", b'0', 1 << 32, b"").into()]), 2, 500),
        ("a size beyond the end", archive([folder("d/"), header(b"d/x", b'0', 500, b"").into()]), 2, 500),
        ("more bytes than offered", archive([folder("d/"), file("d/x", "xx")]), 2, 1),
        ("no archive", vec![7; 100_000], 2, 1),
    ];
    for (what, archive, entries, bytes) in cases {
        lie(&lab, &mut a, &b, what, &archive, entries, bytes).await;
    }
    // The same parts make a folder that arrives.
    let honest = archive([folder("d/"), link("d/l", "x"), file("d/x", "x")]);
    let task = a.offer_folder(&honest, 3, 1).await;
    let mut peer = dialled(&mut a.server).await;
    peer.ask(&task.payload).await;
    peer.hand_over(&honest).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(std::fs::read(lab.path("in/d/l")).unwrap(), b"x");
    assert_eq!(lab.listing("in"), ["d"]);
    lab.close([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_recipient_left_of_a_folder_whose_task_is_over_is_removed() {
    let lab = Lab::new().await;
    let mut a = Sender::new(&lab).await;
    let b = Mortal::new(&lab, Some(lab.path("in")));
    let files = (0..300).map(|number| file(&format!("d/{number:04}"), &"x".repeat(1000)));
    let content = archive([folder("d/")].into_iter().chain(files));
    let task = a.offer_folder(&content, 301, 300_000).await;
    b.dies_at(&mut a, &task, &content[..200_000]).await;
    what_is_left_goes_once_its_task_is_over(lab, &a, &task).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_turns_out_wrong_after_a_death_comes_once_more_from_its_first_byte() {
    let lab = Lab::new().await;
    let mut a = Sender::new(&lab).await;
    let b = Mortal::new(&lab, Some(lab.path("in")));
    let made = |content: &str| {
        let files = (0..300).map(|number| file(&format!("d/{number:04}"), &content.repeat(1000)));
        archive([folder("d/")].into_iter().chain(files))
    };
    let (content, before) = (made("x"), made("y"));
    let task = a.offer_folder(&content, 301, 300_000).await;
    // Its files changed between the two.
    b.dies_at(&mut a, &task, &before[..200_000]).await;

    let b = lab.agent("b", |_| {});
    b.watch(Some(lab.path("in")));
    let mut peer = dialled(&mut a.server).await;
    let from = peer.ask(&task.payload).await;
    assert!(from > 100_000, "from {from}");
    peer.hand_over(&content[from..]).await;
    peer.finish().await;
    assert!(peer.piece().await.is_none(), "not told, since it can still be mended");
    let mut peer = dialled(&mut a.server).await;
    assert_eq!(peer.ask(&task.payload).await, 0);
    peer.hand_over(&content).await;
    peer.finish().await;
    peer.take_until(FrameType::Ack).await;
    until(&a.client, &task.id, Status::Completed).await;
    assert_eq!(std::fs::read(lab.path("in/d/0007")).unwrap(), "x".repeat(1000).as_bytes());
    assert_eq!(lab.listing("in"), ["d"]);
    lab.close([b]).await;
}
