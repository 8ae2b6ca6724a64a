//! A large network under virtual time: do lookups find what was announced, does a server stay
//! findable, and does anybody's memory grow?
//!
//! ```text
//! cargo run --release -p hyperdht --features testing --example simulate -- \
//!     --nodes 1000 --hours 24 --churn 0.3
//! ```

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hyperdht::testing::{ChurnConfig, ChurningNetwork, Visitor};
use secret_stream::KeyPair;

/// Announcements made at the start, and again as a swarm does.
const TOPICS: u8 = 20;
/// How often a swarm announces again.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often somebody looks up one of the topics and the server.
const LOOK_EVERY: Duration = Duration::from_secs(60);

struct Options {
    network: ChurnConfig,
    hours: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!(
                "{problem}\nusage: simulate [--nodes N] [--hours H] [--churn SHARE] [--loss SHARE] [--seed N]"
            );
            return ExitCode::from(2);
        }
    };
    tokio::time::pause();
    if run(options).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(Options { network: config, hours }: Options) -> bool {
    let started = Instant::now();
    let mut network = ChurningNetwork::new(config).await;
    println!(
        "{} nodes after {} s, {:.1} s of ours; {} % replaced every 10 min, {} % loss",
        config.nodes,
        network.age().as_secs(),
        started.elapsed().as_secs_f64(),
        config.churn * 100.0,
        config.loss * 100.0
    );
    let (announcer, server, seeker) = (network.visitor(false), network.visitor(false), network.visitor(true));
    network.live(Duration::from_secs(10)).await;
    let keys: Vec<_> = (0..TOPICS).map(|i| KeyPair::from_seed(&[i; 32])).collect();
    let server_keys = KeyPair::from_seed(&[200; 32]);
    let listening = network.meanwhile(server.listen(server_keys.clone())).await;

    let mut tally = Tally::default();
    let end = network.age() + Duration::from_secs_f64(hours * 3600.0);
    let (mut announced, mut counted) = (None, network.age());
    let mut topic = 0;
    println!(
        "  hour   lookups  found   server  found    nodes  table entries  under way  stored  most of one"
    );
    while network.age() < end {
        if announced.is_none_or(|at| network.age() >= at + ANNOUNCE_EVERY) {
            announced = Some(network.age());
            for (i, keys) in (0..TOPICS).zip(&keys) {
                if network.meanwhile(announcer.announce([i; 32], keys)).await.is_err() {
                    println!("topic {i} was announced nowhere");
                }
            }
        }
        tally.look(&mut network, &seeker, topic, &keys, &server_keys).await;
        topic = (topic + 1) % TOPICS;
        network.live(LOOK_EVERY).await;
        if network.age() >= counted + Duration::from_secs(3600) || network.age() >= end {
            counted = network.age();
            let census = network.census();
            println!(
                "{:6.2}  {:8}  {:5}  {:7}  {:5}  {:7}  {:13}  {:9}  {:6}  {:11}",
                network.age().as_secs_f64() / 3600.0,
                tally.lookups,
                tally.found,
                tally.server_lookups,
                tally.server_found,
                census.nodes,
                census.table_entries,
                census.under_way,
                census.stored,
                census.most
            );
        }
    }
    drop(listening);
    println!(
        "{} of {} lookups found the announcement, {} of {} the server; \
         {} nodes left and as many joined; {:.0} s",
        tally.found,
        tally.lookups,
        tally.server_found,
        tally.server_lookups,
        network.left(),
        started.elapsed().as_secs_f64()
    );
    tally.found == tally.lookups && tally.server_found == tally.server_lookups
}

#[derive(Default)]
struct Tally {
    lookups: u32,
    found: u32,
    server_lookups: u32,
    server_found: u32,
}

impl Tally {
    async fn look(
        &mut self,
        network: &mut ChurningNetwork,
        seeker: &Visitor,
        topic: u8,
        keys: &[KeyPair],
        server: &KeyPair,
    ) {
        let wanted = keys[usize::from(topic)].public_key();
        self.lookups += 1;
        self.found += u32::from(network.meanwhile(seeker.finds([topic; 32], &wanted)).await);
        self.server_lookups += 1;
        self.server_found += u32::from(network.meanwhile(seeker.finds_server(&server.public_key())).await);
    }
}

fn options() -> Result<Options, String> {
    let mut network = ChurnConfig { nodes: 1000, churn: 0.3, loss: 0.0, seed: 1 };
    let mut hours = 24.0;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let wrong = |_| format!("{flag} {value}: no such number");
        match flag.as_str() {
            "--nodes" => network.nodes = value.parse().map_err(|_| wrong(()))?,
            "--hours" => hours = value.parse().map_err(|_| wrong(()))?,
            "--churn" => network.churn = value.parse().map_err(|_| wrong(()))?,
            "--loss" => network.loss = value.parse().map_err(|_| wrong(()))?,
            "--seed" => network.seed = value.parse().map_err(|_| wrong(()))?,
            _ => return Err(format!("there is no option {flag}")),
        }
    }
    Ok(Options { network, hours })
}
