//! All parts at once, as two threads.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use secret_stream::secretstream::{BLOCK, OVERHEAD, Pull, Push, TAG_MESSAGE};
use sha2::{Digest, Sha256};
use socket2::SockRef;
use xxhash_rust::xxh3::Xxh3;

/// Bytes of the file in one encrypted message, about as many as a transfer puts there.
pub(crate) const MESSAGE: usize = 64 * 1024;

/// Bytes of a datagram, an Ethernet frame's worth over IPv4.
const SEGMENT: usize = 1472;

/// Bytes of the largest send: as many whole datagrams as one IPv4 packet has room for.
pub(crate) const BATCH: usize = 44 * SEGMENT;

/// Receive buffer that is asked for; the system gives less unless allowed.
const BUFFER: usize = 8 * 1024 * 1024;

/// How long nothing may arrive before a datagram was lost, which ends the run.
const SILENCE: Duration = Duration::from_secs(2);

/// Carries `file` to `copy`; megabytes a second.
pub(crate) fn run(file: &Path, copy: &Path) -> io::Result<f64> {
    let size = std::fs::metadata(file)?.len();
    let key = [7; 32];
    let (push, header) = Push::new(&key);
    let pull = Pull::new(&key, &header);
    let link = Link::open()?;
    // A copy that stands there would be overwritten in place, which costs less than a new file.
    let _ = std::fs::remove_file(copy);
    let started = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let sent = scope.spawn(|| link.guard(send(file, push, &link)));
        let received = link.guard(receive(copy, size, pull, &link));
        (sent.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked"))), received)
    });
    let seconds = started.elapsed().as_secs_f64();
    received?;
    if sent? != checksum_of(copy)? {
        return Err(io::Error::other("the copy differs"));
    }
    Ok(megabytes(size) / seconds)
}

/// 10^6 bytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Takes the checksum that a transfer takes when it reads the file the second time; SHA-256 was taken before
/// the offer.
fn send(file: &Path, mut push: Push, link: &Link) -> io::Result<u64> {
    let mut file = File::open(file)?;
    let mut checksum = Xxh3::new();
    // Room for the cipher in front of the first message; in front of the others stands the one before.
    let mut buffer = vec![0; BLOCK + 16 * (MESSAGE + OVERHEAD)];
    loop {
        let mut filled = BLOCK - 1;
        while let Some(place) = buffer.get_mut(filled + 1 - BLOCK..filled + MESSAGE + OVERHEAD) {
            let len = read_full(&mut file, &mut place[BLOCK..][..MESSAGE])?;
            if len == 0 {
                break;
            }
            checksum.update(&place[BLOCK..][..len]);
            let mut before = [0; BLOCK - 1];
            before.copy_from_slice(&place[..BLOCK - 1]);
            let (tag, mac) = push.push_in_place(TAG_MESSAGE, &mut place[..BLOCK + len]);
            place[..BLOCK - 1].copy_from_slice(&before);
            place[BLOCK - 1] = tag;
            place[BLOCK + len..][..mac.len()].copy_from_slice(&mac);
            filled += len + OVERHEAD;
        }
        if filled < BLOCK {
            return Ok(checksum.digest());
        }
        link.send(&buffer[BLOCK - 1..filled])?;
    }
}

/// Takes SHA-256 of the `size` bytes that arrived.
fn receive(copy: &Path, size: u64, mut pull: Pull, link: &Link) -> io::Result<()> {
    let mut file = File::create(copy)?;
    let mut hasher = Sha256::new();
    let mut left = size;
    let mut pending = Vec::with_capacity(5 * BATCH);
    pending.resize(BLOCK - 1, 0);
    link.receive(|bytes| {
        pending.extend_from_slice(bytes);
        let mut taken = 0;
        while left > 0 {
            let len = MESSAGE.min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(place) = pending.get_mut(taken..taken + BLOCK - 1 + len + OVERHEAD) else {
                break;
            };
            let (sealed, mac) = place.split_at_mut(BLOCK + len);
            let mac = mac.first_chunk().ok_or_else(|| io::Error::other("a short message"))?;
            let tag = sealed[BLOCK - 1];
            pull.pull_in_place(tag, sealed, mac).map_err(io::Error::other)?;
            hasher.update(&sealed[BLOCK..]);
            file.write_all(&sealed[BLOCK..])?;
            taken += len + OVERHEAD;
            left -= u64::try_from(len).unwrap_or(u64::MAX);
        }
        pending.drain(..taken);
        Ok(left > 0)
    })?;
    std::hint::black_box(hasher.finalize());
    Ok(())
}

fn checksum_of(file: &Path) -> io::Result<u64> {
    let mut file = File::open(file)?;
    let mut checksum = Xxh3::new();
    let mut buffer = vec![0; MESSAGE];
    loop {
        match read_full(&mut file, &mut buffer)? {
            0 => return Ok(checksum.digest()),
            len => checksum.update(&buffer[..len]),
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Two sockets on loopback, with as much under way as the receiver's buffer holds.
pub(crate) struct Link {
    from: (UdpSocket, UdpSocketState),
    to: (UdpSocket, UdpSocketState),
    address: SocketAddr,
    /// Bytes.
    window: u64,
    sent: AtomicU64,
    received: AtomicU64,
    is_broken: AtomicBool,
}

impl Link {
    pub(crate) fn open() -> io::Result<Self> {
        let open = || -> io::Result<(UdpSocket, UdpSocketState)> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let state = UdpSocketState::new((&socket).into())?;
            // quinn-udp makes sockets non-blocking; here a thread has nothing to do but wait.
            socket.set_nonblocking(false)?;
            Ok((socket, state))
        };
        let (from, to) = (open()?, open()?);
        let receiver = SockRef::from(&to.0);
        receiver.set_recv_buffer_size(BUFFER)?;
        to.0.set_read_timeout(Some(SILENCE))?;
        let window = u64::try_from(receiver.recv_buffer_size()? / 2).unwrap_or(u64::MAX);
        let address = to.0.local_addr()?;
        let (sent, received, is_broken) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { from, to, address, window, sent, received, is_broken })
    }

    /// Passes a result on, and lets the other thread know if it is an error.
    pub(crate) fn guard<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        result
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        for batch in bytes.chunks(BATCH) {
            let len = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let sent = self.sent.fetch_add(len, Ordering::Relaxed) + len;
            while sent - self.received.load(Ordering::Acquire) > self.window {
                if self.is_broken.load(Ordering::Relaxed) {
                    return Err(io::Error::other("the receiver gave up"));
                }
                thread::yield_now();
            }
            let (destination, segment_size) = (self.address, (batch.len() > SEGMENT).then_some(SEGMENT));
            let transmit = Transmit { destination, ecn: None, contents: batch, segment_size, src_ip: None };
            self.from.1.try_send((&self.from.0).into(), &transmit)?;
        }
        Ok(())
    }

    /// Hands over what arrives until `handle` says that it was enough.
    pub(crate) fn receive(&self, mut handle: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<()> {
        let mut memory = vec![0; 64 * 1024];
        let mut metas = [RecvMeta::default()];
        loop {
            // One at a time, since a socket that blocks waits until all buffers are filled.
            self.to.1.recv((&self.to.0).into(), &mut [IoSliceMut::new(&mut memory)], &mut metas)?;
            let is_open = handle(&memory[..metas[0].len])?;
            self.received.fetch_add(u64::try_from(metas[0].len).unwrap_or(u64::MAX), Ordering::Release);
            if !is_open {
                return Ok(());
            }
        }
    }
}
