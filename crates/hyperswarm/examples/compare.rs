//! Ours beside npm hyperdht and hyperswarm, each on a network of its own kind on this machine:
//! requests that a query costs, and the time from `join` to the connection.
//!
//! ```text
//! npm install && cargo run --release -p hyperswarm --example compare -- [NODES] [QUERIES] [JOINS]
//! ```

use std::{error::Error, future::Future, net::Ipv4Addr, path::Path, time::Instant};

use hyperdht::{
    AnnounceOptions, Config, Dht,
    testnet::{bootstrap_of, testnet},
};
use hyperswarm::{JoinOptions, Swarm, SwarmConfig};
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::process::Command;

const SERVER: JoinOptions = JoinOptions { server: true, client: false, limit: None };
const CLIENT: JoinOptions = JoinOptions { server: false, client: true, limit: None };

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (nodes, queries, joins) = (next(50)?, next(30)?, next(9)?);
    let ours = ours(nodes, queries, joins).await?;
    let theirs = theirs(nodes, queries, joins).await?;

    println!("{nodes} nodes on this machine; {queries} queries of each kind, {joins} joins\n");
    println!("| requests sent for one | ours | npm |\n|---|---|---|");
    for kind in ["findNode", "findPeer", "lookup", "announce"] {
        println!("| {kind} | {:.1} | {:.1} |", number(&ours[kind]), number(&theirs[kind]));
    }
    println!("\n| `join` to connection, median (least to most), ms | ours | npm |\n|---|---|---|");
    for (kind, what) in [("warm", "on a node that is ready"), ("cold", "on a node just made")] {
        println!("| {what} | {} | {} |", times(&ours[kind]), times(&theirs[kind]));
    }
    Ok(())
}

async fn ours(nodes: usize, queries: usize, joins: usize) -> Result<Value> {
    let all = testnet(nodes).await?;
    let client = node(&all).await?;
    client.ready().await?;
    let keys = KeyPair::generate();
    let mut result = json!({
        "findNode": cost(&client, queries, |id| { client.find_node(id).finish() }).await,
        "findPeer": cost(&client, queries, |id| { client.find_peer(&id, Vec::new()).finish() }).await,
        "lookup": cost(&client, queries, |id| { client.lookup(id, Vec::new()).finish() }).await,
        "announce": cost(&client, queries, |id| {
            client.announce(id, &keys, &[], AnnounceOptions::default()).finish()
        })
        .await,
    });
    for (kind, warm) in [("warm", true), ("cold", false)] {
        let mut series = Vec::new();
        for _ in 0..joins {
            series.push(join(&all, warm).await?);
        }
        result[kind] = json!(series);
    }
    for node in all {
        node.destroy().await;
    }
    Ok(result)
}

async fn theirs(nodes: usize, queries: usize, joins: usize) -> Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/compare.js");
    let args = [nodes, queries, joins].map(|number| number.to_string());
    let output = Command::new("node").arg(script).args(args).output().await?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn node(all: &[Dht]) -> Result<Dht> {
    let bootstrap = vec![bootstrap_of(&all[0])?];
    let host = Ipv4Addr::LOCALHOST.into();
    Ok(Dht::new(Config { host, port: 0, ..Config::private(bootstrap) }).await?)
}

/// Requests that a client sends for one query, on average.
async fn cost<F: Future>(client: &Dht, times: usize, query: impl Fn([u8; 32]) -> F) -> f64 {
    let before = client.traffic().await;
    for _ in 0..times {
        query(KeyPair::generate().public_key()).await;
    }
    let after = client.traffic().await;
    let sent = after.requests + after.repeats - before.requests - before.repeats;
    sent as f64 / times as f64
}

/// Milliseconds from `join` to the connection.
async fn join(all: &[Dht], warm: bool) -> Result<f64> {
    let topic = KeyPair::generate().public_key();
    let swarm =
        |dht| Swarm::new(SwarmConfig { owns_dht: true, ..SwarmConfig::new(dht, KeyPair::generate()) });
    let server = swarm(node(all).await?);
    server.join(topic, SERVER).flushed().await;
    let dht = node(all).await?;
    if warm {
        dht.ready().await?;
    }
    let client = swarm(dht);
    let start = Instant::now();
    client.join(topic, CLIENT);
    let _connection = client.accept().await.ok_or("the swarm ended")?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    client.destroy().await;
    server.destroy().await;
    Ok(took)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn times(series: &Value) -> String {
    let mut times: Vec<f64> = series.as_array().into_iter().flatten().map(number).collect();
    times.sort_unstable_by(f64::total_cmp);
    match times.as_slice() {
        [] => "none".into(),
        times => format!("{:.0} ({:.0} to {:.0})", times[times.len() / 2], times[0], times[times.len() - 1]),
    }
}
