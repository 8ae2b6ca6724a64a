//! The stream's deadlines.

use super::super::congestion::{Controller, Phase};
use super::super::outstanding::PacketState;
use super::super::rtt::tail_probe_timeout;
use super::{Error, StreamMachine};
use crate::time::{Instant, Micros};

/// Timeouts in a row without progress that end the stream: the last closes, the ones before retransmit.
const MAX_TIMEOUTS: u32 = 7;

/// Timeouts in a row after which large packets are taken to vanish on the path, whatever the peer answers.
const BLACK_HOLE_TIMEOUTS: u32 = 2;

/// Everything a stream waits for.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Retransmission timeout; set while packets are outstanding.
    pub rto: Option<Instant>,
    /// When the next packet sent before the RACK reference counts as lost.
    pub rack: Option<Instant>,
    /// Tail loss probe.
    pub tail: Option<Instant>,
    /// Next question about a closed window.
    pub window_probe: Option<Instant>,
    pub keepalive: Option<Instant>,
    pub keepalive_interval: Option<Micros>,
    /// When the pacer lets the next burst go.
    pub pacing: Option<Instant>,
    /// Timeouts in a row.
    pub timeouts: u32,
    /// Number after the tail probe in flight.
    pub probe_end: Option<u64>,
    /// Something was delivered since the last tail probe.
    pub has_delivered: bool,
    /// A tail probe is to be sent.
    pub is_probe_due: bool,
    /// A heartbeat is to be sent.
    pub is_heartbeat_due: bool,
    /// When a large packet was sent again after a timeout, and a heartbeat behind it: an answer to that alone
    /// says that large packets vanish.
    pub doubted_at: Option<Instant>,
}

impl StreamMachine {
    /// When [`Self::handle_timeout`] is to be called, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_open() {
            return None;
        }
        let t = &self.timers;
        let ack = self.remotes.current().and(self.ack.deadline());
        [ack, t.rto, t.rack, t.tail, t.window_probe, t.keepalive, t.pacing].into_iter().flatten().min()
    }

    /// Lets time pass up to `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_open() {
            return;
        }
        self.ack.handle_timeout(now);
        // The caller asks for datagrams next, which looks at the tokens again.
        is_due(&mut self.timers.pacing, now);
        if is_due(&mut self.timers.rack, now) {
            self.detect_loss(now);
        }
        if is_due(&mut self.timers.tail, now) {
            self.on_tail_timeout();
        }
        if is_due(&mut self.timers.rto, now) {
            self.on_retransmission_timeout(now);
        }
        if is_due(&mut self.timers.window_probe, now) && self.is_window_closed() {
            self.timers.is_heartbeat_due = true;
            self.timers.window_probe = Some(now + 2 * self.rtt.rto());
        }
        if is_due(&mut self.timers.keepalive, now) {
            self.timers.is_heartbeat_due |= self.outstanding.is_empty() && self.remotes.current().is_some();
            self.restart_keepalive(now);
        }
    }

    /// Bytes or an END were queued; `was_idle` if nothing waited before.
    pub(super) fn on_queued(&mut self, now: Instant, was_idle: bool) {
        if was_idle && self.is_window_closed() && self.timers.window_probe.is_none() {
            self.timers.is_heartbeat_due = true;
            self.timers.window_probe = Some(now + self.rtt.rto());
        }
    }

    /// Everything sent is acknowledged, more waits, and the peer's window is shut: only asking can open it.
    pub(super) fn is_window_closed(&self) -> bool {
        self.peer_window == 0 && self.outstanding.is_empty() && self.has_unsent()
    }

    pub(super) fn restart_keepalive(&mut self, now: Instant) {
        self.timers.keepalive = self.timers.keepalive_interval.map(|interval| now + interval);
    }

    pub(super) fn restart_rto(&mut self, now: Instant) {
        self.timers.rto = if self.outstanding.is_empty() { None } else { Some(now + self.rtt.rto()) };
    }

    /// Sets the tail probe's time anew. libudx probes only while nothing points to a loss; but the tail of a
    /// repair can be lost too, and would then cost a timeout.
    pub(super) fn restart_tail(&mut self, now: Instant) {
        self.timers.tail =
            if self.may_probe_tail() && self.timers.probe_end.is_none() && self.timers.has_delivered {
                let mut wait = tail_probe_timeout(self.rtt.smoothed(), self.outstanding.len());
                if self.phase != Phase::Open || self.outstanding.sacked() > 0 {
                    // Amid a repair, answers take their time.
                    wait += wait / 2;
                }
                let at = now + wait;
                self.timers.rto.is_none_or(|rto| at < rto).then_some(at)
            } else {
                None
            };
    }

    fn on_tail_timeout(&mut self) {
        if self.may_probe_tail() {
            self.timers.is_probe_due = true;
        }
    }

    fn may_probe_tail(&self) -> bool {
        self.phase != Phase::Loss && self.outstanding.in_flight() > 0 && self.outstanding.lost() == 0
    }

    fn on_retransmission_timeout(&mut self, now: Instant) {
        if self.outstanding.is_empty() {
            return;
        }
        self.timers.timeouts += 1;
        self.stats.timeouts += 1;
        if self.timers.timeouts >= MAX_TIMEOUTS {
            self.close(Err(Error::TimedOut));
            return;
        }
        let first = self.outstanding.first();
        self.timers.doubted_at = None;
        if self.outstanding.get(first).is_some_and(|packet| self.mtu.is_doubtful(self.size_of(packet))) {
            self.must_check_hop = true;
            if self.timers.timeouts >= BLACK_HOLE_TIMEOUTS {
                self.mtu.on_black_hole();
            } else {
                self.timers.doubted_at = Some(now);
                self.timers.is_heartbeat_due = true;
            }
        }
        let window = self.rack.reordering_window(self.rtt.min(), self.rtt.smoothed(), false);
        let lost: Vec<u64> = self
            .outstanding
            .iter()
            .filter(|(seq, packet)| {
                packet.state == PacketState::InFlight
                    && (*seq == first || self.rack.deadline(packet.sent_at, window) <= now)
            })
            .map(|(seq, _)| seq)
            .collect();
        self.mark_lost(&lost);
        self.phase = Phase::Loss;
        self.recovery_end = self.outstanding.next();
        self.congestion.on_timeout(self.outstanding.in_flight());
        self.newly_lost = 0;
        self.timers.probe_end = None;
        self.timers.is_probe_due = false;
        self.timers.tail = None;
        self.timers.rack = None;
        self.timers.rto = Some(now + 2 * self.rtt.rto());
    }
}

/// Whether a deadline has come; if so it is cleared.
fn is_due(deadline: &mut Option<Instant>, now: Instant) -> bool {
    deadline.take_if(|deadline| *deadline <= now).is_some()
}
