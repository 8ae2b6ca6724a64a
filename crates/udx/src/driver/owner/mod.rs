//! The task that owns an instance.
//!
//! Each turn handles what handles asked for, receives in batches, fires timers, hands bytes to and from
//! streams' users, and lets streams send, one batch each in turn. Nothing here waits; when there is nothing
//! to do, the task sleeps until a socket, a handle or the earliest deadline wakes it.

mod commands;
mod entry;
mod linger;
mod memory;
mod paths;
mod pool;
mod receive;
mod relay;
mod route;
mod socket;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as Clock, Sleep};

use super::Config;
use super::command::Command;
use super::datagrams::{Datagram, Queue};
use super::shared::Shared;
use crate::error::Error;
use crate::proto::{Limits, SocketId};
use crate::time::Instant;
use commands::HALF_CLOSED;
use entry::Entry;
use linger::Linger;
use memory::Memory;
use paths::Paths;
use pool::Pool;
use relay::{RelayBatch, RelayPacing};
use socket::{Received, SocketState};
use timers::TimerQueue;

/// Commands handled and batches sent per turn: few enough that neither starves the other, nor what arrives.
const COMMANDS: usize = 256;
const SENDS: usize = 16;

pub(super) struct Owner {
    config: Config,
    epoch: Clock,
    now: Instant,
    commands: mpsc::UnboundedReceiver<Command>,
    inbox: Vec<Command>,
    datagrams: Queue,
    datagrams_queued: Arc<AtomicUsize>,
    /// Raw datagrams of this turn.
    batch: Vec<Datagram>,
    sockets: Vec<SocketState>,
    streams: HashMap<u32, Entry>,
    touched: Vec<u32>,
    ready: VecDeque<u32>,
    paths: Paths,
    /// Streams that a path has room for again.
    released: Vec<u32>,
    relay: RelayBatch,
    pacing: RelayPacing,
    /// Streams that relay.
    relays: usize,
    memory: Memory,
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
    pub(super) fn new(
        config: Config,
        commands: mpsc::UnboundedReceiver<Command>,
        datagrams: Queue,
        datagrams_queued: Arc<AtomicUsize>,
    ) -> Self {
        let memory = Memory::new(config.receive_memory);
        Self {
            config,
            epoch: Clock::now(),
            now: Instant::default(),
            commands,
            inbox: Vec::new(),
            datagrams,
            datagrams_queued,
            batch: Vec::new(),
            sockets: Vec::new(),
            streams: HashMap::new(),
            touched: Vec::new(),
            ready: VecDeque::new(),
            paths: Paths::default(),
            released: Vec::new(),
            relay: RelayBatch::default(),
            pacing: RelayPacing::default(),
            relays: 0,
            memory,
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
        self.pass_on();
        has_more |= self.receive(cx);
        self.fire_timers();
        self.settle_touched();
        has_more |= self.transmit(cx);
        self.datagrams.push(&mut self.batch);
        has_more || !self.touched.is_empty()
    }

    fn fire_timers(&mut self) {
        while let Some(id) = self.timers.pop_due(self.now) {
            let Some(entry) = self.streams.get_mut(&id) else { continue };
            entry.timer = None;
            entry.stream.handle_timeout(self.now);
            entry.check_hop();
            if entry.give_up.is_some_and(|at| at <= self.now) {
                if entry.stream.is_end_acked() {
                    entry.stream.destroy();
                }
                entry.give_up = Some(self.now + HALF_CLOSED);
            }
            entry.touch(&mut self.touched);
        }
    }

    /// Hands bytes over between streams and their users, and lists the streams as ready to send.
    fn settle_touched(&mut self) {
        for index in 0..self.touched.len() {
            let Some(&id) = self.touched.get(index) else { break };
            let Some(entry) = self.streams.get_mut(&id) else { continue };
            entry.is_touched = false;
            entry.stream.handle_batch_end(self.now);
            entry.exchange(self.now);
            let share = self.memory.share(&mut entry.memory, entry.stream.held());
            entry.stream.set_receive_share(share);
            self.paths.update(self.now, &entry.stream, &mut entry.share, &mut self.released);
            entry.make_ready(&mut self.ready);
        }
        self.touched.clear();
        self.ready_released();
    }

    fn ready_released(&mut self) {
        for id in self.released.drain(..) {
            if let Some(entry) = self.streams.get_mut(&id) {
                entry.share.on_released();
                entry.make_ready(&mut self.ready);
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
                Some(socket) => socket.segments().min(self.config.batch),
                None => 1,
            };
            out.clear();
            let limits = Limits { segments, room: self.paths.room(id, &mut entry.share) };
            match entry.stream.poll_transmit(self.now, limits, &mut out) {
                Some(transmit) => {
                    self.ready.push_back(id);
                    self.paths.update(self.now, &entry.stream, &mut entry.share, &mut self.released);
                    if let Some(socket) = self.sockets.iter_mut().find(|s| s.id == transmit.socket)
                        && !socket.send_batch(&transmit, &mut out)
                        && !transmit.may_fragment
                    {
                        entry.stream.handle_refused(self.now, transmit.segment);
                        entry.check_hop();
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
            entry.exchange(self.now);
            entry.shared.lock().close(result);
            if entry.relay_to.is_none() {
                self.linger.add(self.now, &entry.stream, result);
            }
            self.timers.set(id, &mut entry.timer, None);
            self.paths.leave(&mut entry.share, &mut self.released);
            self.memory.leave(&entry.memory);
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
                entry.touch(&mut self.touched);
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
        let deadlines = [self.timers.next(), self.pacing.next_turn()];
        let Some(next) = deadlines.into_iter().flatten().min() else {
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
        self.pacing = RelayPacing::default();
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
