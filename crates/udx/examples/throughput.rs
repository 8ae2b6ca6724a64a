//! Measures one stream of ours to another process of ours over loopback.
//!
//! `cargo run --release -p udx --example throughput [MEGABYTES]`

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use udx::{Config, StreamOptions, Udx, Verdict};

const SENDER: u32 = 1;
const RECEIVER: u32 = 2;
const MEGABYTE: usize = 1_000_000;
/// Bytes a file thread would read at once.
const CHUNK: usize = 256 * 1024;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("receive") => receive().await,
        Some(megabytes) => send(megabytes.parse::<usize>()? * MEGABYTE).await,
        None => send(1024 * MEGABYTE).await,
    }
}

async fn send(total: usize) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?).arg("receive").stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let address: SocketAddr = output.next().ok_or("no address")??.parse()?;

    let (udx, _datagrams) = Udx::spawn(Config::default());
    let socket = udx.bind("127.0.0.1:0".parse()?).await?;
    let mut stream = udx.stream(StreamOptions { id: Some(SENDER), ..Default::default() }).await?;
    stream.connect(&socket, RECEIVER, address)?;

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
    println!("{:.0} MB/s", total as f64 / MEGABYTE as f64 / seconds);
    println!("sender   {:?}", stream.stats());
    println!("receiver {}", output.next().ok_or("no statistics")??);
    child.wait()?;
    Ok(())
}

async fn receive() -> Result<()> {
    let (udx, _datagrams) = Udx::spawn(Config::default());
    let socket = udx.bind("127.0.0.1:0".parse()?).await?;
    let firewall = Box::new(|_, _| Verdict::Connect { remote_id: SENDER });
    let options = StreamOptions { id: Some(RECEIVER), firewall: Some(firewall), ..Default::default() };
    let mut stream = udx.stream(options).await?;
    println!("{}", socket.local_addr());
    while stream.read_chunk().await?.is_some() {}
    stream.end()?;
    stream.closed().await?;
    println!("{:?}", stream.stats());
    Ok(())
}
