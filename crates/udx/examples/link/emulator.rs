//! Moves IP packets between two TUN devices as the link says.

use std::collections::BinaryHeap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::ioctl::{Setter, ioctl, opcode};
use tokio::signal::unix::{SignalKind, signal};
use udx::Micros;

use crate::link::{Counts, Direction, Link};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Addresses at the two ends, of a network of its own in each pair of namespaces.
const ADDRESSES: [&str; 2] = ["10.66.0.1", "10.66.0.2"];
const SIDES: [&str; 2] = ["a", "b"];

/// Packets that the kernel keeps for this process, however it is scheduled: the link's own queue is to be the
/// shorter.
const KERNEL_QUEUE: &str = "20000";

/// Largest IP packet, as on Ethernet.
const MTU: usize = 1500;

/// Packets taken in before those that are due are looked at.
const BATCH: usize = 64;

/// How long a direction sleeps at most before it sees that it should end.
const NAP: Duration = Duration::from_millis(100);

/// How long it sleeps at least: packets that are due within it are delivered together, as network cards
/// gather what they interrupt for. Waking for each packet of a fast link would take a core.
const GATHER: Duration = Duration::from_micros(100);

/// The machine's bound on receive buffers.
const RMEM_MAX: &str = "/proc/sys/net/core/rmem_max";

struct Options {
    link: Link,
    seed: u64,
    receive_buffer: Option<u64>,
}

pub(crate) fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("link: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let (mut rate, mut rtt, mut loss, mut jitter) = (None, 0.0, 0.0, 0.0);
    let (mut buffer, mut receive_buffer, mut seed) = (None, None, 1);
    while let Some(name) = arguments.next() {
        let value: f64 = arguments.next().ok_or(format!("{name} needs a value"))?.parse()?;
        match name.as_str() {
            "--rate" => rate = Some(value),
            "--rtt" => rtt = value,
            "--loss" => loss = value,
            "--jitter" => jitter = value,
            "--buffer" => buffer = Some(value as usize),
            "--receive-buffer" => receive_buffer = Some(value as u64),
            "--seed" => seed = value as u64,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let rate = rate.ok_or("--rate (Mbit/s) is needed")?;
    let mut link = Link::new(rate, (rtt * 1000.0 / 2.0) as Micros);
    link.loss = loss / 100.0;
    link.jitter = (jitter * 1000.0) as Micros;
    link.mtu = MTU;
    link.queue = buffer.unwrap_or(link.queue);
    Ok(Options { link, seed, receive_buffer })
}

fn run(options: &Options) -> Result<()> {
    let name = format!("atslink{}", std::process::id());
    let devices = [open_tun(&format!("{name}a"))?, open_tun(&format!("{name}b"))?].map(Arc::new);
    let _namespaces = Namespaces::make(&name)?;
    let _bound = options.receive_buffer.map(ReceiveBound::set).transpose()?;

    let is_over = Arc::new(AtomicBool::new(false));
    let threads = [0, 1].map(|from| {
        let (input, output) = (devices[from].clone(), devices[1 - from].clone());
        let (link, is_over) = (options.link.clone(), is_over.clone());
        let direction = Direction::new(options.seed.wrapping_mul(2) + from as u64);
        thread::spawn(move || carry(&input, &output, &link, direction, &is_over))
    });
    let sides = [0, 1].map(|side| {
        format!(
            r#""{}":{{"namespace":"{}","address":"{}"}}"#,
            SIDES[side],
            namespace(&name, side),
            ADDRESSES[side]
        )
    });
    say(&sides)?;
    wait_for_end()?;
    is_over.store(true, Ordering::Relaxed);
    let mut counts = Vec::new();
    for (side, thread) in threads.into_iter().enumerate() {
        let carried = thread.join().map_err(|_| "a direction failed")??;
        let Counts { packets, lost, overflowed } = carried.counts;
        let late = carried.late / carried.delivered.max(1);
        counts.push(format!(
            r#""{}":{{"packets":{packets},"lost":{lost},"overflowed":{overflowed},"late_us":{late}}}"#,
            SIDES[side]
        ));
    }
    say(&counts)
}

/// A line of JSON.
fn say(fields: &[String]) -> Result<()> {
    Ok(writeln!(io::stdout(), "{{{}}}", fields.join(","))?)
}

/// A packet on its way; ordered by when it arrives, soonest greatest.
#[derive(PartialEq, Eq)]
struct Packet {
    at: Micros,
    count: u64,
    data: Vec<u8>,
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.count).cmp(&(self.at, self.count))
    }
}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What one direction did.
struct Carried {
    counts: Counts,
    delivered: u64,
    /// Microseconds that packets were delivered later than the link would have, in all: how far to trust it.
    late: Micros,
}

/// One direction, until told that it is over.
fn carry(
    mut input: &File,
    mut output: &File,
    link: &Link,
    mut direction: Direction,
    is_over: &AtomicBool,
) -> io::Result<Carried> {
    // The link must be on time, whatever else runs. If the system refuses that, `late_us` shows it.
    let thread = rustix::thread::gettid().to_string();
    let _ = Command::new("chrt").args(["--fifo", "--pid", "10", &thread]).output();
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let epoch = Instant::now();
    let now = || Micros::try_from(epoch.elapsed().as_micros()).unwrap_or(Micros::MAX);
    let mut on_the_way: BinaryHeap<Packet> = BinaryHeap::new();
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let (mut count, mut delivered, mut late) = (0, 0, 0);
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let mut data = spare.pop().unwrap_or_default();
            data.resize(MTU, 0);
            match input.read(&mut data) {
                Ok(len) => {
                    data.truncate(len);
                    let Some((at, copies)) = direction.pass(link, now(), len, false) else {
                        spare.push(data);
                        continue;
                    };
                    for _ in 1..copies {
                        count += 1;
                        on_the_way.push(Packet { at, count, data: data.clone() });
                    }
                    count += 1;
                    on_the_way.push(Packet { at, count, data });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    spare.push(data);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        while on_the_way.peek().is_some_and(|packet| packet.at <= now()) {
            let Some(packet) = on_the_way.pop() else { break };
            // Refused only while the device is down.
            let _ = output.write(&packet.data);
            delivered += 1;
            late += now().saturating_sub(packet.at);
            if spare.len() < BATCH {
                spare.push(packet.data);
            }
        }
        let wait = on_the_way
            .peek()
            .map_or(NAP, |packet| Duration::from_micros(packet.at.saturating_sub(now())).clamp(GATHER, NAP));
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Carried { counts: direction.counts, delivered, late })
}

/// A TUN device of this name in our own namespace, without packet information.
fn open_tun(name: &str) -> Result<File> {
    const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
    const IFF_TUN: u16 = 0x0001;
    const IFF_NO_PI: u16 = 0x1000;
    /// The kernel's `struct ifreq`: a name and the flags in a union that is 24 bytes long.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }

    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open("/dev/net/tun")
        .map_err(|error| format!("/dev/net/tun: {error} (needs root and a kernel with TUN)"))?;
    let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    // The last byte stays zero.
    request.name[..15].iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: TUNSETIFF takes a `struct ifreq`, which `Request` is laid out as.
    unsafe { ioctl(device.as_fd(), Setter::<TUNSETIFF, Request>::new(request)) }?;
    Ok(device)
}

fn namespace(name: &str, side: usize) -> String {
    format!("{name}-{}", SIDES[side])
}

/// The two network namespaces; removed when dropped.
struct Namespaces(String);

impl Namespaces {
    /// Makes them, each with its device `NAME{a,b}`.
    fn make(name: &str) -> Result<Self> {
        let made = Self(name.to_owned());
        for side in 0..2 {
            let (space, device) = (namespace(name, side), format!("{name}{}", SIDES[side]));
            let (own, other) = (ADDRESSES[side], ADDRESSES[1 - side]);
            ip(&["netns", "add", &space])?;
            ip(&["link", "set", &device, "netns", &space])?;
            ip(&["-n", &space, "address", "add", own, "peer", other, "dev", &device])?;
            let mtu = MTU.to_string();
            ip(&["-n", &space, "link", "set", &device, "mtu", &mtu, "txqueuelen", KERNEL_QUEUE, "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(made)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for side in 0..2 {
            let _ = ip(&["netns", "delete", &namespace(&self.0, side)]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("ip {}: {}", arguments.join(" "), said.trim()).into())
    }
}

/// The most that a socket of this machine may ask for as its receive buffer; as before when dropped.
/// Namespaces have no such bound of their own.
struct ReceiveBound(String);

impl ReceiveBound {
    fn set(bytes: u64) -> Result<Self> {
        let before = Self(fs::read_to_string(RMEM_MAX)?);
        fs::write(RMEM_MAX, bytes.to_string())?;
        Ok(before)
    }
}

impl Drop for ReceiveBound {
    fn drop(&mut self) {
        if let Err(error) = fs::write(RMEM_MAX, &self.0) {
            eprintln!("link: {RMEM_MAX} is still lowered: {error}");
        }
    }
}

/// Until the standard input closes or a signal comes.
#[tokio::main(flavor = "current_thread")]
async fn wait_for_end() -> io::Result<()> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (closed, input) = tokio::sync::oneshot::channel();
    // Not joined: it may wait for input for ever.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = closed.send(());
    });
    tokio::select! {
        _ = input => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
