//! npm hyperdht nodes in a child process that does what it is told, a JSON object a line.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longest that the peer may take for one command.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Peer {
    /// Killed with the peer; it also exits by itself when its input ends.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    pub(crate) fn start() -> Self {
        let this = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(
            this.join("../../node_modules/hyperdht").exists(),
            "the npm peers are missing: run `npm install` at the top of the repository"
        );
        let mut child = Command::new("node")
            .arg(this.join("tests/js/dht-peer.js"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js is needed for this test: install it, and run `npm install`");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, input, output }
    }

    /// Has something done and returns what came of it.
    pub(crate) async fn run(&mut self, command: Value) -> Value {
        let answer = self.try_run(command.clone()).await;
        assert_eq!(answer["error"], Value::Null, "{command} went well");
        answer
    }

    /// The same; what it throws is in the field `error`.
    pub(crate) async fn try_run(&mut self, command: Value) -> Value {
        let line = format!("{command}\n");
        self.input.write_all(line.as_bytes()).await.expect("the peer runs");
        let answer = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = answer.unwrap_or_else(|_| panic!("{command} takes too long")).unwrap();
        serde_json::from_str(&line.expect("the peer runs")).expect("the peer prints JSON")
    }

    /// Ends its nodes in good order.
    pub(crate) async fn exit(mut self) {
        self.run(json!({ "do": "exit" })).await;
    }
}
