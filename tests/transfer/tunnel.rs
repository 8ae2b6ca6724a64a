//! Transfers between nodes that no UDP packet leads to: they meet at the hub's tunnel.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ats_p2p::error::{Code, Step};
use ats_p2p::event::Event;
use ats_p2p::options::{Options, TunnelChoice};
use hub::TunnelAccess;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use crate::lab::{Lab, content, sha256};
use crate::peer::{LEASE, offer_payload, offered, post};

/// A network that lets no UDP through: what is sent into it is never answered.
struct Silence(UdpSocket);

impl Silence {
    async fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    /// Puts a node there.
    fn apply(&self, options: &mut Options) {
        options.bootstrap = Some(vec![self.0.local_addr().unwrap().to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_udp_leads_out_files_go_by_the_tunnel() {
    let (lab, silence) = (Lab::new().await, Silence::new().await);
    let (a, b) =
        (lab.agent("a", |options| silence.apply(options)), lab.agent("b", |options| silence.apply(options)));
    b.watch(Some(lab.path("in")));
    let sent = a.send(&lab.file("x", 3_000_000), "b").await.unwrap();
    assert_eq!(sent.connection.unwrap().path, "tunnel");
    assert_eq!(sent.hash, sha256(&lab.path("in/x")));
    // The connection stays, and carries the next one.
    let again = a.send(&lab.file("y", 100_000), "b").await.unwrap();
    assert_eq!(again.hash, sha256(&lab.path("in/y")));
    assert_eq!(again.connection.unwrap().connect_time, sent.connection.unwrap().connect_time);
    // And there is a way back.
    a.watch(Some(lab.path("back")));
    let back = b.send(&lab.file("z", 0), "a").await.unwrap();
    assert_eq!(back.connection.unwrap().path, "tunnel");
    assert_eq!(b.paths(), ["tunnel", "tunnel", "tunnel"]);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_without_udp_meets_a_recipient_with_it() {
    let (lab, silence) = (Lab::new().await, Silence::new().await);
    let (a, b) = (lab.agent("a", |options| silence.apply(options)), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let sent = a.send(&lab.file("x", 1_000_000), "b").await.unwrap();
    assert_eq!(sent.connection.unwrap().path, "tunnel");
    assert_eq!(sent.hash, sha256(&lab.path("in/x")));
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_leads_somewhere_it_is_used() {
    let lab = Lab::new().await;
    let (a, b) = (lab.agent("a", |_| {}), lab.agent("b", |_| {}));
    b.watch(Some(lab.path("in")));
    let sent = a.send(&lab.file("x", 1_000_000), "b").await.unwrap();
    assert_eq!(sent.connection.unwrap().path, "lan");
    lab.close([a, b]).await;
}

/// The way of UDP to a node of the DHT, shut until it is opened.
struct Door {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Door {
    async fn to(node: &str) -> Self {
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, open) = (outside.local_addr().unwrap(), watch::Sender::new(false));
        let (node, mut state) = (node.parse::<SocketAddr>().unwrap(), open.subscribe());
        tokio::spawn(async move {
            let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let (mut request, mut answer, mut client) = ([0; 2048], [0; 2048], None);
            while state.wait_for(|is_open| *is_open).await.is_ok() {
                tokio::select! {
                    Ok((count, from)) = outside.recv_from(&mut request) => {
                        client = Some(from);
                        let _ = inside.send_to(&request[..count], node).await;
                    }
                    Ok(count) = inside.recv(&mut answer) => {
                        if let Some(client) = client {
                            let _ = outside.send_to(&answer[..count], client).await;
                        }
                    }
                }
            }
        });
        Self { address, open }
    }
}

/// A way to the hub on which a connection gets no further than a piece of a file.
struct SlowWay(SocketAddr);

impl SlowWay {
    async fn to(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(hub).await.unwrap();
                tokio::spawn(async move {
                    let ((from_near, mut to_near), (from_far, mut to_far)) =
                        (near.into_split(), far.into_split());
                    let (mut up, mut down) = (from_near.take(1 << 20), from_far.take(1 << 20));
                    let _ = tokio::join!(copy(&mut up, &mut to_far), copy(&mut down, &mut to_near));
                    // Nothing is closed: that would make it a cut.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self(address)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_that_opens_later_takes_over_from_the_tunnel_in_the_middle_of_a_file() {
    let lab = Lab::new().await;
    let slow = SlowWay::to(lab.address()).await;
    let doors = [Door::to(&lab.bootstrap()[0]).await, Door::to(&lab.bootstrap()[0]).await];
    let [a, b] = [("a", &doors[0]), ("b", &doors[1])].map(|(name, door)| {
        lab.agent(name, |options| {
            options.bootstrap = Some(vec![door.address.to_string()]);
            options.ats.url = Some(format!("http://{}", slow.0));
        })
    });
    b.watch(Some(lab.path("in")));
    let sending = a.sending(lab.file("x", 40_000_000), "b");
    b.event_named("peer_connected").await;
    assert_eq!(b.paths(), ["tunnel"]);
    for door in &doors {
        door.open.send_replace(true);
    }
    let sent = sending.await.unwrap().unwrap();
    assert_eq!(b.paths(), ["tunnel", "lan"]);
    assert_eq!(sent.connection.unwrap().path, "lan");
    assert_eq!(sent.hash, sha256(&lab.path("in/x")));
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_wants_no_tunnel_is_not_met_there() {
    let (lab, silence) = (Lab::new().await, Silence::new().await);
    let change = |options: &mut Options, tunnel| {
        silence.apply(options);
        options.timeout = Duration::from_secs(3);
        options.tunnel = tunnel;
    };
    let (a, b) = (
        lab.agent("a", |options| change(options, TunnelChoice::Nowhere)),
        lab.agent("b", |options| change(options, TunnelChoice::Service)),
    );
    b.watch(Some(lab.path("in")));
    let error = a.send(&lab.file("x", 1_000), "b").await.unwrap_err();
    assert_eq!(error.code, Code::PeerUnreachable, "{error}");
    assert_ne!(error.step, Some(Step::Tunnel), "{error}");
    assert_eq!(b.failure().await, Code::PeerUnreachable);
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_a_task_names_is_not_gone_to_unless_it_is_ones_own() {
    let (lab, silence) = (Lab::new().await, Silence::new().await);
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let named = format!("ws://{}", elsewhere.local_addr().unwrap());
    let change = |options: &mut Options, tunnel| {
        silence.apply(options);
        options.timeout = Duration::from_secs(3);
        options.tunnel = tunnel;
    };
    let (a, b) = (
        lab.agent("a", |options| change(options, TunnelChoice::at(&named).unwrap())),
        lab.agent("b", |options| change(options, TunnelChoice::Service)),
    );
    b.watch(Some(lab.path("in")));
    a.send(&lab.file("x", 1_000), "b").await.unwrap_err();
    assert_eq!(b.failure().await, Code::PeerUnreachable);
    // Only the sender would have gone there, and it does not, since the recipient would not come.
    assert!(tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await.is_err(), "somebody came");
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_of_another_service_meet_at_a_tunnel_of_their_own() {
    let lab = Lab::with(|hub| hub.tunnel = TunnelAccess::Off).await;
    let tunnel = Lab::with(|hub| hub.tunnel = TunnelAccess::Open).await;
    let silence = Silence::new().await;
    let change = |options: &mut Options| {
        silence.apply(options);
        options.tunnel = TunnelChoice::at(&tunnel.url()).unwrap();
    };
    let (a, b) = (lab.agent("a", change), lab.agent("b", change));
    b.watch(Some(lab.path("in")));
    let sent = a.send(&lab.file("x", 1_000_000), "b").await.unwrap();
    assert_eq!(sent.connection.unwrap().path, "tunnel");
    assert_eq!(sent.connection.unwrap().remote_address, tunnel.address());
    lab.close([a, b]).await;
    tunnel.close([]).await;
}

/// Bytes as they come.
type Recording = Arc<Mutex<Vec<u8>>>;

/// What stands between the nodes and the hub, and keeps what the hub says on each connection.
struct Wiretap {
    address: SocketAddr,
    said: Arc<Mutex<Vec<Recording>>>,
}

impl Wiretap {
    async fn new(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let all = said.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, kept) = (TcpStream::connect(hub).await.unwrap(), Recording::default());
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let first = tokio::spawn(pass(from_client, to_server, Arc::default()));
                all.lock().unwrap().push(Arc::clone(&kept));
                tokio::spawn(async move {
                    pass(from_server, to_client, kept).await;
                    first.abort();
                });
            }
        });
        Self { address, said }
    }

    /// All that the hub said on WebSockets of the tunnel: what one end sends, the hub says to the other, and
    /// unlike what it is told nothing masks it.
    fn of_tunnel(&self) -> Vec<Vec<u8>> {
        let said = self.said.lock().unwrap();
        let said = said.iter().map(|said| said.lock().unwrap().clone());
        said.filter(|said| find(said, b"joined")).collect()
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    kept: Recording,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        kept.lock().unwrap().extend(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_finds_neither_name_nor_content_in_what_it_passes_on() {
    let (lab, silence) = (Lab::new().await, Silence::new().await);
    let tap = Wiretap::new(lab.address()).await;
    let change = |options: &mut Options| {
        silence.apply(options);
        options.ats.url = Some(format!("http://{}", tap.address));
    };
    let (a, b) = (lab.agent("a", change), lab.agent("b", change));
    b.watch(Some(lab.path("in")));
    const LEN: usize = 300_000;
    let sent = a.send(&lab.file("a-telling-name.txt", LEN), "b").await.unwrap();
    assert_eq!(sent.connection.unwrap().path, "tunnel");
    let heard = tap.of_tunnel();
    assert_eq!(heard.len(), 2, "one WebSocket of each");
    assert!(heard.iter().map(Vec::len).sum::<usize>() > LEN, "all of it went there");
    let file = content(LEN);
    for said in heard {
        for part in [b"a-telling-name".as_slice(), sent.hash.as_bytes(), sent.transfer_id.as_bytes()] {
            assert!(!find(&said, part), "{} is read by the hub", String::from_utf8_lossy(part));
        }
        for part in file.chunks_exact(32).step_by(97) {
            assert!(!find(&said, part), "the content is read by the hub");
        }
    }
    lab.close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_an_original_is_met_over_udp_alone_is_said_where_that_leads_nowhere() {
    let (lab, silence) = (Lab::new().await, Silence::new().await);
    let change = |options: &mut Options| {
        silence.apply(options);
        options.timeout = Duration::from_secs(3);
    };
    let (a, b) = (lab.agent("a", change), lab.agent("b", change));
    b.watch(Some(lab.path("in")));
    let original = lab.client("original");
    post(&original, offer_payload("t", "f", b"content", "original", Some("b"))).await;
    let received = b
        .event(|event| match event {
            Event::TransferFailed { error, .. } => Some(error),
            _ => None,
        })
        .await;
    let sending = a.sending(lab.file("x", 1_000), "original");
    let task = offered(&a, &original).await;
    original.claim(&task.id, LEASE).await.unwrap();
    for error in [received, sending.await.unwrap().unwrap_err()] {
        assert_eq!((error.code, error.step), (Code::PeerUnreachable, Some(Step::Network)), "{error}");
        assert!(error.message.contains("met over UDP alone"), "{error}");
    }
    lab.close([a, b]).await;
}
