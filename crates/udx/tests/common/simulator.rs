//! Two streams and a network between them, in virtual time. Everything follows from the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use bytes::Bytes;
use udx::proto::packet::{Flags, HEADER_LEN, Header, LIBUDX_SACK_BLOCKS, SACK_BLOCK_LEN};
use udx::proto::{Limits, Remote, Stream, StreamConfig, Transmit};
use udx::{Error, Instant, Micros, SocketId};

use crate::pattern::Pattern;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// Bytes of IPv4 and UDP headers around a datagram.
const HEADERS: usize = 28;

/// Most bytes an application keeps queued.
const QUEUED: u64 = 4 << 20;

/// One direction of the network.
#[derive(Debug, Clone)]
pub struct Link {
    /// Bytes per microsecond; one is 8 Mbit/s. Infinite if `None`.
    pub rate: Option<f64>,
    pub delay: Micros,
    /// Bytes that wait for the link before it drops.
    pub queue: usize,
    /// Probabilities from 0 to 1.
    pub loss: f64,
    pub duplicate: f64,
    /// Delayed by up to this much more than the others.
    pub reorder: f64,
    pub reorder_delay: Micros,
    /// Largest IP packet; larger ones vanish unless they may be cut.
    pub mtu: usize,
    /// While set, everything vanishes.
    pub is_down: bool,
}

impl Link {
    /// A perfect link of this speed (Mbit/s) and one-way delay, with a queue of one bandwidth-delay product.
    pub fn new(megabits: f64, delay: Micros) -> Self {
        let rate = megabits / 8.0;
        let queue = (rate * 2.0 * delay as f64) as usize;
        Self {
            rate: Some(rate),
            delay,
            queue: queue.max(30_000),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: 0,
            mtu: 1500,
            is_down: false,
        }
    }
}

/// One end and its application.
pub struct End {
    pub stream: Stream,
    sent: Pattern,
    received: Pattern,
    to_send: usize,
    must_end: bool,
    /// Bytes per microsecond that the application reads; all at once if `None`.
    pub read_rate: Option<f64>,
    unread: f64,
    read_at: Micros,
}

impl End {
    fn new(id: u32) -> Self {
        Self {
            stream: Stream::new(&StreamConfig::new(id)),
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
    pub fn received(&self) -> usize {
        self.received.position()
    }

    /// Has the application send so much more, and then end if told so.
    pub fn send(&mut self, bytes: usize, must_end: bool) {
        self.to_send += bytes;
        self.must_end = must_end;
    }
}

type Delivery = Reverse<(Micros, u64, usize, Vec<u8>)>;

/// The whole.
pub struct Simulation {
    pub now: Micros,
    pub ends: [End; 2],
    /// From the first end to the second, and back.
    pub links: [Link; 2],
    /// When each link has sent what it was given.
    free_at: [f64; 2],
    deliveries: BinaryHeap<Delivery>,
    count: u64,
    random: u64,
    /// Datagrams given to the network, by each end.
    pub datagrams: [u64; 2],
    /// Datagrams dropped because a link's queue was full.
    pub overflows: u64,
    /// Datagrams lost at random.
    pub losses: u64,
    /// Cut lists of SACK blocks to the 50 that libudx sends.
    pub truncates_sacks: bool,
}

impl Simulation {
    /// Two connected streams.
    pub fn new(forth: Link, back: Link, seed: u64) -> Self {
        let mut ends = [End::new(1), End::new(2)];
        for (index, end) in ends.iter_mut().enumerate() {
            let address = SocketAddr::from(([127, 0, 0, 1], 1000));
            let remote = Remote { socket: SocketId::new(0), address, id: 2 - index as u32 };
            end.stream.connect(remote).unwrap();
        }
        Self {
            now: SECOND,
            ends,
            links: [forth, back],
            free_at: [0.0; 2],
            deliveries: BinaryHeap::new(),
            count: 0,
            random: seed,
            datagrams: [0; 2],
            overflows: 0,
            losses: 0,
            truncates_sacks: false,
        }
    }

    /// Lets the time pass.
    pub fn run_for(&mut self, time: Micros) {
        let until = self.now + time;
        self.run_until(until, |_| false);
        self.now = until;
    }

    /// Runs until both streams are closed; panics after `limit`.
    pub fn run_to_close(&mut self, limit: Micros) -> [Result<(), Error>; 2] {
        let until = self.now + limit;
        let is_over = |sim: &Self| {
            sim.ends.iter().all(|end| end.stream.closed().is_some()) && sim.deliveries.is_empty()
        };
        self.run_until(until, is_over);
        let stats = [self.ends[0].stream.stats(), self.ends[1].stream.stats()];
        let closed = self.ends.each_ref().map(|end| end.stream.closed());
        closed.map(|closed| closed.unwrap_or_else(|| panic!("still open at {} us: {stats:?}", self.now)))
    }

    /// Runs until the condition holds; false if `until` comes first.
    pub fn run_until(&mut self, until: Micros, is_over: impl Fn(&Self) -> bool) -> bool {
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

    fn instant(&self) -> Instant {
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
        for index in 0..2 {
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
            while end.to_send > 0 && end.stream.closed().is_none() && end.stream.unacked() < QUEUED {
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
                for datagram in out.chunks(transmit.segment) {
                    self.transmit(index, datagram, &transmit);
                }
                out.clear();
            }
        }
    }

    fn transmit(&mut self, from: usize, datagram: &[u8], transmit: &Transmit) {
        self.datagrams[from] += 1;
        let link = self.links[from].clone();
        let size = datagram.len() + HEADERS;
        if self.chance() < link.loss {
            self.losses += 1;
            return;
        }
        if link.is_down || (size > link.mtu && !transmit.may_fragment) {
            return;
        }
        let mut arrival = self.now + link.delay;
        if let Some(rate) = link.rate {
            let free_at = self.free_at[from].max(self.now as f64);
            if (free_at - self.now as f64) * rate > link.queue as f64 {
                self.overflows += 1;
                return;
            }
            self.free_at[from] = free_at + size as f64 / rate;
            arrival = self.free_at[from] as Micros + link.delay;
        }
        if self.chance() < link.reorder {
            arrival += (self.chance() * link.reorder_delay as f64) as Micros;
        }
        let copies = 1 + usize::from(self.chance() < link.duplicate);
        for _ in 0..copies {
            self.count += 1;
            self.deliveries.push(Reverse((arrival, self.count, 1 - from, datagram.to_vec())));
        }
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
