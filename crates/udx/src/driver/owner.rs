//! The task that owns an instance.
//!
//! Each turn handles what handles asked for, receives in batches, fires timers, hands bytes to and from streams'
//! users, and lets streams send, one batch each in turn. Nothing here waits; when there is nothing to do, the task
//! sleeps until a socket, a handle or the earliest deadline wakes it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as Clock, Sleep};

use super::Config;
use super::command::{Command, StreamCommand};
use super::datagrams::{Datagram, Queue};
use super::linger::Linger;
use super::paths::{Paths, Share};
use super::pool::Pool;
use super::relay::RelayBatch;
use super::shared::{Shared, State, WRITE_SPARE};
use super::socket::{Received, SocketState};
use super::stream::{Firewall, StreamOptions, Verdict};
use super::timers::TimerQueue;
use crate::error::Error;
use crate::proto::packet::{HEADER_LEN, Header};
use crate::proto::{self, Framing, Limits, Remote, SocketId, StreamConfig};
use crate::time::{Instant, Micros, SECOND};

/// Commands handled per turn, receive calls per socket and turn, and batches sent per turn: small enough that none
/// starves the others.
const COMMANDS: usize = 256;
const RECEIVES: usize = 4;
const SENDS: usize = 16;

/// Most datagrams in one segmented send, whatever the system says it can do.
const SEGMENTS: usize = 64;

/// How long a stream that its user ended and dropped waits for the peer's END.
const HALF_CLOSED: Micros = 60 * SECOND;

/// Streams of one instance; ids are random, and must stay easy to find.
const MAX_STREAMS: usize = 1 << 20;

struct Entry {
    stream: proto::Stream,
    shared: Arc<Shared>,
    firewall: Option<Firewall>,
    /// Sockets the stream is or was connected through: after a move the peer still sends to the old one.
    sockets: Vec<SocketId>,
    /// In the list of streams to settle.
    is_touched: bool,
    /// In the list of streams that may have something to send, or parked at a blocked socket.
    is_ready: bool,
    /// Its deadline in the timer queue.
    timer: Option<Instant>,
    /// Its part of what is in flight to its peer's address.
    share: Share,
    /// Groups what is handed up, if its user wants frames.
    framing: Option<Framing>,
    /// Its packets go on to this stream's peer.
    relay_to: Option<Arc<Shared>>,
    /// Its user ended and dropped it: when to give it up.
    give_up: Option<Instant>,
}

pub(super) struct Owner {
    config: Config,
    epoch: Clock,
    now: Instant,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For the shared state of new streams.
    sender: mpsc::UnboundedSender<Command>,
    inbox: Vec<Command>,
    datagrams: Queue,
    datagrams_queued: Arc<AtomicUsize>,
    /// Raw datagrams of this turn.
    batch: Vec<Datagram>,
    sockets: Vec<SocketState>,
    next_socket: u32,
    streams: HashMap<u32, Entry>,
    touched: Vec<u32>,
    ready: VecDeque<u32>,
    paths: Paths,
    /// Streams that a path has room for again.
    released: Vec<u32>,
    relay: RelayBatch,
    /// Streams that relay.
    relays: usize,
    timers: TimerQueue,
    sleep: Pin<Box<Sleep>>,
    sleep_until: Option<Instant>,
    linger: Linger,
    pool: Pool,
    received: Vec<Received>,
    out: Vec<u8>,
    is_abandoned: bool,
    closing: Option<oneshot::Sender<()>>,
    is_closed: bool,
}

impl Owner {
    pub fn new(
        config: Config,
        sender: mpsc::UnboundedSender<Command>,
        commands: mpsc::UnboundedReceiver<Command>,
        datagrams: Queue,
        datagrams_queued: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            config,
            epoch: Clock::now(),
            now: Instant::default(),
            commands,
            sender,
            inbox: Vec::new(),
            datagrams,
            datagrams_queued,
            batch: Vec::new(),
            sockets: Vec::new(),
            next_socket: 0,
            streams: HashMap::new(),
            touched: Vec::new(),
            ready: VecDeque::new(),
            paths: Paths::default(),
            released: Vec::new(),
            relay: RelayBatch::default(),
            relays: 0,
            timers: TimerQueue::default(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            sleep_until: None,
            linger: Linger::default(),
            pool: Pool::new(),
            received: Vec::new(),
            out: Vec::new(),
            is_abandoned: false,
            closing: None,
            is_closed: false,
        }
    }

    fn read_clock(&mut self) {
        // Wraps after half a million years.
        self.now = Instant::from_micros(self.epoch.elapsed().as_micros() as u64);
    }

    /// One turn; whether it left work for another.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        self.read_clock();
        let mut has_more = self.take_commands(cx);
        has_more |= self.receive(cx);
        self.fire_timers();
        self.settle_touched();
        has_more |= self.transmit(cx);
        self.datagrams.push(&mut self.batch);
        has_more || !self.touched.is_empty()
    }

    fn take_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut inbox = std::mem::take(&mut self.inbox);
        let taken = match self.commands.poll_recv_many(cx, &mut inbox, COMMANDS) {
            Poll::Ready(taken) => taken,
            Poll::Pending => 0,
        };
        for command in inbox.drain(..) {
            self.command(command);
        }
        self.inbox = inbox;
        taken > 0
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Bind { address, reply } => {
                let id = SocketId(self.next_socket);
                self.next_socket = self.next_socket.wrapping_add(1);
                let result = SocketState::bind(id, address, &self.config).map(|socket| {
                    let local = socket.local;
                    self.sockets.push(socket);
                    (id, local)
                });
                // A caller that gave up leaves a socket that nobody can use.
                if reply.send(result).is_err() {
                    self.sockets.retain(|socket| socket.id != id);
                }
            }
            Command::CloseSocket { socket, reply } => {
                if let Some(socket) = self.socket(socket) {
                    socket.is_closing = true;
                }
                self.close_idle_sockets();
                let _ = reply.send(());
            }
            Command::Send { socket, to, ttl, data } => {
                self.datagrams_queued.fetch_sub(1, Ordering::Relaxed);
                if let Some(socket) = self.socket(socket) {
                    socket.send_datagram(data.into(), to, ttl);
                }
            }
            Command::Open { options, reply } => {
                let opened = self.open(options);
                if let Err(Ok(shared)) = reply.send(opened) {
                    self.streams.remove(&shared.id);
                }
            }
            Command::Dirty(shared) => {
                shared.clear_dirty();
                self.touch_if_live(&shared);
            }
            Command::Stream(shared, command) => self.stream_command(&shared, command),
            Command::Abandon => self.is_abandoned = true,
            Command::Close { reply } => {
                self.closing = Some(reply);
                for entry in self.streams.values_mut() {
                    destroy(entry);
                    touch(entry, &mut self.touched);
                }
            }
        }
    }

    fn open(&mut self, options: StreamOptions) -> Result<Arc<Shared>, Error> {
        if self.closing.is_some() || self.streams.len() >= MAX_STREAMS {
            return Err(Error::Closed);
        }
        let id = match options.id {
            Some(id) if self.streams.contains_key(&id) => return Err(Error::IdInUse),
            Some(id) => id,
            None => loop {
                let id = rand::random();
                if !self.streams.contains_key(&id) && !self.linger.contains(id) {
                    break id;
                }
            },
        };
        self.linger.remove(id);
        let config = StreamConfig {
            id,
            seq: options.seq,
            ack: options.ack,
            receive_window: self.config.receive_window,
        };
        let shared = Shared::new(id, self.sender.clone());
        let entry = Entry {
            stream: proto::Stream::new(&config),
            shared: shared.clone(),
            firewall: options.firewall,
            sockets: Vec::new(),
            is_touched: false,
            is_ready: false,
            timer: None,
            share: Share::default(),
            framing: options.framed.then(Framing::default),
            relay_to: None,
            give_up: None,
        };
        self.streams.insert(id, entry);
        Ok(shared)
    }

    fn stream_command(&mut self, shared: &Arc<Shared>, command: StreamCommand) {
        let Some(entry) = self.streams.get_mut(&shared.id) else { return };
        if !Arc::ptr_eq(&entry.shared, shared) {
            return;
        }
        match command {
            StreamCommand::Connect(remote) => connect(entry, remote, &self.sockets, &self.config),
            StreamCommand::ChangeRemote(remote) => {
                if let Some(remote) = reachable(remote, &self.sockets) {
                    add_socket(entry, remote.socket);
                    // Fails only if the stream is closed, which its user learns otherwise.
                    let _ = entry.stream.change_remote(remote);
                }
            }
            StreamCommand::Keepalive(interval) => entry.stream.set_keepalive(self.now, interval),
            // Too large for the path as known now: dropped, as the path would.
            StreamCommand::Message(message) => drop(entry.stream.send_message(message)),
            StreamCommand::Destroy => destroy(entry),
            StreamCommand::RelayTo(destination) => {
                self.relays += usize::from(entry.relay_to.is_none());
                entry.relay_to = Some(destination);
            }
            StreamCommand::Drop => {
                let mut state = entry.shared.lock();
                state.is_discarding = true;
                state.received.clear();
                state.received_bytes = 0;
                let is_ended = state.is_end_written;
                drop(state);
                if is_ended {
                    entry.give_up = Some(self.now + HALF_CLOSED);
                } else {
                    destroy(entry);
                }
            }
        }
        touch(entry, &mut self.touched);
    }

    fn touch_if_live(&mut self, shared: &Arc<Shared>) {
        if let Some(entry) = self.streams.get_mut(&shared.id)
            && Arc::ptr_eq(&entry.shared, shared)
        {
            touch(entry, &mut self.touched);
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let mut received = std::mem::take(&mut self.received);
        let mut has_more = false;
        for index in 0..self.sockets.len() {
            let mut is_drained = false;
            for _ in 0..RECEIVES {
                let Some(socket) = self.sockets.get(index) else { break };
                let id = socket.id;
                if socket.poll_receive(cx, &mut self.pool, &mut received).is_pending() {
                    is_drained = true;
                    break;
                }
                for (slot, batch) in received.iter().enumerate() {
                    let bytes = self.pool.take(slot, batch.len);
                    for start in (0..batch.len.max(1)).step_by(batch.stride) {
                        let end = batch.len.min(start + batch.stride);
                        self.datagram(id, batch.from, &bytes, start..end);
                    }
                    self.pool.give_back(slot, bytes);
                }
                self.relay.flush(&mut self.sockets);
            }
            has_more |= !is_drained;
        }
        self.received = received;
        has_more
    }

    fn datagram(&mut self, socket: SocketId, from: SocketAddr, bytes: &Bytes, range: Range<usize>) {
        let datagram = bytes.get(range.clone()).unwrap_or_default();
        if let Some(header) = Header::decode(datagram) {
            if let Some(entry) = self.streams.get_mut(&header.stream_id) {
                if !is_admitted(entry, socket, from, &self.sockets, &self.config) {
                    return;
                }
                if let Some(destination) = entry.relay_to.clone() {
                    self.relay_packet(&header, bytes, range, &destination);
                } else {
                    let body = range.start + HEADER_LEN..range.end;
                    entry.stream.handle_packet(self.now, &header, bytes, body);
                    touch(entry, &mut self.touched);
                }
                return;
            }
            let mut answer = Vec::new();
            if let Some(remote) = self.linger.handle(self.now, &header, &mut answer) {
                if let Some(remote) = remote
                    && let Some(socket) = self.socket(remote.socket)
                {
                    socket.send_datagram(answer, remote.address, None);
                }
                return;
            }
        }
        let is_open = self.sockets.iter().any(|state| state.id == socket && !state.is_closing);
        if is_open {
            self.batch.push(Datagram { socket, from, data: bytes.slice(range) });
        }
    }

    /// Sends a packet on; it is lost if the destination is not connected.
    fn relay_packet(
        &mut self,
        header: &Header,
        bytes: &Bytes,
        range: Range<usize>,
        destination: &Arc<Shared>,
    ) {
        let remote = match self.streams.get(&destination.id) {
            Some(entry) if Arc::ptr_eq(&entry.shared, destination) => entry.stream.remote(),
            _ => None,
        };
        let Some(remote) = remote else { return };
        let is_over = self.relay.push(header, bytes, range, remote, &mut self.sockets);
        if is_over && let Some(entry) = self.streams.get_mut(&header.stream_id) {
            entry.stream.abort(Error::ConnectionReset);
            touch(entry, &mut self.touched);
        }
    }

    fn fire_timers(&mut self) {
        while let Some(id) = self.timers.pop_due(self.now) {
            let Some(entry) = self.streams.get_mut(&id) else { continue };
            entry.timer = None;
            entry.stream.handle_timeout(self.now);
            if entry.give_up.is_some_and(|at| at <= self.now) {
                if entry.stream.is_end_acked() {
                    entry.stream.destroy();
                }
                entry.give_up = Some(self.now + HALF_CLOSED);
            }
            touch(entry, &mut self.touched);
        }
    }

    /// Hands bytes over between streams and their users, and lists the streams as ready to send.
    fn settle_touched(&mut self) {
        for index in 0..self.touched.len() {
            let Some(&id) = self.touched.get(index) else { break };
            let Some(entry) = self.streams.get_mut(&id) else { continue };
            entry.is_touched = false;
            entry.stream.handle_batch_end(self.now);
            exchange(entry, self.now);
            self.paths.update(self.now, &entry.stream, &mut entry.share, &mut self.released);
            make_ready(entry, &mut self.ready);
        }
        self.touched.clear();
        self.ready_released();
    }

    fn ready_released(&mut self) {
        for id in self.released.drain(..) {
            if let Some(entry) = self.streams.get_mut(&id) {
                entry.share.on_released();
                make_ready(entry, &mut self.ready);
            }
        }
    }

    /// Lets ready streams send, a batch each in turn; whether some are left.
    fn transmit(&mut self, cx: &mut Context<'_>) -> bool {
        for socket in &mut self.sockets {
            if socket.is_blocked() && socket.poll_unblock(cx) {
                self.ready.extend(socket.parked.drain(..));
            }
        }
        let mut out = std::mem::take(&mut self.out);
        for _ in 0..SENDS.max(self.ready.len().min(COMMANDS)) {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(entry) = self.streams.get_mut(&id) else { continue };
            let socket = entry.stream.remote().map(|remote| remote.socket);
            let socket = self.sockets.iter_mut().find(|state| Some(state.id) == socket);
            let segments = match socket {
                Some(socket) if socket.is_blocked() => {
                    socket.parked.push(id);
                    continue;
                }
                Some(socket) => socket.segments().min(SEGMENTS),
                None => 1,
            };
            out.clear();
            let limits = Limits { segments, room: self.paths.room(id, &mut entry.share) };
            match entry.stream.poll_transmit(self.now, limits, &mut out) {
                Some(transmit) => {
                    self.ready.push_back(id);
                    self.paths.update(self.now, &entry.stream, &mut entry.share, &mut self.released);
                    if let Some(socket) = self.sockets.iter_mut().find(|s| s.id == transmit.socket) {
                        socket.send_batch(&transmit, &mut out);
                    }
                }
                None => {
                    entry.is_ready = false;
                    self.rest(id);
                }
            }
        }
        self.out = out;
        self.ready_released();
        for socket in &mut self.sockets {
            if socket.is_blocked() && socket.poll_unblock(cx) {
                self.ready.extend(socket.parked.drain(..));
            }
        }
        !self.ready.is_empty()
    }

    /// A stream has nothing to send now: removes it if it is closed, else sets its timer.
    fn rest(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if let Some(result) = entry.stream.closed() {
            exchange(entry, self.now);
            entry.shared.lock().close(result);
            if entry.relay_to.is_none() {
                self.linger.add(self.now, &entry.stream, result);
            }
            self.timers.set(id, &mut entry.timer, None);
            self.paths.leave(&mut entry.share, &mut self.released);
            let shared = entry.shared.clone();
            self.relays -= usize::from(entry.relay_to.is_some());
            self.streams.remove(&id);
            self.end_relays_to(&shared);
            self.close_idle_sockets();
            return;
        }
        let deadline = [entry.stream.poll_timeout(), entry.give_up].into_iter().flatten().min();
        self.timers.set(id, &mut entry.timer, deadline);
    }

    /// Closes the streams that relay to one that is gone, without a word to their peers.
    fn end_relays_to(&mut self, destination: &Arc<Shared>) {
        if self.relays == 0 {
            return;
        }
        for entry in self.streams.values_mut() {
            if entry.relay_to.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, destination)) {
                entry.stream.abort(Error::Cancelled);
                touch(entry, &mut self.touched);
            }
        }
    }

    fn close_idle_sockets(&mut self) {
        let streams = &self.streams;
        self.sockets.retain(|socket| {
            !socket.is_closing
                || streams.values().any(|entry| entry.stream.remote().is_some_and(|r| r.socket == socket.id))
        });
    }

    fn socket(&mut self, id: SocketId) -> Option<&mut SocketState> {
        self.sockets.iter_mut().find(|socket| socket.id == id)
    }

    /// Sleeps until the earliest deadline. True if that is now.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = self.timers.next() else {
            self.sleep_until = None;
            return false;
        };
        if self.sleep_until != Some(next) {
            self.sleep_until = Some(next);
            self.sleep.as_mut().reset(self.epoch + Duration::from_micros(next.as_micros()));
        }
        let is_due = self.sleep.as_mut().poll(cx).is_ready();
        if is_due {
            self.sleep_until = None;
        }
        is_due
    }

    /// Ends the instance for all who wait on it.
    fn finish(&mut self) {
        self.is_closed = true;
        for entry in self.streams.values_mut() {
            entry.shared.lock().close(Err(Error::Closed));
        }
        self.streams.clear();
        self.sockets.clear();
        self.datagrams.close();
        if let Some(reply) = self.closing.take() {
            let _ = reply.send(());
        }
    }
}

impl Future for Owner {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        /// Turns before other tasks of the runtime get their chance.
        const TURNS: usize = 8;
        let this = &mut *self;
        for _ in 0..TURNS {
            let has_more = this.turn(cx);
            let is_over = this.is_abandoned || this.closing.is_some();
            if is_over && this.streams.is_empty() && !this.sockets.iter().any(SocketState::is_blocked) {
                this.finish();
                return Poll::Ready(());
            }
            if !has_more && !this.poll_sleep(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Owner {
    /// The runtime may drop the task at any time; whoever waits must learn of it.
    fn drop(&mut self) {
        if !self.is_closed {
            self.finish();
        }
    }
}

/// Gives a stream up; its peer is told, unless that is whom another stream's packets come from.
fn destroy(entry: &mut Entry) {
    if entry.relay_to.is_some() {
        entry.stream.abort(Error::Cancelled);
    } else {
        entry.stream.destroy();
    }
}

fn make_ready(entry: &mut Entry, ready: &mut VecDeque<u32>) {
    if !entry.is_ready {
        entry.is_ready = true;
        ready.push_back(entry.stream.id());
    }
}

fn touch(entry: &mut Entry, touched: &mut Vec<u32>) {
    if !entry.is_touched {
        entry.is_touched = true;
        touched.push(entry.stream.id());
    }
}

/// Asks the firewall about a packet from a socket that was never the stream's own.
fn is_admitted(
    entry: &mut Entry,
    socket: SocketId,
    from: SocketAddr,
    sockets: &[SocketState],
    config: &Config,
) -> bool {
    if entry.sockets.contains(&socket) {
        return true;
    }
    let Some(firewall) = &mut entry.firewall else { return false };
    match firewall(socket, from) {
        Verdict::Refuse => false,
        Verdict::Accept => true,
        Verdict::Connect { remote_id } => {
            let mut state = entry.shared.lock();
            let is_new = !state.is_connected && state.closed.is_none();
            if is_new {
                state.is_connected = true;
                state.remote = Some(from);
            }
            drop(state);
            if is_new {
                connect(entry, Remote { socket, address: from, id: remote_id }, sockets, config);
            }
            true
        }
    }
}

fn connect(entry: &mut Entry, remote: Remote, sockets: &[SocketState], config: &Config) {
    let Some(remote) = reachable(remote, sockets) else {
        // The socket was closed in between.
        entry.stream.destroy();
        return;
    };
    if let Some(socket) = sockets.iter().find(|socket| socket.id == remote.socket) {
        let payload = proto::FULL_PAYLOAD;
        let window = u32::try_from(socket.receive_packets() * payload).unwrap_or(u32::MAX);
        entry.stream.set_receive_window(window.min(config.receive_window));
    }
    add_socket(entry, remote.socket);
    // Fails only if the stream is closed, which its user learns otherwise.
    let _ = entry.stream.connect(remote);
}

fn add_socket(entry: &mut Entry, socket: SocketId) {
    /// A stream that moves more often forgets where it was first.
    const MAX: usize = 8;
    if !entry.sockets.contains(&socket) {
        if entry.sockets.len() == MAX {
            entry.sockets.remove(0);
        }
        entry.sockets.push(socket);
    }
}

/// The remote with its address in the form its socket needs.
fn reachable(remote: Remote, sockets: &[SocketState]) -> Option<Remote> {
    let socket = sockets.iter().find(|socket| socket.id == remote.socket)?;
    Some(Remote { address: socket.reachable(remote.address)?, ..remote })
}

/// Moves bytes between a stream and its user.
fn exchange(entry: &mut Entry, now: Instant) {
    let stream = &mut entry.stream;
    let mut state = entry.shared.lock();

    let mut has_news = false;
    let mut deliver = |state: &mut State, data: Bytes| {
        if !state.is_discarding {
            state.received_bytes += data.len();
            state.received.push_back(data);
            has_news = true;
        }
    };
    while let Some(data) = stream.read() {
        match &mut entry.framing {
            Some(framing) => framing.push(data, |data| deliver(&mut state, data)),
            None => deliver(&mut state, data),
        }
    }
    let is_over = stream.is_ended() || stream.closed().is_some();
    if is_over && let Some(rest) = entry.framing.as_mut().and_then(Framing::finish) {
        deliver(&mut state, rest);
    }
    if stream.is_ended() && !state.is_ended {
        state.is_ended = true;
        has_news = true;
    }
    if has_news && let Some(waker) = state.reader.take() {
        waker.wake();
    }
    while let Some(message) = stream.read_message() {
        if state.messages.len() < proto::MAX_MESSAGES && !state.is_discarding {
            state.messages.push_back(message);
        }
        if let Some(waker) = state.message_reader.take() {
            waker.wake();
        }
    }
    stream.set_backlog(state.received_bytes);
    state.wants_window = stream.is_window_narrow();

    while let Some(data) = state.queued.pop_front() {
        // Fails only if the stream is closed, which its user learns otherwise.
        let _ = stream.write(now, data);
    }
    state.queued_bytes = 0;
    if state.is_end_written {
        stream.end(now);
    }
    let unacked = usize::try_from(stream.unacked()).unwrap_or(usize::MAX);
    let is_flushed = unacked == 0 && state.unacked > 0;
    state.unacked = unacked;
    state.limit = WRITE_SPARE + stream.send_window();
    if state.should_wake_writer()
        && let Some(waker) = state.writer.take()
    {
        waker.wake();
    }
    if stream.take_remote_changed() {
        state.remote_changes += 1;
        state.wake_watchers();
    } else if is_flushed {
        state.wake_watchers();
    }
    state.stats = stream.stats();
}
