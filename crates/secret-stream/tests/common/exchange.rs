//! What both ends of a stream with npm's secret-stream must see, whatever carries it.

use std::ops::Range;

use bytes::BytesMut;
use secret_stream::{HEADROOM, KeyPair, MAX_MESSAGE, SecretStream, TAILROOM, Transport};

use super::Node;

/// Lengths around every border: of cipher blocks, of frames in chunks, and the largest.
const LENGTHS: [usize; 16] =
    [1, 2, 15, 16, 17, 47, 48, 49, 63, 64, 65, 1400, 65_535, 65_536, 1 << 20, MAX_MESSAGE];

/// The seed of our key pair in a role; the peer's scripts use the same.
pub(crate) fn keys(is_initiator: bool) -> KeyPair {
    KeyPair::from_seed(&[if is_initiator { 1 } else { 2 }; 32])
}

/// Waits until both sides see the connection, and the same one.
pub(crate) async fn agree<T: Transport>(stream: &mut SecretStream<T>, node: &mut Node) {
    stream.ready().await.unwrap();
    let known = node.says().await;
    assert_eq!(known["handshakeHash"], hex::encode(stream.handshake_hash()));
    assert_eq!(known["remotePublicKey"], hex::encode(stream.public_key()));
    assert_eq!(stream.remote_public_key(), keys(!stream.is_initiator()).public_key());
}

/// Sends messages of all lengths, one by one and in a batch, and expects them back; then both ends.
pub(crate) async fn exchange<T: Transport>(mut stream: SecretStream<T>, mut node: Node) {
    agree(&mut stream, &mut node).await;
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
        sender
    });
    for length in LENGTHS.into_iter().chain(LENGTHS) {
        let received = receiver.recv().await.unwrap().unwrap();
        assert!(received == message(length)[..], "length {length}");
    }
    assert!(receiver.recv().await.unwrap().is_none());
    assert!(receiver.recv().await.unwrap().is_none());
    drop((receiver, sending.await.unwrap()));
    assert_eq!(node.says().await["closed"], true);
    node.exits().await;
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + length) as u8).collect()
}
