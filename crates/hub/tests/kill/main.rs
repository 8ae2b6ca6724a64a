//! Kills a hub again and again while many use it, and checks every answer that anybody got:
//!
//! ```text
//! cargo test -p hub --test kill -- --kills 50 --seed 7
//! ```
//!
//! What was acknowledged is there after the next start, each of the answers fits into one order of what
//! happened to its task (so no two actors were given the same one), and each start takes less than two
//! seconds. Without arguments it kills a few times; the seed says when, and what is asked for.

#[path = "../../benches/load/client.rs"]
mod client;
mod history;
mod random;
mod users;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hub::{Hub, HubConfig};
use tokio::runtime::Runtime;

use random::Random;

/// How long a hub may take from the start of its process to its first answer.
const START_LIMIT: Duration = Duration::from_secs(2);
/// How long it runs before it is killed, milliseconds.
const LIFE: std::ops::Range<u64> = 30..400;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    if let (Some(folder), Some(address)) = (value("--serve"), value("--listen")) {
        serve(Path::new(folder), address.parse().expect("an address"));
        return;
    }
    let number = |name: &str| value(name).map(|text| text.parse::<u64>().expect("a number"));
    let (kills, seed) = (number("--kills").unwrap_or(4), number("--seed").unwrap_or(1));
    Runtime::new().expect("a runtime").block_on(run(kills, seed));
}

/// The hub that is killed, in a process of its own.
fn serve(folder: &Path, listen: SocketAddr) {
    Runtime::new().expect("a runtime").block_on(async {
        let config = HubConfig { listen, dht: false, ..HubConfig::new(folder.join("hub")) };
        let _hub = Hub::start(config).await.expect("a hub");
        println!("ready");
        std::future::pending::<()>().await;
    });
}

async fn run(kills: u64, seed: u64) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let address = free_address();
    let mut random = Random::new(seed);
    let users = users::Users::start(address, &mut random);
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        let (hub, took) = start(dir.path(), address);
        slowest = slowest.max(took);
        users.hub_is_up();
        tokio::time::sleep(Duration::from_millis(random.within(LIFE))).await;
        drop(hub);
        users.hub_is_down();
    }
    let (hub, took) = start(dir.path(), address);
    slowest = slowest.max(took);
    let history = users.stop().await;
    let summary = history.check(address).await;
    drop(hub);
    println!("{kills} kills (seed {seed}): {summary}; the slowest start took {} ms", slowest.as_millis());
}

/// A hub in a process of its own, which is killed with this.
struct HubProcess(Child);

impl Drop for HubProcess {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

/// Starts the hub and waits until it answers; gives how long that took.
fn start(folder: &Path, address: SocketAddr) -> (HubProcess, Duration) {
    let started = Instant::now();
    let hub = Command::new(std::env::current_exe().expect("this program"))
        .arg("--serve")
        .arg(folder)
        .args(["--listen", &address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut hub = HubProcess(hub);
    let mut said = String::new();
    let stdout = hub.0.stdout.take().expect("its output");
    BufReader::new(stdout).read_line(&mut said).expect("a line");
    assert_eq!(said, "ready\n", "the hub did not start");
    let took = started.elapsed();
    assert!(took < START_LIMIT, "the start took {took:?}");
    (hub, took)
}

fn free_address() -> SocketAddr {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    taken.local_addr().expect("an address")
}
