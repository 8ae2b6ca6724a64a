//! Against npm's secret-stream over TCP, in both roles.

mod common;

use std::ops::Range;

use bytes::BytesMut;
use common::Node;
use secret_stream::{Error, HEADROOM, Io, KeyPair, MAX_MESSAGE, SecretStream, TAILROOM};
use tokio::net::{TcpListener, TcpStream};

/// Lengths around every border: of cipher blocks, of frames in chunks, and the largest.
const LENGTHS: [usize; 16] =
    [1, 2, 15, 16, 17, 47, 48, 49, 63, 64, 65, 1400, 65_535, 65_536, 1 << 20, MAX_MESSAGE];

type Stream = SecretStream<Io<TcpStream>>;

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + length) as u8).collect()
}

async fn as_initiator() -> (Stream, Node) {
    let mut node = Node::start("tcp-peer.js", &["responder", "0"]);
    let port = node.says().await["port"].as_u64().unwrap() as u16;
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = SecretStream::handshake_xx(true, KeyPair::from_seed(&[1; 32]), Io(socket)).await;
    (stream.unwrap(), node)
}

async fn as_responder() -> (Stream, Node) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let node = Node::start("tcp-peer.js", &["initiator", &port]);
    let (socket, _) = listener.accept().await.unwrap();
    let stream = SecretStream::handshake_xx(false, KeyPair::from_seed(&[2; 32]), Io(socket)).await;
    (stream.unwrap(), node)
}

async fn agree(stream: &Stream, node: &mut Node) {
    let known = node.says().await;
    assert_eq!(known["handshakeHash"], hex::encode(stream.handshake_hash()));
    assert_eq!(known["remotePublicKey"], hex::encode(stream.public_key()));
    let remote = if stream.is_initiator() { [2; 32] } else { [1; 32] };
    assert_eq!(stream.remote_public_key(), KeyPair::from_seed(&remote).public_key());
}

async fn exchange((mut stream, mut node): (Stream, Node)) {
    stream.ready().await.unwrap();
    agree(&stream, &mut node).await;
    let (mut receiver, mut sender) = stream.split();
    let sending = tokio::spawn(async move {
        for length in LENGTHS {
            sender.send(&message(length)).await.unwrap();
        }
        let mut batch = BytesMut::new();
        let mut places: Vec<Range<usize>> = Vec::new();
        for length in LENGTHS {
            let start = batch.len() + HEADROOM;
            batch.resize(start, 0);
            batch.extend_from_slice(&message(length));
            places.push(start..batch.len());
            batch.resize(batch.len() + TAILROOM, 0);
        }
        sender.send_in_place(batch, &places).await.unwrap();
        sender.flush().await.unwrap();
        sender.shutdown().await.unwrap();
    });
    for length in LENGTHS.into_iter().chain(LENGTHS) {
        let received = receiver.recv().await.unwrap().unwrap();
        assert!(received == message(length)[..], "length {length}");
    }
    assert!(receiver.recv().await.unwrap().is_none());
    assert!(receiver.recv().await.unwrap().is_none());
    sending.await.unwrap();
    assert_eq!(node.says().await["closed"], true);
    node.exits().await;
}

#[tokio::test]
async fn initiator_exchanges_every_length() {
    exchange(as_initiator().await).await;
}

#[tokio::test]
async fn responder_exchanges_every_length() {
    exchange(as_responder().await).await;
}

#[tokio::test]
async fn destroying_reaches_the_peer() {
    let (mut stream, mut node) = as_initiator().await;
    stream.ready().await.unwrap();
    agree(&stream, &mut node).await;
    stream.destroy();
    assert!(stream.recv().await.is_err());
    assert!(matches!(stream.send(b"late").await, Err(Error::Io(_))));
    drop(stream);
    while node.says().await["closed"] != true {}
    node.exits().await;
}
