//! Congestion control: BBR version 1, in packets and microseconds (spec §10), with a smaller window.
//!
//! The path is described by the greatest delivery rate and the least round-trip time seen lately; the window
//! follows from their product, the pacing rate from the former.
//!
//! The rate's maximum is always a little more than a stream's part of a link, so in the end the window limits
//! it, and what a window has beyond the product waits in a queue. Where that is another product, as libudx
//! has it, a queue of one product overflows, and of two streams the one with the longer way has more there,
//! and so more of the link. Here each stream keeps the same few packets and milliseconds there, and the
//! queue, being as long for all, gives each the same.

mod aggregation;
mod loss;

use std::collections::VecDeque;

use super::congestion::{Ack, Controller, Phase};
use super::rate::RateSample;
use crate::time::{Instant, MILLISECOND, Micros, SECOND};
use aggregation::Aggregation;
use loss::RoundLoss;

/// Window and pacing before anything is known, in bytes: 32 packets of 1200, as usual with QUIC, and less
/// than any receiver's socket holds. From libudx's ten it takes almost two round trips more to fill a path.
const INITIAL_WINDOW: usize = 32 * 1152;
/// Least window, in packets: enough to keep two delayed acknowledgements going.
const MIN_WINDOW: usize = 4;
/// 2/ln 2: the least gain that doubles the rate each round.
const HIGH_GAIN: f64 = 2.88539;
/// The window's gain once a queue is seen to build: what is in flight beyond the product fits a queue of
/// another.
const QUEUE_GAIN: f64 = 2.0;
/// What the window has beyond the product once the path is known, in packets and in time's worth of them;
/// together no more than the product again.
const ROOM: f64 = 20.0;
const ROOM_TIME: Micros = 3 * MILLISECOND;
/// Pacing gains of the phases of PROBE_BW, each about one round trip long: one that probes, one that drains
/// what that left behind, and some at the rate as it is.
const PROBE_GAIN: f64 = 1.25;
const DRAIN_GAIN: f64 = 0.75;
const CRUISE_GAIN: f64 = 1.0;
/// Between how many cruising phases there are, chosen at random: streams that probe at the same time would
/// never find out what is theirs. Six on average, as libudx has; no more than that the estimate outlives
/// them.
const CRUISE_PHASES: std::ops::RangeInclusive<u64> = 4..=8;
/// A probe that raises the rate by more than this found more than a stream's fair part of a full link: at
/// half of it, PROBE_GAIN yields a ninth. The next probe then follows at once, and with twice the excess.
const PROBE_GROWTH: f64 = 1.12;
const MAX_PROBE_GAIN: f64 = 2.0;
/// Pacing this much below the estimate keeps queues from building on estimate noise.
const PACING_MARGIN: f64 = 0.99;
/// Least pacing rate in bytes per microsecond (one byte a millisecond).
const MIN_RATE: f64 = 0.001;
/// Rounds over which the delivery rate's maximum is taken.
const BANDWIDTH_ROUNDS: u64 = 10;
/// The least round trip is measured anew after this time.
const MIN_RTT_WINDOW: Micros = 10 * SECOND;
/// How long the window is held at its least to measure it.
const PROBE_RTT_TIME: Micros = 200 * MILLISECOND;
/// Growth of the delivery rate that counts as growth, and rounds without it that say "the pipe is full".
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u8 = 3;
/// A round trip longer by half of itself, and by this, has a queue in it, and not only the ends' slowness.
const LEAST_QUEUE: Micros = 5 * MILLISECOND;
/// Time's worth of packets that one send may carry, and its bounds in packets; three such bursts (one being
/// built, one in the sender's queue, one at the receiver) are added to the window, or bursts would starve it.
const BURST_TIME: Micros = MILLISECOND;
const MAX_BURST: f64 = 32.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Startup,
    Drain,
    ProbeBandwidth,
    ProbeRtt,
}

/// The controller of one stream.
#[derive(Debug)]
pub(super) struct Bbr {
    mode: Mode,
    window: usize,
    prior_window: usize,
    /// Bytes per microsecond.
    rate: f64,
    pacing_gain: f64,

    /// Payload bytes of the packets that estimates count.
    payload: usize,
    /// Packets per microsecond, by round, descending.
    bandwidth: VecDeque<(u64, f64)>,
    round: u64,
    next_round_delivered: u64,
    is_round_start: bool,

    min_rtt: Option<Micros>,
    min_rtt_at: Instant,
    probe_rtt_done_at: Option<Instant>,
    is_probe_rtt_round_done: bool,

    full_bandwidth: f64,
    full_count: u8,
    is_full: bool,
    loss: RoundLoss,

    /// Cruising phases left before the next probe.
    cruises: u64,
    /// The gain of the last probe, and the rate at which it began.
    probe_gain: f64,
    probed_from: f64,
    cycle_at: Instant,
    random: u64,

    aggregation: Aggregation,

    prior_phase: Phase,
    is_conserving: bool,
    is_idle_restart: bool,
    has_rtt: bool,
    /// The last acknowledgement was late enough for the beginning of a queue.
    sees_queue: bool,
}

impl Bbr {
    /// For packets of so much payload; streams with different seeds probe at different times.
    pub(super) fn new(payload: usize, seed: u64) -> Self {
        let per_micro = INITIAL_WINDOW as f64 / MILLISECOND as f64;
        Self {
            mode: Mode::Startup,
            window: initial_window(payload),
            prior_window: 0,
            rate: per_micro * HIGH_GAIN * PACING_MARGIN,
            pacing_gain: HIGH_GAIN,
            payload,
            bandwidth: VecDeque::new(),
            round: 0,
            next_round_delivered: 0,
            is_round_start: false,
            min_rtt: None,
            min_rtt_at: Instant::default(),
            probe_rtt_done_at: None,
            is_probe_rtt_round_done: false,
            full_bandwidth: 0.0,
            full_count: 0,
            is_full: false,
            loss: RoundLoss::default(),
            cruises: 0,
            probe_gain: PROBE_GAIN,
            probed_from: f64::MAX,
            cycle_at: Instant::default(),
            random: seed,
            aggregation: Aggregation::default(),
            prior_phase: Phase::Open,
            is_conserving: false,
            is_idle_restart: false,
            has_rtt: false,
            sees_queue: false,
        }
    }
}

impl Controller for Bbr {
    fn window(&self) -> usize {
        self.window
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn is_probing_rtt(&self) -> bool {
        self.mode == Mode::ProbeRtt
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.follow_packet_size(ack.payload);
        self.update_bandwidth(ack);
        if ack.rate.is_some() && ack.acked > 0 {
            let bandwidth = self.best_bandwidth();
            self.aggregation.on_acked(ack.now, ack.acked, bandwidth, self.window, self.is_round_start);
        }
        self.update_cycle(ack);
        self.sees_queue = self.is_later(ack, 8);
        self.check_full(ack);
        self.check_drain(ack);
        self.update_min_rtt(ack);
        self.set_rate(ack);
        self.set_window(ack);
    }

    fn on_idle_restart(&mut self, now: Instant, delivered: u64, payload: usize) {
        self.is_idle_restart = true;
        self.aggregation.restart(now);
        match self.mode {
            Mode::ProbeBandwidth => self.set_rate_with_gain(1.0, payload),
            Mode::ProbeRtt => self.check_probe_rtt_done(now, delivered),
            _ => {}
        }
    }

    fn on_recovery(&mut self) {
        self.save_window();
    }

    fn on_timeout(&mut self, in_flight: usize) {
        self.save_window();
        self.prior_phase = Phase::Loss;
        self.full_bandwidth = 0.0;
        self.is_round_start = true;
        self.window = in_flight + 1;
    }
}

impl Bbr {
    /// Keeps the window for when the losses are repaired.
    fn save_window(&mut self) {
        self.prior_window = if self.prior_phase == Phase::Open && self.mode != Mode::ProbeRtt {
            self.window
        } else {
            self.prior_window.max(self.window)
        };
    }

    fn best_bandwidth(&self) -> f64 {
        self.bandwidth.front().map_or(0.0, |&(_, bandwidth)| bandwidth)
    }

    /// Packets in flight at `gain` times the bandwidth-delay product, with room for bursts.
    fn target(&self, gain: f64, payload: usize) -> usize {
        let Some(min_rtt) = self.min_rtt else { return initial_window(payload) };
        let product = (self.best_bandwidth() * min_rtt as f64 * gain).ceil().max(1.0);
        let burst = (self.rate * BURST_TIME as f64 / payload as f64).clamp(1.0, MAX_BURST);
        (product + 3.0 * burst) as usize
    }

    /// Where the window tends.
    fn window_target(&self, payload: usize) -> usize {
        let bandwidth = self.best_bandwidth();
        let gain = match self.mode {
            Mode::Startup | Mode::Drain if self.sees_queue => QUEUE_GAIN,
            Mode::Startup | Mode::Drain => HIGH_GAIN,
            Mode::ProbeBandwidth | Mode::ProbeRtt => self.pacing_gain.max(1.0),
        };
        let room = match self.min_rtt {
            Some(min_rtt) if self.mode == Mode::ProbeBandwidth => {
                (ROOM + bandwidth * ROOM_TIME as f64).min(bandwidth * min_rtt as f64)
            }
            _ => 0.0,
        };
        let extra = if self.is_full { self.aggregation.extra(bandwidth) } else { 0 };
        self.target(gain, payload) + room as usize + extra
    }

    /// A path carries so many bytes in a time: of larger packets, fewer.
    fn follow_packet_size(&mut self, payload: usize) {
        if payload != self.payload {
            let ratio = self.payload as f64 / payload as f64;
            self.bandwidth.iter_mut().for_each(|(_, bandwidth)| *bandwidth *= ratio);
            self.full_bandwidth *= ratio;
            let scale = |packets: usize| ((packets as f64 * ratio).round() as usize).max(1);
            (self.window, self.prior_window) = (scale(self.window), scale(self.prior_window));
            self.payload = payload;
        }
    }

    fn update_bandwidth(&mut self, ack: &Ack) {
        self.is_round_start = false;
        let Some(sample) = ack.rate else { return };
        if sample.prior_delivered >= self.next_round_delivered {
            self.next_round_delivered = ack.delivered;
            self.round += 1;
            self.is_round_start = true;
            self.is_conserving = false;
        }
        let mut bandwidth = sample.delivered as f64 / sample.interval as f64;
        if !ack.rate_is_trusted {
            bandwidth = bandwidth.min(self.best_bandwidth());
        }
        if !sample.is_app_limited || bandwidth >= self.best_bandwidth() {
            while self.bandwidth.back().is_some_and(|&(_, older)| older <= bandwidth) {
                self.bandwidth.pop_back();
            }
            if self.bandwidth.back().is_none_or(|&(round, _)| round != self.round) {
                self.bandwidth.push_back((self.round, bandwidth));
            }
            while self.bandwidth.front().is_some_and(|&(round, _)| self.round - round >= BANDWIDTH_ROUNDS) {
                self.bandwidth.pop_front();
            }
        }
    }

    fn update_cycle(&mut self, ack: &Ack) {
        if self.mode != Mode::ProbeBandwidth {
            return;
        }
        let is_full_length = ack.now - self.cycle_at > self.min_rtt.unwrap_or(0);
        let is_over = if self.pacing_gain > 1.0 {
            let target = self.target(self.pacing_gain, ack.payload);
            is_full_length && (ack.lost > 0 || ack.prior_in_flight > target)
        } else if self.pacing_gain < 1.0 {
            is_full_length || ack.prior_in_flight <= self.target(1.0, ack.payload)
        } else {
            is_full_length
        };
        if is_over {
            self.cycle_at = ack.now;
            if self.pacing_gain > 1.0 {
                self.pacing_gain = DRAIN_GAIN;
            } else if self.pacing_gain < 1.0 {
                self.cruise();
            } else {
                self.cruises = self.cruises.saturating_sub(1);
                let has_grown = self.best_bandwidth() > self.probed_from * PROBE_GROWTH;
                if has_grown {
                    self.probe((2.0 * self.probe_gain - 1.0).min(MAX_PROBE_GAIN));
                } else if self.cruises == 0 {
                    self.probe(PROBE_GAIN);
                }
            }
        }
    }

    fn check_full(&mut self, ack: &Ack) {
        let is_heavy = self.loss.on_ack(ack.lost, ack.acked, self.is_round_start);
        if is_heavy && self.mode == Mode::Startup {
            // The queue is full too: to go on would only cost packets.
            self.is_full = true;
        }
        // A sender that has little to send, or may send little, does not fill the path, unless there is a
        // queue.
        let may_tell = |sample: RateSample| !sample.is_app_limited || self.has_queue(ack);
        if self.is_full || !self.is_round_start || !ack.rate.is_some_and(may_tell) {
            return;
        }
        if self.best_bandwidth() >= self.full_bandwidth * FULL_GROWTH {
            self.full_bandwidth = self.best_bandwidth();
            self.full_count = 0;
        } else {
            self.full_count += 1;
            self.is_full = self.full_count >= FULL_ROUNDS;
        }
    }

    fn has_queue(&self, ack: &Ack) -> bool {
        self.is_later(ack, 2)
    }

    /// Whether an acknowledgement took longer than the least by more than this part of it.
    fn is_later(&self, ack: &Ack, part: u64) -> bool {
        let (Some(rtt), Some(min_rtt)) = (ack.rtt, self.min_rtt) else { return false };
        rtt > min_rtt + (min_rtt / part).max(LEAST_QUEUE)
    }

    fn check_drain(&mut self, ack: &Ack) {
        if self.mode == Mode::Startup && self.is_full {
            self.mode = Mode::Drain;
            self.pacing_gain = 1.0 / HIGH_GAIN;
        }
        if self.mode == Mode::Drain && ack.in_flight <= self.target(1.0, ack.payload) {
            self.enter_probe_bandwidth(ack.now);
        }
    }

    fn enter_probe_bandwidth(&mut self, now: Instant) {
        self.mode = Mode::ProbeBandwidth;
        self.cycle_at = now;
        self.cruise();
    }

    fn cruise(&mut self) {
        self.pacing_gain = CRUISE_GAIN;
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let choices = CRUISE_PHASES.end() - CRUISE_PHASES.start() + 1;
        self.cruises = CRUISE_PHASES.start() + (z ^ (z >> 31)) % choices;
    }

    fn probe(&mut self, gain: f64) {
        self.probe_gain = gain;
        self.pacing_gain = gain;
        self.probed_from = self.best_bandwidth();
    }

    fn update_min_rtt(&mut self, ack: &Ack) {
        let is_stale = self.min_rtt.is_some() && ack.now > self.min_rtt_at + MIN_RTT_WINDOW;
        if let Some(rtt) = ack.rtt
            && (is_stale || self.min_rtt.is_none_or(|min| rtt <= min))
        {
            self.min_rtt = Some(rtt.max(1));
            self.min_rtt_at = ack.now;
        }
        if is_stale && !self.is_idle_restart && self.mode != Mode::ProbeRtt {
            self.save_window();
            self.mode = Mode::ProbeRtt;
            self.pacing_gain = 1.0;
            self.probe_rtt_done_at = None;
        }
        if self.mode == Mode::ProbeRtt {
            match self.probe_rtt_done_at {
                None if ack.in_flight <= MIN_WINDOW => {
                    self.probe_rtt_done_at = Some(ack.now + PROBE_RTT_TIME);
                    self.is_probe_rtt_round_done = false;
                    self.next_round_delivered = ack.delivered;
                }
                None => {}
                Some(_) => {
                    self.is_probe_rtt_round_done |= self.is_round_start;
                    if self.is_probe_rtt_round_done {
                        self.check_probe_rtt_done(ack.now, ack.delivered);
                    }
                }
            }
        }
        if ack.rate.is_some() {
            self.is_idle_restart = false;
        }
    }

    fn check_probe_rtt_done(&mut self, now: Instant, delivered: u64) {
        if self.probe_rtt_done_at.is_none_or(|done| now <= done) {
            return;
        }
        self.min_rtt_at = now;
        self.next_round_delivered = delivered;
        self.window = self.window.max(self.prior_window);
        if self.is_full {
            self.enter_probe_bandwidth(now);
        } else {
            self.mode = Mode::Startup;
            self.pacing_gain = HIGH_GAIN;
        }
    }

    fn set_rate(&mut self, ack: &Ack) {
        if !self.has_rtt
            && let Some(smoothed) = ack.smoothed
        {
            self.has_rtt = true;
            let per_micro = self.window as f64 / smoothed as f64;
            self.rate = (per_micro * ack.payload as f64 * HIGH_GAIN * PACING_MARGIN).max(MIN_RATE);
        }
        self.set_rate_with_gain(self.pacing_gain, ack.payload);
    }

    fn set_rate_with_gain(&mut self, gain: f64, payload: usize) {
        let rate = (self.best_bandwidth() * payload as f64 * gain * PACING_MARGIN).max(MIN_RATE);
        if self.is_full || rate > self.rate {
            self.rate = rate;
        }
    }

    fn set_window(&mut self, ack: &Ack) {
        if ack.acked > 0 && !self.follow_recovery(ack) {
            let target = self.window_target(ack.payload);
            if self.is_full {
                self.window = (self.window + ack.acked).min(target);
            } else if (self.window < target && self.window < 2 * ack.prior_in_flight)
                || ack.delivered < initial_window(ack.payload) as u64
            {
                // Of a window that is not used, nothing is known.
                self.window += ack.acked;
            }
            self.window = self.window.max(MIN_WINDOW);
        }
        if self.mode == Mode::ProbeRtt {
            self.window = self.window.min(MIN_WINDOW);
        }
    }

    /// Adapts the window to losses; true if it thereby has its final value.
    fn follow_recovery(&mut self, ack: &Ack) -> bool {
        if ack.lost > 0 {
            self.window = self.window.saturating_sub(ack.lost).max(1);
        }
        if ack.phase == Phase::Recovery && self.prior_phase != Phase::Recovery {
            // Once the path was found full, the window follows estimates that losses do not lower, and it is
            // small already. Before, few losses without a queue are chance, which says nothing of the path.
            self.is_conserving = !self.is_full && (self.has_queue(ack) || self.loss.is_heavy());
            self.next_round_delivered = ack.delivered;
            if self.is_conserving {
                self.window = ack.in_flight + ack.acked;
            }
        } else if ack.phase == Phase::Open && self.prior_phase != Phase::Open {
            self.window = self.window.max(self.prior_window);
            self.is_conserving = false;
        }
        self.prior_phase = ack.phase;
        if self.is_conserving {
            self.window = self.window.max(ack.in_flight + ack.acked);
        }
        self.is_conserving
    }
}

/// Packets of so much payload that are sent before anything is known.
fn initial_window(payload: usize) -> usize {
    (INITIAL_WINDOW / payload.max(1)).max(MIN_WINDOW)
}
