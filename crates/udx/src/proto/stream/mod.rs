//! One reliable stream (spec §4 to §9).
//!
//! [`StreamMachine`] is fed with packets ([`StreamMachine::handle_packet`]), the application's bytes
//! ([`StreamMachine::write`]) and the time; it is asked for datagrams ([`StreamMachine::poll_transmit`])
//! until it has none, and for the one deadline at which [`StreamMachine::handle_timeout`] wants to be called
//! ([`StreamMachine::poll_timeout`]).

mod packet_size;
mod receive;
mod remotes;
mod roaming;
mod timers;
mod transmit;

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use super::ack::AckSchedule;
use super::assembler::Assembler;
use super::bbr::Bbr;
use super::congestion::{Controller, Phase};
use super::mtu::{Mtu, overhead};
use super::outstanding::Outstanding;
use super::pacer::Pacer;
use super::packet::HEADER_LEN;
use super::rack::Rack;
use super::rate::RateSampler;
use super::rtt::Rtt;
use super::send_buffer::SendBuffer;
use super::window::ReceiveWindow;
use super::{LIBUDX_WINDOW, MAX_MESSAGES};
use crate::error::Error;
use crate::time::{Instant, Micros};
use remotes::Remotes;
use timers::Timers;

pub use transmit::{Limits, Transmit};

/// Largest payload of an unordered message: libudx's receive buffer less the header (spec §11).
pub(crate) const MAX_MESSAGE: usize = super::MAX_DATAGRAM - HEADER_LEN;

/// Payload bytes of a packet that libudx begins with over IPv4.
const BASE_PAYLOAD: usize = 1152;

/// Payload bytes of a full packet over IPv4 before its path is known.
const FIRST_CAPACITY: u16 = 528;

/// Names a socket of the instance that a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub(crate) u32);

impl SocketId {
    /// The socket with this number.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }
}

/// The other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// The socket of ours that packets leave from.
    pub socket: SocketId,
    /// Where they go.
    pub address: SocketAddr,
    /// The stream's id there.
    pub id: u32,
}

/// How a stream starts.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// The id that packets to this stream carry.
    pub id: u32,
    /// Number of the first packet sent.
    pub seq: u32,
    /// Number of the first packet expected.
    pub ack: u32,
    /// Bytes that the socket's receive buffer holds: what the advertised window starts from. It grows by what
    /// is on the way to us on a long path.
    pub receive_window: u32,
}

impl StreamConfig {
    /// A stream of this id with the usual settings: numbers from 0, libudx's window.
    pub fn new(id: u32) -> Self {
        Self { id, seq: 0, ack: 0, receive_window: LIBUDX_WINDOW }
    }
}

/// Counters and estimates of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Smoothed round-trip time in microseconds.
    pub rtt: Option<Micros>,
    /// Size of a full IP packet in bytes.
    pub mtu: u16,
    /// Most bytes of an IP packet that the first hop carries, as far as is known; 0 before the first packets.
    pub first_hop: u16,
    /// Congestion window in packets.
    pub window: usize,
    /// Pacing rate in bytes per second.
    pub pacing_rate: u64,
    /// Packets in flight.
    pub in_flight: usize,
    /// Payload bytes the peer is ready to receive.
    pub peer_window: u32,
    /// Sequenced packets sent, retransmissions included.
    pub packets_sent: u64,
    /// Packets of any kind received.
    pub packets_received: u64,
    /// Acknowledgements sent without data.
    pub acks_sent: u64,
    /// Sequenced packets received more than once.
    pub duplicates: u64,
    /// Packets sent again.
    pub resent: u64,
    /// Packets deemed lost.
    pub lost: u64,
    /// Times the sender fell back to repair losses found by acknowledgements.
    pub recoveries: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Tail loss probes.
    pub tail_probes: u64,
    /// SACK blocks that made no sense.
    pub bad_sacks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// A DESTROY packet is to be sent, then closed.
    Destroying,
    Closed(Result<(), Error>),
}

/// The END of our own direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Follows the bytes still queued.
    Queued,
    /// Left with this packet number.
    Sent(u64),
    Acked,
}

/// The state of a reliable, ordered stream of bytes in both directions, with unordered messages beside it.
#[derive(Debug)]
pub struct StreamMachine {
    id: u32,
    life: Life,
    remotes: Remotes,
    is_remote_changed: bool,
    /// When a packet came from where ours go.
    heard_at: Option<Instant>,
    /// Where the peer was found to have gone, until that is told.
    followed: Option<Remote>,

    buffer: SendBuffer,
    end: End,
    outstanding: Outstanding,
    is_first_packet: bool,
    messages_out: VecDeque<Bytes>,

    assembler: Assembler,
    ack: AckSchedule,
    messages_in: VecDeque<Bytes>,
    receive_window: ReceiveWindow,
    /// Bytes that may wait for the reader, as far as others' readers leave room.
    receive_share: u32,
    receive_limit: u32,
    /// Bytes handed to the application side since the beginning.
    handed_over: u64,
    /// Bytes delivered to the application side and not yet read there.
    backlog: usize,
    advertised: u32,

    peer_window: u32,
    /// Peer's sequence and ack numbers of the packet that last set `peer_window`.
    peer_window_at: (u64, u64),

    phase: Phase,
    /// Recovery ends when everything before this number is acknowledged.
    recovery_end: u64,
    rack: Rack,
    rtt: Rtt,
    mtu: Mtu,
    /// The peer's packets show that the path carries large ones.
    is_wide: bool,
    /// Packets seemed too large for the path: whoever knows the first hop should look again.
    must_check_hop: bool,
    /// When the packet left that was acknowledged last, and payload bytes of a full one then.
    measured: (Instant, u16),
    pacer: Pacer,
    rate: RateSampler,
    /// Rate samples of packets sent before this delivery count may be too high: a full list of blocks could
    /// not name all that had arrived, which then seems to arrive all at once.
    rate_trusted_from: u64,
    congestion: Bbr,
    /// Packets deemed lost since congestion control was last told.
    newly_lost: usize,

    timers: Timers,
    stats: Stats,
}

impl StreamMachine {
    /// A stream that may receive, and is not yet connected.
    pub fn new(config: &StreamConfig) -> Self {
        // One lap ahead, so that numbers before the first stay positive.
        let first = (1 << 32) + u64::from(config.seq);
        Self {
            id: config.id,
            life: Life::Open,
            remotes: Remotes::default(),
            is_remote_changed: false,
            heard_at: None,
            followed: None,
            buffer: SendBuffer::default(),
            end: End::Open,
            outstanding: Outstanding::new(first),
            is_first_packet: true,
            messages_out: VecDeque::new(),
            assembler: Assembler::new(config.ack),
            ack: AckSchedule::default(),
            messages_in: VecDeque::new(),
            receive_window: ReceiveWindow::new(config.receive_window),
            receive_share: u32::MAX,
            receive_limit: u32::MAX,
            handed_over: 0,
            backlog: 0,
            advertised: config.receive_window,
            peer_window: LIBUDX_WINDOW,
            peer_window_at: (0, 0),
            phase: Phase::Open,
            recovery_end: first,
            rack: Rack::default(),
            rtt: Rtt::new(),
            mtu: Mtu::new(None),
            is_wide: false,
            must_check_hop: false,
            measured: (Instant::default(), FIRST_CAPACITY),
            pacer: Pacer::new(),
            rate: RateSampler::default(),
            rate_trusted_from: 0,
            congestion: new_congestion(config.id, FIRST_CAPACITY.into()),
            newly_lost: 0,
            timers: Timers::default(),
            stats: Stats::default(),
        }
    }

    /// The id that packets to this stream carry.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The other end, once connected.
    pub fn remote(&self) -> Option<Remote> {
        self.remotes.current()
    }

    /// Sets the other end. What was received before is acknowledged now; nothing else is sent.
    ///
    /// # Errors
    /// [`Error::AlreadyConnected`], [`Error::InvalidAddress`] for port 0, or why the stream is closed.
    pub fn connect(&mut self, remote: Remote) -> Result<(), Error> {
        self.check_open()?;
        if self.remotes.current().is_some() {
            return Err(Error::AlreadyConnected);
        }
        check_address(remote)?;
        self.remotes.set(remote, self.outstanding.next());
        self.search_anew(remote);
        Ok(())
    }

    /// Moves to another path or id: packets not yet started, acknowledgements and probes go there from now
    /// on; packets already started keep the old one. The new path's packet size is searched anew.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::InvalidAddress`] for port 0, or why the stream is closed.
    pub fn change_remote(&mut self, remote: Remote) -> Result<(), Error> {
        self.check_change(remote)?;
        self.remotes.set(remote, self.outstanding.next());
        self.search_anew(remote);
        if self.outstanding.is_empty() {
            self.is_remote_changed = true;
            self.forget_path();
        }
        Ok(())
    }

    /// True once after a change of the remote is complete: all that was sent to the old one is acknowledged.
    pub fn take_remote_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_remote_changed)
    }

    /// Queues bytes for sending; the caller bounds how many.
    ///
    /// # Errors
    /// [`Error::WriteAfterEnd`], or why the stream is closed.
    pub fn write(&mut self, now: Instant, data: Bytes) -> Result<(), Error> {
        self.check_open()?;
        if self.end != End::Open {
            return Err(Error::WriteAfterEnd);
        }
        let was_idle = !self.has_unsent();
        self.buffer.write(data);
        self.on_queued(now, was_idle);
        Ok(())
    }

    /// Ends our direction after the bytes queued so far. Later calls do nothing.
    pub fn end(&mut self, now: Instant) {
        if self.end == End::Open {
            let was_idle = !self.has_unsent();
            self.end = End::Queued;
            self.on_queued(now, was_idle);
        }
    }

    /// Queues an unordered message, which is sent once, without acknowledgement; dropped if many wait.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::MessageTooLarge`], or why the stream is closed.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), Error> {
        self.check_open()?;
        let Some(remote) = self.remotes.current() else { return Err(Error::NotConnected) };
        if message.len() > self.mtu.capacity(remote.address.is_ipv6()).min(MAX_MESSAGE) {
            return Err(Error::MessageTooLarge);
        }
        if self.messages_out.len() < MAX_MESSAGES {
            self.messages_out.push_back(message);
        }
        Ok(())
    }

    /// Gives the stream up: the peer is told once if connected, and everything queued is dropped.
    pub fn destroy(&mut self) {
        if self.life != Life::Open {
            return;
        }
        if self.remotes.current().is_some() {
            self.life = Life::Destroying;
            self.drop_queues();
        } else {
            self.close(Err(Error::Cancelled));
        }
    }

    /// Closes without a word to the peer.
    pub fn abort(&mut self, error: Error) {
        if self.is_open() {
            self.close(Err(error));
        }
    }

    /// The next received bytes in order. Counts as delivered: tell [`Self::set_backlog`] what waits for its
    /// reader.
    pub fn read(&mut self) -> Option<Bytes> {
        let data = self.assembler.pop()?;
        self.handed_over += data.len() as u64;
        Some(data)
    }

    /// The next unordered message.
    pub fn read_message(&mut self) -> Option<Bytes> {
        self.messages_in.pop_front()
    }

    /// Whether the peer ended its direction and all before that was received.
    pub fn is_ended(&self) -> bool {
        self.assembler.is_ended()
    }

    /// Bytes that were taken with [`Self::read`] and that the application has not read. A window that had
    /// closed and opens thereby is announced.
    pub fn set_backlog(&mut self, bytes: usize) {
        self.backlog = bytes;
        let window = self.window();
        let is_wide = self.whole_window() / 2;
        if self.advertised < is_wide
            && window >= is_wide.saturating_add(self.advertised / 2)
            && self.is_open()
        {
            self.ack.request();
        }
    }

    /// Whether the peer was, or would be, told of so little room that it should hear when there is more.
    pub fn is_window_narrow(&self) -> bool {
        self.advertised.min(self.window()) < self.whole_window() / 2
    }

    /// Sets what the receive window starts from ([`StreamConfig::receive_window`]).
    pub fn set_receive_window(&mut self, bytes: u32) {
        self.receive_window.set_buffer(bytes);
    }

    /// Sets how many bytes may be held for the reader, however much wider the window could be.
    pub fn set_receive_share(&mut self, bytes: u32) {
        self.receive_share = bytes;
    }

    /// Sets how many bytes its reader wants held for it at most.
    pub fn set_receive_limit(&mut self, bytes: u32) {
        self.receive_limit = bytes;
    }

    /// Bytes that are held for the reader, or behind a packet that is missing.
    pub fn held(&self) -> usize {
        self.backlog + self.assembler.ready() + self.assembler.ahead()
    }

    /// Sends a heartbeat whenever nothing was sent or unacknowledged for this long; `None` for never.
    pub fn set_keepalive(&mut self, now: Instant, interval: Option<Micros>) {
        // A millisecond at least: an interval of zero would mean a packet for every turn of the loop.
        self.timers.keepalive_interval = interval.map(|interval| interval.max(crate::time::MILLISECOND));
        self.timers.keepalive = self.timers.keepalive_interval.map(|interval| now + interval);
    }

    /// Bytes written that the peer has not acknowledged.
    pub fn unacked(&self) -> u64 {
        let sent = self.outstanding.get(self.outstanding.first());
        let acked = sent.map_or(self.buffer.unsent_offset(), |packet| packet.offset);
        self.buffer.unsent_offset() + self.buffer.unsent() as u64 - acked
    }

    /// Bytes that can be unacknowledged at once: more than this and some spare need not be queued. What the
    /// peer holds behind a hole is no longer on its way, and makes room for more.
    pub fn send_window(&self) -> usize {
        let capacity = self.payload_capacity();
        let packets = self.congestion.window().min(self.peer_window as usize / capacity.min(BASE_PAYLOAD));
        (packets + self.outstanding.sacked() + self.outstanding.lost()) * capacity
    }

    /// Whether everything written, and the END if there is one, is acknowledged.
    pub fn is_flushed(&self) -> bool {
        self.outstanding.is_empty() && !self.has_unsent()
    }

    /// Whether our END was acknowledged.
    pub fn is_end_acked(&self) -> bool {
        self.end == End::Acked
    }

    /// How the stream ended: `Ok` if both sides did.
    pub fn closed(&self) -> Option<Result<(), Error>> {
        match self.life {
            Life::Closed(result) => Some(result),
            _ => None,
        }
    }

    /// Number the peer's next packet should have, and our own next one, for whoever answers late packets.
    pub fn final_numbers(&self) -> (u32, u32) {
        (self.assembler.ack(), self.outstanding.next() as u32)
    }

    /// Packets in flight.
    pub fn in_flight(&self) -> usize {
        self.outstanding.in_flight()
    }

    /// Packets delivered so far.
    pub fn delivered(&self) -> u64 {
        self.rate.delivered()
    }

    /// Packets deemed lost so far.
    pub fn lost(&self) -> u64 {
        self.stats.lost
    }

    /// The least round-trip time of the last minutes.
    pub fn min_rtt(&self) -> Option<Micros> {
        self.rtt.min()
    }

    /// Receive window the peer last advertised.
    pub fn peer_window(&self) -> u32 {
        self.peer_window
    }

    /// Counters and estimates.
    pub fn stats(&self) -> Stats {
        Stats {
            rtt: self.rtt.smoothed(),
            mtu: self.mtu.current(),
            first_hop: self.mtu.first_hop(),
            window: self.congestion.window(),
            pacing_rate: (self.congestion.rate() * 1e6) as u64,
            in_flight: self.outstanding.in_flight(),
            peer_window: self.peer_window,
            ..self.stats
        }
    }

    /// What was learnt of one path says nothing of another.
    fn forget_path(&mut self) {
        self.rtt = Rtt::new();
        self.receive_window.forget_path();
        self.begin_congestion();
    }

    fn is_open(&self) -> bool {
        self.life == Life::Open
    }

    /// Whether the stream may go to that remote from its current one.
    fn check_change(&self, remote: Remote) -> Result<(), Error> {
        self.check_open()?;
        if self.remotes.current().is_none() {
            return Err(Error::NotConnected);
        }
        check_address(remote)
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.life {
            Life::Open => Ok(()),
            Life::Destroying | Life::Closed(Ok(())) => Err(Error::Cancelled),
            Life::Closed(Err(error)) => Err(error),
        }
    }

    fn close(&mut self, result: Result<(), Error>) {
        self.life = Life::Closed(result);
        self.drop_queues();
    }

    fn drop_queues(&mut self) {
        self.buffer.clear();
        self.outstanding.clear();
        self.messages_out.clear();
        self.timers = Timers::default();
    }

    /// Bytes or an END wait to be sent for the first time.
    fn has_unsent(&self) -> bool {
        self.buffer.unsent() > 0 || self.end == End::Queued
    }

    /// Bytes the application side can still take. Packets out of order do not count, as with libudx, up to
    /// another window: while a hole is repaired, which takes a round trip, the path goes on carrying its
    /// window. More must count, for memory's sake.
    fn window(&self) -> u32 {
        let whole = self.whole_window();
        let ahead = self.assembler.ahead().saturating_sub(whole as usize);
        let used = self.backlog + self.assembler.ready() + ahead;
        whole.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Bytes received since the beginning. What lies behind a hole counts: the peer sends on for it.
    fn received(&self) -> u64 {
        self.handed_over + (self.assembler.ready() + self.assembler.ahead()) as u64
    }

    /// The receive window while nothing waits for its reader.
    fn whole_window(&self) -> u32 {
        self.receive_window.bytes(self.rtt.min()).min(self.receive_share).min(self.receive_limit)
    }
}

fn new_congestion(id: u32, payload: usize) -> Bbr {
    Bbr::new(payload, u64::from(id))
}

fn check_address(remote: Remote) -> Result<(), Error> {
    if remote.address.port() == 0 { Err(Error::InvalidAddress) } else { Ok(()) }
}

/// Payload bytes of the very first packet: libudx does not yet know the address family then, and takes the
/// larger headers.
fn first_capacity(mtu: &Mtu) -> usize {
    usize::from(mtu.current()) - overhead(true)
}
