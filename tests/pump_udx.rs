//! A file moved over UDX on the loopback, as peers of ours do it.

use std::{fs, net::SocketAddr, time::Duration};

use ats_p2p::{
    files::{Existing, Partial, SafeName, Source, Target},
    pump::{self, Control, PumpError, Reception},
    wire::Meta,
};
use secret_stream::{KeyPair, SecretStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use udx::{Socket, Stream, StreamOptions, Udx};

/// Bytes of the file: several of every buffer on the way.
const SIZE: usize = (64 << 20) + 12_345;

fn control() -> Control {
    let idle = Duration::from_secs(60);
    Control::new(watch::Sender::new(0), CancellationToken::new(), idle)
}

async fn end() -> (Udx, Socket, Stream) {
    let (udx, _datagrams) = Udx::spawn(udx::Config::default());
    let socket = udx.bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("bound");
    let stream = udx.stream(StreamOptions::default()).await.expect("a stream");
    (udx, socket, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_arrives_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sent.bin");
    let content: Vec<u8> = (0..SIZE).map(|at| (at * 31 + at / 251).to_le_bytes()[0]).collect();
    fs::write(&path, &content).expect("written");
    let source = Source::open(&path).expect("opened");
    let hash = source.hash(|_| {}, &CancellationToken::new()).expect("hashed");
    let meta = Meta { name: "sent.bin".into(), size: source.size(), hash, transfer_id: None, resume: false };

    let ((udx_a, socket_a, a), (udx_b, socket_b, b)) = (end().await, end().await);
    a.connect(&socket_a, b.id(), socket_b.local_addr()).expect("connected");
    b.connect(&socket_b, a.id(), socket_a.local_addr()).expect("connected");
    let (a, b) = tokio::join!(
        SecretStream::handshake_xx(true, KeyPair::generate(), a),
        SecretStream::handshake_xx(false, KeyPair::generate(), b),
    );
    let (a, b) = (a.expect("a stream"), b.expect("a stream"));

    let offer = meta.clone();
    let target = Target::InFolder {
        dir: dir.path().to_owned(),
        name: SafeName::from_offered("received"),
        existing: Existing::Rename,
    };
    let receive = tokio::spawn(async move {
        let control = control();
        let mut incoming = Reception::new(b.into(), offer.clone());
        incoming.meta(&control).await?;
        let partial = Partial::create(&target, "0123456789abcdef", offer.size)?;
        let path = incoming.body(partial, &control).await?.commit().await?.expect("a path");
        incoming.ack().await?;
        Ok::<_, PumpError>(path)
    });
    pump::send(a.into(), &source, &meta, &control()).await.expect("sent").end().await;
    let path = receive.await.expect("run").expect("received");
    assert!(fs::read(path).expect("read") == content);
    tokio::join!(udx_a.close(), udx_b.close());
}
