//! Against npm udx-native 1.21.3, the peer everyone else runs.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::node::Peer;
use common::pattern::Pattern;
use common::proxy::{Faults, Proxy};
use serde_json::{Value, json};
use udx::{Config, Datagrams, Error, Socket, Stream, StreamOptions, Udx, Verdict};

const OURS: u32 = 0x0102_0304;
const THEIRS: u32 = 0x0a0b_0c0d;
const HUNDRED_MEGABYTES: usize = 100_000_000;
const ROUGH: Faults = Faults { drop: 0.02, duplicate: 0.01, reorder: 0.02 };

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

struct Ours {
    udx: Udx,
    socket: Socket,
    _datagrams: Datagrams,
}

async fn ours() -> Ours {
    let (udx, datagrams) = Udx::spawn(Config::default());
    let socket = udx.bind(local(0)).await.unwrap();
    Ours { udx, socket, _datagrams: datagrams }
}

/// A stream of ours connected to one of theirs, through a rough proxy or directly.
async fn connected(is_rough: bool) -> (Ours, Stream, Peer, Option<Proxy>) {
    connected_to(json!({ "id": THEIRS, "firewall": "accept" }), is_rough.then_some(ROUGH)).await
}

async fn connected_to(options: Value, faults: Option<Faults>) -> (Ours, Stream, Peer, Option<Proxy>) {
    let ours = ours().await;
    let mut peer = Peer::start_with(options).await;
    let stream = ours.udx.stream(StreamOptions { id: Some(OURS), ..Default::default() }).await.unwrap();
    let proxy = faults.map(|faults| Proxy::start(local(peer.port), faults, 1).unwrap());
    let forth = proxy.as_ref().map_or(local(peer.port), Proxy::address);
    let back = match proxy {
        // The peer must know where it is reached from: by the proxy's other side.
        Some(_) => reveal(&ours, &mut peer, forth).await,
        None => ours.socket.local_addr().port(),
    };
    stream.connect(&ours.socket, THEIRS, forth).unwrap();
    peer.tell(json!({ "connect": { "id": OURS, "port": back } })).await;
    (ours, stream, peer, proxy)
}

/// The port at which the peer sees us through the proxy: it reports the source of raw datagrams.
async fn reveal(ours: &Ours, peer: &mut Peer, through: SocketAddr) -> u16 {
    // Some are lost.
    for _ in 0..20 {
        ours.socket.send(Bytes::from_static(b"who am I"), through);
    }
    u16::try_from(peer.expect("from").await.as_u64().unwrap()).unwrap()
}

async fn send_pattern(stream: &mut Stream, len: usize) {
    let mut pattern = Pattern::new();
    while pattern.position() < len {
        let n = (len - pattern.position()).min(64 * 1024);
        std::future::poll_fn(|cx| stream.poll_write_ready(cx)).await.unwrap();
        stream.write_chunk(pattern.next(n).into()).unwrap();
    }
}

async fn receive_pattern(stream: &mut Stream) -> usize {
    let mut pattern = Pattern::new();
    while let Some(chunk) = stream.read_chunk().await.unwrap() {
        pattern.check(&chunk);
    }
    pattern.position()
}

async fn send_to_native(is_rough: bool) {
    let (_ours, mut stream, mut peer, proxy) = connected(is_rough).await;
    let started = std::time::Instant::now();
    send_pattern(&mut stream, HUNDRED_MEGABYTES).await;
    stream.end().unwrap();
    let received = peer.expect("received").await;
    println!("sent in {:?}: {:?} {:?}", started.elapsed(), stream.stats(), proxy.as_ref().map(Proxy::counts));
    assert_eq!(received, json!({ "received": HUNDRED_MEGABYTES, "intact": true }));
    peer.tell(json!({ "end": true })).await;
    println!("{}", peer.expect("close").await);
    stream.closed().await.unwrap();
}

async fn receive_from_native(is_rough: bool) {
    let (_ours, mut stream, mut peer, proxy) = connected(is_rough).await;
    let started = std::time::Instant::now();
    peer.tell(json!({ "write": HUNDRED_MEGABYTES })).await;
    peer.tell(json!({ "end": true })).await;
    assert_eq!(receive_pattern(&mut stream).await, HUNDRED_MEGABYTES);
    println!(
        "received in {:?}: {:?} {:?}",
        started.elapsed(),
        stream.stats(),
        proxy.as_ref().map(Proxy::counts)
    );
    stream.end().unwrap();
    println!("{}", peer.expect("close").await);
    let closed = stream.closed().await;
    // libudx forgets a stream as soon as both sides have ended. If its last acknowledgement is lost, nobody
    // answers.
    assert!(closed == Ok(()) || is_rough && closed == Err(Error::TimedOut), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_receives_a_hundred_megabytes() {
    send_to_native(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_sends_a_hundred_megabytes() {
    receive_from_native(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_receives_a_hundred_megabytes_through_a_rough_network() {
    send_to_native(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_sends_a_hundred_megabytes_through_a_rough_network() {
    receive_from_native(true).await;
}

/// Losses leave more holes than the 50 that libudx names, and more than it ever sees named. libudx gives up a
/// stream without a word after seven timeouts in a row, which at this loss is one chance in thirty thousand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eighth_of_all_packets_may_be_lost() {
    let faults = Faults { drop: 0.125, duplicate: 0.0, reorder: 0.0 };
    let options = json!({ "id": THEIRS, "firewall": "accept" });
    let (_ours, mut stream, mut peer, _proxy) = connected_to(options, Some(faults)).await;
    const SIZE: usize = 4_000_000;
    peer.tell(json!({ "write": SIZE })).await;
    peer.tell(json!({ "end": true })).await;
    assert_eq!(receive_pattern(&mut stream).await, SIZE);
    send_pattern(&mut stream, SIZE).await;
    stream.end().unwrap();
    assert_eq!(peer.expect("received").await, json!({ "received": SIZE, "intact": true }));
    println!("{:?}", stream.stats());
}

/// The smallest receive buffer in the wild holds 184 full packets, and udx-native's window does not say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_receive_buffer_is_not_flooded() {
    let options = json!({ "id": THEIRS, "firewall": "accept", "receiveBuffer": 212_992 });
    let (_ours, mut stream, mut peer, _) = connected_to(options, None).await;
    let started = std::time::Instant::now();
    send_pattern(&mut stream, HUNDRED_MEGABYTES).await;
    stream.end().unwrap();
    assert_eq!(peer.expect("received").await, json!({ "received": HUNDRED_MEGABYTES, "intact": true }));
    let stats = stream.stats();
    println!("sent in {:?}: {stats:?}", started.elapsed());
    assert!(stats.resent * 20 < stats.packets_sent, "resent {} of {}", stats.resent, stats.packets_sent);
}

#[tokio::test]
async fn messages_pass_both_ways() {
    let (_ours, mut stream, mut peer, _) = connected(false).await;
    peer.tell(json!({ "message": "from native" })).await;
    assert_eq!(stream.recv_message().await.unwrap(), "from native");
    stream.send_message(Bytes::from_static(b"from ours")).await.unwrap();
    assert_eq!(peer.expect("message").await, json!("from ours"));
}

#[tokio::test]
async fn destroy_is_heard_both_ways() {
    let (_ours, mut stream, mut peer, _) = connected(false).await;
    peer.tell(json!({ "message": "ready" })).await;
    stream.recv_message().await.unwrap();
    stream.destroy();
    assert_eq!(peer.expect("error").await, json!("ECONNRESET"));

    let (_ours, mut stream, mut peer, _) = connected(false).await;
    peer.tell(json!({ "destroy": true })).await;
    assert_eq!(stream.closed().await, Err(Error::ConnectionReset));
}

#[tokio::test]
async fn native_connects_first_and_the_firewall_answers() {
    let ours = ours().await;
    let mut peer = Peer::start(THEIRS).await;
    let firewall = Box::new(|_, _| Verdict::Connect { remote_id: THEIRS });
    let options = StreamOptions { id: Some(OURS), firewall: Some(firewall), ..Default::default() };
    let mut stream = ours.udx.stream(options).await.unwrap();
    peer.tell(json!({ "connect": { "id": OURS, "port": ours.socket.local_addr().port() } })).await;
    peer.tell(json!({ "write": 100_000 })).await;
    peer.tell(json!({ "end": true })).await;
    assert_eq!(receive_pattern(&mut stream).await, 100_000);
    assert_eq!(stream.remote_addr(), Some(local(peer.port)));
    send_pattern(&mut stream, 5000).await;
    stream.end().unwrap();
    assert_eq!(peer.expect("received").await, json!({ "received": 5000, "intact": true }));
    stream.closed().await.unwrap();
}

#[tokio::test]
async fn either_side_moves_to_another_address() {
    let (ours, mut stream, mut peer, _) = connected(false).await;
    peer.tell(json!({ "write": 10_000 })).await;
    peer.expect("written").await;
    // Ours gets a second socket; the peer follows on command.
    let second = ours.udx.bind(local(0)).await.unwrap();
    stream.change_remote(&second, THEIRS, local(peer.port)).unwrap();
    assert_eq!(stream.handle().remote_changed(0).await, Ok(1));
    let port = second.local_addr().port();
    peer.tell(json!({ "changeRemote": { "id": OURS, "port": port } })).await;
    peer.expect("changed").await;
    peer.tell(json!({ "write": 10_000 })).await;
    peer.tell(json!({ "end": true })).await;
    assert_eq!(receive_pattern(&mut stream).await, 20_000);
    send_pattern(&mut stream, 3000).await;
    stream.end().unwrap();
    assert_eq!(peer.expect("received").await, json!({ "received": 3000, "intact": true }));
}

#[tokio::test]
async fn heartbeats_are_answered() {
    let (_ours, stream, mut peer, _) = connected(false).await;
    stream.set_keepalive(Some(Duration::from_millis(20)));
    while stream.stats().packets_received < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stream.set_keepalive(None);
    peer.tell(json!({ "end": true })).await;
}
