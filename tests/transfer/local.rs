//! Trouble of the recipient's own machine: told at the start, or once while offers wait for its end. Nobody's
//! offer is declined for it.

use std::fs;
use std::path::Path;

use ats_p2p::ats::{ListQuery, Status};
use ats_p2p::error::Code;
use ats_p2p::event::Event;
use ats_p2p::node::WatchOptions;

use crate::lab::{Agent, Lab, content};

const SIZE: usize = 10_000;

/// Puts a file in the place of a folder, which nothing can be written in then, root or not. Returns what
/// undoes that.
fn block(folder: &Path) -> impl FnOnce() + use<> {
    let (folder, aside) = (folder.to_owned(), folder.with_extension("aside"));
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "no folder").unwrap();
    move || {
        fs::remove_file(&folder).unwrap();
        fs::rename(aside, folder).unwrap();
    }
}

/// What the agent was told of trouble so far, and how many transfers failed.
fn told(agent: &Agent) -> (Vec<String>, usize) {
    let (mut warnings, mut failed) = (Vec::new(), 0);
    for event in agent.all() {
        match event {
            Event::Warning { message } => warnings.push(message),
            Event::TransferFailed { .. } => failed += 1,
            _ => {}
        }
    }
    (warnings, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_kept_is_told_by_watch_itself() {
    let lab = Lab::new().await;
    let (file, damaged) = (lab.file("file", 1), lab.path("damaged"));
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("transfers"), "no folder").unwrap();
    for home in [&file, &file.join("below"), &damaged] {
        let b = lab.agent("b", |options| options.home.clone_from(home));
        let watch = WatchOptions { save_dir: Some(lab.path("in")), ..WatchOptions::default() };
        let error = b.node.watch(watch).unwrap_err();
        assert_eq!(error.code, Code::State);
        let says = [&*home.to_string_lossy(), "ATS_P2P_HOME"];
        assert!(says.iter().all(|says| error.message.contains(says)), "{}", error.message);
        assert!(lab.listing("in").is_empty(), "nothing is made for it");
        b.node.destroy().await;
    }
    lab.close([]).await;
}

/// All were declined, by a listener that had said that it was connected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_wait_for_a_disk_that_can_be_written_again() {
    for blocked in ["home-b", "home-b/transfers", "in"] {
        let lab = Lab::new().await;
        let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
        b.watch(Some(lab.path("in")));
        b.event_named("connected").await;
        let unblock = block(&lab.path(blocked));
        let sending = [1, 2, 3].map(|n| a.sending(lab.file(&format!("f{n}"), SIZE + n), "b"));
        for _ in &sending {
            a.event_named("offer_sent").await;
        }
        b.event_named("warning").await;
        let query = ListQuery { status: Some(Status::Pending), ..Default::default() };
        assert_eq!(lab.client("b").list(&query).await.unwrap().len(), 3, "{blocked}");
        unblock();
        for sent in sending {
            sent.await.unwrap().unwrap();
        }
        let (warnings, failed) = told(&b);
        assert_eq!((warnings.len(), failed), (1, 0), "{blocked}: {warnings:?}");
        for n in [1, 2, 3] {
            assert_eq!(fs::read(lab.path("in").join(format!("f{n}"))).unwrap(), content(SIZE + n));
        }
        lab.close([a, b]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_accepts_in_trouble_is_told_and_may_accept_again() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let sending = a.sending(lab.file("f", SIZE), "b");
    let (offer, _) = b.offer().await;
    let unblock = block(&lab.path("home-b/transfers"));
    for _ in 0..2 {
        let error = b.accept(offer, lab.path("copy")).await.unwrap_err();
        assert_eq!((error.code, b.failure().await), (Code::State, Code::State));
    }
    unblock();
    b.accept(offer, lab.path("copy")).await.unwrap();
    sending.await.unwrap().unwrap();
    assert!(told(&b).0.is_empty());
    lab.close([a, b]).await;
}
