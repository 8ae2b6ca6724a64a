//! Measures a hub on loopback, with the load on the same cores:
//!
//! ```text
//! cargo bench -p hub --bench load -- [creates|fill|million|watchers|tunnel]... [--seconds S] \
//!     [--connections N] [--tasks N] [--watchers N] [--pairs N] [--data DIR] [--database URL]
//! ```
//!
//! - `creates`: how many tasks a second are made, each acknowledged when it is on the disk, beside how long
//!   the disk takes for one sync.
//! - `fill`: how much memory the hub takes, and this load with it, while so many tasks are made. Not done
//!   unless it is named: it takes minutes.
//! - `million`: how long lists and claims take with that many tasks stored.
//! - `watchers`: how long events take to reach a thousand watchers, at a hundred a second.
//! - `tunnel`: how many bytes a second pass through the tunnel for one pair and for many, what that costs the
//!   hub, and how unlike the shares of many are. On Linux alone.
//!
//! With `--database`, all of it is that of a hub on that PostgreSQL database, which must be empty for
//! `million`.
//!
//! Run by `cargo test`, it does a little of each, and measures nothing worth telling.

mod client;
mod creates;
mod disk;
mod figures;
mod fill;
#[path = "../../tests/hub/filled.rs"]
mod filled;
mod million;
mod tunnel;
mod watchers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hub::{HubConfig, PostgresUrl};

/// What to do.
#[derive(Debug)]
struct Plan {
    creates: bool,
    fill: bool,
    million: bool,
    events: bool,
    tunnel: bool,
    time: Duration,
    connections: usize,
    tasks: u64,
    watchers: usize,
    /// Of the tunnel.
    pairs: usize,
    /// Below which folder the data are kept.
    data: PathBuf,
    /// Where the tasks are instead of a file.
    database: Option<PostgresUrl>,
    database_url: Option<String>,
}

impl Plan {
    /// A hub on loopback whose folder is in `dir`.
    fn hub(&self, dir: &Path) -> HubConfig {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let database = self.database.clone();
        HubConfig { listen, dht: false, database, ..HubConfig::new(dir.join("hub")) }
    }

    /// Reads the command line; all is measured where nothing is named.
    fn read(args: &[String]) -> Self {
        // `cargo bench` says so, and `cargo test` doesn't.
        let is_bench = args.iter().any(|arg| arg == "--bench");
        let (seconds, connections, tasks, watchers) =
            if is_bench { (10.0, 64, 1_000_000, 1000) } else { (0.3, 8, 2000, 20) };
        let value = |name: &str| {
            let at = args.iter().position(|arg| arg == name)?;
            Some(args.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")))
        };
        let number = |name: &str| value(name).map(|text| text.parse::<f64>().expect("a number"));
        let is_named = |name: &str| args.iter().any(|arg| arg == name);
        let all = !["creates", "fill", "million", "watchers", "tunnel"].into_iter().any(is_named);
        Self {
            creates: all || is_named("creates"),
            fill: all && !is_bench || is_named("fill"),
            million: all || is_named("million"),
            events: all || is_named("watchers"),
            tunnel: all || is_named("tunnel"),
            time: Duration::from_secs_f64(number("--seconds").unwrap_or(seconds)),
            connections: number("--connections").map_or(connections, |number| number as usize),
            tasks: number("--tasks").map_or(tasks, |number| number as u64),
            watchers: number("--watchers").map_or(watchers, |number| number as usize),
            pairs: number("--pairs").map_or(if is_bench { 64 } else { 4 }, |number| number as usize),
            data: value("--data").map_or_else(std::env::temp_dir, PathBuf::from),
            database: value("--database").map(|url| PostgresUrl::parse(url).expect("a database's URL")),
            database_url: value("--database").cloned(),
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let plan = Plan::read(&args);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if plan.creates {
        runtime.block_on(creates::run(&plan));
    }
    if plan.fill {
        runtime.block_on(fill::run(&plan));
    }
    if plan.million {
        runtime.block_on(million::run(&plan));
    }
    if plan.events {
        runtime.block_on(watchers::run(&plan));
    }
    if plan.tunnel {
        tunnel::run(&plan);
    }
}
