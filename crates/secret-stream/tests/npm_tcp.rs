//! Against npm's secret-stream over TCP, in both roles.

mod common;

use common::Node;
use common::exchange::{agree, exchange, keys};
use secret_stream::{Error, Io, SecretStream};
use tokio::net::{TcpListener, TcpStream};

type Stream = SecretStream<Io<TcpStream>>;

async fn as_initiator() -> (Stream, Node) {
    let mut node = Node::start("tcp-peer.js", &["responder"]);
    let socket = TcpStream::connect(("127.0.0.1", node.port().await)).await.unwrap();
    (SecretStream::handshake_xx(true, keys(true), Io(socket)).await.unwrap(), node)
}

async fn as_responder() -> (Stream, Node) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let node = Node::start("tcp-peer.js", &["initiator", &port]);
    let (socket, _) = listener.accept().await.unwrap();
    (SecretStream::handshake_xx(false, keys(false), Io(socket)).await.unwrap(), node)
}

#[tokio::test]
async fn initiator_exchanges_every_length() {
    let (stream, node) = as_initiator().await;
    exchange(stream, node).await;
}

#[tokio::test]
async fn responder_exchanges_every_length() {
    let (stream, node) = as_responder().await;
    exchange(stream, node).await;
}

#[tokio::test]
async fn destroying_reaches_the_peer() {
    let (mut stream, mut node) = as_initiator().await;
    agree(&mut stream, &mut node).await;
    stream.destroy();
    assert!(stream.recv().await.is_err());
    assert!(matches!(stream.send(b"late").await, Err(Error::Io(_))));
    while node.says().await["closed"] != true {}
    node.exits().await;
}
