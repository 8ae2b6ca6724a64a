//! Files moved over real encrypted streams, between ours and ours, and ours and peers that do as they like.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ats_p2p::{
    error::Code,
    files::{
        Existing, OfferedTree, Partial, PartialTree, Preserved, SafeName, Sink, Source, Target, TreeOptions,
    },
    pump::{self, Control, MAX_MESSAGE, Outlet, PumpError, Reception},
    wire::{DONE, Decoder, Fault, FrameType, Meta, Piece, encode},
};
use secret_stream::{Io, KeyPair, SecretStream};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

type Transport = Io<DuplexStream>;
type Stream = SecretStream<Transport>;

const ID: &str = "0123456789abcdef";

/// Long enough that nothing here ever waits so long.
const PATIENT: Duration = Duration::from_secs(60);

/// Short enough to wait for.
const IMPATIENT: Duration = Duration::from_millis(200);

/// Two ends of an encrypted stream, with `room` bytes between them.
async fn streams(room: usize) -> (Stream, Stream) {
    let (a, b) = tokio::io::duplex(room);
    let (a, b) = tokio::join!(
        SecretStream::handshake_xx(true, KeyPair::generate(), Io(a)),
        SecretStream::handshake_xx(false, KeyPair::generate(), Io(b)),
    );
    (a.expect("a stream"), b.expect("a stream"))
}

/// Two ends of a path that carries `rate` bytes a second from the first to the second, however late it is
/// looked after, and all at once in the other direction.
fn narrow(rate: u128) -> (DuplexStream, DuplexStream) {
    let ((a, inner_a), (inner_b, b)) = (tokio::io::duplex(64), tokio::io::duplex(1 << 20));
    let (mut from_a, mut to_a) = tokio::io::split(inner_a);
    let (mut from_b, mut to_b) = tokio::io::split(inner_b);
    tokio::spawn(async move {
        let (begun, mut carried) = (tokio::time::Instant::now(), 0);
        let mut byte = [0];
        while from_a.read_exact(&mut byte).await.is_ok() && to_b.write_all(&byte).await.is_ok() {
            carried += 1;
            while begun.elapsed().as_millis() * rate / 1000 < carried {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    tokio::spawn(async move { tokio::io::copy(&mut from_b, &mut to_a).await });
    (a, b)
}

fn control(idle: Duration) -> Control {
    Control::new(watch::Sender::new(0), CancellationToken::new(), idle)
}

fn content(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

/// A file to send and a folder to receive in.
struct Files {
    dir: TempDir,
    source: Source,
    meta: Meta,
    content: Vec<u8>,
}

impl Files {
    fn new(size: usize) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("sent.bin");
        let content = content(size);
        fs::write(&path, &content).expect("written");
        let source = Source::open(&path).expect("opened");
        let hash = source.hash(|_| {}, &CancellationToken::new()).expect("hashed");
        let meta =
            Meta { name: "sent.bin".into(), size: source.size(), hash, transfer_id: None, resume: false };
        fs::create_dir(dir.path().join("in")).expect("made");
        Self { dir, source, meta, content }
    }

    /// A folder of two files, whose archive is the content.
    fn of_folder() -> Self {
        let mut files = Self::new(300_000);
        let tree = files.dir.path().join("tree");
        fs::create_dir_all(tree.join("sub")).expect("made");
        fs::write(tree.join("sub/large"), &files.content).expect("written");
        fs::write(tree.join("small"), "small").expect("written");
        let opened = Source::open_any(&tree, &TreeOptions::default(), &CancellationToken::new());
        files.source = opened.expect("opened");
        let hash = files.source.hash(|_| {}, &CancellationToken::new()).expect("hashed");
        files.content.resize(usize::try_from(files.source.size()).expect("small"), 0);
        files.source.read_exact_at(&mut files.content, 0).expect("read");
        files.meta = Meta { name: "tree.tar".into(), size: files.source.size(), hash, ..files.meta };
        files
    }

    fn path(&self) -> &Path {
        self.source.path().expect("a path")
    }

    fn save_dir(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    fn partial(&self) -> Partial {
        let name = SafeName::from_offered(&self.meta.name);
        let target = Target::InFolder { dir: self.save_dir(), name, existing: Existing::Rename };
        Partial::create(&target, ID, self.meta.size).expect("created")
    }

    /// Where the file goes, or the folder.
    fn sink(&self) -> Sink {
        let Some(tree) = self.source.tree() else { return self.partial().into() };
        let name = SafeName::from_offered("tree");
        let target = Target::InFolder { dir: self.save_dir(), name, existing: Existing::Rename };
        let offered = OfferedTree { size: self.meta.size, holds: tree, preserved: Preserved::default() };
        PartialTree::create(&target, ID, offered).expect("created").into()
    }

    fn assert_nothing_received(&self) {
        assert_eq!(fs::read_dir(self.save_dir()).expect("a folder").count(), 0);
    }

    /// META, all of DATA and DONE, as a sender's bytes.
    fn frames(&self) -> Vec<u8> {
        let mut bytes = self.meta.encode().expect("fits");
        for piece in self.content.chunks(65_536) {
            bytes.extend(encode(FrameType::Data, piece));
        }
        bytes.extend(DONE);
        bytes
    }

    async fn send(&self, stream: Stream, control: &Control) -> Result<(), PumpError> {
        pump::send(stream.into(), &self.source, &self.meta, control).await?.end().await;
        Ok(())
    }

    /// Receives as a whole: metadata, bytes, final name, acknowledgement.
    async fn receive(&self, stream: Stream, control: &Control) -> Result<PathBuf, PumpError> {
        let mut incoming = Reception::new(stream.into(), self.meta.clone());
        incoming.meta(control).await?;
        let verified = incoming.body(self.partial(), control).await?;
        assert_eq!((&verified.hash, verified.size), (&self.meta.hash, self.meta.size));
        let path = verified.commit().await?.expect("a path");
        incoming.ack().await?;
        Ok(path)
    }
}

/// The frames that a peer sends until its end, the bytes of DATA left out; and whether it ended in order.
async fn hear(stream: &mut Stream) -> (Vec<(FrameType, String)>, bool) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    loop {
        match stream.recv().await {
            Ok(Some(message)) => decoder.handle(message.freeze()),
            ended => return (frames, ended.is_ok()),
        }
        while let Some(piece) = decoder.poll().expect("frames") {
            if let Piece::Frame(kind, payload) = piece {
                frames.push((kind, String::from_utf8(payload.to_vec()).expect("text")));
            }
        }
    }
}

mod both {
    use super::*;

    #[tokio::test]
    async fn files_of_every_size_arrive() {
        for size in [0, 1, 65_535, 65_536, 65_537, 1 << 20, 3_500_000] {
            let files = Files::new(size);
            let (a, b) = streams(1 << 20).await;
            let (sending, receiving) = (control(PATIENT), control(PATIENT));
            let (sent, received) = tokio::join!(files.send(a, &sending), files.receive(b, &receiving));
            sent.expect("sent");
            let path = received.expect("received");
            assert!(fs::read(path).expect("read") == files.content, "{size} bytes");
            assert_eq!(*sending.progress.borrow(), files.meta.size);
            assert_eq!(*receiving.progress.borrow(), files.meta.size);
        }
    }

    #[tokio::test]
    async fn a_slow_path_that_moves_is_waited_for_though_no_message_comes_in_time() {
        let files = Files::new(130_000);
        // A message of 64 KiB takes longer than nothing may move; the floor takes far shorter.
        let idle = Duration::from_millis(500);
        let (a, b) = narrow(80_000);
        let (a, b) = tokio::join!(
            SecretStream::handshake_xx(true, KeyPair::generate(), Io(a)),
            SecretStream::handshake_xx(false, KeyPair::generate(), Io(b)),
        );
        let (sending, receiving) = (control(idle), control(idle));
        let (sent, received) = tokio::join!(
            files.send(a.expect("a stream"), &sending),
            files.receive(b.expect("a stream"), &receiving)
        );
        sent.expect("sent");
        assert!(fs::read(received.expect("received")).expect("read") == files.content);
    }

    #[tokio::test]
    async fn several_receivers_are_served_from_one_source() {
        let files = Files::new(2_000_000);
        let transfers = (0..3).map(|_| async {
            let (a, b) = streams(1000).await;
            let mut incoming = Reception::new(b.into(), files.meta.clone());
            let (send, receive) = (control(PATIENT), control(PATIENT));
            let dir = tempfile::tempdir().expect("a folder");
            let name = SafeName::from_offered("x");
            let target = Target::InFolder { dir: dir.path().to_owned(), name, existing: Existing::Rename };
            let receive = async {
                incoming.meta(&receive).await?;
                let partial = Partial::create(&target, ID, files.meta.size)?;
                let verified = incoming.body(partial, &receive).await?;
                let path = verified.commit().await?.expect("a path");
                incoming.ack().await?;
                Ok::<_, PumpError>(fs::read(path).expect("read"))
            };
            let (sent, received) = tokio::join!(files.send(a, &send), receive);
            sent.expect("sent");
            assert!(received.expect("received") == files.content);
        });
        futures_util::future::join_all(transfers).await;
    }

    #[tokio::test]
    async fn cancelling_the_sender_tells_the_receiver() {
        let files = Files::new(10_000_000);
        let (a, b) = streams(1000).await;
        let (sending, receiving) = (control(PATIENT), control(PATIENT));
        let cancel = async {
            let mut progress = receiving.progress.subscribe();
            progress.wait_for(|bytes| *bytes > 0).await.expect("bytes");
            sending.cancel.cancel();
        };
        let (sent, received, ()) =
            tokio::join!(files.send(a, &sending), files.receive(b, &receiving), cancel);
        assert!(matches!(sent, Err(PumpError::Cancelled)), "{sent:?}");
        let received = received.expect_err("cancelled");
        assert_eq!(received.code(), Code::RemoteError, "{received}");
        files.assert_nothing_received();
    }

    #[tokio::test]
    async fn cancelling_the_receiver_tells_the_sender() {
        let files = Files::new(10_000_000);
        let (a, b) = streams(1000).await;
        let (sending, receiving) = (control(PATIENT), control(PATIENT));
        let cancel = async {
            let mut progress = receiving.progress.subscribe();
            progress.wait_for(|bytes| *bytes > 0).await.expect("bytes");
            receiving.cancel.cancel();
        };
        let (sent, received, ()) =
            tokio::join!(files.send(a, &sending), files.receive(b, &receiving), cancel);
        assert!(matches!(received, Err(PumpError::Cancelled)), "{received:?}");
        let sent = sent.expect_err("cancelled");
        assert_eq!(sent.code(), Code::RemoteError, "{sent}");
        files.assert_nothing_received();
    }

    #[tokio::test]
    async fn a_file_that_changed_is_never_taken_for_the_one_offered() {
        let files = Files::new(5_000_000);
        // Same size, and the time it was modified put back: only the bytes tell.
        let modified = fs::metadata(files.path()).expect("there").modified().expect("known");
        let mut changed = files.content.clone();
        changed[4_999_999] ^= 1;
        fs::write(files.path(), changed).expect("written");
        let file = fs::File::options().write(true).open(files.path()).expect("opened");
        file.set_modified(modified).expect("set");
        files.source.check().expect("nothing to see");

        let (a, b) = streams(1000).await;
        let (sending, receiving) = (control(PATIENT), control(PATIENT));
        let (sent, received) = tokio::join!(files.send(a, &sending), files.receive(b, &receiving));
        assert_eq!(sent.expect_err("changed").code(), Code::SourceChanged);
        let received = received.expect_err("changed");
        assert_eq!(received.code(), Code::RemoteError);
        assert!(received.to_string().contains("SOURCE_CHANGED"), "{received}");
        assert!(!received.to_string().contains("sent.bin"), "{received}");
        files.assert_nothing_received();
    }

    #[tokio::test]
    async fn a_final_name_that_can_not_be_had_is_told() {
        let files = Files::new(100);
        let path = files.save_dir().join("taken");
        let (a, b) = streams(1000).await;
        let (sending, receiving) = (control(PATIENT), control(PATIENT));
        let receive = async {
            let mut incoming = Reception::new(b.into(), files.meta.clone());
            incoming.meta(&receiving).await.expect("as offered");
            let target = Target::Exact { path: path.clone(), overwrite: false };
            let partial = Partial::create(&target, ID, files.meta.size).expect("created");
            let verified = incoming.body(partial, &receiving).await.expect("verified");
            fs::write(&path, "theirs").expect("written");
            let error = verified.commit().await.expect_err("taken");
            incoming.refuse(&error).await;
            error
        };
        let (sent, error) = tokio::join!(files.send(a, &sending), receive);
        assert_eq!(error.code(), Code::AlreadyExists);
        let sent = sent.expect_err("refused");
        assert!(matches!(sent, PumpError::Nack(_)) && sent.code() == Code::RemoteError, "{sent}");
        assert_eq!(fs::read(&path).expect("read"), b"theirs");
    }
}

mod receiver {
    use super::*;

    /// What a receiver makes of a sender's bytes, and what it says to that.
    async fn after(files: &Files, bytes: &[u8]) -> (Result<PathBuf, PumpError>, Vec<(FrameType, String)>) {
        let (mut a, b) = streams(1 << 20).await;
        let control = control(PATIENT);
        let talk = async {
            a.send(bytes).await.expect("sent");
            let (frames, orderly) = hear(&mut a).await;
            assert!(orderly, "the receiver ends the stream");
            frames
        };
        let (received, heard) = tokio::join!(files.receive(b, &control), talk);
        (received, heard)
    }

    async fn assert_refused(files: &Files, bytes: &[u8], expected: Fault) {
        let (received, heard) = after(files, bytes).await;
        let Err(PumpError::Fault(fault)) = received else { panic!("{received:?}") };
        assert_eq!(fault, expected);
        let [(kind, reason)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(*kind, fault.answer());
        assert!(reason.contains(&fault.to_string()), "{reason}");
        files.assert_nothing_received();
    }

    #[tokio::test]
    async fn frames_may_be_cut_and_joined_anywhere() {
        let files = Files::new(200_000);
        let bytes = files.frames();
        for cut in [1_000_000, 65_541, 65_536, 1500, 7] {
            let (mut a, b) = streams(1 << 20).await;
            let control = control(PATIENT);
            let talk = async {
                for run in bytes.chunks(cut) {
                    a.send(run).await.expect("sent");
                }
                hear(&mut a).await.0
            };
            let (received, heard) = tokio::join!(files.receive(b, &control), talk);
            assert!(fs::read(received.expect("received")).expect("read") == files.content);
            assert_eq!(heard, [(FrameType::Ack, String::new())]);
        }
    }

    #[tokio::test]
    async fn frames_joined_up_to_the_longest_message_are_received() {
        // One message holds META and three whole DATA frames, the next is as long as any may be.
        let files = Files::new(MAX_MESSAGE + 3 * 65_536);
        let bytes = files.frames();
        let (mut a, b) = streams(1000).await;
        let control = control(PATIENT);
        let talk = async {
            let (first, rest) = bytes.split_at(bytes.len() - MAX_MESSAGE);
            a.send(first).await.expect("sent");
            a.send(rest).await.expect("sent");
            hear(&mut a).await.0
        };
        let (received, heard) = tokio::join!(files.receive(b, &control), talk);
        assert!(fs::read(received.expect("received")).expect("read") == files.content);
        assert_eq!(heard, [(FrameType::Ack, String::new())]);
    }

    #[tokio::test]
    async fn a_message_longer_than_any_peer_sends_is_not_taken_in() {
        let files = Files::new(2_000_000);
        let frames = files.frames();
        // The last is what a stranger can have us hold where nothing is said of it.
        for bytes in [&frames[..=MAX_MESSAGE], &frames, &vec![1; 16_000_000]] {
            let (mut a, b) = streams(1000).await;
            let control = control(PATIENT);
            let talk = async {
                let _ = a.send(bytes).await;
                let flushed = a.flush().await;
                (flushed.is_err(), hear(&mut a).await.0)
            };
            let (received, told) = tokio::join!(files.receive(b, &control), talk);
            let error = received.expect_err("refused");
            assert!(
                matches!(error, PumpError::Connection(secret_stream::Error::FrameLength { .. })),
                "{error}"
            );
            assert_eq!(told, (true, vec![]), "taken in, as it seems");
            files.assert_nothing_received();
        }
    }

    #[tokio::test]
    async fn metadata_that_differs_is_refused() {
        let files = Files::new(100);
        let other = Meta { size: 99, ..files.meta.clone() }.encode().expect("fits");
        assert_refused(&files, &other, Fault::MetaDiffers { field: "size" }).await;
    }

    #[tokio::test]
    async fn a_byte_too_many_or_too_few_is_refused() {
        let files = Files::new(100);
        let meta = files.meta.encode().expect("fits");
        let with = |len: usize| [&meta, &encode(FrameType::Data, &vec![0; len])[..], &DONE].concat();
        assert_refused(&files, &with(101), Fault::TooManyBytes { size: 100 }).await;
        assert_refused(&files, &with(99), Fault::TooFewBytes { received: 99, size: 100 }).await;
    }

    #[tokio::test]
    async fn other_bytes_than_offered_are_refused() {
        let files = Files::new(0);
        let files = Files { meta: Meta { size: 3, ..files.meta.clone() }, ..files };
        let bytes =
            [&files.meta.encode().expect("fits"), &encode(FrameType::Data, b"abc")[..], &DONE].concat();
        let actual = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into();
        assert_refused(&files, &bytes, Fault::HashDiffers { actual }).await;
    }

    #[tokio::test]
    async fn breaches_of_the_protocol_are_refused() {
        let files = Files::new(100);
        let frames = files.frames();
        let long = Fault::TooLong { kind: FrameType::Meta, len: u32::MAX };
        assert_refused(&files, b"\x01\xff\xff\xff\xff", long).await;
        assert_refused(&files, b"GET / HTTP/1.1\r\n", Fault::UnknownType(b'G')).await;
        let out_of_order = |kind| Fault::OutOfOrder { kind };
        assert_refused(&files, &DONE, out_of_order(FrameType::Done)).await;
        let twice = [&files.meta.encode().expect("fits")[..], &frames].concat();
        assert_refused(&files, &twice, out_of_order(FrameType::Meta)).await;
        let more = [&frames[..], &encode(FrameType::Data, b"x")].concat();
        assert_refused(&files, &more, out_of_order(FrameType::Data)).await;
    }

    #[tokio::test]
    async fn a_sender_that_gives_up_is_believed() {
        let files = Files::new(100);
        let bytes = [&files.meta.encode().expect("fits")[..], &encode(FrameType::Error, b"sorry")].concat();
        let (received, heard) = after(&files, &bytes).await;
        assert!(matches!(received, Err(PumpError::Remote(reason)) if reason == "sorry"));
        assert!(heard.is_empty());
        files.assert_nothing_received();
    }

    #[tokio::test]
    async fn a_sender_that_leaves_is_a_lost_connection() {
        let files = Files::new(100_000);
        let bytes = files.frames();
        for end in [0, 50, 60_000] {
            for orderly in [true, false] {
                let (mut a, b) = streams(1 << 20).await;
                let control = control(PATIENT);
                let talk = async {
                    a.send(&bytes[..end]).await.expect("sent");
                    a.flush().await.expect("flushed");
                    if orderly {
                        a.shutdown().await.expect("ended");
                    }
                    drop(a);
                };
                let (received, ()) = tokio::join!(files.receive(b, &control), talk);
                let error = received.expect_err("lost");
                assert!(error.is_lost_connection(), "{error}");
                files.assert_nothing_received();
            }
        }
    }

    #[tokio::test]
    async fn cancelled_while_its_reader_waits_it_tells_the_sender_though_all_has_come() {
        const PIECE: usize = 65_536;
        // Two wait at the reader; the third waits with the thread that hands over, and the last behind it.
        let files = Files::new(4 * PIECE);
        let (mut a, b) = streams(1 << 20).await;
        let control = control(PATIENT);
        let (outlet, _reader) = Outlet::new();
        let receive = async {
            let mut incoming = Reception::new(b.into(), files.meta.clone());
            incoming.meta(&control).await.expect("as offered");
            incoming.body(outlet, &control).await.map(drop)
        };
        let talk = async {
            a.send(&files.meta.encode().expect("fits")).await.expect("sent");
            let mut come = control.progress.subscribe();
            for (before, piece) in files.content.chunks(PIECE).enumerate() {
                let end = (before + 1) * PIECE;
                let mut frames = encode(FrameType::Data, piece).to_vec();
                if end == files.content.len() {
                    // In the same message, so that the end has come where the last bytes have.
                    frames.extend(DONE);
                }
                a.send(&frames).await.expect("sent");
                come.wait_for(|bytes| *bytes == end as u64).await.expect("come");
            }
            control.cancel.cancel();
            hear(&mut a).await.0
        };
        let all = async { tokio::join!(receive, talk) };
        let (received, heard) = timeout(PATIENT, all).await.expect("an end");
        assert!(matches!(received.map_err(PumpError::from), Err(PumpError::Cancelled)));
        assert!(matches!(&heard[..], [(FrameType::Error, _)]), "{heard:?}");
    }

    #[tokio::test]
    async fn silence_ends_by_itself_before_and_amid_the_file() {
        let files = Files::new(100_000);
        let bytes = files.frames();
        for end in [0, 3, 50_000] {
            let (mut a, b) = streams(1 << 20).await;
            a.send(&bytes[..end]).await.expect("sent");
            let error = files.receive(b, &control(IMPATIENT)).await.expect_err("silence");
            assert!(matches!(error, PumpError::Stalled), "{error}");
            let (heard, _) = hear(&mut a).await;
            assert!(matches!(&heard[..], [(FrameType::Error, _)]), "{heard:?}");
            files.assert_nothing_received();
        }
    }

    #[tokio::test]
    async fn frames_without_a_byte_of_the_file_are_no_progress() {
        let files = Files::new(100_000);
        let (mut a, b) = streams(1 << 16).await;
        let talk = async {
            a.send(&files.meta.encode().expect("fits")).await.expect("sent");
            while a.send(&encode(FrameType::Data, b"")).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let control = control(IMPATIENT);
        let receive = timeout(PATIENT, files.receive(b, &control));
        let (error, ()) = tokio::join!(receive, talk);
        assert!(matches!(error, Ok(Err(PumpError::Stalled))), "{error:?}");
    }

    #[tokio::test]
    async fn a_sender_that_trickles_holds_no_place_longer_than_a_silent_one() {
        let files = Files::new(100_000);
        let (mut a, b) = streams(1 << 16).await;
        let talk = async {
            a.send(&files.meta.encode().expect("fits")).await.expect("sent");
            while a.send(&encode(FrameType::Data, b"x")).await.is_ok() {
                tokio::time::sleep(IMPATIENT / 50).await;
            }
        };
        let control = control(IMPATIENT);
        let receive = timeout(PATIENT, files.receive(b, &control));
        let (error, ()) = tokio::join!(receive, talk);
        assert!(matches!(error, Ok(Err(PumpError::Stalled))), "{error:?}");
        assert!(*control.progress.borrow() < 4096);
        files.assert_nothing_received();
    }

    #[tokio::test]
    async fn metadata_that_comes_bit_by_bit_is_due_in_time_as_a_whole() {
        let files = Files::new(100);
        let (mut a, b) = streams(1 << 16).await;
        let talk = async {
            // The frame announces more than ever comes.
            let frame = encode(FrameType::Meta, &[b' '; 60_000]);
            for byte in &frame[..50_000] {
                if a.send(std::slice::from_ref(byte)).await.is_err() {
                    return;
                }
                tokio::time::sleep(IMPATIENT / 50).await;
            }
        };
        let control = control(IMPATIENT);
        let receive = timeout(PATIENT, files.receive(b, &control));
        let (error, ()) = tokio::join!(receive, talk);
        assert!(matches!(error, Ok(Err(PumpError::Stalled))), "{error:?}");
    }

    #[tokio::test]
    async fn a_run_that_is_given_up_leaves_nothing() {
        let files = Files::new(100_000);
        let (mut a, b) = streams(1 << 20).await;
        a.send(&files.frames()[..50_000]).await.expect("sent");
        let control = control(PATIENT);
        let mut progress = control.progress.subscribe();
        tokio::select! {
            result = files.receive(b, &control) => panic!("{result:?}"),
            moved = progress.wait_for(|bytes| *bytes > 0) => { moved.expect("bytes"); }
        }
        // The thread that writes sees it a moment later.
        timeout(PATIENT, async {
            while fs::read_dir(files.save_dir()).expect("a folder").count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("removed");
    }

    #[tokio::test]
    async fn the_first_candidate_with_the_right_metadata_is_served() {
        let files = Files::new(100_000);
        let control = control(PATIENT);
        let (mut wrong, a) = streams(1000).await;
        let (_silent, b) = streams(1000).await;
        let (right, c) = streams(1000).await;
        wrong.send(&DONE).await.expect("sent");
        let mut candidates = [a, b, c].map(|stream| Reception::new(stream.into(), files.meta.clone()));
        let sending = self::control(PATIENT);
        let receive = async {
            let [a, b, c] = &mut candidates;
            assert!(a.meta(&control).await.is_err());
            tokio::select! {
                result = b.meta(&control) => panic!("{result:?}"),
                result = c.meta(&control) => result.expect("as offered"),
            }
            let verified = c.body(files.partial(), &control).await.expect("verified");
            verified.commit().await.expect("committed");
            let [_, _, c] = candidates;
            c.ack().await.expect("told");
        };
        let (sent, ()) = tokio::join!(files.send(right, &sending), receive);
        sent.expect("sent");
    }
}

mod resume {
    use super::*;
    use ats_p2p::pump::{Intake, Interrupted, Verified};

    fn asking(files: &Files) -> Meta {
        Meta { resume: true, ..files.meta.clone() }
    }

    /// Takes from `stream` what `partial` does not hold yet.
    async fn body(
        files: &Files,
        stream: Stream,
        partial: impl Into<Intake>,
    ) -> Result<Verified, Interrupted> {
        let control = control(PATIENT);
        let mut reception = Reception::new(stream.into(), files.meta.clone());
        reception.meta(&control).await?;
        let verified = reception.body(partial, &control).await?;
        reception.ack().await?;
        Ok(verified)
    }

    /// What is left of a connection on which these bytes came behind META, and that was cut then.
    async fn cut_after(files: &Files, bytes: &[u8]) -> Sink {
        let (mut a, b) = streams(1 << 20).await;
        let sender = async {
            a.send(&asking(files).encode().expect("fits")).await.expect("sent");
            let resume = a.recv().await.expect("heard").expect("a frame");
            assert_eq!(resume[..], encode(FrameType::Resume, br#"{"offset":0}"#));
            for piece in bytes.chunks(50_000) {
                a.send(&encode(FrameType::Data, piece)).await.expect("sent");
            }
            a.flush().await.expect("flushed");
            drop(a);
        };
        let (received, ()) = tokio::join!(body(files, b, files.sink()), sender);
        let interrupted = received.expect_err("cut");
        assert!(interrupted.error.is_lost_connection(), "{interrupted:?}");
        let Some(Intake::Disk(partial)) = interrupted.sink else { panic!("kept") };
        *partial
    }

    /// Sends the file, and returns how much of it went over the stream.
    async fn send(files: &Files, stream: Stream) -> (Result<(), PumpError>, u64) {
        let control = control(PATIENT);
        let mut told = control.progress.subscribe();
        let first = async {
            let moved = told.wait_for(|bytes| *bytes > 0).await;
            moved.map_or(0, |bytes| *bytes)
        };
        let meta = asking(files);
        let sent = pump::send(stream.into(), &files.source, &meta, &control);
        let sent = async { sent.await.map(drop) };
        let (sent, first) = tokio::join!(sent, async { timeout(PATIENT, first).await.unwrap_or(0) });
        (sent, *control.progress.borrow() - first)
    }

    #[tokio::test]
    async fn what_is_here_is_not_sent_again() {
        let files = Files::new(6_000_000);
        for kept in [0, 1, 100_000, 4_194_304, 5_999_999, 6_000_000] {
            let partial = cut_after(&files, &files.content[..kept]).await;
            assert_eq!(partial.written(), kept as u64);
            let (a, b) = streams(1 << 20).await;
            let ((sent, moved), received) = tokio::join!(send(&files, a), body(&files, b, partial));
            sent.expect("sent");
            assert!(moved <= (6_000_000 - kept) as u64, "{moved} bytes behind {kept}");
            let path = received.expect("received").commit().await.expect("committed").expect("a path");
            assert!(fs::read(path).expect("read") == files.content);
            fs::remove_file(files.save_dir().join("sent.bin")).expect("removed");
        }
    }

    #[tokio::test]
    async fn a_folder_goes_on_wherever_it_was() {
        let files = Files::of_folder();
        let len = files.content.len();
        for kept in [0, 100, 1024, 200_000, len - 1, len] {
            let sink = cut_after(&files, &files.content[..kept]).await;
            assert_eq!(sink.written(), kept as u64);
            let (a, b) = streams(1 << 20).await;
            let ((sent, moved), received) = tokio::join!(send(&files, a), body(&files, b, sink));
            sent.expect("sent");
            assert!(moved <= (len - kept) as u64, "{moved} bytes behind {kept}");
            let path = received.expect("received").commit().await.expect("committed").expect("a path");
            assert_eq!(path, files.save_dir().join("tree"));
            for name in ["sub/large", "small"] {
                let there = fs::read(files.path().join(name)).expect("read");
                assert!(fs::read(path.join(name)).expect("read") == there, "{name} after {kept}");
            }
            fs::remove_dir_all(path).expect("removed");
        }
    }

    #[tokio::test]
    async fn a_folder_that_turns_out_wrong_in_the_end_comes_once_more() {
        let files = Files::of_folder();
        let mut wrong = files.content[..100_000].to_vec();
        // A byte of a file.
        *wrong.last_mut().expect("bytes") ^= 1;
        let sink = cut_after(&files, &wrong).await;
        let (a, b) = streams(1 << 20).await;
        let (_, received) = tokio::join!(send(&files, a), body(&files, b, sink));
        let Err(Interrupted { error, sink: Some(mut sink) }) = received else { panic!("{received:?}") };
        assert!(matches!(error, PumpError::Spoilt(_)), "{error}");
        sink.clear().expect("cleared");
        let (a, b) = streams(1 << 20).await;
        let ((sent, _), received) = tokio::join!(send(&files, a), body(&files, b, sink));
        sent.expect("sent");
        let path = received.expect("received").commit().await.expect("committed").expect("a path");
        assert_eq!(fs::read_to_string(path.join("small")).expect("read"), "small");
    }

    #[tokio::test]
    async fn what_is_no_archive_ends_the_transfer_and_is_told() {
        let mut files = Files::of_folder();
        files.content[600] ^= 1;
        files.meta.hash = hex::encode(Sha256::digest(&files.content));
        let (mut a, b) = streams(1 << 20).await;
        let sender = async {
            for piece in files.frames().chunks(50_000) {
                // The other end may have read enough.
                let _ = a.send(piece).await;
            }
            a.recv().await.expect("heard").expect("a frame")
        };
        let (received, told) = tokio::join!(body(&files, b, files.sink()), sender);
        let error = received.expect_err("refused").error;
        assert_eq!(error.code(), Code::Integrity, "{error}");
        assert_eq!(told[..], encode(FrameType::Nack, b"INTEGRITY: the folder can't be unpacked"));
        files.assert_nothing_received();
    }

    #[tokio::test]
    async fn what_turns_out_wrong_in_the_end_comes_once_more() {
        let files = Files::new(300_000);
        let mut wrong = files.content[..100_000].to_vec();
        wrong[7] ^= 1;
        let partial = cut_after(&files, &wrong).await;
        let (a, b) = streams(1 << 20).await;
        let ((sent, _), received) = tokio::join!(send(&files, a), body(&files, b, partial));
        let Err(Interrupted { error, sink: Some(mut partial) }) = received else { panic!("{received:?}") };
        assert!(matches!(error, PumpError::Spoilt(_)) && error.code() == Code::Integrity, "{error}");
        assert!(sent.expect_err("not told").is_lost_connection());
        partial.clear().expect("cleared");
        let (a, b) = streams(1 << 20).await;
        let ((sent, _), received) = tokio::join!(send(&files, a), body(&files, b, partial));
        sent.expect("sent");
        let path = received.expect("received").commit().await.expect("committed").expect("a path");
        assert!(fs::read(path).expect("read") == files.content);
    }

    #[tokio::test]
    async fn a_sender_that_sends_all_of_it_is_taken_at_its_word() {
        let files = Files::new(300_000);
        let partial = cut_after(&files, &files.content[..100_000]).await;
        let (a, b) = streams(1 << 20).await;
        let control = control(PATIENT);
        let (sent, received) = tokio::join!(files.send(a, &control), body(&files, b, partial));
        sent.expect("sent");
        let path = received.expect("received").commit().await.expect("committed").expect("a path");
        assert!(fs::read(path).expect("read") == files.content);
    }

    #[tokio::test]
    async fn a_sender_waits_to_be_told_where_to_begin() {
        let files = Files::new(300_000);
        for (reply, code) in [
            (encode(FrameType::Resume, br#"{"offset":300001}"#), Code::Protocol),
            (encode(FrameType::Resume, b"{}"), Code::Protocol),
            (encode(FrameType::Nack, b"no"), Code::RemoteError),
        ] {
            let (a, mut b) = streams(1 << 20).await;
            let talk = async {
                let meta = b.recv().await.expect("heard").expect("a frame");
                assert_eq!(meta[..], asking(&files).encode().expect("fits"));
                b.send(&reply).await.expect("sent");
                hear(&mut b).await.0
            };
            let ((sent, moved), heard) = tokio::join!(send_at_once(&files, a), talk);
            assert_eq!(sent.expect_err("refused").code(), code);
            assert_eq!(moved, 0);
            assert!(heard.iter().all(|(kind, _)| *kind == FrameType::Error), "{heard:?}");
        }
        let (a, _b) = streams(1 << 20).await;
        let sent = pump::send(a.into(), &files.source, &asking(&files), &control(IMPATIENT)).await;
        assert!(matches!(sent, Err(PumpError::Stalled)), "{sent:?}");
    }

    async fn send_at_once(files: &Files, stream: Stream) -> (Result<(), PumpError>, u64) {
        let control = control(PATIENT);
        let sent = pump::send(stream.into(), &files.source, &asking(files), &control).await;
        (sent.map(drop), *control.progress.borrow())
    }
}

/// A transport on which, from a moment on, nothing is heard before writing has failed: the order in which a
/// stream's two halves may learn of its end.
mod late {
    use std::{
        io,
        sync::{Arc, Mutex},
        task::{Context, Poll, Waker},
    };

    use bytes::Bytes;
    use secret_stream::{ChunkReader, ChunkWriter, Io};
    use tokio::io::DuplexStream;

    type Inner = Io<DuplexStream>;

    #[derive(Default)]
    struct State {
        is_deaf: bool,
        waker: Option<Waker>,
    }

    #[derive(Clone, Default)]
    pub(crate) struct Deaf(Arc<Mutex<State>>);

    impl Deaf {
        pub(crate) fn begin(&self) {
            self.0.lock().expect("whole").is_deaf = true;
        }

        fn end(&self) {
            let mut state = self.0.lock().expect("whole");
            state.is_deaf = false;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    pub(crate) struct Transport(Inner, Deaf);

    pub(crate) struct Reader(<Inner as secret_stream::Transport>::Reader, Deaf);

    pub(crate) struct Writer(<Inner as secret_stream::Transport>::Writer, Deaf);

    impl Transport {
        pub(crate) fn new(stream: DuplexStream) -> Self {
            Self(Io(stream), Deaf::default())
        }
    }

    impl secret_stream::Transport for Transport {
        type Reader = Reader;
        type Writer = Writer;
        type Handle = Deaf;

        fn handle(&self) -> Deaf {
            self.1.clone()
        }

        fn split(self) -> (Reader, Writer) {
            let (reader, writer) = secret_stream::Transport::split(self.0);
            (Reader(reader, self.1.clone()), Writer(writer, self.1))
        }
    }

    impl ChunkReader for Reader {
        fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
            let mut state = self.1.0.lock().expect("whole");
            if state.is_deaf {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            self.0.poll_read_chunk(cx)
        }

        fn destroy(&mut self) {
            self.0.destroy();
        }
    }

    impl ChunkWriter for Writer {
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let ready = self.0.poll_ready(cx);
            if matches!(ready, Poll::Ready(Err(_))) {
                self.1.end();
            }
            ready
        }

        fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
            self.0.write_chunk(chunk)
        }

        fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.poll_flush(cx)
        }

        fn pending(&self) -> usize {
            self.0.pending()
        }

        fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.poll_close(cx)
        }

        fn destroy(&mut self) {
            self.0.destroy();
        }
    }
}

mod sender {
    use super::*;

    /// What a sender makes of `reply`, said when it has sent everything (or at once), and what it said.
    async fn after(
        files: &Files,
        reply: &[u8],
        at_once: bool,
    ) -> (Result<(), PumpError>, Vec<(FrameType, String)>) {
        let (a, b) = streams(1 << 10).await;
        let control = control(PATIENT);
        let talk = async {
            let (mut receiver, mut sender) = b.split();
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            if at_once {
                sender.send(reply).await.expect("sent");
            }
            while let Ok(Some(message)) = receiver.recv().await {
                decoder.handle(message.freeze());
                while let Some(piece) = decoder.poll().expect("frames") {
                    let Piece::Frame(kind, payload) = piece else { continue };
                    frames.push((kind, String::from_utf8(payload.to_vec()).expect("text")));
                    if kind == FrameType::Done && !at_once {
                        for byte in reply {
                            sender.send(&[*byte]).await.expect("sent");
                        }
                    }
                }
            }
            frames
        };
        tokio::join!(files.send(a, &control), talk)
    }

    fn kinds(frames: &[(FrameType, String)]) -> Vec<FrameType> {
        frames.iter().map(|(kind, _)| *kind).collect()
    }

    #[tokio::test]
    async fn an_acknowledgement_in_pieces_is_one() {
        let files = Files::new(100_000);
        let (sent, heard) = after(&files, &encode(FrameType::Ack, b"thanks"), false).await;
        sent.expect("sent");
        assert_eq!(kinds(&heard), [FrameType::Meta, FrameType::Done]);
    }

    #[tokio::test]
    async fn an_acknowledgement_before_the_end_is_a_fault() {
        let files = Files::new(5_000_000);
        let (sent, heard) = after(&files, &encode(FrameType::Ack, b""), true).await;
        let fault = Fault::OutOfOrder { kind: FrameType::Ack };
        assert!(matches!(sent, Err(PumpError::Fault(found)) if found == fault));
        assert_eq!(kinds(&heard), [FrameType::Meta, FrameType::Error]);
    }

    #[tokio::test]
    async fn refusals_end_it_at_any_time() {
        let files = Files::new(5_000_000);
        for at_once in [true, false] {
            let (sent, _) = after(&files, &encode(FrameType::Nack, b"Hash mismatch"), at_once).await;
            assert_eq!(sent.expect_err("refused").code(), Code::Integrity);
            let (sent, _) = after(&files, &encode(FrameType::Error, b"oh no"), at_once).await;
            assert!(matches!(sent, Err(PumpError::Remote(reason)) if reason == "oh no"));
        }
    }

    #[tokio::test]
    async fn a_refusal_is_heard_though_the_receiver_leaves() {
        let files = Files::new(5_000_000);
        let (a, mut b) = streams(1 << 10).await;
        let control = control(PATIENT);
        let talk = async {
            b.recv().await.expect("metadata");
            b.send(&encode(FrameType::Nack, b"no")).await.expect("sent");
            b.flush().await.expect("flushed");
            drop(b);
        };
        let (sent, ()) = tokio::join!(files.send(a, &control), talk);
        assert!(matches!(sent, Err(PumpError::Nack(_))), "{sent:?}");
    }

    #[tokio::test]
    async fn what_was_said_is_heard_after_the_leaving_was_felt() {
        let files = Files::new(5_000_000);
        let replies = [
            (FrameType::Nack, Code::Integrity),
            (FrameType::Error, Code::RemoteError),
            (FrameType::Ack, Code::Protocol),
        ];
        for (kind, code) in replies {
            let (a, b) = tokio::io::duplex(1 << 10);
            let (a, b) = tokio::join!(
                SecretStream::handshake_xx(true, KeyPair::generate(), late::Transport::new(a)),
                SecretStream::handshake_xx(false, KeyPair::generate(), Io(b)),
            );
            let (a, mut b) = (a.expect("a stream"), b.expect("a stream"));
            let deaf = a.transport().clone();
            let control = control(PATIENT);
            let talk = async {
                b.recv().await.expect("metadata");
                deaf.begin();
                b.send(&encode(kind, b"Hash mismatch")).await.expect("sent");
                b.flush().await.expect("flushed");
                drop(b);
            };
            let sent = pump::send(a.into(), &files.source, &files.meta, &control);
            let (sent, ()) = tokio::join!(sent, talk);
            assert_eq!(sent.expect_err("refused").code(), code);
        }
    }

    #[tokio::test]
    async fn a_receiver_that_leaves_is_a_lost_connection() {
        let files = Files::new(5_000_000);
        for orderly in [true, false] {
            let (a, mut b) = streams(1 << 10).await;
            let control = control(PATIENT);
            let talk = async {
                b.recv().await.expect("metadata");
                if orderly {
                    b.shutdown().await.expect("ended");
                }
                drop(b);
            };
            let (sent, ()) = tokio::join!(files.send(a, &control), talk);
            let error = sent.expect_err("lost");
            assert!(error.is_lost_connection(), "{error}");
        }
    }

    #[tokio::test]
    async fn a_receiver_that_stops_reading_is_given_up_and_costs_little_memory() {
        let files = Files::new(30_000_000);
        let (a, _b) = streams(1 << 10).await;
        let control = control(IMPATIENT);
        let error = files.send(a, &control).await.expect_err("stalled");
        assert!(matches!(error, PumpError::Stalled), "{error}");
        assert!(*control.progress.borrow() < 4 << 20, "the stream holds little");
    }

    #[tokio::test]
    async fn a_receiver_that_takes_all_and_never_acknowledges_is_given_up() {
        // Twice as long for the file as for the word, had the disk 20 MB/s.
        let files = Files::new(4_000_000);
        let (a, mut b) = streams(1 << 20).await;
        let control = control(IMPATIENT);
        let mut taken = std::pin::pin!(hear(&mut b));
        let sending = async {
            let begun = std::time::Instant::now();
            (files.send(a, &control).await, begun.elapsed())
        };
        let (sent, took) = tokio::select! {
            sent = sending => sent,
            _ = &mut taken => panic!("the sender ended the stream without a word"),
        };
        assert!(matches!(sent, Err(PumpError::Stalled)), "{sent:?}");
        assert!(took >= 2 * IMPATIENT, "the receiver has time to bring the file to its disk: {took:?}");
        assert_eq!(*control.progress.borrow(), files.meta.size);
    }

    #[tokio::test]
    async fn a_file_that_grew_or_shrank_is_not_sent() {
        for size in [99, 101] {
            let files = Files::new(100);
            fs::write(files.path(), vec![0; size]).expect("written");
            let (sent, heard) = after(&files, b"", true).await;
            assert_eq!(sent.expect_err("changed").code(), Code::SourceChanged);
            assert_eq!(kinds(&heard), [FrameType::Meta, FrameType::Error]);
        }
    }
}
