//! npm udx-native in a child process (`tests/js/peer.js`).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longest that a peer may take for one answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// One udx-native stream. The process ends with it.
pub(crate) struct Peer {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub port: u16,
}

impl Peer {
    /// Starts the process and registers stream `id`.
    pub(crate) async fn start(id: u32) -> Self {
        Self::start_with(json!({ "id": id })).await
    }

    /// As [`Self::start`], with options of the `listen` command.
    pub(crate) async fn start_with(options: Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(
            root.join("node_modules/udx-native").is_dir(),
            "npm udx-native is missing: run `npm install` in {}",
            root.display()
        );
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js/peer.js"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is missing: install Node.js 20, then run `npm install`");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Self { _child: child, input, output, port: 0 };
        peer.tell(json!({ "listen": options })).await;
        let port = peer.expect("port").await;
        peer.port = u16::try_from(port.as_u64().unwrap()).unwrap();
        peer
    }

    /// Gives a command.
    pub(crate) async fn tell(&mut self, command: Value) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// The value of the next line with this key; other lines are passed over.
    pub(crate) async fn expect(&mut self, key: &str) -> Value {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.output.next_line());
            let line = line.await.unwrap_or_else(|_| panic!("the peer never said {key:?}")).unwrap();
            let line = line.unwrap_or_else(|| panic!("the peer ended without saying {key:?}"));
            let mut value: Value = serde_json::from_str(&line).unwrap();
            if value.get(key).is_some() {
                return if key == "received" { value } else { value[key].take() };
            }
        }
    }
}
