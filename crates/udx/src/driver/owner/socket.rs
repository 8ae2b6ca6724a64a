//! The owner's side of UDP sockets, with batched input and output.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::pool::{BUFFERS, Pool};
use crate::driver::Config;
use crate::proto::{SocketId, Transmit};

/// Datagrams kept while the system's send buffer is full; later ones are dropped.
const MAX_BLOCKED: usize = 256;

/// Largest datagram that fits every path: nobody finds out what path carries larger ones that belong to no
/// stream, so the network may cut them.
const SAFE_DATAGRAM: usize = 576 - 20 - 8;

/// Bytes that Linux accounts for one full datagram in a receive buffer (spec §16).
const ACCOUNTED: usize = 2304;

/// Whether one receive call brings all that there is, as far as buffers are offered to it.
const RECEIVES_ALL: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// TTL that sockets are opened with, as libudx does.
const TTL: u32 = 64;

/// The owner's side of a socket.
#[derive(Debug)]
pub(super) struct SocketState {
    pub id: SocketId,
    pub local: SocketAddr,
    io: UdpSocket,
    udp: UdpSocketState,
    /// Payload bytes that the receive buffer holds with some spare, in full packets of this size.
    receive_packets: usize,
    blocked: VecDeque<Blocked>,
    /// Streams that wait for the send buffer.
    pub parked: Vec<u32>,
    /// To be closed when no stream uses it.
    pub is_closing: bool,
}

/// A batch the system had no room for.
#[derive(Debug)]
struct Blocked {
    data: Vec<u8>,
    to: SocketAddr,
    segment: usize,
    ttl: Option<u8>,
    may_fragment: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Gone, or lost: to a reliable stream a failure is a loss.
    Done,
    /// The system has no room now.
    Blocked,
    /// The first hop does not carry datagrams of this size.
    TooLarge,
}

/// What one receive call brought into a pool slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub from: SocketAddr,
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub stride: usize,
}

impl SocketState {
    /// Opens and binds. Must be called in a tokio runtime.
    pub(super) fn bind(id: SocketId, address: SocketAddr, config: &Config) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // Fails where the system has one family a socket only.
            let _ = socket.set_only_v6(false);
        }
        socket.set_nonblocking(true)?;
        ask_for(config.receive_buffer, |bytes| socket.set_recv_buffer_size(bytes));
        ask_for(config.send_buffer, |bytes| socket.set_send_buffer_size(bytes));
        if address.is_ipv4() {
            socket.set_ttl_v4(TTL)?;
        }
        socket.bind(&address.into())?;
        let receive_packets = socket.recv_buffer_size()? / ACCOUNTED * 3 / 4;
        let io = UdpSocket::from_std(socket.into())?;
        let udp = UdpSocketState::new((&io).into())?;
        let local = io.local_addr()?;
        Ok(Self {
            id,
            local,
            io,
            udp,
            receive_packets,
            blocked: VecDeque::new(),
            parked: Vec::new(),
            is_closing: false,
        })
    }

    /// Full packets that the receive buffer holds, with a quarter to spare.
    pub(super) fn receive_packets(&self) -> usize {
        self.receive_packets
    }

    /// Most datagrams in one send.
    pub(super) fn segments(&self) -> usize {
        self.udp.max_gso_segments()
    }

    /// The form of an address that this socket sends to. `None` if it cannot.
    pub(super) fn reachable(&self, address: SocketAddr) -> Option<SocketAddr> {
        match (self.local, address) {
            (SocketAddr::V4(_), SocketAddr::V6(v6)) => {
                v6.ip().to_ipv4_mapped().map(|ip| SocketAddr::new(ip.into(), v6.port()))
            }
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
                Some(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()))
            }
            _ => Some(address),
        }
    }

    /// Receives into the pool's slots. `Pending` once there is nothing more.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        pool: &mut Pool,
        received: &mut Vec<Received>,
    ) -> Poll<()> {
        received.clear();
        loop {
            match self.io.poll_recv_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
            let mut metas = [RecvMeta::default(); BUFFERS];
            let mut count = 0;
            let result = self.io.try_io(Interest::READABLE, || {
                let mut slices = pool.slots.each_mut().map(|slot| IoSliceMut::new(slot));
                count = self.udp.recv((&self.io).into(), &mut slices, &mut metas)?;
                // Said here, it spares the call that would find nothing: what arrives from now on is news.
                if RECEIVES_ALL && count < BUFFERS { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            received.extend(metas.iter().take(count).map(|meta| Received {
                from: unmapped(meta.addr),
                len: meta.len,
                stride: meta.stride.max(1),
            }));
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && count == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Ready(()),
                Ok(()) => return Poll::Ready(()),
                // Reports of earlier sends that nobody received; the next call may bring datagrams.
                Err(error) => {
                    tracing::debug!(%error, "receive failed");
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Whether batches wait for the system.
    pub(super) fn is_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Tries to send what waits. True if nothing waits any more.
    pub(super) fn poll_unblock(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(batch) = self.blocked.pop_front() {
            if self.io.poll_send_ready(cx).is_pending() || self.try_send(&batch) == Sent::Blocked {
                self.blocked.push_front(batch);
                if self.io.poll_send_ready(cx).is_pending() {
                    return false;
                }
            }
        }
        true
    }

    /// Sends a batch; if the system has no room it waits here. False if its datagrams are too large for the
    /// first hop.
    pub(super) fn send_batch(&mut self, transmit: &Transmit, data: &mut Vec<u8>) -> bool {
        let (sent, buffer) = self.send(Blocked {
            data: std::mem::take(data),
            to: transmit.to,
            segment: transmit.segment,
            ttl: None,
            may_fragment: transmit.may_fragment,
        });
        *data = buffer;
        sent != Sent::TooLarge
    }

    /// Sends one datagram, which the network may cut if it has to; dropped if it cannot be sent.
    pub(super) fn send_datagram(
        &mut self,
        data: Vec<u8>,
        to: SocketAddr,
        ttl: Option<u8>,
        may_fragment: bool,
    ) {
        let Some(to) = self.reachable(to) else { return };
        let segment = data.len();
        self.send(Blocked { data, to, segment, ttl, may_fragment: may_fragment && segment > SAFE_DATAGRAM });
    }

    /// Gives the buffer back; an empty one if it has to wait.
    fn send(&mut self, batch: Blocked) -> (Sent, Vec<u8>) {
        if self.blocked.is_empty() {
            let sent = self.try_send(&batch);
            if sent != Sent::Blocked {
                return (sent, batch.data);
            }
        }
        if self.blocked.len() < MAX_BLOCKED {
            self.blocked.push_back(batch);
            return (Sent::Blocked, Vec::new());
        }
        (Sent::Blocked, batch.data)
    }

    fn try_send(&self, batch: &Blocked) -> Sent {
        let _ttl = batch.ttl.map(|ttl| Restore::ttl(&self.io, ttl));
        let _fragment = batch.may_fragment.then(|| Restore::fragmentation(&self.io));
        // The number of segments can shrink while batches wait, when the system refused a segmented send.
        let segments = self.segments().max(1);
        for part in batch.data.chunks(segments.saturating_mul(batch.segment).max(1)) {
            let transmit = quinn_udp::Transmit {
                destination: batch.to,
                ecn: None,
                contents: part,
                segment_size: Some(batch.segment),
                src_ip: None,
            };
            let result =
                self.io.try_io(Interest::WRITABLE, || self.udp.try_send((&self.io).into(), &transmit));
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                Err(error) if quinn_udp::is_msg_size_err(&error) => return Sent::TooLarge,
                Err(error) => tracing::debug!(%error, to = %batch.to, "send failed"),
            }
        }
        Sent::Done
    }
}

/// A socket option set for one send.
struct Restore<'a> {
    io: &'a UdpSocket,
    is_fragmentation: bool,
}

impl<'a> Restore<'a> {
    fn ttl(io: &'a UdpSocket, ttl: u8) -> Self {
        // On failure the datagram goes further than it was meant to, and no harm is done.
        let _ = SockRef::from(io).set_ttl_v4(u32::from(ttl));
        Self { io, is_fragmentation: false }
    }

    fn fragmentation(io: &'a UdpSocket) -> Self {
        allow_fragments(io, true);
        Self { io, is_fragmentation: true }
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if self.is_fragmentation {
            allow_fragments(self.io, false);
        } else {
            let _ = SockRef::from(self.io).set_ttl_v4(TTL);
        }
    }
}

/// Lets the network cut IPv4 datagrams to pieces, or forbids it again.
#[cfg(target_os = "linux")]
fn allow_fragments(socket: &UdpSocket, is_allowed: bool) {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery as Mode, set_ip_mtu_discover};
    let mode = if is_allowed { Mode::DONT } else { Mode::PROBE };
    // On failure large packets keep being lost, and the stream times out as libudx's would.
    let _ = set_ip_mtu_discover(socket, mode);
}

#[cfg(not(target_os = "linux"))]
fn allow_fragments(_: &UdpSocket, _: bool) {}

/// IPv4 in IPv6 form as IPv4.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match Ipv6Addr::to_ipv4_mapped(v6.ip()) {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Asks for a buffer of `bytes`, and for less until the system agrees.
fn ask_for(bytes: usize, set: impl Fn(usize) -> io::Result<()>) {
    const LEAST: usize = 208 * 1024;
    let mut bytes = bytes.max(LEAST);
    while set(bytes).is_err() && bytes > LEAST {
        bytes = (bytes / 2).max(LEAST);
    }
}
