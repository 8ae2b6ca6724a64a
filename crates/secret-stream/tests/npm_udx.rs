//! Against npm's secret-stream over npm's udx-native, in both roles.

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::Node;
use common::exchange::{agree, exchange, keys};
use secret_stream::{Error, SecretStream};
use udx::{Config, StreamOptions, Udx};

/// A stream to a peer in the other role, with the instance that carries it.
async fn connect(is_initiator: bool) -> (SecretStream, Node, Udx) {
    let (udx, _) = Udx::spawn(Config::default());
    let socket = udx.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let stream = udx.stream(StreamOptions { id: Some(2), ..StreamOptions::default() }).await.unwrap();
    let role = if is_initiator { "responder" } else { "initiator" };
    let mut node = Node::start("udx-peer.js", &[role, &socket.local_addr().port().to_string()]);
    stream.connect(&socket, 1, SocketAddr::from((Ipv4Addr::LOCALHOST, node.port().await))).unwrap();
    let stream = SecretStream::handshake_xx(is_initiator, keys(is_initiator), stream).await.unwrap();
    (stream, node, udx)
}

#[tokio::test]
async fn initiator_exchanges_every_length() {
    let (stream, node, _udx) = connect(true).await;
    exchange(stream, node).await;
}

#[tokio::test]
async fn responder_exchanges_every_length() {
    let (stream, node, _udx) = connect(false).await;
    exchange(stream, node).await;
}

#[tokio::test]
async fn destroying_reaches_the_peer() {
    let (mut stream, mut node, _udx) = connect(true).await;
    agree(&mut stream, &mut node).await;
    stream.destroy();
    assert!(stream.recv().await.is_err());
    assert!(matches!(stream.send(b"late").await, Err(Error::Io(_))));
    while node.says().await["closed"] != true {}
    node.exits().await;
}

#[tokio::test]
async fn dropping_without_an_end_destroys() {
    let (mut stream, mut node, _udx) = connect(false).await;
    agree(&mut stream, &mut node).await;
    drop(stream);
    assert_eq!(node.says().await["error"], "connection reset by peer");
    assert_eq!(node.says().await["closed"], true);
    node.exits().await;
}
