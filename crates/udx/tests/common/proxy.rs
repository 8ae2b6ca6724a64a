//! A UDP proxy that misbehaves as told, repeatably for a given seed and order of packets.
//!
//! Each client of the proxy gets a socket of its own towards the target, as behind a NAT.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What happens to datagrams, each a probability from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub drop: f64,
    pub duplicate: f64,
    /// Held back until up to 20 later ones have passed.
    pub reorder: f64,
}

/// Runs until dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    faults: Faults,
    is_stopping: AtomicBool,
    forwarded: AtomicU64,
    dropped: AtomicU64,
}

impl Proxy {
    /// Forwards what arrives at [`Proxy::address`] to `target`, and the answers back.
    pub(crate) fn start(target: SocketAddr, faults: Faults, seed: u64) -> io::Result<Self> {
        let front = open()?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            faults,
            is_stopping: AtomicBool::new(false),
            forwarded: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let of_thread = shared.clone();
        let thread = thread::spawn(move || front_loop(&of_thread, front, seed));
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where clients send to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Datagrams forwarded and dropped so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.shared.forwarded.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open() -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // Losses are to be the seeded ones.
    let _ = socket.set_recv_buffer_size(8 << 20);
    let _ = socket.set_send_buffer_size(4 << 20);
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let socket = UdpSocket::from(socket);
    // Also the longest that a datagram is held back when nothing follows it.
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    Ok(socket)
}

/// Clients to target; starts a thread for each client's answers.
fn front_loop(shared: &Arc<Shared>, front: UdpSocket, seed: u64) {
    let mut clients: HashMap<SocketAddr, (UdpSocket, Mangler)> = HashMap::new();
    let mut threads = Vec::new();
    let mut buffer = vec![0; 65_536];
    while !shared.is_stopping.load(Ordering::Relaxed) {
        let Ok((len, from)) = front.recv_from(&mut buffer) else {
            for (back, mangler) in clients.values_mut() {
                mangler.flush(shared, |data| drop(back.send_to(data, shared.target)));
            }
            continue;
        };
        if !clients.contains_key(&from) {
            let (Ok(back), Ok(front)) = (open(), front.try_clone()) else { continue };
            let Ok(answers) = back.try_clone() else { continue };
            let seed = seed.wrapping_add(clients.len() as u64 * 2);
            let of_thread = shared.clone();
            threads.push(thread::spawn(move || back_loop(&of_thread, answers, front, from, seed + 1)));
            clients.insert(from, (back, Mangler::new(seed)));
        }
        if let Some((back, mangler)) = clients.get_mut(&from) {
            mangler.pass(shared, &buffer[..len], |data| drop(back.send_to(data, shared.target)));
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Target to one client.
fn back_loop(shared: &Shared, back: UdpSocket, front: UdpSocket, client: SocketAddr, seed: u64) {
    let mut mangler = Mangler::new(seed);
    let mut buffer = vec![0; 65_536];
    while !shared.is_stopping.load(Ordering::Relaxed) {
        match back.recv(&mut buffer) {
            Ok(len) => mangler.pass(shared, &buffer[..len], |data| drop(front.send_to(data, client))),
            Err(_) => mangler.flush(shared, |data| drop(front.send_to(data, client))),
        }
    }
}

/// One direction's faults.
struct Mangler {
    random: u64,
    /// Datagrams held back, with how many must pass before.
    held: Vec<(u32, Vec<u8>)>,
}

impl Mangler {
    fn new(seed: u64) -> Self {
        Self { random: seed, held: Vec::new() }
    }

    fn pass(&mut self, shared: &Shared, data: &[u8], mut send: impl FnMut(&[u8])) {
        if self.chance() < shared.faults.drop {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shared.forwarded.fetch_add(1, Ordering::Relaxed);
        if self.chance() < shared.faults.reorder {
            let distance = 1 + (self.chance() * 20.0) as u32;
            self.held.push((distance, data.to_vec()));
            return;
        }
        send(data);
        if self.chance() < shared.faults.duplicate {
            send(data);
        }
        self.held.retain_mut(|(distance, data)| {
            *distance -= 1;
            if *distance == 0 {
                send(data);
            }
            *distance > 0
        });
    }

    fn flush(&mut self, _: &Shared, mut send: impl FnMut(&[u8])) {
        self.held.drain(..).for_each(|(_, data)| send(&data));
    }

    /// SplitMix64, as a number from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}
