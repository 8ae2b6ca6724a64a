//! Peers of npm hyperdht, in processes of their own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hyperdht::Bootstrap;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Nothing in these tests takes longer, on a machine with little to spare.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Node.js process. It ends when this is dropped.
pub(crate) struct Js {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Js {
    /// Starts `tests/js/connect.js` in that role.
    pub(crate) fn start(role: &str, options: &Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join("../../node_modules/hyperdht");
        assert!(modules.exists(), "npm hyperdht is missing: run `npm install` at the top of the repository");
        let mut child = Command::new("node")
            .arg(root.join("tests/js/connect.js"))
            .arg(role)
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("these tests need Node.js: install it so that `node` runs");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing it says of that kind.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        let mut others = Vec::new();
        let wanted = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the process goes on");
                let event: Value = serde_json::from_str(&line).unwrap();
                assert_ne!(event["event"], "rejection", "{event}");
                if event["event"] == kind {
                    return event;
                }
                others.push(event);
            }
        };
        match timeout(PATIENCE, wanted).await {
            Ok(event) => event,
            Err(_) => panic!("no {kind} event, but {others:?}"),
        }
    }

    /// Ends it as a crash would: nobody is told.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A network of npm hyperdht nodes.
pub(crate) struct Testnet {
    _process: Js,
    pub bootstrap: Vec<String>,
}

impl Testnet {
    pub(crate) async fn start() -> Self {
        let mut process = Js::start("testnet", &serde_json::json!({ "size": 4 }));
        let ready = process.event("ready").await;
        let bootstrap =
            ready["bootstrap"].as_array().unwrap().iter().map(|b| b.as_str().unwrap().into()).collect();
        Self { _process: process, bootstrap }
    }
}

pub(crate) fn parse(bootstrap: &[String]) -> Vec<Bootstrap> {
    bootstrap.iter().map(|node| node.parse().unwrap()).collect()
}

/// The bytes a JSON string spells in hex.
pub(crate) fn key(value: &Value) -> [u8; 32] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}
