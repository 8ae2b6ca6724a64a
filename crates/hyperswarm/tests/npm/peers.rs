//! npm hyperswarm in child processes, and swarms of ours beside them.

use std::{net::Ipv4Addr, path::Path, process::Stdio, time::Duration};

use hyperdht::{Bootstrap, Config, Dht};
use hyperswarm::{JoinOptions, Swarm, SwarmConfig};
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Longest that anything expected may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const SERVER: JoinOptions = JoinOptions { server: true, client: false, limit: None };
pub(crate) const CLIENT: JoinOptions = JoinOptions { server: false, client: true, limit: None };
pub(crate) const BOTH: JoinOptions = JoinOptions { server: true, client: true, limit: None };

/// A process of `tests/js/swarm.js`.
pub(crate) struct Node {
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Node {
    pub(crate) fn start(role: &str, options: &Value) -> Self {
        let this = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = this.join("../../node_modules/hyperswarm");
        assert!(
            modules.exists(),
            "the npm peers are missing: run `npm install` at the top of the repository"
        );
        let mut child = Command::new("node")
            .arg(this.join("tests/js/swarm.js"))
            .args([role, &options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js is needed for this test: install it, and run `npm install`");
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input, lines, _child: child }
    }

    /// The next event of this name; others are skipped.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        let event = async {
            loop {
                let line = self.lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("node ended before it said {name}"));
                let event: Value = serde_json::from_str(&line).expect("node prints JSON");
                assert_ne!(event["event"], "rejection", "{event}");
                if event["event"] == name {
                    return event;
                }
            }
        };
        timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("node says {name} in time"))
    }

    /// The ports of its two sockets.
    pub(crate) async fn ports(&mut self) -> Vec<u64> {
        let bound = self.event("bound").await;
        bound["ports"].as_array().unwrap().iter().map(|port| port.as_u64().unwrap()).collect()
    }

    pub(crate) async fn command(&mut self, command: &Value) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }
}

/// A DHT of npm's, and how to join it.
pub(crate) async fn npm_testnet() -> (Node, Vec<String>) {
    let mut node = Node::start("testnet", &json!({ "size": 4 }));
    let ready = node.event("ready").await;
    let bootstrap = ready["bootstrap"].as_array().unwrap();
    (node, bootstrap.iter().map(|address| address.as_str().unwrap().to_owned()).collect())
}

/// A node of ours in a network.
pub(crate) async fn node_of(bootstrap: &[String]) -> Dht {
    let bootstrap: Vec<Bootstrap> = bootstrap.iter().map(|node| node.parse().unwrap()).collect();
    let host = Ipv4Addr::LOCALHOST.into();
    let dht = Dht::new(Config { host, port: 0, ..Config::private(bootstrap) }).await.unwrap();
    dht.ready().await.unwrap();
    dht
}

/// A swarm of ours on a node of its own.
pub(crate) async fn swarm_of(bootstrap: &[String], seed: u8) -> Swarm {
    let keys = KeyPair::from_seed(&[seed; 32]);
    Swarm::new(SwarmConfig { owns_dht: true, ..SwarmConfig::new(node_of(bootstrap).await, keys) })
}
