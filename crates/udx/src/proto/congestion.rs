//! What a stream tells the control of its congestion, and what it asks of it.

use std::fmt::Debug;

use super::rate::RateSample;
use crate::time::{Instant, Micros};

/// Decides how much may be in flight, and how fast it leaves. A stream knows nothing else of its algorithm.
pub(super) trait Controller: Debug {
    /// Packets that may be in flight.
    fn window(&self) -> usize;

    /// Pacing rate in bytes per microsecond.
    fn rate(&self) -> f64;

    /// Whether the window is held down to measure the round trip; samples taken now say little of the rate.
    fn is_probing_rtt(&self) -> bool;

    /// An acknowledgement came.
    fn on_ack(&mut self, ack: &Ack);

    /// Sending resumes with nothing in flight, after the application had nothing to send. `delivered` packets
    /// arrived so far; a full one carries `payload` bytes.
    fn on_idle_restart(&mut self, now: Instant, delivered: u64, payload: usize);

    /// The stream begins to repair losses that acknowledgements showed: [`Phase::Recovery`].
    fn on_recovery(&mut self);

    /// A retransmission timeout, with `in_flight` packets that are not yet deemed lost: [`Phase::Loss`].
    fn on_timeout(&mut self, in_flight: usize);
}

/// How the sender stands towards loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is lost, as far as is known.
    Open,
    /// Repairing losses found by acknowledgements.
    Recovery,
    /// After a retransmission timeout.
    Loss,
}

/// What one acknowledgement brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    pub now: Instant,
    /// How fast the path carried what it acknowledges, if that can be told.
    pub rate: Option<RateSample>,
    /// Whether the sample may raise the estimate.
    pub rate_is_trusted: bool,
    /// Delivery count after it.
    pub delivered: u64,
    /// Packets newly delivered.
    pub acked: usize,
    /// Packets deemed lost since the last.
    pub lost: usize,
    /// Round trip of the packet sent last among those it acknowledges.
    pub rtt: Option<Micros>,
    /// Smoothed round-trip time.
    pub smoothed: Option<Micros>,
    /// Packets in flight after it, and before.
    pub in_flight: usize,
    pub prior_in_flight: usize,
    pub phase: Phase,
    /// Payload bytes of a full packet.
    pub payload: usize,
}
