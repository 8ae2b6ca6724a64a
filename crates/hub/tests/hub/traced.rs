//! A hub in a process of its own whose system calls are recorded.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tokio::runtime::Runtime;

use crate::support::start_in;

/// Names the folder of the hub, in the process that is traced.
const TRACED: &str = "HUB_TRACED";

/// A hub under strace.
pub(crate) struct TracedHub {
    process: Child,
    output: BufReader<ChildStdout>,
    trace: PathBuf,
}

impl TracedHub {
    /// Runs the hub of a test, which is called `test` and must call [`serve_if_traced`] first; with the
    /// options of strace. `None`, which is said, where nothing can be traced.
    pub(crate) fn start(
        test: &str,
        folder: &Path,
        trace: &Path,
        options: &[&str],
    ) -> Option<(Self, SocketAddr)> {
        let process = Command::new("strace")
            .args(["-f", "-y", "-o"])
            .arg(trace)
            .args(options)
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", test, "--nocapture"])
            .env(TRACED, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = process.inspect_err(|error| eprintln!("skipped: no strace: {error}")).ok()?;
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut hub = Self { process, output, trace: trace.into() };
        let address = hub.address();
        if address.is_none() {
            eprintln!("skipped: this process cannot be traced here");
        }
        Some((hub, address?))
    }

    /// Ends the hub and starts another on the same folder, in the same process.
    pub(crate) fn restart(&mut self) -> SocketAddr {
        let mut input = self.process.stdin.as_ref().expect("its input");
        writeln!(input, "again").expect("written");
        self.address().expect("an address")
    }

    /// Ends it; gives what was recorded.
    pub(crate) fn end(mut self) -> Vec<u8> {
        // It ends when its input does.
        drop(self.process.stdin.take());
        self.output.read_to_end(&mut Vec::new()).expect("its end");
        assert!(self.process.wait().expect("ended").success());
        std::fs::read(&self.trace).expect("a trace")
    }

    /// Where the hub listens now; `None` where it ended instead.
    fn address(&mut self) -> Option<SocketAddr> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).expect("a line") == 0 {
                return None;
            }
            // The test runner's own words stand before it, on the same line.
            if let Some((_, address)) = line.split_once("address ") {
                return Some(address.trim().parse().expect("an address"));
            }
        }
    }
}

/// In the process that is traced, serves until that shall end; says whether it is that process.
pub(crate) fn serve_if_traced() -> bool {
    let Some(folder) = std::env::var_os(TRACED) else { return false };
    Runtime::new().expect("a runtime").block_on(serve(Path::new(&folder)));
    true
}

async fn serve(folder: &Path) {
    loop {
        let hub = start_in(folder, 0).await;
        println!("address {}", hub.local_addr());
        let input = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        let read = input.await.expect("a thread").expect("a line, or the end of the input");
        hub.shutdown().await;
        if read == 0 {
            return;
        }
    }
}
