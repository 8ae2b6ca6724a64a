//! Two instances of ours over loopback.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use udx::{Config, Datagrams, Error, Socket, Stream, StreamOptions, Udx, Verdict};

fn localhost() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

struct End {
    udx: Udx,
    socket: Socket,
    datagrams: Datagrams,
}

async fn end() -> End {
    let (udx, datagrams) = Udx::spawn(Config::default());
    let socket = udx.bind(localhost()).await.unwrap();
    End { udx, socket, datagrams }
}

async fn pair(a: &End, b: &End) -> (Stream, Stream) {
    let left = a.udx.stream(StreamOptions::default()).await.unwrap();
    let right = b.udx.stream(StreamOptions::default()).await.unwrap();
    left.connect(&a.socket, right.id(), b.socket.local_addr()).unwrap();
    right.connect(&b.socket, left.id(), a.socket.local_addr()).unwrap();
    (left, right)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_arrive_in_order_and_both_sides_close() {
    let (a, b) = (end().await, end().await);
    let (mut left, mut right) = pair(&a, &b).await;
    let sent = pattern(8 << 20);
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        left.write_all(&sent).await.unwrap();
        left.shutdown().await.unwrap();
        let mut reply = Vec::new();
        left.read_to_end(&mut reply).await.unwrap();
        left.closed().await.unwrap();
        (reply, left.stats())
    });
    let mut received = Vec::new();
    right.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
    right.write_all(b"thanks").await.unwrap();
    right.shutdown().await.unwrap();
    right.closed().await.unwrap();
    let (reply, stats) = writer.await.unwrap();
    assert_eq!(reply, b"thanks");
    assert_eq!(stats.mtu, 1500);
}

#[tokio::test]
async fn raw_datagrams_pass_beside_streams() {
    let (a, mut b) = (end().await, end().await);
    a.socket.send(Bytes::from_static(b"hello"), b.socket.local_addr());
    a.socket.send_ttl(Bytes::from_static(b"ttl"), b.socket.local_addr(), 5);
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(b.datagrams.recv().await.unwrap());
    }
    assert_eq!(got[0].data, "hello");
    assert_eq!(got[1].data, "ttl");
    assert_eq!(got[0].from, a.socket.local_addr());
    assert_eq!(got[0].socket, b.socket.id());
    b.udx.close().await;
    assert!(b.datagrams.recv().await.is_none());
}

#[tokio::test]
async fn a_firewall_can_connect_the_stream() {
    let (a, b) = (end().await, end().await);
    let mut left = a.udx.stream(StreamOptions { id: Some(7), ..Default::default() }).await.unwrap();
    let firewall = Box::new(|_, _| Verdict::Connect { remote_id: 7 });
    let options = StreamOptions { id: Some(9), firewall: Some(firewall), ..Default::default() };
    let mut right = b.udx.stream(options).await.unwrap();
    left.connect(&a.socket, 9, b.socket.local_addr()).unwrap();
    left.write_all(b"ping").await.unwrap();
    let mut buffer = [0; 4];
    right.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"ping");
    assert_eq!(right.remote_addr(), Some(a.socket.local_addr()));
    right.write_all(b"pong").await.unwrap();
    left.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"pong");
}

#[tokio::test]
async fn dropping_a_stream_resets_the_peer() {
    let (a, b) = (end().await, end().await);
    let (mut left, mut right) = pair(&a, &b).await;
    left.write_all(b"x").await.unwrap();
    let mut byte = [0];
    right.read_exact(&mut byte).await.unwrap();
    drop(left);
    assert_eq!(right.closed().await, Err(Error::ConnectionReset));
    assert_eq!(right.read(&mut byte).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stream_dropped_after_its_end_still_delivers() {
    let (a, b) = (end().await, end().await);
    let (mut left, mut right) = pair(&a, &b).await;
    let sent = pattern(3 << 20);
    let expected = sent.clone();
    tokio::spawn(async move {
        left.write_all(&sent).await.unwrap();
        left.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    right.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
    right.shutdown().await.unwrap();
    right.closed().await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_holds_the_writer() {
    let (a, b) = (end().await, end().await);
    let (mut left, mut right) = pair(&a, &b).await;
    let total = 24 << 20;
    let writer = tokio::spawn(async move {
        left.write_all(&vec![1; total]).await.unwrap();
        left.shutdown().await.unwrap();
        left
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!writer.is_finished(), "nothing held the writer");
    let mut read = 0;
    while let Some(chunk) = right.read_chunk().await.unwrap() {
        read += chunk.len();
    }
    assert_eq!(read, total);
    writer.await.unwrap();
}

#[tokio::test]
async fn messages_are_unordered_extras() {
    let (a, b) = (end().await, end().await);
    let (left, mut right) = pair(&a, &b).await;
    left.send_message(Bytes::from_static(b"note")).await.unwrap();
    assert_eq!(right.recv_message().await.unwrap(), "note");
    let too_large = Bytes::from(vec![0; 2000]);
    assert_eq!(left.send_message(too_large).await, Err(Error::MessageTooLarge));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_share_a_socket() {
    let (a, b) = (end().await, end().await);
    let mut tasks = Vec::new();
    for i in 0..1000_u32 {
        let (mut left, mut right) = pair(&a, &b).await;
        tasks.push(tokio::spawn(async move {
            let message = i.to_le_bytes().repeat(500);
            left.write_all(&message).await.unwrap();
            left.shutdown().await.unwrap();
            let mut received = Vec::new();
            right.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, message);
            right.shutdown().await.unwrap();
            left.closed().await.unwrap();
            right.closed().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn closing_an_instance_ends_its_streams() {
    let (a, b) = (end().await, end().await);
    let (mut left, mut right) = pair(&a, &b).await;
    left.write_all(b"x").await.unwrap();
    let mut byte = [0];
    right.read_exact(&mut byte).await.unwrap();
    a.udx.close().await;
    assert_eq!(left.closed().await, Err(Error::Cancelled));
    assert_eq!(right.closed().await, Err(Error::ConnectionReset));
    assert_eq!(a.udx.stream(StreamOptions::default()).await.unwrap_err(), Error::Closed);
    assert!(a.udx.bind(localhost()).await.is_err());
}
