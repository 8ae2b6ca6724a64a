//! Over links that carry little, made of network namespaces: a sender, a router and a receiver. Linux, as
//! root, with iproute2 and nftables; says so where that is missing.

#![cfg(target_os = "linux")]

#[path = "common/pattern.rs"]
mod pattern;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use pattern::Pattern;
use udx::{Config, Stats, Stream, StreamOptions, Udx, Verdict};

const BYTES: usize = 10_000_000;
const SENDER: u32 = 1;
const RECEIVER: u32 = 2;
/// What this file's process is to be in a namespace.
const PART: &str = "UDX_NAMESPACES_PART";
/// Sizes of small links.
const SIZES: [usize; 4] = [1199, 1000, 800, 576];

/// Which link is small, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Small {
    /// The sender's own.
    Own,
    /// The one behind the router, which reports what it does not carry.
    Reported,
    /// The same, and it reports nothing.
    Silent,
}

#[test]
fn links_that_carry_little_are_passed_from_the_start() {
    for small in [Small::Own, Small::Reported, Small::Silent] {
        for mtu in SIZES {
            let Some(network) = Network::up(small) else { return };
            network.shrink(mtu);
            let result = network.transfer(|| {});
            println!("{mtu} from the start, {small:?}: {result}");
        }
    }
}

#[test]
fn links_that_come_to_carry_little_are_passed() {
    for small in [Small::Own, Small::Reported, Small::Silent] {
        for mtu in SIZES {
            let Some(network) = Network::up(small) else { return };
            let result = network.transfer(|| network.shrink(mtu));
            println!("{mtu} from the middle, {small:?}: {result}");
        }
    }
}

/// Three namespaces, removed at the end.
struct Network {
    name: String,
    small: Small,
}

impl Network {
    /// `None` where there can be none.
    fn up(small: Small) -> Option<Self> {
        // Two tests run at once.
        let name = format!("udx-{}-{:?}", std::process::id(), std::thread::current().id());
        let network = Self { name: name.replace(['(', ')'], ""), small };
        if let Err(error) = network.build() {
            println!("skipped, no network namespaces here: {error}");
            return None;
        }
        Some(network)
    }

    fn build(&self) -> Result<(), String> {
        let [a, router, b] = ["a", "r", "b"].map(|part| self.space(part));
        for space in [&a, &router, &b] {
            run(&["ip", "netns", "add", space])?;
        }
        for (end, side, subnet) in [(&a, "left", "10.77.1"), (&b, "right", "10.77.2")] {
            ip(&format!("link add {side} netns {router} type veth peer name e0 netns {end}"))?;
            ip(&format!("-n {router} addr add {subnet}.1/24 dev {side}"))?;
            ip(&format!("-n {end} addr add {subnet}.2/24 dev e0"))?;
            ip(&format!("-n {router} link set {side} up"))?;
            ip(&format!("-n {end} link set e0 up"))?;
            ip(&format!("-n {end} route add default via {subnet}.1"))?;
        }
        ip(&format!("netns exec {router} sysctl -qw net.ipv4.ip_forward=1"))?;
        if self.small == Small::Silent {
            let rules = "add table ip silence
                add chain ip silence out { type filter hook output priority 0; }
                add rule ip silence out icmp type destination-unreachable drop";
            run(&["ip", "netns", "exec", &router, "nft", rules])?;
        }
        Ok(())
    }

    fn space(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    /// The small link carries packets of so many bytes from now on.
    fn shrink(&self, mtu: usize) {
        let (side, end) = if self.small == Small::Own { ("left", "a") } else { ("right", "b") };
        ip(&format!("-n {} link set {side} mtu {mtu}", self.space("r"))).unwrap();
        ip(&format!("-n {} link set e0 mtu {mtu}", self.space(end))).unwrap();
    }

    /// Sends all bytes, and does something when half of them are there. What the sender says of it.
    fn transfer(&self, at_half: impl FnOnce()) -> String {
        let mut receiver = self.start("b", "receive");
        assert_eq!(receiver.next(), "ready");
        let mut sender = self.start("a", "send");
        assert_eq!(sender.next(), "half");
        at_half();
        sender.tell();
        let result = sender.next();
        assert_eq!(receiver.next(), BYTES.to_string());
        result
    }

    fn start(&self, space: &str, part: &str) -> Program {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.space(space)])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "plays_a_part", "--nocapture"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok);
        Program { input: child.stdin.take().unwrap(), said: Box::new(said), child }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for part in ["a", "r", "b"] {
            let _ = run(&["ip", "netns", "del", &self.space(part)]);
        }
    }
}

/// A process in a namespace, killed at the end.
struct Program {
    child: Child,
    input: ChildStdin,
    said: Box<dyn Iterator<Item = String>>,
}

impl Program {
    /// What it says next, past what the test harness says.
    fn next(&mut self) -> String {
        let said = self.said.find_map(|line| line.split_once(SAYS).map(|(_, said)| said.to_owned()));
        said.unwrap_or_else(|| panic!("it ended: {:?}", self.child.wait()))
    }

    /// Lets it go on.
    fn tell(&mut self) {
        writeln!(self.input).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Begins what a process has to say.
const SAYS: &str = "SAYS ";

fn ip(arguments: &str) -> Result<(), String> {
    run(&std::iter::once("ip").chain(arguments.split(' ')).collect::<Vec<_>>())
}

fn run(command: &[&str]) -> Result<(), String> {
    let output = Command::new(command[0]).args(&command[1..]).output().map_err(|error| error.to_string())?;
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", error.trim())) }
}

/// Not a test of its own: what runs in the namespaces.
#[tokio::test]
async fn plays_a_part() {
    match std::env::var(PART).as_deref() {
        Ok("receive") => receive().await,
        Ok("send") => send().await,
        _ => {}
    }
}

async fn receive() {
    let (udx, _datagrams) = Udx::spawn(Config::default());
    let _socket = udx.bind("0.0.0.0:4000".parse().unwrap()).await.unwrap();
    let firewall = Box::new(|_, _| Verdict::Connect { remote_id: SENDER });
    let options = StreamOptions { id: Some(RECEIVER), firewall: Some(firewall), ..Default::default() };
    let mut stream = udx.stream(options).await.unwrap();
    println!("{SAYS}ready");
    let mut pattern = Pattern::new();
    while let Some(chunk) = stream.read_chunk().await.unwrap() {
        pattern.check(&chunk);
    }
    println!("{SAYS}{}", pattern.position());
    stream.end().unwrap();
    let _ = stream.closed().await;
}

async fn send() {
    let (udx, _datagrams) = Udx::spawn(Config::default());
    let socket = udx.bind(SocketAddr::from(([0, 0, 0, 0], 0))).await.unwrap();
    let mut stream = udx.stream(StreamOptions { id: Some(SENDER), ..Default::default() }).await.unwrap();
    stream.connect(&socket, RECEIVER, "10.77.2.2:4000".parse().unwrap()).unwrap();
    let mut seconds = 0.0;
    let mut pattern = Pattern::new();
    for until in [BYTES / 2, BYTES] {
        let start = Instant::now();
        write(&mut stream, &mut pattern, until).await;
        stream.flushed().await.unwrap();
        seconds += start.elapsed().as_secs_f64();
        if until < BYTES {
            println!("{SAYS}half");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
    }
    let Stats { mtu, timeouts, resent, .. } = stream.stats();
    println!("{SAYS}{seconds:.2} s, packets of {mtu}, {timeouts} timeouts, {resent} resent");
    stream.end().unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.closed()).await;
}

async fn write(stream: &mut Stream, pattern: &mut Pattern, until: usize) {
    while pattern.position() < until {
        let n = (until - pattern.position()).min(64 * 1024);
        std::future::poll_fn(|cx| stream.poll_write_ready(cx)).await.unwrap();
        stream.write_chunk(pattern.next(n).into()).unwrap();
    }
}
