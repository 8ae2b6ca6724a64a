//! Nodes that leave the peer network for a while, in the middle of transfers.

use std::time::Duration;

use tokio::time::sleep;

use crate::lab::{Lab, sha256};

/// More than the suspended node's timeout: a suspension counts for none.
const PAUSE: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_suspended_delivers_once_it_is_resumed() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |options| options.timeout = TIMEOUT), lab.agent("b", |_| {}));
    b.watch(None);
    let sending = a.sending(lab.file("x", 100_000), "b");
    let (offer, _) = b.offer().await;
    a.node.suspend().await.unwrap();
    let accepting = tokio::spawn({
        let (b, path) = (b.clone(), lab.path("taken"));
        async move { b.accept(offer, path).await }
    });
    sleep(PAUSE).await;
    assert!(!sending.is_finished() && !accepting.is_finished());
    a.node.resume().await.unwrap();
    let received = accepting.await.unwrap().unwrap();
    assert_eq!(sending.await.unwrap().unwrap().hash, sha256(&received.file_path.unwrap()));
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_suspended_receives_once_it_is_resumed() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |options| options.timeout = TIMEOUT));
    b.watch(Some(lab.path("in")));
    let sending = a.sending(lab.file("x", 64_000_000), "b");
    b.event_named("peer_connected").await;
    b.node.suspend().await.unwrap();
    sleep(PAUSE).await;
    b.node.resume().await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap().hash, sha256(&lab.path("in/x")));
    lab.close([a, b]).await;
}
