//! How fast the tunnel is, what it costs, and whether pairs have like shares of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use hub::{Hub, HubConfig, TunnelAccess};
use protocol::tunnel::{PATH, canonical_host, statement};
use secret_stream::{KeyPair, PublicKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::tungstenite::Message;

use crate::Plan;

/// The name of the threads that the hub runs on, by which their processor time is told from the load's.
const HUB: &str = "measured-hub";

/// How many bytes an end sends in a message.
const MESSAGE: usize = 128 * 1024;

pub(crate) fn run(plan: &Plan) {
    let dir = tempfile::tempdir_in(&plan.data).expect("a temporary folder");
    let of_hub =
        Builder::new_multi_thread().worker_threads(2).thread_name(HUB).enable_all().build().expect("one");
    let config = HubConfig { tunnel: TunnelAccess::Open, ..plan.hub(dir.path()) };
    let hub = of_hub.block_on(of_hub.spawn(Hub::start(config))).expect("run").expect("a hub");
    let address = hub.local_addr();
    let of_load = tokio::runtime::Runtime::new().expect("a runtime");
    of_load.block_on(async {
        let idle = resident();
        for pairs in [1, plan.pairs] {
            measure(address, pairs, plan.time, idle).await;
        }
    });
    of_hub.block_on(hub.shutdown());
}

/// Sends for a while through so many pairs.
async fn measure(hub: SocketAddr, pairs: usize, time: Duration, idle: u64) {
    let mut ends = Vec::new();
    for _ in 0..pairs {
        let (a, b) = (KeyPair::generate(), KeyPair::generate());
        let one = enter(hub, &a, b.public_key());
        let other = enter(hub, &b, a.public_key());
        ends.push(tokio::join!(one, other));
    }
    let (busy, began) = (processor_time(), Instant::now());
    let until = began + time;
    let mut passing = Vec::new();
    for (one, other) in ends {
        let sending = tokio::spawn(send(one, until));
        passing.push((sending, tokio::spawn(receive(other))));
    }
    tokio::time::sleep_until(until.into()).await;
    let held = resident().saturating_sub(idle);
    let mut counts = Vec::new();
    for (sending, receiving) in passing {
        sending.await.expect("sent");
        counts.push(receiving.await.expect("received"));
    }
    let (took, busy) = (began.elapsed().as_secs_f64(), processor_time().saturating_sub(busy));
    let total: u64 = counts.iter().sum();
    counts.sort_unstable();
    let (least, most) =
        (counts.first().copied().unwrap_or_default(), counts.last().copied().unwrap_or_default());
    println!(
        "tunnel: {pairs} pairs, {:.0} MB/s, hub {:.2} s of processor a GiB, {} KiB over idle with the load, \
         the pair with most had {:.2} times what that with least had",
        total as f64 / took / 1e6,
        busy.as_secs_f64() / (total as f64 / f64::from(1 << 30)),
        held / 1024,
        most as f64 / least.max(1) as f64,
    );
}

/// Proves a key and waits for the peer; gives the connection beneath, which costs the load little.
async fn enter(hub: SocketAddr, keys: &KeyPair, peer: PublicKey) -> TcpStream {
    let key = keys.public_key();
    let url = format!("ws://{hub}{PATH}?key={}&peer={}", hex::encode(key), hex::encode(peer));
    let stream = TcpStream::connect(hub).await.expect("a connection");
    stream.set_nodelay(true).expect("set");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a WebSocket");
    let Some(Ok(Message::Binary(challenge))) = socket.next().await else { panic!("no challenge") };
    let challenge = challenge.as_ref().try_into().expect("a challenge");
    let host = canonical_host(&format!("ws://{hub}")).expect("a host");
    let signature = keys.sign(&statement(&challenge, &key, &peer, &host));
    socket.send(Message::binary(signature.to_vec())).await.expect("sent");
    let Some(Ok(Message::Text(_))) = socket.next().await else { panic!("not joined") };
    socket.into_inner()
}

async fn send(mut stream: TcpStream, until: Instant) {
    let mut frame = vec![0x82, 0xff];
    frame.extend(u64::try_from(MESSAGE).expect("a length").to_be_bytes());
    frame.extend([0x12, 0x34, 0x56, 0x78]);
    frame.resize(frame.len() + MESSAGE, 0x5a);
    while Instant::now() < until {
        stream.write_all(&frame).await.expect("sent");
    }
    // A close, of no content: the other end is closed once it has all.
    stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.expect("sent");
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn receive(mut stream: TcpStream) -> u64 {
    let (mut buffer, mut count) = (vec![0; 256 * 1024], 0);
    loop {
        match stream.read(&mut buffer).await.expect("read") {
            0 => return count,
            more => count += u64::try_from(more).expect("a count"),
        }
    }
}

/// How many bytes of memory this process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// How long the hub's threads have run.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).ok();
        let is_hub = read("comm")?.trim_end() == HUB;
        let ran = read("schedstat")?.split(' ').next()?.parse::<u64>().ok()?;
        is_hub.then_some(ran)
    });
    Duration::from_nanos(nanoseconds.sum())
}
