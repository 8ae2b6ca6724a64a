//! A Node.js peer as a child process that prints a JSON object per line.

pub(crate) mod exchange;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Longest that a peer may take to print its next line.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts `tests/js/<script>` of this crate.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let this = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = this.join("../../node_modules/@hyperswarm/secret-stream");
        assert!(
            modules.exists(),
            "the npm peers are missing: run `npm install` at the top of the repository"
        );
        let mut child = Command::new("node")
            .arg(this.join("tests/js").join(script))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js is needed for this test: install it, and run `npm install`");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing that the peer says.
    pub(crate) async fn says(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("the peer says something in time")
            .unwrap()
            .expect("the peer says something before it exits");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the peer prints JSON, not {line}"))
    }

    /// The port that it says it listens on.
    pub(crate) async fn port(&mut self) -> u16 {
        let said = self.says().await;
        said["port"].as_u64().and_then(|port| port.try_into().ok()).expect("the peer names its port")
    }

    /// Waits until the peer exited by itself, and well.
    pub(crate) async fn exits(mut self) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the peer exits");
        assert!(status.unwrap().success());
    }
}
