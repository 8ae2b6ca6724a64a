//! Streams and a network between their ends, in virtual time. Everything follows from the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use bytes::Bytes;
use udx::proto::packet::{Flags, HEADER_LEN, Header, LIBUDX_SACK_BLOCKS, SACK_BLOCK_LEN};
use udx::proto::{Limits, Remote, StreamConfig, StreamMachine, Transmit};
use udx::{Error, Instant, Micros, SocketId};

use crate::link::Direction;
pub(crate) use crate::link::Link;
use crate::pattern::Pattern;

pub(crate) const MILLISECOND: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;

/// Bytes of IPv4 and UDP headers around a datagram.
const HEADERS: usize = 28;

/// Bytes an application keeps queued beyond what the stream can have on its way.
const SPARE: u64 = 256 << 10;

/// One end and its application.
pub(crate) struct End {
    pub stream: StreamMachine,
    sent: Pattern,
    received: Pattern,
    to_send: usize,
    must_end: bool,
    /// Bytes per microsecond that the application reads; all at once if `None`.
    pub read_rate: Option<f64>,
    unread: f64,
    read_at: Micros,
    /// What the stream's way is longer than the links.
    delay: Micros,
}

impl End {
    fn new(id: u32, delay: Micros) -> Self {
        Self {
            delay,
            stream: StreamMachine::new(&StreamConfig::new(id)),
            sent: Pattern::new(),
            received: Pattern::new(),
            to_send: 0,
            must_end: false,
            read_rate: None,
            unread: 0.0,
            read_at: 0,
        }
    }

    /// Bytes received intact so far.
    pub(crate) fn received(&self) -> usize {
        self.received.position()
    }

    /// Has the application send so much more, and then end if told so.
    pub(crate) fn send(&mut self, bytes: usize, must_end: bool) {
        self.to_send += bytes;
        self.must_end = must_end;
    }
}

type Delivery = Reverse<(Micros, u64, usize, Vec<u8>)>;

/// The whole.
pub(crate) struct Simulation {
    pub now: Micros,
    /// In pairs: of each stream the end on the left, and the one on the right.
    pub ends: Vec<End>,
    /// From left to right, and back; shared by all streams.
    pub links: [Link; 2],
    /// Datagrams given to the network, by each end.
    pub datagrams: Vec<u64>,
    /// Cut lists of SACK blocks to the 50 that libudx sends.
    pub truncates_sacks: bool,
    /// How often ends look at what has arrived, as systems gather interrupts; at once if 0.
    pub turn: Micros,
    /// Of a batch whose first datagram is too large for the link nothing arrives, as in virtual networks.
    pub drops_batches: bool,
    /// Ends do not hear heartbeats.
    pub swallows_heartbeats: bool,
    /// Largest IP packet of the left ends' first hop: their system refuses larger ones, and says so.
    pub first_hop: Option<usize>,
    /// Datagrams that an end's socket holds until it looks.
    pub socket: usize,
    /// Those that found no room there.
    pub unseen: u64,
    /// For each end: when it will look next, and how many datagrams wait for that.
    waiting: Vec<(Micros, usize)>,
    directions: [Direction; 2],
    deliveries: BinaryHeap<Delivery>,
    count: u64,
}

impl Simulation {
    /// Two connected ends of one stream.
    pub(crate) fn new(forth: Link, back: Link, seed: u64) -> Self {
        Self::with_streams(&[0], forth, back, seed)
    }

    /// Several streams over the same links, each with so much more delay of its own, one way.
    pub(crate) fn with_streams(delays: &[Micros], forth: Link, back: Link, seed: u64) -> Self {
        let mut ends = Vec::new();
        for &delay in delays {
            for _ in 0..2 {
                let index = ends.len();
                // Streams that follow chance follow the seed.
                let id = |index: usize| (seed as u32) << 8 | index as u32;
                let address = SocketAddr::from(([127, 0, 0, 1], 1000));
                let remote = Remote { socket: SocketId::new(0), address, id: id(index ^ 1) };
                let mut end = End::new(id(index), delay);
                end.stream.connect(remote).unwrap();
                ends.push(end);
            }
        }
        Self {
            now: SECOND,
            datagrams: vec![0; ends.len()],
            waiting: vec![(0, 0); ends.len()],
            ends,
            links: [forth, back],
            truncates_sacks: false,
            turn: 0,
            drops_batches: false,
            swallows_heartbeats: false,
            first_hop: None,
            socket: usize::MAX,
            unseen: 0,
            directions: [Direction::new(seed), Direction::new(!seed)],
            deliveries: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Datagrams of either direction dropped because a link's queue was full.
    pub(crate) fn overflows(&self) -> u64 {
        self.directions.iter().map(|direction| direction.counts.overflowed).sum()
    }

    /// Datagrams of either direction lost at random.
    pub(crate) fn losses(&self) -> u64 {
        self.directions.iter().map(|direction| direction.counts.lost).sum()
    }

    /// Lets the time pass.
    pub(crate) fn run_for(&mut self, time: Micros) {
        let until = self.now + time;
        self.run_until(until, |_| false);
        self.now = until;
    }

    /// Runs until all ends are closed; panics after `limit`.
    pub(crate) fn run_to_close(&mut self, limit: Micros) -> Vec<Result<(), Error>> {
        let until = self.now + limit;
        let is_over = |sim: &Self| {
            sim.ends.iter().all(|end| end.stream.closed().is_some()) && sim.deliveries.is_empty()
        };
        self.run_until(until, is_over);
        let result = |end: &End| {
            let stats = end.stream.stats();
            end.stream.closed().unwrap_or_else(|| panic!("still open at {} us: {stats:?}", self.now))
        };
        self.ends.iter().map(result).collect()
    }

    /// Runs until the condition holds; false if `until` comes first.
    pub(crate) fn run_until(&mut self, until: Micros, is_over: impl Fn(&Self) -> bool) -> bool {
        self.pump();
        loop {
            if is_over(self) {
                return true;
            }
            let delivery = self.deliveries.peek().map(|Reverse((at, ..))| *at);
            let timers = self.ends.iter().filter_map(|end| end.stream.poll_timeout()).map(Instant::as_micros);
            let readers =
                self.ends.iter().filter(|end| end.unread >= 1.0).map(|end| end.read_at + MILLISECOND);
            let Some(next) = delivery.into_iter().chain(timers).chain(readers).min() else { return false };
            if next > until {
                return false;
            }
            self.now = self.now.max(next);
            self.deliver();
            let now = self.instant();
            for end in &mut self.ends {
                if end.stream.poll_timeout().is_some_and(|at| at <= now) {
                    end.stream.handle_timeout(now);
                }
            }
            self.pump();
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    /// Hands over all datagrams that are due, as one batch for each end.
    fn deliver(&mut self) {
        let now = self.instant();
        while let Some(Reverse((at, ..))) = self.deliveries.peek()
            && *at <= self.now
        {
            let Some(Reverse((_, _, to, datagram))) = self.deliveries.pop() else { break };
            let mut datagram = Bytes::from(datagram);
            let header = Header::decode(&datagram).unwrap();
            if self.swallows_heartbeats && header.flags == Flags::HEARTBEAT {
                continue;
            }
            if self.truncates_sacks && header.flags == Flags::SACK {
                datagram.truncate(HEADER_LEN + LIBUDX_SACK_BLOCKS * SACK_BLOCK_LEN);
            }
            self.ends[to].stream.handle_packet(now, &header, &datagram, HEADER_LEN..datagram.len());
        }
        for end in &mut self.ends {
            end.stream.handle_batch_end(now);
        }
    }

    fn pump(&mut self) {
        let now = self.instant();
        for index in 0..self.ends.len() {
            let end = &mut self.ends[index];
            while let Some(data) = end.stream.read() {
                end.received.check(&data);
                if end.read_rate.is_some() {
                    end.unread += data.len() as f64;
                }
            }
            if let Some(rate) = end.read_rate {
                end.unread = (end.unread - rate * (self.now - end.read_at) as f64).max(0.0);
                end.read_at = self.now;
                end.stream.set_backlog(end.unread as usize);
            }
            let most = end.stream.send_window() as u64 + SPARE;
            while end.to_send > 0 && end.stream.closed().is_none() && end.stream.unacked() < most {
                let n = end.to_send.min(64 * 1024);
                end.stream.write(now, end.sent.next(n).into()).unwrap();
                end.to_send -= n;
            }
            if end.to_send == 0 && std::mem::take(&mut end.must_end) {
                end.stream.end(now);
            }
            let mut out = Vec::new();
            let limits = Limits { segments: 64, room: usize::MAX / 2 };
            while let Some(transmit) = self.ends[index].stream.poll_transmit(now, limits, &mut out) {
                let hop = self.first_hop.filter(|_| index % 2 == 0).unwrap_or(usize::MAX);
                if transmit.segment + HEADERS > hop && !transmit.may_fragment {
                    let stream = &mut self.ends[index].stream;
                    stream.handle_refused(now, transmit.segment);
                    assert!(stream.take_hop_doubt());
                    stream.set_first_hop_mtu(hop);
                    out.clear();
                    continue;
                }
                let is_too_large = transmit.segment + HEADERS > self.links[index % 2].mtu;
                if self.drops_batches && is_too_large && !transmit.may_fragment {
                    out.clear();
                    continue;
                }
                for datagram in out.chunks(transmit.segment) {
                    self.transmit(index, datagram, &transmit);
                }
                out.clear();
            }
        }
    }

    fn transmit(&mut self, from: usize, datagram: &[u8], transmit: &Transmit) {
        self.datagrams[from] += 1;
        let side = from % 2;
        let size = datagram.len() + HEADERS;
        let fate = self.directions[side].pass(&self.links[side], self.now, size, transmit.may_fragment);
        let Some((at, copies)) = fate else { return };
        let at = at + self.ends[from].delay;
        let at = if self.turn > 0 { at.next_multiple_of(self.turn) } else { at };
        for _ in 0..copies {
            if !self.socket_takes(from ^ 1, at) {
                continue;
            }
            self.count += 1;
            self.deliveries.push(Reverse((at, self.count, from ^ 1, datagram.to_vec())));
        }
    }

    /// Whether the socket of an end has room for a datagram that the end will see at `at`.
    fn socket_takes(&mut self, end: usize, at: Micros) -> bool {
        let waiting = &mut self.waiting[end];
        if waiting.0 != at {
            *waiting = (at, 0);
        }
        let has_room = waiting.1 < self.socket;
        if has_room {
            waiting.1 += 1;
        } else {
            self.unseen += 1;
        }
        has_room
    }
}
