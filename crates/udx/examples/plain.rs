//! What plain UDP and TCP get through a network, to judge others by.
//!
//! `plain receive ADDRESS` at one end, which runs until it is ended; at the other, `plain udp ADDRESS MBIT
//! SECONDS` (full datagrams at that rate, none sent again) or `plain tcp ADDRESS MEGABYTES`. The sender
//! prints what arrived, in MB/s.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Payload of a full datagram.
const DATAGRAM: usize = 1472;
const MEGABYTE: usize = 1_000_000;
/// Between two bursts of a sender that keeps to a rate.
const PAUSE: Duration = Duration::from_micros(500);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive", address] => receive(address.parse()?),
        ["udp", address, megabits, seconds] => {
            udp(address.parse()?, megabits.parse()?, Duration::from_secs(seconds.parse()?))
        }
        ["tcp", address, megabytes] => tcp(address.parse()?, megabytes.parse::<usize>()? * MEGABYTE),
        _ => Err("see the top of the source".into()),
    }
}

/// Answers each connection with how many bytes came in: over it, or, if it says `U`, in datagrams before.
fn receive(address: SocketAddr) -> Result<()> {
    let datagrams = UdpSocket::bind(address)?;
    let arrived = Arc::new(AtomicU64::new(0));
    let count = arrived.clone();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok(len) = datagrams.recv(&mut buffer) {
            count.fetch_add(len as u64, Ordering::Relaxed);
        }
    });
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        let mut is_question = false;
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            is_question |= bytes == 0 && buffer.first() == Some(&b'U');
            bytes += n as u64;
        }
        let answer = if is_question { arrived.swap(0, Ordering::Relaxed) } else { bytes };
        writeln!(stream, "{answer}")?;
    }
    Ok(())
}

fn udp(to: SocketAddr, megabits: f64, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let datagram = [7; DATAGRAM];
    let started = Instant::now();
    // Bytes a second, the headers of IP and UDP counted.
    let rate = megabits * 1e6 / 8.0 * DATAGRAM as f64 / (DATAGRAM + 28) as f64;
    let mut sent = 0.0;
    while started.elapsed() < time {
        while sent < started.elapsed().as_secs_f64() * rate {
            match socket.send(&datagram) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
            sent += DATAGRAM as f64;
        }
        thread::sleep(PAUSE);
    }
    let seconds = started.elapsed().as_secs_f64();
    // What is on its way still counts.
    thread::sleep(Duration::from_millis(500));
    report(ask(to, |stream| Ok(stream.write_all(b"U")?))?, seconds);
    Ok(())
}

fn tcp(to: SocketAddr, bytes: usize) -> Result<()> {
    let chunk = vec![7; 256 * 1024];
    let started = Instant::now();
    let arrived = ask(to, |stream| {
        let mut left = bytes;
        while left > 0 {
            let n = left.min(chunk.len());
            stream.write_all(&chunk[..n])?;
            left -= n;
        }
        Ok(())
    })?;
    report(arrived, started.elapsed().as_secs_f64());
    Ok(())
}

fn ask(to: SocketAddr, send: impl FnOnce(&mut TcpStream) -> Result<()>) -> Result<u64> {
    let mut stream = TcpStream::connect(to)?;
    send(&mut stream)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.trim().parse()?)
}

fn report(arrived: u64, seconds: f64) {
    println!("{:.1}", arrived as f64 / MEGABYTE as f64 / seconds);
}
