//! From the offer to the file in its place.

use std::time::Duration;

use ats_p2p::ats::Status;
use ats_p2p::error::Code;
use ats_p2p::event::{Event, Phase};
use ats_p2p::files::{Existing, Target};
use ats_p2p::node::WatchOptions;
use ats_p2p::receive::Acceptance;
use tokio_util::sync::CancellationToken;

use crate::lab::{Agent, Lab, allowed, sha256};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_all_sizes_arrive_in_a_folder() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    for len in [0, 1, 65_535, 65_536, 65_537, 5_000_000] {
        let file = lab.file(&format!("größe {len}.bin"), len);
        let sent = a.send(&file, "b").await.unwrap();
        let arrived = lab.path("in").join(format!("größe {len}.bin"));
        assert_eq!(sha256(&arrived), sent.hash, "{len} bytes");
        assert_eq!(sent.size, len as u64);
    }
    a.node.destroy().await;
    b.node.destroy().await;
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_accepted_to_a_path() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let file = lab.file("data.csv", 300_000);
    let sending = a.send(&file, "b");
    let accepting = async {
        let (offer, told) = b.offer().await;
        assert_eq!((told.file_name.as_str(), told.size), ("data.csv", 300_000));
        assert_eq!(told.peer_id, "a");
        b.accept(offer, lab.path("taken.csv")).await
    };
    let (sent, received) = tokio::join!(sending, accepting);
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!(received.hash, sent.hash);
    assert_eq!(received.file_path, Some(lab.path("taken.csv")));
    assert_eq!(sha256(&received.file_path.unwrap()), sent.hash);
    assert_eq!(a.seen(), ["transfer_start", "transfer_complete"]);
    assert_eq!(b.seen(), ["transfer_start", "transfer_complete"]);
    use Phase::{Connecting, Hashing, Transferring, Verifying, Waiting};
    assert_eq!(a.phases(), [Hashing, Waiting, Connecting, Transferring, Verifying]);
    assert_eq!(b.phases(), [Waiting, Connecting, Transferring, Verifying]);
    let first = a.event_named("transfer_progress").await;
    let Event::TransferProgress { transfer, .. } = first else { unreachable!() };
    assert!(transfer.transfer_id == sent.transfer_id && transfer.task_id.is_none());
    assert_eq!((transfer.hash.as_str(), transfer.peer_id.as_str()), ("", "b"));
    for progress in [a.progress(), b.progress()] {
        assert!(progress.is_sorted() && progress.last() == Some(&300_000), "{progress:?}");
    }
    for (agent, connection) in [(&a, sent.connection), (&b, received.connection)] {
        let told = agent
            .event(|event| match event {
                Event::PeerConnected { transfer, connection } => Some((transfer.transfer_id, connection)),
                _ => None,
            })
            .await;
        assert_eq!(told.0, sent.transfer_id);
        assert!(told.1.path == "lan" && told.1.connect_time > Duration::ZERO, "{told:?}");
        let connection = connection.unwrap();
        assert_eq!(connection.path, "lan");
        assert_eq!(connection.remote_address, told.1.remote_address);
        assert!(connection.rtt.is_some_and(|rtt| rtt < Duration::from_secs(5)), "{connection:?}");
    }
    let status = a.node.status(&sent.transfer_id).await.unwrap();
    assert_eq!(status.task.status, Status::Completed);
    assert_eq!(status.task.outputs[0]["hash"], sent.hash.as_str());
    assert_eq!(status.offer.unwrap().transfer_id, sent.transfer_id);
    a.node.destroy().await;
    b.node.destroy().await;
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_name_is_taken_replaces_what_is_there_or_is_kept_out_by_it() {
    let lab = Lab::new().await;
    let (a, b, c) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}), lab.agent("c", |_| {}));
    let watch = |agent: &Agent, save_dir, existing| {
        let save_dir = Some(lab.path(save_dir));
        agent.node.watch(WatchOptions { save_dir, existing, ..WatchOptions::default() }).unwrap();
    };
    watch(&b, "kept", Existing::Skip);
    watch(&c, "replaced", Existing::Overwrite);
    let file = lab.file("data.csv", 300_000);
    for recipient in ["b", "c"] {
        assert_eq!(a.send(&file, recipient).await.unwrap().resumed_from, 0);
    }
    // The same file counts as received.
    let again = a.send(&file, "b").await.unwrap();
    assert_eq!((again.resumed_from, again.connection.is_none()), (300_000, true));
    for _ in 0..2 {
        b.event_named("transfer_complete").await;
    }
    assert_eq!(b.seen(), ["transfer_start", "transfer_complete", "transfer_complete"]);
    let status = a.node.status(&again.transfer_id).await.unwrap();
    assert_eq!(
        (status.task.status, &status.task.outputs[0]["hash"]),
        (Status::Completed, &again.hash.into())
    );
    // Another one is kept out; a shorter one, and one of the same size.
    for content in [vec![7; 10], vec![7; 300_000]] {
        std::fs::write(&file, &content).unwrap();
        let error = a.send(&file, "b").await.unwrap_err();
        assert_eq!(error.code, Code::Rejected);
        assert!(error.message.contains("another file of this name"), "{error}");
        assert_eq!(b.failure().await, Code::AlreadyExists);
        a.send(&file, "c").await.unwrap();
        assert_eq!(std::fs::read(lab.path("replaced").join("data.csv")).unwrap(), content);
    }
    assert_eq!(
        (lab.listing("kept"), lab.listing("replaced")),
        (vec!["data.csv".into()], vec!["data.csv".into()])
    );
    assert_eq!(std::fs::metadata(lab.path("kept").join("data.csv")).unwrap().len(), 300_000);
    // Whoever asks for it is told, and may answer otherwise.
    let d = lab.agent("d", |_| {});
    d.watch(None);
    let accepting = async {
        let (offer, _) = d.offer().await;
        let name = d.node.safe_name(offer).unwrap();
        let target = |existing| Target::InFolder { dir: lab.path("kept"), name: name.clone(), existing };
        let accept = |existing| {
            let cancel = CancellationToken::new();
            let acceptance = Acceptance { destination: target(existing).into(), max_rate: None, cancel };
            d.node.accept(offer, acceptance)
        };
        assert_eq!(accept(Existing::Skip).await.unwrap_err().code, Code::AlreadyExists);
        accept(Existing::Rename).await.unwrap()
    };
    let (sent, received) = tokio::join!(a.send(&file, "d"), accepting);
    assert_eq!(received.file_path, Some(lab.path("kept").join("data (1).csv")));
    assert_eq!(sha256(&received.file_path.unwrap()), sent.unwrap().hash);
    lab.close([a, b, c, d]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_recipient_has_is_copied_there_if_its_sender_is_known() {
    let lab = Lab::new().await;
    let (a, b, c) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}), lab.agent("c", |_| {}));
    b.watch(Some(lab.path("in")));
    let size = 3_000_000;
    let file = lab.file("data.bin", 3_000_000);
    let resumed = async |from: &Agent| from.send(&file, "b").await.unwrap().resumed_from;
    assert_eq!([resumed(&a).await, resumed(&a).await], [0, size]);
    let copy = lab.path("in").join("data (1).bin");
    assert_eq!(sha256(&copy), sha256(&file));
    // To whoever is met for the first time nothing is told of it.
    assert_eq!([resumed(&c).await, resumed(&c).await], [0, size]);
    // Of the same size, and another one.
    let mut other = std::fs::read(&file).unwrap();
    other[size as usize - 1] ^= 1;
    std::fs::write(&file, &other).unwrap();
    assert_eq!(resumed(&a).await, 0);
    assert_eq!(std::fs::read(lab.path("in").join("data (4).bin")).unwrap(), other);
    // What somebody has changed since is not what came.
    std::fs::remove_dir_all(lab.path("in")).unwrap();
    assert_eq!(resumed(&a).await, 0);
    std::fs::write(lab.path("in").join("data.bin"), vec![7; other.len()]).unwrap();
    assert_eq!([resumed(&a).await, resumed(&a).await], [0, size]);
    lab.close([a, b, c]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_known_sender_has_sent_is_found_wherever_it_was_taken_to() {
    let lab = Lab::new().await;
    let (a, b, c) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}), lab.agent("c", |_| {}));
    b.watch(None);
    let file = lab.file("data.bin", 3_000_000);
    let resumed = async |from: &Agent, path: &str| {
        let accepting = async {
            let (offer, _) = b.offer().await;
            b.accept(offer, lab.path(path)).await.unwrap()
        };
        let (sent, received) = tokio::join!(from.send(&file, "b"), accepting);
        assert_eq!(sha256(&received.file_path.unwrap()), sha256(&file));
        assert_eq!(received.resumed_from, sent.unwrap().resumed_from);
        received.resumed_from
    };
    assert_eq!([resumed(&a, "one").await, resumed(&a, "two").await], [0, 3_000_000]);
    // What others have sent is not.
    assert_eq!([resumed(&c, "three").await, resumed(&c, "four").await], [0, 3_000_000]);
    std::fs::remove_file(lab.path("two")).unwrap();
    assert_eq!(resumed(&a, "five").await, 0);
    lab.close([a, b, c]).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_and_times_arrive_with_the_file_unless_an_end_leaves_them_out() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::SystemTime;

    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    let (silent, plain) = (
        lab.agent("silent", |options| options.preserve = false),
        lab.agent("plain", |options| options.preserve = false),
    );
    b.watch(Some(lab.path("in")));
    plain.watch(Some(lab.path("plain")));
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500_000_000_123);
    let file = |name: &str, mode| {
        let path = lab.file(name, 100);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        fs::File::options().read(true).open(&path).unwrap().set_modified(time).unwrap();
        path
    };
    let arrived = |path: &str| {
        let metadata = fs::metadata(lab.path(path)).unwrap();
        (metadata.mode() & 0o7777, metadata.modified().unwrap() == time)
    };
    a.send(&file("private", 0o600), "b").await.unwrap();
    assert_eq!(arrived("in/private"), (0o600, true));
    a.send(&file("program", 0o4755), "b").await.unwrap();
    let (mode, is_kept) = arrived("in/program");
    assert!(mode & 0o100 == 0o100 && mode & !0o755 == 0 && is_kept, "{mode:o}");
    silent.send(&file("untold", 0o644), "b").await.unwrap();
    assert_eq!(arrived("in/untold"), (0o600, false));
    a.send(&file("private", 0o600), "plain").await.unwrap();
    assert_eq!(arrived("plain/private"), (0o600, false));
    a.send(&file("program", 0o755), "plain").await.unwrap();
    let (mode, is_kept) = arrived("plain/program");
    assert!(mode & 0o111 == 0 && !is_kept, "{mode:o}");
    lab.close([a, b, silent, plain]).await;
}

/// What is remembered of a file: its numbers as they are, and this content.
#[cfg(unix)]
fn hash_entry(file: &std::path::Path, content: &[u8]) -> (String, Vec<u8>) {
    use std::os::unix::fs::MetadataExt as _;

    use sha2::{Digest as _, Sha256};
    use xxhash_rust::xxh3::xxh3_128;

    let is = std::fs::metadata(file).unwrap();
    let times = [is.mtime(), is.mtime_nsec(), is.ctime(), is.ctime_nsec()].map(i64::cast_unsigned);
    let numbers = [&[is.dev(), is.ino(), is.size()][..], &times].concat();
    let mut entry = b"atshash1".to_vec();
    entry.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    entry.extend(Sha256::digest(content));
    entry.extend(content.chunks(4 << 20).flat_map(|block| xxh3_128(block).to_be_bytes()));
    entry.extend(xxh3_128(&entry).to_be_bytes());
    (format!("{:x}-{:x}.hash", is.dev(), is.ino()), entry)
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_that_is_remembered_is_used_and_one_that_proves_wrong_is_made_anew() {
    use crate::lab::content;

    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let (file, len) = (lab.file("data.bin", 5_000_000), 5_000_000);
    let hashes = lab.path("home-a").join("hashes");
    std::fs::create_dir_all(&hashes).unwrap();
    let remember = |content: &[u8]| {
        let (name, entry) = hash_entry(&file, content);
        std::fs::write(hashes.join(name), entry).unwrap();
    };
    remember(&content(len));
    let first = a.send(&file, "b").await.unwrap();
    assert_eq!(
        (first.hash.as_str(), a.seen()),
        (&*sha256(&file), vec!["transfer_start", "transfer_complete"])
    );
    let mut other = content(len);
    other[0] ^= 1;
    remember(&other);
    let second = a.send(&file, "b").await.unwrap();
    assert_eq!(second.hash, first.hash);
    let failed = ["transfer_start", "transfer_failed", "transfer_start", "transfer_complete"];
    assert_eq!(a.seen()[2..], failed);
    let Event::Warning { message } = a.event_named("warning").await else { unreachable!() };
    assert!(message.contains("data.bin") && message.contains("anew"), "{message}");
    assert_eq!(sha256(&lab.path("in").join("data (1).bin")), second.hash);
    assert_eq!(lab.listing("in").len(), 2);
    // Written a moment ago, it is not remembered as it is now either.
    assert_eq!(lab.listing("home-a/hashes"), Vec::<String>::new());
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_reaches_the_sender_with_its_reason() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(None);
    let file = lab.file("data.csv", 10);
    let rejecting = async {
        let (offer, _) = b.offer().await;
        b.node.reject(offer, Some("not today")).await.unwrap();
        let again = b.node.reject(offer, None).await.unwrap_err();
        assert_eq!(again.code, Code::AlreadyAnswered);
    };
    let (sent, ()) = tokio::join!(a.send(&file, "b"), rejecting);
    let error = sent.unwrap_err();
    assert_eq!(error.code, Code::Rejected);
    assert!(error.message.contains("not today"), "{error}");
    assert!(error.transfer_id.is_some() && error.task_id.is_some());
    assert_eq!(a.seen(), ["transfer_failed"]);
    a.node.destroy().await;
    b.node.destroy().await;
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_nobody_takes_expires_and_is_cancelled() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |options| options.timeout = Duration::from_millis(300));
    let error = a.send(&lab.file("data.csv", 10), "nobody").await.unwrap_err();
    assert_eq!(error.code, Code::OfferExpired);
    let status = a.node.status(&error.task_id.unwrap()).await.unwrap();
    assert_eq!(status.task.status, Status::Cancelled);
    a.node.destroy().await;
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_does_not_want_is_rejected_at_once() {
    let lab = Lab::new().await;
    let a = lab.agent("a", |_| {});
    let small = lab.agent("small", |options| options.max_file_size = Some(9000));
    let choosy = lab.agent("choosy", |options| options.allowed_peers = allowed(&["c"]));
    small.watch(Some(lab.path("in")));
    choosy.watch(Some(lab.path("in")));
    let file = lab.file("data.csv", 9001);
    assert_eq!(a.send(&file, "small").await.unwrap_err().code, Code::Rejected);
    assert_eq!(a.send(&file, "choosy").await.unwrap_err().code, Code::Rejected);
    // Its archive has 2560 bytes; on a disk a folder and a file have a block each beside that.
    let folder = lab.path("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("small"), "small").unwrap();
    let error = a.send(&folder, "small").await.unwrap_err();
    assert_eq!(error.code, Code::Rejected);
    assert!(error.message.contains("may take 10752 bytes"), "{error}");
    assert_eq!(small.seen(), ["transfer_failed", "transfer_failed"]);
    assert_eq!(std::fs::read_dir(lab.path("in")).unwrap().count(), 0);
    for agent in [a, small, choosy] {
        agent.node.destroy().await;
    }
    lab.close([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_destroyed_half_way_leaves_nothing_behind() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let file = lab.file("large.bin", 200_000_000);
    let destroying = async {
        b.moving().await;
        b.node.destroy().await;
    };
    let (sent, ()) = tokio::join!(a.send(&file, "b"), destroying);
    assert_eq!(sent.unwrap_err().code, Code::RemoteError);
    assert_eq!(std::fs::read_dir(lab.path("in")).unwrap().count(), 0);
    assert_eq!(b.seen(), ["transfer_start", "transfer_failed"]);
    a.node.destroy().await;
    lab.close([]).await;
}
