//! Ends that send what they should not, or do not read, and connections by the hundred.

use std::time::Duration;

use futures_util::SinkExt as _;
use hub::{HubConfig, TunnelAccess};
use protocol::tunnel::{MAX_MESSAGE, close};
use secret_stream::KeyPair;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{End, host_of, hub_for, pair, task_of};
use crate::support::{PATIENCE, TestHub};

/// What the hub takes from nobody.
fn malformed() -> Vec<(&'static str, Vec<Message>)> {
    let part = |kind, length, is_final| {
        Message::Frame(Frame::message(vec![0; length], OpCode::Data(kind), is_final))
    };
    vec![
        ("text", vec![Message::text("hello")]),
        ("a long message", vec![Message::binary(vec![0; MAX_MESSAGE + 1])]),
        (
            "a long message in parts",
            vec![
                part(Data::Binary, MAX_MESSAGE, false),
                part(Data::Continue, 0, false),
                part(Data::Continue, 1, true),
            ],
        ),
        ("a part of nothing", vec![part(Data::Continue, 1, true)]),
        ("a message in a message", vec![part(Data::Binary, 1, false), part(Data::Binary, 1, true)]),
    ]
}

#[tokio::test]
async fn a_pair_whose_one_end_sends_nonsense_is_closed() {
    let hub = TestHub::start().await;
    for (what, messages) in malformed() {
        let ((_, mut one), (_, other)) = pair(&hub).await;
        for message in messages {
            // The hub may have closed it before the last one.
            let _ = one.socket.feed(message).await;
        }
        let _ = one.socket.flush().await;
        assert_eq!(other.closed().await, close::PEER_GONE, "{what}");
        assert_eq!(one.closed().await, close::MALFORMED, "{what}");
    }
}

#[tokio::test]
async fn an_end_that_proves_nothing_but_sends_is_closed() {
    let hub = hub_for(TunnelAccess::Open).await;
    let (address, keys) = (hub.hub.local_addr(), KeyPair::generate());
    for length in [0, 63, 65, 100_000] {
        let mut end = End::open(address, &keys, [7; 32]).await;
        end.send(vec![0; length]).await;
        assert_eq!(end.closed().await, close::MALFORMED, "{length}");
    }
    let mut end = End::open(address, &keys, [7; 32]).await;
    end.socket.send(Message::text("hello")).await.expect("sent");
    assert_eq!(end.closed().await, close::MALFORMED);
}

#[tokio::test]
async fn an_end_that_sends_pings_without_end_while_it_waits_is_closed() {
    let hub = hub_for(TunnelAccess::Open).await;
    let (address, keys) = (hub.hub.local_addr(), KeyPair::generate());
    let mut end = End::enter(address, &keys, [7; 32]).await;
    for _ in 0..1000 {
        if end.socket.feed(Message::Ping(vec![0; 125].into())).await.is_err() {
            break;
        }
    }
    let _ = end.socket.flush().await;
    assert_eq!(end.closed().await, close::MALFORMED);
}

/// A connection that holds little in the kernel.
async fn narrow(hub: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    socket.set_send_buffer_size(4096).expect("set");
    socket.connect(hub).await.expect("connected")
}

/// How much the kernel holds of a connection at most, in one direction.
fn kernel_holds() -> usize {
    let most = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace().last().and_then(|most| most.parse().ok()).unwrap_or(8 << 20)
    };
    let (read, written): (usize, usize) =
        (most("/proc/sys/net/ipv4/tcp_rmem"), most("/proc/sys/net/ipv4/tcp_wmem"));
    read + written
}

#[tokio::test]
async fn an_end_that_does_not_read_stops_the_other_and_both_go_on_when_it_does() {
    let hub = hub_for(TunnelAccess::Open).await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let address = hub.hub.local_addr();
    let mut ends = Vec::new();
    for (keys, peer) in [(&a, &b), (&b, &a)] {
        let (stream, peer) = (narrow(address).await, peer.public_key());
        let mut end = End::open_over(stream, address, keys, peer, &[]).await.expect("a WebSocket");
        end.prove(keys, keys.public_key(), peer, &host_of(address)).await;
        ends.push(end);
    }
    let (other, one) = (ends.pop().expect("two"), ends.pop().expect("two"));
    let (mut one, mut other) = tokio::join!(one.joined(), other.joined());
    let (piece, mut taken) = (vec![5; 64 * 1024], 0);
    while timeout(Duration::from_secs(1), one.socket.send(Message::binary(piece.clone()))).await.is_ok() {
        taken += piece.len();
        assert!(taken < 64 << 20, "the hub takes whatever comes");
    }
    assert!(taken <= (1 << 20) + kernel_holds(), "{taken} bytes");
    // Meanwhile it may say what it likes.
    other.send(vec![6; 100_000]).await;
    assert_eq!(one.receive(100_000).await.len(), 100_000);
    // The last one was sent in part, and is sent on with the next.
    let (sent, received) = tokio::join!(one.socket.flush(), other.receive(taken + piece.len()));
    sent.expect("sent");
    assert!(received.iter().all(|byte| *byte == 5));
}

#[tokio::test]
async fn connections_by_the_hundred_that_prove_nothing_disturb_nobody_else() {
    let hub = TestHub::start_with(|config: &mut HubConfig| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
        config.requests_per_second = 10_000;
    })
    .await;
    let address = hub.hub.local_addr();
    let from = |client: &str| [("x-forwarded-for", client.to_owned())];
    let [a, b] = [(); 2].map(|()| KeyPair::generate());
    let key = hub.key("a", false).await;
    let caller = hub.caller("a").elsewhere().encrypted().with_key(&key);
    task_of(&caller, &[&a, &b]).await;
    let mut ends = Vec::new();
    let mut refused = 0;
    for _ in 0..300 {
        let stream = TcpStream::connect(address).await.expect("a connection");
        match End::open_over(stream, address, &a, b.public_key(), &from("203.0.113.66")).await {
            Ok(end) => ends.push(end),
            Err(status) => {
                assert_eq!(status, 429);
                refused += 1;
            }
        }
    }
    assert!(refused >= 200, "{refused}");
    let mut others = Vec::new();
    for (keys, peer, client) in [(&a, &b, "203.0.113.9"), (&b, &a, "203.0.113.10")] {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let end = End::open_over(stream, address, keys, peer.public_key(), &from(client)).await;
        let mut end = end.expect("a place");
        end.prove(keys, keys.public_key(), peer.public_key(), &host_of(address)).await;
        others.push(end);
    }
    let (other, one) = (others.pop().expect("two"), others.pop().expect("two"));
    let (mut one, mut other) = tokio::join!(one.joined(), other.joined());
    one.send(vec![1; 10]).await;
    assert_eq!(other.receive(10).await, [1; 10]);
    // Those who proved nothing are closed, one and all.
    let closed = async {
        for end in ends {
            assert_eq!(end.closed().await, close::NOT_PROVEN);
        }
    };
    timeout(2 * PATIENCE, closed).await.expect("closed in time");
}
