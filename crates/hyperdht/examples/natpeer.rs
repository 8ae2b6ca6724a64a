//! A peer of the NAT lab (tests/natlab): DHT nodes, a server or a client, told by its arguments
//! and telling what happens as JSON, a line each.
//!
//! ```text
//! natpeer nodes HOST...             nodes of a network of their own, port 49737 of each address,
//!                                   and a relay on the first, of which it says how many pairs it has
//! natpeer serve BOOTSTRAP [RELAY]   takes what clients send and says that it came
//! natpeer dial BOOTSTRAP KEY BYTES [IDLE [RELAY]]   connects, sends half, rests IDLE seconds, sends the rest
//! ```
//! It ends with its standard input.

use std::error::Error;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyperdht::connect::{ConnectOptions, Connection, ServerOptions};
use hyperdht::relay::RelayOptions;
use hyperdht::{Bootstrap, Config, DEFAULT_PORT, Dht};
use secret_stream::KeyPair;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The largest message of a transfer.
const CHUNK: usize = 64 * 1024;
/// Attempts to connect, as an application makes them; and the time for all.
const ATTEMPTS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the relay is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["nodes", hosts @ ..] => nodes(hosts).await,
        ["serve", bootstrap] => serve(bootstrap, None).await,
        ["serve", bootstrap, relay] => serve(bootstrap, Some(unhex(relay)?)).await,
        ["dial", bootstrap, key, bytes] => dial(bootstrap, key, bytes.parse()?, 0, None).await,
        ["dial", bootstrap, key, bytes, idle] => {
            dial(bootstrap, key, bytes.parse()?, idle.parse()?, None).await
        }
        ["dial", bootstrap, key, bytes, idle, relay] => {
            dial(bootstrap, key, bytes.parse()?, idle.parse()?, Some(unhex(relay)?)).await
        }
        _ => Err("natpeer nodes HOST... | serve BOOTSTRAP [RELAY] | dial BOOTSTRAP KEY BYTES [IDLE [RELAY]]"
            .into()),
    }
}

async fn nodes(hosts: &[&str]) -> Result<()> {
    let mut nodes = Vec::new();
    for host in hosts {
        let host: Ipv4Addr = host.parse()?;
        let node = Dht::new(Config {
            host: host.into(),
            known_host: Some(host),
            ephemeral: Some(false),
            firewalled: false,
            ..Config::private(bootstrap(hosts.first().filter(|_| !nodes.is_empty()).unwrap_or(&""))?)
        })
        .await?;
        node.ready().await?;
        nodes.push(node);
    }
    let relay = match nodes.first() {
        Some(first) => first.relay(KeyPair::generate(), RelayOptions::default()).await?,
        None => return Err("no host is named".into()),
    };
    println!(r#"{{"event":"ready","relay":"{}"}}"#, hex(&relay.public_key()));
    let mut pairs = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let load = relay.load();
        if std::mem::replace(&mut pairs, load.pairs) != load.pairs {
            println!(r#"{{"event":"pairs","pairs":{pairs},"bytes":{}}}"#, load.bytes);
        }
    }
}

async fn serve(nodes: &str, relay: Option<[u8; 32]>) -> Result<()> {
    let dht = peer(nodes).await?;
    let relay_through = relay.map(|relay| Arc::new(move || Some(relay)) as _);
    let options = ServerOptions { relay_through, ..ServerOptions::default() };
    let mut server = dht.listen(KeyPair::generate(), options).await?;
    println!(r#"{{"event":"ready","publicKey":"{}"}}"#, hex(&server.public_key()));
    while let Some(connection) = server.accept().await {
        tokio::spawn(async move {
            println!(r#"{{"event":"connection","path":"{}"}}"#, connection.link().path_name());
            let _ = receive(connection).await;
        });
    }
    Ok(())
}

/// Takes the length of what follows in eight bytes, and all of it, and says that it came.
async fn receive(mut connection: Connection) -> Result<()> {
    let stream = &mut connection.stream;
    let Some(length) = stream.recv().await? else { return Ok(()) };
    let mut left = u64::from_le_bytes(length.as_ref().try_into()?);
    while left > 0 {
        let Some(message) = stream.recv().await? else { return Ok(()) };
        left = left.saturating_sub(message.len() as u64);
    }
    stream.send(b"ok").await?;
    stream.shutdown().await?;
    while stream.recv().await?.is_some() {}
    Ok(())
}

async fn dial(nodes: &str, key: &str, bytes: usize, idle: u64, relay: Option<[u8; 32]>) -> Result<()> {
    let dht = peer(nodes).await?;
    let key = unhex(key)?;
    let began = Instant::now();
    let mut attempt = 1;
    let mut connection = loop {
        match dht.connect(key, ConnectOptions { relay_through: relay, ..ConnectOptions::default() }).await {
            Ok(connection) => break connection,
            Err(error) => {
                println!(
                    r#"{{"event":"failed","code":"{}","ms":{}}}"#,
                    error.code(),
                    began.elapsed().as_millis()
                );
                if attempt == ATTEMPTS || began.elapsed() > PATIENCE {
                    return Ok(());
                }
                attempt += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    println!(
        r#"{{"event":"connected","ms":{},"attempt":{attempt},"path":"{}","remote":"{}"}}"#,
        began.elapsed().as_micros() as f64 / 1000.0,
        connection.link().path_name(),
        connection.remote_addr(),
    );
    let stream = &mut connection.stream;
    stream.send(&(bytes as u64).to_le_bytes()).await?;
    for (half, rest) in [(bytes / 2, idle), (bytes - bytes / 2, 0)] {
        let mut left = half;
        while left > 0 {
            let chunk = left.min(CHUNK);
            stream.send(&vec![7; chunk]).await?;
            left -= chunk;
        }
        tokio::time::sleep(Duration::from_secs(rest)).await;
    }
    let answer = stream.recv().await?;
    let delivered = answer.is_some_and(|answer| answer.as_ref() == b"ok");
    println!(
        r#"{{"event":"delivered","ok":{delivered},"ms":{},"path":"{}"}}"#,
        began.elapsed().as_millis(),
        connection.link().path_name(),
    );
    Ok(())
}

/// A node as an application has it, ready.
async fn peer(nodes: &str) -> Result<Dht> {
    let dht = Dht::new(Config { port: 0, ..Config::private(bootstrap(nodes)?) }).await?;
    dht.ready().await?;
    Ok(dht)
}

fn bootstrap(nodes: &str) -> Result<Vec<Bootstrap>> {
    let named = nodes.split(',').filter(|node| !node.is_empty());
    let with_port = named.map(|node| match node.contains(':') {
        true => node.to_owned(),
        false => format!("{node}:{DEFAULT_PORT}"),
    });
    with_port.map(|node| Ok(node.parse()?)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<[u8; 32]> {
    let digits = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2).ok_or("a key is 64 digits"));
    let bytes: std::result::Result<Vec<u8>, Box<dyn Error>> =
        digits.map(|digits| Ok(u8::from_str_radix(digits?, 16)?)).collect();
    bytes?.try_into().map_err(|_| "a key is 64 digits".into())
}
