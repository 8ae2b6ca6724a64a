//! Measures streams of ours between two processes of ours.
//!
//! `cargo run --release -p udx --example throughput [MEGABYTES]`: one, over loopback.
//!
//! Over any network: `throughput receive ADDRESS` at one end, which runs until it is ended; at the other,
//! `throughput send ADDRESS MEGABYTES [FLOW] [ping]`, FLOW being 0 or another small number for flows
//! beside each other, and `throughput ping ADDRESS SECONDS` for small messages that are answered. With
//! `ping`, the sender does that over the same socket too.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use udx::{Config, Socket, Stream, StreamOptions, Udx, Verdict};

const SENDER: u32 = 1;
const RECEIVER: u32 = 2;
const MEGABYTE: usize = 1_000_000;
/// Bytes a file thread would read at once.
const CHUNK: usize = 256 * 1024;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Flows that a receiver takes, and streams whose messages it answers. Flow N is the stream of id RECEIVER
/// + N there, of SENDER here plus as much; messages go the same way from FIRST_ECHO on.
const FLOWS: u32 = 8;
const FIRST_ECHO: u32 = 1000;
/// Bytes of a small message, and the time between two.
const MESSAGE: usize = 64;
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive"] => receive("127.0.0.1:0".parse()?, 1).await,
        ["receive", address] => receive(address.parse()?, FLOWS).await,
        ["send", address, megabytes, ref rest @ ..] => {
            let flow = rest.first().and_then(|flow| flow.parse().ok()).unwrap_or(0);
            let (socket, udx) = bind("0.0.0.0:0").await?;
            let to = address.parse()?;
            let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let pings = rest.contains(&"ping").then(|| {
                let (udx, socket, is_over) = (udx.clone(), socket.clone(), is_over.clone());
                tokio::spawn(async move {
                    let over = || is_over.load(std::sync::atomic::Ordering::Relaxed);
                    ping(&udx, &socket, to, flow, over).await.map_err(|error| error.to_string())
                })
            });
            send(&udx, &socket, to, flow, megabytes.parse::<usize>()? * MEGABYTE).await?;
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            if let Some(pings) = pings {
                pings.await??;
            }
            Ok(())
        }
        ["ping", address, seconds] => {
            let (socket, udx) = bind("0.0.0.0:0").await?;
            let until = Instant::now() + Duration::from_secs(seconds.parse()?);
            ping(&udx, &socket, address.parse()?, FLOWS - 1, || Instant::now() > until).await
        }
        [] => both(1024 * MEGABYTE).await,
        [megabytes] => both(megabytes.parse::<usize>()? * MEGABYTE).await,
        _ => Err("see the top of the source".into()),
    }
}

async fn bind(address: &str) -> Result<(Socket, Udx)> {
    let (udx, _datagrams) = Udx::spawn(Config::default());
    Ok((udx.bind(address.parse()?).await?, udx))
}

async fn both(total: usize) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?).arg("receive").stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let address: SocketAddr = output.next().ok_or("no address")??.parse()?;
    let (socket, udx) = bind("127.0.0.1:0").await?;
    send(&udx, &socket, address, 0, total).await?;
    println!("receiver {}", output.next().ok_or("no statistics")??);
    child.wait()?;
    Ok(())
}

async fn send(udx: &Udx, socket: &Socket, to: SocketAddr, flow: u32, total: usize) -> Result<()> {
    let mut stream = udx.stream(StreamOptions { id: Some(SENDER + flow), ..Default::default() }).await?;
    stream.connect(socket, RECEIVER + flow, to)?;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let started = Instant::now();
    let mut left = total;
    while left > 0 {
        std::future::poll_fn(|cx| stream.poll_write_ready(cx)).await?;
        let n = left.min(CHUNK);
        stream.write_chunk(chunk.slice(..n))?;
        left -= n;
    }
    stream.end()?;
    stream.closed().await?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.1} MB/s", total as f64 / MEGABYTE as f64 / seconds);
    println!("sender   {:?}", stream.stats());
    Ok(())
}

/// Small messages, each answered; prints the quantiles of the time that took.
async fn ping(
    udx: &Udx,
    socket: &Socket,
    to: SocketAddr,
    flow: u32,
    is_over: impl Fn() -> bool,
) -> Result<()> {
    let mut stream = udx.stream(StreamOptions { id: Some(FIRST_ECHO + flow), ..Default::default() }).await?;
    stream.connect(socket, FIRST_ECHO + flow, to)?;
    let message = Bytes::from(vec![1; MESSAGE]);
    let mut took = Vec::new();
    while !is_over() {
        let started = Instant::now();
        stream.write_chunk(message.clone())?;
        let mut answered = 0;
        while answered < MESSAGE {
            answered += stream.read_chunk().await?.ok_or("ended")?.len();
        }
        took.push(started.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    took.sort_unstable();
    let at = |part: f64| took.get(((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1)));
    let times: Vec<String> = [0.0, 0.5, 0.9, 0.99, 1.0]
        .iter()
        .filter_map(|part| Some(format!("{:.1}", at(*part)?.as_secs_f64() * 1000.0)))
        .collect();
    println!("{} messages, ms at 0, 50, 90, 99, 100 %: {}", took.len(), times.join(" "));
    Ok(())
}

async fn receive(address: SocketAddr, flows: u32) -> Result<()> {
    let (udx, _datagrams) = Udx::spawn(Config::default());
    let socket = udx.bind(address).await?;
    let mut sinks = Vec::new();
    for flow in 0..flows {
        let stream = udx.stream(accepting(RECEIVER + flow, SENDER + flow)).await?;
        sinks.push(tokio::spawn(async move { sink(stream, flow).await.map_err(|error| error.to_string()) }));
        let stream = udx.stream(accepting(FIRST_ECHO + flow, FIRST_ECHO + flow)).await?;
        tokio::spawn(async move { echo(stream).await.map_err(|error| error.to_string()) });
    }
    println!("{}", socket.local_addr());
    for sink in sinks {
        sink.await??;
    }
    Ok(())
}

fn accepting(id: u32, remote_id: u32) -> StreamOptions {
    let firewall = Box::new(move |_, _| Verdict::Connect { remote_id });
    StreamOptions { id: Some(id), firewall: Some(firewall), ..Default::default() }
}

async fn sink(mut stream: Stream, flow: u32) -> Result<()> {
    while stream.read_chunk().await?.is_some() {}
    stream.end()?;
    stream.closed().await?;
    println!("flow {flow} {:?}", stream.stats());
    Ok(())
}

async fn echo(mut stream: Stream) -> Result<()> {
    while let Some(chunk) = stream.read_chunk().await? {
        stream.write_chunk(chunk)?;
    }
    stream.end()?;
    Ok(())
}
